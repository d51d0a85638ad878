"""A websocket as a stream of bytes (RFC 6455): what attach/ws speaks. wsproto frames, this file moves and answers.

Every message of the client is input, whatever its kind; output goes as binary messages, unframed as docker sends it.
"""

import asyncio
import os
from collections import deque
from typing import Any

from wsproto.connection import Connection as Frames
from wsproto.connection import ConnectionType
from wsproto.events import BytesMessage, CloseConnection, Ping, TextMessage
from wsproto.utilities import LocalProtocolError, RemoteProtocolError, generate_accept_token

from corten.api.request import Request
from corten.api.stream import Connection
from corten.base.errors import InvalidArgument
from corten.engine.streams import CHUNK_BYTES

_QUEUED_BYTES = 1 << 20  # input that may wait for the process before the client is read no further
NORMAL = 1000  # the close code of an end that was meant


def accept_token(request: Request) -> str:
    """The answer to the client's key. Raises InvalidArgument: this is no websocket handshake."""
    headers = request.headers
    upgrades = [word.strip().lower() for word in headers.get("upgrade", "").split(",")]
    key = headers.get("sec-websocket-key", "")
    if "websocket" not in upgrades or not key or headers.get("sec-websocket-version") != "13":
        raise InvalidArgument("bad websocket handshake")
    return generate_accept_token(key.encode("latin-1")).decode()


class WebSocket:
    """Looks like the raw connection of corten.engine.streams; made after the 101. `close` it."""

    def __init__(self, raw: Connection, wants_input: bool) -> None:
        self._raw = raw
        self._frames = Frames(ConnectionType.SERVER)
        self._wants_input = wants_input
        self._input: deque[bytes] = deque()
        self._waiting_bytes = 0
        self._changed = asyncio.Event()
        self._gone = asyncio.Event()
        self._turn = asyncio.Lock()
        self._reader = asyncio.ensure_future(self._read_all())

    def fileno(self) -> int:
        """The socket's descriptor."""
        return self._raw.fileno()

    # --- from the client

    async def _read_all(self) -> None:
        try:
            while data := await self._raw.read():
                self._frames.receive_data(data)
                for event in self._frames.events():
                    if not await self._take(event):
                        return
                while self._waiting_bytes > _QUEUED_BYTES:
                    self._changed.clear()
                    await self._changed.wait()
        except (ConnectionError, RemoteProtocolError):
            pass
        finally:
            self._gone.set()
            self._changed.set()

    async def _take(self, event: Any) -> bool:
        """False after the client's goodbye."""
        if isinstance(event, (BytesMessage, TextMessage)):
            data = event.data.encode() if isinstance(event.data, str) else bytes(event.data)
            if self._wants_input and data:
                self._input.append(data)
                self._waiting_bytes += len(data)
                self._changed.set()
        elif isinstance(event, (Ping, CloseConnection)):
            await self._send(event.response())
        return not isinstance(event, CloseConnection)

    async def read(self, limit: int = CHUNK_BYTES) -> bytes:
        """The next input; b"" when the client has said goodbye or is gone."""
        while not self._input:
            if self._gone.is_set():
                return b""
            self._changed.clear()
            await self._changed.wait()
        data = self._input.popleft()
        if len(data) > limit:
            self._input.appendleft(data[limit:])
            data = data[:limit]
        self._waiting_bytes -= len(data)
        self._changed.set()
        return data

    async def splice_to(self, pipe: int) -> int:
        """Frames cannot be spliced: EINVAL has the caller copy."""
        raise OSError(22, "not a pipe")

    def hung_up(self) -> "asyncio.Future[None]":
        """Done when the client has said goodbye or is gone."""
        return asyncio.ensure_future(self._until_gone())

    async def _until_gone(self) -> None:
        await self._gone.wait()

    # --- to the client

    async def _send(self, event: Any) -> None:
        async with self._turn:
            try:
                data = self._frames.send(event)
            except LocalProtocolError:
                raise ConnectionAbortedError("the websocket is closed") from None
            await self._raw.write(data)

    async def write(self, data: bytes | memoryview) -> None:
        """Send it as one message. Raises ConnectionError when the client is gone."""
        await self._send(BytesMessage(data=bytes(data)))

    async def sendfile(self, fd: int, offset: int, count: int) -> None:
        """Send a part of a regular file."""
        while count > 0:
            data = os.pread(fd, min(count, CHUNK_BYTES), offset)
            if not data:
                raise EOFError("the file ended early")
            await self.write(data)
            offset += len(data)
            count -= len(data)

    async def splice_from(self, pipe: int, count: int) -> None:
        """Send what a pipe is known to hold."""
        while count > 0:
            data = os.read(pipe, min(count, CHUNK_BYTES))
            await self.write(data)
            count -= len(data)

    def write_eof(self) -> None:
        """There is no half of a websocket to close: `goodbye` ends it."""

    async def goodbye(self, timeout_s: float = 2.0) -> None:
        """Say that it is over, and give the client a moment to answer."""
        try:
            async with asyncio.timeout(timeout_s):
                await self._send(CloseConnection(code=NORMAL))
                await self._gone.wait()
        except (TimeoutError, ConnectionError):
            pass

    def close(self) -> None:
        """End at once."""
        self._reader.cancel()
        self._raw.close()
