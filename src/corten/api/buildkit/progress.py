"""A build told as BuildKit tells it: vertices that begin and end, and their logs, each as a StatusResponse."""

import asyncio
import time
from collections.abc import AsyncIterator
from typing import Any

from corten.api.buildkit.messages import new
from corten.build.classic import Teller
from corten.build.instructions import Stage
from corten.oci.digest import digest_of

_SHOWN = ("FROM", "RUN", "COPY", "ADD", "WORKDIR")


def now() -> Any:
    """A Timestamp."""
    seconds, rest = divmod(time.time_ns(), 1_000_000_000)
    return new("Timestamp", seconds=seconds, nanos=rest)


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
        self._tell()

    def _tell(self) -> None:
        self._progress.tell(vertexes=[new("Vertex", **self._fields)])

    def log(self, stream: int, data: bytes) -> None:
        """Output of the step."""
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

    _label, _number, _total = "", 0, 0

    def stage(self, index: int, stage: Stage, total: int) -> None:
        self._label = f"{stage.name or f'stage-{index}'} " if total > 1 else ""
        self._number, self._total = 0, 1 + sum(command.name in _SHOWN for command in stage.commands)

    def step(self, number: int, total: int, code: str) -> None:
        self._write({"done": True})
        if code.split(" ", 1)[0].upper() in _SHOWN and self._total:
            self._number += 1
            self._write({"step": f"[{self._label}{self._number}/{self._total}] {code}"})

    def step_done(self, image_id: str) -> None:
        self._write({"done": True})

    def output(self, stream: int, data: bytes) -> None:
        self._write({"log": data, "stream": stream})

    def cached(self) -> None:
        self._write({"cached": True})


class Steps:
    """Takes a VertexTeller's messages and keeps the vertex of the step under way."""

    def __init__(self, progress: Progress, identity: str) -> None:
        self._progress, self._identity = progress, identity
        self._vertex: Vertex | None = None
        self._cached = False

    def take(self, message: dict[str, Any]) -> None:
        """One message."""
        if "step" in message:
            self._vertex = Vertex(self._progress, message["step"], self._identity + message["step"])
            self._cached = False
        elif "cached" in message:
            self._cached = True
        elif "log" in message and self._vertex is not None:
            self._vertex.log(message["stream"], message["log"])
        elif "done" in message and self._vertex is not None:
            self._vertex.done(self._cached)
            self._vertex = None

    def fail(self, text: str) -> None:
        """The step under way is the one that failed."""
        if self._vertex is not None:
            self._vertex.done(error=text)
            self._vertex = None
