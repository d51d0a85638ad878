"""Docker's progress messages: `{"status": …, "id": …, "progressDetail": {…}}`, one a line of a pull's or push's answer.

It says what happens to whom; sending the lines is the API's affair.
"""

import time
from collections.abc import Callable
from typing import Any

from corten.base.units import human_size

Emit = Callable[[dict[str, Any]], None]

_INTERVAL_S = 0.1


def plain(status: str, layer: str = "") -> dict[str, Any]:
    """A message without bar: about the whole, or about a layer by its short id."""
    return {"status": status, "progressDetail": {}, "id": layer} if layer else {"status": status}


def headed(status: str, subject: str) -> dict[str, Any]:
    """`{"status": "Pulling from library/x", "id": "latest"}`: no bar follows."""
    return {"status": status, "id": subject}


def bar(status: str, layer: str, current: int, total: int) -> dict[str, Any]:
    """A message with a bar, in bytes."""
    detail = {"current": current, "total": total} if total > 0 else {"current": current}
    message = {"status": status, "progressDetail": detail, "progress": drawn(current, total)}
    return {**message, "id": layer} if layer else message


def drawn(current: int, total: int) -> str:
    """`[====>      ]  36.45kB/3.001MB`, fifty characters wide, as docker's daemon draws it."""
    if current <= 0 and total <= 0:
        return ""
    if total <= 0:
        return f"{human_size(current):>8}"
    done = min(current * 100 // total // 2, 50)
    numbers = f"{human_size(current):>8}" + (f"/{human_size(total)}" if current <= total else "")
    return f"[{'=' * done}>{' ' * (50 - done)}] {numbers}"


class Bar:
    """Bars of one layer at most ten a second; the first and the last are always sent."""

    __slots__ = ("_emit", "_last", "_layer", "_status", "_told", "_total")

    def __init__(self, emit: Emit, status: str, layer: str, total: int) -> None:
        self._emit, self._status, self._layer, self._total = emit, status, layer, total
        self._last = 0.0
        self._told = -1

    def __call__(self, current: int) -> None:
        now = time.monotonic()
        if current != self._told and (0 < self._total <= current or now - self._last >= _INTERVAL_S):
            self._last, self._told = now, current
            self._emit(bar(self._status, self._layer, current, self._total))
