"""One build of the engine's by BuildKit's protocol: two connections, one asked (`/grpc`), one answered (`/session`).

Source: moby/buildkit client/solve.go, api/services/control.
"""

import asyncio
import contextlib
import hashlib
import os
import socket
from collections.abc import Awaitable, Callable, Iterator
from typing import Any

from grpclib.const import Cardinality
from grpclib.exceptions import GRPCError, StreamTerminatedError

from corten.build.buildkit.connection import Channel, dial, serve
from corten.build.buildkit.messages import MESSAGES, new
from corten.cli.buildkit.agents import Agents
from corten.cli.buildkit.asked import Asked
from corten.cli.buildkit.session import Services
from corten.cli.client import Client
from corten.cli.errors import Failure

_CONTROL = "/moby.buildkit.v1.Control/"
_EXPOSE = "X-Docker-Expose-Session-"
_LEFT_S = 5.0  # how long the last of what the engine tells may take once it has answered


class Refused(Exception):
    """The engine said no: its text, and the lines of the Dockerfile it is about (JSON of errdefs.Source) if any."""

    def __init__(self, text: str, details: list[Any]) -> None:
        super().__init__(text)
        self.text = text
        self.sources = [one.value for one in details if one.type_url.endswith("errdefs.Source+json")]


class _Taken:
    """A connection taken over from HTTP."""

    def __init__(self, client: Client, path: str, headers: list[tuple[str, str]]) -> None:
        connection = client.hijack(path, upgrade="h2c", headers=headers)
        self._sock, self._ahead = socket.socket(fileno=connection.sock.detach()), connection.ahead

    def detach(self) -> tuple[socket.socket, bytes]:
        self._sock.setblocking(False)
        return self._sock, self._ahead


def _share_key(asked: Asked) -> str:
    """What the engine keeps a folder under from build to build: the same for one user, machine and folder."""
    text = f"{os.uname().nodename}\0{os.getuid()}\0{asked.share}"
    return hashlib.sha256(text.encode("utf-8", "surrogateescape")).hexdigest() if asked.share else ""


@contextlib.contextmanager
def _agents(asked: Asked) -> Iterator[Agents]:
    from tempfile import TemporaryDirectory

    if not asked.agents:
        yield Agents({}, "")
        return
    with TemporaryDirectory(prefix="corten-agent-") as scratch:
        agents = Agents(asked.agents, scratch)
        try:
            yield agents
        finally:
            agents.close()


def solve(client: Client, asked: Asked, config_dir: str, told: Callable[[Any], None],
          write_out: Callable[[bytes], None], tick: Callable[[], Awaitable[None]]) -> dict[str, str]:
    """Build; what the engine answers of the result.

    told: each StatusResponse. write_out: what is meant for standard output. tick: runs beside the build, cancelled at
    its end. Raises Refused, Failure.
    """
    with _agents(asked) as agents:
        services = Services(asked, config_dir, agents, write_out)
        identity = os.urandom(16).hex()
        headers = [(f"{_EXPOSE}Uuid", identity), (f"{_EXPOSE}Name", "corten")]
        if key := _share_key(asked):
            headers.append((f"{_EXPOSE}Sharedkey", key))
        headers += [(f"{_EXPOSE}Grpc-Method", path) for path in services.methods]
        client.negotiate()
        session, control = _Taken(client, "/session", headers), _Taken(client, "/grpc", [])
        return asyncio.run(_run(asked, identity, services, session, control, told, tick))


async def _run(asked: Asked, identity: str, services: Services, session: _Taken, control: _Taken,
               told: Callable[[Any], None], tick: Callable[[], Awaitable[None]]) -> dict[str, str]:
    ref = os.urandom(12).hex()
    serving = asyncio.create_task(serve(session, services.methods))
    channel = await dial(*control.detach())
    following = asyncio.create_task(_follow(channel, ref, told))
    ticking = asyncio.ensure_future(tick())
    try:
        return await _solve(channel, asked, identity, ref)
    finally:
        with contextlib.suppress(TimeoutError, GRPCError, StreamTerminatedError, OSError):
            async with asyncio.timeout(_LEFT_S):
                await following
        for task in (ticking, following, serving):
            task.cancel()
        await asyncio.gather(ticking, following, serving, return_exceptions=True)
        channel.close()


async def _solve(channel: Channel, asked: Asked, identity: str, ref: str) -> dict[str, str]:
    exports = [new("CacheOptionsEntry", Type=end.kind, Attrs=end.attributes) for end in asked.cache_to]
    imports = [new("CacheOptionsEntry", Type=end.kind, Attrs=end.attributes) for end in asked.cache_from]
    exporters = [new("Exporter", Type=_type_of(one.kind), Attrs=one.attributes) for one in asked.outputs]
    request = new("SolveRequest", Ref=ref, Session=identity, Frontend="dockerfile.v0", FrontendAttrs=asked.attributes,
                  Cache=new("CacheOptions", Exports=exports, Imports=imports),
                  Entitlements=sorted(asked.entitlements), Exporters=exporters)
    try:
        async with channel.request(f"{_CONTROL}Solve", Cardinality.UNARY_UNARY, type(request),
                                   MESSAGES["SolveResponse"]) as stream:
            await stream.send_message(request, end=True)
            answer = await stream.recv_message()
    except GRPCError as error:
        raise Refused(error.message or error.status.name, error.details or []) from None
    except (StreamTerminatedError, OSError):
        raise Failure("ERROR: failed to build: the connection to the engine was lost") from None
    return {"buildx.build.ref": f"default/default/{ref}", **(dict(answer.ExporterResponse) if answer else {})}


def _type_of(kind: str) -> str:
    return "moby" if kind == "image" else kind  # what the engine behind docker's API calls its own images


async def _follow(channel: Channel, ref: str, told: Callable[[Any], None]) -> None:
    kind = MESSAGES["StatusRequest"]
    async with channel.request(f"{_CONTROL}Status", Cardinality.UNARY_STREAM, kind,
                               MESSAGES["StatusResponse"]) as stream:
        await stream.send_message(kind(Ref=ref), end=True)
        while (update := await stream.recv_message()) is not None:
            told(update)
