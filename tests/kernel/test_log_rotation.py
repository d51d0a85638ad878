"""Rotation of a log: nothing lost or doubled, whoever is killed when, and readers that do not notice it."""

import asyncio
import os
import random
import signal
import time

import pytest
from test_zygote_pump import PumpProcess, writer

from corten.engine.follow import Follower, LogWatch
from corten.engine.log_files import LogFiles
from corten.engine.logs import LogReading, LogRequest
from corten.engine.streams import FileSpan
from corten.zygote.log_format import FRAME, Limits, segment_numbers
from corten.zygote.log_rotation import read_limits


def payload(data):
    found = {1: b"", 2: b""}
    while data:
        stream, size = FRAME.unpack_from(data)
        found[stream] += data[FRAME.size:FRAME.size + size]
        data = data[FRAME.size + size:]
    return found


def piece_bytes(piece):
    return os.pread(piece.fd, piece.size, piece.offset) if isinstance(piece, FileSpan) else piece


def read(folder, **request):
    async def run():
        with LogFiles(str(folder)) as files:
            reading = LogReading(files, LogRequest(**request), tty=False)
            return b"".join([piece_bytes(piece) async for piece in reading.pieces()])

    return asyncio.run(run())


def lines(name, count):
    return "".join(f"{name} {n} {'x' * (n % 200)}\n" for n in range(count)).encode()


def limit(folder, *limits):
    (folder / "log.conf").write_bytes(Limits(*limits).to_bytes())


def pump_of(folder):
    out_r, out_w = os.pipe()
    err_r, err_w = os.pipe()
    pump = PumpProcess(folder, {"stdout": out_r, "stderr": err_r})
    return pump, out_w, err_w


def wait_for(condition):
    deadline = time.monotonic() + 90
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


@pytest.mark.parametrize("compress", [False, True])
def test_kill_9_while_rotating_loses_and_doubles_nothing(tmp_path, compress):
    limit(tmp_path, 20_000, 10_000, compress)
    pump, out_w, err_w = pump_of(tmp_path)
    writers = [writer(out_w, 20000, "out"), writer(err_w, 10000, "err")]
    os.close(out_w)
    os.close(err_w)
    dice = random.Random(11)
    for _ in range(25):
        time.sleep(dice.uniform(0, 0.004))
        pump.kill()
        pump.start()
    pump.drained()
    for pid in writers:
        os.waitpid(pid, 0)
    assert len(segment_numbers(os.listdir(tmp_path))) > 50
    assert payload(read(tmp_path)) == {1: lines("out", 20000), 2: lines("err", 10000)}
    assert payload(read(tmp_path, stdout=False, tail=3))[2] == b"".join(lines("err", 10000).splitlines(True)[-3:])
    if compress:
        wait_for(lambda: any(name.endswith(".gz") for name in os.listdir(tmp_path)))


def test_only_the_newest_segments_are_kept(tmp_path):
    limit(tmp_path, 5000, 3, False)
    pump, out_w, err_w = pump_of(tmp_path)
    os.close(err_w)
    pid = writer(out_w, 5000, "out")
    os.close(out_w)
    pump.drained()
    os.waitpid(pid, 0)
    numbers = segment_numbers(os.listdir(tmp_path))
    assert len(numbers) == 3 and numbers[0] > 0
    assert sum((tmp_path / f"log.{number}").stat().st_size for number in numbers) <= 3 * (5000 + 5000 + FRAME.size)
    text = payload(read(tmp_path))[1]
    assert text and lines("out", 5000).endswith(text)


def test_a_follower_goes_from_segment_to_segment(tmp_path):
    limit(tmp_path, 10_000, 10_000, False)
    pump, out_w, err_w = pump_of(tmp_path)
    os.close(err_w)
    wait_for(lambda: (tmp_path / "log").exists())

    async def follow():
        watch = LogWatch()
        ended = asyncio.get_running_loop().create_future()
        got = b""
        with LogFiles(str(tmp_path)) as files:
            follower = Follower(watch, files, ended)
            pid = writer(out_w, 20000, "out")
            os.close(out_w)
            asyncio.get_running_loop().run_in_executor(None, pump.drained).add_done_callback(
                lambda _: ended.set_result(None))
            async for piece in LogReading(files, LogRequest(), tty=False).pieces(follower):
                got += piece_bytes(piece)
        watch.close()
        await asyncio.to_thread(os.waitpid, pid, 0)
        return got

    assert payload(asyncio.run(asyncio.wait_for(follow(), 60)))[1] == lines("out", 20000)


def test_a_reader_left_behind_is_told_so(tmp_path):
    limit(tmp_path, 1000, 2, False)
    pump, out_w, err_w = pump_of(tmp_path)
    os.close(err_w)
    os.write(out_w, b"first\n")
    wait_for(lambda: (tmp_path / "log").exists() and (tmp_path / "log").stat().st_size > FRAME.size)
    with LogFiles(str(tmp_path)) as files:
        pid = writer(out_w, 1000, "out")
        os.close(out_w)
        pump.drained()
        os.waitpid(pid, 0)
        end = files.whole_end()
        data = b"".join(piece_bytes(span) for span in files.spans(0, end, 1 << 20))
    found = payload(data)
    assert found[1].startswith(b"first\n") and b"segments of the log were rotated away unread" in found[2]
    assert lines("out", 1000).endswith(found[1].splitlines(True)[-1])


def test_limits_that_are_damaged_are_none(tmp_path):
    assert read_limits(str(tmp_path)).segment_bytes == 0
    for text in (b"", b"x y z", b"1 2", b"-1 2 3"):
        (tmp_path / "log.conf").write_bytes(text)
        assert read_limits(str(tmp_path)).segment_bytes == 0
    limit(tmp_path, 7, 2, True)
    found = read_limits(str(tmp_path))
    assert (found.segment_bytes, found.files, found.compress) == (7, 2, True)


def test_a_pump_killed_before_the_new_segment_goes_on_with_the_old(tmp_path):
    limit(tmp_path, 100, 5, False)
    pump, out_w, err_w = pump_of(tmp_path)
    os.close(err_w)
    os.write(out_w, b"a" * 50)
    wait_for(lambda: (tmp_path / "log").exists() and (tmp_path / "log").stat().st_size == 58)
    os.kill(pump.pid, signal.SIGSTOP)
    os.write(out_w, b"b" * 50)
    pump.kill()
    (tmp_path / "log.1.idx").write_bytes(b"")  # what a rotation does first
    pump.start()
    os.write(out_w, b"c" * 50)
    os.close(out_w)
    pump.drained()
    assert payload(read(tmp_path))[1] == b"a" * 50 + b"b" * 50 + b"c" * 50
