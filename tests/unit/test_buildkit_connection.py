"""gRPC on a connection taken over: a peer that says nothing, and who is none."""

import asyncio
import socket

import pytest

from corten.build.buildkit import connection


class _Taken:
    def __init__(self, sock):
        sock.setblocking(False)
        self._sock = sock

    def detach(self):
        return self._sock, b""


async def _as_client(sock):
    channel = await connection.dial(sock, b"")
    try:
        await channel.over
    finally:
        channel.close()


@pytest.mark.parametrize("side", ["client", "server"])
@pytest.mark.parametrize("said", [b"", b"\0", b"PRI", b"\0\0\0\7"])
def test_a_silent_peer_is_left(monkeypatch, side, said):
    monkeypatch.setattr(connection, "_GREETING_S", 0.1)
    ours, theirs = socket.socketpair()
    with theirs:
        theirs.sendall(said)
        ours.setblocking(False)
        work = _as_client(ours) if side == "client" else connection.serve(_Taken(ours), {})
        asyncio.run(asyncio.wait_for(work, 60))
