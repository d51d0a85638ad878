"""What a handler gives back. Encoding and sending are the server's (server.py)."""

from collections.abc import AsyncIterator
from typing import Any

import msgspec

from corten.engine.streams import FileSpan, PipeSpan

JSON = "application/json"
TEXT = "text/plain; charset=utf-8"
RAW_STREAM = "application/vnd.docker.raw-stream"
MULTIPLEXED_STREAM = "application/vnd.docker.multiplexed-stream"

_encode = msgspec.json.Encoder().encode


class Response:
    """A status with one of: a JSON value, bytes, or a stream of pieces (bytes, or spans of a file sent by sendfile).

    `value` is kept unencoded until the version's field filter has run.
    """

    __slots__ = ("body", "content_type", "headers", "hijacked", "status", "stream", "value")

    def __init__(
        self, status: int = 200, body: bytes = b"", content_type: str = "", value: Any = None,
        stream: AsyncIterator[bytes | FileSpan | PipeSpan] | None = None, headers: list[tuple[str, str]] | None = None,
    ) -> None:
        self.status = status
        self.body = body
        self.content_type = content_type
        self.value = value
        self.stream = stream
        self.headers = headers or []
        self.hijacked = False


def json_response(obj: Any, status: int = 200, headers: list[tuple[str, str]] | None = None) -> Response:
    """A JSON answer from dicts, lists and msgspec structs. A newline ends it, as Go's encoder does."""
    response = Response(status, content_type=JSON, headers=headers)
    response.value = obj if obj is not None else msgspec.Raw(b"null")
    return response


def encode(value: Any) -> bytes:
    """JSON as it goes over the wire."""
    return _encode(value) + b"\n"


def empty(status: int = 204, headers: list[tuple[str, str]] | None = None) -> Response:
    """No body."""
    return Response(status, headers=headers)


def text(body: str, status: int = 200, content_type: str = TEXT) -> Response:
    """A plain text."""
    return Response(status, body.encode(), content_type)


def streaming(
    pieces: AsyncIterator[bytes | FileSpan | PipeSpan] | AsyncIterator[bytes], content_type: str, status: int = 200,
    headers: list[tuple[str, str]] | None = None,
) -> Response:
    """A chunked answer: headers at once, then each piece as it comes."""
    return Response(status, content_type=content_type, stream=pieces, headers=headers)


def hijacked() -> Response:
    """The handler has taken the connection and is done with it: nothing more is sent."""
    response = Response(101)
    response.hijacked = True
    return response
