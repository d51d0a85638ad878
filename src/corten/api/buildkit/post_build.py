"""`POST /build?version=2`: BuildKit's builder for clients that send a tar, or keep a session open beside the request.

The query becomes what buildx asks Control.Solve for; what that tells goes out as lines of JSON.
Source: moby builder/builder-next/builder.go.
"""

import asyncio
import base64
import json
from collections.abc import AsyncIterator
from typing import TYPE_CHECKING, Any

import msgspec
from grpclib.exceptions import GRPCError

from corten.api.buildkit.control import Service
from corten.api.buildkit.progress import failure_text
from corten.api.buildkit.questions import BuildFailed
from corten.api.buildkit.routes import parts_of
from corten.api.buildkit.solve import Posted
from corten.api.request import Query, Request
from corten.api.response import JSON, Response, streaming
from corten.base.errors import Error, InvalidArgument, Unavailable, Unsupported
from corten.base.files import parse_json
from corten.base.ids import new_id
from corten.build.buildkit.messages import new
from corten.engine.builds import BuildRequest, tag_name

if TYPE_CHECKING:
    from corten.engine.engine import Engine

_SESSION = "client-session"  # the value of `remote` when the context comes by the session
_INLINE_CACHE = "BUILDKIT_INLINE_CACHE"


async def post_build(request: Request, engine: "Engine", asked: BuildRequest) -> Response:
    """Build what was asked for. Raises InvalidArgument, Unsupported, Unavailable before anything is built."""
    wanted = _solve_request(request.query, asked)
    body = _Body(request)
    posted = Posted(asked, None if asked.remote else body.pieces())
    try:
        lines = _Lines(parts_of(engine).service, wanted, posted, asked.options.quiet)
    except GRPCError as error:  # too many are under way
        raise Unavailable(str(error.message)) from None
    await lines.begun(body)
    return streaming(lines, JSON)


class _Body:
    """The request's body; nothing is answered before it is read, which some clients do not expect."""

    def __init__(self, request: Request) -> None:
        self._request = request
        self.read = asyncio.Event()

    async def pieces(self) -> AsyncIterator[bytes]:
        try:
            async for piece in self._request.stream():
                yield piece
        finally:
            self.read.set()


class _Lines:
    """A build's messages; leaving it cancels the build."""

    def __init__(self, service: Service, wanted: Any, posted: Posted, quiet: bool) -> None:
        progress = service.progress(wanted.Ref).read()
        self._build = asyncio.create_task(service.solve(wanted, posted))
        self._messages = self._told(progress, wanted, quiet)
        self._waits = posted.context is not None

    async def begun(self, body: _Body) -> None:
        """Wait until the body is read, or never will be."""
        reading = asyncio.create_task(body.read.wait())
        try:
            if self._waits:
                await asyncio.wait((reading, self._build), return_when=asyncio.FIRST_COMPLETED)
        except asyncio.CancelledError:
            await self.aclose()
            raise
        finally:
            reading.cancel()

    def __aiter__(self) -> "_Lines":
        return self

    async def __anext__(self) -> bytes:
        return msgspec.json.encode(await anext(self._messages)) + b"\r\n"

    async def aclose(self) -> None:
        """Leave."""
        self._build.cancel()
        await asyncio.gather(self._build, return_exceptions=True)

    async def _told(self, progress: AsyncIterator[Any], wanted: Any, quiet: bool) -> AsyncIterator[dict[str, Any]]:
        held = []
        async for update in progress:
            trace = base64.b64encode(update.SerializeToString()).decode()
            held.append({"id": "moby.buildkit.trace", "aux": trace})
            if not quiet:
                yield held.pop()
        try:
            image_id = (await self._build).get("containerimage.digest", "")
            if not image_id:
                raise BuildFailed("context canceled")
        except (BuildFailed, Error, OSError) as error:
            for message in held:
                yield message
            text = failure_text(error)
            yield {"errorDetail": {"message": text}, "error": text}
            return
        if quiet:
            yield {"stream": f"{image_id}\n"}
        elif any(one.Type in ("moby", "image") for one in wanted.Exporters):
            yield {"id": "moby.image.id", "aux": {"ID": image_id}}


def _solve_request(query: Query, asked: BuildRequest) -> Any:
    """A SolveRequest. Raises InvalidArgument, Unsupported."""
    session = query.get("session")
    if asked.remote == _SESSION and not session:
        raise InvalidArgument(f"the build context is to come by a session, and none is named: remote={_SESSION}")
    if asked.remote == "upload-request" or asked.build_id.startswith("upload-request:"):
        raise Unsupported("a context in a request of its own (upload-request) is not done: send it with the build")
    mode = asked.limits.network_mode
    if mode not in ("", "default", "host", "none"):
        raise InvalidArgument(f'network mode "{mode}" not supported by buildkit')
    exports = [new("CacheOptionsEntry", Type="inline")] if _is_true(asked.options.arguments.get(_INLINE_CACHE)) else []
    return new(
        "SolveRequest", Ref=new_id(), Session=session, Frontend="dockerfile.v0", FrontendAttrs=_attributes(asked),
        Exporters=_exporters(query, asked), Cache=new("CacheOptions", Exports=exports),
        Entitlements=["network.host"] if mode == "host" else [])


def _attributes(asked: BuildRequest) -> dict[str, str]:
    """Attributes of the front end; what limits the steps, and how registries are logged in to, goes beside them."""
    options = asked.options
    found = {"image-resolve-mode": "pull" if options.pull else "default", "target": options.target,
             "platform": options.platform}
    if asked.dockerfile not in ("", "."):
        found["filename"] = asked.dockerfile
    if asked.remote not in ("", _SESSION):
        found["context"] = asked.remote
    if not options.use_cache:
        found["no-cache"] = ""
    if asked.cache_from:
        found["cache-imports"] = json.dumps([{"Type": "registry", "Attrs": {"ref": ref}} for ref in asked.cache_from])
    found |= {f"build-arg:{name}": value for name, value in options.arguments.items() if value is not None}
    return found | {f"label:{name}": value for name, value in options.labels.items()}


def _exporters(query: Query, asked: BuildRequest) -> list[Any]:
    """`outputs`: [{"Type", "Attrs"}], one at most; without it the image stays here. Raises InvalidArgument."""
    names = ",".join(tag_name(tag) for tag in asked.tags)
    outputs = parse_json(query.get("outputs"), limit_bytes=1 << 20, limit_depth=4) if query.get("outputs") else None
    if not outputs:
        return [new("Exporter", Type="moby", Attrs={"name": names} if names else {})]
    if not isinstance(outputs, list) or not isinstance(outputs[0], dict):
        raise InvalidArgument("invalid outputs specified: not a list of objects")
    if len(outputs) > 1:
        raise InvalidArgument("multiple outputs not supported")
    kind, attributes = outputs[0].get("Type"), outputs[0].get("Attrs") or {}
    if kind == "cacheonly":
        return []
    if not isinstance(kind, str) or not isinstance(attributes, dict):
        raise InvalidArgument("invalid outputs specified: Type is a text, Attrs an object")
    texts = {str(name): str(value) for name, value in attributes.items()}
    if names and kind in ("moby", "image"):
        texts["name"] = names
    return [new("Exporter", Type=kind, Attrs=texts)]


def _is_true(text: str | None) -> bool:
    return (text or "").lower() in ("1", "t", "true")
