"""Here-documents of ADD, COPY and RUN: which a line opens, and what they hold. Pure.

Source: the Dockerfile reference, "Here-documents"; POSIX, Shell Command Language 2.7.4.
"""

from __future__ import annotations

import re

from corten.base.errors import InvalidArgument
from corten.build.variables import Expander

_WORD = re.compile(r"([0-9]*)<<(-?)\s*([^<]*)", re.ASCII)
_TABS = re.compile(r"^\t+", re.MULTILINE)


class Heredoc:
    """`<<NAME … NAME`: its lines as written; expand: the name was not quoted; chomp: `<<-`, tabs in front go."""

    __slots__ = ("chomp", "content", "expand", "name")

    def __init__(self, name: str, content: str, expand: bool, chomp: bool) -> None:
        self.name, self.content, self.expand, self.chomp = name, content, expand, chomp

    @property
    def chomped(self) -> str:
        """The content as it is meant."""
        return _TABS.sub("", self.content) if self.chomp else self.content


def heredocs_of(line: str) -> list[Heredoc]:
    """Those that a joined line opens, in order, empty yet. Raises InvalidArgument for a name that cannot be read."""
    try:
        words = Expander({}, raw_quotes=True, raw_escapes=True, keep_unset=True).words(line)
    except InvalidArgument:
        return []  # quotes that do not close: what follows is nobody's document
    return [document for word in words if (document := heredoc_of(word))]


def heredoc_of(word: str) -> Heredoc | None:
    """What `<<NAME` says, or None for any other word. Raises InvalidArgument."""
    match = _WORD.fullmatch(word)
    if not match or not match[3]:
        return None
    plain = Expander({}, keep_unset=True).words(match[3])
    if len(plain) != 1:
        return None
    raw = Expander({}, keep_unset=True, raw_quotes=True).words(match[3])
    quoted = sum(text.count(mark) * sign for text, sign in ((raw[0], 1), (plain[0], -1)) for mark in "'\"")
    return Heredoc(plain[0], "", not quoted, match[2] == "-")


def inline_path(documents: list[Heredoc]) -> str:
    """Where a heredoc that is a program of its own lies while it runs."""
    return f"/dev/pipes/{documents[0].name}"


def script_of(word: str, documents: list[Heredoc]) -> str:
    """What the shell is given for `RUN word <<EOF`: a lone heredoc is the script itself, or names a program (`#!`).

    With more words the shell reads the documents as shells do.
    """
    if heredoc_of(word):
        script = documents[0].chomped
        return inline_path(documents) if script.startswith("#!") else script
    return word + "".join(f"\n{one.content}{one.name}" for one in documents)
