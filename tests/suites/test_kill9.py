"""kill -9 of daemon, zygote, pump and anchor under a real docker CLI: containers live, nothing of theirs is lost."""

import os
import pty
import re
import select
import signal
import subprocess
import time

import pytest
from daemon_process import DOCKER, until

WRITER = "i=0; while [ $i -lt 4000 ]; do echo line $i; i=$((i+1)); done; sleep 0.5; exit 5"


def processes(engine):
    """pid and open files of anchor, zygote and pump of this daemon; not of the launcher, which comes and goes."""
    found = {}
    for pid in filter(str.isdigit, os.listdir("/proc")):
        try:
            with open(f"/proc/{pid}/cmdline", "rb") as file:
                command = file.read()
            with open(f"/proc/{pid}/comm") as file:
                if file.read() == "corten-launch\n":
                    continue
            if f"{engine.folder}/run".encode() not in command or b"zygote" not in command:
                continue
            links = []
            for fd in os.listdir(f"/proc/{pid}/fd"):
                try:
                    links.append(os.readlink(f"/proc/{pid}/fd/{fd}"))
                except OSError:
                    continue
            found[int(pid)] = links
        except OSError:
            continue
    return found


def roles(engine):
    """Who is who, told apart by what they hold."""
    named = {}
    for _ in range(3000):
        found = processes(engine)
        if len(found) == 3:
            break
        time.sleep(0.01)  # a launcher that has no name yet
    for pid, links in found.items():
        if any(link.endswith("/pump.lock") for link in links):
            named["pump"] = pid
        elif any("eventpoll" in link for link in links):
            named["zygote"] = pid
        else:
            named["anchor"] = pid
    return named


def kill(engine, victim):
    """SIGKILL it, and wait until all three (and the daemon) are there again."""
    if victim == "daemon":
        engine.kill()
        engine.start()
        return
    pid = roles(engine)[victim]
    os.kill(pid, signal.SIGKILL)
    deadline = time.monotonic() + 90
    while time.monotonic() < deadline:
        now = roles(engine)
        if len(now) == 3 and pid not in now.values() and len(processes(engine)) == 3:
            return
        time.sleep(0.01)
    raise AssertionError(f"{victim} did not come back: {roles(engine)}")


class Terminal:
    """A docker CLI on a pty."""

    def __init__(self, engine, *arguments):
        self.master, slave = pty.openpty()
        self.process = subprocess.Popen([DOCKER, "-H", f"unix://{engine.socket}", *arguments],
                                        stdin=slave, stdout=slave, stderr=slave, start_new_session=True)
        os.close(slave)
        self.text = b""

    def type(self, text):
        os.write(self.master, text)

    def read_until(self, wanted, timeout_s=60):
        deadline = time.monotonic() + timeout_s
        while wanted not in self.text:
            ready, _, _ = select.select([self.master], [], [], max(0, deadline - time.monotonic()))
            assert ready, f"{wanted!r} did not come: {self.text!r}"
            try:
                self.text += os.read(self.master, 65536)
            except OSError:
                break
        assert wanted in self.text, self.text
        self.text = self.text.split(wanted, 1)[1]

    def close(self):
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()
        os.close(self.master)


@pytest.fixture
def terminal(own_engine):
    made = []

    def attach(*arguments):
        made.append(Terminal(own_engine, *arguments))
        return made[-1]

    yield attach
    for one in made:
        one.close()


@pytest.mark.parametrize("victims", [["daemon"], ["zygote"], ["pump"], ["anchor"],
                                     ["zygote", "daemon", "anchor", "pump", "zygote"]], ids="-".join)
def test_nothing_is_lost(own_engine, terminal, victims):
    engine = own_engine
    assert engine.docker("run", "-d", "--name", "steady", "busybox", "sleep", "1000").returncode == 0
    assert engine.docker("run", "-d", "-it", "--name", "term", "busybox", "sh").returncode == 0
    attached = terminal("attach", "term")
    attached.type(b"echo fir''st\n")
    attached.read_until(b"first\r\n")
    waiting = subprocess.Popen([DOCKER, "-H", f"unix://{engine.socket}", "run", "--name", "fg", "busybox", "sh", "-c",
                                "sleep 3; echo done; exit 9"], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
    until(lambda: engine.docker("ps", "-q", "-f", "name=fg").stdout, "a container in the foreground")
    engine.docker("run", "-d", "--name", "writer", "busybox", "sh", "-c", WRITER)
    engine.docker("run", "-d", "--name", "leaver", "busybox", "sh", "-c", "sleep 0.3; echo bye; exit 42")
    for victim in victims:
        kill(engine, victim)
    if "daemon" in victims:
        attached = terminal("attach", "term")
    attached.type(b"echo sec''ond\n")
    attached.read_until(b"second\r\n")
    assert engine.docker("wait", "leaver").stdout == "42\n"
    assert engine.docker("logs", "leaver").stdout == "bye\n"
    assert engine.docker("wait", "writer").stdout == "5\n"
    numbers = [int(n) for n in re.findall(r"^line (\d+)$", engine.docker("logs", "writer").stdout, re.M)]
    assert numbers == list(range(4000))
    assert engine.docker("wait", "fg").stdout == "9\n"
    out, _ = waiting.communicate(timeout=90)
    if "daemon" not in victims:
        assert (out, waiting.returncode) == (b"done\n", 9)
    listed = engine.docker("ps", "-a", "--format", "{{.Names}} {{.Status}}").stdout
    assert re.search(r"^steady Up", listed, re.M) and re.search(r"^leaver Exited \(42\)", listed, re.M)
    done = engine.docker("exec", "steady", "sh", "-c", "echo inside; exit 3")
    assert (done.stdout, done.returncode) == ("inside\n", 3)
    attached.type(b"exit 6\n")
    assert engine.docker("wait", "term").stdout == "6\n"
    assert engine.docker("run", "--rm", "busybox", "echo", "after").stdout == "after\n"
    assert engine.docker("rm", "-f", "steady", "term", "writer", "leaver", "fg").returncode == 0


def test_all_is_gone_afterwards(leaks, own_engine):
    engine = own_engine
    for victim in ("zygote", "anchor", "daemon", "pump"):
        assert engine.docker("run", "-d", "--name", f"c-{victim}", "-p", "127.0.0.1::80", "busybox", "sleep", "1000").returncode == 0
        kill(engine, victim)
    assert engine.docker("rm", "-f", "c-zygote", "c-anchor", "c-daemon", "c-pump").returncode == 0
