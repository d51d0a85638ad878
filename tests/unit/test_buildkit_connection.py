"""gRPC on a connection taken over: a peer that says nothing, and who is none."""

import asyncio
import socket

import pytest
from hypothesis import given
from hypothesis import strategies as st

from corten.base.errors import InvalidArgument
from corten.build.buildkit import connection
from corten.build.buildkit.messages import MESSAGES, new


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


PREAMBLE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
FRAMES = st.lists(st.tuples(st.sampled_from([0, 0, 0, 1, 4, 6]), st.sampled_from([0, 0, 0, 1, 8]), st.sampled_from([1, 1, 3]),
                            st.sampled_from([0, 1, 40, 9000, 16384, 16385, 40000])), max_size=30)


def frame(kind, flags, stream, size, mark=0):
    return size.to_bytes(3, "big") + bytes([kind, flags]) + stream.to_bytes(4, "big") + bytes([mark % 256]) * size


def split(data):
    """[kind, flags, stream, payload] of each frame, neighbouring plain DATA frames of a stream as one."""
    found, at = [], 0
    while at < len(data):
        size = int.from_bytes(data[at:at + 3], "big")
        one = [*data[at + 3:at + 5], data[at + 5:at + 9], data[at + 9:at + 9 + size]]
        if found and one[:3] == found[-1][:3] and one[:2] == [0, 0]:
            found[-1][3] += one[3]
        else:
            found.append(one)
        at += 9 + size
    return found


@given(FRAMES, st.integers(1, 70_000), st.booleans())
def test_joined_frames_say_the_same(frames, step, server):
    data = b"".join(frame(*one, mark) for mark, one in enumerate(frames))
    joiner, whole = connection.Joiner(len(PREAMBLE) if server else 0), PREAMBLE * server + data
    told = b"".join(joiner.join(whole[at:at + step]) for at in range(0, len(whole), step))
    assert told.startswith(PREAMBLE * server) and split(told.removeprefix(PREAMBLE * server)) == split(data)
    assert not joiner._rest


def test_small_frames_become_few():
    joined = connection.Joiner(0).join(frame(0, 0, 1, 100) * 10_000)
    sizes, at = [], 0
    while at < len(joined):
        sizes.append(int.from_bytes(joined[at:at + 3], "big"))
        at += 9 + sizes[-1]
    assert sum(sizes) == 1_000_000 and max(sizes) <= 16384 and len(sizes) < 70


class _Call:
    """A call of which so much has come, in pieces."""

    _recv_initial_metadata_done = True

    def __init__(self, pieces):
        from grpclib.protocol import Buffer
        from grpclib.utils import Wrapper
        self._wrapper, self._stream = Wrapper(), self
        self.acked = 0
        self.buffer = Buffer(self._ack)
        for piece in pieces:
            self.buffer.add(piece, len(piece))
        self.buffer.eof()

    def _ack(self, size):
        self.acked += size


def told(data, step):
    async def read():
        call = _Call([data[at:at + step] for at in range(0, len(data), step)])
        inbox, found = connection.Inbox(call, MESSAGES["Packet"]), []
        while (message := await inbox.next()) is not None:
            found.append(message)
        assert call.acked == len(data)
        return found
    return asyncio.run(read())


@given(st.lists(st.binary(max_size=300), max_size=20), st.integers(1, 500))
def test_messages_come_whole_and_in_order(texts, step):
    messages = [new("Packet", type=3, ID=number, data=text) for number, text in enumerate(texts)]
    data = b"".join(b"\0" + message.ByteSize().to_bytes(4, "big") + message.SerializeToString() for message in messages)
    assert told(data, step) == messages


@pytest.mark.parametrize("data", [b"\1\0\0\0\1a", b"\0\xff\xff\xff\xff", b"\0\0\0\0\5abc", b"\0\0\0\0\1\xff", b"\0\0"])
def test_what_is_no_message_is_refused(data):
    with pytest.raises(InvalidArgument, match="message"):
        told(data, 3)
