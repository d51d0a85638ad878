"""Words of a Dockerfile: quotes, escapes and variables, as the Dockerfile reference has them. Pure.

    $name  ${name}  ${name:-word}  ${name-word}  ${name:+word}  ${name+word}  ${name:?text}  ${name?text}
    ${name#pattern}  ${name##pattern}  ${name%pattern}  ${name%%pattern}  ${name/pattern/word}  ${name//pattern/word}

No command substitution, no arithmetic, no splitting of a quoted part.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from corten.base.errors import InvalidArgument

_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*", re.ASCII)
_LIMIT_DEPTH = 32
_LIMIT_BYTES = 4 << 20
_LIMIT_REPLACED = 4096  # ${name/pattern/word} looks at every place to the end of the value


class Expander:
    """Expands words with one set of variables; `used` collects the names that were looked at."""

    __slots__ = ("escape", "used", "variables")

    def __init__(self, variables: Mapping[str, str], escape: str = "\\") -> None:
        self.variables, self.escape = variables, escape
        self.used: set[str] = set()

    def word(self, text: str) -> str:
        """Quotes removed, variables replaced, one result. Raises InvalidArgument."""
        if self.escape not in text and "$" not in text and '"' not in text and "'" not in text:
            return text
        return "".join(piece for piece, _ in self._scan(text))

    def words(self, text: str) -> list[str]:
        """As `word`, split at blanks outside of quotes (those of an expanded variable too). Raises InvalidArgument."""
        found: list[str] = []
        current: list[str] = []
        open_word = False
        for piece, quoted in self._scan(text):
            if quoted:
                current.append(piece)
                open_word = True
                continue
            parts = re.split(r"(\s+)", piece)
            for part in parts:
                if part.isspace():
                    if open_word:
                        found.append("".join(current))
                    current, open_word = [], False
                elif part:
                    current.append(part)
                    open_word = True
        if open_word:
            found.append("".join(current))
        return found

    def heredoc(self, text: str) -> str:
        """Variables replaced, quotes left alone. Raises InvalidArgument."""
        return "".join(piece for piece, _ in self._scan(text, quotes=False))

    def _scan(self, text: str, quotes: bool = True) -> list[tuple[str, bool]]:
        scanner = _Scanner(text, self, 0, quotes)
        pieces = scanner.run("")
        if sum(len(piece) for piece, _ in pieces) > _LIMIT_BYTES:
            raise InvalidArgument("failed to process a word: too long when expanded")
        return pieces


class _Scanner:
    """A cursor over one text; pieces come out as (text, was quoted)."""

    __slots__ = ("at", "depth", "owner", "pieces", "quotes", "text")

    def __init__(self, text: str, owner: Expander, depth: int, quotes: bool) -> None:
        if depth > _LIMIT_DEPTH:
            raise InvalidArgument("failed to process a word: nested too deep")
        self.text, self.owner, self.depth, self.quotes = text, owner, depth, quotes
        self.at = 0
        self.pieces: list[tuple[str, bool]] = []

    def run(self, until: str) -> list[tuple[str, bool]]:
        text = self.text
        while self.at < len(text) and not (until and text[self.at] in until):
            char = text[self.at]
            if char == "'" and self.quotes:
                self._single()
            elif char == '"' and self.quotes:
                self._double()
            elif char == "$":
                self.pieces.append((self._dollar(), False))
            elif char == self.owner.escape:
                self._escape()
            else:
                self.pieces.append((char, False))
                self.at += 1
        return self.pieces

    def _fail(self, what: str) -> InvalidArgument:
        return InvalidArgument(f'failed to process "{self.text}": {what}')

    def _escape(self) -> None:
        """Outside of quotes the next character stands for itself; an escape at the very end is dropped."""
        if self.at + 1 < len(self.text):
            following = self.text[self.at + 1]
            keep = "" if self.quotes or following in ("$", self.owner.escape) else self.owner.escape
            self.pieces.append((keep + following, True))
        self.at += 2

    def _single(self) -> None:
        end = self.text.find("'", self.at + 1)
        if end < 0:
            raise self._fail("unexpected end of statement while looking for matching single-quote")
        self.pieces.append((self.text[self.at + 1:end], True))
        self.at = end + 1

    def _double(self) -> None:
        self.at += 1
        while self.at < len(self.text):
            char = self.text[self.at]
            if char == '"':
                self.pieces.append(("", True))
                self.at += 1
                return
            if char == "$":
                self.pieces.append((self._dollar(), True))
                continue
            if char == self.owner.escape and self.text[self.at + 1:self.at + 2] in ('"', "$", self.owner.escape):
                self.at += 1
                char = self.text[self.at:self.at + 1]
            self.pieces.append((char, True))
            self.at += 1
        raise self._fail("unexpected end of statement while looking for matching double-quote")

    def _look_up(self, name: str) -> str | None:
        self.owner.used.add(name)
        return self.owner.variables.get(name)

    def _dollar(self) -> str:
        self.at += 1
        if self.text.startswith("{", self.at):
            self.at += 1
            return self._braced()
        match = _NAME.match(self.text, self.at)
        if match:
            self.at = match.end()
            return self._look_up(match[0]) or ""
        following = self.text[self.at:self.at + 1]
        if following and following in "0123456789@*#?!-$":
            self.at += 1  # the shell's own; there are none here
            return self._look_up(following) or ""
        return "$"

    def _braced(self) -> str:
        match = _NAME.match(self.text, self.at) or re.compile(r"[0-9]+|[@*#?!-]").match(self.text, self.at)
        if not match:
            if self.text.startswith("}", self.at) or self.text.startswith(":", self.at):
                raise self._fail("bad substitution")
            raise self._fail("syntax error: missing '}'" if self.at >= len(self.text) else "bad substitution")
        name = match[0]
        self.at = match.end()
        rest = self.text[self.at:self.at + 2]
        if not rest:
            raise self._fail("syntax error: missing '}'")
        if rest[0] == "}":
            self.at += 1
            return self._look_up(name) or ""
        for operator in ("##", "%%", "//", ":-", ":+", ":?", "-", "+", "?", "#", "%", "/"):
            if rest.startswith(operator):
                self.at += len(operator)
                return self._modified(name, operator)
        raise self._fail(f"unsupported modifier ({rest.rstrip('}')}) in substitution")

    def _inner(self, until: str = "}") -> str:
        """The word after a modifier, itself expanded, up to its closing character (which is consumed)."""
        scanner = _Scanner(self.text, self.owner, self.depth + 1, self.quotes)
        scanner.at = self.at
        found = "".join(piece for piece, _ in scanner.run(until))
        if scanner.at >= len(self.text):
            raise self._fail("syntax error: missing '}'")
        self.at = scanner.at + 1
        return found

    def _modified(self, name: str, operator: str) -> str:
        value = self._look_up(name)
        if operator in ("/", "//"):
            pattern = self._inner("/")
            replacement = self._inner()
            return _replaced(value or "", pattern, replacement, operator == "/")
        word = self._inner()
        if operator in ("#", "##", "%", "%%"):
            return _trimmed(value or "", word, operator)
        missing = value is None or (operator[0] == ":" and not value)
        if operator[-1] == "+":
            return "" if missing else word
        if not missing:
            return value or ""
        if operator[-1] == "?":
            raise self._fail(f"{name}: {word or 'not allowed to be empty'}")
        return word


class _Glob:
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
        """Where a match that begins at `start` ends (the first such place, or the last); -1 when there is none."""
        states, found = self.start, -1
        for at in range(start, len(text) + 1):
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
        if char == "\\" and at + 1 < len(glob):
            at += 1
            found.append("=" + glob[at])
        else:
            found.append(char if char in "*?" else "=" + char)
        at += 1
    return found


def _trimmed(value: str, glob: str, operator: str) -> str:
    tokens = _tokens(glob)
    if operator[0] == "#":
        return value[max(_Glob(tokens).ends(value, 0, operator == "#"), 0):]
    end = _Glob(tokens[::-1]).ends(value[::-1], 0, operator == "%")
    return value[:len(value) - max(end, 0)]


def _replaced(value: str, glob: str, replacement: str, once: bool) -> str:
    if not glob:
        return value
    if len(value) > _LIMIT_REPLACED:
        raise InvalidArgument(f"failed to process a substitution: longer than {_LIMIT_REPLACED} characters")
    pattern = _Glob(_tokens(glob))
    pieces: list[str] = []
    at = 0
    while at < len(value):
        end = pattern.ends(value, at, False)
        if end > at:
            pieces.append(replacement)
            at = end
            if once:
                break
        else:
            pieces.append(value[at])
            at += 1
    return "".join(pieces) + value[at:]
