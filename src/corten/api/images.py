"""Images over HTTP: list, inspect, history, tag, remove, prune, load, save, import, commit.

Translates only. Pull, push, search and login are distribution.py's. Source: Engine API 1.51, "Image", POST /commit.
"""

from collections.abc import AsyncIterator, Iterator
from typing import Any

from corten.api.messages import message_lines
from corten.api.request import Request
from corten.api.response import JSON, Response, empty, json_response, streaming
from corten.api.router import Route
from corten.base.errors import InvalidArgument
from corten.base.files import parse_json
from corten.engine.image_transfer import CommitRequest, ImportRequest
from corten.engine.images import new_name
from corten.engine.streams import FileSpan

_TAR = "application/x-tar"
_NONE = "<none>:<none>"


async def list_images(request: Request, engine: Any) -> Response:
    """GET /images/json."""
    query = request.query
    filters = query.filters()
    if query.get("filter"):  # before API 1.41
        filters.setdefault("reference", []).append(query.get("filter"))
    found = engine.images.list(query.flag("all"), filters, shared_size=query.flag("shared-size"),
                               manifests=query.flag("manifests"))
    if request.version < (1, 43):  # clients of then cannot take an image without a name
        for summary in found:
            if not summary["RepoTags"] and not summary["RepoDigests"]:
                summary["RepoTags"], summary["RepoDigests"] = [_NONE], ["<none>@<none>"]
    if request.version < (1, 51):
        for summary in found:
            summary["Containers"] = -1
    if request.version < (1, 44):
        for summary in found:
            summary["VirtualSize"] = summary["Size"]
    return json_response(found)


async def inspect(request: Request, engine: Any) -> Response:
    """GET /images/{name}/json."""
    if request.query.flag("manifests") and request.query.get("platform"):
        raise InvalidArgument("conflicting options: manifests and platform options cannot both be set")
    image = await engine.images.of_platform(request.params["name"], _platform(request.query.get("platform")))
    found = engine.images.inspect(image, manifests=request.query.flag("manifests"))
    if request.version < (1, 44):
        found["VirtualSize"] = found["Size"]
    if request.version < (1, 45):
        found["ContainerConfig"] = {**found["Config"], "Cmd": engine.images.made_by(image)}
    return json_response(found)


async def history(request: Request, engine: Any) -> Response:
    """GET /images/{name}/history."""
    image = await engine.images.of_platform(request.params["name"], _platform(request.query.get("platform")))
    return json_response(engine.images.history(image))


async def tag(request: Request, engine: Any) -> Response:
    """POST /images/{name}/tag."""
    engine.images.tag(request.params["name"], request.query.get("repo"), request.query.get("tag"))
    return empty(201)


async def remove(request: Request, engine: Any) -> Response:
    """DELETE /images/{name}."""
    query = request.query
    if not request.params["name"].strip():
        raise InvalidArgument("image name cannot be blank")
    name, force, prune = request.params["name"], query.flag("force"), not query.flag("noprune")
    platforms = [_platform(text) for text in query.all("platforms")]
    if platforms:
        return json_response(await engine.images.remove_platforms(name, platforms, force, prune))
    return json_response(engine.images.remove(name, force, prune))


async def prune(request: Request, engine: Any) -> Response:
    """POST /images/prune."""
    return json_response(engine.images.prune(request.query.filters()))


async def load(request: Request, engine: Any) -> Response:
    """POST /images/load."""
    query = request.query
    messages = engine.images.load_messages(request.stream(), _platform(query.get("platform")), query.flag("quiet"))
    return streaming(message_lines(messages), JSON)


def _platform(text: str) -> str:
    """`{"os":"linux","architecture":"arm64"}` -> `linux/arm64`."""
    if not text:
        return ""
    value = parse_json(text, 4096)
    if not isinstance(value, dict) or not all(isinstance(part, str) for part in value.values()):
        raise InvalidArgument(f"failed to parse platform: {text}")
    return "/".join(part for part in (value.get("os"), value.get("architecture"), value.get("variant")) if part)


async def save(request: Request, engine: Any) -> Response:
    """GET /images/{name}/get."""
    return _archive(engine.images.save([request.params["name"]], _platform(request.query.get("platform"))))


async def save_many(request: Request, engine: Any) -> Response:
    """GET /images/get?names=…"""
    names = [name for value in request.query.all("names") for name in value.split(",") if name]
    return _archive(engine.images.save(names, _platform(request.query.get("platform"))))


def _archive(pieces: Iterator[bytes | FileSpan]) -> Response:
    async def stream() -> AsyncIterator[bytes | FileSpan]:
        for piece in pieces:
            yield piece

    return streaming(stream(), _TAR)


async def import_image(request: Request, engine: Any) -> Response:
    """POST /images/create with fromSrc (handed on by distribution.py)."""
    query = request.query
    source = query.get("fromSrc")
    name = new_name(query.get("repo"), query.get("tag")) if query.get("repo") else ""
    wanted = ImportRequest(source, name, query.get("message"), query.all("changes"), query.get("platform"))
    if source != "-":
        return streaming(message_lines(await engine.images.import_url(wanted)), JSON)
    return json_response({"status": await engine.images.import_archive(request.stream(), wanted)})


async def commit(request: Request, engine: Any) -> Response:
    """POST /commit; the body may hold config fields that replace the container's."""
    query = request.query
    config = await request.json_object()
    container = query.get("container")
    name = new_name(query.get("repo"), query.get("tag")) if query.get("repo") else ""
    wanted = CommitRequest(name, query.get("comment"), query.get("author"), query.all("changes"),
                           query.flag("pause", request.version >= (1, 13)), config)
    return json_response({"Id": await engine.images.commit(container, wanted)}, 201)


ROUTES = [
    Route("GET", "/images/json", list_images),
    Route("GET", "/images/get", save_many),
    Route("POST", "/images/load", load),
    Route("POST", "/images/prune", prune),
    Route("GET", "/images/{name:path}/json", inspect),
    Route("GET", "/images/{name:path}/history", history),
    Route("GET", "/images/{name:path}/get", save),
    Route("POST", "/images/{name:path}/tag", tag),
    Route("DELETE", "/images/{name:path}", remove),
    Route("POST", "/commit", commit),
]
