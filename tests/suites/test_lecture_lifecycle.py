"""A container's life by the command line: create, start, stop, restart, kill, wait, pause, rename, rm."""

import re
import time

import pytest
from daemon_process import settled, until
from lecture_client import cgroup_value

POLITE = "trap 'echo bye; exit 5' TERM; trap 'echo reload' HUP; echo up; while :; do sleep 0.05; done"


def polite(client, name="polite", *flags):
    """A container that ends with 5 on SIGTERM, once it is ready."""
    client("run", "-d", "--name", name, *flags, "busybox", "sh", "-c", POLITE)
    until(lambda: "up" in client("logs", name))
    return name


def test_create_then_start_attached(client):
    container = client("create", "--name", "once", "busybox", "sh", "-c", "echo again; echo err >&2; exit 4")
    assert client.state("once") == "created 0" and client("ps", "-q") == ""
    done = client.run("start", "-a", container)
    assert (done.stdout, done.stderr, done.returncode) == ("again\n", "err\n", 4)
    assert client("start", "once") == "once"
    assert client("wait", "once") == "4"
    assert client("logs", "once") == "again\nagain"


def test_start_with_input(client):
    client("create", "-i", "--name", "reader", "busybox", "cat")
    assert client("start", "-a", "-i", "reader", stdin="told\n") == "told"
    assert client("start", "-ai", "reader", stdin="told twice") == "told twice"


def test_start_gives_the_reason_when_the_program_is_not_there(client):
    client("create", "--name", "bad", "busybox", "nope")
    client("start", "bad", fails='exec: "nope": executable file not found in \\$PATH')
    assert client.state("bad") == "created 127"


def test_stop_asks_and_then_kills(client):
    polite(client)
    begin = time.monotonic()
    assert client("stop", "polite") == "polite"
    assert time.monotonic() - begin < 9.9 and client.state("polite") == "exited 5"
    assert client("logs", "polite") == "up\nbye"
    client("run", "-d", "--name", "deaf", "busybox", "sh", "-c", "trap '' TERM; echo up; while :; do sleep 0.05; done")
    until(lambda: client("logs", "deaf"))
    begin = time.monotonic()
    client("stop", "-t", "1", "deaf")
    assert 0.9 < time.monotonic() - begin < 9.9 and client.state("deaf") == "exited 137"
    assert client("stop", "deaf") == "deaf"  # again does no harm


def test_the_stop_signal_can_be_chosen(client):
    client("run", "-d", "--name", "quits", "--stop-signal", "QUIT", "busybox", "sh", "-c",
           "trap 'exit 33' QUIT; echo up; while :; do sleep 0.05; done")
    until(lambda: client("logs", "quits"))
    client("stop", "quits")
    assert client.state("quits") == "exited 33"


def test_restart_is_a_new_process_in_the_same_container(client):
    client("run", "-d", "--name", "again", "busybox", "sh", "-c", "echo start >>/count; wc -l </count; exec sleep 100")
    until(lambda: client("logs", "again") == "1")
    before = client.pid("again")
    assert client("restart", "-t", "0", "again") == "again"
    until(lambda: client("logs", "again") == "1\n2")
    assert client.pid("again") not in (0, before) and client.state("again") == "running 0"


def test_kill_sends_what_it_is_told(client):
    polite(client)
    assert client("kill", "-s", "HUP", "polite") == "polite"
    until(lambda: client("logs", "polite") == "up\nreload")
    assert client.state("polite") == "running 0"
    client("kill", "polite")
    assert client("wait", "polite") == "137" and client.state("polite") == "exited 137"
    client("kill", "polite", fails="is not running")
    client("kill", "-s", "NOPE", "polite", fails="(?i)invalid signal")


def test_wait_blocks_and_tells_every_code(client):
    client("run", "-d", "-i", "--name", "one", "busybox", "sh", "-c", "read line; exit 1")
    client("run", "-d", "--name", "two", "busybox", "sh", "-c", "exit 2")
    waiting = client.start("wait", "one", "two")
    time.sleep(0.5)
    assert waiting.poll() is None
    assert client("attach", "one", stdin="go\n", code=1) == ""
    assert waiting.communicate(timeout=90)[0].split() == ["1", "2"] and waiting.returncode == 0


def test_pause_freezes_and_unpause_goes_on(client):
    client("run", "-d", "--name", "ticker", "busybox", "sh", "-c", "while :; do echo tick; sleep 0.02; done")
    until(lambda: client("logs", "--tail", "1", "ticker"))
    assert client("pause", "ticker") == "ticker"
    assert client("ps", "--format", "{{.Names}} {{.State}} {{.Status}}").startswith("ticker paused Up ")
    before = settled(lambda: client("logs", "ticker"))
    time.sleep(0.2)
    assert client("logs", "ticker") == before
    client("pause", "ticker", fails="is already paused")
    client("exec", "ticker", "true", fails="is paused")
    assert client("unpause", "ticker") == "ticker"
    until(lambda: len(client("logs", "ticker")) > len(before))
    client("unpause", "ticker", fails="is not paused")


def test_rename(client):
    container = client("create", "--name", "old", "busybox")
    assert client("rename", "old", "new") == ""
    assert client("inspect", "-f", "{{.Id}}", "new") == container
    client("inspect", "old", fails="(?i)no such object: old")
    client("create", "--name", "other", "busybox")
    client("rename", "other", "new", fails="already in use by container")


def test_rm(client):
    client("run", "-d", "--name", "busy", "-v", "kept:/kept", "-v", "/anonymous", "busybox", "sleep", "100")
    client("rm", "busy", fails="container is running: stop the container before removing or force remove")
    assert len(client("volume", "ls", "-q").split()) == 2
    assert client("rm", "-f", "-v", "busy") == "busy"
    assert client("ps", "-aq") == "" and client("volume", "ls", "-q") == "kept"
    client("rm", "busy", fails="No such container: busy")
    client("rm", "-f", "busy")  # force does not mind
    ids = [client("create", "busybox") for _ in range(3)]
    assert client("rm", *ids).split() == ids


def test_exec(client):
    client("run", "-d", "--name", "host", "-e", "A=1", "busybox", "sleep", "100")
    assert client("exec", "host", "sh", "-c", "echo $A; hostname") == f"1\n{client('inspect', '-f', '{{.Config.Hostname}}', 'host')}"
    assert client("exec", "-i", "host", "wc", "-c", stdin="x" * 70_000) == "70000"
    assert client("exec", "-e", "B=2", "-w", "/tmp", "-u", "nobody", "host", "sh", "-c", "echo $B; pwd; id -un") == "2\n/tmp\nnobody"
    assert client("exec", "host", "cat", "/proc/1/comm") == "sleep"
    for command, code in ((["sh", "-c", "exit 9"], 9), (["nope"], 127), (["/etc"], 126), (["sh", "-c", "kill -9 $$"], 137)):
        assert client.run("exec", "host", *command).returncode == code
    client("exec", "-d", "host", "sh", "-c", "echo done >/tmp/flag")
    until(lambda: client.run("exec", "host", "cat", "/tmp/flag").stdout == "done\n")
    client("stop", "-t", "0", "host")
    client("exec", "host", "true", fails="is not running")


def test_attach_without_a_terminal(client):
    client("run", "-d", "-i", "--name", "echoes", "busybox", "sh", "-c", "while read line; do echo \"<$line>\"; done; exit 8")
    attached = client.start("attach", "echoes")
    attached.stdin.write("one\ntwo\n")
    attached.stdin.flush()
    assert attached.stdout.readline() + attached.stdout.readline() == "<one>\n<two>\n"
    client("kill", "echoes")
    assert attached.wait(90) == 137
    attached.communicate()


def test_update_changes_the_cgroup(client):
    client("run", "-d", "--name", "grow", "--memory", "32m", "busybox", "sleep", "100")
    client("update", "--memory", "64m", "--memory-swap", "128m", "--pids-limit", "44", "grow")
    pid = client.pid("grow")
    assert cgroup_value(pid, "memory", "memory.limit_in_bytes", "memory.max") == str(64 << 20)
    assert cgroup_value(pid, "pids", "pids.max", "pids.max") == "44"


def test_a_restart_policy_brings_it_back(client):
    client("run", "-d", "--name", "stubborn", "--restart", "on-failure:2", "busybox", "sh", "-c", "echo try; exit 3")
    until(lambda: client.state("stubborn") == "exited 3" and client("logs", "stubborn") == "try\ntry\ntry")
    assert client("inspect", "-f", "{{.RestartCount}}", "stubborn") == "2"


@pytest.mark.parametrize("words, text", [
    (["start", "nope"], "No such container: nope"), (["stop", "nope"], "No such container: nope"),
    (["exec", "nope", "true"], "No such container: nope"), (["logs", "nope"], "No such container: nope"),
    (["attach", "nope"], "No such container: nope"), (["wait", "nope"], "No such container: nope"),
    (["top", "nope"], "No such container: nope"), (["pause", "nope"], "No such container: nope"),
    (["rename", "nope", "x"], "No such container: nope"), (["inspect", "nope"], "(?i)no such object: nope"),
    (["cp", "nope:/x", "-"], "No such container: nope"), (["kill", "nope"], "No such container: nope"),
])
def test_a_container_that_is_not_there(client, words, text):
    first, *more = client(*words, fails=text).splitlines()
    assert re.search(text, first) and all(re.match("Error: failed to (start|rename) container", line) for line in more)
