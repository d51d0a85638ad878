"""`--ssh`: the user's agent, or keys held by an agent of this build's own, as steps connect to it.

Keys are given to an ssh-agent that ends with the build; OpenSSH reads them. Source: moby/buildkit session/sshforward.
"""

import asyncio
import os
import stat
from collections.abc import Mapping
from typing import Any

from grpclib.const import Status
from grpclib.exceptions import GRPCError

from corten.build.buildkit.messages import new
from corten.cli.errors import Failure

_ID = "buildkit.ssh.id"
_PIECE_BYTES = 1 << 16


class Agents:
    """Agents by name; `close` ends those that were started here."""

    def __init__(self, named: Mapping[str, list[str]], scratch: str) -> None:
        self._sockets: dict[str, str] = {}
        self._processes: list[Any] = []
        try:
            for name, paths in named.items():
                if len(paths) == 1 and stat.S_ISSOCK(os.stat(paths[0]).st_mode):
                    self._sockets[name] = paths[0]
                else:
                    self._sockets[name] = self._hold(f"{scratch}/agent{len(self._processes)}", paths)
        except BaseException:
            self.close()
            raise

    def _hold(self, socket: str, keys: list[str]) -> str:
        """An agent that holds these keys. Raises Failure."""
        import subprocess

        try:
            agent = subprocess.Popen(["ssh-agent", "-D", "-a", socket], stdin=subprocess.DEVNULL,
                                     stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
        except FileNotFoundError:
            raise Failure("ERROR: --ssh with keys needs ssh-agent, which is not installed") from None
        self._processes.append(agent)
        assert agent.stdout is not None
        agent.stdout.readline()  # it listens, or has ended
        environment = {**os.environ, "SSH_AUTH_SOCK": socket, "SSH_ASKPASS_REQUIRE": "never"}
        done = subprocess.run(["ssh-add", "-q", *keys], env=environment, stdin=subprocess.DEVNULL,
                              capture_output=True, text=True, check=False)
        if done.returncode:
            raise Failure(f"ERROR: failed to parse ssh keys {', '.join(keys)}: {done.stderr.strip()}")
        return socket

    def close(self) -> None:
        """End the agents of this build's own."""
        for process in self._processes:
            process.terminate()
            process.wait()
            process.stdout.close()

    async def check(self, stream: Any) -> None:
        """SSH.CheckAgent"""
        name = (await stream.recv_message()).ID or "default"
        if name not in self._sockets:
            raise GRPCError(Status.NOT_FOUND, f"unset ssh forward key {name}")
        await stream.send_message(new("Empty"))

    async def forward(self, stream: Any) -> None:
        """SSH.ForwardAgent: one connection, until either side ends."""
        name = str(stream.metadata.get(_ID, "")) or "default"
        if name not in self._sockets:
            raise GRPCError(Status.NOT_FOUND, f"unset ssh forward key {name}")
        try:
            reader, writer = await asyncio.open_unix_connection(self._sockets[name])
        except OSError as error:
            raise GRPCError(Status.UNAVAILABLE, f"failed to connect to {self._sockets[name]}: {error}") from None
        await stream.send_initial_metadata()
        answering = asyncio.create_task(_answer(stream, reader))
        try:
            while (message := await stream.recv_message()) is not None:
                writer.write(message.data)
                await writer.drain()
            writer.write_eof()
            await answering
        finally:
            answering.cancel()
            await asyncio.gather(answering, return_exceptions=True)
            writer.close()


async def _answer(stream: Any, reader: asyncio.StreamReader) -> None:
    while data := await reader.read(_PIECE_BYTES):
        await stream.send_message(new("BytesMessage", data=data))
