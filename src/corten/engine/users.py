"""Who a container's process is: `user[:group]` looked up in the image's own passwd and group files.

No NSS and no path of the image opened by string: each layer is searched top first through openat2(RESOLVE_IN_ROOT),
so a link in it cannot lead out (CVE-2019-14271, CVE-2022-1227). Numbers are ASCII digits in range (CVE-2024-40635).
The user's own group is among the further ones too: a file that shuts a group out stays shut to who could leave that
group with setgid, and not to who never had it (CVE-2022-36109).
"""

import errno
import os
import re
import stat

from corten.base.errors import InvalidArgument
from corten.linux.path import open_in_root

MAXIMUM_ID = (1 << 31) - 1
FILE_LIMIT = 1 << 20


class User:
    """A resolved user: ids, all groups with its own first, and the home its passwd entry names ("/" without one)."""

    __slots__ = ("gid", "groups", "home", "uid")

    def __init__(self, uid: int = 0, gid: int = 0, groups: list[int] | None = None, home: str = "/") -> None:
        self.uid = uid
        self.gid = gid
        self.groups = groups or []
        self.home = home


def read_in_layers(layers: list[str], path: str) -> str:
    """The text of the regular file `path` (relative) in the topmost layer that has it; "" when none or hidden."""
    for layer in layers:
        root = os.open(layer, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            file = _open_regular(root, path)
        except OSError as error:
            if error.errno in (errno.ENOENT, errno.ENOTDIR, errno.ELOOP):
                continue
            raise
        finally:
            os.close(root)
        if file < 0:
            return ""
        try:
            return os.read(file, FILE_LIMIT).decode("utf-8", "replace")
        finally:
            os.close(file)
    return ""


def _open_regular(root: int, path: str) -> int:
    """A readable descriptor; -1 for a whiteout or whatever else cannot be read as a file."""
    handle = open_in_root(root, path)
    try:
        if not stat.S_ISREG(os.fstat(handle).st_mode):
            return -1
    finally:
        os.close(handle)
    return open_in_root(root, path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY)


def _rows(text: str, fields: int) -> list[list[str]]:
    rows = []
    for line in text.splitlines():
        line = line.strip()
        if line and not line.startswith("#"):
            rows.append((line.split(":") + [""] * fields)[:fields])
    return rows


def _number(text: str) -> int | None:
    return int(text) if re.fullmatch(r"[0-9]{1,10}", text, re.ASCII) else None


def resolve_user(specification: str, layers: list[str], extra_groups: list[str] | None = None) -> User:
    """`user`, `uid`, `user:group`, `uid:gid` or "" (root), as libcontainer does. Raises InvalidArgument."""
    user_part, _, group_part = specification.partition(":")
    passwd = _rows(read_in_layers(layers, "etc/passwd"), 7)
    groups = _rows(read_in_layers(layers, "etc/group"), 4) if (group_part or extra_groups or user_part) else []
    user, name = _look_up_user(user_part, passwd)
    if group_part:
        missing = f"unable to find group {group_part}: no matching entries in group file"
        user.gid = _look_up_group(group_part, groups, missing)
    elif name:
        user.groups = sorted({
            gid for row in groups if name in row[3].split(",") and (gid := _number(row[2])) is not None
        })
    for extra in extra_groups or ():
        gid = _look_up_group(extra, groups, f"unable to find group {extra}: no matching entries in group file")
        if gid not in user.groups:
            user.groups.append(gid)
    if not 0 <= user.uid <= MAXIMUM_ID or not 0 <= user.gid <= MAXIMUM_ID:
        raise InvalidArgument(f"uids and gids must be in range 0-{MAXIMUM_ID}")
    user.groups = [user.gid, *(gid for gid in user.groups if gid != user.gid)]
    return user


def _look_up_user(text: str, passwd: list[list[str]]) -> tuple[User, str]:
    wanted = _number(text)
    for row in passwd:
        uid = _number(row[2])
        if uid is None:
            continue
        if row[0] == text or uid == (0 if not text else wanted):
            return User(uid, _number(row[3]) or 0, home=row[5] or "/"), row[0]
    if not text:
        return User(home="/root"), ""
    if wanted is None and re.fullmatch(r"-?[0-9]{1,19}", text, re.ASCII):
        raise InvalidArgument(f"uids and gids must be in range 0-{MAXIMUM_ID}")
    if wanted is None:
        raise InvalidArgument(f"unable to find user {text}: no matching entries in passwd file")
    return User(wanted, 0), ""


def _look_up_group(text: str, groups: list[list[str]], missing: str) -> int:
    wanted = _number(text)
    for row in groups:
        gid = _number(row[2])
        if gid is not None and (row[0] == text or gid == wanted):
            return gid
    if wanted is None:
        raise InvalidArgument(missing)
    if wanted > MAXIMUM_ID:
        raise InvalidArgument(f"uids and gids must be in range 0-{MAXIMUM_ID}")
    return wanted
