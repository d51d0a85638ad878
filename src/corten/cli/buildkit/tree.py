"""A build's progress on a terminal: a tree of its stages, redrawn in place, each step with its time.

    [+] Building 3.4s (5/7)
     ✔ load build definition from Dockerfile                                                0.0s
    ├ compiled
    │  ✔ 1/2 FROM golang:1.24                                                             CACHED
    │  ⠹ 2/2 RUN go build                                                                   3.1s
    │      the last lines it said
    └ stage-1
       ○ …

What does not fit is left out, the oldest of what is done first.
"""

import asyncio
import os
import time
from typing import Any

from corten.cli.buildkit.display import Display
from corten.cli.buildkit.steps import Step
from corten.cli.stream import write_all

_DRAW_S = 0.1
_SPIN = "⠋⠙⠹⠸⠼⠴⠦⠧⠇⠏"
_SAID = 4
_COLOURS = {"done": "\x1b[32m", "run": "\x1b[36m", "error": "\x1b[31m", "dim": "\x1b[2m"}
Line = tuple[int, str, str, str]  # how dear it is (the cheapest go first), colour, text, what stands at the right


class Tree(Display):
    """Draws on `descriptor`, ten times a second at most."""

    def __init__(self, descriptor: int = 2) -> None:
        super().__init__()
        self._descriptor = descriptor
        self._began = time.time()
        self._drawn = 0
        self._colour = "NO_COLOR" not in os.environ

    async def tick(self) -> None:
        while True:
            self._draw()
            await asyncio.sleep(_DRAW_S)

    def end(self) -> None:
        self._draw(last=True)

    def _draw(self, last: bool = False) -> None:
        try:
            size = os.get_terminal_size(self._descriptor)
            columns, rows = max(size.columns, 20), max(size.lines, 5)
        except OSError:
            columns, rows = 80, 24
        lines = self.lines(time.time(), columns, 1 << 30 if last else rows - 1)
        up = f"\x1b[{self._drawn}A" if self._drawn else ""
        text = f"{up}\r\x1b[J" + "".join(f"{line}\n" for line in lines)
        self._drawn = len(lines)
        write_all(self._descriptor, text.encode("utf-8", "replace"))

    def lines(self, now: float, columns: int, rows: int) -> list[str]:
        """What is on the screen, at most so many lines of so many columns."""
        steps = list(self.steps.by_digest.values())
        done = sum(bool(step.completed) for step in steps)
        state = "FINISHED" if steps and done == len(steps) else ""
        head: Line = (9, "", f"[+] Building {now - self._began:.1f}s ({done}/{len(steps)}) {state}".rstrip(), "")
        body = self._body(steps, now)
        while 1 + len(body) > rows and body:
            cheapest = min(line[0] for line in body)
            body.pop(next(at for at, line in enumerate(body) if line[0] == cheapest))
        return [self._fit(line, columns) for line in (head, *body)]

    def _body(self, steps: list[Step], now: float) -> list[Line]:
        found: list[Line] = []
        stages = list(dict.fromkeys(step.stage for step in steps if step.stage is not None))
        loose = [step for step in steps if step.stage is None]
        first = [step for step in loose if step.name.startswith("[internal]") or "cache manifest from" in step.name]
        for step in first:
            found += self._step(step, now, " ")
        for stage in stages:
            last = stage == stages[-1]
            indent = "  " if stage == "" else "   " if last else "│  "
            if stage:
                found.append((8, "", f"{'└' if last else '├'} {stage}", ""))
            for step in steps:
                if step.stage == stage:
                    found += self._step(step, now, indent)
        for step in loose:
            if step not in first:
                found += self._step(step, now, " ")
        return found

    def _step(self, step: Step, now: float, indent: str) -> list[Line]:
        took = f"{step.spent(now):.1f}s"
        place = f"{step.place} " if step.place else ""
        text = f"{place}{step.rest}".removeprefix("[internal] ")
        if step.error:
            gone = step.was_given_up
            return [(7, "dim" if gone else "error", f"{indent}{'–' if gone else '✘'} {text}", took)]
        if step.completed:
            return [(3, "done", f"{indent}✔ {text}", "CACHED" if step.cached else took)]
        if not step.started:
            return [(2, "dim", f"{indent}○ {text}", "")]
        lines: list[Line] = [(6, "run", f"{indent}{_SPIN[int(now * 10) % len(_SPIN)]} {text}", took)]
        lines += [(4, "dim", f"{indent}    {_amount(one)}", "") for one in step.statuses.values()
                  if not one.HasField("completed")]
        lines += [(1, "dim", f"{indent}    {said}", "") for _, said in step.lines[-_SAID:]]
        return lines

    def _fit(self, line: Line, columns: int) -> str:
        _, colour, text, right = line
        text = "".join(char if char.isprintable() else " " for char in text.replace("\t", "  "))
        room = columns - 1 - (len(right) + 1 if right else 0)
        if len(text) > room:
            text = text[:room - 1] + "…"
        whole = text.ljust(room) + f" {right}" if right else text
        return f"{_COLOURS[colour]}{whole}\x1b[0m" if colour and self._colour else whole


def _amount(status: Any) -> str:
    from corten.base.human import human_size

    of = f" / {human_size(status.total)}" if status.total else ""
    return f"{status.ID or status.name} {human_size(status.current)}{of}"
