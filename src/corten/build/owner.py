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


def parse_mode(text: str) -> int | None:
    """`0755` -> 0o755; "" -> None. Raises InvalidArgument: symbolic modes are not done."""
    if not text:
        return None
    if not re.fullmatch(r"[0-7]{1,5}", text, re.ASCII) or int(text, 8) > 0o7777:
        raise InvalidArgument(f"invalid chmod parameter: '{text}'. it should be octal string and between 0 and 07777")
    return int(text, 8)


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
