"""A tree of files as a tar stream: a layer out of overlay's upper folder, or a plain export. Standard library only.

Runs in a confined worker. Every step goes by descriptor and last name, links are never followed. Overlay's marks
become the layer format's: `c 0 0` a `.wh.` file, the opaque xattr a `.wh..wh..opq`.
"""

import errno
import os
import stat

from corten.base.errors import Unsupported
from corten.image.beneath import open_exact
from corten.image.compare import DELETED, MODIFIED, differences, is_stub
from corten.image.tar_reader import CHAR, DIRECTORY, FIFO, HARDLINK, REGULAR, SYMLINK
from corten.image.tar_writer import END, header, padding

_KINDS = {
    stat.S_IFREG: REGULAR, stat.S_IFLNK: SYMLINK, stat.S_IFCHR: CHAR, stat.S_IFBLK: b"4", stat.S_IFDIR: DIRECTORY,
    stat.S_IFIFO: FIFO,
}
_FLUSH = 1 << 18
_COPY = 1 << 20
_ZEROS = bytes(_COPY)
_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


class Packer:
    """Writes the tar of one tree to the descriptor `out`.

    `whiteouts`: the tree is an overlay upper, make a layer of it. `stubs`: paths left out when they are nothing but an
    empty file or folder (where something is mounted over in the container). `lowers`: O_PATH descriptors of the layers
    below, topmost first: a folder that holds nothing but stubs and is the same there is left out as well.
    `size`: bytes of the files written; `entries`: members.
    """

    def __init__(self, out: int, *, whiteouts: bool, stubs: frozenset[bytes] = frozenset(),
                 lowers: list[int] | None = None) -> None:
        self.size = self.entries = 0
        self._out = out
        self._whiteouts = whiteouts
        self._stubs = stubs
        self._lowers = lowers or []
        self._pending: list[bytes] = []
        self._held = 0
        self._links: dict[tuple[int, int], bytes] = {}

    def run(self, root: int, prefix: bytes = b"") -> None:
        """The tree below the folder `root` (a descriptor to read), members named from `prefix`; then the end mark."""
        self._folder(root, prefix)
        self._write(END)
        self.flush()

    def add(self, root: int, prefix: bytes = b"") -> None:
        """The same without an end mark: more is to come."""
        self._folder(root, prefix)
        self.flush()

    def run_differences(self, root: int, base: int) -> None:
        """A layer of what makes the tree `root` differ from the tree `base`, both whole."""
        for difference in differences(root, base):
            if is_stub(difference, self._stubs):
                continue
            parent, name, path = difference.parent, difference.name, difference.path
            if difference.kind == DELETED:
                self._whiteout(path)
            elif difference.kind == MODIFIED and stat.S_ISDIR(os.lstat(name, dir_fd=parent).st_mode):
                self._folder_alone(parent, name, path)
            else:
                self._entry(parent, name, path)
        self._write(END)
        self.flush()

    def _folder_alone(self, parent: int, name: bytes, path: bytes) -> None:
        descriptor = os.open(name, _FOLDER, dir_fd=parent)
        try:
            found = os.fstat(descriptor)
            self.entries += 1
            self._write(header(path, DIRECTORY, stat.S_IMODE(found.st_mode), found.st_uid, found.st_gid, 0,
                               found.st_mtime_ns, xattrs=self._xattrs(descriptor)[0]))
        finally:
            os.close(descriptor)

    def _whiteout(self, path: bytes) -> None:
        self.entries += 1
        above, _, last = path.rpartition(b"/")
        self._write(header((above + b"/" if above else b"") + b".wh." + last, REGULAR, 0))

    def _write(self, data: bytes) -> None:
        self._pending.append(data)
        self._held += len(data)
        if self._held > _FLUSH:
            self.flush()

    def flush(self) -> None:
        """Send what is buffered."""
        view = memoryview(b"".join(self._pending))
        self._pending, self._held = [], 0
        while view:
            view = view[os.write(self._out, view):]

    def _folder(self, descriptor: int, path: bytes) -> int:
        """Members below one folder, names sorted; returns how many were written."""
        before = self.entries
        with os.scandir(descriptor) as found:
            names = sorted(os.fsencode(item.name) for item in found)
        for name in names:
            self._entry(descriptor, name, path + b"/" + name if path else name)
        return self.entries - before

    def _entry(self, parent: int, name: bytes, path: bytes) -> None:
        found = os.lstat(name, dir_fd=parent)
        kind = _KINDS.get(stat.S_IFMT(found.st_mode))
        if kind is None:
            return  # sockets: tar has no word for them
        if self._whiteouts and kind == CHAR and found.st_rdev == 0:
            self._whiteout(path)
        elif kind == DIRECTORY:
            self._directory(parent, name, path, found)
        elif kind == REGULAR:
            self._file(parent, name, path, found)
        else:
            self._other(parent, name, path, found, kind)

    def _other(self, parent: int, name: bytes, path: bytes, found: os.stat_result, kind: bytes) -> None:
        link = os.readlink(name, dir_fd=parent) if kind == SYMLINK else b""
        self.entries += 1
        self.size += len(link)  # as docker counts a layer's size
        self._write(header(path, kind, stat.S_IMODE(found.st_mode), found.st_uid, found.st_gid, 0, found.st_mtime_ns,
                           link, os.major(found.st_rdev), os.minor(found.st_rdev)))

    def _directory(self, parent: int, name: bytes, path: bytes, found: os.stat_result) -> None:
        descriptor = os.open(name, _FOLDER, dir_fd=parent)
        try:
            xattrs, opaque = self._xattrs(descriptor)
            own = header(path, DIRECTORY, stat.S_IMODE(found.st_mode), found.st_uid, found.st_gid, 0,
                         found.st_mtime_ns, xattrs=xattrs)
            stubbed = self._whiteouts and not opaque and self._only_stubs(descriptor, path)
            if stubbed and (path in self._stubs or self._same_below(path, found)):
                return
            self.entries += 1
            self._write(own)
            if opaque:
                self._write(header(path + b"/.wh..wh..opq", REGULAR, 0))
            self._folder(descriptor, path)
        finally:
            os.close(descriptor)

    def _only_stubs(self, descriptor: int, path: bytes) -> bool:
        """Whether everything below is a stub (or nothing is there)."""
        if not self._stubs:
            return False
        with os.scandir(descriptor) as found:
            inside = [(os.fsencode(item.name), item) for item in found]
            for name, item in inside:
                inner = path + b"/" + name
                if item.is_dir(follow_symlinks=False):
                    below = os.open(name, _FOLDER, dir_fd=descriptor)
                    try:
                        if not self._only_stubs(below, inner) or not self._stub_folder(inner):
                            return False
                    finally:
                        os.close(below)
                elif inner not in self._stubs or os.lstat(name, dir_fd=descriptor).st_size or not item.is_file():
                    return False
        return bool(inside) or path in self._stubs

    def _stub_folder(self, path: bytes) -> bool:
        return path in self._stubs or any(stub.startswith(path + b"/") for stub in self._stubs)

    def _same_below(self, path: bytes, found: os.stat_result) -> bool:
        """Whether the layers below have this folder with the same owner and mode."""
        for lower in self._lowers:
            try:
                descriptor = open_exact(lower, path, os.O_PATH)
            except FileNotFoundError:
                continue
            except OSError:
                return False
            try:
                other = os.fstat(descriptor)
            finally:
                os.close(descriptor)
            return (other.st_mode, other.st_uid, other.st_gid) == (found.st_mode, found.st_uid, found.st_gid)
        return False

    def _file(self, parent: int, name: bytes, path: bytes, found: os.stat_result) -> None:
        if path in self._stubs and found.st_size == 0:
            return
        mode = stat.S_IMODE(found.st_mode)
        if found.st_nlink > 1:
            first = self._links.setdefault((found.st_dev, found.st_ino), path)
            if first != path:
                self.entries += 1
                self._write(header(path, HARDLINK, mode, found.st_uid, found.st_gid, 0, found.st_mtime_ns, first))
                return
        descriptor = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, dir_fd=parent)
        try:
            size = os.fstat(descriptor).st_size
            xattrs, _ = self._xattrs(descriptor)
            self.entries += 1
            self.size += size
            self._write(header(path, REGULAR, mode, found.st_uid, found.st_gid, size, found.st_mtime_ns,
                               xattrs=xattrs))
            self._data(descriptor, size)
        finally:
            os.close(descriptor)

    def _data(self, descriptor: int, size: int) -> None:
        """Exactly `size` bytes: a file that shrinks meanwhile is filled with zeros, one that grows is cut."""
        at = hole_ends = 0
        while at < size:
            if at >= hole_ends:
                hole_ends = self._hole(descriptor, at, size)
            if at < hole_ends:  # not read: the kernel would fill its cache with zeros
                piece = _ZEROS[:min(hole_ends - at, _COPY)]
            else:
                piece = os.pread(descriptor, min(size - at, _COPY), at) or _ZEROS[:min(size - at, _COPY)]
            self._write(piece)
            at += len(piece)
        self._write(padding(size))

    @staticmethod
    def _hole(descriptor: int, at: int, size: int) -> int:
        """Where the hole at this place ends; the place itself when there is none."""
        if size < _COPY:
            return at
        try:
            return min(os.lseek(descriptor, at, os.SEEK_DATA), size)
        except OSError as error:
            return size if error.errno == errno.ENXIO else at

    def _xattrs(self, descriptor: int) -> tuple[dict[bytes, bytes] | None, bool]:
        """The xattrs a layer keeps, and whether overlay calls the folder opaque."""
        try:
            names = [os.fsencode(name) for name in os.listxattr(descriptor)]
        except OSError as error:
            if error.errno in (errno.ENOTSUP, errno.EPERM):
                return None, False
            raise
        kept: dict[bytes, bytes] = {}
        opaque = False
        for name in names:
            if name == b"security.capability" or (name.startswith(b"user.") and not name.startswith(b"user.overlay.")):
                kept[name] = os.getxattr(descriptor, name)
            elif name == b"trusted.overlay.opaque":
                opaque = self._whiteouts and os.getxattr(descriptor, name) in (b"y", b"x")
            elif name in (b"trusted.overlay.redirect", b"trusted.overlay.metacopy") and self._whiteouts:
                raise Unsupported(f"an overlay made with {os.fsdecode(name)[16:]} cannot become a layer")
        return kept or None, opaque
