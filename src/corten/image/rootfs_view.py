"""Paths of a container as `docker cp` means them: what is named, what a link leads to, how members are called.

For the confined worker (rootfs_worker.py), whose `/` is the container's. Standard library only.
"""

import os
import posixpath
import stat
import time

from corten.base.errors import InvalidArgument, NotFound
from corten.image.beneath import open_across
from corten.image.extract import clean
from corten.image.tar_reader import DIRECTORY
from corten.image.tar_writer import header

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from corten.image.pack import Packer
    from corten.image.tar_reader import Entry

_LINKS = 255
# Go's os.FileMode: permission bits as they are, the kind and the special bits in places of its own
_GO_KINDS = {
    stat.S_IFDIR: 1 << 31, stat.S_IFLNK: 1 << 27, stat.S_IFBLK: 1 << 26, stat.S_IFCHR: 1 << 26 | 1 << 21,
    stat.S_IFIFO: 1 << 25, stat.S_IFSOCK: 1 << 24, stat.S_IFREG: 0,
}
_GO_BITS = ((stat.S_ISUID, 1 << 23), (stat.S_ISGID, 1 << 22), (stat.S_ISVTX, 1 << 20))


def go_mode(mode: int) -> int:
    """st_mode as Go writes it into JSON."""
    found = mode & 0o777 | _GO_KINDS.get(stat.S_IFMT(mode), 1 << 19)
    for bit, go_bit in _GO_BITS:
        if mode & bit:
            found |= go_bit
    return found


def rfc3339(time_ns: int) -> str:
    """UTC with nanoseconds, trailing zeros dropped."""
    seconds, fraction = divmod(time_ns, 1_000_000_000)
    text = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(seconds))
    return f"{text}.{fraction:09d}".rstrip("0") + "Z" if fraction else f"{text}Z"


def unescape(point: str) -> str:
    """A path of mountinfo: `\\040` and the like are bytes. proc(5)."""
    if "\\" not in point:
        return point
    parts = point.split("\\")
    return parts[0] + "".join(chr(int(part[:3], 8)) + part[3:] for part in parts[1:])


def is_directory(descriptor: int) -> bool:
    return stat.S_ISDIR(os.fstat(descriptor).st_mode)


def follow(root: int, path: str) -> str:
    """Where a path leads when every link on it is followed inside the root; missing parts stay as they are."""
    todo = [part for part in path.split("/") if part not in ("", ".")]
    done: list[str] = []
    links = 0
    while todo:
        part = todo.pop(0)
        if part == "..":
            del done[-1:]
            continue
        try:
            link = _read_link(root, "/".join(done), part)
        except OSError:
            link = None
        if link is None:
            done.append(part)
            continue
        links += 1
        if links > _LINKS:
            raise NotFound("too many links")
        if link.startswith("/"):
            done.clear()
        todo[:0] = [piece for piece in link.split("/") if piece not in ("", ".")]
    return "/" + "/".join(done)


def _read_link(root: int, folder: str, name: str) -> str | None:
    descriptor = open_across(root, os.fsencode(folder))
    try:
        if not stat.S_ISLNK(os.lstat(name, dir_fd=descriptor).st_mode):
            return None
        return os.readlink(name, dir_fd=descriptor)
    finally:
        os.close(descriptor)


class Found:
    """A file by the descriptor of its folder and its name in it; `shown` is what the archive calls it."""

    __slots__ = ("folder", "name", "path", "shown", "stat_result")

    def __init__(self, folder: int, name: str, path: str, shown: str) -> None:
        self.folder = folder
        self.name = name
        self.path = path
        self.shown = shown
        self.stat_result = os.lstat(name, dir_fd=folder)

    def close(self) -> None:
        os.close(self.folder)

    def stat(self, root: int) -> "dict[str, Any]":
        """docker's PathStat."""
        found = self.stat_result
        link = follow(root, self.path) if stat.S_ISLNK(found.st_mode) else ""
        return {"name": self.shown, "size": found.st_size, "mode": go_mode(found.st_mode),
                "mtime": rfc3339(found.st_mtime_ns), "linkTarget": link}

    def pack(self, packer: "Packer") -> None:
        """Its tar: a file alone, or a folder with all below it under the name that was asked for."""
        found, shown = self.stat_result, os.fsencode(self.shown)
        if not stat.S_ISDIR(found.st_mode):
            packer._entry(self.folder, os.fsencode(self.name), shown)
        elif shown == b"/":
            descriptor = os.open(self.name, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC, dir_fd=self.folder)
            packer._write(header(b"/", DIRECTORY, stat.S_IMODE(found.st_mode), found.st_uid, found.st_gid, 0,
                                 found.st_mtime_ns))
            for name in sorted(map(os.fsencode, os.listdir(descriptor))):
                packer._entry(descriptor, name, b"/" + name)
        else:
            packer._entry(self.folder, os.fsencode(self.name), shown)
        packer._write(bytes(1024))
        packer.flush()


def find(root: int, path: str) -> Found:
    """`path` as cp names a source: links are followed on the way, at its end only with a slash or `/.` behind it.

    Raises NotFound.
    """
    absolute = posixpath.normpath("/" + path.lstrip("/"))
    trailing = path.endswith(("/", "/."))
    try:
        if trailing or absolute == "/":
            here = posixpath.basename(path.rstrip("/")) == "."
            shown = "." if here else posixpath.basename(absolute) or "/"
            descriptor = open_across(root, os.fsencode(absolute))
            return Found(descriptor, ".", absolute, shown)
        folder, name = posixpath.split(absolute)
        descriptor = open_across(root, os.fsencode(folder))
        return Found(descriptor, name, absolute, name)
    except NotADirectoryError:
        raise InvalidArgument("not a directory") from None
    except OSError:
        raise NotFound("") from None


def clean_name(name: bytes) -> bytes:
    """A member's name below its folder. Raises InvalidArgument for `..`."""
    return clean(name)


def check_kind(root: int, prefix: bytes, name: bytes, entry: "Entry") -> None:
    """noOverwriteDirNonDir: a folder stays a folder, anything else stays no folder. Raises InvalidArgument."""
    folder, _, last = b"/".join(part for part in (prefix, name) if part).rpartition(b"/")
    if not last:
        return
    try:
        descriptor = open_across(root, folder)
    except OSError:
        return  # not there yet
    try:
        found = os.lstat(last, dir_fd=descriptor)
    except OSError:
        return
    finally:
        os.close(descriptor)
    shown = os.fsdecode(name)
    there = f"/{os.fsdecode(prefix)}/{shown}"
    if stat.S_ISDIR(found.st_mode) and entry.kind != DIRECTORY:
        raise InvalidArgument(f'cannot overwrite directory "{there}" with non-directory "{shown}"')
    if not stat.S_ISDIR(found.st_mode) and entry.kind == DIRECTORY:
        raise InvalidArgument(f'cannot overwrite non-directory "{there}" with directory "{shown}"')
