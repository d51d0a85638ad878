"""Fields of `process` and of `linux` that concern the program alone, seen from inside."""

import os

import pytest

from corten.base.errors import InvalidArgument, Unsupported
from corten.linux.libc import syscall


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
    child, _ = boxes.start(boxes.spec(
        "sleep", "100", scheduler={"policy": "SCHED_BATCH", "nice": 7, "flags": ["SCHED_FLAG_RESET_ON_FORK"]},
        ioPriority={"class": "IOPRIO_CLASS_BE", "priority": 6}))
    assert os.sched_getscheduler(child.pid) == os.SCHED_BATCH | os.SCHED_RESET_ON_FORK
    assert os.getpriority(os.PRIO_PROCESS, child.pid) == 7
    assert syscall("ioprio_get", 1, child.pid) == 2 << 13 | 6


def test_a_real_time_priority(boxes):
    result = boxes.run("cat", "/proc/self/stat", change=lambda spec: spec["process"].update(
        scheduler={"policy": "SCHED_FIFO", "priority": 5}))
    if "operation not permitted" in str(result.failure):
        pytest.skip("machine: its cgroup gives no real time")
    fields = result.output.rsplit(")", 1)[1].split()
    assert (fields[37], fields[38]) == ("5", "1")  # rt_priority, policy (SCHED_FIFO)


def test_exec_cpu_affinity_is_for_execs_only(boxes):
    allowed = sorted(os.sched_getaffinity(0))
    spec = boxes.spec("sleep", "100", execCPUAffinity={"initial": str(allowed[0]), "final": str(allowed[-1])})
    child, bundle = boxes.start(spec)
    assert sorted(os.sched_getaffinity(child.pid)) == allowed
    found = boxes.exec(child, bundle, "grep", "Cpus_allowed_list", "/proc/self/status").output
    assert found.split() == ["Cpus_allowed_list:", str(allowed[-1])]
    del bundle.spec["process"]["execCPUAffinity"]["final"]
    found = boxes.exec(child, bundle, "grep", "Cpus_allowed_list", "/proc/self/status").output
    assert found.split() == ["Cpus_allowed_list:", str(allowed[0])]


@pytest.mark.parametrize(("word", "shown"), [("shared", "shared:"), ("unbindable", "unbindable"), ("private", "- overlay")])
def test_the_roots_propagation(boxes, word, shown):
    found = one(boxes, "cat", "/proc/self/mountinfo", linux={"rootfsPropagation": word})
    root = next(line for line in found.splitlines() if line.split(" ")[4] == "/")
    assert root.split(" ", 6)[6].startswith(shown)


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
    ({}, {"mountLabel": "system_u:r:x:s0"}, "SELinux"), *[({}, {"intelRdt": fields}, "intelRdt") for fields in (
        {"closID": "x"}, {"schemata": ["L3:0=f"]}, {"l3CacheSchema": "L3:0=f"}, {"memBwSchema": "MB:0=10"},
        {"enableMonitoring": True})],
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
