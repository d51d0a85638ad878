"""Dockerfile text -> instructions, each with its flags, arguments, heredocs, comments and lines. Pure, bounded.

What an instruction means is not known here: `instructions` gives arguments their sense, `variables` expands them.
Source: the Dockerfile reference, sections "Format", "Parser directives", "Here-documents", "Shell and exec form".
"""

from __future__ import annotations

import re

from corten.base.errors import InvalidArgument
from corten.build.heredocs import heredocs_of
from corten.build.line import Instruction, ParseError, read_line

LIMIT_BYTES = 4 << 20  # a Dockerfile longer than this is not one
LIMIT_LINES = 100_000
LIMIT_LINE_BYTES = (1 << 16) - 1

_DIRECTIVE = re.compile(r"([a-zA-Z][a-zA-Z0-9]*)\s*=\s*(.+?)\s*$", re.ASCII)
_KNOWN_DIRECTIVES = frozenset({"syntax", "escape", "check"})
_WITH_HEREDOCS = frozenset({"ADD", "COPY", "RUN"})


class Dockerfile:
    """The whole text, taken apart. empty_continuations: (last line, joined line) where a blank line was in the middle.

    escape: the escape character in force. lines: the text's, without their ends, to show with an error.
    """

    __slots__ = ("directives", "empty_continuations", "escape", "instructions", "lines")

    def __init__(self) -> None:
        self.instructions: list[Instruction] = []
        self.directives: dict[str, str] = {}
        self.escape = "\\"
        self.empty_continuations: list[tuple[int, str]] = []
        self.lines: list[str] = []

    @property
    def warnings(self) -> list[str]:
        """Lines for the user of the classic builder."""
        found = [f"[WARNING]: Empty continuation line found in: {text}\n" for _, text in self.empty_continuations]
        if found:
            found.append("[WARNING]: Empty continuation lines will become errors in a future release.\n")
        return found


def parse(data: bytes | str) -> Dockerfile:
    """Take a Dockerfile apart. Raises ParseError with docker's text."""
    if len(data) > LIMIT_BYTES:
        raise ParseError(f"longer than {LIMIT_BYTES} bytes")
    text = data.decode("utf-8", "surrogateescape") if isinstance(data, bytes) else data
    lines = text.removeprefix("\ufeff").split("\n")
    if lines[-1] == "":
        lines.pop()
    if len(lines) > LIMIT_LINES:
        raise ParseError(f"more than {LIMIT_LINES} lines")
    if any(len(line) >= LIMIT_LINE_BYTES for line in lines):
        raise ParseError(f"dockerfile line greater than max allowed size of {LIMIT_LINE_BYTES}")
    found = Dockerfile()
    found.lines = [line.rstrip("\r") for line in lines]
    reader = _Reader(lines, found)
    reader.directives()
    while reader.at < len(lines):
        reader.instruction()
    if not found.instructions:
        raise ParseError("file with no instructions")
    return found


class _Reader:
    """A cursor over the lines; `at` counts from 0."""

    __slots__ = ("at", "comments", "found", "lines")

    def __init__(self, lines: list[str], found: Dockerfile) -> None:
        self.lines, self.found = lines, found
        self.at = 0
        self.comments: list[str] = []

    def directives(self) -> None:
        """Directives stand at the very top; the first line that is none ends them."""
        while self.at < len(self.lines):
            line = self.lines[self.at].strip()
            match = _DIRECTIVE.match(line[1:].lstrip()) if line.startswith("#") else None
            if not match or match[1].lower() not in _KNOWN_DIRECTIVES:
                return
            key, value = match[1].lower(), match[2]
            if key in self.found.directives:
                raise ParseError(f"only one {key} parser directive can be used", self.at + 1)
            self.found.directives[key] = value
            if key == "escape":
                if value not in ("\\", "`"):
                    raise ParseError(f"invalid escape token '{value}' does not match ` or \\", self.at + 1)
                self.found.escape = value
            self.at += 1

    def instruction(self) -> None:
        """One logical line, blank lines and comments before it."""
        first = self.lines[self.at].rstrip("\r").lstrip()
        self.at += 1
        if first.startswith("#"):
            comment = first[1:].strip()
            self.comments = [*self.comments, comment] if comment else []
            return
        start = self.at
        original = self._joined(first)
        if not original.strip():
            return
        instruction = read_line(original, self.found.escape, start)
        instruction.comments, self.comments = self.comments, []
        if "<<" in original:
            self._heredocs(instruction)
        instruction.end_line = self.at
        if instruction.inner:
            instruction.inner.end_line = self.at
        self.found.instructions.append(instruction)

    def _joined(self, first: str) -> str:
        """The line and those that continue it; comments and blank lines between are left out."""
        joined, more = _continued(first, self.found.escape)
        parts, empty = [joined], False
        while more and self.at < len(self.lines):
            line = self.lines[self.at].rstrip("\r")
            self.at += 1
            stripped = line.lstrip()
            if stripped.startswith("#"):
                continue
            if not stripped:
                empty = True
                continue
            joined, more = _continued(line, self.found.escape)
            parts.append(joined)
        original = "".join(parts)
        if empty:
            self.found.empty_continuations.append((self.at, original))
        return original

    def _heredocs(self, instruction: Instruction) -> None:
        holder = instruction.inner or instruction
        if holder.name not in _WITH_HEREDOCS or holder.is_json:
            return
        line = instruction.line
        try:
            documents = heredocs_of(instruction.original)
        except InvalidArgument as error:
            raise ParseError(str(error), line) from None
        for document in documents:
            body: list[str] = []
            while True:
                if self.at >= len(self.lines):
                    raise ParseError("unterminated heredoc", line, self.at)
                raw = self.lines[self.at]
                self.at += 1
                end = raw.rstrip("\r")
                if (end.lstrip("\t") if document.chomp else end) == document.name:
                    break
                body.append(raw + "\n")
            document.content = "".join(body)
        instruction.heredocs = holder.heredocs = documents


def _continued(line: str, escape: str) -> tuple[str, bool]:
    """The line without its escape at the end, and whether there was one (a doubled escape is none)."""
    trimmed = line.rstrip(" \t")
    if trimmed.endswith(escape) and not trimmed.endswith(escape * 2):
        return trimmed[:-1], True
    return line, False
