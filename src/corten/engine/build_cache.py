"""The build cache: which image each step once yielded, how much of it there is, and what of it may go.

A record is a step by its vertex's digest. Its size is that of the layer it made. Folders of RUN --mount=type=cache are
records too, found on the disk. Source: moby/buildkit cache/manager.go (prune), client/diskusage.go.
"""

import asyncio
import os
import shutil
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any

import msgspec

from corten.base.errors import InvalidArgument
from corten.base.files import remove_tree
from corten.base.ids import short_id
from corten.base.units import now_ns
from corten.engine import build_gc

if TYPE_CHECKING:
    from corten.engine.engine import Engine

REGULAR, CACHE_MOUNT = "regular", "exec.cachemount"
_WRITE_AGAIN_NS = 60_000_000_000  # a use is written down when the one on the disk is older


class CacheRecord(msgspec.Struct):
    """What is kept of a step; key of table `build_cache` is its vertex's digest."""

    image: str
    created_ns: int = 0
    used_ns: int = 0
    uses: int = 0
    description: str = ""


class Usage(msgspec.Struct):
    """One object of the cache as clients are shown it. `key`: its record, "" for a folder at `path`. Sizes in bytes."""

    id: str
    kind: str
    size: int
    description: str
    created_ns: int
    used_ns: int
    uses: int = 0
    parents: list[str] = []
    in_use: bool = False
    shared: bool = False
    mutable: bool = False
    key: str = ""
    path: str = ""


class Prune(msgspec.Struct):
    """What a prune is asked for: filters by name, ages in nanoseconds since 1970, sizes in bytes (0: not asked)."""

    everything: bool = False
    before_ns: int = 0
    filters: dict[str, list[str]] = {}
    reserved: int = 0
    most: int = 0
    free: int = 0


class BuildCache:
    """One daemon's cache."""

    def __init__(self, engine: "Engine") -> None:
        """Raises InvalidArgument for a rule of the daemon's that names a filter there is not."""
        self._engine = engine
        for rule in engine.config.build_gc or ():
            _check_filters(rule.filters)
        self._records: dict[str, CacheRecord] = {}
        self._written: dict[str, int] = {}

    def load(self) -> None:
        """Read the records."""
        for key, data in self._engine.db.all("build_cache"):
            known = data.startswith(b"{")
            self._records[key] = msgspec.json.decode(data, type=CacheRecord) if known else CacheRecord(data.decode())

    def recall(self, key: str) -> str | None:
        """The id of the image remembered under a vertex's digest; counts as a use."""
        record = self._records.get(key)
        if record is None:
            return None
        record.used_ns, record.uses = now_ns(), record.uses + 1
        if record.used_ns - self._written.get(key, 0) > _WRITE_AGAIN_NS:
            self._write(key, record)
        return record.image

    def remember(self, key: str, image_id: str, description: str) -> None:
        """Write it down."""
        now = now_ns()
        record = self._records[key] = CacheRecord(image_id, now, now, 0, description)
        self._write(key, record)

    def renew(self, key: str, image_id: str, description: str) -> None:
        """Of a step that is known another image has the same files now, and is to be what keeps them."""
        record = self._records.get(key)
        if record is None:
            self.remember(key, image_id, description)
        elif record.image != image_id:
            record.image, record.description = image_id, description
            self._write(key, record)

    def _write(self, key: str, record: CacheRecord) -> None:
        self._engine.db.put("build_cache", key, msgspec.json.encode(record))
        self._written[key] = record.used_ns

    def forget(self, key: str) -> None:
        """The image is gone."""
        self._records.pop(key, None)
        self._written.pop(key, None)
        self._engine.db.delete("build_cache", key)

    # --- what there is

    async def usage(self) -> list[Usage]:
        """All objects."""
        return [*self._steps(), *await asyncio.to_thread(_folders, self._engine.layout.build_caches)]

    def _steps(self) -> list[Usage]:
        store = self._engine.images.store
        named = {image_id for image_id in store.images if store.names_of(image_id)}
        kept = _ancestry(store, named) | {record.image_id for record in self._engine.containers}
        leased = store.content.leased()
        found = []
        for key, record in list(self._records.items()):
            image = store.get(record.image)
            if image is None:  # removed by its user
                self.forget(key)
                continue
            parent = store.get(image.record.parent)
            own = image.record.chain_ids[len(parent.record.chain_ids) if parent else 0:]
            size = sum(store.layers[chain].size for chain in own if chain in store.layers)
            parents = [short_id(parent.id)] if parent else []
            found.append(Usage(
                short_id(record.image), REGULAR, size, record.description, record.created_ns, record.used_ns,
                record.uses, parents, in_use=record.image in leased, shared=record.image in kept, key=key))
        return found

    # --- what may go

    async def prune(self, asked: Prune) -> list[Usage]:
        """Remove what matches, the least recently used first, down to the bounds; what was removed.

        What an image with a name or a container stands on stays an image (and, unless everything is to go, a record);
        what a build under way uses stays. Raises InvalidArgument for a filter that is not known.
        """
        _check_filters(asked.filters)
        found = await self.usage()
        total = sum(one.size for one in found if not one.shared)
        keep = self._keep_bytes(asked, total)
        gone: list[Usage] = []
        building = bool(self._engine.builds.running)
        last = _last_uses(found)
        for one in sorted(found, key=lambda one: last[one.id]):
            if total <= keep:
                break
            held = one.in_use or (building and one.mutable) or (one.shared and not asked.everything)
            if held or not _matches(one, asked):
                continue
            gone.append(one)
            total -= 0 if one.shared else one.size
        await self._remove(gone)
        return gone

    def _keep_bytes(self, asked: Prune, total: int) -> int:
        """How much may stay; -1: nothing need."""
        most = asked.most or (0 if asked.free else asked.reserved)
        if not most and not asked.free:
            return -1
        keep = most or total
        if asked.free:
            lacking = asked.free - shutil.disk_usage(self._engine.layout.data_root).free
            keep = min(keep, total - max(lacking, 0))
        return max(keep, asked.reserved)

    async def _remove(self, gone: list[Usage]) -> None:
        store = self._engine.images.store
        images = {self._records[one.key].image for one in gone if one.key and not one.shared}
        with self._engine.db.transaction():
            for one in gone:
                if one.key:
                    self.forget(one.key)
        still = {record.image for record in self._records.values()}
        for image_id in images - still:
            if store.get(image_id) is not None:
                store.forget(image_id)
        for one in gone:
            if one.path:
                await asyncio.to_thread(remove_tree, one.path)

    async def bound(self) -> None:
        """After a build: what the daemon's rules say, or down to a tenth of the disk; the least recently used first."""
        rules, disk = self._engine.config.build_gc, shutil.disk_usage(self._engine.layout.data_root)
        used, pruned = sum(one.size for one in self._steps() if not one.shared), False
        for rule in build_gc.usual(disk.total) if rules is None else rules:
            if not rule.is_kept(used, disk.free):
                pruned = bool(await self.prune(Prune(rule.everything, rule.before_ns(), rule.filters, rule.reserved,
                                                     rule.most, rule.free))) or pruned
        if pruned:
            self._engine.images.store.collect()


def _last_uses(found: list[Usage]) -> dict[str, int]:
    """When each object was used last: a step later than all that stand on it, or those could not be found again."""
    by_id = {one.id: one for one in found}
    last = {one.id: one.used_ns for one in found}
    for one in found:
        above = one
        while above.parents and (below := by_id.get(above.parents[0])) and last[below.id] <= last[above.id]:
            last[below.id] = last[above.id] + 1
            above = below
    return last


def _folders(root: str) -> list[Usage]:
    found = []
    for name in os.listdir(root):
        path = f"{root}/{name}"
        status = os.lstat(path)
        size = sum(os.lstat(f"{place}/{file}").st_blocks << 9 for place, _, files in os.walk(path) for file in files)
        found.append(Usage(name[:12], CACHE_MOUNT, size, "cached mount", status.st_ctime_ns, status.st_mtime_ns,
                           mutable=True, path=path))
    return found


def _matches(one: Usage, asked: Prune) -> bool:
    """Whether every filter has a value that fits."""
    if asked.before_ns and one.used_ns >= asked.before_ns:
        return False
    return all(any(_FILTERS[name](one, value) for value in values) for name, values in asked.filters.items())


def _check_filters(names: Iterable[str]) -> None:
    for name in names:
        if name not in _FILTERS:
            raise InvalidArgument(f"invalid filter {name}: the build cache knows {', '.join(_FILTERS)}")


def _is(flag: bool, value: str) -> bool:
    return flag == (value.lower() not in ("false", "0"))


_FILTERS: dict[str, Callable[[Usage, str], bool]] = {
    "id": lambda one, value: one.id.startswith(value),
    "parent": lambda one, value: any(parent.startswith(value) for parent in one.parents),
    "parents": lambda one, value: any(parent.startswith(value) for parent in one.parents),
    "type": lambda one, value: one.kind == value,
    "description": lambda one, value: value in one.description,
    "inuse": lambda one, value: _is(one.in_use, value),
    "shared": lambda one, value: _is(one.shared, value),
    "private": lambda one, value: _is(not one.shared, value),
    "mutable": lambda one, value: _is(one.mutable, value),
    "immutable": lambda one, value: _is(not one.mutable, value),
}


def _ancestry(store: Any, ids: set[str]) -> set[str]:
    """These images and all that they were built on."""
    found: set[str] = set()
    waiting = list(ids)
    while waiting:
        image_id = waiting.pop()
        if image_id and image_id not in found:
            found.add(image_id)
            image = store.get(image_id)
            if image is not None:
                waiting.append(image.record.parent)
    return found
