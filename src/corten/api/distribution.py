"""Registries over HTTP: /images/create, /images/{name}/push, /auth, /distribution/{name}/… and /images/search.

Translates only; progress is one JSON object a line. Source: Docker Engine API, Image and Distribution sections.
"""

from typing import Any

from corten.api.messages import message_lines
from corten.api.request import Request
from corten.api.response import JSON, Response, json_response, streaming
from corten.api.router import Route
from corten.base.errors import InvalidArgument
from corten.base.files import parse_json
from corten.oci.platform import Platform, platform_of
from corten.registry.auth import Credentials, credentials_from, parse_header

_BODY_LIMIT_BYTES = 64 << 10


def _credentials(request: Request) -> Credentials:
    return parse_header(request.headers.get("x-registry-auth", ""))


async def create(request: Request, engine: Any) -> Response:
    """POST /images/create: a pull with `fromImage`, an import with `fromSrc`."""
    query = request.query
    if "fromSrc" in query:
        from corten.api.images import import_image

        return await import_image(request, engine)
    name = query.get("fromImage")
    if not name:
        raise InvalidArgument("fromImage or fromSrc is needed")
    messages = await engine.distribution.pull(name, query.get("tag"), query.get("platform"), _credentials(request))
    return streaming(message_lines(messages), JSON)


async def push(request: Request, engine: Any) -> Response:
    """POST /images/{name}/push."""
    name, tag = request.params["name"], request.query.get("tag")
    platform = _platform(request.query.get("platform"))
    messages = await engine.distribution.push(name, tag, _credentials(request), platform)
    return streaming(message_lines(messages), JSON)


def _platform(text: str) -> Platform | None:
    """The platform of a push: an OCI platform object as JSON. Raises InvalidArgument."""
    if not text:
        return None
    found = platform_of(parse_json(text, limit_bytes=_BODY_LIMIT_BYTES, limit_depth=4))
    if found is None:
        raise InvalidArgument("invalid platform: os and architecture are needed")
    return found


async def auth(request: Request, engine: Any) -> Response:
    """POST /auth: whether a registry takes a login."""
    body = await request.body(_BODY_LIMIT_BYTES)
    fields = parse_json(body, limit_bytes=_BODY_LIMIT_BYTES, limit_depth=4) if body else {}
    address = fields.get("serveraddress") or "" if isinstance(fields, dict) else ""
    if not isinstance(address, str):
        raise InvalidArgument("invalid serveraddress")
    return json_response(await engine.distribution.login(address, credentials_from(fields)))


async def inspect(request: Request, engine: Any) -> Response:
    """GET /distribution/{name}/json."""
    return json_response(await engine.distribution.inspect(request.params["name"], _credentials(request)))


async def referrers(request: Request, engine: Any) -> Response:
    """GET /distribution/{name}/referrers: signatures and attestations of an image at its registry. Not docker's."""
    name, kind = request.params["name"], request.query.get("artifactType")
    return json_response(await engine.distribution.referrers(name, kind, _credentials(request)))


async def search(request: Request, engine: Any) -> Response:
    """GET /images/search."""
    query = request.query
    found = await engine.distribution.search(query.get("term"), query.number("limit"), query.filters())
    return json_response(found)


ROUTES = [
    Route("POST", "/images/create", create, ends_with_client=True),
    Route("POST", "/images/{name:path}/push", push, ends_with_client=True),
    Route("POST", "/auth", auth),
    Route("GET", "/distribution/{name:path}/json", inspect),
    Route("GET", "/distribution/{name:path}/referrers", referrers),
    Route("GET", "/images/search", search),
]
