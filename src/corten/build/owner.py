"""`--chown` and `--chmod`: names looked up in the image's own passwd and group files, numbers checked. Blocking.

No NSS, nothing opened outside of the image's tree. Source: Dockerfile reference, "COPY --chown --chmod".
"""

from __future__ import annotations

import os
import re
import stat

from corten.base.errors import InvalidArgument
from corten.linux.path import open_in_root

_MAXIMUM = (1 << 31) - 1
_LIMIT_BYTES = 1 << 20
_SHIFT = {"u": 6, "g": 3, "o": 0}
_WHOLE = {"u": 0o4700, "g": 0o2070, "o": 0o1007}
_CLAUSE = re.compile(r"([ugoa]*)((?:[+=-](?:[rwxXst]*|[ugo]))+)")
_ACTION = re.compile(r"([+=-])([rwxXst]+|[ugo]|)")


class Mode:
    """What --chmod makes of a mode: one number for all, or clauses (who, operator, what) on the source's own."""

    __slots__ = ("_clauses", "number")

    def __init__(self, number: int | None, clauses: list[tuple[str, str, str]]) -> None:
        self.number, self._clauses = number, clauses

    def of(self, mode: int, folder: bool) -> int:
        """The new permission bits of something that has `mode`."""
        if self.number is not None:
            return self.number
        found = mode
        for who, operator, what in self._clauses:
            bits = self._bits(who, what, found, mode, folder)
            if operator == "=":
                found &= ~sum(_WHOLE[one] for one in who)
            found = found & ~bits if operator == "-" else found | bits
        return found

    @staticmethod
    def _bits(who: str, what: str, mode: int, first: int, folder: bool) -> int:
        if what in _SHIFT:  # as another has it
            copied = mode >> _SHIFT[what] & 7
            return sum(copied << _SHIFT[one] for one in who)
        bits = 0
        for letter in what:
            if letter in "rwx" or (letter == "X" and (folder or first & 0o111)):
                bits |= sum({"r": 4, "w": 2}.get(letter, 1) << _SHIFT[one] for one in who)
            elif letter == "s":
                bits |= sum({"u": 0o4000, "g": 0o2000}.get(one, 0) for one in who)
            elif letter == "t":
                bits |= 0o1000
        return bits


def parse_mode(text: str) -> Mode | None:
    """`0755`, or as chmod(1) has it: `u=rwX,go-w`; "" -> None. Raises InvalidArgument."""
    if not text:
        return None
    if re.fullmatch(r"[0-7]{1,12}", text, re.ASCII) and int(text, 8) <= 0o7777:
        return Mode(int(text, 8), [])
    if text[0].isdigit():
        raise InvalidArgument(f"invalid chmod parameter: '{text}'. it should be octal string and between 0 and 07777")
    clauses: list[tuple[str, str, str]] = []
    for clause in text.split(","):
        match = _CLAUSE.fullmatch(clause)
        if not match:
            raise InvalidArgument(f"invalid chmod parameter: '{text}': invalid syntax")
        who = "ugo" if not match[1] or "a" in match[1] else "".join(sorted(set(match[1])))
        clauses += [(who, operator, what) for operator, what in _ACTION.findall(match[2])]
    return Mode(None, clauses)


def parse_owner(text: str, root: int) -> tuple[int, int]:
    """`user[:group]`, names or numbers; without a group it is the user's own, for a number the same number.

    Raises InvalidArgument with docker's texts.
    """
    user, colon, group = text.partition(":")
    if not user or ":" in group or (colon and not group):
        raise InvalidArgument("unable to convert uid/gid chown string to host mapping: invalid chown string format: "
                              + text)
    uid, own_group = _look_up(user, "uid", "user", "etc/passwd", root)
    return uid, _look_up(group, "gid", "group", "etc/group", root)[0] if colon else own_group


def _look_up(name: str, kind: str, word: str, path: str, root: int) -> tuple[int, int]:
    """The number of a name, and the group number in its line (of passwd)."""
    if re.fullmatch(r"[0-9]{1,10}", name, re.ASCII):
        return _checked(name), _checked(name)
    problem = f"unable to convert uid/gid chown string to host mapping: can't find {kind} for {word} {name}"
    try:
        text = _read(root, path)
    except OSError as error:
        raise InvalidArgument(f"{problem}: open /{path}: {os.strerror(error.errno or 0).lower()}") from None
    for line in text.splitlines():
        fields = line.split(":")
        if len(fields) > 3 and fields[0] == name and re.fullmatch(r"[0-9]{1,10}", fields[2], re.ASCII):
            group = fields[3] if re.fullmatch(r"[0-9]{1,10}", fields[3], re.ASCII) else fields[2]
            return _checked(fields[2]), _checked(group)
    raise InvalidArgument(f"{problem}: no such {word}: {name}")


def _checked(digits: str) -> int:
    if int(digits) > _MAXIMUM:
        raise InvalidArgument(f"uids and gids must be in range 0-{_MAXIMUM}")
    return int(digits)


def _read(root: int, path: str) -> str:
    probe = open_in_root(root, path)
    try:
        if not stat.S_ISREG(os.fstat(probe).st_mode):
            return ""
        descriptor = os.open(f"/proc/self/fd/{probe}", os.O_RDONLY | os.O_CLOEXEC)
    finally:
        os.close(probe)
    try:
        return os.read(descriptor, _LIMIT_BYTES).decode("utf-8", "replace")
    finally:
        os.close(descriptor)
