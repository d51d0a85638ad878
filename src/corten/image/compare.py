"""What differs between two trees of files: a container's root and the image it was copied from (storage driver vfs).

By owners, modes, times, sizes, devices and link targets, as docker's vfs compares; contents are not read. Every step
goes by descriptor and last name, links are never followed. Standard library only: the diff worker's too.
"""

import os
import stat

ADDED, MODIFIED, DELETED = "added", "modified", "deleted"
_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator


class Difference:
    """One path that differs. `name` in the open folder `parent` (valid until the next one is asked for).

    What is below an added folder is not listed. `only_time`: a folder that differs in its time of change alone.
    """

    __slots__ = ("kind", "name", "only_time", "parent", "path")

    def __init__(self, kind: str, path: bytes, parent: int, name: bytes, only_time: bool = False) -> None:
        self.kind, self.path, self.parent, self.name, self.only_time = kind, path, parent, name, only_time


def differences(tree: int, base: int, path: bytes = b"") -> "Iterator[Difference]":
    """All differences of the folder `tree` from the folder `base`, sorted, a folder before what is below it.

    Raises OSError.
    """
    names, old = set(_names(tree)), set(_names(base))
    for name in sorted(names | old):
        inner = path + b"/" + name if path else name
        if name not in names:
            yield Difference(DELETED, inner, tree, name)
            continue
        if name not in old:
            yield Difference(ADDED, inner, tree, name)
            continue
        found, before = os.lstat(name, dir_fd=tree), os.lstat(name, dir_fd=base)
        if not stat.S_ISDIR(found.st_mode):
            if not _same(tree, base, name, found, before):
                yield Difference(MODIFIED, inner, tree, name)
        elif not stat.S_ISDIR(before.st_mode):
            yield Difference(ADDED, inner, tree, name)
        else:
            yield from _folders(tree, base, name, inner)


def _folders(tree: int, base: int, name: bytes, path: bytes) -> "Iterator[Difference]":
    here = os.open(name, _FOLDER, dir_fd=tree)
    try:
        there = os.open(name, _FOLDER, dir_fd=base)
        try:
            found, before = os.fstat(here), os.fstat(there)
            attributes = (found.st_mode, found.st_uid, found.st_gid) == (before.st_mode, before.st_uid, before.st_gid)
            if not attributes or found.st_mtime_ns != before.st_mtime_ns:
                yield Difference(MODIFIED, path, tree, name, only_time=attributes)
            yield from differences(here, there, path)
        finally:
            os.close(there)
    finally:
        os.close(here)


def _names(folder: int) -> list[bytes]:
    return [os.fsencode(name) for name in os.listdir(folder)]


def _same(tree: int, base: int, name: bytes, found: os.stat_result, before: os.stat_result) -> bool:
    """Whether two files that are no folders look alike."""
    for field in ("st_mode", "st_uid", "st_gid", "st_rdev", "st_mtime_ns"):
        if getattr(found, field) != getattr(before, field):
            return False
    if stat.S_ISLNK(found.st_mode):
        return os.readlink(name, dir_fd=tree) == os.readlink(name, dir_fd=base)
    return found.st_size == before.st_size


def is_stub(difference: Difference, stubs: "frozenset[bytes]") -> bool:
    """Whether it is nothing but what the runtime made to mount something over: empty, or holding stubs alone."""
    if difference.kind == MODIFIED:
        prefix = difference.path + b"/"
        return difference.only_time and any(stub.startswith(prefix) for stub in stubs)
    return difference.kind == ADDED and _is_stub_tree(difference.parent, difference.name, difference.path, stubs)


def _is_stub_tree(parent: int, name: bytes, path: bytes, stubs: "frozenset[bytes]") -> bool:
    found = os.lstat(name, dir_fd=parent)
    if stat.S_ISREG(found.st_mode):
        return path in stubs and found.st_size == 0
    if not stat.S_ISDIR(found.st_mode):
        return False
    if path not in stubs and not any(stub.startswith(path + b"/") for stub in stubs):
        return False
    inner = os.open(name, _FOLDER, dir_fd=parent)
    try:
        return all(_is_stub_tree(inner, below, path + b"/" + below, stubs) for below in _names(inner))
    finally:
        os.close(inner)


def added_paths(parent: int, name: bytes, path: bytes) -> "Iterator[tuple[bytes, os.stat_result]]":
    """An added path and all below it, with what lstat says of each."""
    found = os.lstat(name, dir_fd=parent)
    yield path, found
    if stat.S_ISDIR(found.st_mode):
        inner = os.open(name, _FOLDER, dir_fd=parent)
        try:
            for below in sorted(_names(inner)):
                yield from added_paths(inner, below, path + b"/" + below)
        finally:
            os.close(inner)


def changed_bytes(tree: str, base: str) -> int:
    """The sizes of all files of a tree that differ from the base's. Raises OSError."""
    here, there = os.open(tree, _FOLDER), os.open(base, _FOLDER)
    try:
        total = 0
        for difference in differences(here, there):
            if difference.kind == ADDED:
                paths = added_paths(difference.parent, difference.name, difference.path)
                total += sum(found.st_size for _, found in paths if stat.S_ISREG(found.st_mode))
            elif difference.kind == MODIFIED:
                found = os.lstat(difference.name, dir_fd=difference.parent)
                total += found.st_size if stat.S_ISREG(found.st_mode) else 0
        return total
    finally:
        os.close(here)
        os.close(there)
