"""Copying a tree of files by descriptors: owners, modes, times, extended attributes, links between its files.

No path is followed by string, links are copied as links, devices are not opened. What the target has already stays.
"""

import os
import stat

FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_READ = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC
_WRITE = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
_LINKS_LIMIT = 256  # files with several names whose descriptors are kept to link them again
_DEPTH_LIMIT = 512
_CHUNK = 1 << 24


def copy_tree(source: int, target: int) -> None:
    """Copy all below the open folder `source` into `target`, then the folder's own attributes. Raises OSError.

    Blocks: run it in a thread.
    """
    copier = _Copier()
    try:
        copier.folder(source, target, 0)
    finally:
        copier.close()


class _Copier:
    def __init__(self) -> None:
        self._links: dict[tuple[int, int], int] = {}

    def close(self) -> None:
        for descriptor in self._links.values():
            os.close(descriptor)
        self._links.clear()

    def folder(self, source: int, destination: int, depth: int) -> None:
        """All below one folder, then its own attributes (a read-only folder is still filled)."""
        if depth > _DEPTH_LIMIT:
            raise OSError("folders are nested too deeply")
        for name in os.listdir(source):
            found = os.stat(name, dir_fd=source, follow_symlinks=False)
            try:
                self._entry(source, destination, name, found, depth)
            except FileExistsError:
                continue  # a container that uses the volume already has put something of that name there
        found = os.fstat(source)
        _attributes(source, destination, found)

    def _entry(self, source: int, destination: int, name: str, found: os.stat_result, depth: int) -> None:
        kind = stat.S_IFMT(found.st_mode)
        if kind == stat.S_IFDIR:
            self._subfolder(source, destination, name, depth)
        elif kind == stat.S_IFREG:
            self._file(source, destination, name, found)
        elif kind == stat.S_IFLNK:
            os.symlink(os.readlink(name, dir_fd=source), name, dir_fd=destination)
            _own(destination, name, found)
        else:
            os.mknod(name, kind | 0o600, found.st_rdev, dir_fd=destination)
            _own(destination, name, found)
            _mode(destination, name, found)

    def _subfolder(self, source: int, destination: int, name: str, depth: int) -> None:
        os.mkdir(name, 0o700, dir_fd=destination)
        inner = os.open(name, FOLDER, dir_fd=source)
        try:
            made = os.open(name, FOLDER, dir_fd=destination)
            try:
                self.folder(inner, made, depth + 1)
            finally:
                os.close(made)
        finally:
            os.close(inner)

    def _file(self, source: int, destination: int, name: str, found: os.stat_result) -> None:
        key = (found.st_dev, found.st_ino)
        if key in self._links:
            os.link(f"/proc/self/fd/{self._links[key]}", name, dst_dir_fd=destination, follow_symlinks=True)
            return
        inner = os.open(name, _READ, dir_fd=source)
        try:
            made = os.open(name, _WRITE, 0o600, dir_fd=destination)
            try:
                _bytes(inner, made, found.st_size)
                _attributes(inner, made, found)
                if found.st_nlink > 1 and len(self._links) < _LINKS_LIMIT:
                    self._links[key] = os.dup(made)
            finally:
                os.close(made)
        finally:
            os.close(inner)


def _bytes(source: int, destination: int, size: int) -> None:
    """copy_file_range(2) shares blocks where the file system can; sendfile(2) where it cannot do it at all."""
    copied = 0
    while copied < size:
        try:
            done = os.copy_file_range(source, destination, _CHUNK)
        except OSError:
            done = os.sendfile(destination, source, None, _CHUNK)
        if not done:
            break
        copied += done


def _attributes(source: int, destination: int, found: os.stat_result) -> None:
    """Owner first: a change of owner takes set-id bits and capabilities away."""
    os.fchown(destination, found.st_uid, found.st_gid)
    os.fchmod(destination, stat.S_IMODE(found.st_mode))
    for name in os.listxattr(source):
        if not name.startswith(("trusted.", "system.nfs")):
            try:
                os.setxattr(destination, name, os.getxattr(source, name))
            except OSError:
                if name.startswith(("security.capability", "system.posix_acl")):
                    raise
    os.utime(destination, ns=(found.st_atime_ns, found.st_mtime_ns))


def _own(folder: int, name: str, found: os.stat_result) -> None:
    os.chown(name, found.st_uid, found.st_gid, dir_fd=folder, follow_symlinks=False)
    os.utime(name, ns=(found.st_atime_ns, found.st_mtime_ns), dir_fd=folder, follow_symlinks=False)


def _mode(folder: int, name: str, found: os.stat_result) -> None:
    """The mode of a device, FIFO or socket, without opening it and without following what took its place."""
    descriptor = os.open(name, os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=folder)
    try:
        os.chmod(f"/proc/self/fd/{descriptor}", stat.S_IMODE(found.st_mode))
    finally:
        os.close(descriptor)

