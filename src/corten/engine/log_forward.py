"""Sending a container's log elsewhere (drivers syslog and journald) while the log itself stays, as docker's cache does.

A task a container reads the log that the pump writes: a server that is slow, stopped or gone holds up nobody, and what
it has not taken waits in the log. How far it is, is kept beside the log (`log.sent`): the next daemon goes on there. A
daemon that was killed may send its last lines twice.
"""

import asyncio
import os
import re
import ssl
import struct
from collections.abc import Iterator
from typing import TYPE_CHECKING

from corten.base.errors import Error, Internal
from corten.base.tls_errors import handshake_failure
from corten.engine import log_drivers
from corten.engine.follow import Follower
from corten.engine.log_files import LogFiles
from corten.engine.log_sinks import JournaldSink, Line, Sink, SyslogSink
from corten.engine.logs import Block, LineSplitter, LogRequest
from corten.engine.records import ContainerRecord
from corten.zygote.log_format import STDERR

if TYPE_CHECKING:
    from corten.engine.engine import Engine

SENT_NAME = "log.sent"
_PLACE = struct.Struct("<QQ")  # number of the segment, offset in it
_BATCH = 256
_PART_BYTES = 16 << 10  # longer lines are sent in parts, as docker does
_FIRST_DELAY_S, _LONGEST_DELAY_S = 0.1, 10.0


class Forwarders:
    """The tasks that send logs elsewhere."""

    def __init__(self, engine: "Engine") -> None:
        self._engine = engine
        self._forwarders: dict[str, Forwarder] = {}
        self._tasks: set[asyncio.Task[None]] = set()

    async def begin(self, record: ContainerRecord) -> None:
        """Connect before a container's run, and send from then on. Raises Internal when nobody listens."""
        if not log_drivers.forwarded(record.host_config.log_config):
            return
        active = self._forwarders.get(record.id)
        if active is not None:  # the last run's log is still being sent
            active.next_end = self._engine.streams.end(record)
            return
        sink = make_sink(record)
        try:
            await sink.open()
        except (OSError, Error) as error:
            raise Internal(f"{log_drivers.FAILED}{_reason(error)}") from None
        self._run(record, sink, opened=True)

    def resume(self, record: ContainerRecord) -> None:
        """Go on where the last daemon was; for a container that runs or whose log has not been sent to its end."""
        if log_drivers.forwarded(record.host_config.log_config) and record.id not in self._forwarders:
            self._run(record, make_sink(record), opened=False)

    def _run(self, record: ContainerRecord, sink: Sink, opened: bool) -> None:
        engine = self._engine
        try:
            files = LogFiles(engine.layout.container(record.id), create=True)
        except OSError as error:
            engine.log.warning("container %s: its log cannot be sent: %s", record.id[:12], error)
            sink.close()
            return
        forwarder = self._forwarders[record.id] = Forwarder(engine, record, files, sink)
        task = engine.spawn(forwarder.run(opened))
        self._tasks.add(task)

        def done(_: object) -> None:
            self._tasks.discard(task)
            self._forwarders.pop(record.id, None)

        task.add_done_callback(done)

    def close(self) -> None:
        """At the daemon's end."""
        for task in self._tasks:
            task.cancel()


class Forwarder:
    """One container's log read to its end and sent. `next_end`: another run is due, and done when that has ended."""

    def __init__(self, engine: "Engine", record: ContainerRecord, files: LogFiles, sink: Sink) -> None:
        self._engine, self._record, self._files, self._sink = engine, record, files, sink
        self._splitter = LineSplitter(LogRequest())
        self._sent = os.open(f"{files.path}/{SENT_NAME}", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        self.next_end: asyncio.Future[object] | None = engine.streams.end(record)

    async def run(self, opened: bool) -> None:
        """Until the container has ended and all has been sent, or it is gone and nobody takes it."""
        try:
            sending = opened or await self._reopen()
            while sending and self.next_end is not None:
                end, self.next_end = self.next_end, None
                follower = Follower(self._engine.streams.watch, self._files, end)
                try:
                    sending = await self._follow(follower)
                finally:
                    follower.close()
        finally:
            self._sink.close()
            self._files.close()
            os.close(self._sent)

    async def _follow(self, follower: Follower) -> bool:
        """Send one run's output; False when it has been given up."""
        position = self._start()
        while (end := await follower.beyond(position)) > position:
            if not await self._send(self._blocks(position, end)):
                return False
            position = end
            os.pwrite(self._sent, _PLACE.pack(*self._files.place_of(position)), 0)
        return await self._send(iter(self._splitter.rest()))

    def _blocks(self, start: int, end: int) -> Iterator[Block]:
        for time_ns, stream, data in self._files.timed(self._files.first_from(start), end):
            yield from self._splitter.blocks(time_ns, stream, data)

    def _start(self) -> int:
        kept = os.pread(self._sent, _PLACE.size, 0)
        return self._files.position_of(*_PLACE.unpack(kept)) if len(kept) == _PLACE.size else 0

    async def _send(self, blocks: Iterator[Block]) -> bool:
        batch: list[Line] = []
        for block in blocks:
            batch.extend(lines_of(block))
            if len(batch) >= _BATCH:
                if not await self._deliver(batch):
                    return False
                batch = []
        return not batch or await self._deliver(batch)

    async def _deliver(self, batch: list[Line]) -> bool:
        while True:
            try:
                await self._sink.send(batch)
                return True
            except OSError as error:
                self._engine.log.warning("container %s: sending its log: %s", self._record.id[:12], error)
            if not await self._reopen():
                return False

    async def _reopen(self) -> bool:
        """Connect again, however long it takes, while the container is there."""
        delay_s = _FIRST_DELAY_S
        removed = self._engine.containers.live(self._record.id).removed
        while True:
            try:
                await self._sink.open()
                return True
            except (OSError, Error):
                pass
            if removed.is_set():
                return False
            await asyncio.sleep(delay_s)
            delay_s = min(delay_s * 2, _LONGEST_DELAY_S)


def _reason(error: Error | OSError) -> str:
    if isinstance(error, ssl.SSLError):  # its errno is OpenSSL's own
        return handshake_failure(error)
    return os.strerror(error.errno).lower() if isinstance(error, OSError) and error.errno else str(error)


def lines_of(block: Block) -> list[Line]:
    """The lines of a block, long ones in parts; empty ones are left out, as docker does."""
    time_ns, stream, text = block
    found: list[Line] = []
    for line in text.removesuffix(b"\n").split(b"\n"):
        for at in range(0, len(line), _PART_BYTES):
            found.append(Line(time_ns, stream == STDERR, line[at:at + _PART_BYTES], at + _PART_BYTES < len(line)))
    return found


def make_sink(record: ContainerRecord) -> Sink:
    """The sink of a container's driver, not yet open."""
    config = record.host_config.log_config
    tag = log_drivers.tag(record, config.config.get("tag") or "{{.ID}}")
    if config.type == "syslog":
        return SyslogSink(config.config, tag)
    return JournaldSink({
        "CONTAINER_ID": record.id[:12], "CONTAINER_ID_FULL": record.id, "CONTAINER_NAME": record.name,
        "CONTAINER_TAG": tag, "IMAGE_NAME": record.image, "SYSLOG_IDENTIFIER": tag,
        **{_field_name(name): value for name, value in log_drivers.attributes(record).items()},
    })


def _field_name(name: str) -> str:
    return re.sub("[^A-Z0-9]", "_", name.upper()).lstrip("_")
