"""A container with CAP_SYS_PTRACE in the host's user namespace looks into each exec on its way in, and finds nothing."""

import json
import os
import sys
import time
import uuid
from pathlib import Path

import pytest
from runtime_box import CAPABILITIES, read_console, settle

from corten.linux import process
from corten.runtime import exec as runtime_exec

# Runs in the container as its root, over and over; what it has seen of others so far goes into a file when asked.
WATCHER = '''
import json, os, time
seen = {"power": 0, "environ": "", "fds": [], "filtered": [], "secret": False, "exes": []}
kept = {}
def look(pid, deep):
    status = dict(line.split(":", 1) for line in open(f"/proc/{pid}/status").read().splitlines())
    seen["power"] |= int(status["CapPrm"], 16) | int(status["CapEff"], 16)
    seen["environ"] += open(f"/proc/{pid}/environ").read()
    if not deep:
        return
    seen["filtered"].append((status["Seccomp"].strip(), status["NoNewPrivs"].strip()))
    folder = f"/proc/{pid}/fd"
    seen["fds"] += [os.readlink(f"{folder}/{name}").split(":")[0] for name in os.listdir(folder)]
    kept[pid] = os.open(f"/proc/{pid}/exe", os.O_RDONLY)
    secret = open("/v/ask").read()[::-1].encode()
    with open(f"/proc/{pid}/mem", "rb", 0) as memory:
        for line in open(f"/proc/{pid}/maps").read().splitlines():
            first, last = (int(end, 16) for end in line.split()[0].split("-"))
            try:
                memory.seek(first)
                seen["secret"] |= secret in memory.read(last - first)
            except (OSError, OverflowError, ValueError):
                pass
while True:
    deep = os.path.exists("/v/ask") and not os.path.exists("/v/answer")
    for name in os.listdir("/proc"):
        if name.isdigit() and int(name) != os.getpid():
            try:
                look(int(name), deep)
            except OSError:
                pass
    if deep:
        seen["exes"] = [bool(os.fstatvfs(one).f_flag & os.ST_RDONLY) for one in kept.values()]
        open("/v/part", "w").write(json.dumps(seen))
        os.rename("/v/part", "/v/answer")
    if not os.path.exists("/v/ready"):
        open("/v/ready", "w").close()
'''
POWER = [*CAPABILITIES, "CAP_SYS_PTRACE"]
BITS = sum(1 << number for number in (0, 1, 3, 4, 5, 6, 7, 8, 10, 18, 31, 19))  # linux/capability.h, as in POWER
ALL = {"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [{"names": ["swapon"], "action": "SCMP_ACT_ERRNO"}]}
NO_SESSION = {"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [{"names": ["setsid"], "action": "SCMP_ACT_ERRNO"}]}


def wait_for(path):
    deadline = time.monotonic() + 120
    while not os.path.exists(path):
        assert time.monotonic() < deadline, f"no {path}"
        time.sleep(0.01)


class Watched:
    """A container in which the watcher runs."""

    def __init__(self, boxes, **linux):
        self.boxes = boxes
        self.volume = f"{boxes.folder}/volume"
        os.mkdir(self.volume)
        Path(self.volume, "watch.py").write_text(WATCHER)
        python = os.path.realpath(sys.executable)
        spec = boxes.spec(python, "-IS", "/v/watch.py")
        for kind in ("bounding", "permitted", "effective"):
            spec["process"]["capabilities"][kind] = POWER
        folders = [place for place in ("/usr", "/lib", "/lib64", sys.base_prefix) if os.path.isdir(place)]
        spec["mounts"] += [{"destination": "/v", "type": "bind", "source": self.volume, "options": ["bind"]}, *(
            {"destination": place, "type": "bind", "source": os.path.realpath(place), "options": ["rbind", "ro"]}
            for place in dict.fromkeys(folders))]
        spec["linux"].update(linux)
        self.child, self.bundle = boxes.start(spec)
        assert self.child.failure is None, self.child.failure
        self.begun = []
        wait_for(f"{self.volume}/ready")

    def begin(self, *arguments, **fields):
        """An exec that waits for its start."""
        target = runtime_exec.Target(self.bundle.id, self.child.pid, self.child.pidfd, self.bundle.spec)
        document = {**self.bundle.spec["process"], "args": list(arguments), **fields}
        read, write = os.pipe()
        try:
            one = runtime_exec.spawn_exec(target, document, (0, write, write))
        finally:
            os.close(write)
        self.begun.append(one)
        while one.state in ("creating", "born"):
            one.wait()
        return one, read

    def close(self):
        """The container's first process ends when all others are reaped."""
        for one in self.begun:
            try:
                os.kill(one.pid, 9)
                os.waitpid(one.pid, 0)
            except (ProcessLookupError, ChildProcessError):
                pass  # the test has come to its end

    def ask(self, secret):
        """What has been seen up to now; `secret` is looked for in the memory of all others."""
        Path(self.volume, "part-ask").write_text(secret[::-1])
        os.rename(f"{self.volume}/part-ask", f"{self.volume}/ask")
        wait_for(f"{self.volume}/answer")
        return json.loads(Path(self.volume, "answer").read_text())


@pytest.fixture
def watch(boxes):
    made = []

    def make(**linux):
        made.append(Watched(boxes, **linux))
        return made[0]

    yield make
    for one in made:
        one.close()


@pytest.mark.parametrize(("profile", "expected"), [
    (None, ["0", "0"]), (ALL, ["2", "0"]), (NO_SESSION, ["0", "1"]),
], ids=["no filter", "a filter that is in force", "a filter that comes last"])
def test_an_exec_on_its_way_has_nothing_to_be_had(boxes, watch, profile, expected):
    """It waits for its start, and everything that can be looked at is looked at."""
    secret = f"secret-{uuid.uuid4()}"
    watched = watch(**({"seccomp": profile} if profile else {}))
    one, read = watched.begin("sh", "-c", "grep -E '^(Seccomp|NoNewPrivs):' /proc/self/status")
    assert one.state == "created", one.failure
    seen = watched.ask(secret)
    assert seen["power"] & ~BITS == 0, "more capabilities than the container's"
    assert seen["environ"] == "", "somebody else's environment"
    assert not seen["secret"], "somebody else's memory"
    assert seen["filtered"] == [expected]
    assert set(seen["fds"]) <= {"/dev/null", "pipe", "socket", os.readlink("/proc/self/fd/0").split(":")[0]}
    assert len(seen["fds"]) <= 6  # stdio, the channel, and perhaps still both ends of the forerunner's pipe
    assert seen["exes"] == [True], "the interpreter's file could be written to"
    one.start()
    settle(one)
    result = boxes.finish(one, read)
    assert (result.code, result.failure) == (0, None)
    assert f"Seccomp:\t{2 if profile else 0}" in result.output
    assert f"NoNewPrivs:\t{expected[1]}" in result.output


def test_execs_under_the_eyes_of_a_tracer(boxes, watch):
    """From the birth to the execve nobody has more than the program."""
    watched = watch()
    for _ in range(30):
        result = boxes.exec(watched.child, watched.bundle, "true", env=["PATH=/bin"])
        assert (result.code, result.failure) == (0, None)
    seen = watched.ask("nothing")
    assert seen["power"] & ~BITS == 0
    assert seen["environ"].replace("PATH=/bin\0", "").replace("HOME=/root\0", "") == ""


def test_what_is_told_and_given_is_as_ever(boxes, watch):
    """User, groups, working folder, terminal, control group, exit code, and failures by their step."""
    watched = watch()

    def run(*arguments, **fields):
        return boxes.exec(watched.child, watched.bundle, *arguments, **fields)

    user = {"uid": 1000, "gid": 1000, "additionalGids": [7], "umask": 0o027}
    assert run("sh", "-c", "id -u; id -G; umask; pwd", user=user, cwd="/tmp").output == "1000\n1000 7\n0027\n/tmp\n"
    assert run("cat", "/proc/self/cgroup").output == run("cat", "/proc/1/cgroup").output
    assert run("sh", "-c", "exit 7").code == 7
    assert run("sh", "-c", "kill -9 $$").code == -9
    for kind in ("pid", "mnt", "net", "ipc", "uts", "cgroup"):
        assert run("readlink", f"/proc/self/ns/{kind}").output == run("readlink", f"/proc/1/ns/{kind}").output
    for arguments, text in ((("nosuch",), "not found in $PATH"), (("/proc/self/exe",), "/proc/self/exe"),
                            (("/etc/passwd",), "permission denied")):
        with pytest.raises(Exception, match="exec: ") as caught:
            run(*arguments)
        assert text in str(caught.value)
    Path(watched.volume, "script").write_text("#!/proc/self/exe\n")
    os.chmod(f"{watched.volume}/script", 0o755)
    assert "permission denied" in str(run("/v/script").failure)
    one, read = watched.begin("sh", "-c", "tty; ps -o pid,sid,tty; stty size; echo end", terminal=True,
                              consoleSize={"height": 33, "width": 77})
    one.start()
    settle(one)
    assert "33 77" in read_console(one, "end", 60)
    os.close(one.console)
    boxes.finish(one, read)
    assert not [pid for pid in children() if process.is_zombie(pid)]


def children():
    with open(f"/proc/self/task/{os.getpid()}/children") as file:
        return [int(word) for word in file.read().split()]
