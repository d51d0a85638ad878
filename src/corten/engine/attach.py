"""Attaching to a container: its output followed in the log file, its input written to its pipe or terminal.

POST /containers/{id}/attach, and `docker logs`' way to the same files. A client that is slow, stopped or gone holds
up nobody: output waits in the log, and the pump does not know who reads it.
"""

import asyncio
import os
from collections.abc import AsyncIterator, Callable
from typing import TYPE_CHECKING, Any, NamedTuple

from corten.base.detach_keys import DEFAULT
from corten.base.errors import Conflict, Error, Unsupported
from corten.engine import log_drivers
from corten.engine.follow import DRAIN_S, Follower, LogWatch, end_of_output
from corten.engine.log_files import LogFiles
from corten.engine.logs import LogReading, LogRequest, Piece, frames_of
from corten.engine.records import ContainerRecord
from corten.engine.streams import Connection, Ended, FileSpan, copy_input, grow_pipe

if TYPE_CHECKING:
    from corten.engine.engine import Engine


class AttachRequest(NamedTuple):
    """Which streams, whether what has been written already (`logs`) and what comes (`stream`)."""

    stdin: bool = False
    stdout: bool = False
    stderr: bool = False
    logs: bool = False
    stream: bool = False
    detach_keys: bytes = DEFAULT
    framed: bool | None = None  # default: unless there is a terminal


class Streams:
    """The output of all containers; one object a daemon."""

    def __init__(self, engine: "Engine") -> None:
        self.engine = engine
        self.watch = LogWatch()

    def close(self) -> None:
        """At the daemon's end."""
        self.watch.close()

    def attach(self, ref: str, request: AttachRequest) -> "Attachment":
        """Be in place from now on: nothing written after this call is missed. Raises NotFound, Conflict."""
        record = self.engine.containers.get(ref)
        if record.state.status == "paused":
            raise Conflict(f"container {ref} is paused, unpause the container before attach")
        if record.state.status == "restarting":
            raise Conflict(f"container {ref} is restarting, wait until the container is running")
        return Attachment(self, record, request)

    def logs(self, ref: str, request: LogRequest, follow: bool) -> tuple[ContainerRecord, AsyncIterator[Piece]]:
        """The container and what its log says, piece by piece. Raises NotFound, Unsupported.

        `follow`: goes on until the container ends, if it runs.
        """
        record = self.engine.containers.get(ref)
        if not log_drivers.readable(record.host_config.log_config):
            raise Unsupported(log_drivers.NOT_READABLE)
        if request.details:
            request = request._replace(attributes=log_drivers.details(record))
        return record, self._read(record, request, follow)

    async def _read(self, record: ContainerRecord, request: LogRequest, follow: bool) -> AsyncIterator[Piece]:
        if not record.running:
            await self.drained(record)
        with self._open(record) as files:
            follower = Follower(self.watch, files, self.end(record)) if follow and record.running else None
            try:
                async for piece in LogReading(files, request, record.config.tty).pieces(follower):
                    yield piece
            finally:
                if follower is not None:
                    follower.close()

    async def drained(self, record: ContainerRecord) -> None:
        """Whoever has been told of the end may ask for all of the output: the pump may need a moment yet."""
        try:
            async with asyncio.timeout(DRAIN_S):
                await self.engine.containers.drained(record.id).wait()
        except TimeoutError:
            pass

    def end(self, record: ContainerRecord) -> "asyncio.Future[object]":
        """Done when the container's present or next run has ended and all its output is in the log."""
        containers = self.engine.containers
        exited = containers.live(record.id).on_next_exit()
        return asyncio.ensure_future(end_of_output(exited, lambda: containers.drained(record.id)))

    def _open(self, record: ContainerRecord) -> LogFiles:
        return LogFiles(self.engine.layout.container(record.id), create=True)


class Attachment:
    """One client on one container. Made before the client is told that it is attached; `run` is its life."""

    def __init__(self, streams: Streams, record: ContainerRecord, request: AttachRequest) -> None:
        self._streams = streams
        self._engine = streams.engine
        self._record = record
        self._request = request
        self._files = streams._open(record)
        self._position = 0 if request.logs else self._files.next_start()
        self._follower = Follower(streams.watch, self._files, streams.end(record))
        self._started = None if record.running else self._engine.events.subscribe(
            filters={"container": [record.id], "event": ["start"]})
        self._engine.containers.publish(record, "attach")

    def close(self) -> None:
        """Let go; for a request that fails before `run`."""
        self._follower.close()
        self._files.close()
        if self._started is not None:
            self._started.close()

    async def run(self, connection: Connection) -> Ended:
        """Until the container ends, the client goes, or the detach keys are typed. The caller closes the connection."""
        output: asyncio.Future[Any] = asyncio.ensure_future(self._output(connection))
        tasks: dict[str, asyncio.Future[Any]] = {"hung up": asyncio.ensure_future(connection.hung_up())}
        if self._request.stdin and self._request.stream and self._record.config.open_stdin:
            tasks["input"] = asyncio.ensure_future(self._input(connection))
        try:
            while True:
                await asyncio.wait({output, *tasks.values()}, return_when=asyncio.FIRST_COMPLETED)
                given = tasks.get("input")
                if given is not None and given.done():
                    del tasks["input"]
                    if given.result():
                        self._engine.containers.publish(self._record, "detach")
                        return Ended(True, False)
                if output.done():
                    return Ended(False, output.exception() is not None)
                if tasks["hung up"].done():
                    return Ended(False, True)
        finally:
            for task in (output, *tasks.values()):
                task.cancel()
            await asyncio.gather(output, *tasks.values(), return_exceptions=True)
            self.close()

    # --- output

    async def _output(self, connection: Connection) -> None:
        position = self._position
        if self._request.logs:
            if not self._record.running:
                await self._streams.drained(self._record)
            end = self._files.whole_end()
            await self._send(connection, position, end)
            position = end
        while self._request.stream:
            end = await self._follower.beyond(position)
            if end == position:
                return
            await self._send(connection, position, end)
            position = end

    async def _send(self, connection: Connection, start: int, end: int) -> None:
        if not (self._request.stdout or self._request.stderr):
            return
        chosen = LogRequest(self._request.stdout, self._request.stderr)
        framed = self._request.framed if self._request.framed is not None else not self._record.config.tty
        for piece in frames_of(self._files, start, end, chosen, not framed):
            if isinstance(piece, FileSpan):
                await connection.sendfile(*piece)
            else:
                await connection.write(piece)

    # --- input

    async def _input(self, connection: Connection) -> bool:
        tty = self._record.config.tty
        if self._started is not None:
            async for _event in self._started:
                break
            self._started.close()
            self._started = None
        try:
            fd = await self._engine.zygote.stdin(self._record.id)
        except Error:  # it has ended already
            return False
        try:
            if not tty:
                grow_pipe(fd)
            return await copy_input(connection, fd, detach_keys=self._request.detach_keys if tty else None)
        finally:
            os.close(fd)
            if self._record.config.stdin_once and not tty:
                self._engine.spawn(_quietly(self._engine.zygote.close_stdin, self._record.id))


async def _quietly(call: "Callable[[str], object]", container_id: str) -> None:
    try:
        await call(container_id)  # type: ignore[misc]
    except Error:
        pass  # it has ended, and its input with it
