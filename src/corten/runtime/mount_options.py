"""Mount options as words, turned into the attributes and parameters the kernel takes. Pure.

runtime-spec config-linux.md and mount(8). A word that is not in the tables belongs to the file system itself.
"""

from __future__ import annotations

from corten.base import pathnames
from corten.base.errors import InvalidArgument
from corten.linux.mount import (
    MOUNT_ATTR_ATIME,
    MOUNT_ATTR_NOATIME,
    MOUNT_ATTR_NODEV,
    MOUNT_ATTR_NODIRATIME,
    MOUNT_ATTR_NOEXEC,
    MOUNT_ATTR_NOSUID,
    MOUNT_ATTR_NOSYMFOLLOW,
    MOUNT_ATTR_RDONLY,
    MOUNT_ATTR_STRICTATIME,
    MS_PRIVATE,
    MS_SHARED,
    MS_SLAVE,
    MS_UNBINDABLE,
    Change,
)
from corten.linux.user import id_map

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

# word -> (bits set, bits cleared); with an `r` before it, the whole tree below
_ATTRIBUTES = {
    "ro": (MOUNT_ATTR_RDONLY, 0),
    "rw": (0, MOUNT_ATTR_RDONLY),
    "nosuid": (MOUNT_ATTR_NOSUID, 0),
    "suid": (0, MOUNT_ATTR_NOSUID),
    "nodev": (MOUNT_ATTR_NODEV, 0),
    "dev": (0, MOUNT_ATTR_NODEV),
    "noexec": (MOUNT_ATTR_NOEXEC, 0),
    "exec": (0, MOUNT_ATTR_NOEXEC),
    "noatime": (MOUNT_ATTR_NOATIME, MOUNT_ATTR_ATIME),
    "atime": (0, MOUNT_ATTR_ATIME),
    "relatime": (0, MOUNT_ATTR_ATIME),
    "norelatime": (MOUNT_ATTR_STRICTATIME, MOUNT_ATTR_ATIME),
    "strictatime": (MOUNT_ATTR_STRICTATIME, MOUNT_ATTR_ATIME),
    "nostrictatime": (0, MOUNT_ATTR_ATIME),
    "nodiratime": (MOUNT_ATTR_NODIRATIME, 0),
    "diratime": (0, MOUNT_ATTR_NODIRATIME),
    "nosymfollow": (MOUNT_ATTR_NOSYMFOLLOW, 0),
    "symfollow": (0, MOUNT_ATTR_NOSYMFOLLOW),
}
_RECURSIVE = {f"r{word}": bits for word, bits in _ATTRIBUTES.items()}
_PROPAGATION = {"private": MS_PRIVATE, "shared": MS_SHARED, "slave": MS_SLAVE, "unbindable": MS_UNBINDABLE}
PROPAGATION = {
    **{word: (bit, False) for word, bit in _PROPAGATION.items()},
    **{f"r{word}": (bit, True) for word, bit in _PROPAGATION.items()},
}
# words of the superblock that fsconfig takes as flags, and words that mean nothing to a new mount
_SUPERBLOCK = frozenset(("sync", "dirsync", "lazytime", "mand", "silent", "iversion"))
_LINKS = ("copy-symlink", "dest-nofollow", "src-nofollow")  # crun's; podman asks for them
_LABELLED = frozenset(("tmpfs", "devpts", "mqueue"))
_NOTHING = frozenset(("defaults", "async", "nomand", "nolazytime", "loud", "remount", "noiversion"))


def words() -> list[str]:
    """Every option that is understood here, for `features`."""
    others = ("bind", "rbind", "idmap", "ridmap", "tmpcopyup", *_LINKS)
    return [*_ATTRIBUTES, *_RECURSIVE, *PROPAGATION, *_SUPERBLOCK, *_NOTHING, *others]


class Mount:
    """One mount of a container, understood: what, where, and how it is changed before it is attached."""

    __slots__ = (
        "bind", "clear_bits", "copy_up", "data", "destination", "gid_map", "idmap", "kind", "links", "mounts_of",
        "propagation", "recursive", "recursive_clear", "recursive_set", "set_bits", "source", "subpath", "uid_map",
    )

    def __init__(self, entry: dict[str, Any]) -> None:
        self.destination: str = entry.get("destination") or ""
        self.kind: str = entry.get("type") or ""
        self.source: str = entry.get("source") or ""
        self.subpath: str = entry.get("subpath") or ""  # ours: a path beneath the source, never beyond it
        self.mounts_of: int = entry.get("mountsOf") or 0  # ours: the source is looked up among this process's mounts
        self.data: list[tuple[str, str | None]] = []
        self.propagation: list[tuple[int, bool]] = []
        self.set_bits = self.clear_bits = self.recursive_set = self.recursive_clear = 0
        self.bind = self.kind in ("bind", "rbind")
        self.recursive = self.kind == "rbind"
        self.copy_up = False
        self.links: set[str] = set()
        self.uid_map, self.gid_map = id_map(entry.get("uidMappings")), id_map(entry.get("gidMappings"))
        self.idmap = "idmap" if self.uid_map or self.gid_map else ""  # "": the owners of files stay as they are
        self._check()
        for word in entry.get("options") or ():
            self._take(word)
        if not self.bind:  # a new mount has none below it
            self.set_bits = self.set_bits & ~self.recursive_clear | self.recursive_set
        if self.copy_up and pathnames.normal(self.destination) == "/":
            raise InvalidArgument("mount /: tmpcopyup would copy the whole root")
        if self.idmap and not self.bind:
            raise InvalidArgument(f"mount {self.destination}: id-mapped mounts are only supported for bind mounts")

    def _check(self) -> None:
        if not isinstance(self.destination, str) or not self.destination or "\0" in self.destination:
            raise InvalidArgument(f"invalid mount destination: {self.destination!r}")
        if not isinstance(self.source, str) or "\0" in self.source:
            raise InvalidArgument(f"invalid mount source: {self.source!r}")
        if bool(self.uid_map) != bool(self.gid_map):
            raise InvalidArgument(f"mount {self.destination}: both uidMappings and gidMappings must be specified")
        if not isinstance(self.mounts_of, int) or (self.mounts_of and (not self.bind or self.idmap)):
            raise InvalidArgument(f"invalid mountsOf of a mount: {self.mounts_of!r}")
        if not isinstance(self.subpath, str) or "\0" in self.subpath or (self.subpath and not self.bind):
            raise InvalidArgument(f"invalid mount subpath: {self.subpath!r}")

    def _take(self, word: str) -> None:
        if word in ("bind", "rbind"):
            self.bind = True
            self.recursive = self.recursive or word == "rbind"
        elif word in _ATTRIBUTES:
            on, off = _ATTRIBUTES[word]
            self.set_bits = self.set_bits & ~off & ~on | on
            self.clear_bits = self.clear_bits & ~on | off
        elif word in PROPAGATION:
            self.propagation.append(PROPAGATION[word])
        elif word in _RECURSIVE:
            on, off = _RECURSIVE[word]
            self.recursive_set = self.recursive_set & ~off | on
            self.recursive_clear = self.recursive_clear & ~on | off
        elif word in ("idmap", "ridmap"):
            self.idmap = word
        elif word == "tmpcopyup":
            self.copy_up = True
        elif word in _LINKS:
            self.links.add(word)
        elif word not in _NOTHING:
            self._take_data(word)

    def _take_data(self, word: str) -> None:
        """An option of the file system; on a bind mount there is none, and runc ignores what it does not know."""
        if self.bind and not word.startswith("x-"):
            return
        key, separator, value = word.partition("=")
        self.data.append((key, value if separator else None))

    @property
    def changes(self) -> list[Change]:
        """What is done to a copy of the source's mount."""
        found = [Change(self.set_bits, self.clear_bits)] if self.set_bits or self.clear_bits else []
        if self.recursive_set or self.recursive_clear:
            found.append(Change(self.recursive_set, self.recursive_clear, recursive=True))
        return found

    @property
    def read_only(self) -> bool:
        return bool(self.set_bits & MOUNT_ATTR_RDONLY)


def parse_mounts(entries: list[dict[str, Any]] | None, folder: str = "/") -> list[Mount]:
    """All mounts of a spec, in its order; a relative source is below `folder`, the bundle. Raises InvalidArgument."""
    found = [Mount(entry) for entry in entries or ()]
    for one in found:
        if one.bind and not one.source.startswith("/"):
            one.source = pathnames.normal(f"{folder}/{one.source}")
    return found


def label_mounts(mounts: list[Mount], label: str) -> None:
    """linux.mountLabel: the SELinux context of file systems that are made for the container."""
    for one in mounts:
        if label and one.kind in _LABELLED and not one.bind and all(key != "context" for key, _ in one.data):
            one.data.append(("context", label))


def parse_propagation(word: str | None) -> tuple[int, bool]:
    """linux.rootfsPropagation; the default is rslave: the host's unmounts arrive, nothing of ours leaves."""
    if not word:
        return MS_SLAVE, True
    if word not in PROPAGATION:
        raise InvalidArgument(f"rootfsPropagation={word} is not supported")
    return PROPAGATION[word]
