"""Tar members made into files below one folder, and nowhere else. Runs in a confined worker; standard library only.

Every folder is opened by openat2 under the target as if it were `/`, every file made by its last name on such a
descriptor with O_EXCL and O_NOFOLLOW: whatever links the archive makes, nothing outside is reached (CVE-2025-4517 and
its elders). Layer whiteouts become overlayfs' own (`c 0 0`); opaque folders are reported, since their xattr takes more
privilege than a worker has. Folders get their modes and times at the end, when nothing is written into them any more.
"""

import errno
import os
import stat

from corten.base.errors import InvalidArgument
from corten.image.beneath import open_across, open_directory
from corten.image.tar_reader import CHAR, DIRECTORY, FIFO, HARDLINK, REGULAR, SYMLINK, Entry, Reader

WHITEOUT = b".wh."
OPAQUE = b".wh..wh..opq"
META = b".wh..wh."
_CREATE = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
KEPT_XATTRS = (b"user.", b"security.capability")
_CACHED = 256
_SMALL = 1 << 16
_BLOCK = 4096  # of the file systems layers are on
_DEVICES = {CHAR: stat.S_IFCHR, b"4": stat.S_IFBLK, FIFO: stat.S_IFIFO}


class Refused(InvalidArgument):
    """The archive wants something a layer may not do."""


def clean(name: bytes) -> bytes:
    """`./a//b/` -> `a/b`; a leading slash means the target itself, as for docker. Raises Refused for `..`."""
    if b".." not in name and b"//" not in name and b"./" not in name and name[:1] != b"/" and name[-1:] not in b"/.":
        return name
    parts = [part for part in name.split(b"/") if part not in (b"", b".")]
    if b".." in parts:
        raise Refused(f"invalid tar member {os.fsdecode(name[:200])!r}: it would break out of its folder")
    return b"/".join(parts)


class Extractor:
    """Writes the members of one archive below `root` (an O_PATH descriptor).

    `implicit` are folders made since something below them came, `opaque` those to be marked so, `removed` the paths of
    whiteouts; `size` is the sum of the files' bytes, `disk` what they and the folders take
    there. `limit_bytes` and `limit_entries` bound it: past them InvalidArgument.
    `cross_mounts`: the root is a container's, with other mounts below it.
    """

    def __init__(self, root: int, *, whiteouts: bool = True, limit_bytes: int = 1 << 40,
                 limit_entries: int = 10_000_000, cross_mounts: bool = False) -> None:
        self.root = root
        self._below = open_across if cross_mounts else open_directory
        self.size = self.disk = 0
        self.entries = 0
        self.implicit: dict[bytes, None] = {}
        self.opaque: dict[bytes, None] = {}
        self._whiteouts = whiteouts
        self.removed: set[bytes] = set()  # whiteouts this layer made
        self._limit_bytes, self._limit_entries = limit_bytes, limit_entries
        self._folders: dict[bytes, Entry] = {}
        self._open: dict[bytes, int] = {b"": root}
        self._makers = {
            REGULAR: self._file, DIRECTORY: self._folder, SYMLINK: self._symlink, HARDLINK: self._hardlink,
            CHAR: self._node, b"4": self._node, FIFO: self._node,
        }

    def run(self, reader: Reader) -> None:
        """All of it. Raises InvalidArgument (the archive's fault), OSError (the disk's)."""
        for entry in reader:
            self.entries += 1
            self.size += entry.size
            self.disk += _BLOCK if entry.kind == DIRECTORY else entry.size + _BLOCK - 1 & -_BLOCK
            if self.entries > self._limit_entries or self.size > self._limit_bytes:
                raise Refused("the archive holds more entries or bytes than the limit")
            path = clean(entry.name)
            parent, _, name = path.rpartition(b"/")
            try:
                if self._whiteouts and name.startswith(WHITEOUT):
                    self.whiteout(parent, name, entry.mtime_ns)
                elif not path:
                    self._root_entry(entry)
                else:
                    self.member(reader, entry, parent, name, path)
            except OSError as error:
                if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EIO, errno.ENOMEM):
                    raise
                raise Refused(f"cannot make {os.fsdecode(path)!r}: {os.strerror(error.errno or 0)}") from None
        self._finish()

    def member(self, reader: Reader, entry: Entry, parent: bytes, name: bytes, path: bytes) -> None:
        """One member that is no whiteout: `name` in the folder `parent`."""
        self._makers[entry.kind](reader, entry, self._parent(parent), name, path)

    # --- folders on the way

    def _parent(self, path: bytes) -> int:
        """The descriptor of a folder, made when it is missing."""
        found = self._open.get(path)
        if found is not None:
            return found
        try:
            descriptor = self._below(self.root, path)
        except OSError as error:
            if error.errno == errno.ENOTDIR and path in self.removed:
                self._revive(path)
            elif error.errno != errno.ENOENT and not self._removed_above(path):
                raise
            above, _, name = path.rpartition(b"/")
            os.mkdir(name, 0o755, dir_fd=self._parent(above))
            self.implicit[path] = None
            self.disk += _BLOCK
            descriptor = self._below(self.root, path)
        if len(self._open) > _CACHED:
            self._forget()
        self._open[path] = descriptor
        return descriptor

    def _forget(self) -> None:
        """Close the cached descriptors: too many, or a folder on some path is no longer the one it was."""
        for path, descriptor in self._open.items():
            if path:
                os.close(descriptor)
        self._open = {b"": self.root}

    def _removed_above(self, path: bytes) -> bool:
        """Whether a folder on the way is a whiteout of this layer's."""
        while path := path.rpartition(b"/")[0]:
            if path in self.removed:
                return True
        return False

    def _revive(self, path: bytes) -> None:
        """A whiteout gives way to a folder: what lies below it in lower layers stays hidden."""
        above, _, name = path.rpartition(b"/")
        os.unlink(name, dir_fd=self._parent(above))
        self.removed.discard(path)
        self.opaque[path] = None

    def _clear(self, parent: int, name: bytes, path: bytes) -> None:
        """Remove what an earlier member put here, trees too."""
        self.removed.discard(path)
        try:
            os.unlink(name, dir_fd=parent)
            self._forget()  # it may have been a link that folders were reached through
            return
        except IsADirectoryError:
            pass
        except FileNotFoundError:
            return
        self._forget_below(path)
        above = self._below(self.root, path.rpartition(b"/")[0])
        try:
            remove_tree(above, name)
        finally:
            os.close(above)

    def _forget_below(self, path: bytes) -> None:
        self._forget()
        below = path + b"/"
        for known in (self._folders, self.implicit, self.opaque):
            for other in [key for key in known if key == path or key.startswith(below)]:
                del known[other]
        self.removed = {other for other in self.removed if not other.startswith(below)}

    # --- members

    def _empty_file(self, entry: Entry, parent: int, name: bytes, path: bytes) -> int:
        """A new file of root's, open for writing."""
        try:
            return os.open(name, _CREATE, entry.mode & 0o777, dir_fd=parent)
        except FileExistsError:
            self._clear(parent, name, path)
            parent = self._parent(path.rpartition(b"/")[0])
            return os.open(name, _CREATE, entry.mode & 0o777, dir_fd=parent)

    def _file(self, reader: Reader, entry: Entry, parent: int, name: bytes, path: bytes) -> None:
        descriptor = self._empty_file(entry, parent, name, path)
        try:
            size = entry.size
            if 0 < size <= _SMALL:
                data = reader.read(size)
                if os.write(descriptor, data) != size:
                    raise OSError(errno.ENOSPC, "short write")
            elif size:
                copied = reader.source.copy_to(descriptor, size)  # type: ignore[attr-defined]
                reader.taken(copied)
                if copied != size:
                    raise Refused("unexpected end of the archive: a member is shorter than its header says")
            if entry.uid or entry.gid:
                os.fchown(descriptor, entry.uid, entry.gid)
            if entry.mode & 0o7000:
                os.fchmod(descriptor, entry.mode)
            if entry.xattrs:
                _set_xattrs(descriptor, entry.xattrs)
            os.utime(descriptor, ns=(entry.mtime_ns, entry.mtime_ns))
        finally:
            os.close(descriptor)

    def _folder(self, reader: Reader, entry: Entry, parent: int, name: bytes, path: bytes) -> None:
        try:
            os.mkdir(name, 0o755, dir_fd=parent)
        except FileExistsError:
            if not stat.S_ISDIR(os.lstat(name, dir_fd=parent).st_mode):
                hidden = path in self.removed
                self._clear(parent, name, path)
                os.mkdir(name, 0o755, dir_fd=self._parent(path.rpartition(b"/")[0]))
                if hidden:
                    self.opaque[path] = None
        self.implicit.pop(path, None)
        self._folders[path] = entry

    def _root_entry(self, entry: Entry) -> None:
        if entry.kind != DIRECTORY:
            raise Refused("invalid tar member: the root is not a folder")
        self._folders[b""] = entry

    def _symlink(self, reader: Reader, entry: Entry, parent: int, name: bytes, path: bytes) -> None:
        try:
            os.symlink(entry.link, name, dir_fd=parent)
        except FileExistsError:
            self._clear(parent, name, path)
            parent = self._parent(path.rpartition(b"/")[0])
            os.symlink(entry.link, name, dir_fd=parent)
        self.size += len(entry.link)  # as docker counts a layer's size
        self._stamp(entry, parent, name)

    def _hardlink(self, reader: Reader, entry: Entry, parent: int, name: bytes, path: bytes) -> None:
        target = clean(entry.link)
        if target == path or not target:
            raise Refused(f"invalid tar member {os.fsdecode(path)!r}: a hard link to itself")
        if target in self.removed:
            raise Refused(f"invalid tar member {os.fsdecode(path)!r}: a hard link to a removed file")
        above, _, target_name = target.rpartition(b"/")
        source = self._below(self.root, above)
        try:
            try:
                os.link(target_name, name, src_dir_fd=source, dst_dir_fd=parent, follow_symlinks=False)
            except FileExistsError:
                self._clear(parent, name, path)
                parent = self._parent(path.rpartition(b"/")[0])
                os.link(target_name, name, src_dir_fd=source, dst_dir_fd=parent, follow_symlinks=False)
        finally:
            os.close(source)

    def _node(self, reader: Reader, entry: Entry, parent: int, name: bytes, path: bytes) -> None:
        kind = _DEVICES[entry.kind]
        device = os.makedev(entry.major, entry.minor) if kind != stat.S_IFIFO else 0
        try:
            os.mknod(name, kind | entry.mode & 0o777, device, dir_fd=parent)
        except FileExistsError:
            self._clear(parent, name, path)
            parent = self._parent(path.rpartition(b"/")[0])
            os.mknod(name, kind | entry.mode & 0o777, device, dir_fd=parent)
        self._stamp(entry, parent, name)

    def _stamp(self, entry: Entry, parent: int, name: bytes) -> None:
        if entry.uid or entry.gid:
            os.chown(name, entry.uid, entry.gid, dir_fd=parent, follow_symlinks=False)
        os.utime(name, ns=(entry.mtime_ns, entry.mtime_ns), dir_fd=parent, follow_symlinks=False)

    def whiteout(self, parent: bytes, name: bytes, mtime_ns: int) -> None:
        """OCI layer.md "Whiteouts": `.wh.x` hides x of the layers below, `.wh..wh..opq` all they have in the folder."""
        if name == OPAQUE:
            self._parent(parent)
            self.opaque[parent] = None
            return
        if name.startswith(META):
            return  # aufs' own bookkeeping
        victim = name[len(WHITEOUT):]
        if victim in (b"", b".", b".."):
            raise Refused(f"invalid whiteout {os.fsdecode(name)!r}")
        path = parent + b"/" + victim if parent else victim
        try:
            os.mknod(victim, stat.S_IFCHR, 0, dir_fd=self._parent(parent))
            os.utime(victim, ns=(mtime_ns, mtime_ns), dir_fd=self._parent(parent), follow_symlinks=False)
            self.removed.add(path)
        except FileExistsError:  # this layer has its own: only what is below goes
            if stat.S_ISDIR(os.lstat(victim, dir_fd=self._parent(parent)).st_mode):
                self.opaque[path] = None

    # --- the end

    def _finish(self) -> None:
        self._forget()
        for path, entry in self._folders.items():
            try:
                descriptor = self._below(self.root, path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
            except OSError as error:
                if error.errno in (errno.ENOENT, errno.ENOTDIR, errno.ELOOP):
                    continue  # a later member took its place
                raise
            try:
                found = os.fstat(descriptor)  # not always of our making
                if (found.st_uid, found.st_gid) != (entry.uid, entry.gid):
                    os.fchown(descriptor, entry.uid, entry.gid)
                if stat.S_IMODE(found.st_mode) != entry.mode:
                    os.fchmod(descriptor, entry.mode)
                if entry.xattrs:
                    _set_xattrs(descriptor, entry.xattrs)
                os.utime(descriptor, ns=(entry.mtime_ns, entry.mtime_ns))
            finally:
                os.close(descriptor)


def _set_xattrs(descriptor: int, xattrs: dict[bytes, bytes]) -> None:
    """Those a layer may bring; `trusted.overlay.*` and labels of security modules are the machine's own affair."""
    for name, value in xattrs.items():
        if name.startswith(KEPT_XATTRS) and not name.startswith(b"user.overlay."):
            try:
                os.setxattr(descriptor, name, value)
            except OSError as error:
                if error.errno not in (errno.ENOTSUP, errno.EPERM):
                    raise


def remove_tree(parent: int, name: bytes) -> None:
    """Remove the folder `name` of an open folder with all below it; links are not followed. Raises OSError."""
    descriptor = os.open(name, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=parent)
    try:
        with os.scandir(descriptor) as found:
            inside = [(os.fsencode(item.name), item.is_dir(follow_symlinks=False)) for item in found]
        for inner, is_folder in inside:
            if is_folder:
                remove_tree(descriptor, inner)
            else:
                os.unlink(inner, dir_fd=descriptor)
    finally:
        os.close(descriptor)
    os.rmdir(name, dir_fd=parent)
