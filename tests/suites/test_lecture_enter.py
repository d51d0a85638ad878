"""Entering a container by hand, as the lecture does, with the host's own nsenter; and what one then sees of it."""

import os
import pty
import select
import subprocess
import time

import pytest
from daemon_process import until
from lecture_client import cgroup_value

NAMESPACES = ("mnt", "uts", "ipc", "net", "pid")
ENTER = ["--mount", "--uts", "--ipc", "--net", "--pid"]


@pytest.fixture
def web(client):
    client("run", "-d", "--name", "web", "--hostname", "inside", "--memory", "64m", "--cpus", "0.5", "--pids-limit", "50",
           "busybox", "sh", "-c", "echo mark >/mark; exec sleep 1000")
    return client


def enter(pid, *command):
    done = subprocess.run(["nsenter", "--target", str(pid), *ENTER, *command], capture_output=True, text=True, timeout=90)
    assert done.returncode == 0, done
    return done.stdout


def test_nsenter_with_the_pid_of_inspect(web):
    pid = int(web("inspect", "--format", "{{ .State.Pid }}", "web"))
    address = web("inspect", "-f", "{{.NetworkSettings.Networks.bridge.IPAddress}}", "web")
    seen = enter(pid, "/bin/sh", "-c", "hostname; cat /mark; cat /proc/1/comm; cut -d: -f1 /proc/net/dev | tail -n +3; ip -4 addr show eth0")
    name, mark, first, *rest = seen.split()
    assert (name, mark, first) == ("inside", "mark", "sleep") and rest[:2] == ["lo", "eth0"]
    assert f"inet {address}/" in seen
    processes = enter(pid, "/bin/ps").splitlines()
    assert len(processes) <= 4 and "sleep 1000" in processes[1]  # nothing of the host's
    with open(f"/proc/{pid}/comm") as file:
        assert file.read() == "sleep\n"


def test_nsenter_gives_a_shell_on_a_terminal(web):
    pid, child = web.pid("web"), 0
    child, master = pty.fork()
    if not child:
        os.execvp("nsenter", ["nsenter", "--target", str(pid), *ENTER, "/bin/sh"])
    seen, deadline = b"", time.monotonic() + 90
    os.write(master, b"echo $((6*7))-$(hostname); exit 5\n")
    while b"42-inside" not in seen:
        assert time.monotonic() < deadline, seen
        if select.select([master], [], [], 0.2)[0]:
            seen += os.read(master, 65536)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 5
    os.close(master)


def test_its_namespaces_are_not_the_hosts(web):
    pid = web.pid("web")
    for name in (*NAMESPACES, "cgroup"):
        assert os.readlink(f"/proc/{pid}/ns/{name}") != os.readlink(f"/proc/self/ns/{name}"), name
    other = web("run", "-d", "busybox", "sleep", "100")
    for name in (*NAMESPACES, "cgroup"):
        assert os.readlink(f"/proc/{pid}/ns/{name}") != os.readlink(f"/proc/{web.pid(other)}/ns/{name}"), name
    shared = web("run", "-d", "--network", "host", "busybox", "sleep", "100")
    assert os.readlink(f"/proc/{web.pid(shared)}/ns/net") == os.readlink("/proc/self/ns/net")


def test_an_exec_is_in_the_same_ones(web):
    pid = web.pid("web")
    inside = web("exec", "web", "sh", "-c", "for n in mnt uts ipc net pid cgroup; do readlink /proc/self/ns/$n; done").split()
    assert inside == [os.readlink(f"/proc/{pid}/ns/{name}") for name in (*NAMESPACES, "cgroup")]


def test_its_cgroup_holds_the_limits(web):
    pid = web.pid("web")
    assert cgroup_value(pid, "memory", "memory.limit_in_bytes", "memory.max") == str(64 << 20)
    assert cgroup_value(pid, "cpu", "cpu.cfs_quota_us", "cpu.max").split()[0] == "50000"
    assert cgroup_value(pid, "pids", "pids.max", "pids.max") == "50"
    members = cgroup_value(pid, "pids", "cgroup.procs", "cgroup.procs").split()
    assert str(pid) in members
    container = web("inspect", "-f", "{{.Id}}", "web")
    with open(f"/proc/{pid}/cgroup") as file:
        assert container in file.read()
    assert container not in web("exec", "web", "cat", "/proc/self/cgroup")  # its own root, from inside


def root_of(pid):
    """(type, options) of what is mounted on a process's /."""
    with open(f"/proc/{pid}/mountinfo") as file:
        root = next(line.split() for line in file if line.split()[4] == "/")
    return root[root.index("-") + 1], root[-1].split(",")


def test_its_root_is_an_overlay_of_the_layers(client):
    image = "lecture/layers:1"
    client("build", "-t", image, "-", stdin="FROM busybox\nRUN echo 1 >/one\nRUN echo 2 >/two\n")
    client("run", "-d", "--name", "web", image, "sh", "-c", "echo mark >/mark; rm /one; echo up; exec sleep 1000")
    until(lambda: client("logs", "web") == "up")
    kind, options = root_of(client.pid("web"))
    assert kind == "overlay"
    lower = [part for word in options if word.startswith("lowerdir") for part in word.partition("=")[2].split(":") if part]
    upper = next(word.partition("=")[2] for word in options if word.startswith("upperdir="))
    layers = client("inspect", "-f", "{{range .RootFS.Layers}}{{println .}}{{end}}", image).split()
    assert len(lower) >= len(layers) == 3
    assert sorted(name for name in os.listdir(upper) if os.path.isfile(f"{upper}/{name}")) == ["mark"]
    assert os.stat(f"{upper}/one").st_rdev == 0 and not os.path.isfile(f"{upper}/one")  # a whiteout hides the layer's file
    client("rm", "-f", "web")
    client("rmi", image)


def test_nothing_is_mounted_on_the_host(web):
    with open("/proc/self/mountinfo") as file:
        assert web.engine.folder not in file.read()


def test_what_the_host_sees_of_it(web):
    """lsns and ps of the host know it by the same pid; its network device has its other end on the bridge."""
    pid = web.pid("web")
    listed = subprocess.run(["lsns", "-n", "-o", "TYPE,PID", "-p", str(pid)], capture_output=True, text=True, timeout=90).stdout
    kinds = {line.split()[0] for line in listed.splitlines()}
    assert {"mnt", "uts", "ipc", "net", "pid"} <= kinds
    assert len(os.listdir(f"/sys/class/net/{web.engine.bridge}/brif")) == 1
    assert f" {pid} " in web("top", "web")
