"""SSH agents of a client, by its session: what RUN --mount=type=ssh connects to.

Source: moby/buildkit session/sshforward.
"""

import asyncio
from typing import Any

from grpclib.const import Cardinality
from grpclib.exceptions import GRPCError, StreamTerminatedError

from corten.api.buildkit.sessions import Session
from corten.base.errors import NotFound
from corten.build.buildkit.messages import MESSAGES, new

_SERVICE = "/moby.sshforward.v1.SSH/"
_ID = "buildkit.ssh.id"
_PIECE_BYTES = 1 << 16


class ClientAgents:
    """The agents `--ssh` names."""

    def __init__(self, session: Session) -> None:
        self._session = session

    async def check(self, name: str) -> None:
        """Raises NotFound when the client forwards no such agent."""
        try:
            await self._session.ask(f"{_SERVICE}CheckAgent", new("CheckAgentRequest", ID=name), "Empty")
        except GRPCError as error:
            raise NotFound(str(error.message)) from None

    async def forward(self, name: str, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One connection to it, until either side ends."""
        kind = MESSAGES["BytesMessage"]
        path = f"{_SERVICE}ForwardAgent"
        try:
            async with self._session.channel.request(path, Cardinality.STREAM_STREAM, kind, kind,
                                                     metadata=[(_ID, name)]) as stream:
                await stream.send_request()
                sending = asyncio.create_task(_send(stream, reader))
                try:
                    while (message := await stream.recv_message()) is not None:
                        writer.write(message.data)
                        await writer.drain()
                finally:
                    sending.cancel()
                    await asyncio.gather(sending, return_exceptions=True)
        except (GRPCError, StreamTerminatedError, OSError):
            return  # either side has left; the program in the container sees its connection end


async def _send(stream: Any, reader: asyncio.StreamReader) -> None:
    while data := await reader.read(_PIECE_BYTES):
        await stream.send_message(new("BytesMessage", data=data))
    await stream.end()
