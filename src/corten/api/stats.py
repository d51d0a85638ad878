"""GET /containers/{id}/stats: one sample, or one each second."""

from collections.abc import AsyncIterator, Awaitable
from contextlib import aclosing
from typing import Any, Protocol

from corten.api.request import Request
from corten.api.response import JSON, Response, encode, json_response, streaming
from corten.api.router import Route


class Closable(Protocol):
    """Values that come until they end or are given up."""

    def __aiter__(self) -> AsyncIterator[Any]: ...
    def aclose(self) -> Awaitable[None]: ...


async def lines(values: Closable) -> AsyncIterator[bytes]:
    """Each value as a line of JSON. A client that goes ends the source at once, not when memory is swept."""
    async with aclosing(values):
        async for value in values:
            yield encode(value)


async def stats(request: Request, engine: Any) -> Response:
    ref, query = request.params["id"], request.query
    if not query.flag("stream", True):
        return json_response(await engine.stats.once(ref, query.flag("one-shot")))
    return streaming(lines(engine.stats.stream(ref)), JSON)


ROUTES = [Route("GET", "/containers/{id}/stats", stats)]
