"""One HTTP/1.1 request on a connection of its own, and its answer. h11 keeps the protocol."""

import asyncio
from typing import NamedTuple

import h11


class Answer(NamedTuple):
    """`body` holds the first `limit_bytes`; `whole` is False when more has come."""

    status: int
    headers: list[list[str]]
    body: bytes
    whole: bool


async def exchange(
    reader: asyncio.StreamReader, writer: asyncio.StreamWriter, request: h11.Request, body: bytes, limit_bytes: int,
) -> Answer:
    """Send a request that ends its connection. Raises OSError, h11.ProtocolError."""
    http = h11.Connection(h11.CLIENT)
    writer.write((http.send(request) or b"") + (http.send(h11.Data(data=body)) or b"")
                 + (http.send(h11.EndOfMessage()) or b""))
    status, headers, data, size = 0, [], bytearray(), 0
    while True:
        event = http.next_event()
        if event is h11.NEED_DATA:
            http.receive_data(await reader.read(1 << 16))
        elif isinstance(event, h11.Response):
            status = event.status_code
            headers = [[name.decode("latin-1"), value.decode("latin-1")] for name, value in event.headers]
        elif isinstance(event, h11.Data):
            size += len(event.data)
            data += event.data[:limit_bytes - len(data)]
        elif isinstance(event, h11.EndOfMessage):
            return Answer(status, headers, bytes(data), size <= limit_bytes)
        elif isinstance(event, h11.ConnectionClosed):
            raise OSError("connection closed")
