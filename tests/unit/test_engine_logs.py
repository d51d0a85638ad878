"""Reading and following a container's log files, written here frame by frame as the pump does."""

import asyncio
import os
import struct

import pytest

from corten.engine.follow import Follower, LogWatch
from corten.engine.log_files import LogFiles
from corten.engine.logs import BY_LINE_BYTES, LogReading, LogRequest
from corten.engine.streams import FileSpan
from corten.zygote.log_format import ENTRY, FRAME

SECOND = 1_000_000_000
START = 1_700_000_000 * SECOND


class Pump:
    def __init__(self, folder):
        self.log = open(folder / "log", "ab", buffering=0)
        self.index = open(folder / "log.idx", "ab", buffering=0)
        self.time = START

    def write(self, data, stream=1, cut=None):
        self.index.write(ENTRY.pack(self.time, self.log.tell()))
        self.log.write((FRAME.pack(stream, len(data)) + data)[:cut])
        self.time += SECOND


@pytest.fixture
def pump(tmp_path):
    return Pump(tmp_path)


def materialise(pieces):
    out = b""
    for piece in pieces:
        out += os.pread(piece.fd, piece.size, piece.offset) if isinstance(piece, FileSpan) else piece
    return out


def read(folder, tty=False, **request):
    async def run():
        with LogFiles(str(folder)) as files:
            return materialise([piece async for piece in LogReading(files, LogRequest(**request), tty).pieces()])

    return asyncio.run(run())


def texts(data):
    found = []
    while data:
        stream, size = FRAME.unpack_from(data)
        found.append((stream, data[8:8 + size]))
        data = data[8 + size:]
    return found


def lines(data):
    return [line for _, text in texts(data) for line in text.splitlines(keepends=True)]


def test_full_read_of_much_is_the_file_itself(tmp_path, pump):
    for _ in range(BY_LINE_BYTES // 8 + 1):
        pump.write(b"one\ntwo\n")
    pump.write(b"err\n", 2)
    assert read(tmp_path) == (tmp_path / "log").read_bytes()


def test_full_read_of_little_is_a_frame_a_line(tmp_path, pump):
    pump.write(b"one\ntwo\r\nthr")
    pump.write(b"err\n", 2)
    assert texts(read(tmp_path)) == [(1, b"one\n"), (1, b"two\r\n"), (1, b"thr"), (2, b"err\n")]


def test_one_stream_and_terminal(tmp_path, pump):
    pump.write(b"out\n")
    pump.write(b"err\n", 2)
    assert texts(read(tmp_path, stdout=False)) == [(2, b"err\n")]
    assert read(tmp_path, tty=True, stderr=False) == b"out\n"


@pytest.mark.parametrize("cut", [0, 3, 8, 10])
def test_a_cut_last_frame_is_left_out(tmp_path, pump, cut):
    pump.write(b"whole\n")
    pump.write(b"never whole\n", cut=cut)
    assert texts(read(tmp_path)) == [(1, b"whole\n")]
    assert b"never" not in read(tmp_path, timestamps=True)
    assert texts(read(tmp_path, tail=5)) == [(1, b"whole\n")]


def test_lines_are_joined_across_frames_for_timestamps(tmp_path, pump):
    pump.write(b"be")
    pump.write(b"E", 2)
    pump.write(b"gin\nnext\nlast without end")
    found = lines(read(tmp_path, timestamps=True))
    assert [text.split(b" ", 1)[1] for text in found] == [b"begin\n", b"next\n", b"E", b"last without end"]
    assert found[:2] == [b"2023-11-14T22:13:22.000000000Z begin\n", b"2023-11-14T22:13:22.000000000Z next\n"]


def test_details_come_after_the_timestamp(tmp_path, pump):
    pump.write(b"a\n")
    assert texts(read(tmp_path, timestamps=True, details=True)) == [(1, b"2023-11-14T22:13:20.000000000Z  a\n")]


@pytest.mark.parametrize(("tail", "expected"), [
    (0, []), (3, [b"line 998\n", b"line 999\n", b"tail"]), (1, [b"tail"]), (2, [b"line 999\n", b"tail"]), (5000, None),
])
def test_tail(tmp_path, pump, tail, expected):
    for number in range(1000):
        pump.write(b"line %d\n" % number, 1 + number % 2)
    pump.write(b"tail")
    found = lines(read(tmp_path, tail=tail))
    if expected is None:
        assert len(found) == 1001
    else:
        assert found == expected


def test_tail_of_lines_spread_over_many_frames(tmp_path, pump):
    pump.write(b"first\n")
    for _ in range(600):
        pump.write(b"x")
    pump.write(b"\nlast\n")
    assert lines(read(tmp_path, tail=2)) == [b"x" * 600 + b"\n", b"last\n"]


def test_since_and_until(tmp_path, pump):
    for number in range(10):
        pump.write(b"%d\n" % number)
    found = texts(read(tmp_path, since_ns=START + 3 * SECOND, until_ns=START + 5 * SECOND))
    assert [text for _, text in found] == [b"3\n", b"4\n", b"5\n"]
    assert read(tmp_path, since_ns=START + 99 * SECOND) == b""


def test_a_log_that_is_not_there_or_empty(tmp_path):
    with pytest.raises(FileNotFoundError):
        LogFiles(str(tmp_path))
    LogFiles(str(tmp_path), create=True).close()
    assert read(tmp_path) == b""
    assert read(tmp_path, tail=3, timestamps=True) == b""


def test_damage_in_the_middle_does_not_loop_or_fail(tmp_path, pump):
    pump.write(b"good\n")
    pump.log.write(struct.pack(">BxxxL", 9, 1 << 31))
    pump.write(b"after\n")
    assert texts(read(tmp_path, stderr=False))[0] == (1, b"good\n")


def test_following_sees_each_frame_and_ends_when_told(tmp_path, pump):
    pump.write(b"before\n")

    async def run():
        watch = LogWatch()
        ended = asyncio.get_running_loop().create_future()
        files = LogFiles(str(tmp_path))
        follower = Follower(watch, files, ended)
        out, came = [], asyncio.Event()

        async def reader():
            async for piece in LogReading(files, LogRequest(), False).pieces(follower):
                out.append(materialise([piece]))
                came.set()

        async def seen(count):
            async with asyncio.timeout(60):
                while len(out) < count:
                    came.clear()
                    await came.wait()

        task = asyncio.create_task(reader())
        await seen(1)
        assert [texts(piece) for piece in out] == [[(1, b"before\n")]]
        pump.write(b"live\n")
        await seen(2)
        assert texts(out[-1]) == [(1, b"live\n")]
        pump.write(b"last\n", 2)
        ended.set_result(None)
        await asyncio.wait_for(task, 60)
        assert texts(b"".join(out))[-1] == (2, b"last\n")
        follower.close()
        files.close()
        watch.close()

    asyncio.run(run())


def test_following_many_logs_costs_one_descriptor(tmp_path):
    async def run():
        watch = LogWatch()
        ended = asyncio.get_running_loop().create_future()
        first = len(os.listdir("/proc/self/fd"))
        open_files = []
        for number in range(50):
            folder = tmp_path / str(number)
            folder.mkdir()
            files = LogFiles(str(folder), create=True)
            open_files.append((files, Follower(watch, files, ended)))
        assert len(os.listdir("/proc/self/fd")) == first + 100 + 1
        for files, follower in open_files:
            follower.close()
            files.close()
        watch.close()
        assert len(os.listdir("/proc/self/fd")) == first

    asyncio.run(run())
