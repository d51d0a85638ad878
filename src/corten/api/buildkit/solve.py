"""One build asked for over BuildKit's protocol: attributes of the front end to a BuildRequest, files by the session.

    Control.Solve (the outer frame: exporters)  <-  LLBBridge.Solve (the Dockerfile)  <-  the client's session
"""

import asyncio
import base64
import contextlib
import functools
import json
from collections.abc import AsyncIterator, Mapping
from typing import TYPE_CHECKING, Any

from grpclib.exceptions import GRPCError, StreamTerminatedError

from corten.api.buildkit import caches, export_attributes
from corten.api.buildkit.agents import ClientAgents
from corten.api.buildkit.attributes import provenance_of, read_attributes
from corten.api.buildkit.contexts import add_named, is_upload, upload
from corten.api.buildkit.export import Result
from corten.api.buildkit.files import FolderListing, listed, read_file
from corten.api.buildkit.progress import Progress, Steps, Vertex, failure_text
from corten.api.buildkit.questions import BuildFailed, Place, located, warn
from corten.api.buildkit.sessions import NoSession, Session, Sessions
from corten.base.errors import Error, InvalidArgument, NotFound, Unsupported
from corten.base.units import now_ns, parse_number
from corten.build import requests
from corten.build.context import NoDockerfile
from corten.build.dockerignore import read_patterns
from corten.build.line import LocatedError
from corten.build.provenance import VERSIONS, Asked
from corten.engine import build_requests
from corten.engine.build_attest import Record, provenance
from corten.engine.build_history import Attached
from corten.engine.build_mounts import Lent
from corten.engine.builds import BuildRequest, BuiltImage
from corten.oci import reference
from corten.oci.digest import digest_of
from corten.oci.image_spec import DOCKER_CONFIG
from corten.oci.platform import Platform

if TYPE_CHECKING:
    from corten.engine.builds import Build
    from corten.engine.engine import Engine

_WAIT_S = 10.0


class Posted:
    """What comes with `POST /build` besides attributes: the context, unless the client's session or a URL has it."""

    __slots__ = ("auths", "build_id", "context", "limits")

    def __init__(self, asked: BuildRequest, context: AsyncIterator[bytes] | None) -> None:
        self.auths, self.build_id, self.limits, self.context = asked.auths, asked.build_id, asked.limits, context


class Solve:
    """A build by its ref: what it tells (`progress`), its image once built, and the outcome the client returned."""

    def __init__(self, ref: str) -> None:
        self.ref = ref
        self.progress = Progress()
        self.session = ""
        self.posted: Posted | None = None
        self.names: list[str] = []
        self.image_id = ""
        self.images: dict[Platform, BuiltImage] = {}
        self.several = False
        self.exporters: list[Any] = []
        self.provenance: Asked | None = None
        self.record = Record(ref, {})
        self.failure: BuildFailed | None = None
        self.epoch: int | None = None
        self.steps: dict[str, str] = {}
        self.platforms: list[str] = []
        self.entitlements: frozenset[str] = frozenset()
        self.begun = asyncio.Event()  # the outer frame has come
        self.returned: asyncio.Future[str] = asyncio.get_running_loop().create_future()

    async def build(self, engine: "Engine", sessions: Sessions, attributes: Mapping[str, str],
                    inputs: Mapping[str, Any]) -> None:
        """Build the Dockerfile that the attributes name. Raises BuildFailed.

        `inputs`: definitions of other builds' results, for contexts that are such.
        """
        await self._frame()
        try:
            await self._build(engine, sessions, attributes, inputs)
        except BuildFailed as error:
            self.failure = error
            raise

    async def open_session(self, sessions: Sessions) -> Session:
        """The client's session. Raises NotFound."""
        return NoSession() if self.posted is not None and not self.session else await sessions.get(self.session)

    def check_exporters(self) -> None:
        """Refuse what cannot be done with the result. Raises Unsupported, InvalidArgument."""
        attested = "" if self.provenance is None else "inline" if self.provenance.inline_only else "always"
        export_attributes.check(self.exporters, len(self.platforms), self.epoch, attested)

    def result(self, engine: "Engine") -> Result:
        """What the exporters are given, once it is built."""
        found = Result({platform: built.id for platform, built in self.images.items()})
        found.several, found.epoch = self.several, self.epoch
        if self.provenance is not None:
            found.inline_only = self.provenance.inline_only
            found.attestations = {platform: [provenance(engine, self.provenance, self.record, built)]
                                  for platform, built in self.images.items()}
        return found

    def documents(self, engine: "Engine", response: Mapping[str, str]) -> list[Attached]:
        """What the history keeps of the result: what was made, and all of its provenance."""
        found = []
        for platform, built in self.images.items():
            told = json.dumps(provenance(engine, Asked("mode=max"), self.record, built).predicate, indent=2).encode()
            name = str(platform) if self.several else ""
            found.append(Attached(VERSIONS["v0.2"], digest_of(told), len(told), name, told))
        if text := response.get("containerimage.descriptor"):
            described = json.loads(base64.b64decode(text))
            found.append(Attached(described["mediaType"], described["digest"], described["size"], result=True))
        elif self.image_id and any(one.Type in ("image", "moby") for one in self.exporters):
            size = engine.images.store.content.size(self.image_id)
            found.append(Attached(DOCKER_CONFIG, self.image_id, size, result=True))
        return found

    async def _frame(self) -> None:
        """Wait for the outer frame, which comes on its own, maybe later than the Dockerfile. Raises BuildFailed."""
        try:
            async with asyncio.timeout(_WAIT_S):
                await self.begun.wait()
        except TimeoutError:
            raise BuildFailed(f"no such job {self.ref}") from None

    async def answer(self, engine: "Engine", sessions: Sessions, attributes: Mapping[str, str]) -> dict[str, bytes]:
        """What `requestid` asks of the Dockerfile: metadata of the result. Raises BuildFailed, Error."""
        await self._frame()
        session = await self.open_session(sessions)
        request = read_attributes(attributes, self.entitlements)
        name, text = attributes.get("filename") or "Dockerfile", b""
        try:
            if attributes.get("context"):
                raise Unsupported(f"{attributes['requestid']} of a remote context is not done yet")
            text = (await self._dockerfile(session, name))[0]
            ignored = await self._ignored(session, name)
            asked = build_requests.question(engine, text, name, request.options.arguments, request.options.target,
                                            ignored)
            return requests.answer(attributes["requestid"], asked)
        except LocatedError as error:
            raise located(error, name, text) from None
        except (Error, OSError, GRPCError, StreamTerminatedError) as error:
            raise BuildFailed(failure_text(error)) from error

    async def _build(self, engine: "Engine", sessions: Sessions, attributes: Mapping[str, str],
                     inputs: Mapping[str, Any]) -> None:
        try:
            session = await self.open_session(sessions)
            request = read_attributes(attributes, self.entitlements)
            if self.posted is not None:
                request.limits, request.auths = self.posted.limits, self.posted.auths
                request.build_id = self.posted.build_id
            request.options.entitlements = self.entitlements
            self.epoch = request.options.epoch = _epoch(attributes)
            self.platforms, self.several = request.options.platforms, bool(request.options.platforms)
            self.provenance = provenance_of(attributes)
            self.check_exporters()
            self._begin_record(attributes)
            request.lent = Lent(session.secret, ClientAgents(session))
            await add_named(engine, session, attributes, inputs, request)
            text = attributes.get("cache-imports", "")
            request.imports = await caches.read(engine, session, self.progress, self.ref, text)
            build = await self._prepare(engine, session, request, attributes)
        except (Error, OSError, GRPCError, StreamTerminatedError) as error:
            raise BuildFailed(failure_text(error)) from error
        steps = Steps(self.progress, self.ref)
        async with contextlib.aclosing(build):
            async for messages in build:
                for message in messages:
                    steps.take(message)
        if build.failed is not None:
            place = Place(attributes.get("filename") or "Dockerfile", request.dockerfile_text or b"", *build.failed_at)
            raise BuildFailed(failure_text(build.failed), place)
        steps.take({"done": True})
        self.record.finished_ns = now_ns()
        self.record.dockerfile = (attributes.get("filename") or "Dockerfile", request.dockerfile_text or b"")
        self.image_id, self.steps, self.images = build.image_id, build.steps, build.images

    def _begin_record(self, attributes: Mapping[str, str]) -> None:
        self.record = Record(self.ref, attributes)
        self.record.started_ns = now_ns()
        if not attributes.get("context"):
            self.record.locals = ["context", "dockerfile"]

    async def _prepare(self, engine: "Engine", session: Session, request: BuildRequest,
                       attributes: Mapping[str, str]) -> "Build":
        name = attributes.get("filename") or "Dockerfile"
        place = attributes.get("context", "")
        if place and not is_upload(place):
            request.remote = place
            request.dockerfile = name
            if attributes.get("dockerfilekey"):
                raise Unsupported("a Dockerfile of your own for a remote context is not done yet")
            return await engine.builds.prepare(request, _nothing())
        tar = upload(session, place) if place else self.posted.context if self.posted is not None else None
        if tar is not None:
            request.dockerfile = name
            try:
                return await engine.builds.prepare(request, tar)
            except NoDockerfile:
                raise _no_dockerfile(name) from None
        request.dockerfile_text, vertex = await self._dockerfile(session, name)
        ignored = await self._ignored(session, name)
        options = request.options
        asked = build_requests.question(engine, request.dockerfile_text, name, options.arguments, options.target,
                                        ignored)
        try:
            warn(self.progress, vertex, name, request.dockerfile_text, build_requests.warnings(asked))
        except LocatedError as error:
            raise located(error, name, request.dockerfile_text) from None
        request.auths = {**request.auths, **await _logins(session, request.dockerfile_text)}
        request.folder = f"{session.key} {attributes.get('local-sharedkeyhint', '')}" if session.key else self.ref
        request.listed = functools.partial(self._context, session, ignored)
        return await engine.builds.prepare(request, _nothing())

    async def _dockerfile(self, session: Session, name: str) -> tuple[bytes, Vertex]:
        vertex = Vertex(self.progress, f"[internal] load build definition from {name}", f"{self.ref}definition")
        try:
            found = await read_file(session, "dockerfile", name)
            if found is None:
                raise _no_dockerfile(name)
        except Error as error:
            vertex.done(error=str(error))
            raise
        vertex.log(2, b"")
        vertex.done()
        return found, vertex

    async def _ignored(self, session: Session, name: str) -> list[str]:
        """The patterns of `<Dockerfile>.dockerignore`, else of `.dockerignore`."""
        vertex = Vertex(self.progress, "[internal] load .dockerignore", f"{self.ref}ignore")
        for folder, file in (("dockerfile", f"{name}.dockerignore"), ("context", ".dockerignore")):
            text = await read_file(session, folder, file)
            if text is not None:
                break
        vertex.done()
        return read_patterns((text or b"").decode("utf-8", "replace"))

    @contextlib.asynccontextmanager
    async def _context(self, session: Session, ignored: list[str]) -> AsyncIterator[FolderListing]:
        vertex = Vertex(self.progress, "[internal] load build context", f"{self.ref}context")
        try:
            async with listed(session, "context", ignored) as listing:
                yield listing
        except Error as error:
            vertex.done(error=str(error))
            raise
        vertex.done()


def _no_dockerfile(name: str) -> NotFound:
    return NotFound(f"failed to read dockerfile: open {name}: no such file or directory")


async def _nothing() -> AsyncIterator[bytes]:
    """No context: it comes from elsewhere."""
    return
    yield b""


def _epoch(attributes: Mapping[str, str]) -> int | None:
    """SOURCE_DATE_EPOCH in seconds. Raises InvalidArgument."""
    text = attributes.get("build-arg:SOURCE_DATE_EPOCH", "")
    return parse_number(text, "SOURCE_DATE_EPOCH") if text else None


async def _logins(session: Session, text: bytes) -> dict[str, dict[str, str]]:
    """What the client knows of the registries that FROM names."""
    found = {}
    for line in text.decode("utf-8", "replace").splitlines():
        words = line.split()
        if len(words) < 2 or words[0].upper() != "FROM":
            continue
        name = next((word for word in words[1:] if not word.startswith("--")), "")
        try:
            domain = reference.parse(name).domain
        except InvalidArgument:
            continue
        if domain not in found and (login := await session.credentials(domain)):
            found[domain] = login
    return found
