"""What a machine may do to an engine: full disks, no descriptors, no processes, damaged files, stopped parts.

Each leads to an error that says so, and nothing is lost: once the machine is well again, so is everything else.
"""

import ctypes
import json
import os
import resource
import shutil
import signal
import sqlite3
import struct
import subprocess
import sys
import threading
import time
from contextlib import contextmanager

import pytest
from daemon_process import DOCKER, REPOSITORY

PATIENCE_S = 60


def until(condition, what):
    deadline = time.monotonic() + PATIENCE_S
    while not (found := condition()):
        assert time.monotonic() < deadline, f"it does not happen: {what}"
        time.sleep(0.02)
    return found


def works(engine, ref="steady"):
    """Whether the engine does all it should: exec, run, output and codes."""
    done = engine.docker("exec", ref, "sh", "-c", "echo in; exit 3")
    assert (done.stdout, done.returncode) == ("in\n", 3), done
    done = engine.docker("run", "--rm", "--network", "none", "busybox", "sh", "-c", "echo out; exit 4")
    assert (done.stdout, done.returncode) == ("out\n", 4), done


# --- too few descriptors, too many processes


@contextmanager
def few_descriptors(pid, spare):
    """Let a process have only `spare` more than it has now."""
    before = resource.prlimit(pid, resource.RLIMIT_NOFILE)
    highest = max(map(int, os.listdir(f"/proc/{pid}/fd")))
    resource.prlimit(pid, resource.RLIMIT_NOFILE, (highest + 1 + spare, before[1]))
    try:
        yield
    finally:
        resource.prlimit(pid, resource.RLIMIT_NOFILE, before)


@pytest.mark.parametrize("role", ["daemon", "zygote"])
def test_no_descriptors_left(own_engine, role):
    engine = own_engine
    engine.run("sleep", "1000", name="steady")
    ends = engine.run("sh", "-c", "sleep 1; echo bye; exit 42", name="ends")
    pid = engine.pid_of(role)
    refs = [engine.create("true", name=f"c{number}", HostConfig={"NetworkMode": "none"}) for number in range(12)]
    refused = []
    for spare in (0, 3, 9):
        with few_descriptors(pid, spare):
            for ref in refs[:4]:
                try:
                    answer = engine.api("POST", f"/containers/{ref}/start", timeout=3)
                except OSError:  # the daemon has no descriptor for the connection either: it waits in the backlog
                    continue
                if answer.status >= 400:
                    refused.append(answer.message)
    assert all("open files" in text or "did not come" in text or "zygote" in text for text in refused), refused
    assert engine.wait(ends) == 42 and engine.logs(ends) == "bye\n"
    works(engine)
    for ref in refs:
        assert engine.api("POST", f"/containers/{ref}/start").status in (204, 304)
        assert engine.wait(ref) == 0
    assert engine.pid_of("daemon") == engine.process.pid and engine.inspect("steady")["State"]["Running"]


def pids_group():
    """The folder under which a group with a limit of processes can be made."""
    for place in ("/sys/fs/cgroup/pids", "/sys/fs/cgroup"):
        if os.path.exists(f"{place}/cgroup.procs") and (place.endswith("pids") or "pids" in open(
                f"{place}/cgroup.controllers").read()):
            return place
    return None


def test_no_processes_left(own_engine):
    """The engine's own processes in a group that is full: no fork, no clone."""
    engine, place = own_engine, pids_group()
    if place is None or place == "/sys/fs/cgroup":
        pytest.skip("machine: no pids controller of version 1")
    engine.run("sleep", "1000", name="steady")
    ends = engine.run("sh", "-c", "sleep 1; echo bye; exit 42", name="ends")
    ref = engine.create("true", HostConfig={"NetworkMode": "none"})
    group = f"{place}/corten-test-{os.getpid()}"
    os.mkdir(group)
    moved = [engine.pid_of(role) for role in ("anchor", "zygote", "pump")]
    try:
        for pid in moved:
            with open(f"{group}/cgroup.procs", "w") as file:
                file.write(str(pid))
        with open(f"{group}/pids.max", "w") as file:
            file.write("0")
        answer = engine.api("POST", f"/containers/{ref}/start")
        if answer.status != 204:  # (a launcher that was there already makes one in its own group)
            assert "temporarily unavailable" in answer.message, answer.body
        os.kill(engine.pid_of("pump"), signal.SIGKILL)  # and none can take its place for now
        assert engine.wait(ends) == 42
        assert engine.inspect("steady")["State"]["Running"]
        with open(f"{group}/pids.max", "w") as file:
            file.write("max")
        until(lambda: engine.pid_of("pump"), "another pump")
        assert engine.logs(ends) == "bye\n"
        works(engine)
        assert engine.api("POST", f"/containers/{ref}/start").status in (204, 304)
        assert engine.wait(ref) == 0
    finally:
        with open(f"{group}/cgroup.procs") as file:
            inside = file.read().split()
        for pid in inside:
            with open(f"{place}/cgroup.procs", "w") as file:
                file.write(pid)
        os.rmdir(group)


# --- stopped parts


@pytest.mark.parametrize("role", ["zygote", "pump", "anchor"])
def test_a_part_that_is_stopped(own_engine, role):
    """Nobody is answered wrongly meanwhile, and all goes on afterwards."""
    engine = own_engine
    engine.run("sleep", "1000", name="steady")
    ends = engine.run("sh", "-c", "sleep 0.5; head -c 300000 /dev/zero; echo bye; exit 42", name="ends")
    ref = engine.create("sh", "-c", "exit 5", HostConfig={"NetworkMode": "none"})
    pid = engine.pid_of(role)
    os.kill(pid, signal.SIGSTOP)
    answers = []
    asking = threading.Thread(target=lambda: answers.append(engine.api("POST", f"/containers/{ref}/start")))
    try:
        asking.start()
        time.sleep(0.7)
        assert engine.api("GET", "/_ping").status == 200
        assert len(engine.api("GET", "/containers/json?all=1").json) == 3
        assert engine.inspect("steady")["State"]["Running"]
    finally:
        os.kill(pid, signal.SIGCONT)
    asking.join(PATIENCE_S)
    assert answers[0].status == 204
    assert engine.wait(ref) == 5
    assert engine.wait(ends) == 42
    assert until(lambda: engine.logs(ends).endswith("bye\n"), "the output is there")
    assert len(engine.logs(ends)) == 300004
    works(engine)


def test_output_is_told_however_late(own_engine):
    """Also by `run --rm`, after which there is no log to look into."""
    engine = own_engine
    engine.run("sleep", "1000", name="steady")
    pump = until(lambda: engine.pid_of("pump"), "a pump")
    os.kill(pump, signal.SIGSTOP)
    try:
        running = subprocess.Popen([DOCKER, "-H", f"unix://{engine.socket}", "run", "--rm", "--network", "none", "busybox",
                                    "sh", "-c", "echo out; exit 3"], stdout=subprocess.PIPE, text=True)
        time.sleep(7)
    finally:
        os.kill(pump, signal.SIGCONT)
    assert running.communicate(timeout=PATIENCE_S)[0] == "out\n" and running.returncode == 3


def test_the_code_of_an_exec_is_told_however_late(own_engine):
    """The output's end is seen at once; the end itself is the zygote's to tell."""
    engine = own_engine
    engine.run("sleep", "1000", name="steady")
    exec_ = [DOCKER, "-H", f"unix://{engine.socket}", "exec", "-i", "steady", "sh", "-c", "echo up; read word; exit 7"]
    with subprocess.Popen(exec_, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as running:
        assert running.stdout.readline() == "up\n"
        zygote = engine.pid_of("zygote")
        os.kill(zygote, signal.SIGSTOP)
        try:
            running.stdin.write("go\n")
            running.stdin.flush()
            time.sleep(3)
        finally:
            os.kill(zygote, signal.SIGCONT)
        assert running.wait(PATIENCE_S) == 7


# --- a full disk


@pytest.fixture
def small_root(own_engine):
    """`fill` and `free` the disk of a daemon's data root."""
    engine = own_engine
    engine.stop()
    data, kept = f"{engine.folder}/data", f"{engine.folder}/kept"
    os.rename(data, kept)
    os.mkdir(data)
    libc = ctypes.CDLL(None, use_errno=True)
    assert libc.mount(b"none", data.encode(), b"tmpfs", 0, b"size=48m,mode=700") == 0
    try:
        subprocess.run(["cp", "-a", f"{kept}/.", data], check=True)
        engine.start()
        yield engine
        engine.clear()
        engine.stop()
    finally:
        libc.umount2(data.encode(), 2)
        shutil.rmtree(data)
        os.rename(kept, data)


def fill(engine):
    """To the last byte."""
    with open(f"{engine.folder}/data/filler", "ab", buffering=0) as file:
        size = 1 << 20
        while size:
            try:
                file.write(b"x" * size)
            except OSError:
                size //= 2


def test_a_full_disk_is_said_and_survived(small_root):
    engine = small_root
    engine.run("sleep", "1000", name="steady")
    talks = engine.run("sh", "-c", "while :; do echo word; usleep 1000; done", name="talks")
    ends = engine.run("sh", "-c", "sleep 1; exit 42", name="ends")
    fill(engine)
    for url, body in (("/containers/create?name=late", {"Image": "busybox", "Cmd": ["true"]}),
                      ("/volumes/create", {"Name": "late"})):
        answer = engine.api("POST", url, body)
        assert answer.status in (201, 500) and (answer.status == 201 or "no space left" in answer.message.lower())
    assert engine.api("GET", "/_ping").status == 200
    assert engine.wait(ends) == 42
    os.unlink(f"{engine.folder}/data/filler")
    works(engine)
    assert engine.inspect(ends)["State"]["ExitCode"] == 42
    engine.api("POST", "/containers/late/start")
    names = {row["Names"][0]: row["State"] for row in engine.api("GET", "/containers/json?all=1").json}
    assert names["/steady"] == names["/talks"] == "running" and names["/ends"] == "exited"
    fill(engine)
    engine.kill()
    time.sleep(0.3)
    os.unlink(f"{engine.folder}/data/filler")
    engine.start()
    works(engine)
    assert engine.inspect(ends)["State"]["ExitCode"] == 42 and engine.inspect(talks)["State"]["Running"]
    assert set(engine.logs(talks).splitlines()) <= {"word", ""} | {
        line for line in engine.logs(talks).splitlines() if line.startswith("[corten: ")}


# --- damaged files


def refused_start(engine):
    """What the daemon says when it does not start."""
    done = subprocess.run(
        [sys.executable, "-m", "corten.daemon.main", "-H", f"unix://{engine.socket}", *engine.flags],
        capture_output=True, text=True, timeout=PATIENCE_S, cwd=REPOSITORY, stdin=subprocess.DEVNULL)
    assert done.returncode == 1 and "Traceback" not in done.stderr, done.stderr
    return done.stderr


def _cut(path):
    os.truncate(path, 0)


def _flip(path):
    with open(path, "r+b") as file:
        file.write(b"\xff" * 4096)


def _half(path):
    os.truncate(path, os.path.getsize(path) // 2 // 4096 * 4096)


def _row(path):
    with sqlite3.connect(path) as database:
        database.execute("UPDATE container SET record = CAST('{\"Id\": 5' AS BLOB)")


@pytest.mark.parametrize("damage", [_cut, _flip, _half, _row, os.unlink], ids=lambda f: f.__name__)
def test_a_damaged_database_is_refused_and_touched_by_nobody(own_engine, damage):
    engine, database = own_engine, f"{own_engine.folder}/data/corten.db"
    ref = engine.run("sh", "-c", "echo kept; sleep 1000", name="steady", HostConfig={"NetworkMode": "none"})
    pid = engine.inspect(ref)["State"]["Pid"]
    engine.kill()
    with sqlite3.connect(database) as connection:  # fold the log into the file, as a clean end does
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    for name in ("-wal", "-shm"):
        if os.path.exists(database + name):
            os.unlink(database + name)
    shutil.copy(database, f"{engine.folder}/kept.db")
    damage(database)
    assert "corten.db" in (said := refused_start(engine)) or "damaged" in said
    os.kill(pid, 0)  # it runs on
    shutil.copy(f"{engine.folder}/kept.db", database)
    engine.start()
    assert engine.inspect(ref)["State"]["Pid"] == pid
    assert engine.logs(ref) == "kept\n"
    works(engine)


GARBAGE = [b"", b"{", b"null", b"[]", b"\xff\xfe\x00", b'{"status": "x"}', b"{}" * 5000]


def test_damaged_files_of_a_run(own_engine):
    """Exit files, bundles, state files and logs with anything in them: the others do not notice."""
    engine = own_engine
    engine.run("sleep", "1000", name="steady")
    refs = [engine.run("sh", "-c", "echo line; sleep 1000", name=f"c{number}") for number in range(len(GARBAGE))]
    until(lambda: all(engine.logs(ref) == "line\n" for ref in refs), "they have written")
    engine.kill()
    for ref, garbage in zip(refs, GARBAGE, strict=True):
        places = [f"run/exits/{ref}.json", f"run/runtime/{ref}/config.json", f"run/runtime/{ref}/state.json",
                  f"run/runtime/{ref}/rootfs.json", f"data/containers/{ref}/log.idx",
                  f"data/containers/{ref}/log.conf"]
        for place in places:
            with open(f"{engine.folder}/{place}", "wb") as file:
                file.write(garbage)
    with open(f"{engine.folder}/run/exits/junk", "wb") as file:
        file.write(b"junk")
    engine.start()
    for ref in refs:
        assert engine.inspect(ref)["State"]["Running"]
        assert engine.api("GET", f"/containers/{ref}/logs?stdout=1&tail=5&timestamps=1").status == 200
        made = engine.api("POST", f"/containers/{ref}/exec", {"Cmd": ["true"]}).json["Id"]
        assert engine.api("POST", f"/exec/{made}/start", {"Detach": True}).status in (200, 400, 500)
        assert engine.api("POST", f"/containers/{ref}/kill").status == 204
        assert engine.wait(ref) == 137
        assert engine.api("POST", f"/containers/{ref}/start").status == 204  # the files are made anew
        assert engine.api("DELETE", f"/containers/{ref}?force=1").status == 204
    works(engine)


# --- clocks


def test_a_clock_that_was_set_back_and_forth(own_engine):
    """Ends keep their codes and logs their lines, whatever the times on record say."""
    engine = own_engine
    ref = engine.run("sh", "-c", "for i in 1 2 3 4 5 6; do echo line $i; sleep 0.3; done; exit 7", name="ends")
    kept = f"{engine.folder}/run/exits/{ref}.json"
    engine.kill()
    until(lambda: os.path.exists(kept), "its end is on record")
    hour_ns = 3600 * 10**9
    with open(kept) as file:
        record = json.load(file)
    index = f"{engine.folder}/data/containers/{ref}/log.idx"
    with open(index, "r+b") as file:
        entries = [list(struct.unpack("<QQ", file.read(16))) for _ in range(os.path.getsize(index) // 16)]
        for number, entry in enumerate(entries):
            entry[0] += hour_ns if number % 2 else -hour_ns
        file.seek(0)
        file.write(b"".join(struct.pack("<QQ", *entry) for entry in entries))
    with open(kept, "w") as file:
        json.dump({**record, "time_ns": record["time_ns"] - hour_ns}, file)
    engine.start()
    assert engine.wait(ref) == 7
    assert engine.logs(ref) == "".join(f"line {number}\n" for number in range(1, 7))
    for query in ("tail=3", "since=1", "until=9999999999", "timestamps=1", "since=1&timestamps=1&tail=2"):
        assert engine.api("GET", f"/containers/{ref}/logs?stdout=1&{query}").status == 200
    row, = engine.api("GET", "/containers/json?all=1").json
    assert row["Status"].startswith("Exited (7)") and "-" not in row["Status"]
    assert engine.api("POST", f"/containers/{ref}/start").status == 204 and engine.wait(ref) == 7
