"""Paths below a root that somebody else fills: every look-up stays inside it, whatever symbolic links say.

openat2(2) with RESOLVE_IN_ROOT, Linux 5.6. The root is a descriptor; results are descriptors, so that what was checked
is what is used. Nothing here opens a path below such a root by string.
"""

import errno
import posix
import stat
import struct

from corten.base import pathnames
from corten.linux.libc import SYS, _syscall, raise_errno

RESOLVE_NO_XDEV = 0x01
RESOLVE_NO_MAGICLINKS = 0x02
RESOLVE_NO_SYMLINKS = 0x04
RESOLVE_BENEATH = 0x08
RESOLVE_IN_ROOT = 0x10

IN_ROOT = RESOLVE_IN_ROOT | RESOLVE_NO_MAGICLINKS
O_PATH = posix.O_PATH | posix.O_CLOEXEC

_ATTEMPTS = 128  # EAGAIN: somebody renamed during the look-up of `..`; the kernel asks to try again
_LINKS = 40


def openat2(root: int, path: str, flags: int, resolve: int, mode: int = 0) -> int:
    """openat2(2) below the folder `root`. `mode` only with O_CREAT. Returns a close-on-exec descriptor; OSError."""
    how = struct.pack("QQQ", flags | posix.O_CLOEXEC, mode, resolve)
    name = pathnames.encode(path)
    for _ in range(_ATTEMPTS):
        descriptor: int = _syscall(SYS["openat2"], root, name, how, 24)
        if descriptor >= 0:
            return descriptor
        try:
            raise_errno("openat2", path)
        except BlockingIOError:
            continue
    raise OSError(errno.EAGAIN, "openat2: the path keeps changing", path)


def open_in_root(root: int, path: str, flags: int = posix.O_PATH, resolve: int = IN_ROOT) -> int:
    """Open an existing path as if `root` were `/`; links are followed inside it, /proc's magic ones refused."""
    return openat2(root, path or ".", flags, resolve)


def exists_in_root(root: int, path: str) -> bool:
    """Whether the path leads somewhere inside the root."""
    try:
        posix.close(open_in_root(root, path))
    except OSError:
        return False
    return True


def make_folder(root: int, path: str, mode: int = 0o755) -> int:
    """mkdir -p as if `root` were `/`; returns an O_PATH descriptor of the folder.

    A dangling symbolic link is followed inside the root and its target is made, as runc's securejoin does.
    Raises NotADirectoryError when something else is in the way, OSError.
    """
    for _ in range(_LINKS):
        try:
            return open_in_root(root, path, posix.O_PATH | posix.O_DIRECTORY)
        except FileNotFoundError:
            pass
        path = _make_missing(root, path, mode)
    raise OSError(errno.ELOOP, posix.strerror(errno.ELOOP), path)


def _make_missing(root: int, path: str, mode: int) -> str:
    """Make the missing parts of `path`; returns the path to look up then (another one behind a dangling link)."""
    parts = [part for part in pathnames.normal("/" + path).split("/") if part]
    folder = posix.open(".", O_PATH, dir_fd=root)
    try:
        for depth, part in enumerate(parts):
            done = "/".join(parts[:depth + 1])
            try:
                following = open_in_root(root, done, posix.O_PATH | posix.O_DIRECTORY)
            except FileNotFoundError:
                try:
                    posix.mkdir(part, mode, dir_fd=folder)
                except FileExistsError:
                    link = posix.readlink(part, dir_fd=folder)
                    return pathnames.join("/", *parts[:depth], link, *parts[depth + 1:])
                following = open_in_root(root, done, posix.O_PATH | posix.O_DIRECTORY | posix.O_NOFOLLOW)
            posix.close(folder)
            folder = following
    finally:
        posix.close(folder)
    return path


def make_file(root: int, path: str, mode: int = 0o644) -> int:
    """An O_PATH descriptor of the file at `path`, made empty with its folders when nothing is there."""
    for _ in range(_LINKS):
        try:
            return open_in_root(root, path, posix.O_PATH)
        except FileNotFoundError:
            pass
        head, name = pathnames.split(pathnames.normal("/" + path))
        folder = make_folder(root, head)
        try:
            flags = posix.O_WRONLY | posix.O_CREAT | posix.O_EXCL | posix.O_NOFOLLOW | posix.O_CLOEXEC
            posix.close(posix.open(name, flags, mode, dir_fd=folder))
        except FileExistsError:
            path = pathnames.join(head, posix.readlink(name, dir_fd=folder))
        finally:
            posix.close(folder)
    raise OSError(errno.ELOOP, posix.strerror(errno.ELOOP), path)


def make_last(root: int, path: str, folder: bool) -> int:
    """An O_PATH descriptor of what is at `path` itself, be it a symbolic link; a folder or file made if nothing is."""
    head, name = pathnames.split(pathnames.normal("/" + path))
    parent = make_folder(root, head)
    try:
        try:
            if folder:
                posix.mkdir(name, 0o755, dir_fd=parent)
            else:
                posix.mknod(name, stat.S_IFREG | 0o644, dir_fd=parent)
        except FileExistsError:
            pass
        return posix.open(name, O_PATH | posix.O_NOFOLLOW, dir_fd=parent)
    finally:
        posix.close(parent)


def make_link(root: int, path: str, target: str) -> None:
    """A symbolic link at `path` with its folders; one that is there already stays. Raises OSError."""
    head, name = pathnames.split(pathnames.normal("/" + path))
    parent = make_folder(root, head)
    try:
        posix.symlink(target, name, dir_fd=parent)
    except FileExistsError:
        if not is_link(parent, name):
            raise
    finally:
        posix.close(parent)


def is_link(folder: int, name: str) -> bool:
    """Whether the entry `name` of a folder is a symbolic link itself."""
    try:
        return stat.S_ISLNK(posix.stat(name, dir_fd=folder, follow_symlinks=False).st_mode)
    except FileNotFoundError:
        return False


def is_folder(descriptor: int) -> bool:
    return stat.S_ISDIR(posix.fstat(descriptor).st_mode)
