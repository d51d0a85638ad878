"""GET and HEAD /_ping, GET /version, /info, /system/df."""

from typing import Any

from corten.api.request import Request
from corten.api.response import Response, json_response, text
from corten.api.router import Route
from corten.api.versions import PING_HEADERS
from corten.base.errors import InvalidArgument
from corten.engine.system import DF_KINDS


async def ping(request: Request, _engine: Any) -> Response:
    response = text("" if request.method == "HEAD" else "OK")
    response.headers = list(PING_HEADERS)
    return response


async def version(_request: Request, engine: Any) -> Response:
    return json_response(engine.system.version())


async def info(_request: Request, engine: Any) -> Response:
    return json_response(engine.system.info())


async def df(request: Request, engine: Any) -> Response:
    kinds = set(request.query.all("type"))
    for kind in sorted(kinds - DF_KINDS):
        raise InvalidArgument(f"unknown object type: {kind}")
    return json_response(await engine.system.df(kinds))


ROUTES = [
    Route("GET", "/_ping", ping), Route("HEAD", "/_ping", ping), Route("GET", "/version", version),
    Route("GET", "/info", info), Route("GET", "/system/df", df),
]
