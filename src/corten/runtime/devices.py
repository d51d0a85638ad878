"""Device nodes of a container: the ones every container has, and those its spec asks for."""

from __future__ import annotations

import posix
import stat

from corten.base import pathnames
from corten.base.errors import InvalidArgument
from corten.linux import mount, path
from corten.linux.mount import Change

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from corten.runtime.mount_options import Mount

_KINDS = {"c": stat.S_IFCHR, "u": stat.S_IFCHR, "b": stat.S_IFBLK, "p": stat.S_IFIFO}
_LINKS = (
    ("fd", "/proc/self/fd"),
    ("stdin", "/proc/self/fd/0"),
    ("stdout", "/proc/self/fd/1"),
    ("stderr", "/proc/self/fd/2"),
    ("ptmx", "pts/ptmx"),
)


class Device:
    """One node: absolute path in the container, file type and permission bits, device number, owner."""

    __slots__ = ("device", "gid", "mode", "path", "uid")

    def __init__(self, path: str, mode: int, device: int, uid: int = 0, gid: int = 0) -> None:
        self.path = path
        self.mode = mode
        self.device = device
        self.uid = uid
        self.gid = gid


DEFAULT = tuple(
    Device(f"/dev/{name}", stat.S_IFCHR | 0o666, posix.makedev(major, minor))
    for name, major, minor in (
        ("null", 1, 3), ("zero", 1, 5), ("full", 1, 7), ("random", 1, 8), ("urandom", 1, 9), ("tty", 5, 0),
    )
)


def parse_devices(entries: list[dict[str, Any]] | None) -> list[Device]:
    """linux.devices, the default nodes first unless the spec has its own of that path. Raises InvalidArgument."""
    asked = [_parse(entry) for entry in entries or ()]
    own = {device.path for device in asked}
    return [device for device in DEFAULT if device.path not in own] + asked


def _parse(entry: dict[str, Any]) -> Device:
    kind = _KINDS.get(entry.get("type", ""))
    where = entry.get("path")
    if kind is None:
        raise InvalidArgument(f'invalid device type "{entry.get("type") or ""}"')
    if not isinstance(where, str) or not where.startswith("/"):
        raise InvalidArgument(f"invalid device path: {where or ''!r}: it must be absolute")
    mode, major, minor = entry.get("fileMode"), entry.get("major") or 0, entry.get("minor") or 0
    if not (0 <= major < 1 << 12 and 0 <= minor < 1 << 20):  # the kernel's numbers; a rule's -1 stands for all of them
        raise InvalidArgument(f"invalid device {where}: there is no number {major}:{minor}")
    number = posix.makedev(major, minor)
    permissions = 0o666 if mode is None else mode & 0o7777
    return Device(pathnames.normal(where), kind | permissions, number, entry.get("uid") or 0, entry.get("gid") or 0)


def are_brought(mounts: list[Mount]) -> bool:
    """Whether /dev is bound from elsewhere, with all that is in it."""
    return any(entry.bind and pathnames.normal(entry.destination) == "/dev" for entry in mounts)


def make_nodes(root: int, devices: list[Device], take: Callable[[Device], int]) -> None:
    """Make every node below the container's root, or bind there the one that `take` gives (-1: none).

    In a user namespace mknod is refused: a user's container has the host's own nodes bound. A node of the wrong kind
    that the image brought along is replaced, never followed. Raises OSError.
    """
    folders: dict[str, int] = {}
    try:
        for device in devices:
            head, name = pathnames.split(device.path)
            if head not in folders:
                folders[head] = path.make_folder(root, head)
            source = take(device)
            if source >= 0:
                _bind_node(folders[head], name, source)
            else:
                make_node(folders[head], name, device)
    finally:
        for folder in folders.values():
            posix.close(folder)


def make_node(folder: int, name: str, device: Device) -> None:
    """One node in the folder `folder`, with its owner. Raises OSError."""
    try:
        posix.mknod(name, device.mode, device.device, dir_fd=folder)
    except FileExistsError:
        found = posix.stat(name, dir_fd=folder, follow_symlinks=False)
        if stat.S_IFMT(found.st_mode) == stat.S_IFMT(device.mode) and found.st_rdev == device.device:
            return
        posix.unlink(name, dir_fd=folder)
        posix.mknod(name, device.mode, device.device, dir_fd=folder)
    except PermissionError:
        _bind_node(folder, name, mount.copy_tree(device.path, recursive=False))
        return
    except OSError as error:
        raise OSError(error.errno, f"mknod: {error.strerror}", device.path) from None
    if device.uid or device.gid:
        posix.chown(name, device.uid, device.gid, dir_fd=folder, follow_symlinks=False)


def _bind_node(folder: int, name: str, source: int) -> None:
    """Bind the node `source`, a detached mount, on a file `name`; the node itself is not changed. Raises OSError."""
    target = path.make_file(folder, name)
    try:
        mount.attach_changed(source, target, [Change(mount.MOUNT_ATTR_NOSUID | mount.MOUNT_ATTR_NOEXEC)])
    finally:
        posix.close(source)
        posix.close(target)


def make_links(root: int) -> None:
    """/dev/fd, /dev/stdin, ..., /dev/ptmx; what is there already stays, but for ptmx, which must be the container's."""
    folder = path.make_folder(root, "/dev")
    try:
        for name, target in _LINKS:
            try:
                posix.symlink(target, name, dir_fd=folder)
            except FileExistsError:
                if name == "ptmx":
                    posix.unlink(name, dir_fd=folder)
                    posix.symlink(target, name, dir_fd=folder)
        if pathnames.exists("/proc/kcore"):
            try:
                posix.symlink("/proc/kcore", "core", dir_fd=folder)
            except FileExistsError:
                pass
    finally:
        posix.close(folder)
