"""GET /containers/{id}/stats: one sample, or one each second."""

from collections.abc import AsyncIterator
from typing import Any

from corten.api.request import Request
from corten.api.response import JSON, Response, encode, json_response, streaming
from corten.api.router import Route


async def lines(values: AsyncIterator[Any]) -> AsyncIterator[bytes]:
    """Each value as a line of JSON."""
    async for value in values:
        yield encode(value)


async def stats(request: Request, engine: Any) -> Response:
    ref, query = request.params["id"], request.query
    if not query.flag("stream", True):
        return json_response(await engine.stats.once(ref, query.flag("one-shot")))
    return streaming(lines(engine.stats.stream(ref)), JSON)


ROUTES = [Route("GET", "/containers/{id}/stats", stats)]
