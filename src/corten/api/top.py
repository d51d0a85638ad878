"""GET /containers/{id}/top."""

from typing import Any

from corten.api.request import Request
from corten.api.response import Response, json_response
from corten.api.router import Route
from corten.engine.top import top as processes


async def top(request: Request, engine: Any) -> Response:
    await engine.containers.settled(request.params["id"])
    return json_response(processes(engine, request.params["id"], request.query.get("ps_args")))


ROUTES = [Route("GET", "/containers/{id}/top", top)]
