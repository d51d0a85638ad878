"""The engine's progress messages: bars that redraw on a terminal, plain lines elsewhere.

A message: id (a layer), status, progressDetail {current, total}; or stream (text); or error, which ends the command.
"""

import os
import time
from collections.abc import Callable, Iterator

from corten.base.human import human_size
from corten.cli.errors import Failure
from corten.cli.stream import write_all

Message = dict[str, object]
_FIRST_S = 0.5  # before this a rate says nothing
_DRAW_S = 0.1


class Pace:
    """How fast something goes, from its first step on; `now` in seconds, `at` in bytes."""

    __slots__ = ("_at", "_began")

    def __init__(self, now: float, at: int) -> None:
        self._began, self._at = now, at

    def text(self, now: float, at: int, total: int) -> str:
        """`  12.3MB/s 4s`: bytes a second and the seconds left; nothing in the first moment and at the end."""
        spent, done = now - self._began, at - self._at
        if spent < _FIRST_S or done <= 0 or at >= total:
            return ""
        rate = done / spent
        left = int((total - at) / rate)
        return f"  {human_size(int(rate))}/s" + (f" {left}s" if left else "")


def bar(detail: object, columns: int, paces: dict[str, Pace], key: str, now: float) -> str:
    """What stands behind a status: bar, sizes, rate and time left, as far as the terminal's `columns` allow."""
    if not isinstance(detail, dict):
        return ""
    current, total = detail.get("current") or 0, detail.get("total") or 0
    if detail.get("units"):
        return f" {current}/{total} {detail['units']}" if total else f" {current} {detail['units']}"
    if current <= 0 and total <= 0:
        return ""
    if total <= 0 or current > total:
        return f" {human_size(current):>8}"
    filled = int(current / total * 100) // 2
    text = ""
    if columns > 110:
        text = " [" + "=" * filled + ">" + " " * max(0, 50 - filled) + "]"
    text += f" {human_size(current):>8}/{human_size(total)}"
    if columns > 50:
        text += paces.setdefault(key, Pace(now, current)).text(now, current, total)
    return text


def sent(pieces: Iterator[bytes], total: int, descriptor: int, what: str) -> Iterator[bytes]:
    """Pass pieces on, drawing on a terminal how far they are: `total` bytes, 0 when nobody knows."""
    screen, current, shown = _Screen(descriptor), 0, 0.0
    for piece in pieces:
        yield piece
        current += len(piece)
        now = time.monotonic()
        if now - shown >= _DRAW_S:
            screen.show({"id": what, "status": "Sending", "progressDetail": {"current": current, "total": total}})
            shown = now
    screen.show({"id": what, "status": "Sent", "progressDetail": {"current": current, "total": total or current}})


class _Screen:
    """Lines by layer id, redrawn in place."""

    def __init__(self, descriptor: int) -> None:
        self.descriptor = descriptor
        self.lines: dict[str, int] = {}
        self.paces: dict[str, Pace] = {}

    def show(self, message: Message) -> None:
        key = str(message.get("id") or "")
        detail = message.get("progressDetail")
        text = ""
        up = 0
        if key and (detail is not None or key in self.lines):
            if key not in self.lines:
                self.lines[key] = len(self.lines)
                text = "\n"
            up = len(self.lines) - self.lines[key]
            text += f"\x1b[{up}A" if up else ""
        elif not key:
            self.lines.clear()  # a plain line begins a new block
        if up:
            text += "\x1b[2K\r"
        try:
            columns = os.get_terminal_size(self.descriptor).columns
        except OSError:
            columns = 80
        text += _line(message, bar(detail, columns, self.paces, f"{key} {message.get('status')}", time.monotonic()))
        if up:
            text += f"\r\x1b[{up}B"
        write_all(self.descriptor, text.encode("utf-8", "replace"))


def _line(message: Message, drawn: str) -> str:
    if message.get("stream"):
        return str(message["stream"])
    key = f"{message['id']}: " if message.get("id") else ""
    status = str(message.get("status", ""))
    end = "\r" if drawn else "\n"
    return f"{key}{status}{drawn}{end}"


def show(messages: Iterator[Message], descriptor: int, aux: Callable[[object], None] | None = None) -> None:
    """Show all of them until the engine is done. Raises Failure with the engine's error."""
    screen = _Screen(descriptor) if os.isatty(descriptor) else None
    for message in messages:
        failure = message.get("errorDetail") or message.get("error")
        if failure:
            text = str(failure.get("message")) if isinstance(failure, dict) else str(failure)
            code = failure.get("code") if isinstance(failure, dict) else None
            raise Failure(text, code if isinstance(code, int) and code > 0 else 1)
        if message.get("aux") is not None:
            if aux:
                aux(message["aux"])
            continue
        if screen:
            screen.show(message)
            continue
        detail = message.get("progressDetail")
        if isinstance(detail, dict) and (detail.get("current") or detail.get("total")):
            continue  # a bar's step: nothing to see in a file
        write_all(descriptor, _line(message, "").encode("utf-8", "replace"))
