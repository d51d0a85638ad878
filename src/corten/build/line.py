"""One joined line of a Dockerfile -> an instruction: its name, flags, and arguments in the form of its name. Pure.

Source: the Dockerfile reference, "Format", "Shell and exec form"; error texts are docker's.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Protocol

from corten.base.errors import InvalidArgument
from corten.build.heredocs import Heredoc

_BLANKS = re.compile(r"[\t\v\f\r ]+")


class LocatedError(InvalidArgument):
    """`problem`: what is wrong; `line` to `end_line` of the Dockerfile: where, 0 when nowhere in it."""

    def __init__(self, problem: str, line: int = 0, end_line: int = 0) -> None:
        super().__init__(self._text(problem, line))
        self.problem, self.line, self.end_line = problem, line, max(line, end_line)

    @staticmethod
    def _text(problem: str, _line: int) -> str:
        return problem


class ParseError(LocatedError):
    """The text is not a Dockerfile."""

    @staticmethod
    def _text(problem: str, _line: int) -> str:
        return f"failed to parse Dockerfile: {problem}"


class Placed(Protocol):
    """Something that stands in a Dockerfile."""

    @property
    def line(self) -> int: ...

    @property
    def end_line(self) -> int: ...


class GrammarError(ParseError):
    """An instruction is not what its grammar asks for."""

    @staticmethod
    def _text(problem: str, line: int) -> str:
        return f"dockerfile parse error on line {line}: {problem}"


class Instruction:
    """One instruction as written.

    word: its name as written; name: upper case. flags: words before the arguments that begin with `--`. text: the rest
    of the line. arguments: what the line's form makes of it (a list when `is_json`; ENV and LABEL: name, value and the
    "=" between them, or "", in turn). original: the joined line. inner: what ONBUILD holds. comments: those just above.
    """

    __slots__ = ("arguments", "comments", "end_line", "flags", "heredocs", "inner", "is_json", "line", "name",
                 "original", "text", "word")

    def __init__(self, word: str, original: str, flags: list[str], text: str, line: int) -> None:
        self.word, self.name = word, word.upper()
        self.original, self.flags, self.text, self.line, self.end_line = original, flags, text, line, line
        self.arguments: list[str] = []
        self.is_json = False
        self.heredocs: list[Heredoc] = []
        self.inner: Instruction | None = None
        self.comments: list[str] = []


def read_line(original: str, escape: str, line: int) -> Instruction:
    """One joined line. Raises ParseError; an unknown name is not one yet."""
    word, *rest = _BLANKS.split(original.strip(), maxsplit=1)
    flags, text = split_flags(rest[0], escape) if rest else ([], "")
    found = Instruction(word, original, flags, text.strip(), line)
    form = _FORMS.get(found.name)
    try:
        if form:
            form(found, escape)
    except ParseError:
        raise
    except InvalidArgument as error:
        raise ParseError(str(error), line) from None
    return found


def split_flags(text: str, escape: str = "\\") -> tuple[list[str], str]:
    """`--from=a --chown="b c" rest` -> the flags and the rest; `--` ends them. Quotes and escapes are honoured."""
    flags: list[str] = []
    at = 0
    while True:
        while at < len(text) and text[at].isspace():
            at += 1
        if not text.startswith("--", at):
            return flags, text[at:]
        word, at = _quoted_word(text, at, escape)
        if word == "--":
            return flags, text[at:]
        flags.append(word)


def _quoted_word(text: str, at: int, escape: str) -> tuple[str, int]:
    word: list[str] = []
    quote = ""
    while at < len(text):
        char = text[at]
        if char == escape:
            at += 1
            word.append(text[at:at + 1])
        elif quote:
            if char == quote:
                quote = ""
            else:
                word.append(char)
        elif char in "\"'":
            quote = char
        elif char.isspace():
            break
        else:
            word.append(char)
        at += 1
    return "".join(word), at


def split_words(text: str, escape: str = "\\") -> list[str]:
    """Split at blanks outside of quotes; quotes and escapes stay in the words (they are expanded later)."""
    words: list[str] = []
    word: list[str] = []
    quote = ""
    at = 0
    while at < len(text):
        char = text[at]
        if char == escape and quote != "'":
            word.append(text[at:at + 2] if at + 1 < len(text) else "")  # alone at the end it says nothing
            at += 2
            continue
        if quote:
            quote = "" if char == quote else quote
        elif char in "\"'":
            quote = char
        elif char.isspace():
            if word:
                words.append("".join(word))
            word = []
            at += 1
            continue
        word.append(char)
        at += 1
    if "".join(word):
        words.append("".join(word))
    return words


# --- forms of the arguments

def json_array(text: str) -> list[str] | None:
    """The exec form: a JSON array of strings and nothing else, or None (then the text is the shell form).

    Raises InvalidArgument for an array of something else.
    """
    if not text.startswith("["):
        return None
    try:
        value = json.loads(text, parse_constant=_no_constant)
    except ValueError:
        return None
    except RecursionError:
        value = [[]]
    if not isinstance(value, list):
        return None
    if not all(isinstance(item, str) for item in value):
        raise InvalidArgument("when using JSON array syntax, arrays must be comprised of strings only")
    return value


def _no_constant(name: str) -> None:
    raise ValueError(name)  # NaN and its like are Python's, not JSON's


def _text_form(found: Instruction, _escape: str) -> None:
    found.arguments = [found.text] if found.text else []


def _json_or_text(found: Instruction, _escape: str) -> None:
    array = json_array(found.text)
    found.is_json = array is not None
    found.arguments = array if array is not None else [found.text] if found.text else []


def _blanks(found: Instruction, _escape: str) -> None:
    found.arguments = _BLANKS.split(found.text) if found.text else []


def _json_or_blanks(found: Instruction, escape: str) -> None:
    array = json_array(found.text)
    if array is None:
        _blanks(found, escape)
    else:
        found.arguments, found.is_json = array, True


def _quoted(found: Instruction, escape: str) -> None:
    found.arguments = split_words(found.text, escape)


def _pairs(found: Instruction, escape: str) -> None:
    """ENV and LABEL: `name=value …`, or the old `name the rest of the line`."""
    words = split_words(found.text, escape)
    if words and "=" not in words[0]:
        parts = _BLANKS.split(found.text, maxsplit=1)
        if len(parts) < 2:
            raise InvalidArgument(f"{found.name} must have two arguments")
        found.arguments = [*parts, ""]
        return
    for word in words:
        name, equals, value = word.partition("=")
        if not equals:
            shown = json.dumps(word, ensure_ascii=False)
            raise InvalidArgument(f"Syntax error - can't find = in {shown}. Must be of the form: name=value")
        found.arguments += [name, value, equals]


def _health(found: Instruction, escape: str) -> None:
    kind, *rest = found.text.split(None, 1)[:2] or [""]
    found.arguments = [kind] if kind else []
    if rest:
        array = json_array(rest[0])
        found.is_json = array is not None
        found.arguments += array if array is not None else rest


def _onbuild(found: Instruction, escape: str) -> None:
    if found.text:
        found.inner = read_line(found.text, escape, found.line)
        found.arguments = [found.inner.word, *found.inner.arguments]


_FORMS: dict[str, Callable[[Instruction, str], None]] = {
    "ADD": _json_or_blanks, "ARG": _quoted, "CMD": _json_or_text, "COPY": _json_or_blanks, "ENTRYPOINT": _json_or_text,
    "ENV": _pairs, "EXPOSE": _blanks, "FROM": _blanks, "HEALTHCHECK": _health, "LABEL": _pairs,
    "MAINTAINER": _text_form, "ONBUILD": _onbuild, "RUN": _json_or_text, "SHELL": _json_or_text,
    "STOPSIGNAL": _text_form, "USER": _text_form, "VOLUME": _json_or_blanks, "WORKDIR": _text_form,
}
INSTRUCTIONS = tuple(_FORMS)


@contextmanager
def located(command: Placed) -> Iterator[None]:
    """What is refused inside is refused at this command's lines: a LocatedError."""
    try:
        yield
    except LocatedError:
        raise
    except InvalidArgument as error:
        raise LocatedError(str(error), command.line, command.end_line) from None


# --- what was meant

def suggestion(word: str, options: Iterable[str], fold: bool = False) -> str:
    """` (did you mean X?)` for the nearest option at an edit distance under 3, else nothing. fold: case is ignored."""
    best = nearest(word, options, fold)
    return f" (did you mean {best}?)" if best else ""


def nearest(word: str, options: Iterable[str], fold: bool = False) -> str:
    """The option meant, or "" when none is near, or `word` is one itself."""
    best, least = "", 3
    for option in options:
        distance = _distance(word[:40].lower(), option.lower()) if fold else _distance(word[:40], option)
        if not distance:
            return ""
        if distance < least:
            best, least = option, distance
    if not fold:
        return best
    return best.upper() if word.isupper() else best.lower()


def _distance(a: str, b: str) -> int:
    row = list(range(len(b) + 1))
    for i, x in enumerate(a, 1):
        corner, row[0] = row[0], i
        for j, y in enumerate(b, 1):
            corner, row[j] = row[j], min(row[j] + 1, row[j - 1] + 1, corner + (x != y))
    return row[len(b)]
