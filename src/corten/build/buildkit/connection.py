"""gRPC over a connection taken over from HTTP: we serve on `/grpc`, and are the client on `/session`.

HTTP/2 and gRPC framing are grpclib's. Source: moby/buildkit `client/connhelper`, docker's API.
"""

import asyncio
import socket
from collections import deque
from collections.abc import Iterable, Mapping
from typing import Any

from google.protobuf.message import DecodeError
from grpclib.client import Channel as GrpcChannel
from grpclib.config import Configuration
from grpclib.const import Handler as Method
from grpclib.const import Status
from grpclib.encoding.base import StatusDetailsCodecBase
from grpclib.encoding.proto import ProtoCodec
from grpclib.events import _DispatchServerEvents
from grpclib.protocol import H2Protocol
from grpclib.server import Handler
from h2.config import H2Configuration

from corten.base.errors import InvalidArgument
from corten.build.buildkit.messages import MESSAGES, new

_GREETING_S = 20.0  # a peer that says nothing for so long is none
_PREAMBLE_BYTES, _HEAD_BYTES = 24, 9
_FRAME_BYTES = 16384  # the most a frame may hold unless one says more, which is not done here
_PREFIX_BYTES = 5  # of a gRPC message: whether it is compressed, its length
_MESSAGE_BYTES = 16 << 20  # the most that BuildKit sends
WINDOW_BYTES = 4 << 20  # what a peer may send ahead; the default of 64 KB makes every file wait


def _settings() -> Configuration:
    return Configuration(http2_connection_window_size=WINDOW_BYTES, http2_stream_window_size=WINDOW_BYTES)


class DetailsCodec(StatusDetailsCodecBase):
    """The details of a gRPC error as google.rpc.Status has them: a list of `Any`."""

    def encode(self, status: Status, message: str | None, details: Any) -> bytes:
        return bytes(new("Status", code=status.value, message=message or "", details=details).SerializeToString())

    def decode(self, status: Status, message: str | None, data: bytes) -> Any:
        try:
            return list(MESSAGES["Status"].FromString(data).details)
        except DecodeError:
            return None


class _Codec(ProtoCodec):
    """Messages; and where a method's messages are others from call to call, their bytes as they are."""

    def encode(self, message: Any, message_type: Any) -> bytes:
        return bytes(message) if message_type is bytes else super().encode(message, message_type)

    def decode(self, data: bytes, message_type: Any) -> Any:
        return data if message_type is bytes else super().decode(data, message_type)


async def send_many(stream: Any, messages: Iterable[Any]) -> None:
    """Send messages in one piece: ten thousand small ones are ten thousand frames otherwise.

    `stream` is one that has sent its initial metadata (or request).
    """
    pieces: list[bytes] = []
    for message in messages:
        data = message.SerializeToString()
        pieces += (len(data).to_bytes(5, "big"), data)  # not compressed, length, data
    await stream._stream.send_data(b"".join(pieces))


def has_input(stream: Any) -> bool:
    """Whether more of the peer's messages (or a part of one) has come already."""
    buffer = stream._stream.buffer
    return bool(buffer._acked_size) or not buffer._unacked.empty()


class Inbox:
    """The messages of a stream (of a call that is under way), as many at once as have come.

    grpclib's own way costs as much a message as three of Go's small frames take to be sent.
    """

    def __init__(self, stream: Any, kind: Any) -> None:
        self._stream, self._parse = stream, kind.FromString
        self._ready: deque[Any] = deque()
        self._rest, self._wanted = bytearray(), 0  # how long it is to be before it is looked at

    async def next(self) -> Any:
        """The next one, None after the last. Raises GRPCError, InvalidArgument for what is none or too long."""
        if not self._stream._recv_initial_metadata_done:
            await self._stream.recv_initial_metadata()
        while not self._ready:
            with self._stream._wrapper:
                buffer = self._stream._stream.buffer
                first = await buffer.read(1)  # waits for a frame
                self._rest += first + await buffer.read(buffer._acked_size)
            if not first:
                if self._rest:
                    raise InvalidArgument("a message was not sent to its end")
                return None
            if len(self._rest) >= self._wanted:
                self._split()
        return self._ready.popleft()

    def _split(self) -> None:
        data, at, self._wanted = bytes(self._rest), 0, 0
        while at + _PREFIX_BYTES <= len(data):
            end = at + _PREFIX_BYTES + int.from_bytes(data[at + 1:at + _PREFIX_BYTES], "big")
            if data[at] or end - at > _MESSAGE_BYTES:
                raise InvalidArgument("a message is compressed or too long")
            if end > len(data):
                self._wanted = end - at
                break
            try:
                self._ready.append(self._parse(data[at + _PREFIX_BYTES:end]))
            except DecodeError:
                raise InvalidArgument("a message is none of its kind") from None
            at = end
        self._rest = bytearray(data[at:])


class Joiner:
    """Bytes of HTTP/2 with neighbouring DATA frames of one stream made one, as far as a frame may go.

    Go sends each small message as a frame; h2 takes as long for one of a hundred bytes as for one of sixteen thousand.
    What the windows count stays the same. `skip`: bytes that come before the first frame.
    """

    def __init__(self, skip: int) -> None:
        self._skip = skip
        self._rest = b""

    def join(self, data: bytes) -> bytes:
        """What h2 is to be given now; the rest is kept: at most one DATA frame's beginning."""
        data, self._rest = self._rest + data, b""
        at = min(self._skip, len(data))
        self._skip -= at
        told, size, stream = [data[:at]], 0, b""
        held: list[bytes] = []
        while at < len(data):
            head = data[at:at + _HEAD_BYTES]
            length = int.from_bytes(head[:3], "big")
            end, plain = at + _HEAD_BYTES + length, head[3:5] == b"\0\0" and length <= _FRAME_BYTES
            if len(head) < _HEAD_BYTES or (plain and end > len(data)):
                self._rest = data[at:]
                break
            if held and not (plain and head[5:] == stream and size + length <= _FRAME_BYTES):
                told += (size.to_bytes(3, "big"), b"\0\0", stream, *held)
                held, size = [], 0
            if plain:
                held.append(data[at + _HEAD_BYTES:end])
                size, stream = size + length, head[5:]
            else:
                told.append(data[at:end])
                self._skip = max(end - len(data), 0)
            at = end
        if held:
            told += (size.to_bytes(3, "big"), b"\0\0", stream, *held)
        return b"".join(told)


class _Served(H2Protocol):
    """Tells when it is over, and ends at once with a peer that does not speak HTTP/2."""

    over: "asyncio.Future[None]"
    _waiting: asyncio.TimerHandle | None = None
    _greeting = b""  # how the peer began, as far as it is looked at
    _joiner: Joiner | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        self._waiting = asyncio.get_running_loop().call_later(_GREETING_S, self._give_up)

    def data_received(self, data: bytes) -> None:
        if len(self._greeting) < _PREAMBLE_BYTES + _HEAD_BYTES and not self._greets(data):
            self.processor.close("no HTTP/2")
            return
        if self._joiner is None:
            self._joiner = Joiner(0 if self.h2_config.client_side else _PREAMBLE_BYTES)
        super().data_received(self._joiner.join(data))
        # h2 judges a frame once all of it is here, and would wait for 16 MiB of what is none
        held = self.connection._connection.incoming_buffer._data
        if int.from_bytes(held[:3], "big") > self.connection._connection.max_inbound_frame_size and len(held) > 2:
            self.processor.close("a frame is too long")

    def _greets(self, data: bytes) -> bool:
        """Whether the peer may be beginning with a SETTINGS frame, as it must; a client's preamble is h2's to check."""
        self._greeting += data[:_PREAMBLE_BYTES + _HEAD_BYTES]
        frame = self._greeting[0 if self.h2_config.client_side else _PREAMBLE_BYTES:]
        return frame[:1] in (b"", b"\0") and frame[3:4] in (b"", b"\4")

    def _give_up(self) -> None:
        if len(self._greeting) < _HEAD_BYTES:
            self.processor.close("nothing was said")

    def connection_lost(self, exc: BaseException | None) -> None:
        if self._waiting is not None:
            self._waiting.cancel()
        super().connection_lost(exc)
        if not self.over.done():
            self.over.set_result(None)


async def serve(connection: Any, methods: Mapping[str, Method]) -> None:
    """Answer `methods` ({path: grpclib Handler}) until the peer leaves; `connection.detach()`: (socket, read ahead)."""
    loop = asyncio.get_running_loop()
    handler = Handler(dict(methods), _Codec(), DetailsCodec(), _DispatchServerEvents())
    config = H2Configuration(
        client_side=False, header_encoding="ascii", validate_inbound_headers=False, validate_outbound_headers=False,
        normalize_inbound_headers=False, normalize_outbound_headers=False,
    )
    protocol = _Served(handler, _settings().__for_server__(), config)
    protocol.over = loop.create_future()
    sock, ahead = connection.detach()
    transport, _ = await loop.connect_accepted_socket(lambda: protocol, sock)
    try:
        if ahead:
            protocol.data_received(ahead)
        await protocol.over
    finally:
        transport.close()
        handler.close()
        await handler.wait_closed()


class Channel(GrpcChannel):
    """A gRPC client on a connection that is there already; `over` is done when the peer is gone."""

    def __init__(self, sock: socket.socket, ahead: bytes) -> None:
        super().__init__(codec=_Codec(), status_details_codec=DetailsCodec(), config=_settings())
        self._sock, self._ahead = sock, ahead
        self.over: asyncio.Future[None] = self._loop.create_future()

    def _protocol_factory(self) -> H2Protocol:
        protocol = super()._protocol_factory()
        protocol.__class__ = _Served
        protocol.over = self.over  # type: ignore[attr-defined]
        return protocol

    async def _create_connection(self) -> H2Protocol:
        _, protocol = await self._loop.create_connection(self._protocol_factory, sock=self._sock)
        if self._ahead:
            protocol.data_received(self._ahead)
        return protocol


async def dial(sock: socket.socket, ahead: bytes) -> Channel:
    """Be the client on a connected socket, from which `ahead` was read already. `close` the channel."""
    channel = Channel(sock, ahead)
    await channel.__connect__()
    return channel
