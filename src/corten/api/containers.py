"""The container verbs of the API: what a request says, handed to the engine. Streams have files of their own."""

from collections.abc import Coroutine
from typing import Any

from corten.api.request import Request
from corten.api.response import JSON, Response, empty, encode, json_response, streaming
from corten.api.router import Route
from corten.base.errors import InvalidArgument, NotFound
from corten.base.units import parse_number
from corten.engine.engine import Engine
from corten.engine.records import CreateRequest
from corten.engine.update import UpdateRequest


async def create(request: Request, engine: Engine) -> Response:
    """POST /containers/create?name=&platform="""
    body = await request.json(CreateRequest)
    if request.version < (1, 40) and body.host_config and not body.host_config.ipc_mode:
        body.host_config.ipc_mode = "shareable"  # the default of those days
    if request.version < (1, 44) and body.networking_config and len(body.networking_config.endpoints_config) > 1:
        raise InvalidArgument("Container cannot be created with multiple network endpoints: "
                              + ", ".join(sorted(body.networking_config.endpoints_config)))
    container_id, warnings = await engine.containers.create(
        request.query.get("name"), body, request.query.get("platform"))
    return json_response({"Id": container_id, "Warnings": warnings}, 201)


async def list_containers(request: Request, engine: Engine) -> Response:
    """GET /containers/json?all=&limit=&size=&filters="""
    query = request.query
    rows = engine.containers.list(query.flag("all"), query.number("limit"), query.filters(), query.flag("size"))
    return json_response(rows)


async def inspect(request: Request, engine: Engine) -> Response:
    """GET /containers/{id}/json?size="""
    return json_response(engine.containers.inspect(request.params["id"], request.query.flag("size")))


async def start(request: Request, engine: Engine) -> Response:
    """POST /containers/{id}/start"""
    if request.query.get("checkpoint"):
        raise InvalidArgument("checkpoint is not supported by this engine")
    await engine.containers.start(request.params["id"])
    return empty()


def _timeout(request: Request) -> int | None:
    text = request.query.get("t")
    return parse_number(text, "t", minimum=-1, maximum=1 << 31) if text else None


async def stop(request: Request, engine: Engine) -> Response:
    """POST /containers/{id}/stop?t=&signal="""
    await engine.containers.stop(request.params["id"], _timeout(request), request.query.get("signal"))
    return empty()


async def restart(request: Request, engine: Engine) -> Response:
    """POST /containers/{id}/restart?t=&signal="""
    await engine.containers.restart(request.params["id"], _timeout(request), request.query.get("signal"))
    return empty()


async def kill(request: Request, engine: Engine) -> Response:
    """POST /containers/{id}/kill?signal="""
    await engine.containers.kill(request.params["id"], request.query.get("signal"))
    return empty()


async def pause(request: Request, engine: Engine) -> Response:
    """POST /containers/{id}/pause"""
    await engine.containers.pause(request.params["id"])
    return empty()


async def unpause(request: Request, engine: Engine) -> Response:
    """POST /containers/{id}/unpause"""
    await engine.containers.unpause(request.params["id"])
    return empty()


async def rename(request: Request, engine: Engine) -> Response:
    """POST /containers/{id}/rename?name="""
    await engine.containers.rename(request.params["id"], request.query.get("name"))
    return empty()


async def update(request: Request, engine: Engine) -> Response:
    """POST /containers/{id}/update"""
    asked = await request.json(UpdateRequest)
    if request.version < (1, 40):
        asked.pids_limit = None
    warnings = await engine.containers.update(request.params["id"], asked)
    return json_response({"Warnings": warnings or None})


async def remove(request: Request, engine: Engine) -> Response:
    """DELETE /containers/{id}?force=&v=&link="""
    query = request.query
    if query.flag("link"):
        await engine.containers.unlink(request.params["id"])
        return empty()
    await engine.containers.remove(request.params["id"], query.flag("force"), query.flag("v"))
    return empty()


async def remove_link(request: Request, engine: Engine) -> Response:
    """DELETE /containers/{parent}/{alias}?link=1: a link's name has a slash, which clients send as it is."""
    path = f"{request.params['parent']}/{request.params['alias']}"
    if not request.query.flag("link"):
        raise NotFound(f"No such container: {path}")
    await engine.containers.unlink(path)
    return empty()


async def prune(request: Request, engine: Engine) -> Response:
    """POST /containers/prune?filters="""
    removed, freed = await engine.containers.prune(request.query.filters())
    return json_response({"ContainersDeleted": removed or None, "SpaceReclaimed": freed})


async def wait(request: Request, engine: Engine) -> Response:
    """POST /containers/{id}/wait?condition= -- headers go at once, the code when it is there. `healthy` is ours."""
    if request.query.get("condition") == "healthy":
        return _wait_healthy(engine.containers.wait_healthy(request.params["id"]))
    future = engine.containers.wait(request.params["id"], request.query.get("condition"))

    async def answer() -> Any:
        try:
            code = await future
        finally:
            future.cancel()
        yield b'{"StatusCode":%d}\n' % code

    return streaming(answer(), JSON)


def _wait_healthy(waiting: Coroutine[Any, Any, tuple[int, str]]) -> Response:
    async def answer() -> Any:
        code, message = await waiting
        yield encode({"StatusCode": code, **({"Error": {"Message": message}} if message else {})})

    return streaming(answer(), JSON)


ROUTES = [
    Route("POST", "/containers/create", create),
    Route("GET", "/containers/json", list_containers),
    Route("POST", "/containers/prune", prune),
    Route("GET", "/containers/{id}/json", inspect),
    Route("POST", "/containers/{id}/start", start),
    Route("POST", "/containers/{id}/stop", stop),
    Route("POST", "/containers/{id}/restart", restart),
    Route("POST", "/containers/{id}/kill", kill),
    Route("POST", "/containers/{id}/pause", pause),
    Route("POST", "/containers/{id}/unpause", unpause),
    Route("POST", "/containers/{id}/rename", rename),
    Route("POST", "/containers/{id}/update", update),
    Route("POST", "/containers/{id}/wait", wait, ends_with_client=True),
    Route("DELETE", "/containers/{id}", remove),
    Route("DELETE", "/containers/{parent}/{alias}", remove_link),
]
