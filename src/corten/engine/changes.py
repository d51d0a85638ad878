"""What a container has changed in its image's files: GET /containers/{id}/changes.

Overlay's upper folder read by descriptors, links never followed, next to the layers below. What the runtime puts there
to mount something over is no change.
"""

import os
import stat
from typing import TYPE_CHECKING, Any

from corten.image import compare
from corten.image.compare import added_paths, differences, is_stub
from corten.image.diff import STUBS

if TYPE_CHECKING:
    from corten.engine.engine import Engine

MODIFIED, ADDED, DELETED = 0, 1, 2
_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


class Lowers:
    """The layers of an image seen as one tree, topmost first, whiteouts and opaque folders obeyed."""

    def __init__(self, paths: list[str]) -> None:
        self._roots = [os.open(path, _FOLDER) for path in paths]

    @property
    def top(self) -> int:
        """The topmost layer's own folder."""
        return self._roots[0]

    def close(self) -> None:
        for root in self._roots:
            os.close(root)

    def find(self, path: str) -> os.stat_result | None:
        """What the layers have at a relative path; None: nothing."""
        parts = path.split("/")
        for root in self._roots:
            found, hidden = _in_layer(root, parts)
            if found is not None or hidden:
                return found
        return None


def _in_layer(root: int, parts: list[str]) -> tuple[os.stat_result | None, bool]:
    """(what one layer has, whether it hides those below it)."""
    hidden = False
    folder = os.dup(root)
    try:
        for at, part in enumerate(parts):
            try:
                found = os.lstat(part, dir_fd=folder)
            except OSError:
                return None, hidden
            if stat.S_ISCHR(found.st_mode) and found.st_rdev == 0:
                return None, True
            if at == len(parts) - 1:
                return found, True
            if not stat.S_ISDIR(found.st_mode):
                return None, True
            inner = os.open(part, _FOLDER, dir_fd=folder)
            os.close(folder)
            folder = inner
            hidden = hidden or _opaque(folder)
    finally:
        os.close(folder)
    return None, hidden


def _opaque(folder: int) -> bool:
    try:
        return os.getxattr(folder, "trusted.overlay.opaque") in (b"y", b"x")
    except OSError:
        return False


class _Walk:
    """One pass over the upper folder."""

    def __init__(self, lowers: Lowers, stubs: frozenset[str]) -> None:
        self._lowers = lowers
        self._stubs = stubs
        self.found: dict[str, int] = {}

    def folder(self, descriptor: int, path: str) -> None:
        with os.scandir(descriptor) as entries:
            names = sorted(entry.name for entry in entries)
        for name in names:
            self._entry(descriptor, name, f"{path}/{name}" if path else name)

    def _entry(self, parent: int, name: str, path: str) -> None:
        upper = os.lstat(name, dir_fd=parent)
        if stat.S_ISCHR(upper.st_mode) and upper.st_rdev == 0:
            if self._lowers.find(path) is not None:
                self._note(path, DELETED)
            return
        lower = self._lowers.find(path)
        is_folder = stat.S_ISDIR(upper.st_mode)
        if lower is None:
            empty = not is_folder and upper.st_size == 0
            if path in self._stubs and (empty or is_folder) and not self._holds(parent, name, path, is_folder):
                return
            self._note(path, ADDED)
        elif not is_folder or not (
            _same_folder(upper, lower) or self._only_stubs(parent, name, path, upper, lower)
        ):
            self._note(path, MODIFIED)
        if is_folder:
            inner = os.open(name, _FOLDER, dir_fd=parent)
            try:
                self.folder(inner, path)
            finally:
                os.close(inner)

    def whole(self, tree: int, base: int) -> None:
        """The other way to the same: two whole trees compared (storage driver vfs)."""
        stubs = frozenset(map(os.fsencode, self._stubs))
        for difference in differences(tree, base):
            if is_stub(difference, stubs):
                continue
            if difference.kind == compare.ADDED:
                for path, _ in added_paths(difference.parent, difference.name, difference.path):
                    self._note(os.fsdecode(path), ADDED)
            else:
                kind = DELETED if difference.kind == compare.DELETED else MODIFIED
                self._note(os.fsdecode(difference.path), kind)

    def _note(self, path: str, kind: int) -> None:
        above = path.rpartition("/")[0]
        if kind != MODIFIED and above and above not in self.found:
            self.found[above] = MODIFIED
        self.found[path] = kind

    def _holds(self, parent: int, name: str, path: str, is_folder: bool) -> bool:
        """Whether a stub folder holds anything that is no stub."""
        if not is_folder:
            return False
        inner = os.open(name, _FOLDER, dir_fd=parent)
        try:
            return any(f"{path}/{below}" not in self._stubs for below in os.listdir(inner))
        finally:
            os.close(inner)

    def _only_stubs(
        self, parent: int, name: str, path: str, upper: os.stat_result, lower: os.stat_result,
    ) -> bool:
        """Whether a folder differs in its time alone, and for the stubs in it."""
        if (upper.st_mode, upper.st_uid, upper.st_gid) != (lower.st_mode, lower.st_uid, lower.st_gid):
            return False
        inner = os.open(name, _FOLDER, dir_fd=parent)
        try:
            names = os.listdir(inner)
        finally:
            os.close(inner)
        return bool(names) and all(
            f"{path}/{below}" in self._stubs or any(stub.startswith(f"{path}/{below}/") for stub in self._stubs)
            for below in names
        )


def _same_folder(upper: os.stat_result, lower: os.stat_result) -> bool:
    return stat.S_ISDIR(lower.st_mode) and (
        upper.st_mode, upper.st_uid, upper.st_gid, upper.st_mtime_ns // 1_000_000_000
    ) == (lower.st_mode, lower.st_uid, lower.st_gid, lower.st_mtime_ns // 1_000_000_000)


def changes(engine: "Engine", ref: str) -> list[dict[str, Any]]:
    """[{"Path", "Kind": 0 modified, 1 added, 2 deleted}] in order of path. Raises NotFound. Not quick."""
    record = engine.containers.get(ref)
    stubs = frozenset(STUBS) | {point.destination.strip("/") for point in record.mounts}
    snapshots = engine.snapshots
    upper = os.open(snapshots.upper_dir(record.id), _FOLDER)
    lowers = Lowers(snapshots.lowers(record.id))
    try:
        walk = _Walk(lowers, stubs)
        if snapshots.copies:
            walk.whole(upper, lowers.top)
        else:
            walk.folder(upper, "")
    finally:
        os.close(upper)
        lowers.close()
    return [{"Path": f"/{path}", "Kind": kind} for path, kind in sorted(walk.found.items())]
