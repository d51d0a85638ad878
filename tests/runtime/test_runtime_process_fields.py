"""Fields of `process` and of `linux` that concern the program alone, seen from inside."""

import os

import pytest

from corten.base.errors import InvalidArgument, Unsupported


def one(boxes, *arguments, process=None, linux=None, output=True, **more):
    def change(spec):
        spec["process"].update(process or {})
        spec["linux"].update(linux or {})

    result = boxes.run(*arguments, change=change, **more)
    assert result.failure is None, result.failure
    return result.output


def numa():
    return os.path.exists("/proc/self/numa_maps")


@pytest.mark.parametrize(("policy", "word"), [
    ({"mode": "MPOL_DEFAULT"}, "default"), ({"mode": "MPOL_LOCAL"}, "local"),
    ({"mode": "MPOL_BIND", "nodes": "0"}, "bind:0"),
    ({"mode": "MPOL_INTERLEAVE", "nodes": "0", "flags": ["MPOL_F_STATIC_NODES"]}, "interleave=static:0"),
    ({"mode": "MPOL_PREFERRED_MANY", "nodes": "0", "flags": ["MPOL_F_RELATIVE_NODES"]}, "prefer (many)=relative:0"),
])
def test_memory_policy(boxes, policy, word):
    if not numa():
        pytest.skip("machine: the kernel has no NUMA policies")
    assert f" {word} " in one(boxes, "cat", "/proc/self/numa_maps", linux={"memoryPolicy": policy})


def test_a_memory_policy_that_the_kernel_refuses(boxes):
    if not numa():
        pytest.skip("machine: the kernel has no NUMA policies")
    result = boxes.run("true", change=lambda spec: spec["linux"].update(memoryPolicy={"mode": "MPOL_INTERLEAVE"}))
    assert "set the limits: set_mempolicy: invalid argument" in str(result.failure)


def test_scheduler_and_io_priority(boxes):
    found = one(boxes, "cat", "/proc/self/stat", process={
        "scheduler": {"policy": "SCHED_BATCH", "nice": 7}, "ioPriority": {"class": "IOPRIO_CLASS_BE", "priority": 6}})
    fields = found.rsplit(")", 1)[1].split()
    assert (fields[16], fields[38]) == ("7", "3")  # nice, policy (SCHED_BATCH)


def test_exec_cpu_affinity_is_for_execs_only(boxes):
    allowed = sorted(os.sched_getaffinity(0))
    spec = boxes.spec("sleep", "100", execCPUAffinity={"initial": str(allowed[0]), "final": str(allowed[-1])})
    child, bundle = boxes.start(spec)
    assert sorted(os.sched_getaffinity(child.pid)) == allowed
    found = boxes.exec(child, bundle, "grep", "Cpus_allowed_list", "/proc/self/status").output
    assert found.split() == ["Cpus_allowed_list:", str(allowed[-1])]


def test_personality(boxes):
    assert "0008" in one(boxes, "cat", "/proc/self/personality", linux={"personality": {"domain": "LINUX32"}})


def test_umask_and_groups(boxes):
    found = one(boxes, "grep", "-E", "Umask|Groups|^Uid", "/proc/self/status",
                process={"user": {"uid": 5, "gid": 6, "umask": 0o27, "additionalGids": [7, 8]}})
    assert [line.split()[1:] for line in found.splitlines()] == [["0027"], ["5"] * 4, ["7", "8"]]


def test_domainname(boxes):
    def change(spec):
        spec["domainname"] = "example.org"

    assert boxes.run("cat", "/proc/sys/kernel/domainname", change=change).output == "example.org\n"


def test_a_domainname_and_its_sysctl_agree(boxes):
    spec = boxes.spec("true")
    spec["domainname"] = "one"
    spec["linux"]["sysctl"] = {"kernel.domainname": "one"}
    assert boxes.run(spec=spec).failure is None
    spec["linux"]["sysctl"] = {"kernel/domainname": "two"}
    with pytest.raises(InvalidArgument, match="conflicts with the domainname"):
        boxes.run(spec=spec)


@pytest.mark.parametrize(("process", "linux", "text"), [
    ({"apparmorProfile": "docker-default"}, {}, "AppArmor"), ({"selinuxLabel": "system_u:r:x:s0"}, {}, "SELinux"),
    ({}, {"mountLabel": "system_u:r:x:s0"}, "SELinux"), ({}, {"intelRdt": {"closID": "x"}}, "intelRdt"),
    ({}, {"personality": {"domain": "LINUX", "flags": ["x"]}}, "personality.flags"),
])
def test_what_the_kernel_has_not_is_refused_by_name(boxes, process, linux, text):
    if os.path.isdir("/sys/kernel/security/apparmor") or os.path.isdir("/sys/fs/selinux"):
        pytest.skip("machine: it has a security module that takes labels")
    spec = boxes.spec("true", **process)
    spec["linux"].update(linux)
    try:
        text_found = str(boxes.run(spec=spec).failure)
    except Unsupported as error:
        text_found = str(error)
    assert text in text_found


def test_unconfined_is_no_profile(boxes):
    assert one(boxes, "echo", "fine", process={"apparmorProfile": "unconfined"}) == "fine\n"


@pytest.mark.parametrize("version", ["1.0.0", "1.0.2-dev", "1.1.0", "1.2.1", "1.3.0", "1.99.0"])
def test_every_version_1_is_taken_and_unknown_fields_are_passed_over(boxes, version):
    spec = boxes.spec("echo", "fine")
    spec.update(ociVersion=version, later={"x": 1})
    spec["linux"]["later"] = spec["process"]["later"] = [1]
    assert boxes.run(spec=spec, plain=True).output == "fine\n"
