"""Folders that containers' roots are made of: `<short>/fs` for a layer, `<short>/{fs,work}` for a container.

With the driver overlayfs a layer holds what it changes and a container's root is an overlay mount. With vfs (`copies`)
a layer holds the whole tree up to it, a container's `fs` is a copy of its topmost layer, and nothing is mounted.

A layer's short name is six random digits, a container's the first twelve of its id, so that 128 lower folders fit
overlay's option page. A layer is unpacked in a staging folder and renamed when whole; `make` clears away what a killed
daemon left. Who uses a layer is not counted but read: from image records, and from the files `layers` and
`held` of each container.
Nothing is mounted here: the container's init does that, from what `prepare` returns.
"""

import contextlib
import os
import secrets
import stat
from concurrent.futures import ThreadPoolExecutor
from typing import Protocol

from corten.base.files import atomic_write, read_bytes, remove_tree
from corten.base.ids import is_id, short_id
from corten.base.paths import Layout
from corten.image.driver import OVERLAY, VFS
from corten.linux.topdir import set_topdir
from corten.linux.tree import FOLDER, copy_tree

_REGIONS = "regions"
_REGION_COUNT = 96
_DEAD = "dead-"
_EMPTY = "empty"
_HELD = "held"


class HasLayers(Protocol):
    """What `prepare` wants of an image."""

    @property
    def layers(self) -> list[str]:
        """Short names of its layers' snapshots, bottom first."""


def copy_folder(source: str, target: str) -> None:
    """Make the folder `target` a copy of the tree at `source`, both of ours. Raises OSError; blocks."""
    os.mkdir(target, 0o700)
    here = os.open(source, FOLDER)
    try:
        there = os.open(target, FOLDER)
        try:
            copy_tree(here, there)
        finally:
            os.close(there)
    finally:
        os.close(here)


def disk_bytes(path: str) -> int:
    """What a folder of ours and all below it take on the disk. Links are not followed. Blocks."""
    total = os.lstat(path).st_blocks * 512
    with os.scandir(path) as found:
        for item in found:
            if item.is_dir(follow_symlinks=False):
                total += disk_bytes(item.path)
            else:
                total += item.stat(follow_symlinks=False).st_blocks * 512
    return total


def spread(path: str) -> None:
    """Ask the file system to put each folder made in `path` into a region of its own (linux/topdir.py)."""
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        set_topdir(descriptor, True)
    finally:
        os.close(descriptor)


class Snapshots:
    """The folder `layout.snapshots`. Synchronous, quick but for copies; trees are deleted on a thread of its own.

    `driver`: as chosen by driver.py; `copies`: whether it is vfs.
    """

    def __init__(self, layout: Layout, driver: str = OVERLAY) -> None:
        self.root = layout.snapshots
        self.driver = driver
        self.copies = driver == VFS
        self._reaper: ThreadPoolExecutor | None = None
        self._region = secrets.randbelow(_REGION_COUNT)

    def make(self) -> None:
        """At start: the folder, and away with what was half-made or half-removed."""
        os.makedirs(f"{self.root}/{_EMPTY}/fs", mode=0o755, exist_ok=True)
        os.makedirs(f"{self.root}/{_REGIONS}", mode=0o700, exist_ok=True)
        spread(f"{self.root}/{_REGIONS}")
        for region in range(_REGION_COUNT):
            path = f"{self.root}/{_REGIONS}/{region:02x}"
            try:
                os.mkdir(path, 0o700)
            except FileExistsError:
                for name in os.listdir(path):
                    self._bury(f"{path}/{name}")
        for name in os.listdir(self.root):
            if name.startswith(_DEAD):
                self._discard(f"{self.root}/{name}")

    # --- layers

    def path(self, layer: str) -> str:
        """A layer's files."""
        return f"{self.root}/{layer}/fs"

    def view(self, layers: list[str]) -> list[str]:
        """The folders that show an image of these layers (short names, bottom first) together, topmost first."""
        return [self.path(layer) for layer in (layers[-1:] if self.copies else reversed(layers))]

    def whole(self, layers: list[str]) -> str:
        """The folder that is the whole tree of these layers, where the driver copies; an empty one for none."""
        assert self.copies
        return self.path(layers[-1] if layers else _EMPTY)

    def stage(self) -> str:
        """A fresh staging folder: layers are made in it, then adopted.

        Each in the next region of the disk: ext4 makes files beside their folder, and without a journal it steps over
        every inode freed there in the last minutes (20,000 files unpacked after as many were removed: 8 s, not 0.5).
        """
        path = self.place()
        os.mkdir(path, 0o700)
        return path

    def place(self) -> str:
        """Where such a folder may be made, by who removes it again; what is left of it goes at the next start."""
        return f"{self._next_region()}/{secrets.token_hex(8)}"

    def _next_region(self) -> str:
        self._region = (self._region + 1) % _REGION_COUNT
        return f"{self.root}/{_REGIONS}/{self._region:02x}"

    def adopt(self, staged: str) -> str:
        """Rename `<staging>/<n>` (with its `fs`) to a layer of its own; returns the short name."""
        while True:
            name = secrets.token_hex(3)
            try:
                os.rename(staged, f"{self.root}/{name}")  # an existing one is never empty: ENOTEMPTY
                return name
            except OSError as error:
                if not os.path.exists(f"{self.root}/{name}"):
                    raise error

    def remove_layer(self, layer: str) -> None:
        """Take a layer away; its files go in the background. Only gc decides this."""
        self._bury(f"{self.root}/{layer}")

    def layers(self) -> set[str]:
        """The short names of every layer here."""
        return {name for name in os.listdir(self.root) if len(name) == 6 or name.startswith("host-")}

    # --- containers

    def _container(self, container_id: str) -> str:
        assert is_id(container_id)
        return f"{self.root}/{short_id(container_id)}"

    def prepare(self, container_id: str, image: HasLayers) -> dict[str, object]:
        """The writable layer of a container on an image: {"lower": [topmost first], "upper", "work"}.

        Made once; asking again for the same container gives the same. The shape is `rootfs.json`'s; without lower
        folders the upper is the whole root. Raises OSError. Blocks for as long as copying the image takes if `copies`.
        """
        own = self._container(container_id)
        try:
            os.mkdir(own, 0o700)
        except FileExistsError:
            return self.rootfs(container_id)
        layers = list(image.layers) or [_EMPTY]
        descriptor = os.open(f"{own}/layers", os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        try:
            os.write(descriptor, "\n".join(layers).encode())  # first: they are in use from now on
        finally:
            os.close(descriptor)
        if self.copies:
            copy_folder(self.path(layers[-1]), f"{own}/fs")
            return self._rootfs(own, layers)
        top = os.stat(self.path(layers[-1]))
        region = self._next_region()  # what the container writes has a place of its own, as a layer has (see stage)
        for name, mode in (("fs", 0o755), ("work", 0o700)):
            os.mkdir(f"{region}/{short_id(container_id)}", mode)
            os.rename(f"{region}/{short_id(container_id)}", f"{own}/{name}")
        if (top.st_uid, top.st_gid) != (0, 0):
            os.chown(f"{own}/fs", top.st_uid, top.st_gid)
        os.chmod(f"{own}/fs", stat.S_IMODE(top.st_mode))  # overlay shows the upper's root folder
        return self._rootfs(own, layers)

    def rootfs(self, container_id: str) -> dict[str, object]:
        """What `prepare` gave for this container. Raises FileNotFoundError when there is none."""
        return self._rootfs(self._container(container_id), self.layers_of(container_id))

    def hold(self, container_id: str, layers: list[str]) -> None:
        """Layers (short names) that a container needs besides those it stands on; in place of those held before."""
        path = f"{self._container(container_id)}/{_HELD}"
        if layers:
            atomic_write(path, "\n".join(layers).encode())
        else:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(path)

    def layers_of(self, container_id: str) -> list[str]:
        """Short names of the layers a container stands on, bottom first. Raises FileNotFoundError."""
        return read_bytes(f"{self._container(container_id)}/layers").decode().split("\n")

    def lowers(self, container_id: str) -> list[str]:
        """The folders that show a container's image, topmost first. Raises FileNotFoundError."""
        return self.view(self.layers_of(container_id))

    def _rootfs(self, own: str, layers: list[str]) -> dict[str, object]:
        if self.copies:
            return {"lower": [], "upper": f"{own}/fs", "work": ""}
        return {"lower": [self.path(layer) for layer in reversed(layers)], "upper": f"{own}/fs", "work": f"{own}/work"}

    def upper_dir(self, container_id: str) -> str:
        """What the container has changed, in overlay's own form; if `copies`, its whole root."""
        return f"{self._container(container_id)}/fs"

    def remove(self, container_id: str) -> None:
        """Take a container's writable layer away; absent is fine. Its files go in the background."""
        self._bury(self._container(container_id))

    def containers(self) -> set[str]:
        """The short ids of every container that has a writable layer here."""
        return {name for name in os.listdir(self.root) if len(name) == 12 and not name.startswith(_DEAD)}

    def used_by_containers(self) -> set[str]:
        """Short names of the layers that containers stand on or hold."""
        used: set[str] = set()
        for name in self.containers():
            for file in ("layers", _HELD):
                with contextlib.suppress(FileNotFoundError):
                    used.update(read_bytes(f"{self.root}/{name}/{file}").decode().split("\n"))
        return used

    # --- removal

    def _bury(self, path: str) -> None:
        dead = f"{self.root}/{_DEAD}{secrets.token_hex(8)}"
        try:
            os.rename(path, dead)
        except FileNotFoundError:
            return
        self._discard(dead)

    def discard(self, staging: str) -> None:
        """Throw a staging folder away; absent is fine."""
        self._bury(staging)

    def _discard(self, dead: str) -> None:
        if self._reaper is None:
            self._reaper = ThreadPoolExecutor(1, "snapshot-reaper")
        self._reaper.submit(remove_tree, dead)

    def flush(self) -> None:
        """Wait until everything taken away is off the disk."""
        if self._reaper is not None:
            self._reaper.shutdown(wait=True)
            self._reaper = None
