"""inotify(7): being told by the kernel that a file has grown, instead of asking again and again."""

import ctypes
import os
import struct

from corten.linux.libc import check, libc

IN_MODIFY = 0x00000002
IN_CLOSE_WRITE = 0x00000008
IN_MOVED_TO = 0x00000080
IN_CREATE = 0x00000100
IN_DELETE_SELF = 0x00000400
IN_Q_OVERFLOW = 0x00004000
IN_IGNORED = 0x00008000
IN_MASK_ADD = 0x20000000

_HEADER = struct.Struct("iIII")  # wd, mask, cookie, length of the name behind it
_READ_BYTES = 64 << 10


class Inotify:
    """One inotify instance; `fd` is non-blocking and becomes readable when there are events."""

    __slots__ = ("fd",)

    def __init__(self) -> None:
        self.fd = check(libc.inotify_init1(os.O_NONBLOCK | os.O_CLOEXEC), "inotify_init1")

    def add(self, path: str, mask: int) -> int:
        """Watch the file at `path`; the same file gives the same number. Raises OSError."""
        return check(
            libc.inotify_add_watch(self.fd, os.fsencode(path), ctypes.c_uint32(mask)), "inotify_add_watch", path
        )

    def remove(self, watch: int) -> None:
        """Stop watching; a watch that is gone already is fine."""
        libc.inotify_rm_watch(self.fd, watch)

    def read(self) -> list[tuple[int, int]]:
        """The events that wait, as (watch, mask). Empty when there are none. (-1, IN_Q_OVERFLOW): some were lost."""
        try:
            data = os.read(self.fd, _READ_BYTES)
        except BlockingIOError:
            return []
        events = []
        at = 0
        while at < len(data):
            watch, mask, _cookie, size = _HEADER.unpack_from(data, at)
            at += _HEADER.size + size
            events.append((watch, mask))
        return events

    def close(self) -> None:
        """All watches end."""
        os.close(self.fd)
