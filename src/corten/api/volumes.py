"""Handlers of /volumes: decode, ask the engine, encode."""

from typing import Any

from corten.api.request import Request
from corten.api.response import Response, empty, json_response
from corten.api.router import Route
from corten.base.errors import Unavailable, Unsupported
from corten.engine.volumes import CreateVolume


async def list_volumes(request: Request, engine: Any) -> Response:
    return json_response(engine.volumes.list(request.query.filters()))


async def create_volume(request: Request, engine: Any) -> Response:
    asked = await request.json(CreateVolume)
    if asked.cluster_volume_spec:
        raise Unsupported("ClusterVolumeSpec: cluster volumes need a swarm, which is not supported")
    made = await engine.volumes.create(asked.name, asked.driver, asked.driver_opts, asked.labels)
    return json_response(made, 201)


async def inspect_volume(request: Request, engine: Any) -> Response:
    return json_response(engine.volumes.inspect(request.params["name"]))


async def update_volume(request: Request, engine: Any) -> Response:
    raise Unavailable("volume update only valid for cluster volumes, but swarm is unavailable")


async def remove_volume(request: Request, engine: Any) -> Response:
    await engine.volumes.remove(request.params["name"], request.query.flag("force"))
    return empty()


async def prune_volumes(request: Request, engine: Any) -> Response:
    filters = request.query.filters()
    if request.version < (1, 42):  # before, a prune took named volumes too
        filters.setdefault("all", ["true"])
    removed, freed = await engine.volumes.prune(filters)
    return json_response({"VolumesDeleted": removed, "SpaceReclaimed": freed})


ROUTES = [
    Route("GET", "/volumes", list_volumes),
    Route("POST", "/volumes/create", create_volume),
    Route("POST", "/volumes/prune", prune_volumes),
    Route("GET", "/volumes/{name}", inspect_volume),
    Route("PUT", "/volumes/{name}", update_volume),
    Route("DELETE", "/volumes/{name}", remove_volume),
]
