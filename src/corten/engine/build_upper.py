"""A step's layer before it is taken: what the runtime made in it and no instruction did goes; times are bounded."""

import os
import stat
from collections.abc import Iterable

from corten.image.diff import STUBS
from corten.linux.path import RESOLVE_BENEATH, RESOLVE_NO_SYMLINKS, openat2

_MADE = (*sorted(STUBS, key=len, reverse=True), "etc")  # what the runtime makes where an image lacks it


def clamp_times(folder: str, latest_ns: int) -> None:
    """Nothing below a folder of ours, itself included, is younger than `latest_ns`. Looks through no symbolic link."""
    for _, folders, names, descriptor in os.fwalk(folder, topdown=False):
        for name in (*folders, *names):
            if os.stat(name, dir_fd=descriptor, follow_symlinks=False).st_mtime_ns > latest_ns:
                os.utime(name, ns=(latest_ns, latest_ns), dir_fd=descriptor, follow_symlinks=False)


def drop_stubs(upper: str, lowers: list[str], whole: bool, targets: Iterable[str] = ()) -> None:
    """Take the empty files and folders out of a step's layer that the runtime made to mount something over.

    `targets`: of the step's own mounts, without their first slash. `whole`: the upper is the whole root, where what
    the image has is no copy of the step's.

    They are in the image already, or nobody put them there: the next COPY must not find an /etc that no instruction
    made. Looks through no symbolic link.
    """
    above = [os.open(path, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC) for path in (upper, *lowers)]
    try:
        for path in (*_with_parents(targets), *_MADE):
            below = next((found for lower in above[1:] if (found := _status(lower, path))), None)
            if below is None or (not whole and _same_folder(below, _status(above[0], path))):
                _remove_empty(above[0], path)
    finally:
        for descriptor in above:
            os.close(descriptor)


def _with_parents(paths: Iterable[str]) -> list[str]:
    """These paths and the folders above them, the deepest first."""
    found = {path.rsplit("/", depth)[0] for path in paths for depth in range(path.count("/") + 1)}
    return sorted(found, key=lambda path: -path.count("/"))


def _status(root: int, path: str) -> os.stat_result | None:
    try:
        descriptor = openat2(root, path, os.O_PATH | os.O_NOFOLLOW, RESOLVE_BENEATH)
    except OSError:
        return None
    try:
        return os.fstat(descriptor)
    finally:
        os.close(descriptor)


def _same_folder(below: os.stat_result, own: os.stat_result | None) -> bool:
    """Whether the step's own entry is a folder copied up as it was, for the sake of what was made in it."""
    return own is not None and stat.S_ISDIR(own.st_mode) and (
        (own.st_mode, own.st_uid, own.st_gid) == (below.st_mode, below.st_uid, below.st_gid))


def _remove_empty(root: int, path: str) -> None:
    folder, _, name = path.rpartition("/")
    try:
        parent = openat2(root, folder or ".", os.O_PATH | os.O_DIRECTORY, RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS)
    except OSError:
        return
    try:
        status = os.stat(name, dir_fd=parent, follow_symlinks=False)
        if stat.S_ISDIR(status.st_mode):
            os.rmdir(name, dir_fd=parent)
        elif stat.S_ISREG(status.st_mode) and not status.st_size:
            os.unlink(name, dir_fd=parent)
    except OSError:
        return  # not there, or not empty: then it is the step's
    finally:
        os.close(parent)
