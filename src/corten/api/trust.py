"""Handlers of trust between containers: identities, who may call whom. Rules are documents (api/gateway.py)."""

from typing import Any

from corten.api.request import Request
from corten.api.response import Response, empty, json_response
from corten.api.router import Route

PREFIX = "/corten/v1/trust"


async def identities(_request: Request, engine: Any) -> Response:
    return json_response(engine.gateway.trust())


async def matrix(_request: Request, engine: Any) -> Response:
    return json_response(engine.gateway.matrix())


async def rotate(_request: Request, engine: Any) -> Response:
    await engine.gateway.rotate()
    return empty()


ROUTES = [
    Route("GET", PREFIX, identities),
    Route("GET", f"{PREFIX}/matrix", matrix),
    Route("POST", f"{PREFIX}/rotate", rotate),
]
