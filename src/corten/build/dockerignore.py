"""`.dockerignore`: which paths of a context are left out. Pure.

Source: the Dockerfile reference, ".dockerignore file"; patterns are Go's filepath.Match plus `**`; `!` takes back.
"""

from __future__ import annotations

import posixpath
import re

from corten.base.errors import InvalidArgument


class Pattern:
    """One path pattern, component by component; matching takes time linear in both, whatever the stars."""

    __slots__ = ("_components",)

    def __init__(self, text: str) -> None:
        self._components: list[re.Pattern[str] | None] = []  # None: `**`, any number of components
        for part in text.split("/"):
            if part != "**":
                self._components.append(re.compile(_component(part), re.DOTALL))
            elif self._components[-1:] != [None]:
                self._components.append(None)
        if self._components[-1:] == [None]:
            self._components.append(_ANYTHING)  # `d/**` is what is in d, not d

    def matches(self, parts: list[str]) -> bool:
        """Whether the whole path fits; on a mismatch only the last `**` takes one component more."""
        components = self._components
        at = own = 0
        star = resume = -1
        while at < len(parts):
            component = components[own] if own < len(components) else _NOTHING
            if component is None:
                star, resume = own, at
                own += 1
            elif component.fullmatch(parts[at]):
                at, own = at + 1, own + 1
            elif star >= 0:
                resume += 1
                at, own = resume, star + 1
            else:
                return False
        return own == len(components)


def read_patterns(text: str) -> list[str]:
    """The patterns of a file, cleaned: comments and blank lines gone, no `/` in front, `!` kept where it was."""
    found = []
    for line in text.removeprefix("\ufeff").splitlines():
        if line.startswith("#") or not (pattern := line.strip()):
            continue
        negative = "!" if pattern.startswith("!") else ""
        pattern = pattern[len(negative):].strip()
        cleaned = posixpath.normpath(pattern) if pattern else ""
        found.append(negative + (cleaned.lstrip("/") if len(cleaned) > 1 else cleaned))
    return found


class Ignore:
    """The rules of one file, last match wins."""

    __slots__ = ("_rules", "has_exceptions", "leaves_nothing")

    def __init__(self, text: str) -> None:
        self._rules: list[tuple[bool, Pattern]] = []
        kept: list[str] = []
        for pattern in read_patterns(text):
            negative = pattern.startswith("!")
            cleaned = pattern[negative:]
            if negative and not cleaned:
                raise InvalidArgument('illegal exclusion pattern: "!"')
            if cleaned not in ("", ".", "/"):
                self._rules.append((negative, Pattern(cleaned)))
                kept.append(cleaned)
        self.has_exceptions = any(negative for negative, _ in self._rules)
        self.leaves_nothing = bool({"*", "**", "**/*"} & set(kept))

    def excludes(self, path: str) -> bool:
        """Whether `path` (relative, no leading slash) is left out: itself or a folder above it matched."""
        parts = path.split("/")
        excluded = False
        for negative, pattern in self._rules:
            if excluded == negative and any(pattern.matches(parts[:end]) for end in range(len(parts), 0, -1)):
                excluded = not negative
        return excluded


    def leaves_out(self, path: str, folder: bool) -> bool:
        """Whether a walk may pass by: what is left out, unless a folder in which a `!` may take something back."""
        return self.excludes(path) and not (folder and self.has_exceptions)


_ANYTHING = re.compile(".*", re.DOTALL)
_NOTHING = re.compile("(?!)")


def _component(part: str) -> str:
    """A Go pattern of one component as a regular expression.

    What follows a `*` is found at its first place and not looked for again (an atomic group), except after the last.
    """
    pieces: list[list[str]] = [[]]  # split at stars
    at = 0
    while at < len(part):
        char = part[at]
        if char == "*":
            if pieces[-1] or len(pieces) == 1:
                pieces.append([])
        elif char == "?":
            pieces[-1].append(".")
        elif char == "[":
            piece, at = _character_class(part, at)
            pieces[-1].append(piece)
        elif char == "\\" and at + 1 < len(part):
            at += 1
            pieces[-1].append(re.escape(part[at]))
        else:
            pieces[-1].append(re.escape(char))
        at += 1
    first, *rest = ("".join(piece) for piece in pieces)
    if not rest:
        return first
    return first + "".join(f"(?>.*?{piece})" for piece in rest[:-1]) + f".*{rest[-1]}"


def _character_class(pattern: str, at: int) -> tuple[str, int]:
    end = at + 1
    negated = pattern.startswith("^", end)
    end += negated
    items: list[str] = []
    while end < len(pattern) and (pattern[end] != "]" or not items):
        char = pattern[end]
        if char == "\\" and end + 1 < len(pattern):
            end += 1
            char = "\\" + pattern[end]
        elif char in "[]^&|~":
            char = "\\" + char
        items.append(char)
        end += 1
    if end >= len(pattern) or not items:
        raise InvalidArgument(f"syntax error in pattern: {pattern}")
    text = f"[{'^' if negated else ''}{''.join(items)}]"
    try:
        re.compile(text)
    except re.error:
        raise InvalidArgument(f"syntax error in pattern: {pattern}") from None
    return text, end
