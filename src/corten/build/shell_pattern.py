"""The patterns of `${name#pattern}` and its like: `*`, `?` and the escape, without a regular expression. Pure, bounded.

Source: the Dockerfile reference, "Environment replacement"; POSIX, Shell Command Language 2.13.1.
"""

from __future__ import annotations

from corten.base.errors import InvalidArgument

LIMIT_REPLACED = 4096  # ${name/pattern/word} looks at every place to the end of the value


class Glob:
    """A shell pattern of `*`, `?` and the escape, run as a set of states: linear in the text, whatever the stars."""

    __slots__ = ("_any", "_stars", "_where", "accepting", "start")

    def __init__(self, tokens: list[str]) -> None:
        """`tokens`: "*" and "?" are special, a literal is "=" and its character."""
        self._where: dict[str, int] = {}
        self._any = self._stars = 0
        state = 1
        for token in tokens:
            if token == "*":  # noqa: S105 - not that kind of token
                self._stars |= state
                continue
            if token == "?":  # noqa: S105
                self._any |= state
            else:
                self._where[token[1]] = self._where.get(token[1], 0) | state
            state <<= 1
        self.accepting = state
        self.start = 1

    def step(self, states: int, char: str) -> int:
        """The states after one character."""
        return ((states & (self._where.get(char, 0) | self._any)) << 1) | (states & self._stars)

    def ends(self, text: str, start: int, shortest: bool) -> int:
        """Where a match that begins at `start` ends (the first such place, or the last); -1 when there is none.

        -2: there is none, and none that begins later either: all up to a star fitted, what follows it is nowhere.
        """
        states, found = self.start, -1
        for at in range(start, len(text) + 1):
            if states & self._stars and found == -1:
                found = -2
            if states & self.accepting:
                found = at
                if shortest:
                    break
            if not states or at == len(text):
                break
            states = self.step(states, text[at])
        return found


def _tokens(glob: str) -> list[str]:
    found: list[str] = []
    at = 0
    while at < len(glob):
        char = glob[at]
        if char == "\\":
            at += 1
            following = glob[at:at + 1]
            if following not in ("*", "?", "\\", "}", "/"):
                raise InvalidArgument(f"invalid pattern ({glob}) in substitution: invalid escape '\\{following}'")
            found.append("=" + following)
        else:
            found.append(char if char in "*?" else "=" + char)
        at += 1
    return found


def trimmed(value: str, glob: str, operator: str) -> str:
    tokens = _tokens(glob)
    if operator[0] == "#":
        return value[max(Glob(tokens).ends(value, 0, operator == "#"), 0):]
    end = Glob(tokens[::-1]).ends(value[::-1], 0, operator == "%")
    return value[:len(value) - max(end, 0)]


def replaced(value: str, glob: str, replacement: str, once: bool) -> str:
    if not glob:
        return replacement + value if once else replacement.join(["", *value, ""])
    if len(value) > LIMIT_REPLACED:
        raise InvalidArgument(f"failed to process a substitution: longer than {LIMIT_REPLACED} characters")
    pattern = Glob(_tokens(glob))
    pieces: list[str] = []
    at = 0
    while at < len(value):
        end = pattern.ends(value, at, False)
        if end == -2:
            break
        if end > at:
            pieces.append(replacement)
            at = end
            if once:
                break
        else:
            pieces.append(value[at])
            at += 1
    return "".join(pieces) + value[at:]
