"""Handlers of the gateway, which docker has not: below a prefix of their own, with a version of their own."""

from typing import Any

from corten.api.request import Request
from corten.api.response import Response, empty, json_response, streaming, text
from corten.api.router import Route
from corten.base.errors import InvalidArgument

PREFIX = "/corten/v1/gateway"
NDJSON = "application/x-ndjson"
PROMETHEUS = "text/plain; version=0.0.4; charset=utf-8"


async def status(_request: Request, engine: Any) -> Response:
    return json_response(await engine.gateway.status())


async def documents(_request: Request, engine: Any) -> Response:
    return json_response(engine.gateway.documents())


async def apply(request: Request, engine: Any) -> Response:
    return json_response(await engine.gateway.apply(await request.body(), request.query.flag("dry")))


async def register(request: Request, engine: Any) -> Response:
    return json_response(await engine.gateway.register(await request.body()), 201)


async def remove(request: Request, engine: Any) -> Response:
    await engine.gateway.remove(f"{request.params['kind']}/{request.params['name']}")
    return empty()


async def routes(_request: Request, engine: Any) -> Response:
    return json_response(engine.gateway.routes())


async def show(request: Request, engine: Any) -> Response:
    return json_response(engine.gateway.show(request.params["name"]))


def _asked(request: Request) -> dict[str, Any]:
    headers = []
    for line in request.query.all("header"):
        name, colon, value = line.partition(":")
        if not colon or not name.strip():
            raise InvalidArgument(f"invalid header: {line!r}: not NAME: VALUE")
        headers.append((name.strip(), value.strip()))
    return {"Method": request.query.get("method", "GET"), "Url": request.query.get("url"), "Headers": headers}


async def explain(request: Request, engine: Any) -> Response:
    return json_response(engine.gateway.explain(_asked(request)))


async def test(request: Request, engine: Any) -> Response:
    return json_response(await engine.gateway.test(_asked(request), await request.body()))


async def metrics(_request: Request, engine: Any) -> Response:
    return text((await engine.gateway.metrics()).decode(), content_type=PROMETHEUS)


async def rates(_request: Request, engine: Any) -> Response:
    return json_response(await engine.gateway.rates())


async def backends(_request: Request, engine: Any) -> Response:
    return json_response(await engine.gateway.backends())


async def audit(request: Request, engine: Any) -> Response:
    count = request.query.number("tail", 100)
    if not 0 <= count <= 100_000:
        raise InvalidArgument(f"invalid tail: {count}: must be between 0 and 100000")
    return streaming(engine.gateway.audit(count, request.query.flag("follow")), NDJSON)


async def versions(_request: Request, engine: Any) -> Response:
    return json_response(engine.gateway.versions())


async def authority(_request: Request, engine: Any) -> Response:
    return text(engine.gateway.authority.root(), content_type="application/x-pem-file")


async def schema(_request: Request, engine: Any) -> Response:
    return json_response(engine.gateway.schema())


ROUTES = [
    Route("GET", PREFIX, status),
    Route("GET", f"{PREFIX}/documents", documents),
    Route("POST", f"{PREFIX}/documents", apply),
    Route("DELETE", PREFIX + "/documents/{kind}/{name}", remove),
    Route("POST", f"{PREFIX}/apis", register),
    Route("GET", PREFIX + "/apis/{name}", show),
    Route("GET", f"{PREFIX}/routes", routes),
    Route("GET", f"{PREFIX}/explain", explain),
    Route("POST", f"{PREFIX}/test", test),
    Route("GET", f"{PREFIX}/metrics", metrics),
    Route("GET", f"{PREFIX}/rates", rates),
    Route("GET", f"{PREFIX}/backends", backends),
    Route("GET", f"{PREFIX}/audit", audit),
    Route("GET", f"{PREFIX}/versions", versions),
    Route("GET", f"{PREFIX}/authority", authority),
    Route("GET", f"{PREFIX}/schema", schema),
]
