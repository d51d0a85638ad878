"""Changing mounts on a kernel before Linux 5.12: mount(2) remounts in place of one mount_setattr(2).

It takes attached mounts only, one at a time, and all flags of a mount at once; so what a mount has is read first.
Mounts below are found in mountinfo and proven by their ids: one that was swapped in the meantime is an error.
"""

import errno
import posix

from corten.base import pathnames
from corten.linux.libc import syscall

TYPE_CHECKING = False
if TYPE_CHECKING:
    from corten.linux.mount import Change

_MS_REMOUNT, _MS_BIND, _MS_REC = 0x20, 0x1000, 0x4000
_ATIME = 0x70
_NOATIME, _RELATIME, _STRICTATIME = 0x400, 1 << 21, 1 << 24
# MOUNT_ATTR_* -> MS_*; what statvfs(3) tells of a mount -> MS_*
_ATTRIBUTES = ((0x1, 0x1), (0x2, 0x2), (0x4, 0x4), (0x8, 0x8), (0x80, 0x800), (0x200000, 0x100))
_TOLD = ((0x1, 0x1), (0x2, 0x2), (0x4, 0x4), (0x8, 0x8), (0x400, _NOATIME), (0x800, 0x800), (0x1000, _RELATIME),
         (0x2000, 0x100))
_ESCAPES = (("\\040", " "), ("\\011", "\t"), ("\\012", "\n"), ("\\134", "\\"))


def change(mount: int, asked: "Change") -> None:
    """`mount.change`, the older way. `mount` is attached. Raises OSError: EINVAL when it is not, ENOSYS for id maps."""
    if asked.userns:
        raise OSError(errno.ENOSYS, "mount_setattr: id-mapped mounts need Linux 5.12")
    path = f"/proc/self/fd/{mount}"
    if asked.propagation:
        _mount(path, asked.propagation | (_MS_REC if asked.recursive else 0))
    if not asked.set and not asked.clear:
        return
    _remount(mount, asked)
    for below in _mounts_below(mount) if asked.recursive else ():
        try:
            _remount(below, asked)
        finally:
            posix.close(below)


def _remount(mount: int, asked: "Change") -> None:
    told = posix.fstatvfs(mount).f_flag
    flags = sum(flag for bit, flag in _TOLD if told & bit)
    for attribute, flag in _ATTRIBUTES:
        if asked.set & attribute:
            flags |= flag
        elif asked.clear & attribute:
            flags &= ~flag
    if asked.clear & _ATIME:
        flags &= ~(_NOATIME | _RELATIME)
        flags |= {0: _RELATIME, 0x10: _NOATIME}.get(asked.set & _ATIME, _STRICTATIME)
    _mount(f"/proc/self/fd/{mount}", _MS_REMOUNT | _MS_BIND | flags)


def _mount(path: str, flags: int) -> None:
    syscall("mount", None, path.encode(), None, flags, None)


def _mounts_below(mount: int) -> "list[int]":
    """Descriptors of the mounts below one that can be seen, each proven by its id.

    One that another covers cannot be reached, and by nobody who may not unmount. Raises OSError (ESTALE: one was
    swapped).
    """
    children: dict[int, list[tuple[int, str]]] = {}
    with open("/proc/self/mountinfo", encoding="utf-8", errors="surrogateescape") as table:
        for line in table:
            fields = line.split(" ", 5)
            children.setdefault(int(fields[1]), []).append((int(fields[0]), fields[4]))
    found: list[int] = []
    waiting = list(children.get(_mount_id(mount), ()))
    try:
        while waiting:
            number, name = waiting.pop()
            inner = children.get(number, [])
            covering = [child for child in inner if child[1] == name]
            waiting += covering or inner
            if not covering:
                found.append(_open_mount(number, name))
    except BaseException:
        for descriptor in found:
            posix.close(descriptor)
        raise
    return found


def _open_mount(number: int, name: str) -> int:
    for escape, character in _ESCAPES:
        name = name.replace(escape, character)
    descriptor = posix.open(pathnames.encode(name), posix.O_PATH | posix.O_NOFOLLOW | posix.O_CLOEXEC)
    if _mount_id(descriptor) != number:
        posix.close(descriptor)
        raise OSError(errno.ESTALE, "open: the mount was swapped", name)
    return descriptor


def _mount_id(descriptor: int) -> int:
    with open(f"/proc/self/fdinfo/{descriptor}", encoding="ascii") as lines:
        for line in lines:
            if line.startswith("mnt_id:"):
                return int(line.split()[1])
    raise OSError(errno.EIO, "fdinfo: no mount id")
