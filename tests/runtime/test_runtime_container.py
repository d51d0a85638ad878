"""What a program finds in a container: namespaces, root, devices, limits, privileges, and what it does not find."""

import os
import signal
import threading
import time

import pytest
from runtime_box import read_console, settle

from corten.base.errors import InvalidArgument, Unsupported
from corten.linux import cgroup, cgroup_oom
from corten.runtime import create


def test_namespaces_are_new_and_the_root_is_an_overlay(boxes):
    child, bundle = boxes.start(boxes.spec("sleep", "100"))
    for name in ("pid", "net", "ipc", "uts", "mnt", "cgroup"):
        assert os.readlink(f"/proc/{child.pid}/ns/{name}") != os.readlink(f"/proc/self/ns/{name}")
    mounts = open(f"/proc/{child.pid}/mounts").read()
    assert mounts.startswith("overlay / overlay rw,nodev")
    assert boxes.folder not in open("/proc/self/mounts").read()
    assert boxes.exec(child, bundle, "hostname").output == "box\n"


def test_output_and_exit_code(boxes):
    result = boxes.run("sh", "-c", "echo hello; echo $$; exit 7")
    assert (result.code, result.output) == (7, "hello\n1\n")


def test_plain_bundle_without_overlay(boxes):
    assert boxes.run("ls", "/", plain=True).output.split()[:2] == ["bin", "dev"]


@pytest.mark.parametrize(("program", "text", "code"), [
    ("nosuch", 'exec: "nosuch": executable file not found in $PATH', 127),
    ("/nosuch", 'exec: "/nosuch": stat /nosuch: no such file or directory', 127),
    ("/etc", 'exec: "/etc": is a directory: permission denied', 126),
    ("/etc/passwd", 'exec: "/etc/passwd": permission denied', 126),
])
def test_programs_that_cannot_be_run(boxes, program, text, code):
    result = boxes.run(program)
    assert (str(result.failure), result.failure.exit_code) == (text, code)


def test_a_script_without_interpreter_line(boxes):
    with open(f"{boxes.lower}/bin/odd", "w") as file:
        file.write("echo hi\n")
    os.chmod(f"{boxes.lower}/bin/odd", 0o755)
    result = boxes.run("odd")
    assert str(result.failure) == "exec /bin/odd: exec format error" and result.failure.exit_code == 126


def test_no_descriptor_is_inherited(boxes):
    extra = os.open("/etc/passwd", os.O_RDONLY)
    os.set_inheritable(extra, True)
    try:
        child, bundle = boxes.start(boxes.spec("sleep", "100"))
        assert sorted(os.listdir(f"/proc/{child.pid}/fd")) == ["0", "1", "2"]
        assert os.readlink(f"/proc/{child.pid}/cwd") == "/"
        assert boxes.exec(child, bundle, "readlink", "/proc/self/fd/3").output == ""
    finally:
        os.close(extra)


def test_preserved_descriptors_are_passed_on(boxes):
    read, write = os.pipe()
    os.dup2(read, 3, inheritable=True) if read != 3 else None
    bundle = boxes.bundle(boxes.spec("sleep", "100"))
    child = create.spawn(bundle, (0, 2, 2), preserve_fds=1)
    boxes.open.append((child, bundle))
    child.start()
    settle(child)
    assert sorted(os.listdir(f"/proc/{child.pid}/fd")) == ["0", "1", "2", "3"]
    os.close(read)
    os.close(write)


def test_user_groups_umask_and_home(boxes):
    result = boxes.run("sh", "-c", "id; pwd; umask; echo $HOME; echo again > /dev/stdout", change=lambda s: s["process"].update(
        user={"uid": 1000, "gid": 1001, "additionalGids": [5, 6], "umask": 0o77}, cwd="/work/here"))
    assert result.output.splitlines() == [
        "uid=1000(user) gid=1001 groups=5,6", "/work/here", "0077", "/home/user", "again"]


def test_capabilities_and_no_new_privileges(boxes):
    result = boxes.run("sh", "-c", "grep -E 'Cap|NoNew' /proc/self/status",
                       change=lambda s: s["process"].update(noNewPrivileges=True))
    found = dict(line.split(":\t") for line in result.output.splitlines())
    assert found["CapEff"] == found["CapPrm"] == found["CapBnd"] == "00000000800405fb"
    assert found["CapInh"] == found["CapAmb"] == "0000000000000000" and found["NoNewPrivs"] == "1"


def test_ambient_capabilities_reach_a_user(boxes):
    def change(spec):
        for kind in ("bounding", "effective", "permitted", "inheritable", "ambient"):
            spec["process"]["capabilities"][kind] = ["CAP_NET_BIND_SERVICE"]
        spec["process"]["user"] = {"uid": 5, "gid": 5}
    assert "CapEff:\t0000000000000400" in boxes.run("cat", "/proc/self/status", change=change).output


def test_devices_and_links(boxes):
    result = boxes.run("sh", "-c", "for f in null zero full random urandom tty; do stat -c '%n %F %a %t:%T' /dev/$f; done; "
                                   "readlink /dev/fd /dev/stdin /dev/ptmx; readlink /dev/stdin; readlink /dev/ptmx")
    assert "/dev/null character special file 666 1:3" in result.output
    assert "/dev/tty character special file 666 5:0" in result.output
    assert "/proc/self/fd/0" in result.output and "pts/ptmx" in result.output


def test_asked_for_device(boxes):
    def change(spec):
        spec["linux"]["devices"] = [{"path": "/dev/net/tun", "type": "c", "major": 10, "minor": 200, "fileMode": 0o640,
                                     "uid": 3, "gid": 4}]
    result = boxes.run("stat", "-c", "%t:%T %a %u %g", "/dev/net/tun", change=change)
    assert result.output == "a:c8 640 3 4\n"


def test_masked_and_read_only_paths(boxes):
    result = boxes.run("sh", "-c", "wc -c < /proc/keys; ls /sys/firmware | wc -l; echo 1 > /proc/sys/vm/swappiness; "
                                   "touch /sys/x; touch /sys/fs/cgroup/x")
    lines = result.output.splitlines()
    assert lines[:2] == ["0", "0"] and sum("Read-only" in line for line in lines) == 3


def test_read_only_root_with_a_writable_tmpfs(boxes):
    def change(spec):
        spec["root"]["readonly"] = True
        spec["mounts"].append({"destination": "/scratch", "type": "tmpfs", "options": ["size=1m", "mode=700"]})
        spec["mounts"].append({"destination": "/frozen/in", "type": "tmpfs", "options": ["ro"]})
    result = boxes.run("sh", "-c", "touch /x; touch /scratch/x && echo fine; touch /frozen/in/x; touch /dev/y && echo dev",
                       change=change)
    assert result.output.count("Read-only file system") == 2 and "fine" in result.output and "dev" in result.output


def test_bind_mounts(boxes):
    os.makedirs(f"{boxes.folder}/data/sub")
    with open(f"{boxes.folder}/data/file", "w") as file:
        file.write("content\n")

    def change(spec):
        spec["mounts"] += [
            {"destination": "/new/place", "type": "bind", "source": f"{boxes.folder}/data", "options": ["rbind", "ro"]},
            {"destination": "/etc/one", "type": "bind", "source": f"{boxes.folder}/data/file", "options": ["bind", "nodev"]}]
    result = boxes.run("sh", "-c", "cat /new/place/file /etc/one; touch /new/place/x; grep /etc/one /proc/mounts", change=change)
    assert result.output.startswith("content\ncontent\n")
    assert "Read-only" in result.output and ",nodev" in result.output.splitlines()[-1]


@pytest.mark.parametrize(("source", "target", "text"), [
    ("/no/such/source", "/x", "no such file or directory"),
    ("/etc/passwd", "/tmp", "Are you trying to mount a directory onto a file (or vice-versa)?"),
    ("/etc", "/etc/passwd", "Are you trying to mount a directory onto a file (or vice-versa)?"),
])
def test_mounts_that_cannot_be(boxes, source, target, text):
    result = boxes.run("true", change=lambda s: s["mounts"].append(
        {"destination": target, "type": "bind", "source": source, "options": ["rbind"]}))
    assert result.failure.step == "mount" and text in str(result.failure) and target in str(result.failure)
    assert result.failure.exit_code == 125


def test_limits_of_the_cgroup(boxes):
    spec = boxes.spec("sleep", "100")
    spec["linux"]["resources"] = {
        "memory": {"limit": 64 << 20, "swap": 96 << 20}, "pids": {"limit": 20},
        "cpu": {"quota": 25000, "period": 50000, "shares": 300, "cpus": "0"},
        "devices": [{"allow": False, "access": "rwm"}, {"allow": True, "type": "c", "major": 1, "minor": 3, "access": "rw"}]}
    spec["linux"]["devices"] = [{"path": "/dev/port", "type": "c", "major": 1, "minor": 4}]
    place = spec["linux"]["cgroupsPath"] = f"/{boxes.name}/limits"
    child, bundle = boxes.start(spec)
    with open(f"/proc/{child.pid}/cgroup") as file:
        assert all(line.rstrip("\n").endswith(f":{place}") for line in file if ":pids:" in line or line.startswith("0::"))
    found = cgroup.stats(bundle.cgroup)
    swap = 96 << 20 if "memory" in cgroup.hierarchies().v1 else 32 << 20  # v1 counts memory and swap together
    assert found["memory"]["limit"] == 64 << 20 and found["memory"]["swap_limit"] == swap
    assert found["pids"]["limit"] == 20 and found["pids"]["current"] == 1
    assert cgroup.processes(bundle.cgroup) == [child.pid]
    if cgroup.hierarchies().v1:
        assert open(f"{cgroup.folder(bundle.cgroup, 'cpu')}/cpu.cfs_quota_us").read() == "25000\n"
        assert open(f"{cgroup.folder(bundle.cgroup, 'devices')}/devices.list").read().split("\n")[0] == "c 1:3 rwm"
        assert boxes.exec(child, bundle, "cat", "/sys/fs/cgroup/pids/pids.max").output == "20\n"
    result = boxes.exec(child, bundle, "sh", "-c", "head -c 1 /dev/port; echo; echo x > /dev/null && echo fine")
    assert "Operation not permitted" in result.output and "fine" in result.output


def test_too_little_memory_to_begin_with(boxes):
    spec = boxes.spec("true")
    spec["linux"]["resources"] = {"memory": {"limit": 4096}}
    assert "container init was OOM-killed (memory limit too low?)" in str(boxes.run(spec=spec).failure)


def test_out_of_memory_is_counted(boxes):
    spec = boxes.spec("sh", "-c", "a=x; while :; do a=$a$a; done")
    spec["linux"]["resources"] = {"memory": {"limit": 16 << 20, "swap": 16 << 20}}
    child, bundle = boxes.start(spec)
    os.waitid(os.P_PIDFD, child.pidfd, os.WEXITED | os.WNOWAIT)
    assert cgroup_oom.oom_kills(bundle.cgroup) >= 1
    words = open(cgroup_oom.oom_file(bundle.cgroup)).read().split()
    assert words[words.index("oom_kill") + 1] != "0"


def test_an_impossible_limit_leaves_nothing(boxes):
    spec = boxes.spec("true")
    spec["linux"]["resources"] = {"cpu": {"cpus": "4000"}}
    bundle = boxes.bundle(spec)
    with pytest.raises(OSError, match=r"cpuset"):
        create.spawn(bundle, (0, 1, 2))
    assert not cgroup.exists(bundle.cgroup)


def test_a_group_that_is_gone_needs_no_thaw():
    cgroup.thaw(f"/corten-test-gone-{os.getpid()}")
    with pytest.raises(FileNotFoundError):
        cgroup.freeze(f"/corten-test-gone-{os.getpid()}")


def test_freeze_and_thaw(boxes):
    child, bundle = boxes.start(boxes.spec("sh", "-c", "while :; do :; done"))
    cgroup.freeze(bundle.cgroup)
    before = cgroup.stats(bundle.cgroup)["cpu"]["usage_ns"]
    time.sleep(0.1)
    assert cgroup.is_frozen(bundle.cgroup) and cgroup.stats(bundle.cgroup)["cpu"]["usage_ns"] - before < 5_000_000
    cgroup.thaw(bundle.cgroup)
    cgroup.kill(bundle.cgroup)
    os.waitid(os.P_PIDFD, child.pidfd, os.WEXITED | os.WNOWAIT)


def test_seccomp_refuses(boxes):
    def change(spec):
        spec["linux"]["seccomp"] = {"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [
            {"names": ["mkdir", "mkdirat"], "action": "SCMP_ACT_ERRNO", "errnoRet": 28}]}
    result = boxes.run("sh", "-c", "mkdir /tmp/x; grep Seccomp: /proc/self/status", change=change)
    assert "No space left on device" in result.output and "Seccomp:\t2" in result.output


def test_terminal(boxes):
    child, _ = boxes.start(boxes.spec("sh", "-c", "tty; stty size; stat -c %T%t /dev/console; echo end; sleep 9; exit 4",
                                      terminal=True, consoleSize={"height": 33, "width": 99}))
    text = read_console(child, "end")
    assert "/dev/pts/0" in text and "33 99" in text
    os.write(child.console, b"\x03")
    assert os.waitid(os.P_PIDFD, child.pidfd, os.WEXITED | os.WNOWAIT).si_status in (4, 130)
    assert os.readlink(f"/proc/self/fd/{child.console}").endswith("ptmx")
    os.close(child.console)


def test_rlimits_oom_score_and_sysctl(boxes):
    def change(spec):
        spec["process"].update(rlimits=[{"type": "RLIMIT_NOFILE", "soft": 64, "hard": 128}], oomScoreAdj=500)
        spec["linux"]["sysctl"] = {"net.ipv4.ip_forward": "1", "kernel.shmmax": "1234567"}
    result = boxes.run("sh", "-c", "ulimit -n; ulimit -Hn; cat /proc/self/oom_score_adj /proc/sys/net/ipv4/ip_forward "
                                   "/proc/sys/kernel/shmmax", change=change)
    assert result.output.split() == ["64", "128", "500", "1", "1234567"]


def test_joining_another_network_namespace(boxes):
    first, _ = boxes.start(boxes.spec("sleep", "100"))
    spec = boxes.spec("readlink", "/proc/self/ns/net", "/proc/self/ns/ipc")
    spec["linux"]["namespaces"] = [
        {"type": "network", "path": f"/proc/{first.pid}/ns/net"}, {"type": "ipc"}, {"type": "mount"}, {"type": "uts"},
        {"type": "pid", "path": f"/proc/{first.pid}/ns/pid"}]
    own = os.readlink("/proc/self/ns/pid_for_children")
    spec["process"]["args"] = ["sh", "-c", "readlink /proc/self/ns/net; readlink /proc/self/ns/pid"]
    result = boxes.run(spec=spec)
    assert result.output.split() == [os.readlink(f"/proc/{first.pid}/ns/{kind}") for kind in ("net", "pid")]
    assert os.readlink("/proc/self/ns/pid_for_children") == own


def test_a_namespace_of_the_wrong_kind_is_refused(boxes):
    spec = boxes.spec("true")
    spec["linux"]["namespaces"] = [{"type": "network", "path": "/proc/self/ns/ipc"}, {"type": "mount"}, {"type": "uts"}]
    result = boxes.run(spec=spec)
    assert "not a net namespace" in str(result.failure) or "setns" in str(result.failure)


def test_time_offsets(boxes):
    spec = boxes.spec("cat", "/proc/uptime")
    spec["linux"]["namespaces"].append({"type": "time"})
    spec["linux"]["timeOffsets"] = {"boottime": {"secs": 1_000_000}}
    assert float(boxes.run(spec=spec).output.split()[0]) > 1_000_000
    assert os.readlink("/proc/self/ns/time") == os.readlink("/proc/self/ns/time_for_children")


def test_user_namespace(boxes):
    spec = boxes.spec("sh", "-c", "id -u; cat /proc/self/uid_map")
    spec["linux"]["namespaces"].append({"type": "user"})
    spec["linux"]["uidMappings"] = spec["linux"]["gidMappings"] = [{"containerID": 0, "hostID": 0, "size": 65536}]
    result = boxes.run(spec=spec, plain=True)
    assert result.failure is None and result.output.split() == ["0", "0", "0", "65536"]


def test_with_init_the_program_is_not_pid_1(boxes):
    result = boxes.run("sh", "-c", "echo $$; readlink /proc/1/exe; cat /proc/1/cmdline; (sleep 0.05 &) ; exit 9", init=True)
    assert result.code == 9 and result.output.split()[0] == "2"
    assert "/sbin/init" in result.output and "python" not in result.output


def test_with_init_signals_are_passed_on(boxes):
    read, write = os.pipe()
    child, _ = boxes.start(boxes.spec("sh", "-c", "trap 'exit 5' TERM; echo up; while :; do sleep 0.02; done"), write, init=True)
    os.close(write)
    assert os.read(read, 3) == b"up\n"
    os.close(read)
    os.kill(child.pid, signal.SIGTERM)
    found = os.waitid(os.P_PIDFD, child.pidfd, os.WEXITED | os.WNOWAIT)
    assert (found.si_code, found.si_status) == (os.CLD_EXITED, 5)


def test_with_init_a_missing_program_still_fails(boxes):
    assert boxes.run("nosuch", init=True).failure.exit_code == 127
    with open(f"{boxes.lower}/bin/odd", "w") as file:
        file.write("no format")
    os.chmod(f"{boxes.lower}/bin/odd", 0o755)
    assert boxes.run("odd", init=True).failure.exit_code == 126


def test_with_init_a_killed_program(boxes):
    assert boxes.run("sh", "-c", "kill -9 $$", init=True).code == 137


def test_a_start_may_be_said_early_or_late(boxes):
    bundle = boxes.bundle(boxes.spec("true"))
    child = create.spawn(bundle, (0, 2, 2))
    boxes.open.append((child, bundle))
    assert child.wait() == "created" and child.receive() == "created"
    time.sleep(0.05)
    assert os.waitid(os.P_PIDFD, child.pidfd, os.WEXITED | os.WNOWAIT | os.WNOHANG) is None
    child.start()
    assert child.wait() == "running"


def test_a_created_child_ends_when_its_channel_closes(boxes):
    bundle = boxes.bundle(boxes.spec("true"))
    child = create.spawn(bundle, (0, 2, 2))
    boxes.open.append((child, bundle))
    child.wait()
    child.close()
    os.waitid(os.P_PIDFD, child.pidfd, os.WEXITED | os.WNOWAIT)


def test_what_is_not_done_is_refused_by_name(boxes):
    spec = boxes.spec("true")
    spec["linux"]["intelRdt"] = {"closID": "x"}
    with pytest.raises(Unsupported, match="intelRdt"):
        create.spawn(boxes.bundle(spec), (0, 1, 2))


def test_bad_process_documents(boxes):
    for change in ({"args": []}, {"cwd": "relative"}, {"cwd": ""}, {"env": ["NOVALUE"]}, {"user": {"uid": -1}},
                   {"user": {"uid": 1 << 32}}):
        with pytest.raises(InvalidArgument):
            create.spawn(boxes.bundle(boxes.spec("true", **change)), (0, 1, 2))


def test_processes_are_single_threaded_while_cloning():
    assert threading.active_count() == 1


def link_mount(boxes, *options, target="/etc/link"):
    source = f"{boxes.folder}/a-link"
    if not os.path.islink(source):
        os.symlink("/etc/passwd", source)
    return lambda spec: spec["mounts"].append(
        {"destination": target, "type": "bind", "source": source, "options": ["bind", *options]})


def test_links_as_sources_and_targets(boxes):
    os.symlink("nowhere", f"{boxes.lower}/etc/link")
    found = boxes.run("readlink", "/etc/link", change=link_mount(boxes, "src-nofollow", "dest-nofollow"))
    assert (found.output, found.failure) == ("/etc/passwd\n", None)
    found = boxes.run("head", "-n", "1", "/etc/link", change=link_mount(boxes, "dest-nofollow"))
    assert found.output == open("/etc/passwd").readline()
    found = boxes.run("readlink", "/deep/er/link", change=link_mount(boxes, "copy-symlink", target="/deep/er/link"))
    assert (found.output, found.failure) == ("/etc/passwd\n", None)


def test_the_root_is_not_copied_into_memory(boxes):
    with pytest.raises(InvalidArgument, match="tmpcopyup"):
        boxes.run("true", change=lambda spec: spec["mounts"].insert(
            0, {"destination": "/", "type": "tmpfs", "source": "tmpfs", "options": ["tmpcopyup"]}))
