"""What a handler is given: path values, query, headers and the body of one request.

Reads nothing by itself: bytes come from the connection (server.py). Texts of refusals are docker's.
"""

from collections.abc import AsyncIterator, Sequence
from typing import Any, Protocol, TypeVar
from urllib.parse import unquote_plus

import msgspec

from corten.base.errors import InvalidArgument
from corten.base.files import parse_json
from corten.base.units import parse_number
from corten.engine.schema import Schema, spelled

T = TypeVar("T")
Headers = Sequence[tuple[str, str]]

BODY_LIMIT_BYTES = 4 << 20
_FALSE = frozenset(("", "0", "no", "false", "none"))
_QUERY_LIMIT = 1024


class Query:
    """The query of a URL. Names are as given; a name given more than once keeps all its values."""

    __slots__ = ("_values",)

    def __init__(self, text: str) -> None:
        self._values: dict[str, list[str]] = {}
        if not text:
            return
        pairs = text.split("&", _QUERY_LIMIT)
        if len(pairs) > _QUERY_LIMIT:
            raise InvalidArgument("too many query parameters")
        for pair in pairs:
            name, _, value = pair.partition("=")
            if "%" in pair or "+" in pair:
                name, value = unquote_plus(name), unquote_plus(value)
            if name:
                self._values.setdefault(name, []).append(value)

    def __contains__(self, name: str) -> bool:
        return name in self._values

    def get(self, name: str, default: str = "") -> str:
        """The first value."""
        values = self._values.get(name)
        return values[0] if values else default

    def all(self, name: str) -> list[str]:
        """Every value, in order."""
        return self._values.get(name, [])

    def flag(self, name: str, default: bool = False) -> bool:
        """Docker's truth: everything but empty, 0, no, false and none."""
        values = self._values.get(name)
        return default if not values else values[0].strip().lower() not in _FALSE

    def number(self, name: str, default: int = 0) -> int:
        """A decimal number; empty or absent is the default. Raises InvalidArgument."""
        text = self.get(name)
        return parse_number(text, name, minimum=-(1 << 63)) if text else default

    def filters(self, name: str = "filters") -> dict[str, list[str]]:
        """Docker's filters in both spellings, `{"k":["v"]}` and `{"k":{"v":true}}`. Raises InvalidArgument."""
        text = self.get(name)
        if not text:
            return {}
        try:
            decoded = parse_json(text, limit_bytes=1 << 20, limit_depth=4)
        except InvalidArgument:
            raise InvalidArgument("invalid filter") from None
        if not isinstance(decoded, dict):
            raise InvalidArgument("invalid filter")
        return {key: _filter_values(values) for key, values in decoded.items()}


def _filter_values(values: object) -> list[str]:
    if isinstance(values, dict) and all(isinstance(value, bool) for value in values.values()):
        return [key for key, wanted in values.items() if wanted]
    if isinstance(values, list) and all(isinstance(value, str) for value in values):
        return values
    raise InvalidArgument("invalid filter")


class Source(Protocol):
    """The side of a connection a request reads from (server.py, or a test)."""

    async def read_body(self) -> bytes:
        """The next piece of the body; b"" at its end."""

    async def hijack(
        self, request: "Request", content_type: str | None, upgrade: str | None, headers: "Headers",
    ) -> Any:
        """Answer 101 or 200 and hand the raw connection over."""


class Request:
    """One request; `version` is (1, 51) when the path names none."""

    __slots__ = ("_query", "has_body", "headers", "method", "params", "path", "query_text", "source", "version")

    def __init__(
        self, method: str, path: str, query_text: str, headers: dict[str, str], source: Source,
        version: tuple[int, int] = (1, 51), has_body: bool = False,
    ) -> None:
        self.method = method
        self.path = path  # without the version prefix, still percent-encoded
        self.query_text = query_text
        self.headers = headers  # lower-case names
        self.source = source
        self.version = version
        self.has_body = has_body
        self.params: dict[str, str] = {}
        self._query: Query | None = None

    @property
    def query(self) -> Query:
        """The query, decoded on first use. Raises InvalidArgument."""
        if self._query is None:
            self._query = Query(self.query_text)
        return self._query

    async def stream(self) -> AsyncIterator[bytes]:
        """The body piece by piece, as it arrives."""
        while piece := await self.source.read_body():
            yield piece

    async def body(self, limit: int = BODY_LIMIT_BYTES) -> bytes:
        """The whole body. Raises InvalidArgument when it is longer than `limit` bytes."""
        if not self.has_body:
            return b""
        pieces = []
        size = 0
        while piece := await self.source.read_body():
            size += len(piece)
            if size > limit:
                raise InvalidArgument(f"request body is longer than {limit} bytes")
            pieces.append(piece)
        return b"".join(pieces)

    async def json(self, kind: type[T], limit: int = BODY_LIMIT_BYTES) -> T:
        """The JSON body as a msgspec struct; an empty body is the struct's defaults, null is "not given", as in Go.

        Raises InvalidArgument: wrong content type, bad JSON, wrong types.
        """
        value = await self._json(limit)
        if issubclass(kind, Schema):
            value = spelled(value, kind)
        try:
            return msgspec.convert({} if value is None else value, kind)
        except msgspec.ValidationError as error:
            raise InvalidArgument(f"invalid JSON: {error}") from None

    async def json_object(self) -> dict[str, Any]:
        """The JSON body as it is, an object; empty when there is none. Raises InvalidArgument."""
        value = await self._json(BODY_LIMIT_BYTES)
        if not isinstance(value, dict | None):
            raise InvalidArgument("invalid JSON: the body is not an object")
        return value or {}

    async def _json(self, limit: int) -> object:
        data = await self.body(limit)
        content_type = self.headers.get("content-type", "")
        if (content_type or data) and not _is_json(content_type):
            raise InvalidArgument(
                f"unsupported Content-Type header ({content_type}): must be 'application/json'" if content_type
                else "malformed Content-Type header (): mime: no media type"
            )
        return _without_nulls(parse_json(data, limit_bytes=limit)) if data.strip() else {}

    async def hijack(
        self, content_type: str | None = None, upgrade: str | None = None, headers: "Headers" = (),
    ) -> Any:
        """Take the connection over: 101 UPGRADED when the client asked for an upgrade, else 200, then raw bytes.

        Returns a `corten.api.stream.Connection`. `upgrade` names the protocol answered (default: the one asked for);
        `headers` come with it.
        """
        return await self.source.hijack(self, content_type, upgrade, headers)


def _is_json(content_type: str) -> bool:
    return content_type.partition(";")[0].strip().lower() == "application/json"


def _without_nulls(value: object) -> object:
    """Go leaves a field alone when its JSON is null; so do we, by dropping it."""
    if isinstance(value, dict):
        return {key: _without_nulls(inner) for key, inner in value.items() if inner is not None}
    if isinstance(value, list):
        return [_without_nulls(inner) for inner in value]
    if isinstance(value, int) and value >= 1 << 63:
        raise InvalidArgument(f"invalid JSON: cannot unmarshal number {value} into a value of type int64")
    return value
