"""A container in a mount namespace that is not its own: the runtime's, or one that it joins.

Its root is a mount of root.path on itself, with all others below, and it is entered by chroot(2): a pivot would change
the root of everybody else. What is in the runtime's own namespace has to be taken away at the end.
"""

import posix

from corten.linux import mount
from corten.linux.proc import read_text

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any


def has_own(spec: "dict[str, Any]") -> bool:
    """Whether a spec asks for a new mount namespace."""
    entries = (spec.get("linux") or {}).get("namespaces") or ()
    return any(entry.get("type") == "mount" and not entry.get("path") for entry in entries)


def enter(root: int) -> None:
    """Make the folder `root` the root. Raises OSError."""
    posix.fchdir(root)
    posix.chroot(".")
    posix.chdir("/")


def take_away(rootfs: str) -> None:
    """Detach a container's mounts from the runtime's namespace, if that is where they are; safe to repeat."""
    if _is_ours(rootfs):
        mount.umount(rootfs, mount.MNT_DETACH)


def _is_ours(rootfs: str) -> bool:
    """Whether the topmost mount at `rootfs` is one that we made: private, and of the file system it lies on."""
    found = {}
    top = None
    for line in read_text("/proc/self/mountinfo", 16 << 20).splitlines():
        fields = line.partition(" - ")[0].split(" ")
        found[fields[0]] = fields
        if fields[4].encode().decode("unicode_escape") == rootfs:
            top = fields
    if top is None or (len(top) > 6 and top[6]):
        return False
    below = found.get(top[1])
    return below is not None and below[2] == top[2]
