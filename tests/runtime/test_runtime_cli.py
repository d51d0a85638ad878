"""corten-oci as other engines call it: commands, texts, exit codes, pid file, console socket, log."""

import array
import json
import os
import socket
import subprocess
import sys

import pytest


class Oci:
    def __init__(self, boxes):
        self.boxes = boxes
        self.root = f"{boxes.folder}/root"
        self.log = f"{boxes.folder}/log"
        self.ids = []

    def __call__(self, *arguments, **more):
        command = [sys.executable, "-m", "corten.runtime.cli", "--root", self.root, "--log", self.log,
                   "--log-format", "json", *arguments]
        with open(f"{self.boxes.folder}/out", "w+") as out, open(f"{self.boxes.folder}/err", "w+") as err:
            done = subprocess.run(command, stdin=subprocess.DEVNULL, stdout=out, stderr=err, timeout=30, **more)
            out.seek(0)
            err.seek(0)
            return done.returncode, out.read(), err.read()

    def bundle(self, *arguments, change=None, **process):
        spec = self.boxes.spec(*arguments, **process)
        if change:
            change(spec)
        return self.boxes.bundle(spec, plain=True).path

    def status(self, name):
        return json.loads(self("state", name)[1])["status"]


@pytest.fixture
def oci(boxes):
    found = Oci(boxes)
    os.mkdir(found.root)
    yield found
    for row in json.loads(found("list", "--format", "json")[1]) or ():
        found("delete", "--force", row["id"])


def test_life_of_a_container(oci):
    path = oci.bundle("sleep", "100")
    pid_file = f"{oci.boxes.folder}/pid"
    assert oci("create", "--bundle", path, "--pid-file", pid_file, "c") == (0, "", "")
    state = json.loads(oci("state", "c")[1])
    assert state["status"] == "created" and state["bundle"] == path and state["id"] == "c"
    assert open(pid_file).read() == str(state["pid"])
    assert oci("start", "c") == (0, "", "") and oci.status("c") == "running"
    code, _, text = oci("start", "c")
    assert code == 1 and "cannot start an already running container" in text
    assert oci("exec", "c", "sh", "-c", "exit 9")[0] == 9
    assert json.loads(oci("ps", "--format", "json", "c")[1]) == [state["pid"]]
    assert oci("pause", "c")[0] == 0 and oci.status("c") == "paused"
    assert oci("resume", "c")[0] == 0 and oci.status("c") == "running"
    code, _, text = oci("delete", "c")
    assert code == 1 and "that is not stopped: running" in text
    assert oci("kill", "c", "KILL")[0] == 0
    while oci.status("c") != "stopped":
        pass
    assert json.loads(oci("state", "c")[1])["pid"] == 0
    code, _, text = oci("kill", "c", "9")
    assert code == 1 and "container not running" in text
    assert oci("delete", "c")[0] == 0
    code, _, text = oci("state", "c")
    assert code == 1 and text == "corten-oci: container does not exist\n"


def test_deleting_what_is_not_there(oci):
    assert oci("delete", "--force", "absent") == (0, "", "")
    code, _, text = oci("delete", "absent")
    assert code == 1 and "container does not exist" in text
    assert json.loads(open(oci.log).read().splitlines()[-1])["msg"] == "container does not exist"


def test_a_created_container_can_be_deleted(oci):
    oci("create", "-b", oci.bundle("true"), "c")
    assert oci("delete", "c")[0] == 0
    assert os.listdir(oci.root) == []


def test_run_passes_the_status(oci):
    assert oci("run", "-b", oci.bundle("sh", "-c", "echo out; exit 6"), "c")[:2] == (6, "out\n")
    assert oci("run", "-b", oci.bundle("sh", "-c", "kill -9 $$"), "d")[0] in (0, 137)
    assert os.listdir(oci.root) == []


def test_names_are_taken_once(oci):
    path = oci.bundle("sleep", "1000")
    oci("create", "-b", path, "c")
    code, _, text = oci("create", "-b", path, "c")
    assert code == 1 and "container with given ID already exists" in text
    assert oci.status("c") == "created"


@pytest.mark.parametrize("program", ["nosuch", "/nosuch"])
def test_a_missing_program_fails_create_and_leaves_nothing(oci, program):
    code, _, text = oci("create", "-b", oci.bundle(program), "c")
    assert code == 1 and text.count("\n") == 1 and f'exec: "{program}": ' in text and "Traceback" not in text
    assert os.listdir(oci.root) == []


@pytest.mark.parametrize(("arguments", "code", "text"), [
    (("create", "-b", "/no/such", "c"), 1, "runc create failed: chdir /no/such: no such file or directory"),
    (("create", "-b", "/", "c"), 1, "runc create failed: JSON specification file config.json not found"),
    (("create", "--wrong", "c"), 1, "flag provided but not defined: --wrong"),
    (("frobnicate",), 3, "frobnicate"),
    (("start", "a/b"), 1, "invalid container ID format"),
    (("checkpoint", "c"), 1, "checkpoint is not supported"),
    (("checkpoint", "--image-path", "/x", "--leave-running", "c"), 1, "checkpoint is not supported"),
    (("restore", "-d", "--image-path", "/x", "--bundle", "/b", "c"), 1, "restore is not supported"),
    (("kill", "c", "NOSUCH"), 1, "unknown signal"),
    (("state", ""), 1, "container id cannot be empty"),
    (("state",), 1, '"state" requires exactly 1 argument(s)'),
    (("list", "x"), 1, '"list" requires exactly 0 argument(s)'),
    (("kill",), 1, '"kill" requires a minimum of 1 argument(s)'),
    (("kill", "c", "9", "x"), 1, '"kill" requires a maximum of 2 argument(s)'),
    (("exec",), 1, '"exec" requires a minimum of 1 argument(s)'),
    (("exec", "--wrong", "c"), 1, "flag provided but not defined: --wrong"),
    (("exec", "--preserve-fds", "x", "c", "true"), 255, "exec failed: container does not exist"),
    (("exec", "-p", "/nosuch", "c"), 255, "exec failed: container does not exist"),
    (("run", "-b", "/no/such", "c"), 1, "runc run failed: chdir /no/such: no such file or directory"),
])
def test_bad_calls_are_one_line(oci, arguments, code, text):
    got, out, err = oci(*arguments)
    assert (got, out) == (code, "") and text in err and err.count("\n") == 1


def test_a_created_container_that_is_paused_does_not_start(oci):
    oci("create", "--bundle", oci.bundle("sleep", "100"), "c")
    assert oci("pause", "c")[0] == 0 and oci.status("c") == "paused"
    code, _, text = oci("start", "c")
    assert code == 1 and "cannot start a container in the paused state" in text
    assert "container not running" in oci("pause", "c")[2]
    assert oci("resume", "c")[0] == 0 and oci.status("c") == "created"
    assert oci("start", "c")[0] == 0 and oci.status("c") == "running"
    assert "unable to signal init: invalid argument" in oci("kill", "c", "99")[2]
    for words, code, said in ((("-p", "/nosuch", "c"), 255, "exec failed: open /nosuch: no such file or directory"),
                              (("-u", "x", "c", "true"), 255, 'exec failed: bad uid: parsing "x"'),
                              (("-g", "x", "c", "true"), 1, 'invalid value "x" for flag -g'),
                              (("--preserve-fds", "x", "c", "true"), 1, 'invalid value "x" for flag -preserve-fds')):
        got, _, text = oci("exec", *words)
        assert (got, said in text) == (code, True), text
    assert oci("exec", "--cap", "CAP_NO", "c", "true")[0] == 0
    assert "ignoring unknown or unavailable capabilities: [CAP_NO]" in open(oci.log).read()
    oci("kill", "c", "KILL")
    while oci.status("c") != "stopped":
        pass
    code, _, text = oci("update", "--memory", "64M", "c")
    assert code == 1 and "container not running" in text
    assert oci("delete", "c")[0] == 0
    assert oci("list", "--format", "json")[1] == "null\n"


def test_mappings_need_a_user_namespace(oci):
    def change(spec):
        spec["linux"]["uidMappings"] = [{"containerID": 0, "hostID": 0, "size": 1}]

    code, _, text = oci("run", "--bundle", oci.bundle("true", change=change), "c")
    assert code == 1 and "user namespace mappings specified, but user namespace isn't enabled in the config" in text


def test_exec_failures_are_255(oci):
    oci("run", "-d", "-b", oci.bundle("sleep", "100"), "c")
    code, _, text = oci("exec", "c", "nosuch")
    assert code == 255 and 'exec: "nosuch": executable file not found in $PATH' in text


def test_exec_options(oci):
    oci("run", "-d", "-b", oci.bundle("sleep", "100"), "c")
    code, out, _ = oci("exec", "--user", "1000:5", "--cwd", "/tmp", "--env", "X=y", "-g", "7", "c", "sh", "-c",
                       "id -u; id -G; pwd; echo $X")
    assert (code, out.split("\n")) == (0, ["1000", "5 7", "/tmp", "y", ""])
    document = f"{oci.boxes.folder}/process.json"
    with open(document, "w") as file:
        json.dump({"args": ["pwd"], "cwd": "/etc", "env": ["PATH=/bin"]}, file)
    assert oci("exec", "--process", document, "c")[1] == "/etc\n"


def test_detached_exec_writes_its_pid(oci):
    oci("run", "-d", "-b", oci.bundle("sleep", "100"), "c")
    pid_file = f"{oci.boxes.folder}/exec.pid"
    assert oci("exec", "-d", "--pid-file", pid_file, "c", "sleep", "50")[0] == 0
    pid = int(open(pid_file).read())
    assert pid in json.loads(oci("ps", "-f", "json", "c")[1])


def test_console_socket(oci):
    name = f"{oci.boxes.folder}/console.sock"
    listening = socket.socket(socket.AF_UNIX)
    listening.bind(name)
    listening.listen(1)
    path = oci.bundle("sh", "-c", "tty; sleep 1000", terminal=True)
    code, _, text = oci("create", "-b", path, "c")
    assert code == 1 and "console socket" in text
    assert oci("create", "-b", path, "--console-socket", name, "c")[0] == 0
    connection, _ = listening.accept()
    data, control, _, _ = connection.recvmsg(100, socket.CMSG_SPACE(4))
    master = array.array("i", control[0][2])[0]
    assert data and oci("start", "c")[0] == 0
    assert os.read(master, 100) == b"/dev/pts/0\r\n"
    os.close(master)
    connection.close()
    listening.close()


def test_hooks_run_in_order_with_the_state(oci):
    trace = f"{oci.boxes.folder}/trace"
    with open(f"{oci.boxes.folder}/hook", "w") as file:
        file.write(f"#!/bin/sh\necho $1 $WORD $(sed 's/.*\"status\": *\"\\([a-z]*\\)\".*/\\1/') >> {trace}\n")
    os.chmod(f"{oci.boxes.folder}/hook", 0o755)

    def change(spec):
        spec["hooks"] = {kind: [{"path": f"{oci.boxes.folder}/hook", "args": ["hook", kind], "env": ["PATH=/bin", f"WORD={kind[4:]}"]}]
                         for kind in ("prestart", "createRuntime", "createContainer", "poststart", "poststop")}
    path = oci.bundle("true", change=change)
    oci("create", "-b", path, "c")
    oci("start", "c")
    oci("delete", "-f", "c")
    assert open(trace).read().split("\n") == [
        "prestart tart creating", "createRuntime teRuntime creating", "createContainer teContainer creating",
        "poststart start running", "poststop stop stopped", ""]


def test_a_failing_hook_fails_create(oci):
    def change(spec):
        spec["hooks"] = {"createRuntime": [{"path": "/bin/false"}]}
    code, _, text = oci("create", "-b", oci.bundle("true", change=change), "c")
    assert code == 1 and "createRuntime hook #0" in text and "exit status 1" in text
    assert os.listdir(oci.root) == []


@pytest.mark.parametrize("kind", ["prestart", "createRuntime", "createContainer", "startContainer", "poststart", "poststop"])
def test_a_hook_is_given_no_more_than_its_time(oci, kind):
    def change(spec):
        spec["hooks"] = {kind: [{"path": "/bin/sleep", "args": ["sleep", "1000"], "timeout": 1}]}

    path = oci.bundle("true", change=change)
    code = 0
    for call in (("create", "-b", path, "c"), ("start", "c"), ("delete", "-f", "c")):
        code, _, text = oci(*call)
        if text:
            break
    assert f"error running {kind} hook #0: timed out after 1s" in text
    assert code == (0 if kind == "poststop" else 1)  # the container is gone by then: a warning
    oci("delete", "-f", "c")


def test_a_hook_with_no_time_at_all(oci):
    change = {"createRuntime": [{"path": "/bin/true", "timeout": -1}]}
    code, _, text = oci("create", "-b", oci.bundle("true", change=lambda spec: spec.update(hooks=change)), "c")
    assert code == 1 and "error running createRuntime hook #0: timeout must be greater than 0, not -1" in text


def test_spec_and_features(oci):
    folder = f"{oci.boxes.folder}/new"
    os.mkdir(folder)
    assert oci("spec", "-b", folder)[0] == 0
    assert json.load(open(f"{folder}/config.json"))["process"]["args"] == ["sh"]
    assert oci("spec", "-b", folder)[0] == 1
    found = json.loads(oci("features")[1])
    assert "rro" in found["mountOptions"] and "CAP_CHOWN" in found["linux"]["capabilities"]
    assert "spec: 1." in oci("--version")[1]


def test_a_container_does_not_change_with_its_config(oci):
    path = oci.bundle("sh", "-c", "exit 3")
    assert oci("create", "-b", path, "c")[0] == 0
    with open(f"{path}/config.json", "w") as file:
        json.dump({"ociVersion": "1.0.0"}, file)
    assert oci("start", "c") == (0, "", "")
    assert oci("delete", "--force", "c") == (0, "", "")


def write_hook(oci, text):
    path = f"{oci.boxes.folder}/hook-{text.count(' ')}"
    with open(path, "w") as file:
        file.write(f"#!/bin/sh\n{text}\n")
    os.chmod(path, 0o755)
    return path


def test_a_failing_poststart_hook_destroys_the_container(oci):
    path = oci.bundle("sleep", "100", change=lambda spec: spec.update(hooks={"poststart": [{"path": "/bin/false"}]}))
    assert oci("create", "-b", path, "c")[0] == 0
    code, _, text = oci("start", "c")
    assert code == 1 and "poststart hook #0" in text
    assert "does not exist" in oci("state", "c")[2] and os.listdir(oci.root) == []


def test_poststop_hooks_that_fail_are_warned_of_and_the_next_runs(oci):
    mark = f"{oci.boxes.folder}/mark"
    hooks = {"poststop": [{"path": "/bin/false"}, {"path": write_hook(oci, f"echo x > {mark}")}]}
    path = oci.bundle("true", change=lambda spec: spec.update(hooks=hooks))
    assert oci("create", "-b", path, "c")[0] == 0
    code, _, text = oci("delete", "c")
    assert code == 0 and "warning: error running poststop hook #0: exit status 1" in text
    assert os.path.exists(mark)


@pytest.mark.parametrize(("env", "seen"), [(None, "outside"), ([], ""), (["WHERE=hook"], "hook")])
def test_the_environment_of_a_hook(oci, env, seen):
    mark = f"{oci.boxes.folder}/mark"
    hook = {"path": write_hook(oci, f"echo \"$WHERE\" > {mark}")} | ({} if env is None else {"env": env})
    path = oci.bundle("true", change=lambda spec: spec.update(hooks={"createRuntime": [hook]}))
    assert oci("create", "-b", path, "c", env={**os.environ, "WHERE": "outside"})[0] == 0
    with open(mark) as file:
        assert file.read() == f"{seen}\n"


def test_an_unknown_capability_is_warned_of(oci):
    path = oci.bundle("true", capabilities={"bounding": ["CAP_LATER"]})
    code, _, text = oci("run", "-b", path, "c")
    with open(oci.log) as file:
        assert code == 0 and "CAP_LATER" in text + file.read()


def test_a_log_that_cannot_be_written(oci):
    oci.log = f"{oci.boxes.folder}/no/such/folder/log"
    code, _, text = oci("list")
    oci.log = f"{oci.boxes.folder}/log"
    assert code == 1 and "no/such/folder/log" in text and "no such file or directory" in text
