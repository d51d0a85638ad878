"""Handlers of /networks: decode, ask the engine, encode."""

from typing import Any

from corten.api.request import Request
from corten.api.response import Response, empty, json_response
from corten.api.router import Route
from corten.engine.network_records import ConnectRequest, CreateNetwork


async def list_networks(request: Request, engine: Any) -> Response:
    return json_response(engine.networks.list(request.query.filters()))


async def create_network(request: Request, engine: Any) -> Response:
    network_id, warning = await engine.networks.create(await request.json(CreateNetwork))
    return json_response({"Id": network_id, "Warning": warning}, 201)


async def inspect_network(request: Request, engine: Any) -> Response:
    return json_response(engine.networks.inspect(request.params["id"], request.query.get("scope")))


async def remove_network(request: Request, engine: Any) -> Response:
    await engine.networks.remove(request.params["id"])
    return empty()


async def prune_networks(request: Request, engine: Any) -> Response:
    removed = await engine.networks.prune(request.query.filters())
    return json_response({"NetworksDeleted": removed or None})


async def connect_network(request: Request, engine: Any) -> Response:
    asked = await request.json(ConnectRequest)
    engine.gateway.check_connect(request.params["id"], asked.container)
    await engine.networks.connect(request.params["id"], asked.container, asked.endpoint_config)
    await engine.gateway.moved(asked.container)
    return empty(200)


async def disconnect_network(request: Request, engine: Any) -> Response:
    asked = await request.json(ConnectRequest)
    await engine.networks.disconnect(request.params["id"], asked.container, asked.force)
    await engine.gateway.moved(asked.container)
    return empty(200)


async def trace_network(request: Request, engine: Any) -> Response:
    return json_response(engine.networks.trace(request.params["id"]))


ROUTES = [
    Route("GET", "/networks", list_networks),
    Route("GET", "/networks/", list_networks),
    Route("POST", "/networks/create", create_network),
    Route("POST", "/networks/prune", prune_networks),
    Route("GET", "/networks/{id}", inspect_network),
    Route("DELETE", "/networks/{id}", remove_network),
    Route("POST", "/networks/{id}/connect", connect_network),
    Route("POST", "/networks/{id}/disconnect", disconnect_network),
    Route("GET", "/corten/containers/{id}/network-trace", trace_network),  # ours: docker has none
]
