"""Detach keys, and a hijacked connection joined to pipes and a terminal."""

import asyncio
import os
import pty
import socket
import time
import tty

import pytest

from corten.api.stream import Connection, HangupWatch
from corten.base.detach_keys import Scanner
from corten.base.errors import InvalidArgument
from corten.engine import streams
from corten.engine.streams import parse_detach_keys, run_duplex


@pytest.mark.parametrize(("text", "keys"), [
    ("", b"\x10\x11"), ("ctrl-p,ctrl-q", b"\x10\x11"), ("ctrl-a", b"\x01"), ("a,b", b"ab"), ("ctrl-@,ctrl-[", b"\0\x1b"),
    ("ctrl-A,x", b"\x01x"),
])
def test_detach_keys(text, keys):
    assert parse_detach_keys(text) == keys


@pytest.mark.parametrize("text", ["foo", "ctrl-", "ctrl-1", "a,,b", "ctrl-é"])
def test_bad_detach_keys(text):
    with pytest.raises(InvalidArgument, match="Invalid detach keys"):
        parse_detach_keys(text)


@pytest.mark.parametrize(("typed", "passed", "detached"), [
    ([b"ls\n"], b"ls\n", False),
    ([b"\x10\x11"], b"", True),
    ([b"a\x10", b"\x11b"], b"a", True),
    ([b"\x10x"], b"\x10x", False),
    ([b"\x10\x10\x11"], b"\x10", True),
    ([b"\x10"], b"", False),
])
def test_scanner(typed, passed, detached):
    scanner = Scanner(b"\x10\x11")
    out, seen = b"", False
    for data in typed:
        more, seen = scanner.feed(data)
        out += more
    assert (out, seen) == (passed, detached)


def duplex(client_script, ends_after_s=None, **fds):
    """Run a duplex against a client thread; returns (how it ended, what the client returned)."""
    async def run():
        loop = asyncio.get_running_loop()
        if ends_after_s is not None:
            fds["exited"] = loop.create_future()
            loop.call_later(ends_after_s, fds["exited"].set_result, None)
        ours, theirs = socket.socketpair()
        ours.setblocking(False)
        theirs.settimeout(60)
        watch = HangupWatch(loop)
        connection = Connection(loop, ours, watch)
        client = loop.run_in_executor(None, client_script, theirs)
        ended = await asyncio.wait_for(run_duplex(connection, **fds), 60)
        connection.close()
        result = await client
        theirs.close()
        watch.close()
        return ended, result

    return asyncio.run(run())


def receive_all(client):
    out = b""
    while piece := client.recv(1 << 20):
        out += piece
    return out


def test_both_outputs_are_framed_and_input_ends():
    out_r, out_w = os.pipe()
    err_r, err_w = os.pipe()
    in_r, in_w = os.pipe()

    def client(sock):
        sock.sendall(b"typed")
        sock.shutdown(socket.SHUT_WR)
        assert os.read(in_r, 100) == b"typed"
        assert os.read(in_r, 100) == b""
        os.write(out_w, b"out")
        os.write(err_w, b"err")
        os.close(out_w)
        os.close(err_w)
        os.close(in_r)
        return receive_all(sock)

    ended, data = duplex(client, stdin_fd=in_w, stdout_fd=out_r, stderr_fd=err_r)
    assert ended == (False, False)
    assert sorted([data[:11], data[11:]]) == [b"\x01\0\0\0\0\0\0\x03out", b"\x02\0\0\0\0\0\0\x03err"]


@pytest.mark.parametrize("framed", [False, True])
def test_a_slow_client_gets_all_that_was_written_before_the_end(monkeypatch, framed):
    monkeypatch.setattr(streams, "EXIT_DRAIN_S", 0.02)
    out_r, out_w = os.pipe()

    def client(sock):
        left = 900_000
        while left:
            left -= os.write(out_w, b"z" * min(left, 4096))
        os.close(out_w)
        time.sleep(0.5)  # and the process has ended long before
        return receive_all(sock)

    ended, data = duplex(client, stdout_fd=out_r, framed=framed, ends_after_s=0.1)
    assert data.count(b"z") == 900_000 and not ended.disconnected


def test_large_output_keeps_its_frames():
    out_r, out_w = os.pipe()

    def client(sock):
        import threading

        def produce():
            left = 20_000_000
            while left:
                left -= os.write(out_w, b"z" * min(left, 1 << 20))
            os.close(out_w)

        threading.Thread(target=produce).start()
        data = receive_all(sock)
        total = 0
        while data:
            size = int.from_bytes(data[4:8], "big")
            assert data[:4] == b"\x01\0\0\0" and set(data[8:8 + size]) == {ord("z")}
            total += size
            data = data[8 + size:]
        return total

    _ended, total = duplex(client, stdout_fd=out_r)
    assert total == 20_000_000


def test_client_that_leaves_ends_the_process_input():
    out_r, out_w = os.pipe()
    in_r, in_w = os.pipe()

    def client(sock):
        sock.close()
        return os.read(in_r, 10)

    ended, read = duplex(client, stdin_fd=in_w, stdout_fd=out_r)
    assert ended.disconnected
    assert read == b""
    os.close(out_w)
    os.close(in_r)


def test_terminal_is_raw_and_detaches():
    master, slave = pty.openpty()
    tty.setraw(slave)
    kept = os.dup(master)

    def client(sock):
        os.write(slave, b"prompt$ ")
        got = sock.recv(100)
        sock.sendall(b"ls\x10\x11")
        return got

    ended, got = duplex(client, stdin_fd=master, stdout_fd=master, tty=True)
    assert ended.detached
    assert got == b"prompt$ "
    assert os.read(slave, 100) == b"ls"
    os.close(slave)
    os.close(kept)


def test_output_held_open_by_a_left_behind_child_ends_after_the_process():
    out_r, out_w = os.pipe()

    def client(sock):
        os.write(out_w, b"hi")
        return receive_all(sock)

    ended, data = duplex(client, stdout_fd=out_r, ends_after_s=0.1)
    assert data == b"\x01\0\0\0\0\0\0\x02hi"
    assert not ended.disconnected
    os.close(out_w)


def test_stopped_reader_of_input_blocks_nobody():
    in_r, in_w = os.pipe()
    out_r, out_w = os.pipe()

    def client(sock):
        sock.settimeout(0.5)
        try:
            while True:
                sock.send(b"x" * 65536)
        except TimeoutError:
            pass
        sock.settimeout(60)
        os.write(out_w, b"still here")  # output flows while input is stuck
        assert sock.recv(8 + 10)[8:] == b"still here"
        os.close(out_w)
        return True

    _ended, fine = duplex(client, stdin_fd=in_w, stdout_fd=out_r)
    assert fine
    os.close(in_r)
