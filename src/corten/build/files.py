"""Copying and digesting trees that somebody else filled: by descriptors, never out of their root, no device opened.

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
from corten.linux.path import is_folder, make_folder, open_in_root

_READ = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC
_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_CHUNK = 1 << 20
_CAPABILITY = "security.capability"
_DEPTH = 512


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
    """Digest of a source: names, types, permissions, link targets, contents; not times. With owners when asked."""

    __slots__ = ("_check", "owners")

    def __init__(self, owners: bool, check: Callable[[], None]) -> None:
        self.owners, self._check = owners, check

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
        if depth > _DEPTH:
            raise InvalidArgument(f"{prefix}: nested deeper than {_DEPTH} directories")
        for name in sorted(os.listdir(folder)):
            self._check()
            path = f"{prefix}/{name}"
            status = os.stat(name, dir_fd=folder, follow_symlinks=False)
            digest.update(os.fsencode(path) + b"\0" + self._head(status))
            if stat.S_ISREG(status.st_mode):
                with _opened(name, _READ, folder) as descriptor:
                    self._content(descriptor, digest)
            elif stat.S_ISDIR(status.st_mode):
                with _opened(name, _FOLDER, folder) as descriptor:
                    self._folder(descriptor, path, digest, depth + 1)
            elif stat.S_ISLNK(status.st_mode):
                digest.update(os.fsencode(os.readlink(name, dir_fd=folder)) + b"\0")
            elif not stat.S_ISFIFO(status.st_mode):
                raise InvalidArgument(f"{path.lstrip('/')}: devices and sockets are not copied")

    def _content(self, descriptor: int, digest: hashlib._Hash) -> None:
        while part := os.read(descriptor, _CHUNK):
            digest.update(part)
            if len(part) == _CHUNK:
                self._check()


class _opened:
    """`with _opened(name, flags, folder) as descriptor`."""

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
    if depth > _DEPTH:
        return
    with _opened(".", _FOLDER, folder) as readable:
        for name in sorted(os.listdir(readable)):
            path = prefix + name
            yield path
            if stat.S_ISDIR(os.stat(name, dir_fd=folder, follow_symlinks=False).st_mode):
                with _opened(name, _FOLDER, folder) as inner:
                    yield from _walk(inner, path + "/", check, depth + 1)


# --- copying

class Copier:
    """Puts sources into the tree `root` with one owner and mode. owner None: as in the source."""

    __slots__ = ("_check", "mode", "owner", "root")

    def __init__(self, root: int, owner: tuple[int, int] | None, mode: int | None, check: Callable[[], None]) -> None:
        self.root, self.owner, self.mode, self._check = root, owner, mode, check

    def place(self, source: Source, destination: str) -> None:
        """COPY's rule: a folder's content goes into `destination`; a file into it, or is it.

        `destination` is absolute; a `/` at its end, or an existing folder there, means "into". Raises InvalidArgument.
        """
        if source.is_folder:
            folder = self._destination_folder(source, destination)
            inner = source.open()
            try:
                self._contents(inner, folder, 0)
            finally:
                os.close(inner)
                os.close(folder)
            return
        name = source.name
        if not destination.endswith("/"):
            head, tail = os.path.split(os.path.normpath(destination))
            if not self._is_folder(destination):
                destination, name = head, tail
        folder = self._make_folder(destination)
        try:
            self._entry_from(source, folder, name)
        finally:
            os.close(folder)

    def _is_folder(self, path: str) -> bool:
        try:
            descriptor = open_in_root(self.root, path)
        except OSError:
            return False
        found = is_folder(descriptor)
        os.close(descriptor)
        return found

    def _make_folder(self, path: str) -> int:
        """mkdir -p inside the root; what is new belongs to the owner asked for."""
        parts = [part for part in os.path.normpath(path).split("/") if part]
        prefixes = ["/".join(parts[:depth]) for depth in range(1, len(parts) + 1)]
        new = [prefix for prefix in prefixes if not self._is_folder(prefix)] if self.owner else []
        folder = make_folder(self.root, path)
        for prefix in new:
            descriptor = open_in_root(self.root, prefix)
            os.chown(f"/proc/self/fd/{descriptor}", *(self.owner or (0, 0)))
            os.close(descriptor)
        return folder

    def _destination_folder(self, source: Source, destination: str) -> int:
        existed = self._is_folder(destination)
        folder = self._make_folder(destination)
        if not existed:
            path = f"/proc/self/fd/{folder}"
            uid, gid = self.owner or (source.status.st_uid, source.status.st_gid)
            os.chown(path, uid, gid)
            os.chmod(path, stat.S_IMODE(source.status.st_mode) if self.mode is None else self.mode)
        return folder

    def _entry_from(self, source: Source, folder: int, name: str) -> None:
        if source.is_file:
            descriptor = source.open()
            try:
                self._file(descriptor, source.status, folder, name)
            finally:
                os.close(descriptor)
        else:
            self._special(source.status, folder, name, source.path)

    def _contents(self, source: int, target: int, depth: int) -> None:
        if depth > _DEPTH:
            raise InvalidArgument(f"nested deeper than {_DEPTH} directories")
        for name in os.listdir(source):
            self._check()
            status = os.stat(name, dir_fd=source, follow_symlinks=False)
            if stat.S_ISREG(status.st_mode):
                with _opened(name, _READ, source) as descriptor:
                    self._file(descriptor, status, target, name)
            elif stat.S_ISDIR(status.st_mode):
                self._folder(source, status, target, name, depth)
            elif stat.S_ISLNK(status.st_mode):
                self._link(os.readlink(name, dir_fd=source), status, target, name)
            else:
                self._special(status, target, name, name)

    def _folder(self, source: int, status: os.stat_result, target: int, name: str, depth: int) -> None:
        with _opened(name, _FOLDER, source) as inner:
            try:
                os.mkdir(name, 0o700, dir_fd=target)
            except FileExistsError:
                if not stat.S_ISDIR(os.stat(name, dir_fd=target, follow_symlinks=False).st_mode):
                    os.unlink(name, dir_fd=target)
                    os.mkdir(name, 0o700, dir_fd=target)
            with _opened(name, _FOLDER, target) as made:
                self._contents(inner, made, depth + 1)
                self._finish(made, status)

    def _file(self, source: int, status: os.stat_result, folder: int, name: str) -> None:
        target = self._create(folder, name)
        try:
            _copy_bytes(source, target, status.st_size, self._check)
            self._finish(target, status)
            if self.owner is None:
                _copy_capability(source, target)
        finally:
            os.close(target)

    def _create(self, folder: int, name: str) -> int:
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
        try:
            return os.open(name, flags, 0o600, dir_fd=folder)
        except FileExistsError:
            self._clear(folder, name)
            return os.open(name, flags, 0o600, dir_fd=folder)

    def _clear(self, folder: int, name: str) -> None:
        try:
            os.unlink(name, dir_fd=folder)
        except FileNotFoundError:
            pass
        except IsADirectoryError:
            raise InvalidArgument(f"cannot overwrite directory with non-directory: {name}") from None

    def _finish(self, target: int, status: os.stat_result) -> None:
        uid, gid = self.owner or (status.st_uid, status.st_gid)
        if uid or gid:
            os.fchown(target, uid, gid)
        os.fchmod(target, stat.S_IMODE(status.st_mode) if self.mode is None else self.mode)
        os.utime(target, ns=(status.st_mtime_ns, status.st_mtime_ns))

    def _link(self, text: str, status: os.stat_result, folder: int, name: str) -> None:
        self._clear(folder, name)
        os.symlink(text, name, dir_fd=folder)
        uid, gid = self.owner or (status.st_uid, status.st_gid)
        os.chown(name, uid, gid, dir_fd=folder, follow_symlinks=False)
        os.utime(name, ns=(status.st_mtime_ns, status.st_mtime_ns), dir_fd=folder, follow_symlinks=False)

    def _special(self, status: os.stat_result, folder: int, name: str, path: str) -> None:
        if not stat.S_ISFIFO(status.st_mode):
            raise InvalidArgument(f"{path}: devices and sockets are not copied")
        self._clear(folder, name)
        os.mkfifo(name, 0o600, dir_fd=folder)
        uid, gid = self.owner or (status.st_uid, status.st_gid)
        os.chown(name, uid, gid, dir_fd=folder, follow_symlinks=False)
        os.chmod(name, stat.S_IMODE(status.st_mode), dir_fd=folder)

    def write(self, name: str, content: bytes, destination: str) -> None:
        """A file from memory (a heredoc, a download), by the same rule as `place`."""
        if not destination.endswith("/") and not self._is_folder(destination):
            destination, name = os.path.split(os.path.normpath(destination))
        folder = self._make_folder(destination)
        try:
            target = self._create(folder, name)
            try:
                view = memoryview(content)
                while view:
                    view = view[os.write(target, view):]
                if self.owner:
                    os.fchown(target, *self.owner)
                os.fchmod(target, 0o644 if self.mode is None else self.mode)
            finally:
                os.close(target)
        finally:
            os.close(folder)


def _copy_bytes(source: int, target: int, size: int, check: Callable[[], None]) -> None:
    if size <= 65536:
        while part := os.read(source, 65536):
            os.write(target, part)
        return
    while os.sendfile(target, source, None, _CHUNK << 4):
        check()


def _copy_capability(source: int, target: int) -> None:
    try:
        os.setxattr(target, _CAPABILITY, os.getxattr(source, _CAPABILITY))
    except OSError:
        return  # most files have none
