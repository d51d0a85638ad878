"""The pump alone: what goes into the pipes is in the log, once, in order, whoever is killed when."""

import os
import random
import signal
import socket
import time

import pytest

from corten.zygote.descriptors import close_others
from corten.zygote.log_format import ENTRY, FRAME, repair
from corten.zygote.pump import main as pump_main


def frames(folder):
    data = (folder / "log").read_bytes()
    at, found = 0, []
    while at < len(data):
        stream, size = FRAME.unpack_from(data, at)
        body = data[at + FRAME.size:at + FRAME.size + size]
        assert len(body) == size, "a frame is cut short"
        found.append((at, stream, body))
        at += FRAME.size + size
    return found


class PumpProcess:
    """Forks pumps, one after the other, over the same pipes."""

    def __init__(self, folder, fds):
        self.folder, self.fds = folder, fds
        self.start()

    def start(self):
        self.mine, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self.pid = os.fork()
        if self.pid == 0:
            self.mine.close()
            close_others({0, 1, 2, theirs.fileno(), *self.fds.values()})
            try:
                pump_main(theirs, str(self.folder / "lock"), [("c", str(self.folder), dict(self.fds))])
            finally:
                os._exit(0)
        theirs.close()

    def kill(self):
        os.kill(self.pid, signal.SIGKILL)
        os.waitpid(self.pid, 0)
        self.mine.close()

    def drained(self):
        self.mine.settimeout(100)
        assert self.mine.recv(100) == b"Dc"
        self.mine.close()
        os.waitpid(self.pid, 0)


def writer(descriptor, lines, name):
    pid = os.fork()
    if pid == 0:
        for number in range(lines):
            os.write(descriptor, f"{name} {number} {'x' * (number % 200)}\n".encode())
        os._exit(0)
    return pid


def test_both_streams_arrive_whole_in_order_and_indexed(tmp_path):
    out_r, out_w = os.pipe()
    err_r, err_w = os.pipe()
    pump = PumpProcess(tmp_path, {"stdout": out_r, "stderr": err_r})
    writers = [writer(out_w, 500, "out"), writer(err_w, 300, "err")]
    for descriptor in (out_w, err_w, out_r, err_r):
        os.close(descriptor)
    pump.drained()
    for pid in writers:
        os.waitpid(pid, 0)
    got = frames(tmp_path)
    for stream, lines, name in ((1, 500, "out"), (2, 300, "err")):
        text = b"".join(body for _at, s, body in got if s == stream).decode()
        assert text == "".join(f"{name} {n} {'x' * (n % 200)}\n" for n in range(lines))
    index = (tmp_path / "log.idx").read_bytes()
    entries = [ENTRY.unpack_from(index, at) for at in range(0, len(index), ENTRY.size)]
    assert [offset for _time, offset in entries] == [at for at, _stream, _body in got]
    assert [t for t, _ in entries] == sorted(t for t, _ in entries)


def test_kill_9_at_any_moment_loses_and_doubles_nothing(tmp_path):
    out_r, out_w = os.pipe()
    err_r, err_w = os.pipe()
    fds = {"stdout": out_r, "stderr": err_r}
    pump = PumpProcess(tmp_path, fds)
    writers = [writer(out_w, 60000, "out"), writer(err_w, 30000, "err")]
    os.close(out_w)
    os.close(err_w)
    dice = random.Random(7)
    for _ in range(60):
        time.sleep(dice.uniform(0, 0.004))
        pump.kill()
        pump.start()
    pump.drained()
    for pid in writers:
        os.waitpid(pid, 0)
    got = frames(tmp_path)
    for stream, lines, name in ((1, 60000, "out"), (2, 30000, "err")):
        text = b"".join(body for _at, s, body in got if s == stream).decode()
        assert text == "".join(f"{name} {n} {'x' * (n % 200)}\n" for n in range(lines))


def test_a_terminal_loses_nothing_either(tmp_path):
    master, slave = os.openpty()
    os.set_blocking(master, False)
    relay_out, relay_in = os.pipe()
    pump = PumpProcess(tmp_path, {"console": master, "relay_out": relay_out, "relay_in": relay_in})
    pid = writer(slave, 5000, "tty")
    os.close(slave)
    dice = random.Random(3)
    for _ in range(20):
        time.sleep(dice.uniform(0, 0.003))
        pump.kill()
        pump.start()
    pump.drained()
    os.waitpid(pid, 0)
    text = b"".join(body for _at, _s, body in frames(tmp_path)).decode()
    assert text == "".join(f"tty {n} {'x' * (n % 200)}\r\n" for n in range(5000))


@pytest.mark.parametrize(
    ("log", "index", "last", "header", "want"),
    [
        (0, 0, 0, b"", (0, 0, 0)),                                        # nothing yet
        (0, 16, 0, b"", (0, 0, 0)),                                       # killed between entry and header
        (5, 16, 0, b"\x01\0\0\0\0", (0, 0, 0)),                           # in the header
        (8, 16, 0, FRAME.pack(2, 10), (8, 16, 10)),                       # between header and bytes
        (15, 16, 0, FRAME.pack(1, 10), (15, 16, 3)),                      # in the bytes
        (18, 16, 0, FRAME.pack(1, 10), (18, 16, 0)),                      # after
        (18, 35, 18, b"", (18, 16, 0)),                                   # torn second entry is dropped with the first
    ],
)
def test_repair_of_every_torn_tail(log, index, last, header, want):
    tail = repair(log, index, last, header)
    assert (tail.log_bytes, tail.index_bytes, tail.missing_bytes) == want


def test_a_full_disk_costs_bytes_that_are_counted_and_never_blocks(tmp_path, small_disk):
    out_r, out_w = os.pipe()
    err_r, err_w = os.pipe()
    folder = small_disk(256 << 10)
    pump = PumpProcess(folder, {"stdout": out_r, "stderr": err_r})
    os.close(err_w)
    for _ in range(400):
        os.write(out_w, b"y" * 4096)  # would block for ever if the pump stopped reading
    time.sleep(0.3)
    os.truncate(folder / "filler", 0)
    os.write(out_w, b"there is room again\n")
    os.close(out_w)
    pump.drained()
    body = b"".join(body for _at, _s, body in frames(folder))
    assert b"there is room again\n" in body
    lost = sum(int(part.split(b" bytes")[0]) for part in body.split(b"[corten: ")[1:])
    assert lost > 0
    kept = sum(len(b) for _at, _s, b in frames(folder) if not b.startswith(b"[corten: "))
    assert kept + lost == 400 * 4096 + len(b"there is room again\n")


@pytest.fixture
def small_disk(tmp_path):
    """A folder on a tmpfs of its own, with a file `filler` that can be cut to make room."""
    import ctypes

    libc = ctypes.CDLL(None, use_errno=True)
    mounted = []

    def make(size):
        folder = tmp_path / "disk"
        folder.mkdir()
        assert libc.mount(b"none", bytes(folder), b"tmpfs", 0, f"size={size}".encode()) == 0
        mounted.append(folder)
        (folder / "filler").write_bytes(b"f" * (size // 2))
        return folder

    yield make
    for folder in mounted:
        libc.umount2(bytes(folder), 2)
