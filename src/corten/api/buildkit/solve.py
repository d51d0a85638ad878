"""One build asked for over BuildKit's protocol: attributes of the front end to a BuildRequest, files by the session.

    Control.Solve (the outer frame: exporters)  <-  LLBBridge.Solve (the Dockerfile)  <-  the client's session
"""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Mapping
from typing import TYPE_CHECKING

from grpclib.exceptions import GRPCError, StreamTerminatedError

from corten.api.buildkit.files import read_file, receive
from corten.api.buildkit.progress import Progress, Steps, Vertex, VertexTeller, failure_text
from corten.api.buildkit.sessions import Session, Sessions
from corten.base.errors import Error, InvalidArgument, NotFound, Unsupported
from corten.build.classic import check_platform
from corten.build.dockerignore import read_patterns
from corten.engine.builds import BuildRequest
from corten.oci import reference

if TYPE_CHECKING:
    from corten.engine.engine import Engine

# read below, or of no effect on what is built
_KNOWN = frozenset((
    "cmdline", "contextkey", "dockerfilekey", "contextsubdir", "frontend.caps", "force-network-mode", "local-sessionid",
    "local-sharedkeyhint", "local-uniqueid", "multi-platform", "shm-size", "source", "vcs", "image-resolve-mode",
    "no-cache", "filename", "target", "platform", "add-hosts", "cgroup-parent", "context", "cache-imports",
))


class BuildFailed(Exception):
    """The text that the client shows after `failed to solve: `."""


class Solve:
    """A build by its ref: what it tells (`progress`), its image once built, and the outcome the client returned."""

    def __init__(self, ref: str) -> None:
        self.ref = ref
        self.progress = Progress()
        self.session = ""
        self.names: list[str] = []
        self.image_id = ""
        self.returned: asyncio.Future[str] = asyncio.get_running_loop().create_future()

    async def build(self, engine: "Engine", sessions: Sessions, attributes: Mapping[str, str]) -> str:
        """Build the Dockerfile that the attributes name; the image's id. Raises BuildFailed."""
        try:
            session = await sessions.get(self.session)
            request = read_attributes(attributes)
            name = attributes.get("filename") or "Dockerfile"
            request.dockerfile_text = await self._dockerfile(session, name)
            ignored = await self._ignored(session, name)
            request.secrets = session.secret
            request.auths = await _logins(session, request.dockerfile_text)
            build = await engine.builds.prepare(request, self._context(session, ignored))
        except (Error, OSError, GRPCError, StreamTerminatedError) as error:
            raise BuildFailed(failure_text(error)) from error
        steps = Steps(self.progress, self.ref)
        async with contextlib.aclosing(build):
            async for messages in build:
                for message in messages:
                    steps.take(message)
        if build.failed is not None:
            raise BuildFailed(failure_text(build.failed))
        steps.take({"done": True})
        self.image_id = build.image_id
        return build.image_id

    async def _dockerfile(self, session: Session, name: str) -> bytes:
        vertex = Vertex(self.progress, f"[internal] load build definition from {name}", f"{self.ref}definition")
        try:
            found = await read_file(session, "dockerfile", name)
            if found is None:
                raise NotFound(f"failed to read dockerfile: open {name}: no such file or directory")
        except Error as error:
            vertex.done(error=str(error))
            raise
        vertex.log(2, b"")
        vertex.done()
        return found

    async def _ignored(self, session: Session, name: str) -> list[str]:
        """The patterns of `<Dockerfile>.dockerignore`, else of `.dockerignore`."""
        vertex = Vertex(self.progress, "[internal] load .dockerignore", f"{self.ref}ignore")
        for folder, file in (("dockerfile", f"{name}.dockerignore"), ("context", ".dockerignore")):
            text = await read_file(session, folder, file)
            if text is not None:
                break
        vertex.done()
        return read_patterns((text or b"").decode("utf-8", "replace"))

    async def _context(self, session: Session, ignored: list[str]) -> AsyncIterator[bytes]:
        vertex = Vertex(self.progress, "[internal] load build context", f"{self.ref}context")
        try:
            async for piece in receive(session, "context", exclude=ignored):
                yield piece
        except Error as error:
            vertex.done(error=str(error))
            raise
        vertex.done()


def read_attributes(attributes: Mapping[str, str]) -> BuildRequest:
    """FrontendAttrs of `dockerfile.v0`. Raises Unsupported for what is known and not done, InvalidArgument."""
    request = BuildRequest()
    options, limits = request.options, request.limits
    for name, value in attributes.items():
        kind, _, rest = name.partition(":")
        if kind == "build-arg":
            options.arguments[rest] = value
        elif kind == "label":
            options.labels[rest] = value
        elif kind == "context" and rest:
            raise Unsupported(f"the build context {rest} is not done yet: --build-context")
        elif kind == "attest":
            raise Unsupported(f"attestations are not made yet: {rest} (--provenance=false --sbom=false)")
        elif kind == "ulimit":
            raise Unsupported("--ulimit is not done yet by this front end")
        elif kind not in _KNOWN:
            raise Unsupported(f"the build attribute {name} is not done yet")
    if attributes.get("context", "").strip():
        raise Unsupported(f"building from a remote context ({attributes['context']}) is not done yet")
    uncached = attributes.get("no-cache")
    options.uncached_stages = frozenset(name.strip().lower() for name in (uncached or "").split(",") if name.strip())
    options.use_cache = uncached is None or bool(options.uncached_stages)
    options.pull = attributes.get("image-resolve-mode") == "pull"
    options.target = attributes.get("target", "")
    options.platform = attributes.get("platform", "")
    check_platform(options.platform)
    limits.network_mode = {"": "default", "sandbox": "default"}.get(
        attributes.get("force-network-mode", ""), attributes.get("force-network-mode", ""))
    limits.cgroup_parent = attributes.get("cgroup-parent", "")
    limits.extra_hosts = [entry.replace("=", ":", 1) for entry in attributes.get("add-hosts", "").split(",") if entry]
    size = attributes.get("shm-size", "") or "0"
    if not (size.isascii() and size.isdigit()):
        raise InvalidArgument(f"invalid shm-size: {size!r}")
    limits.shm_size = int(size)
    request.teller = VertexTeller
    options.buildkit = True
    return request


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
