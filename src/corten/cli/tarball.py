"""Trees of the user's files as a tar stream, piece by piece: a build's context, what `cp` sends. No links followed.

Headers are image.tar_writer's. What vanishes while it is read is left out; what shrinks is filled with zeros.
"""

import os
import stat
from collections.abc import Callable, Iterator

from corten.image.tar_reader import CHAR, DIRECTORY, FIFO, HARDLINK, REGULAR, SYMLINK
from corten.image.tar_writer import END, header, padding

_KINDS = {
    stat.S_IFREG: REGULAR, stat.S_IFLNK: SYMLINK, stat.S_IFCHR: CHAR, stat.S_IFBLK: b"4", stat.S_IFDIR: DIRECTORY,
    stat.S_IFIFO: FIFO,
}
_PIECE = 1 << 18


class Tree:
    """One tree and how its members are called.

    `skip` says which paths (below the tree) stay out; what lies below such a folder is asked for one by one, or stays
    out with it (`prune`).
    """

    def __init__(
        self, *, owner: tuple[int, int] | None = None, skip: Callable[[str], bool] | None = None,
        prune: bool = False,
    ) -> None:
        self._owner = owner
        self._skip = skip
        self._prune = prune
        self._links: dict[tuple[int, int], bytes] = {}
        self._held: list[bytes] = []
        self._size = 0

    def pieces(self, path: str, name: str, end: bool = True) -> Iterator[bytes]:
        """The tree (or file) at `path` as members called `name` and below; `name` may be empty for the inside alone."""
        yield from self._member(path, name, "")
        if end:
            self._held.append(END)
        yield self._flush()

    def _flush(self) -> bytes:
        data = b"".join(self._held)
        self._held, self._size = [], 0
        return data

    def _put(self, data: bytes) -> bool:
        self._held.append(data)
        self._size += len(data)
        return self._size >= _PIECE

    def _member(self, path: str, name: str, below: str) -> Iterator[bytes]:
        try:
            found = os.lstat(path)
        except FileNotFoundError:
            if below:
                return
            raise
        kind = _KINDS.get(stat.S_IFMT(found.st_mode))
        if kind is None:
            return  # a socket: tar has no word for it
        skipped = bool(below) and self._skip is not None and self._skip(below)
        if not skipped and name:
            link = os.fsencode(os.readlink(path)) if kind == SYMLINK else b""
            if kind == REGULAR and found.st_nlink > 1:
                first = self._links.setdefault((found.st_dev, found.st_ino), os.fsencode(name))
                if first != os.fsencode(name):
                    kind, link = HARDLINK, first
            yield from self._write(path, name, found, kind, link)
        if kind == DIRECTORY and not (skipped and self._prune):
            for inner in sorted(os.listdir(path)):
                yield from self._member(
                    f"{path}/{inner}", f"{name}/{inner}" if name else inner, f"{below}/{inner}" if below else inner)

    def _write(self, path: str, name: str, found: os.stat_result, kind: bytes, link: bytes) -> Iterator[bytes]:
        owner = self._owner or (found.st_uid, found.st_gid)
        size = found.st_size if kind == REGULAR else 0
        descriptor = -1
        if kind == REGULAR:
            try:
                descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
            except FileNotFoundError:
                return
            size = os.fstat(descriptor).st_size
        try:
            if self._put(header(
                os.fsencode(name), kind, stat.S_IMODE(found.st_mode), *owner, size, found.st_mtime_ns, link,
                os.major(found.st_rdev), os.minor(found.st_rdev),
            )):
                yield self._flush()
            left = size
            while left:
                piece = os.read(descriptor, min(left, _PIECE)) or bytes(min(left, _PIECE))
                left -= len(piece)
                if self._put(piece):
                    yield self._flush()
            if size:
                self._put(padding(size))
        finally:
            if descriptor >= 0:
                os.close(descriptor)


def member(name: str, data: bytes) -> bytes:
    """A small file as a member."""
    return header(name.encode(), REGULAR, 0o600, size=len(data)) + data + padding(len(data))
