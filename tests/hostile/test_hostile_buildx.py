"""Clients of BuildKit's protocol who lie, and steps that say too much: refused, bounded, and the daemon goes on."""

import asyncio
import contextlib
import os
import socket
import uuid

import pytest
from grpclib.const import Cardinality, Handler
from grpclib.exceptions import GRPCError, StreamTerminatedError

from corten.build.buildkit.connection import Channel, serve
from corten.build.buildkit.messages import MESSAGES, new

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="needs root")
CONTROL = "/moby.buildkit.v1.Control/"


def upgraded(engine, path, **headers):
    """A connection taken over, and what came with the answer."""
    sock = socket.socket(socket.AF_UNIX)
    sock.connect(engine.socket)
    lines = [f"POST {path} HTTP/1.1", "Host: d", "Connection: Upgrade", "Upgrade: h2c", *(f"{name}: {value}" for name, value in headers.items())]
    sock.sendall("\r\n".join([*lines, "", ""]).encode())
    answer = b""
    while b"\r\n\r\n" not in answer:
        answer += sock.recv(1)
    assert b" 101 " in answer
    return sock


class Taken:
    def __init__(self, sock):
        self._sock = sock

    def detach(self):
        self._sock.setblocking(False)
        return self._sock, b""


async def solve(engine, diff_copy, attributes=None):
    """Control.Solve of a Dockerfile, with a session whose files `diff_copy(stream, folder)` sends; the error, or ""."""
    name = uuid.uuid4().hex
    path = "/moby.filesync.v1.FileSync/DiffCopy"

    async def handle(stream):
        await diff_copy(stream, stream.metadata.get("dir-name"))

    packet = MESSAGES["Packet"]
    methods = {path: Handler(handle, Cardinality.STREAM_STREAM, packet, packet)}
    session = asyncio.create_task(serve(Taken(upgraded(engine, "/session", **{
        "X-Docker-Expose-Session-Uuid": name, "X-Docker-Expose-Session-Grpc-Method": path})), methods))
    channel = Channel(*Taken(upgraded(engine, "/grpc")).detach())
    await channel.__connect__()
    try:
        question = new("SolveRequest", Ref=name, Session=name, Frontend="dockerfile.v0", FrontendAttrs=attributes or {})
        async with channel.request(f"{CONTROL}Solve", Cardinality.UNARY_UNARY, type(question), MESSAGES["SolveResponse"]) as stream:
            await stream.send_message(question, end=True)
            await asyncio.wait_for(stream.recv_message(), 60)
        return ""
    except (GRPCError, StreamTerminatedError) as error:
        return str(error)
    finally:
        channel.close()
        session.cancel()
        await asyncio.gather(session, return_exceptions=True)


def sends(dockerfile, entries):
    """A session that sends this Dockerfile, and entries {path: mode or (mode, link)} as the context."""

    async def diff_copy(stream, folder):
        packets = {"Dockerfile": 0o644} if folder == "dockerfile" else entries
        names = list(packets)
        for name in names:
            mode, link = packets[name] if isinstance(packets[name], tuple) else (packets[name], "")
            size = len(dockerfile) if folder == "dockerfile" else 4
            await stream.send_message(new("Packet", type=0, stat=new("Stat", path=name, mode=mode, linkname=link, size=0 if link else size)))
        await stream.send_message(new("Packet", type=0))
        while (packet := await stream.recv_message()) is not None:
            if packet.type == 3:
                await stream.send_message(new("Packet", type=3))
                return
            data = dockerfile if folder == "dockerfile" else b"evil"
            await stream.send_message(new("Packet", type=2, ID=packet.ID, data=data))
            await stream.send_message(new("Packet", type=2, ID=packet.ID))

    return diff_copy


@pytest.mark.parametrize("entries", [
    {"../../../../../../tmp/corten-escaped": 0o644},
    {"/tmp/corten-escaped": 0o644},
    {"way": (0o777 | 1 << 27, "/tmp"), "way/corten-escaped": 0o644},
    {"way": (0o777 | 1 << 27, "../../../.."), "way/tmp/corten-escaped": 0o644},
])
def test_no_entry_leaves_the_context(engine, entries):
    asyncio.run(solve(engine, sends(b"FROM busybox\nCOPY . /c/\n", entries)))
    assert not os.path.exists("/tmp/corten-escaped")
    assert engine.api("GET", "/_ping").status == 200


def test_a_device_in_the_context_is_not_read(engine):
    entries = {"disk": 0o644 | 1 << 26 | 1 << 21}
    assert asyncio.run(solve(engine, sends(b"FROM busybox\nCOPY disk /c\n", entries))) != ""


async def _garbage(stream, folder):
    await stream.send_message(new("Packet", type=2, ID=77, data=b"not asked for"))
    await stream.recv_message()


async def _nothing(stream, folder):
    return


@pytest.mark.parametrize("diff_copy", [_garbage, _nothing])
def test_a_session_that_sends_nonsense_ends_the_build(engine, diff_copy):
    assert asyncio.run(solve(engine, diff_copy)) != ""
    assert engine.api("GET", "/_ping").status == 200


@pytest.mark.parametrize("path", ["/grpc", "/session"])
@pytest.mark.parametrize("data", [b"no frames at all " * 100, b"x", b"\xff" * 20, b"\0\0\1\x77" + b"\0" * 6, b"\0" * 900, os.urandom(1 << 20),
                                  b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\xff\xff\xff" + b"y" * 1000])
def test_bytes_that_are_no_protocol_end_the_connection(engine, path, data):
    sock = upgraded(engine, path, **{"X-Docker-Expose-Session-Uuid": uuid.uuid4().hex, "X-Docker-Expose-Session-Grpc-Method": "/x"})
    sock.settimeout(60)
    with contextlib.suppress(BrokenPipeError, ConnectionResetError):
        sock.sendall(data)
        while sock.recv(4096):  # the daemon's own greeting, and then its end, while this side stays
            pass
    sock.close()
    assert engine.api("GET", "/_ping").status == 200


def test_a_frame_that_never_ends_is_not_collected(engine):
    """Behind a right beginning: a frame said to have 16 MiB, of which a part comes."""
    sock = upgraded(engine, "/session", **{"X-Docker-Expose-Session-Uuid": uuid.uuid4().hex, "X-Docker-Expose-Session-Grpc-Method": "/x"})
    sock.settimeout(60)
    sock.sendall(b"\0\0\0\4\0\0\0\0\0")
    with contextlib.suppress(BrokenPipeError, ConnectionResetError):
        sock.sendall(b"\xff\xff\xff\0\0\0\0\0\1" + b"y" * 100_000)
        while sock.recv(4096):
            pass
    sock.close()


def test_a_session_of_another_is_not_taken(engine):
    name = uuid.uuid4().hex
    first = upgraded(engine, "/session", **{"X-Docker-Expose-Session-Uuid": name, "X-Docker-Expose-Session-Grpc-Method": "/x"})
    second = upgraded(engine, "/session", **{"X-Docker-Expose-Session-Uuid": name, "X-Docker-Expose-Session-Grpc-Method": "/x"})
    second.settimeout(30)
    while second.recv(4096):
        pass
    first.close()
    second.close()


def test_a_step_that_floods_its_output_is_clipped(engine):
    text = b"FROM busybox\nRUN yes 0123456789012345678901234567890123456789 | head -c 30000000\n"
    before = rss(engine)
    assert asyncio.run(solve(engine, sends(text, {}))) == ""
    assert rss(engine) - before < 25 << 10


def rss(engine):
    with open(f"/proc/{engine.process.pid}/status", encoding="ascii") as file:
        return next(int(line.split()[1]) for line in file if line.startswith("VmRSS:"))
