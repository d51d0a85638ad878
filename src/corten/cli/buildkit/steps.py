"""A build as it is told, gathered: its vertices in the order they came, their times, output and errors.

Whoever shows it reads it; nothing here draws.
"""

import re
from typing import Any

_STAGE = re.compile(r"\[(?:(?P<stage>.+?) )??(?P<number>\d+/\d+)\] (?P<rest>.*)", re.S)
_KEPT_LINES = 200


class Step:
    """One vertex. Times in seconds since 1970, 0.0 when there is none yet."""

    __slots__ = ("cached", "completed", "error", "lines", "name", "number", "partial", "place", "rest", "stage",
                 "started", "statuses")

    def __init__(self, number: int, name: str) -> None:
        self.number, self.name = number, name
        found = _STAGE.fullmatch(name)
        self.stage = (found["stage"] or "") if found else None  # None: of no stage
        self.place, self.rest = (found["number"], found["rest"]) if found else ("", name)
        self.started = self.completed = 0.0
        self.cached, self.error = False, ""
        self.lines: list[tuple[float, str]] = []  # the last ones
        self.partial = b""
        self.statuses: dict[str, Any] = {}

    @property
    def is_running(self) -> bool:
        return bool(self.started) and not self.completed

    @property
    def was_given_up(self) -> bool:
        """Whether it ended because another one failed."""
        return self.error.endswith("context canceled")

    def spent(self, now: float) -> float:
        """Seconds so far, or in all."""
        return max(0.0, (self.completed or now) - self.started) if self.started else 0.0

    def take(self, time_s: float, data: bytes) -> list[tuple[float, str]]:
        """Output: the lines that are whole now, each with the seconds since the step began."""
        *whole, self.partial = (self.partial + data).split(b"\n")
        if len(self.partial) > 1 << 16:
            whole, self.partial = [*whole, self.partial], b""
        since = max(0.0, time_s - self.started)
        found = [(since, line.removesuffix(b"\r").decode("utf-8", "replace")) for line in whole]
        self.lines = (self.lines + found)[-_KEPT_LINES:]
        return found


def seconds(stamp: Any) -> float:
    """A Timestamp."""
    return float(stamp.seconds) + float(stamp.nanos) / 1e9


class Steps:
    """All vertices by digest, and the warnings."""

    def __init__(self) -> None:
        self.by_digest: dict[str, Step] = {}
        self.warnings: list[Any] = []

    def vertex(self, told: Any) -> Step:
        """Take a Vertex in."""
        step = self.by_digest.get(told.digest)
        if step is None:
            step = self.by_digest[told.digest] = Step(len(self.by_digest) + 1, told.name)
        if told.HasField("started"):
            step.started = seconds(told.started)
        if told.HasField("completed"):
            step.completed = seconds(told.completed)
        step.cached, step.error = told.cached, told.error
        return step

    def failed(self) -> Step | None:
        """The step that the build ended with, if one did: not one that was given up because of it."""
        return next((step for step in self.by_digest.values() if step.error and not step.was_given_up), None)
