"""Mounts by descriptor: make one, copy one, change one, put it somewhere. No policy, no option strings.

The new mount API (Linux 5.2, mount_setattr 5.12): a mount is built detached, changed while nobody sees it, and then
attached to a target that is a descriptor too. So a target swapped under us cannot lead elsewhere.
"""

import errno
import posix
import struct

from corten.base import pathnames
from corten.linux import foreign, remount
from corten.linux.libc import SYS, _syscall, raise_errno, syscall
from corten.linux.probe import kernel

AT_FDCWD = -100
AT_EMPTY_PATH = 0x1000
AT_RECURSIVE = 0x8000
AT_SYMLINK_NOFOLLOW = 0x100
OPEN_TREE_CLONE = 1
OPEN_TREE_CLOEXEC = posix.O_CLOEXEC
MOVE_MOUNT_F_EMPTY_PATH = 0x4
MOVE_MOUNT_T_EMPTY_PATH = 0x40
MNT_DETACH = 2

FSCONFIG_SET_FLAG = 0
FSCONFIG_SET_STRING = 1
FSCONFIG_CMD_CREATE = 6

MOUNT_ATTR_RDONLY = 0x1
MOUNT_ATTR_NOSUID = 0x2
MOUNT_ATTR_NODEV = 0x4
MOUNT_ATTR_NOEXEC = 0x8
MOUNT_ATTR_ATIME = 0x70
MOUNT_ATTR_NOATIME = 0x10
MOUNT_ATTR_STRICTATIME = 0x20
MOUNT_ATTR_NODIRATIME = 0x80
MOUNT_ATTR_IDMAP = 0x100000
MOUNT_ATTR_NOSYMFOLLOW = 0x200000

MS_REC = 0x4000
MS_UNBINDABLE = 1 << 17
MS_PRIVATE = 1 << 18
MS_SLAVE = 1 << 19
MS_SHARED = 1 << 20


class FilesystemContext:
    """A file system being configured (fsopen(2)); `set` as often as needed, then `mount`. Use with `with`."""

    __slots__ = ("descriptor", "kind")

    def __init__(self, kind: str) -> None:
        self.kind = kind
        self.descriptor = syscall("fsopen", kind.encode(), 1)

    def __enter__(self) -> "FilesystemContext":
        return self

    def __exit__(self, *_: object) -> None:
        posix.close(self.descriptor)

    def set(self, key: str, value: str | None = None) -> None:
        """One option; a flag without a value. Raises OSError whose text ends with the kernel's own explanation."""
        if value is None:
            self._config(FSCONFIG_SET_FLAG, key, None)
        else:
            self._config(FSCONFIG_SET_STRING, key, pathnames.encode(value))

    def mount(self, attributes: int = 0) -> int:
        """Make the superblock and a detached mount of it; returns its descriptor."""
        self._config(FSCONFIG_CMD_CREATE, None, None)
        descriptor: int = _syscall(SYS["fsmount"], self.descriptor, 1, attributes)
        if descriptor < 0:
            self._fail("fsmount")
        return descriptor

    def _config(self, command: int, key: str | None, value: bytes | None) -> None:
        name = key.encode() if key is not None else None
        if _syscall(SYS["fsconfig"], self.descriptor, command, name, value, 0) < 0:
            self._fail(f"fsconfig {self.kind} {key}" if key else f"fsconfig {self.kind}")

    def _fail(self, what: str) -> None:
        try:
            raise_errno(what)
        except OSError as error:
            notes = self._notes()
            raise OSError(error.errno, f"{error.strerror} ({notes})" if notes else error.strerror) from None

    def _notes(self) -> str:
        """The messages the kernel left in the context, e.g. `overlay: workdir and upperdir must reside ...`."""
        notes = []
        try:
            while note := posix.read(self.descriptor, 1024):
                notes.append(note.decode("utf-8", "replace").strip()[2:])
        except OSError:
            pass
        return "; ".join(notes)


def new_mount(kind: str, options: "list[tuple[str, str | None]]", attributes: int = 0) -> int:
    """A detached mount of a new file system. Returns its descriptor; raises OSError."""
    with FilesystemContext(kind) as context:
        for key, value in options:
            context.set(key, value)
        return context.mount(attributes)


def copy_tree(path: str, recursive: bool, folder: int = AT_FDCWD, follow: bool = True) -> int:
    """A detached copy of the mount at `path`, what a bind mount is before it is put anywhere; `""` is `folder` itself.

    open_tree(2) with OPEN_TREE_CLONE. Raises OSError.
    """
    flags = OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC | (AT_RECURSIVE if recursive else 0)
    flags |= AT_EMPTY_PATH if not path else 0 if follow else AT_SYMLINK_NOFOLLOW
    descriptor: int = _syscall(SYS["open_tree"], folder, pathnames.encode(path), flags)
    if descriptor < 0:
        raise_errno("open_tree", path or None)
    return descriptor


def attach(mount: int, target: int) -> None:
    """Put a detached mount on the file or folder `target` (both descriptors). move_mount(2). Raises OSError."""
    flags = MOVE_MOUNT_F_EMPTY_PATH | MOVE_MOUNT_T_EMPTY_PATH
    if _syscall(SYS["move_mount"], mount, b"", target, b"", flags) < 0:
        raise_errno("move_mount")


class Change:
    """One change of a mount: MOUNT_ATTR_* bits set and cleared, or MS_SHARED/SLAVE/PRIVATE/UNBINDABLE.

    `userns` is a user namespace's descriptor for MOUNT_ATTR_IDMAP. `recursive`: the mounts below as well.
    """

    __slots__ = ("clear", "propagation", "recursive", "set", "userns")

    def __init__(
        self, to_set: int = 0, clear: int = 0, propagation: int = 0, recursive: bool = False, userns: int = 0
    ) -> None:
        self.set = to_set
        self.clear = clear
        self.propagation = propagation
        self.recursive = recursive
        self.userns = userns


def change(mount: int, asked: Change) -> None:
    """Change a mount by descriptor. mount_setattr(2), before Linux 5.12 mount(2), which takes attached ones only."""
    if not try_change(mount, asked):
        remount.change(mount, asked)


def try_change(mount: int, asked: Change) -> bool:
    """mount_setattr(2) alone; False when the kernel has no such call. Raises OSError."""
    if not kernel.mount_setattr:
        return False
    packed = struct.pack("4Q", asked.set, asked.clear, asked.propagation, asked.userns)
    flags = AT_EMPTY_PATH | (AT_RECURSIVE if asked.recursive else 0)
    if _syscall(SYS["mount_setattr"], mount, b"", flags, packed, 32) < 0:
        if foreign.get_errno() != errno.ENOSYS:
            raise_errno("mount_setattr")
        kernel.mount_setattr = False
    return kernel.mount_setattr


def attach_changed(mount: int, target: int, changes: list[Change]) -> None:
    """Put a detached mount on `target`, changed before anybody sees it; right after it where the kernel is too old."""
    before = all(try_change(mount, asked) for asked in changes)
    attach(mount, target)
    if not before:
        for asked in changes:
            remount.change(mount, asked)


def set_attributes(mount: int, to_set: int = 0, to_clear: int = 0, recursive: bool = False) -> None:
    """`change` of MOUNT_ATTR_* bits."""
    change(mount, Change(to_set, to_clear, recursive=recursive))


def set_propagation(path: str, propagation: int, recursive: bool) -> None:
    """How mounts below a path of our own spread to and from peers. mount(2). Raises OSError."""
    syscall("mount", None, pathnames.encode(path), None, propagation | (MS_REC if recursive else 0), None)


def pivot_root_here() -> None:
    """Make the working folder, a mount point, the root of this mount namespace, and let the old root go.

    pivot_root(".", ".") stacks the old root on the new one; the detaching umount2 takes it off. pivot_root(2), notes.
    """
    syscall("pivot_root", b".", b".")
    umount(".", MNT_DETACH)
    posix.chdir("/")


def umount(path: str, flags: int = 0) -> None:
    """umount2(2). Raises OSError."""
    syscall("umount2", pathnames.encode(path), flags)
