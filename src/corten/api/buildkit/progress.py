"""A build told as BuildKit tells it: vertices that begin and end, and their logs, each as a StatusResponse."""

import asyncio
import json
import time
from collections.abc import AsyncIterator
from typing import Any

from corten.build.buildkit.messages import new
from corten.build.instructions import Stage
from corten.build.ops import CommandFailed
from corten.build.teller import Teller
from corten.oci.digest import digest_of

_LOG_LIMIT = 2 << 20  # bytes of a step's output, as BuildKit's
_SHOWN = ("FROM", "RUN", "COPY", "ADD", "WORKDIR")


def failure_text(error: BaseException) -> str:
    """What BuildKit's clients show of a failure."""
    if isinstance(error, CommandFailed):
        program = json.dumps(" ".join(error.program), ensure_ascii=False)
        return f"process {program} did not complete successfully: exit code: {error.code}"
    return "context canceled" if isinstance(error, asyncio.CancelledError) else str(error)


def stamp(time_ns: int) -> Any:
    """A Timestamp."""
    seconds, rest = divmod(time_ns, 1_000_000_000)
    return new("Timestamp", seconds=seconds, nanos=rest)


def now() -> Any:
    """A Timestamp."""
    return stamp(time.time_ns())


class Progress:
    """All that one build has told so far; every reader gets it from the beginning."""

    def __init__(self) -> None:
        self._told: list[Any] = []
        self._news = asyncio.Event()
        self._over = False

    def tell(self, **fields: Any) -> None:
        """Add a StatusResponse of these fields."""
        self._told.append(new("StatusResponse", **fields))
        self._wake()

    def told(self) -> list[Any]:
        """All StatusResponses so far."""
        return list(self._told)

    def counts(self) -> tuple[int, int, int, int]:
        """How many vertices there were, how many of them were completed and how many remembered; warnings."""
        last = {vertex.digest: vertex for response in self._told for vertex in response.vertexes}
        completed = sum(vertex.HasField("completed") for vertex in last.values())
        warnings = sum(len(response.warnings) for response in self._told)
        return len(last), completed, sum(vertex.cached for vertex in last.values()), warnings

    @property
    def over(self) -> bool:
        """Whether all was told."""
        return self._over

    def end(self) -> None:
        """Nothing more comes."""
        self._over = True
        self._wake()

    def _wake(self) -> None:
        self._news.set()
        self._news = asyncio.Event()

    async def read(self) -> AsyncIterator[Any]:
        """StatusResponses until the end."""
        at = 0
        while True:
            while at < len(self._told):
                yield self._told[at]
                at += 1
            if self._over:
                return
            await self._news.wait()


class Vertex:
    """One line of the client's display: begun when made; `done` once."""

    def __init__(self, progress: Progress, name: str, identity: str) -> None:
        self._progress = progress
        self._fields: dict[str, Any] = {"digest": digest_of(identity.encode()), "name": name, "started": now()}
        self._ended = False
        self._logged = 0
        self.digest: str = self._fields["digest"]
        self._tell()

    def _tell(self) -> None:
        self._progress.tell(vertexes=[new("Vertex", **self._fields)])

    def log(self, stream: int, data: bytes) -> None:
        """Output of the step; what is beyond the limit is left out, and that is said."""
        if self._logged > _LOG_LIMIT:
            return
        self._logged += len(data)
        if self._logged > _LOG_LIMIT:
            stream, data = 2, b"[output clipped, log limit 2MiB reached]\n"
        line = new("VertexLog", vertex=self._fields["digest"], timestamp=now(), stream=stream, msg=data)
        self._progress.tell(logs=[line])

    def done(self, cached: bool = False, error: str = "") -> None:
        """It has ended."""
        if not self._ended:
            self._ended = True
            self._fields.update(completed=now(), cached=cached, error=error)
            self._tell()


class VertexTeller(Teller):
    """The teller of a build whose client speaks BuildKit's protocol: `write` takes {"vertex": …} messages.

    Steps are vertices; what is only the classic builder's talk is left out.
    """

    def say(self, text: str) -> None:
        """The classic builder's words are not for this client."""

    def aux(self, image_id: str) -> None:
        """Nor its messages for programs."""

    def confess(self) -> None:
        """A failed step's output was shown already."""

    _label, _number, _total, _stage = "", 0, 0, ""

    def stage(self, index: int, stage: Stage, total: int, platform: str) -> "VertexTeller":
        other = VertexTeller(self._write, self._options)  # stages are under way at the same time
        several = bool(self._options.platforms)
        other._stage = f"{self._options.platform} {index}"
        other._label = f"{platform} " if several else ""
        other._label += f"{stage.name or f'stage-{index}'} " if total > 1 or several else ""
        other._total = 1 + sum(command.name in _SHOWN for command in stage.commands)
        return other

    def _tell(self, **message: Any) -> None:
        self._write({"stage": self._stage, **message})

    def step(self, number: int, total: int, code: str) -> None:
        self._tell(done=True)
        if code.split(" ", 1)[0].upper() in _SHOWN and self._total:
            self._number += 1
            self._tell(step=f"[{self._label}{self._number}/{self._total}] {code}")

    def failed(self, error: BaseException) -> None:
        self._tell(failed=error)

    def step_done(self, image_id: str) -> None:
        self._tell(done=True)

    def output(self, stream: int, data: bytes) -> None:
        self._tell(log=data, stream=stream)

    def cached(self) -> None:
        self._tell(cached=True)


class Steps:
    """Takes a VertexTeller's messages and keeps the vertex of the step under way in each stage."""

    def __init__(self, progress: Progress, identity: str) -> None:
        self._progress, self._identity = progress, identity
        self._vertices: dict[str, Vertex] = {}
        self._cached: set[str] = set()

    def take(self, message: dict[str, Any]) -> None:
        """One message."""
        stage = message.get("stage", "")
        if "step" in message:
            self._vertices[stage] = Vertex(self._progress, message["step"], self._identity + message["step"])
            self._cached.discard(stage)
        elif "cached" in message:
            self._cached.add(stage)
        elif "log" in message and stage in self._vertices:
            self._vertices[stage].log(message["stream"], message["log"])
        elif "failed" in message and (vertex := self._vertices.pop(stage, None)):
            vertex.done(error=failure_text(message["failed"]))
        elif "done" in message and (vertex := self._vertices.pop(stage, None)):
            vertex.done(stage in self._cached)
