"""tmpcopyup: what a folder of the image holds goes into the tmpfs that is about to cover it."""

import os
import stat

_MAX_AT_ONCE = 1 << 20


def copy_up(source: int, target: int) -> None:
    """Copy below `source` into `target`, descriptors of folders, with modes and owners. Raises OSError."""
    here = os.open(".", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC, dir_fd=source)
    there = os.open(".", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC, dir_fd=target)
    try:
        for name in os.listdir(here):
            _copy_entry(here, there, name)
    finally:
        os.close(here)
        os.close(there)


def _copy_entry(here: int, there: int, name: str) -> None:
    found = os.stat(name, dir_fd=here, follow_symlinks=False)
    kind = stat.S_IFMT(found.st_mode)
    if kind == stat.S_IFLNK:
        os.symlink(os.readlink(name, dir_fd=here), name, dir_fd=there)
    elif kind == stat.S_IFDIR:
        os.mkdir(name, 0o700, dir_fd=there)
        inner = os.open(name, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=here)
        outer = os.open(name, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=there)
        for below in os.listdir(inner):
            _copy_entry(inner, outer, below)
        os.close(inner)
        os.close(outer)
    elif kind == stat.S_IFREG:
        source = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=here)
        target = os.open(name, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600, dir_fd=there)
        while os.sendfile(target, source, None, _MAX_AT_ONCE):
            pass
        os.close(source)
        os.close(target)
    else:
        return
    os.chown(name, found.st_uid, found.st_gid, dir_fd=there, follow_symlinks=False)
    if kind != stat.S_IFLNK:
        os.chmod(name, stat.S_IMODE(found.st_mode), dir_fd=there)
