"""The lines of a Dockerfile that an error or a warning is about, drawn as BuildKit draws them. Pure."""

from __future__ import annotations

from collections.abc import Sequence

_RULE = "--------------------\n"


def excerpt(name: str, lines: Sequence[str], first: int, last: int) -> str:
    """Lines `first` to `last` (from 1) marked `>>>`, with one or two around them; "" when there are no such lines."""
    if not 1 <= first <= len(lines):
        return ""
    last = min(max(first, last), len(lines))
    start, end = first, last
    room = 4 if first == last else 2
    while room > 0:
        if start > 1:
            start -= 1
            room -= 1
        if end < len(lines):
            end += 1
            room -= 1
        room -= 1
    drawn = [f" {number:3} | {'>>>' if first <= number <= last else '   '} {lines[number - 1]}\n"
             for number in range(start, end + 1)]
    return f"{name}:{first}\n{_RULE}{''.join(drawn)}{_RULE}"
