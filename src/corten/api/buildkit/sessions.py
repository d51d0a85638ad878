"""The sessions clients keep open while they build: by them the engine asks for files, credentials and secrets.

`POST /session` with `X-Docker-Expose-Session-Uuid`; the engine is the gRPC client. Source: moby/buildkit session/.
"""

import asyncio
import socket
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from grpclib.const import Cardinality, Status
from grpclib.exceptions import GRPCError, StreamTerminatedError

from corten.base.errors import InvalidArgument, NotFound
from corten.build.buildkit.connection import Channel, dial
from corten.build.buildkit.messages import MESSAGES, new

if TYPE_CHECKING:
    from corten.api.request import Request

NAME_HEADER, METHODS_HEADER = "X-Docker-Expose-Session-Uuid", "X-Docker-Expose-Session-Grpc-Method"
KEY_HEADER = "X-Docker-Expose-Session-Sharedkey"
_WAIT_S = 10.0  # a build may be asked for before its session has come


class Session:
    """One client's session; `methods` are the gRPC paths it answers, `key` is the same from build to build."""

    def __init__(self, channel: Channel, methods: frozenset[str], key: str) -> None:
        self.channel, self.key = channel, key
        self.methods = methods

    async def ask(self, path: str, question: Any, answer: str) -> Any:
        """One unary call. Raises GRPCError; NotFound when the client does not offer it."""
        if path not in self.methods:
            raise NotFound(f"the client does not offer {path}")
        kind = MESSAGES[answer]
        async with self.channel.request(path, Cardinality.UNARY_UNARY, type(question), kind) as stream:
            await stream.send_message(question, end=True)
            return await stream.recv_message()

    async def credentials(self, host: str) -> dict[str, str] | None:
        """What the client's docker configuration says for a registry; None for nothing."""
        path = "/moby.filesync.v1.Auth/Credentials"
        try:
            found = await self.ask(path, new("CredentialsRequest", Host=host), "CredentialsResponse")
        except (GRPCError, StreamTerminatedError, NotFound):
            return None
        if not found or not found.Secret:
            return None
        if not found.Username:
            return {"identitytoken": found.Secret, "serveraddress": host}
        return {"username": found.Username, "password": found.Secret, "serveraddress": host}

    async def secret(self, name: str) -> bytes:
        """The content of `--secret id=name`. Raises NotFound."""
        path = "/moby.buildkit.secrets.v1.Secrets/GetSecret"
        try:
            found = await self.ask(path, new("GetSecretRequest", ID=name), "GetSecretResponse")
        except GRPCError as error:
            if error.status in (Status.NOT_FOUND, Status.UNIMPLEMENTED):
                raise NotFound(f"secret {name}: not found") from None
            raise
        return bytes(found.data)


class NoSession(Session):
    """What a build has whose client keeps no session open: there is nothing to be asked."""

    def __init__(self) -> None:
        self.key, self.methods = "", frozenset()


class Sessions:
    """All sessions that are open."""

    def __init__(self) -> None:
        self._open: dict[str, Session] = {}
        self._news = asyncio.Event()

    async def accept(self, request: "Request") -> None:
        """Hold the session of a request until its client leaves. Raises InvalidArgument."""
        name = request.headers.get(NAME_HEADER.lower(), "")
        methods = request.headers.get(METHODS_HEADER.lower(), "").split(", ")
        if not name:
            raise InvalidArgument(f"{NAME_HEADER} is missing")
        key = request.headers.get(KEY_HEADER.lower(), "")
        await self._hold(name, methods, key, await dial(*(await request.hijack(upgrade="h2c")).detach()))

    async def accept_within(self, stream: Any, name: str, methods: Iterable[str]) -> None:
        """The same for a session whose bytes are the messages of a gRPC stream of both directions."""
        if not name:
            raise GRPCError(Status.INVALID_ARGUMENT, f"{NAME_HEADER} is missing")
        await stream.send_initial_metadata()
        ours, theirs = socket.socketpair()
        reader, writer = await asyncio.open_connection(sock=theirs)
        carrying = [asyncio.create_task(_to_session(stream, writer)), asyncio.create_task(_to_client(stream, reader))]
        try:
            await self._hold(name, methods, stream.metadata.get(KEY_HEADER.lower(), ""), await dial(ours, b""))
        finally:
            for task in carrying:
                task.cancel()
            await asyncio.gather(*carrying, return_exceptions=True)
            writer.close()

    async def _hold(self, name: str, methods: Iterable[str], key: str, channel: Channel) -> None:
        if name in self._open:
            channel.close()
            raise InvalidArgument(f"the session {name} is there already")
        self._open[name] = Session(channel, frozenset(methods), key)
        self._news.set()
        self._news = asyncio.Event()
        try:
            await channel.over
        finally:
            del self._open[name]
            channel.close()

    async def get(self, name: str) -> Session:
        """The session `name`, waited for a while. Raises NotFound."""
        try:
            async with asyncio.timeout(_WAIT_S):
                while name not in self._open:
                    await self._news.wait()
        except TimeoutError:
            raise NotFound(f"no active session for {name}: context deadline exceeded") from None
        return self._open[name]


async def _to_session(stream: Any, writer: asyncio.StreamWriter) -> None:
    while (message := await stream.recv_message()) is not None:
        writer.write(message.data)
        await writer.drain()
    writer.close()


async def _to_client(stream: Any, reader: asyncio.StreamReader) -> None:
    while data := await reader.read(1 << 16):
        await stream.send_message(new("BytesMessage", data=data))
