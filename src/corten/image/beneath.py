"""Opening below a folder and nowhere else: openat2(2) with its RESOLVE flags. Standard library only.

No path inside a layer or a container is opened by string; what lies there is written by strangers.
"""

import ctypes
import os

from corten.linux.libc import SYS, libc

RESOLVE_NO_XDEV = 0x01
RESOLVE_NO_MAGICLINKS = 0x02
RESOLVE_NO_SYMLINKS = 0x04
RESOLVE_BENEATH = 0x08
RESOLVE_IN_ROOT = 0x10

_DIRECTORY = os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC


class _OpenHow(ctypes.Structure):
    _fields_ = [("flags", ctypes.c_uint64), ("mode", ctypes.c_uint64), ("resolve", ctypes.c_uint64)]


_syscall = libc.syscall
_NUMBER = ctypes.c_long(SYS["openat2"])
_SIZE = ctypes.c_size_t(ctypes.sizeof(_OpenHow))


def openat2(directory: int, path: bytes, flags: int, resolve: int, mode: int = 0) -> int:
    """openat2(2): `path` below the open `directory`. Raises OSError with the call's errno."""
    how = _OpenHow(flags, mode, resolve)
    result = int(_syscall(_NUMBER, ctypes.c_int(directory), path, ctypes.byref(how), _SIZE))
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number), os.fsdecode(path))
    return result


def open_directory(root: int, path: bytes, flags: int = _DIRECTORY) -> int:
    """A folder under `root` taken as `/`: links inside are followed within it, as the container would see them."""
    return openat2(root, path or b".", flags, RESOLVE_IN_ROOT | RESOLVE_NO_MAGICLINKS | RESOLVE_NO_XDEV)


def open_across(root: int, path: bytes, flags: int = _DIRECTORY) -> int:
    """As open_directory, and into other mounts below: for a container's root with its volumes."""
    return openat2(root, path or b".", flags | os.O_CLOEXEC, RESOLVE_IN_ROOT | RESOLVE_NO_MAGICLINKS)


def open_exact(root: int, path: bytes, flags: int) -> int:
    """Exactly this path under `root`: any symbolic link on the way or at its end is ELOOP."""
    return openat2(root, path or b".", flags | os.O_CLOEXEC, RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS | RESOLVE_NO_XDEV)


def open_root(path: str) -> int:
    """A folder of our own (outside any layer) as the root of the calls above; the caller closes it."""
    return os.open(path, os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
