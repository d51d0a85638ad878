"""A build's progress where nothing is drawn: plain lines, JSON lines, or nothing; and what is said at its end.

The lines are those of `docker buildx build --progress plain` and `rawjson`, which people and programs read.
"""

import base64
from typing import Any

from corten.base import jsonio
from corten.base.units import format_time
from corten.cli.buildkit.steps import Step, Steps, seconds
from corten.cli.stream import write_all

_ERR = 2
_EXCERPT_LINES = 15


class Display:
    """Shows nothing: `--progress quiet`. `tell` takes each StatusResponse, `end` is called once."""

    def __init__(self) -> None:
        self.steps = Steps()

    def tell(self, update: Any) -> None:
        for told in update.vertexes:
            self._vertex(self.steps.vertex(told))
        for log in update.logs:
            if step := self.steps.by_digest.get(log.vertex):
                self._log(step, step.take(seconds(log.timestamp), log.msg))
        for status in update.statuses:
            if step := self.steps.by_digest.get(status.vertex):
                step.statuses[status.ID] = status
                self._status(step, status)
        self.steps.warnings += update.warnings

    async def tick(self) -> None:
        """Runs beside the build."""

    def end(self) -> None:
        """Nothing more comes."""

    def _vertex(self, step: Step) -> None:
        """A step has begun, or ended."""

    def _log(self, step: Step, lines: list[tuple[float, str]]) -> None:
        """A step has said something."""

    def _status(self, step: Step, status: Any) -> None:
        """A part of a step has come on."""


class Plain(Display):
    """`#3 [2/4] RUN make`, then `#3 0.123 output`, then `#3 DONE 1.2s`."""

    def __init__(self, descriptor: int = _ERR) -> None:
        super().__init__()
        self._descriptor = descriptor
        self._shown: Step | None = None
        self._ended: set[int] = set()
        self._named: set[str] = set()

    def _write(self, step: Step, text: str) -> None:
        head = ""
        if self._shown is not step:
            head = f"\n#{step.number} {step.name}\n" if self._shown else f"#{step.number} {step.name}\n"
            self._shown = step
        write_all(self._descriptor, f"{head}{text}".encode("utf-8", "replace"))

    def _vertex(self, step: Step) -> None:
        if step.number in self._ended or not step.started:
            return
        if not step.completed:
            if self._shown is not step:
                self._write(step, "")
            return
        self._ended.add(step.number)
        if step.partial:
            self._log(step, step.take(step.completed, b"\n"))
        end = "CACHED" if step.cached else f"DONE {step.spent(0):.1f}s"
        if step.error:
            end = "CANCELED" if step.was_given_up else f"ERROR: {step.error}"
        self._write(step, f"#{step.number} {end}\n")

    def _log(self, step: Step, lines: list[tuple[float, str]]) -> None:
        if lines:
            self._write(step, "".join(f"#{step.number} {since:.3f} {line}\n" for since, line in lines))

    def _status(self, step: Step, status: Any) -> None:
        done = status.HasField("completed")
        key = f"{step.number} {status.ID} {done}"
        if key in self._named:
            return
        self._named.add(key)
        size = f" {status.current}B" if status.current else ""
        self._write(step, f"#{step.number} {status.ID or status.name}{size}{' done' if done else ''}\n")


class RawJson(Display):
    """One JSON object a line, as BuildKit's client has a SolveStatus."""

    def tell(self, update: Any) -> None:
        super().tell(update)
        found = {"vertexes": [_vertex_json(one) for one in update.vertexes],
                 "statuses": [_status_json(one) for one in update.statuses],
                 "logs": [_log_json(one) for one in update.logs],
                 "warnings": [_warning_json(one) for one in update.warnings]}
        write_all(_ERR, (jsonio.dumps({key: rows for key, rows in found.items() if rows}) + "\n").encode())


def _time(stamp: Any) -> str:
    return format_time(stamp.seconds * 1_000_000_000 + stamp.nanos)


def _times(told: Any) -> dict[str, object]:
    return {name: _time(getattr(told, name)) for name in ("started", "completed") if told.HasField(name)}


def _vertex_json(told: Any) -> dict[str, object]:
    found: dict[str, object] = {"digest": told.digest, "name": told.name, **_times(told)}
    if told.inputs:
        found["inputs"] = list(told.inputs)
    if told.cached:
        found["cached"] = True
    if told.error:
        found["error"] = told.error
    return found


def _status_json(told: Any) -> dict[str, object]:
    return {"id": told.ID, "vertex": told.vertex, "name": told.name, "total": told.total, "current": told.current,
            "timestamp": _time(told.timestamp), **_times(told)}


def _log_json(told: Any) -> dict[str, object]:
    return {"vertex": told.vertex, "stream": told.stream, "data": _b64(told.msg), "timestamp": _time(told.timestamp)}


def _warning_json(told: Any) -> dict[str, object]:
    source = {"filename": told.info.filename, "data": _b64(told.info.data), "language": told.info.language}
    ranges = [{"start": {"line": one.start.line}, "end": {"line": one.end.line}} for one in told.ranges]
    return {"vertex": told.vertex, "level": told.level, "short": _b64(told.short), "url": told.url,
            "detail": [_b64(one) for one in told.detail], "sourceInfo": source, "range": ranges}


def _b64(data: bytes) -> str:
    return base64.b64encode(data).decode("ascii")


# --- what is said at the end


def failure_excerpt(steps: Steps) -> str:
    """The last lines of the step that failed; "" when none did, or it said nothing."""
    step = steps.failed()
    if step is None or not step.lines:
        return ""
    lines = "".join(f"{since:.3f} {line}\n" for since, line in step.lines[-_EXCERPT_LINES:])
    return f"------\n > {step.name}:\n{lines}------\n"


def warnings_text(steps: Steps) -> str:
    """The checks' findings, a line each."""
    if not steps.warnings:
        return ""
    count = len(steps.warnings)
    lines = []
    for warning in steps.warnings:
        line = f" (line {warning.ranges[0].start.line})" if warning.ranges else ""
        lines.append(f" - {warning.short.decode('utf-8', 'replace')}{line}\n")
    return f"\n {count} warning{'s' if count > 1 else ''} found (corten build --check shows them):\n{''.join(lines)}"


def source_excerpts(sources: list[bytes]) -> str:
    """The lines of the Dockerfile that an error names. Each source: JSON of errdefs.Source."""
    from corten.build.excerpt import excerpt

    shown = ""
    for data in sources:
        try:
            found = jsonio.loads(data)
            assert isinstance(found, dict)
            info, ranges = found["info"], found["ranges"]
            text = base64.b64decode(info["data"]).decode("utf-8", "replace").split("\n")
            first, last = (int(one["start"]["line"]) for one in (ranges[0], ranges[-1]))
            shown += excerpt(str(info["filename"]), text, first, last)
        except (ValueError, KeyError, IndexError, TypeError, AssertionError):
            continue  # what cannot be read is not shown; the error itself is
    return shown

