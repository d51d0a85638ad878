"""Reading trees that somebody else filled: by descriptors, never out of their root, no device opened.

Blocking; runs in a thread. A tree is (descriptor of its root, path in it); symbolic links on the way and at the end of
that path are followed inside the root, links further down are copied as links. A FIFO is copied as a FIFO and never
opened; devices and sockets are refused. Source: openat2(2), Dockerfile reference "COPY", SECURITY 31-33.
"""

from __future__ import annotations

import hashlib
import os
import stat
from collections.abc import Callable, Iterator

from corten.base.errors import InvalidArgument
from corten.build.dockerignore import Ignore
from corten.linux.path import open_in_root

READ = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC
FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
CHUNK = 1 << 20
DEPTH = 512
_CAPABILITY, _USER = "security.capability", "user."


class Cancelled(Exception):
    """The build was given up while a thread worked for it."""


class Source:
    """A path in a tree, resolved: `descriptor` (O_PATH) is the thing itself. `close` when done."""

    __slots__ = ("descriptor", "name", "path", "status")

    def __init__(self, root: int, path: str) -> None:
        self.path = path
        self.name = os.path.basename(os.path.normpath(path)) if path not in ("", ".", "/") else ""
        self.descriptor = open_in_root(root, path)
        self.status = os.fstat(self.descriptor)

    @property
    def is_folder(self) -> bool:
        return stat.S_ISDIR(self.status.st_mode)

    @property
    def is_file(self) -> bool:
        return stat.S_ISREG(self.status.st_mode)

    def open(self) -> int:
        """Readable descriptor of a regular file or folder, opened anew through the descriptor: that very one."""
        if not (self.is_file or self.is_folder):
            raise InvalidArgument(f"{self.path}: not a regular file or directory")
        return os.open(f"/proc/self/fd/{self.descriptor}", os.O_RDONLY | os.O_CLOEXEC | os.O_NOCTTY)

    def close(self) -> None:
        os.close(self.descriptor)


# --- digests

class Digester:
    """Digest of a source: names, types, permissions, links, contents, attributes; not times. With owners when asked.

    excludes: what a copy leaves out, by paths below the source.
    """

    __slots__ = ("_check", "_excludes", "_links", "owners")

    def __init__(self, owners: bool, check: Callable[[], None], excludes: Ignore | None = None) -> None:
        self.owners, self._check, self._excludes = owners, check, excludes
        self._links: dict[int, str] = {}  # files of more than one name: inode -> the first one

    def digest(self, source: Source) -> str:
        """Hexadecimal sha256. Raises InvalidArgument for a device or socket, Cancelled."""
        digest = hashlib.sha256(self._head(source.status))
        if source.is_folder:
            folder = source.open()
            try:
                self._folder(folder, "", digest, 0)
            finally:
                os.close(folder)
        elif source.is_file:
            descriptor = source.open()
            try:
                self._content(descriptor, digest)
            finally:
                os.close(descriptor)
        elif not stat.S_ISFIFO(source.status.st_mode):
            raise InvalidArgument(f"{source.path}: devices and sockets are not copied")
        return digest.hexdigest()

    def _head(self, status: os.stat_result) -> bytes:
        kind = stat.S_IFMT(status.st_mode) >> 12
        mode = 0 if stat.S_ISLNK(status.st_mode) else stat.S_IMODE(status.st_mode)
        size = status.st_size if stat.S_ISREG(status.st_mode) else 0
        owner = f"{status.st_uid}:{status.st_gid}" if self.owners else ""
        return f"{kind} {mode:o} {owner} {size}\0".encode()

    def _folder(self, folder: int, prefix: str, digest: hashlib._Hash, depth: int) -> None:
        if depth > DEPTH:
            raise InvalidArgument(f"{prefix}: nested deeper than {DEPTH} directories")
        for name in sorted(os.listdir(folder)):
            self._check()
            path = f"{prefix}/{name}"
            status = os.stat(name, dir_fd=folder, follow_symlinks=False)
            if self._excludes and self._excludes.leaves_out(path[1:], stat.S_ISDIR(status.st_mode)):
                continue
            digest.update(os.fsencode(path) + b"\0" + self._head(status))
            if status.st_nlink > 1 and not stat.S_ISDIR(status.st_mode):
                digest.update(os.fsencode(self._links.setdefault(status.st_ino, path)) + b"\0")
            if stat.S_ISREG(status.st_mode):
                with opened(name, READ, folder) as descriptor:
                    self._content(descriptor, digest)
            elif stat.S_ISDIR(status.st_mode):
                with opened(name, FOLDER, folder) as descriptor:
                    self._folder(descriptor, path, digest, depth + 1)
            elif stat.S_ISLNK(status.st_mode):
                digest.update(os.fsencode(os.readlink(name, dir_fd=folder)) + b"\0")
            elif not stat.S_ISFIFO(status.st_mode):
                raise InvalidArgument(f"{path.lstrip('/')}: devices and sockets are not copied")

    def _content(self, descriptor: int, digest: hashlib._Hash) -> None:
        _attributes(descriptor, digest)
        while part := os.read(descriptor, CHUNK):
            digest.update(part)
            if len(part) == CHUNK:
                self._check()


def _attributes(descriptor: int, digest: hashlib._Hash) -> None:
    for name, value in attributes(descriptor):
        digest.update(f"\0{name} {len(value)}\0".encode("utf-8", "surrogateescape") + value)


def attributes(descriptor: int) -> list[tuple[str, bytes]]:
    """The extended attributes that a copy of a file keeps, in order: a program's capabilities and the user's own."""
    return [(name, os.getxattr(descriptor, name)) for name in sorted(os.listxattr(descriptor))
            if name == _CAPABILITY or name.startswith(_USER)]


class opened:
    """`with opened(name, flags, folder) as descriptor`."""

    __slots__ = ("descriptor",)

    def __init__(self, name: str, flags: int, folder: int) -> None:
        self.descriptor = os.open(name, flags, dir_fd=folder)

    def __enter__(self) -> int:
        return self.descriptor

    def __exit__(self, *_: object) -> None:
        os.close(self.descriptor)


def walk(root: int, check: Callable[[], None]) -> Iterator[str]:
    """Every path of the tree, relative, in order, links not followed."""
    yield from _walk(root, "", check, 0)


def _walk(folder: int, prefix: str, check: Callable[[], None], depth: int) -> Iterator[str]:
    check()
    if depth > DEPTH:
        return
    with opened(".", FOLDER, folder) as readable:
        for name in sorted(os.listdir(readable)):
            path = prefix + name
            yield path
            if stat.S_ISDIR(os.stat(name, dir_fd=folder, follow_symlinks=False).st_mode):
                with opened(name, FOLDER, folder) as inner:
                    yield from _walk(inner, path + "/", check, depth + 1)
