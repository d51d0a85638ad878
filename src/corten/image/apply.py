"""A layer put onto a copy of the layers below: whiteouts remove, instead of becoming overlay's marks.

For the storage driver vfs, and for the kept folders of builds. Runs in a confined worker; standard library only.
Nothing is opened but by Extractor's ways.
"""

import os
import stat

from corten.image.extract import KEPT_XATTRS, META, OPAQUE, WHITEOUT, Extractor, Refused, remove_tree

TYPE_CHECKING = False
if TYPE_CHECKING:
    from corten.image.tar_reader import Entry, Reader

_OVER = os.O_WRONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


class Applier(Extractor):
    """An Extractor whose target holds what the layers below have. `implicit` and `opaque` stay empty."""

    def __init__(self, root: int, *, whiteouts: bool = True, limit_bytes: int = 1 << 40,
                 limit_entries: int = 10_000_000) -> None:
        super().__init__(root, whiteouts=whiteouts, limit_bytes=limit_bytes, limit_entries=limit_entries)
        self._made: set[bytes] = set()  # what this layer brought, and the folders above it: whiteouts leave it

    def run(self, reader: "Reader") -> None:
        """All of it. Raises as Extractor."""
        super().run(reader)
        self.implicit.clear()

    def member(self, reader: "Reader", entry: "Entry", parent: bytes, name: bytes, path: bytes) -> None:
        """One member that is no whiteout."""
        super().member(reader, entry, parent, name, path)
        self._made.add(path)

    def _parent(self, path: bytes) -> int:
        """As Extractor's; what the layers below have on the way and is no folder gives way, as under overlay."""
        if path in self._open or path in self._made:
            return super()._parent(path)
        parts = path.split(b"/")
        for count in range(1, len(parts) + 1):
            prefix = b"/".join(parts[:count])
            if prefix in self._made:
                continue
            self._made.add(prefix)
            try:
                above = self._below(self.root, b"/".join(parts[:count - 1]))
            except OSError:
                continue  # missing, or this layer's own affair: the caller meets it
            try:
                if not stat.S_ISDIR(os.lstat(parts[count - 1], dir_fd=above).st_mode):
                    os.unlink(parts[count - 1], dir_fd=above)
            except FileNotFoundError:
                pass
            finally:
                os.close(above)
        return super()._parent(path)

    def whiteout(self, parent: bytes, name: bytes, mtime_ns: int) -> None:
        """OCI layer.md "Whiteouts", carried out."""
        if name != OPAQUE and name.startswith(META):
            return  # aufs' own bookkeeping
        folder = os.open(b".", _FOLDER, dir_fd=self._parent(parent))
        try:
            if name == OPAQUE:
                self._plain(folder, parent)
                self._empty(folder, parent)
                return
            victim = name[len(WHITEOUT):]
            if victim in (b"", b".", b".."):
                raise Refused(f"invalid whiteout {os.fsdecode(name)!r}")
            self._take_away(folder, victim, parent + b"/" + victim if parent else victim)
        finally:
            os.close(folder)

    def _plain(self, folder: int, path: bytes) -> None:
        """A folder this layer only implies has nothing of the hidden one's."""
        if path and path not in self._folders:
            os.fchown(folder, 0, 0)
            os.fchmod(folder, 0o755)

    def _empty(self, folder: int, path: bytes) -> None:
        """Away with all in an open folder that this layer has not brought itself."""
        for name in map(os.fsencode, os.listdir(folder)):
            self._take_away(folder, name, path + b"/" + name if path else name)

    def _take_away(self, folder: int, name: bytes, path: bytes) -> None:
        try:
            is_folder = stat.S_ISDIR(os.lstat(name, dir_fd=folder).st_mode)
        except FileNotFoundError:
            return
        if path in self._made:
            if is_folder:
                inner = os.open(name, _FOLDER, dir_fd=folder)
                try:
                    self._plain(inner, path)
                    self._empty(inner, path)
                finally:
                    os.close(inner)
            return
        self._forget()  # a folder known by its descriptor may be among what goes
        if is_folder:
            remove_tree(folder, name)
        else:
            os.unlink(name, dir_fd=folder)


class Updater(Applier):
    """An Applier for a folder nobody reads meanwhile: a file is written over where it is, if nothing else is its name.

    Giving blocks back costs a disk far more than filling them again.
    """

    def _empty_file(self, entry: "Entry", parent: int, name: bytes, path: bytes) -> int:
        try:
            descriptor = os.open(name, _OVER, dir_fd=parent)
        except OSError:  # nothing, or no file: as ever
            return super()._empty_file(entry, parent, name, path)
        try:
            status = os.fstat(descriptor)
            kept = any(os.fsencode(one).startswith(KEPT_XATTRS) for one in os.listxattr(descriptor))
            if stat.S_ISREG(status.st_mode) and status.st_nlink == 1 and not kept:
                if status.st_size > entry.size:
                    os.ftruncate(descriptor, entry.size)
                if status.st_uid or status.st_gid:
                    os.fchown(descriptor, 0, 0)
                if stat.S_IMODE(status.st_mode) != entry.mode & 0o777:
                    os.fchmod(descriptor, entry.mode & 0o777)
                return descriptor
        except BaseException:
            os.close(descriptor)
            raise
        os.close(descriptor)
        return super()._empty_file(entry, parent, name, path)
