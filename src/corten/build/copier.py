"""Copying into an image's tree: by descriptors, never out of its root. Blocking; runs in a thread.

A FIFO is copied as a FIFO and never opened; devices and sockets are refused. Names of one file stay names of one file.
Source: openat2(2), Dockerfile reference "COPY", SECURITY 31-33; what is made of what is as BuildKit's copy does it.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Callable

from corten.base.errors import InvalidArgument
from corten.build.dockerignore import Ignore
from corten.build.files import CHUNK, DEPTH, FOLDER, READ, Source, attributes, opened
from corten.build.owner import Mode
from corten.linux.path import is_folder, open_in_root
from corten.linux.path import make_folder as new_folder


class Copier:
    """Puts sources into the tree `root` with one owner and mode. owner None: as in the source.

    excludes: what of a folder is left out, by paths below it.
    """

    __slots__ = ("_check", "_excludes", "_links", "_mode", "owner", "root")

    def __init__(self, root: int, owner: tuple[int, int] | None, mode: Mode | None, check: Callable[[], None],
                 excludes: Ignore | None = None) -> None:
        self.root, self.owner, self._mode, self._check, self._excludes = root, owner, mode, check, excludes
        self._links: dict[tuple[int, int], tuple[int, str]] = {}  # (device, inode) -> (folder, name) of the first copy

    def place(self, source: Source, destination: str) -> None:
        """COPY's rule: a folder's content goes into `destination`; a file into it, or is it.

        `destination` is absolute; a `/` at its end, or an existing folder there, means "into". Raises InvalidArgument.
        """
        try:
            if source.is_folder:
                folder = self.make_folder(destination)  # not like its source: only what is in it is copied
                try:
                    with opened(f"/proc/self/fd/{source.descriptor}", os.O_RDONLY | os.O_DIRECTORY, -1) as inner:
                        self._contents(inner, folder, "", 0)
                finally:
                    os.close(folder)
                return
            folder, name = self._into(destination, source.name)
            try:
                self._entry_from(source, folder, name)
            finally:
                os.close(folder)
        finally:
            self._forget()

    def place_below(self, base: Source, path: str, destination: str) -> None:
        """`path` below the folder `base`, with the folders on the way to it, into the folder `destination`."""
        target = self.make_folder(destination)
        source = os.open(f"/proc/self/fd/{base.descriptor}", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            *way, last = path.split("/")
            for name in way:
                below = os.open(name, FOLDER, dir_fd=source)
                os.close(source)
                source = below
                made = self._step(target, name, os.fstat(source))
                os.close(target)
                target = made
            self._one(source, last, target, path, 0)
        finally:
            os.close(source)
            os.close(target)
            self._forget()

    def write(self, name: str, content: bytes, destination: str) -> None:
        """A file from memory (a heredoc), by the same rule as `place`."""
        folder, name = self._into(destination, name)
        try:
            target = self._create(folder, name)
            try:
                view = memoryview(content)
                while view:
                    view = view[os.write(target, view):]
                if self.owner:
                    os.fchown(target, *self.owner)
                os.fchmod(target, self._bits(0o644, False))
            finally:
                os.close(target)
        finally:
            os.close(folder)

    # --- where to

    def _into(self, destination: str, name: str) -> tuple[int, str]:
        """The folder a file goes to, made if it is not there, and its name in it."""
        if not destination.endswith("/") and not self._is_folder(destination):
            destination, name = os.path.split(os.path.normpath(destination))
        return self.make_folder(destination), name

    def _is_folder(self, path: str) -> bool:
        try:
            descriptor = open_in_root(self.root, path)
        except OSError:
            return False
        found = is_folder(descriptor)
        os.close(descriptor)
        return found

    def make_folder(self, path: str) -> int:
        """mkdir -p inside the root; what is new belongs to the owner asked for and has the mode, if it is a number."""
        number = self._mode.number if self._mode else None
        new: list[str] = []
        if self.owner or number is not None:
            parts = [part for part in os.path.normpath(path).split("/") if part]
            prefixes = ["/".join(parts[:depth]) for depth in range(1, len(parts) + 1)]
            new = [prefix for prefix in prefixes if not self._is_folder(prefix)]
        folder = new_folder(self.root, path)
        for prefix in new:
            descriptor = open_in_root(self.root, prefix)
            os.chown(f"/proc/self/fd/{descriptor}", *(self.owner or (0, 0)))
            if number is not None:
                os.chmod(f"/proc/self/fd/{descriptor}", number)
            os.close(descriptor)
        return folder

    def _step(self, target: int, name: str, status: os.stat_result) -> int:
        """A folder on the way: made like its source when it is not there."""
        try:
            os.mkdir(name, 0o700, dir_fd=target)
        except FileExistsError:
            return os.open(name, FOLDER, dir_fd=target)
        made = os.open(name, FOLDER, dir_fd=target)
        self._finish(made, status)
        return made

    # --- what

    def _entry_from(self, source: Source, folder: int, name: str) -> None:
        if source.is_file:
            descriptor = source.open()
            try:
                self._file(descriptor, source.status, folder, name)
            finally:
                os.close(descriptor)
        else:
            self._special(source.status, folder, name, source.path)

    def _contents(self, source: int, target: int, prefix: str, depth: int) -> None:
        if depth > DEPTH:
            raise InvalidArgument(f"nested deeper than {DEPTH} directories")
        for name in os.listdir(source):
            self._check()
            self._one(source, name, target, f"{prefix}{name}", depth)

    def _one(self, source: int, name: str, target: int, path: str, depth: int) -> None:
        status = os.stat(name, dir_fd=source, follow_symlinks=False)
        excludes = self._excludes
        if excludes and excludes.leaves_out(path, stat.S_ISDIR(status.st_mode)):
            return
        if stat.S_ISDIR(status.st_mode):
            if excludes and excludes.excludes(path) and not self._anything(source, name, path):
                return
            self._folder(source, status, target, name, path, depth)
        elif stat.S_ISREG(status.st_mode):
            with opened(name, READ, source) as descriptor:
                self._file(descriptor, status, target, name)
        elif stat.S_ISLNK(status.st_mode):
            self._link(os.readlink(name, dir_fd=source), status, target, name)
        else:
            self._special(status, target, name, name)

    def _anything(self, source: int, name: str, path: str) -> bool:
        """Whether a `!` takes something back in a folder that is left out."""
        with opened(name, FOLDER, source) as inner:
            for below in os.listdir(inner):
                self._check()
                if self._excludes and not self._excludes.excludes(f"{path}/{below}"):
                    return True
                status = os.stat(below, dir_fd=inner, follow_symlinks=False)
                if stat.S_ISDIR(status.st_mode) and self._anything(inner, below, f"{path}/{below}"):
                    return True
        return False

    def _folder(self, source: int, status: os.stat_result, target: int, name: str, path: str, depth: int) -> None:
        with opened(name, FOLDER, source) as inner:
            existed = False
            try:
                os.mkdir(name, 0o700, dir_fd=target)
            except FileExistsError:
                existed = stat.S_ISDIR(os.stat(name, dir_fd=target, follow_symlinks=False).st_mode)
                if not existed:
                    os.unlink(name, dir_fd=target)
                    os.mkdir(name, 0o700, dir_fd=target)
            with opened(name, FOLDER, target) as made:
                self._contents(inner, made, f"{path}/", depth + 1)
                self._finish(made, status, existed)

    def _file(self, source: int, status: os.stat_result, folder: int, name: str) -> None:
        key = (status.st_dev, status.st_ino)
        if status.st_nlink > 1 and key in self._links:
            first, first_name = self._links[key]
            self._clear(folder, name)
            os.link(first_name, name, src_dir_fd=first, dst_dir_fd=folder, follow_symlinks=False)
            return
        target = self._create(folder, name)
        try:
            _copy_bytes(source, target, status.st_size, self._check)
            self._finish(target, status)
            _copy_attributes(source, target)
        finally:
            os.close(target)
        if status.st_nlink > 1:
            self._links[key] = (os.dup(folder), name)

    def _forget(self) -> None:
        for folder, _ in self._links.values():
            os.close(folder)
        self._links.clear()

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

    def _bits(self, mode: int, folder: bool) -> int:
        return mode if self._mode is None else self._mode.of(mode, folder)

    def _finish(self, target: int, status: os.stat_result, existed: bool = False) -> None:
        uid, gid = self.owner or (status.st_uid, status.st_gid)
        if uid or gid or existed:
            os.fchown(target, uid, gid)
        os.fchmod(target, self._bits(stat.S_IMODE(status.st_mode), stat.S_ISDIR(status.st_mode)))
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
        os.chmod(name, self._bits(stat.S_IMODE(status.st_mode), False), dir_fd=folder)


def _copy_bytes(source: int, target: int, size: int, check: Callable[[], None]) -> None:
    if size <= 65536:
        while part := os.read(source, 65536):
            os.write(target, part)
        return
    while os.sendfile(target, source, None, CHUNK << 4):
        check()


def _copy_attributes(source: int, target: int) -> None:
    """A program's capabilities and the user's own attributes; after the owner, since a change of it drops the first."""
    for name, value in attributes(source):
        try:
            os.setxattr(target, name, value)
        except OSError:
            continue  # the file system has none
