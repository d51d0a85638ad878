"""Identifiers: 64 hexadecimal digits, shown short as the first twelve."""

import posix

from corten.base.errors import InvalidArgument

_HEX = frozenset("0123456789abcdef")


def new_id() -> str:
    """A fresh random id of 64 lower-case hexadecimal digits; its short form is never all decimal, as a number is."""
    while True:
        candidate = posix.urandom(32).hex()
        if not candidate[:12].isdigit():
            return candidate


def short_id(full: str) -> str:
    """The first twelve digits of an id; a `sha256:` prefix is dropped."""
    return full.removeprefix("sha256:")[:12]


def is_id(text: str) -> bool:
    """Whether `text` is a full id: exactly 64 lower-case hexadecimal digits. Check before any path join."""
    return len(text) == 64 and _HEX.issuperset(text)


def is_id_prefix(text: str) -> bool:
    """Whether `text` could be the beginning of an id: 1 to 64 lower-case hexadecimal digits."""
    return 0 < len(text) <= 64 and _HEX.issuperset(text)


_ID_CHARACTERS = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_+-.")


def check_id(id: str) -> str:
    """A container id as runc takes it. Raises InvalidArgument: it becomes part of paths."""
    if not id or len(id) > 1024 or id in (".", ".."):
        raise InvalidArgument("invalid container ID format")
    for character in id:
        if character not in _ID_CHARACTERS:
            raise InvalidArgument(f"invalid container ID format: invalid character {character!r}")
    return id
