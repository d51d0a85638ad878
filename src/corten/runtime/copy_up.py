"""tmpcopyup: what a folder of the image holds goes into the tmpfs that is about to cover it."""

import posix
import stat

_MAX_AT_ONCE = 1 << 20


def copy_up(source: int, target: int) -> None:
    """Copy below `source` into `target`, descriptors of folders, with modes and owners. Raises OSError."""
    here = posix.open(".", posix.O_RDONLY | posix.O_DIRECTORY | posix.O_CLOEXEC, dir_fd=source)
    there = posix.open(".", posix.O_RDONLY | posix.O_DIRECTORY | posix.O_CLOEXEC, dir_fd=target)
    try:
        for name in posix.listdir(here):
            _copy_entry(here, there, name)
    finally:
        posix.close(here)
        posix.close(there)


def _copy_entry(here: int, there: int, name: str) -> None:
    found = posix.stat(name, dir_fd=here, follow_symlinks=False)
    kind = stat.S_IFMT(found.st_mode)
    if kind == stat.S_IFLNK:
        posix.symlink(posix.readlink(name, dir_fd=here), name, dir_fd=there)
    elif kind == stat.S_IFDIR:
        posix.mkdir(name, 0o700, dir_fd=there)
        inner = posix.open(name, posix.O_RDONLY | posix.O_DIRECTORY | posix.O_NOFOLLOW | posix.O_CLOEXEC, dir_fd=here)
        outer = posix.open(name, posix.O_RDONLY | posix.O_DIRECTORY | posix.O_NOFOLLOW | posix.O_CLOEXEC, dir_fd=there)
        for below in posix.listdir(inner):
            _copy_entry(inner, outer, below)
        posix.close(inner)
        posix.close(outer)
    elif kind == stat.S_IFREG:
        source = posix.open(name, posix.O_RDONLY | posix.O_NOFOLLOW | posix.O_CLOEXEC, dir_fd=here)
        target = posix.open(name, posix.O_WRONLY | posix.O_CREAT | posix.O_EXCL | posix.O_CLOEXEC, 0o600, dir_fd=there)
        while posix.sendfile(target, source, None, _MAX_AT_ONCE):
            pass
        posix.close(source)
        posix.close(target)
    else:
        return
    posix.chown(name, found.st_uid, found.st_gid, dir_fd=there, follow_symlinks=False)
    if kind != stat.S_IFLNK:
        posix.chmod(name, stat.S_IMODE(found.st_mode), dir_fd=there)
