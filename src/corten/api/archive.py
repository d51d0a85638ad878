"""GET, HEAD and PUT /containers/{id}/archive, GET /containers/{id}/export and /changes."""

import asyncio
import base64
from typing import Any

import msgspec

from corten.api.request import Request
from corten.api.response import Response, empty, json_response, streaming
from corten.api.router import Route
from corten.base.errors import InvalidArgument
from corten.engine.archive import PutRequest
from corten.engine.changes import changes as changed_paths

TAR = "application/x-tar"


def _path(request: Request) -> str:
    path = request.query.get("path")
    if not path or "\0" in path:
        raise InvalidArgument("bad parameter: pathcannot be empty" if not path else "invalid path")
    return path


def _stat_header(stat: dict[str, Any]) -> list[tuple[str, str]]:
    return [("X-Docker-Container-Path-Stat", base64.b64encode(msgspec.json.encode(stat)).decode())]


async def get(request: Request, engine: Any) -> Response:
    stat, pieces = await engine.archives.get(request.params["id"], _path(request))
    return streaming(pieces, TAR, headers=_stat_header(stat))


async def head(request: Request, engine: Any) -> Response:
    return empty(200, _stat_header(await engine.archives.stat(request.params["id"], _path(request))))


async def put(request: Request, engine: Any) -> Response:
    query = request.query
    asked = PutRequest(_path(request), query.flag("noOverwriteDirNonDir"), query.flag("copyUIDGID"))
    await engine.archives.put(request.params["id"], asked, request.stream())
    return empty(200)


async def export(request: Request, engine: Any) -> Response:
    return streaming(engine.archives.export(request.params["id"]), "application/octet-stream")


async def changes(request: Request, engine: Any) -> Response:
    found = await asyncio.to_thread(changed_paths, engine, request.params["id"])
    return json_response(found or None)


ROUTES = [
    Route("GET", "/containers/{id}/archive", get), Route("HEAD", "/containers/{id}/archive", head),
    Route("PUT", "/containers/{id}/archive", put), Route("GET", "/containers/{id}/export", export),
    Route("GET", "/containers/{id}/changes", changes),
]
