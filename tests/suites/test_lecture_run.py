"""`run` and its flags, as the lecture uses them: what the program sees, what it may do, how it ends."""

import os
import subprocess
import time

import pytest
from daemon_process import until
from lecture_client import cgroup_value

# chown, dac_override, fowner, fsetid, kill, setgid, setuid, setpcap, net_bind_service, sys_chroot, setfcap
DEFAULT_CAPABILITIES = sum(1 << number for number in (0, 1, 3, 4, 5, 6, 7, 8, 10, 18, 31))


def test_streams_and_input(client):
    done = client.run("run", "--rm", "busybox", "sh", "-c", "echo out; echo err >&2")
    assert (done.stdout, done.stderr, done.returncode) == ("out\n", "err\n", 0)
    assert client("run", "--rm", "-i", "busybox", "wc", "-c", stdin="x" * 100_000) == "100000"
    assert client("ps", "-aq") == ""


def test_what_the_program_gets(client):
    client.environment["GIVEN"] = "from outside"
    found = client("run", "--rm", "-e", "A=b c", "-e", "GIVEN", "-w", "/made/here", "-u", "33:100", "--hostname", "box",
                   "--entrypoint", "sh", "busybox", "-c", "echo $A; echo $GIVEN; pwd; id -u; id -g; hostname; cat /etc/hostname")
    assert found.splitlines() == ["b c", "from outside", "/made/here", "33", "100", "box", "box"]
    assert client("run", "--rm", "-u", "www-data", "busybox", "id").startswith("uid=33(www-data) gid=33(www-data)")
    assert client("run", "--rm", "--entrypoint", "", "busybox", "echo", "plain") == "plain"
    hostname = client("run", "--rm", "busybox", "hostname")
    assert len(hostname) == 12 and int(hostname, 16)


def test_detached_by_name(client):
    container = client("run", "-d", "--name", "web", "busybox", "sleep", "100")
    assert len(container) == 64 and client("inspect", "-f", "{{.Id}} {{.Name}}", "web") == f"{container} /web"
    client("run", "--name", "web", "busybox", "true", code=125, fails=(
        f'Conflict. The container name "/web" is already in use by container "{container}"'))
    assert client("ps", "-aq", "--no-trunc") == container


def test_rm_takes_the_anonymous_volume_along(client):
    assert client("run", "--rm", "-v", "/data", "busybox", "touch", "/data/x") == ""
    assert client("ps", "-aq") + client("volume", "ls", "-q") == ""


def test_a_folder_of_the_host(client, tmp_path):
    (tmp_path / "in").write_text("from the host\n")
    assert client("run", "--rm", "-v", f"{tmp_path}:/host", "busybox", "sh", "-c",
                  "cat /host/in; echo back >/host/out") == "from the host"
    assert (tmp_path / "out").read_text() == "back\n"
    client("run", "--rm", "-v", f"{tmp_path}:/host:ro", "busybox", "touch", "/host/no", fails="Read-only file system")
    assert not (tmp_path / "no").exists()
    client("run", "--rm", "--mount", "type=bind,src=/not/there,dst=/x", "busybox", "true", code=125,
           fails="bind source path does not exist: /not/there")


def test_a_named_volume(client):
    client("run", "--rm", "-v", "data:/bin2", "-v", "copied:/etc", "busybox", "sh", "-c", "echo kept >/bin2/file")
    assert client("run", "--rm", "-v", "data:/d", "busybox", "cat", "/d/file") == "kept"
    assert "root:x:0:0" in client("run", "--rm", "-v", "copied:/c", "busybox", "cat", "/c/passwd")  # the image's files
    assert client("volume", "ls", "-q").split() == ["copied", "data"]


def test_limits_are_in_the_cgroup(client):
    client("run", "-d", "--name", "small", "--memory", "64m", "--cpus", "0.5", "--pids-limit", "33", "busybox", "sleep", "100")
    pid = client.pid("small")
    assert cgroup_value(pid, "memory", "memory.limit_in_bytes", "memory.max") == str(64 << 20)
    assert cgroup_value(pid, "pids", "pids.max", "pids.max") == "33"
    quota = cgroup_value(pid, "cpu", "cpu.cfs_quota_us", "cpu.max").split()[0]
    assert quota == "50000"
    assert client("inspect", "-f", "{{.HostConfig.Memory}} {{.HostConfig.NanoCpus}} {{.HostConfig.PidsLimit}}", "small") == (
        "67108864 500000000 33")


def test_limits_hold(client):
    done = client.run("run", "--name", "big", "--memory", "16m", "busybox", "tail", "/dev/zero")
    assert done.returncode == 137
    assert client("inspect", "-f", "{{.State.OOMKilled}}", "big") == "true"
    many = client.run("run", "--rm", "--pids-limit", "5", "busybox", "sh", "-c", "for i in 1 2 3 4 5 6 7 8; do sleep 100 & done")
    assert "fork" in many.stderr and many.returncode != 0
    client("run", "--rm", "--memory", "4m", "busybox", "true", code=125, fails="Minimum memory limit allowed is 6MB")


def test_a_root_that_is_read_only(client):
    script = "touch /x; echo fine >/scratch/y && cat /scratch/y; df -k /scratch | tail -1; grep /scratch /proc/mounts"
    done = client.run("run", "--rm", "--read-only", "--tmpfs", "/scratch:size=1m", "busybox", "sh", "-c", script)
    assert "touch: /x: Read-only file system" in done.stderr
    assert "fine" in done.stdout and " 1024 " in done.stdout
    mount = done.stdout.splitlines()[-1]
    assert mount.startswith("tmpfs /scratch tmpfs") and all(flag in mount for flag in ("nosuid", "nodev", "noexec", "size=1024k"))


@pytest.mark.parametrize("flags, capabilities", [
    ([], DEFAULT_CAPABILITIES),
    (["--cap-drop", "ALL"], 0),
    (["--cap-drop", "ALL", "--cap-add", "NET_BIND_SERVICE"], 1 << 10),
    (["--cap-add", "SYS_TIME", "--cap-drop", "chown"], DEFAULT_CAPABILITIES & ~1 | 1 << 25),
])
def test_capabilities(client, flags, capabilities):
    status = client("run", "--rm", *flags, "busybox", "grep", "^Cap", "/proc/self/status")
    found = {line.split()[0]: int(line.split()[1], 16) for line in status.splitlines()}
    assert (found["CapEff:"], found["CapBnd:"], found["CapAmb:"]) == (capabilities, capabilities, 0)


def test_without_chown_no_chown(client):
    client("run", "--rm", "--cap-drop", "CHOWN", "busybox", "chown", "33", "/etc/passwd", fails="Operation not permitted")


def test_networks(client):
    devices = "cut -d: -f1 /proc/net/dev | tail -n +3"
    assert client("run", "--rm", "--network", "none", "busybox", "sh", "-c", devices).split() == ["lo"]
    assert client("run", "--rm", "--network", "bridge", "busybox", "sh", "-c", devices).split() == ["lo", "eth0"]
    on_host = client("run", "--rm", "--network", "host", "busybox", "sh", "-c", f"{devices}; hostname").split()
    assert client.engine.bridge in on_host and os.uname().nodename == on_host[-1]
    client("run", "-d", "--name", "other", "busybox", "sleep", "100")
    address = client("inspect", "-f", "{{range .NetworkSettings.Networks}}{{.IPAddress}}{{end}}", "other")
    gateway = client("inspect", "-f", "{{.NetworkSettings.Networks.bridge.Gateway}}", "other")
    ping = ["busybox", "ping", "-c", "2", "-i", "0.1", address]
    assert "2 packets received" in client("run", "--rm", "--cap-add", "NET_RAW", *ping)
    assert f"default via {gateway} dev eth0" in client("run", "--rm", "busybox", "ip", "route")


def _zombies(client, ref):
    return client("exec", ref, "sh", "-c", "grep -l 'State:.Z' /proc/[0-9]*/status | wc -l")


def test_init_reaps_and_forwards(client):
    script = "(sleep 0.1 &); exec sleep 100"
    client("run", "-d", "--name", "with", "--init", "busybox", "sh", "-c", script)
    client("run", "-d", "--name", "without", "busybox", "sh", "-c", script)
    until(lambda: _zombies(client, "without") == "1")
    until(lambda: _zombies(client, "with") == "0")
    begin = time.monotonic()
    client("stop", "with")
    assert time.monotonic() - begin < 9.9 and client.state("with") == "exited 143"
    client("stop", "-t", "0", "without")  # process 1 without a handler of its own is deaf to SIGTERM
    assert client.state("without") == "exited 137"


@pytest.mark.parametrize("command, code, text", [
    (["true"], 0, ""),
    (["sh", "-c", "exit 7"], 7, ""),
    (["sh", "-c", "sh -c 'kill -9 $$'; exit $?"], 137, ""),
    (["nope"], 127, 'exec: "nope": executable file not found in $PATH'),
    (["/nope"], 127, "/nope: no such file or directory"),
    (["/etc"], 126, "/etc"),
    (["/etc/passwd"], 126, "permission denied"),
])
def test_exit_codes_of_the_program(client, command, code, text):
    done = client.run("run", "--rm", "busybox", *command)
    assert done.returncode == code and text in done.stderr
    assert client("ps", "-aq") == ""


@pytest.mark.parametrize("words, text", [
    (["--no-such-flag", "busybox"], "unknown flag: --no-such-flag"),
    (["127.0.0.1:1/no/such:image"], "connection refused"),
    (["UPPER"], "invalid reference format: repository name .*must be lowercase"),
    (["--network", "nope", "busybox"], "network nope not found"),
    (["-u", "nobody-here", "busybox"], "unable to find user nobody-here: no matching entries in passwd file"),
    (["--cpus", "999", "busybox"], r"range of CPUs is from 0.01 to \d+.00, as there are only \d+ CPUs available"),
    (["--cap-add", "NOPE", "busybox"], "NOPE"),
    (["-p", "70000:80", "busybox"], "70000"),
    (["-v", "rel/ative:relative", "busybox"], "relative"),
])
def test_errors_before_the_program_are_125(client, words, text):
    client("run", "--rm", *words, code=125, fails=text)
    assert client("ps", "-aq") == ""


def test_killed_from_outside(client):
    running = client.start("run", "--name", "victim", "busybox", "sh", "-c", "echo up; exec sleep 100")
    assert running.stdout.readline() == "up\n"
    client("kill", "-s", "KILL", "victim")
    assert running.wait(10) == 137
    running.communicate()


def test_a_port_is_taken_once(client):
    client("run", "-d", "--name", "first", "-p", "127.0.0.1::80", "busybox", "sleep", "100")
    port = client("port", "first", "80").rpartition(":")[2]
    client("run", "--rm", "-p", f"127.0.0.1:{port}:80", "busybox", "true", code=125,
           fails=f"Bind for 127.0.0.1:{port} failed: port is already allocated")
    assert subprocess.run(["sh", "-c", f"cut -d: -f1 /proc/net/dev | grep -cw {client.engine.bridge}"],
                          capture_output=True).stdout.strip() == b"1"
