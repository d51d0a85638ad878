"""The daemon's own end and return: kill -9, SIGTERM, leftovers, many records. Containers do not notice."""

import contextlib
import os
import re
import signal
import socket
import stat
import subprocess
import time

import pytest
from daemon_process import until

from corten.base.paths import Layout
from corten.linux import cgroup


def row(engine, ref):
    return engine.inspect(ref)["State"]


def test_kill_9_and_return(own_engine):
    engine = own_engine
    steady = engine.run("sleep", "1000", name="steady")
    writer = engine.run("sh", "-c", "i=0; while :; do echo line $i; i=$((i+1)); sleep 0.002; done", name="writer")
    leaver = engine.run("sh", "-c", "sleep 0.7; exit 42", name="leaver")
    terminal = engine.run("sh", name="terminal", Tty=True, OpenStdin=True)
    paused = engine.run("sleep", "1000", name="paused")
    engine.api("POST", f"/containers/{paused}/pause")
    removed = engine.run("sh", "-c", "sleep 0.7; exit 1", name="removed", HostConfig={"AutoRemove": True})
    again = engine.run("sh", "-c", "sleep 0.7; exit 1", name="again", HostConfig={"RestartPolicy": {"Name": "always"}})
    pids = {c: row(engine, c)["Pid"] for c in (steady, writer, terminal, paused)}
    leavers = [row(engine, c)["Pid"] for c in (leaver, again)]
    engine.kill()
    until(lambda: not any(pid and os.path.exists(f"/proc/{pid}") for pid in leavers), "their end")
    engine.start()
    for container_id, pid in pids.items():
        assert row(engine, container_id)["Pid"] == pid and row(engine, container_id)["Running"]
    assert row(engine, paused)["Paused"]
    left = row(engine, leaver)
    assert (left["Status"], left["ExitCode"]) == ("exited", 42)
    until(lambda: engine.api("GET", f"/containers/{removed}/json").status == 404)
    until(lambda: row(engine, again)["Running"])
    engine.said(writer, "line 300\n")
    numbers = [int(n) for n in re.findall(r"line (\d+)\n", engine.logs(writer))]
    assert numbers == list(range(len(numbers)))
    assert engine.api("POST", f"/containers/{terminal}/resize?h=50&w=100").status == 200
    made = engine.api("POST", f"/containers/{steady}/exec", {"Cmd": ["echo", "alive"], "AttachStdout": True}).json["Id"]
    assert b"alive" in engine.api("POST", f"/exec/{made}/start", {}).body
    assert engine.api("POST", f"/containers/{paused}/unpause").status == 204
    assert engine.api("POST", f"/containers/{steady}/stop?t=0").status == 204


def test_an_exec_that_ends_meanwhile(own_engine):
    engine = own_engine
    container_id = engine.run()
    ids = [engine.api("POST", f"/containers/{container_id}/exec", {"Cmd": ["sleep", s]}).json["Id"] for s in ("0.7", "1000")]
    for exec_id in ids:
        engine.api("POST", f"/exec/{exec_id}/start", {"Detach": True})
    pid = engine.api("GET", f"/exec/{ids[0]}/json").json["Pid"]
    engine.kill()
    until(lambda: not os.path.exists(f"/proc/{pid}"), "its end")
    engine.start()
    assert engine.api("GET", f"/exec/{ids[0]}/json").json["ExitCode"] == 0
    assert engine.api("GET", f"/exec/{ids[1]}/json").json["Running"] is True


def test_wait_after_a_return_gets_the_real_code(own_engine):
    engine = own_engine
    container_id = engine.run("sh", "-c", "sleep 1; exit 6")
    engine.kill()
    engine.start()
    assert engine.wait(container_id) == 6


def test_sigterm_leaves_containers_running_and_nothing_else_when_none_does(own_engine, leaks):
    engine = own_engine
    container_id = engine.run()
    pid = row(engine, container_id)["Pid"]
    engine.stop()
    assert os.path.exists(f"/proc/{pid}")
    assert not os.path.exists(engine.socket)
    engine.start()
    assert row(engine, container_id)["Pid"] == pid
    answer = engine.api("DELETE", f"/containers/{container_id}?force=1")
    assert answer.status == 204, answer.body
    engine.stop()
    assert not os.path.exists(f"{engine.folder}/run/zygote.sock"), engine.output()
    assert not os.path.exists(f"/sys/class/net/{engine.bridge}")


def test_what_a_killed_daemon_half_made_is_gone(own_engine):
    engine = own_engine
    engine.kill()
    ghost = "ab" * 32
    os.makedirs(f"{engine.folder}/data/containers/{ghost}")
    os.makedirs(f"{engine.folder}/run/runtime/{ghost}/rootfs")
    os.makedirs(f"{engine.folder}/data/snapshots/{ghost[:12]}/fs/x")
    with open(f"{engine.folder}/run/exits/{ghost}.json", "w") as file:
        file.write("{}")
    with open(f"{engine.folder}/data/tmp/left", "w") as file:
        file.write("x")
    engine.start()
    for path in (f"data/containers/{ghost}", f"run/runtime/{ghost}", f"data/snapshots/{ghost[:12]}",
                 f"run/exits/{ghost}.json", "data/tmp/left"):
        assert not os.path.exists(f"{engine.folder}/{path}"), path


def _killed(engine):
    """The pids that were left of a daemon's helpers; they are killed, and none of them sees another's end before its own."""
    pids = subprocess.run(["pgrep", "-f", f"{engine.folder}/run"], capture_output=True, text=True).stdout.split()
    for number in (signal.SIGSTOP, signal.SIGKILL):
        for pid in pids:
            with contextlib.suppress(ProcessLookupError):  # pump and launcher go with the zygote
                os.kill(int(pid), number)
    return pids


def test_a_reboot_while_it_ran(own_engine):
    """The run root is gone and so are all processes: nobody knows the code, restart policies apply."""
    engine = own_engine
    plain = engine.run("sleep", "1000")
    engine.run("sleep", "1000", name="always", HostConfig={"RestartPolicy": {"Name": "always"}})
    stopped = engine.run("sleep", "1000", name="stopped", HostConfig={"RestartPolicy": {"Name": "unless-stopped"}})
    engine.api("POST", f"/containers/{stopped}/stop?t=0")
    engine.kill()
    until(lambda: not _killed(engine), "the end of all its processes")  # whoever is killed second may have forked before
    for folder in os.listdir(f"{engine.folder}/run/runtime"):
        for pid in cgroup.processes(Layout(exec_root=f"{engine.folder}/run").cgroup(folder)):
            os.kill(pid, signal.SIGKILL)
    subprocess.run(["rm", "-rf", f"{engine.folder}/run"], check=True)
    engine.start()
    state = row(engine, plain)
    assert (state["Status"], state["ExitCode"]) == ("exited", 255)
    until(lambda: row(engine, "always")["Running"])
    assert row(engine, stopped)["Status"] == "exited"


@pytest.mark.slow
def test_five_hundred_containers_are_back(own_engine):
    engine = own_engine
    for _ in range(500):
        engine.create("true")
    engine.kill()
    engine.start()
    assert len(engine.api("GET", "/containers/json?all=1").json) == 500


def test_who_may_see_what(own_engine):
    engine = own_engine
    assert stat.S_IMODE(os.stat(engine.socket).st_mode) == 0o600
    for name in os.listdir(f"{engine.folder}/data"):
        mode = stat.S_IMODE(os.stat(f"{engine.folder}/data/{name}").st_mode)
        assert mode & 0o077 == 0, (name, oct(mode))


def test_a_second_daemon_is_refused(own_engine):
    engine = own_engine
    flags = ["--data-root", f"{engine.folder}/data", "--exec-root", f"{engine.folder}/run"]
    from daemon_process import REPOSITORY, sys
    done = subprocess.run([sys.executable, "-m", "corten.daemon.main", *flags], cwd=REPOSITORY, capture_output=True,
                          text=True, timeout=90)
    assert done.returncode == 1 and "a daemon runs already" in done.stderr
    assert engine.api("GET", "/_ping").status == 200


def test_bad_flags():
    from daemon_process import REPOSITORY, sys
    for flags, text in ((["-H", "tcp://0.0.0.0:2375"], "tcp needs --tlsverify"), (["--bip", "x"], "invalid CIDR address: x"), (["--nope"], "--nope")):
        done = subprocess.run([sys.executable, "-m", "corten.daemon.main", *flags], cwd=REPOSITORY, capture_output=True,
                              text=True, timeout=90)
        assert done.returncode != 0 and text in done.stderr


def test_a_client_that_goes_away_leaves_no_half_container(own_engine):
    engine = own_engine
    for delay in (0, 0.001, 0.002, 0.005, 0.01):
        container_id = engine.create("sleep", "1000")
        with socket.socket(socket.AF_UNIX) as client:
            client.connect(engine.socket)
            client.sendall(f"POST /containers/{container_id}/start HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n".encode())
            time.sleep(delay)
        until(lambda c=container_id: row(engine, c)["Running"])
        assert engine.api("DELETE", f"/containers/{container_id}?force=1").status == 204


def _zygote_processes(engine):
    done = subprocess.run(["pgrep", "-f", f"corten.zygote.main.*{engine.folder}/run"], capture_output=True, text=True)
    return sorted(int(pid) for pid in done.stdout.split())


@pytest.mark.parametrize("which", [0, 1, 2])
def test_kill_9_of_anchor_zygote_or_pump(own_engine, which):
    """One of the three, as they were started: containers, their output, their codes and new ones go on."""
    engine = own_engine
    steady = engine.run("sh", "-c", "i=0; while :; do echo line $i; i=$((i+1)); sleep 0.005; done")
    leaver = engine.run("sh", "-c", "sleep 1; echo last; exit 21")
    pid = row(engine, steady)["Pid"]
    os.kill(_zygote_processes(engine)[which], signal.SIGKILL)
    assert engine.wait(leaver) == 21
    until(lambda: engine.logs(leaver) == "last\n")
    assert row(engine, steady)["Pid"] == pid
    new = engine.run("sh", "-c", "echo new; exit 5")
    assert engine.wait(new) == 5
    made = engine.api("POST", f"/containers/{steady}/exec", {"Cmd": ["echo", "alive"], "AttachStdout": True}).json["Id"]
    assert b"alive" in engine.api("POST", f"/exec/{made}/start", {}).body
    numbers = [int(n) for n in re.findall(r"line (\d+)\n", engine.logs(steady))]
    assert numbers == list(range(len(numbers))) and numbers
    assert engine.api("POST", f"/containers/{steady}/stop?t=0").status == 204
