"""startContainer hooks: run last, inside, and confined as the program is that comes after them."""

import pytest


def with_hook(command, **process):
    def change(spec):
        spec["hooks"] = {"startContainer": [{"path": "/bin/sh", "args": ["sh", "-c", command]}]}
        spec["process"].update(process)
        spec["process"]["rlimits"] = [{"type": "RLIMIT_CORE", "soft": 0, "hard": 0}]
    return change


@pytest.mark.parametrize("no_new_privs", [True, False])
def test_a_start_hook_is_under_the_programs_filter(boxes, no_new_privs):
    def change(spec):
        with_hook("exec mkdir /tmp/x", noNewPrivileges=no_new_privs)(spec)
        spec["linux"]["seccomp"] = {"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [
            {"names": ["mkdir", "mkdirat"], "action": "SCMP_ACT_KILL"}]}

    result = boxes.run("echo", "ran", change=change)
    assert "error running startContainer hook #0: signal: bad system call" in str(result.failure)
    assert "ran" not in result.output


def test_a_start_hook_is_the_programs_user(boxes):
    user = {"uid": 1000, "gid": 1000}
    change = with_hook("id -u > /tmp/who; grep CapEff /proc/self/status >> /tmp/who", user=user, cwd="/tmp")
    spec = boxes.spec("cat", "/tmp/who")
    spec["mounts"].append({"destination": "/tmp", "type": "tmpfs", "options": ["mode=1777"]})
    change(spec)
    result = boxes.run(spec=spec)
    assert (result.output.split(), result.failure) == (["1000", "CapEff:", "0000000000000000"], None)


@pytest.mark.parametrize("init", [True, False])
def test_a_start_hook_is_told_of_the_containers_first_process(boxes, init):
    def change(spec):
        with_hook("(cat; echo $WORD) > /tmp/state")(spec)
        spec["hooks"]["startContainer"][0]["env"] = ["PATH=/bin", "WORD=its-own"]

    result = boxes.run("cat", "/tmp/state", change=change, init=init)
    assert result.failure is None and '"pid":1,' in result.output.replace(" ", "")
    assert result.output.endswith("its-own\n")
    assert '"status":"created"' in result.output.replace(" ", "")


def test_a_start_hook_that_fails_ends_the_start(boxes):
    result = boxes.run("echo", "ran", change=with_hook("echo why >&2; exit 3"))
    assert "startContainer hook #0: exit status 3, stdout: , stderr: why" in str(result.failure)
    assert "ran" not in result.output
