"""Words of a Dockerfile: quotes, escapes and variables, as the Dockerfile reference has them. Pure.

    $name  ${name}  ${name:-word}  ${name-word}  ${name:+word}  ${name+word}  ${name:?text}  ${name?text}
    ${name#pattern}  ${name##pattern}  ${name%pattern}  ${name%%pattern}  ${name/pattern/word}  ${name//pattern/word}

No command substitution, no arithmetic, no splitting of a quoted part.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping

from corten.base.errors import InvalidArgument
from corten.build.shell_pattern import replaced, trimmed

_LIMIT_DEPTH = 32
_LIMIT_BYTES = 4 << 20
_END = "\ufffd"  # as Go shows a character that is not there
_SPECIAL = "@*#?-$!0"


class Expander:
    """Expands words with one set of variables; `used` and `missing` collect the names that were looked at.

    raw_quotes, raw_escapes: they stay in the result. keep_unset: so does `$name` of a variable that is not there.
    """

    __slots__ = ("escape", "keep_unset", "missing", "raw_escapes", "raw_quotes", "used", "variables")

    def __init__(self, variables: Mapping[str, str], escape: str = "\\", *, raw_quotes: bool = False,
                 raw_escapes: bool = False, keep_unset: bool = False) -> None:
        self.variables, self.escape = variables, escape
        self.raw_quotes, self.raw_escapes, self.keep_unset = raw_quotes, raw_escapes, keep_unset
        self.used: set[str] = set()
        self.missing: set[str] = set()

    def word(self, text: str) -> str:
        """Quotes removed, variables replaced, one result. Raises InvalidArgument."""
        if self.escape not in text and "$" not in text and '"' not in text and "'" not in text:
            return text
        return "".join(piece for piece, _ in self._scan(text))

    def words(self, text: str) -> list[str]:
        """As `word`, split at blanks outside of quotes (those of an expanded variable too). Raises InvalidArgument."""
        found: list[str] = []
        current = ""
        for piece, quoted in self._scan(text):
            if quoted:
                current += piece
                continue
            first, *rest = _split(piece)
            current += first
            for part in rest:
                if current:
                    found.append(current)
                current = part
        if current:
            found.append(current)
        return found

    def heredoc(self, text: str) -> str:
        """Variables replaced, quotes left alone. Raises InvalidArgument."""
        return "".join(piece for piece, _ in self._scan(text, quotes=False))

    def look_up(self, name: str) -> str | None:
        """The variable's value; the look is written down."""
        value = self.variables.get(name)
        (self.missing if value is None else self.used).add(name)
        return value

    def _scan(self, text: str, quotes: bool = True) -> list[tuple[str, bool]]:
        try:
            pieces = _Scanner(text, self, quotes).run("", self.raw_escapes)
            if sum(len(piece) for piece, _ in pieces) > _LIMIT_BYTES:
                raise InvalidArgument("too long when expanded")
        except InvalidArgument as error:
            raise InvalidArgument(f"failed to process {json.dumps(text, ensure_ascii=False)}: {error}") from None
        return pieces


def _split(text: str) -> list[str]:
    """At every blank: `" a  b"` -> `["", "a", "", "b"]`."""
    parts, start = [], 0
    for at, char in enumerate(text):
        if char.isspace():
            parts.append(text[start:at])
            start = at + 1
    return [*parts, text[start:]]


class _Scanner:
    """A cursor over one text. What it reads comes out in pieces: (text, whether blanks in it are no ends of words)."""

    __slots__ = ("at", "depth", "owner", "quotes", "raw_escapes", "text")

    def __init__(self, text: str, owner: Expander, quotes: bool) -> None:
        self.text, self.owner, self.quotes = text, owner, quotes
        self.at = self.depth = 0
        self.raw_escapes = False

    def _next(self) -> str:
        """The next character, "" at the end."""
        char = self.text[self.at:self.at + 1]
        self.at += 1
        return char

    def run(self, until: str, raw_escapes: bool) -> list[tuple[str, bool]]:
        """Read to the character `until`, which is consumed; "": to the end. Raises InvalidArgument."""
        if self.depth >= _LIMIT_DEPTH:
            raise InvalidArgument("nested too deep")
        self.depth += 1
        before, self.raw_escapes = self.raw_escapes, raw_escapes
        text, pieces = self.text, list[tuple[str, bool]]()
        special: dict[str, Callable[[], str]] = {"$": self._dollar, "<": self._heredoc, self.owner.escape: self._escape}
        if self.quotes:
            special.update({"'": self._single, '"': self._double})
        while self.at < len(text):
            char = text[self.at]
            if char == until:
                break
            if char in special:
                pieces.append((special[char](), char != "$"))
            else:
                pieces.append((char, False))
                self.at += 1
        self.depth -= 1
        self.raw_escapes = before
        if until and self._next() != until:
            raise InvalidArgument(f"unexpected end of statement while looking for matching {until}")
        return pieces

    def _escape(self) -> str:
        """Outside of quotes the next character stands for itself; an escape at the very end is dropped."""
        escape = self._next() if self.raw_escapes else ""
        self.at += not self.raw_escapes
        return escape + self._next()

    def _heredoc(self) -> str:
        """`<<` and the blanks after it belong to one word."""
        start = self.at
        self.at += 1
        if self.text.startswith("<", self.at):
            self.at += 1
            while self.text[self.at:self.at + 1] in ("\t", "\r", " "):
                self.at += 1
        return self.text[start:self.at]

    def _single(self) -> str:
        end = self.text.find("'", self.at + 1)
        if end < 0:
            raise InvalidArgument("unexpected end of statement while looking for matching single-quote")
        found = self.text[self.at + 1:end]
        self.at = end + 1
        return f"'{found}'" if self.owner.raw_quotes else found

    def _double(self) -> str:
        found = []
        self.at += 1
        while (char := self.text[self.at:self.at + 1]) and char != '"':
            if char == "$":
                found.append(self._dollar())
                continue
            self.at += 1
            if char == self.owner.escape:
                if self.raw_escapes:
                    found.append(char)
                following = self.text[self.at:self.at + 1]
                if not following:
                    break
                if following in ('"', "$", self.owner.escape):
                    char = self._next()
            found.append(char)
        if self._next() != '"':
            raise InvalidArgument("unexpected end of statement while looking for matching double-quote")
        text = "".join(found)
        return f'"{text}"' if self.owner.raw_quotes else text

    def _name(self) -> str:
        """Letters, digits and `_`; digits alone when the first is one; or one of the shell's own, of which none is."""
        start = self.at
        first = self.text[self.at:self.at + 1]
        if first and not first.isdecimal() and first in _SPECIAL:
            self.at += 1
            return first
        digits = first.isdecimal()
        while char := self.text[self.at:self.at + 1]:
            if not (char.isdecimal() if digits else char.isalpha() or char.isdecimal() or char == "_"):
                break
            self.at += 1
        return self.text[start:self.at]

    def _dollar(self) -> str:
        self.at += 1
        if self.text.startswith("{", self.at):
            self.at += 1
            return self._braced()
        name = self._name()
        if not name:
            return "$"
        value = self.owner.look_up(name)
        return "$" + name if value is None and self.owner.keep_unset else value or ""

    def _braced(self) -> str:
        following = self.text[self.at:self.at + 1]
        if not following:
            raise InvalidArgument("syntax error: missing '}'")
        if following in "{}:":
            raise InvalidArgument("syntax error: bad substitution")
        name, operator = self._name(), self._next()
        if operator == "}":
            value = self.owner.look_up(name)
            return "${" + name + "}" if value is None and self.owner.keep_unset else value or ""
        if operator == "/":
            return self._substituted(name)
        if operator == ":":
            operator += self._next()
        if operator[-1:] not in (*"+-?#%",) and operator[:1] != ":":
            raise InvalidArgument(f"unsupported modifier ({operator or _END}) in substitution")
        return self._modified(name, operator)

    def _inner(self, until: str, raw_escapes: bool) -> str:
        """The word after a modifier, itself expanded, up to its closing character (which is consumed)."""
        try:
            return "".join(piece for piece, _ in self.run(until, raw_escapes))
        except InvalidArgument:
            if self.at >= len(self.text):
                what = "'}'" if until == "}" else "'/' in ${}"
                raise InvalidArgument(f"syntax error: missing {what}") from None
            raise

    def _substituted(self, name: str) -> str:
        every = self.text.startswith("/", self.at)
        self.at += every
        pattern = self._inner("/", True)
        replacement = self._inner("}", True)
        value = self.owner.look_up(name)
        if value is None and self.owner.keep_unset:
            return f"${{{name}/{pattern}/{replacement}}}"
        return replaced(value or "", pattern, replacement, not every)

    def _modified(self, name: str, operator: str) -> str:
        colon, kind = operator[0] == ":", operator[-1]
        if colon and kind in "#%":
            raise InvalidArgument(f"unsupported modifier ({operator or _END}) in substitution")
        word = self._inner("}", kind in "#%")
        value = self.owner.look_up(name)
        if value is None and self.owner.keep_unset:
            return f"${{{name}{operator}{word}}}"
        if kind in "#%":
            greedy = word.startswith(kind)
            return trimmed(value or "", word[greedy:], kind * (1 + greedy))
        missing = value is None or (colon and not value)
        if kind == "+":
            return "" if missing else word
        if kind == "-":
            return word if missing else value or ""
        if kind != "?":
            raise InvalidArgument(f"unsupported modifier ({operator or _END}) in substitution")
        if missing:
            what = "unset" if value is None else "empty"
            raise InvalidArgument(f"{name}: {word or f'is not allowed to be {what}'}")
        return value or ""
