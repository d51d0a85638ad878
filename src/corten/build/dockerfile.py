"""Dockerfile text -> instructions, each with its flags, arguments, heredocs and line numbers. Pure, bounded.

What an instruction means is not known here: `instructions` gives arguments their sense, `variables` expands them.
Source: the Dockerfile reference, sections "Format", "Parser directives", "Here-documents", "Shell and exec form".
"""

from __future__ import annotations

import json
import re

from corten.base.errors import InvalidArgument

LIMIT_BYTES = 4 << 20  # a Dockerfile longer than this is not one
LIMIT_LINES = 100_000

INSTRUCTIONS = (
    "ADD", "ARG", "CMD", "COPY", "ENTRYPOINT", "ENV", "EXPOSE", "FROM", "HEALTHCHECK", "LABEL", "MAINTAINER",
    "ONBUILD", "RUN", "SHELL", "STOPSIGNAL", "USER", "VOLUME", "WORKDIR",
)
_JSON_OR_TEXT = frozenset({"CMD", "ENTRYPOINT", "RUN", "SHELL", "ADD", "COPY", "VOLUME"})
_WITH_HEREDOCS = frozenset({"ADD", "COPY", "RUN"})
_DIRECTIVE = re.compile(r"#\s*([a-zA-Z][a-zA-Z0-9]*)\s*=\s*(.+?)\s*$")
_KNOWN_DIRECTIVES = frozenset({"syntax", "escape", "check"})
_HEREDOC = re.compile(r"(?<![<\\])[0-9]*<<(-?)([\"']?)([A-Za-z0-9_.][A-Za-z0-9_.-]*)\2(?=\s|$|[;|&>)])")


class ParseError(InvalidArgument):
    """The text is not a Dockerfile; `line` is where."""

    def __init__(self, message: str, line: int = 0) -> None:
        super().__init__(f"dockerfile parse error on line {line}: {message}" if line
                         else f"failed to parse Dockerfile: {message}")
        self.line = line


class Heredoc:
    """`<<NAME … NAME`: its lines, and whether variables in it are expanded (the name was not quoted)."""

    __slots__ = ("content", "expand", "name")

    def __init__(self, name: str, content: str, expand: bool) -> None:
        self.name, self.content, self.expand = name, content, expand


class Instruction:
    """One instruction as written.

    name: upper case. flags: words before the arguments that begin with `--`. arguments: a list when `is_json`, else
    what the instruction's own grammar makes of `text` (the rest of the line). original: the joined line.
    """

    __slots__ = ("arguments", "flags", "heredocs", "is_json", "line", "name", "original", "text")

    def __init__(self, name: str, original: str, flags: list[str], text: str, line: int) -> None:
        self.name, self.original, self.flags, self.text, self.line = name, original, flags, text, line
        self.arguments: list[str] = []
        self.is_json = False
        self.heredocs: list[Heredoc] = []


class Dockerfile:
    """The whole text, taken apart. warnings: lines for the user; escape: the escape character in force."""

    __slots__ = ("directives", "escape", "instructions", "warnings")

    def __init__(self) -> None:
        self.instructions: list[Instruction] = []
        self.directives: dict[str, str] = {}
        self.escape = "\\"
        self.warnings: list[str] = []


def parse(data: bytes | str) -> Dockerfile:
    """Take a Dockerfile apart. Raises ParseError with docker's text."""
    if len(data) > LIMIT_BYTES:
        raise ParseError(f"longer than {LIMIT_BYTES} bytes")
    text = data.decode("utf-8", "surrogateescape") if isinstance(data, bytes) else data
    lines = text.removeprefix("\ufeff").split("\n")
    if len(lines) > LIMIT_LINES:
        raise ParseError(f"more than {LIMIT_LINES} lines")
    found = Dockerfile()
    at = _read_directives(lines, found)
    while at < len(lines):
        at = _read_instruction(lines, at, found)
    if found.warnings:
        found.warnings.append("[WARNING]: Empty continuation lines will become errors in a future release.\n")
    if not found.instructions:
        raise ParseError("file with no instructions")
    return found


def _read_directives(lines: list[str], found: Dockerfile) -> int:
    """Directives stand at the very top; the first line that is none ends them."""
    for at, line in enumerate(lines):
        match = _DIRECTIVE.match(line.strip("\r"))
        if not match or match[1].lower() not in _KNOWN_DIRECTIVES:
            return at
        key, value = match[1].lower(), match[2]
        if key in found.directives:
            raise ParseError(f"only one {key} parser directive can be used", at + 1)
        found.directives[key] = value
        if key == "escape":
            if value not in ("\\", "`"):
                raise ParseError(f"invalid ESCAPE '{value}'. Must be ` or \\", at + 1)
            found.escape = value
    return len(lines)


def _read_instruction(lines: list[str], at: int, found: Dockerfile) -> int:
    """One logical line from `at` on; returns the index after it."""
    first = lines[at].rstrip("\r").lstrip()
    start = at + 1
    at += 1
    if not first or first.startswith("#"):
        return at
    joined, more = _continued(first, found.escape)
    parts = [joined]
    empty_seen = False
    while more and at < len(lines):
        line = lines[at].rstrip("\r")
        at += 1
        stripped = line.strip()
        if stripped.startswith("#"):
            continue
        if not stripped:
            empty_seen = empty_seen or at < len(lines)
            continue
        joined, more = _continued(line, found.escape)
        parts.append(joined)
    original = "".join(parts)
    if not original.strip():
        return at
    if empty_seen:
        found.warnings.append(f"[WARNING]: Empty continuation line found in: {original}\n")
    instruction = _instruction(original, start)
    if instruction.name in _WITH_HEREDOCS and not instruction.is_json:
        at = _read_heredocs(lines, at, instruction)
    found.instructions.append(instruction)
    return at


def _continued(line: str, escape: str) -> tuple[str, bool]:
    """The line without its escape at the end, and whether there was one (a doubled escape is none)."""
    trimmed = line.rstrip(" \t")
    if trimmed.endswith(escape) and not trimmed.endswith(escape * 2):
        return trimmed[:-1], True
    return line, False


def _instruction(original: str, line: int) -> Instruction:
    words = original.strip().split(None, 1)
    name = words[0].upper()
    if name not in INSTRUCTIONS:
        raise ParseError(f"unknown instruction: {words[0]}{suggestion(name, INSTRUCTIONS)}", line)
    flags, text = split_flags(words[1]) if len(words) > 1 and name != "ONBUILD" else ([], "".join(words[1:]))
    found = Instruction(name, original, flags, text.strip(), line)
    if name in _JSON_OR_TEXT and (array := json_array(found.text)) is not None:
        found.arguments, found.is_json = array, True
    return found


def split_flags(text: str) -> tuple[list[str], str]:
    """`--from=a --chown="b c" rest` -> the flags and the rest; `--` ends them. Quotes and backslashes are honoured."""
    flags: list[str] = []
    at = 0
    while True:
        while at < len(text) and text[at].isspace():
            at += 1
        if not text.startswith("--", at):
            return flags, text[at:]
        word, end = _quoted_word(text, at)
        if word == "--":
            return flags, text[end:]
        flags.append(word)
        at = end


def _quoted_word(text: str, at: int) -> tuple[str, int]:
    word: list[str] = []
    quote = ""
    while at < len(text):
        char = text[at]
        if char == "\\" and at + 1 < len(text):
            at += 1
            word.append(text[at])
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


def json_array(text: str) -> list[str] | None:
    """The exec form: a JSON array of strings and nothing else, or None (then the text is the shell form)."""
    if not text.startswith("["):
        return None
    try:
        value = json.loads(text, strict=False)
    except (ValueError, RecursionError):
        return None
    if not isinstance(value, list) or not all(isinstance(item, str) for item in value):
        return None
    return value


def _read_heredocs(lines: list[str], at: int, instruction: Instruction) -> int:
    for match in _HEREDOC.finditer(_unquoted(instruction.text)):
        strip_tabs, quote, name = match[1] == "-", match[2], match[3]
        body: list[str] = []
        while True:
            if at >= len(lines):
                raise ParseError("unterminated heredoc", instruction.line)
            line = lines[at].rstrip("\r")
            at += 1
            if strip_tabs:
                line = line.lstrip("\t")
            if line == name:
                break
            body.append(line + "\n")
        instruction.heredocs.append(Heredoc(name, "".join(body), not quote))
    return at


def _unquoted(text: str) -> str:
    """The text with the inside of quotes blanked, except a heredoc's own quoted name."""
    return re.sub(r"(<<-?)?(\"(?:[^\"\\]|\\.)*\"|'[^']*')",
                  lambda match: match[0] if match[1] else " " * len(match[0]), text)


def suggestion(word: str, options: tuple[str, ...]) -> str:
    """` (did you mean X?)` for the nearest option at an edit distance under 3, else nothing."""
    best, least = "", 3
    for option in options:
        distance = _distance(word.lower()[:40], option.lower())
        if distance < least:
            best, least = option, distance
    return f" (did you mean {best}?)" if best else ""


def _distance(a: str, b: str) -> int:
    row = list(range(len(b) + 1))
    for i, x in enumerate(a, 1):
        corner, row[0] = row[0], i
        for j, y in enumerate(b, 1):
            corner, row[j] = row[j], min(row[j] + 1, row[j - 1] + 1, corner + (x != y))
    return row[len(b)]
