"""A part of a file as the body of a request: by sendfile(2) where the connection is plain, else in pieces.

Private to blobs.py. aiohttp is imported when the first body is made.
"""

import asyncio
import functools
import os
from collections.abc import AsyncIterator, Callable
from typing import Any

_PIECE_BYTES = 256 << 10   # through aiohttp: larger ones pile up in the transport's buffer and are moved about in it
_SPAN_BYTES = 4 << 20      # by sendfile: between two words about the progress

Progress = Callable[[int], None]


def file_body(descriptor: int, start: int, end: int, progress: Progress) -> Any:
    """An aiohttp payload of the bytes from `start` to `end`; the descriptor stays the caller's."""
    return _payload_class()(descriptor, start, end, progress)


async def _pieces(descriptor: int, start: int, end: int) -> AsyncIterator[bytes]:
    while start < end:
        chunk = await asyncio.to_thread(os.pread, descriptor, min(_PIECE_BYTES, end - start), start)
        if not chunk:
            raise OSError("file became shorter while it was sent")
        yield chunk
        start += len(chunk)


def _plain_transport(writer: Any) -> asyncio.Transport | None:
    """The connection when bytes may bypass everything above it."""
    transport = writer.transport
    if transport is None or transport.get_extra_info("sslcontext") is not None:
        return None
    return transport if hasattr(transport, "_sendfile_compatible") else None  # uvloop's have none


@functools.cache
def _payload_class() -> Any:
    from aiohttp import payload

    class FileBody(payload.Payload):
        """See `file_body`."""

        def __init__(self, descriptor: int, start: int, end: int, progress: Progress) -> None:
            super().__init__(None, content_type="application/octet-stream")
            self._descriptor, self._start, self._end, self._progress = descriptor, start, end, progress
            self._size = end - start

        def decode(self, encoding: str = "utf-8", errors: str = "strict") -> str:
            raise TypeError("a file's part is bytes")

        async def write(self, writer: Any) -> None:
            transport = _plain_transport(writer)
            if transport is not None and hasattr(writer, "send_headers"):
                await self._by_sendfile(writer, transport)
                return
            sent = self._start
            async for chunk in _pieces(self._descriptor, self._start, self._end):
                await writer.write(chunk)
                sent += len(chunk)
                self._progress(sent)

        async def _by_sendfile(self, writer: Any, transport: asyncio.Transport) -> None:
            writer.send_headers()
            loop = asyncio.get_running_loop()
            at = self._start
            # a file position of its own: the loop moves it, and a writer may be at work behind the caller's descriptor
            with open(f"/proc/self/fd/{self._descriptor}", "rb", buffering=0) as file:
                while at < self._end:
                    sent = await loop.sendfile(transport, file, at, min(_SPAN_BYTES, self._end - at), fallback=False)
                    if not sent:
                        raise OSError("file became shorter while it was sent")
                    at += sent
                    self._progress(at)

    return FileBody
