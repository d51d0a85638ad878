"""The volumes of one daemon: made, listed, removed, filled from an image; and which containers use them.

A volume is in use as long as a container that names it exists, running or not. Anonymous ones (64 hexadecimal digits,
labelled) go with their container when asked; nothing else removes data but `remove` and `prune`.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import msgspec

from corten.base.errors import Conflict, Internal, InvalidArgument, NotFound
from corten.base.units import format_time, now_ns, parse_time
from corten.engine.network_views import has_label, truth_of
from corten.engine.records import ContainerRecord, encode
from corten.engine.schema import Schema
from corten.volume.copy_up import copy_up, open_place
from corten.volume.local import LocalMount, bound_folder, check_options, local_mount
from corten.volume.store import ANONYMOUS_LABEL, Store, anonymous_name, check_name

if TYPE_CHECKING:
    from corten.base.paths import Layout
    from corten.engine.db import Database
    from corten.engine.events import Events

_LIST_FILTERS = frozenset(("dangling", "driver", "label", "name"))
_PRUNE_FILTERS = frozenset(("all", "label", "label!", "until"))
Filters = dict[str, list[str]]
Names = list[str]
Objects = list[dict[str, Any]]


class VolumeRecord(Schema):
    """A volume as the database keeps it."""

    name: str
    created_ns: int
    driver: str = "local"
    options: dict[str, str] | None = None
    labels: dict[str, str] | None = None

    @property
    def anonymous(self) -> bool:
        """Made without a name: by the API or for a container."""
        return ANONYMOUS_LABEL in (self.labels or {})


class CreateVolume(Schema):
    """The body of POST /volumes/create."""

    name: str = ""
    driver: str = ""
    driver_opts: dict[str, str] | None = None
    labels: dict[str, str] | None = None
    cluster_volume_spec: dict[str, Any] | None = None


Records = list[VolumeRecord]
_decoder = msgspec.json.Decoder(VolumeRecord)


class Volumes:
    """All volumes; one object a daemon."""

    def __init__(self, layout: Layout, db: Database, events: Events) -> None:
        self._store = Store(layout.volumes)
        self._db = db
        self._events = events
        self._volumes: dict[str, VolumeRecord] = {}
        self._users: dict[str, set[str]] = {}   # volume -> ids of the containers that name it
        self._copying: dict[str, asyncio.Lock] = {}

    def open(self, containers: Iterable[ContainerRecord]) -> None:
        """Read the volumes, and who uses them. What has no record is left alone on the disk."""
        for name, data in self._db.all("volume"):
            self._volumes[name] = _decoder.decode(data)
        for record in containers:
            for point in record.mounts:
                if point.type == "volume" and point.name:
                    self._users.setdefault(point.name, set()).add(record.id)

    # --- for the API

    async def create(
        self, name: str | None, driver: str = "local", options: Mapping[str, str] | None = None,
        labels: Mapping[str, str] | None = None,
    ) -> dict[str, Any]:
        """Make a volume, or find the one of that name; its JSON. No name: an anonymous one. POST /volumes/create.

        Raises InvalidArgument, NotFound (driver), Unsupported, Conflict (the name has another driver).
        """
        return self._view(self._create(name or "", driver or "local", options, labels))

    def list(self, filters: Filters | None = None) -> dict[str, Any]:
        """GET /volumes."""
        filters = filters or {}
        for name in filters:
            if name not in _LIST_FILTERS:
                raise InvalidArgument(f"invalid filter '{name}'")
        found = [self._view(record) for record in self._sorted() if self._matches(record, filters)]
        return {"Volumes": found, "Warnings": None}

    def inspect(self, name: str) -> dict[str, Any]:
        """GET /volumes/{name}. Raises NotFound."""
        return self._view(self._get(name))

    async def remove(self, name: str, force: bool = False) -> None:
        """DELETE /volumes/{name}. Raises Conflict while a container uses it, NotFound unless `force`."""
        record = self._volumes.get(name)
        if record is None:
            if force:
                return
            raise NotFound(f"get {name}: no such volume")
        users = self.users(name)
        if users:
            raise Conflict(f"remove {name}: volume is in use - [{', '.join(users)}]")
        await self._delete(record)

    async def prune(self, filters: Filters) -> tuple[Names, int]:
        """Remove unused volumes, anonymous ones only unless `all`; (names, bytes freed). POST /volumes/prune."""
        for name in filters:
            if name not in _PRUNE_FILTERS:
                raise InvalidArgument(f"invalid filter '{name}'")
        every = "all" in filters and truth_of(filters["all"], "all")
        until = min((parse_time(value) for value in filters.get("until", ())), default=0)
        removed: Names = []
        freed = 0
        for record in self._sorted():
            if self.users(record.name) or not (every or record.anonymous) or (until and record.created_ns > until):
                continue
            if not _labels_fit(record, filters):
                continue
            freed += await asyncio.to_thread(self._size_bytes, record)
            if self.users(record.name) or record.name not in self._volumes:
                continue
            await self._delete(record)
            removed.append(record.name)
        self._events.publish("volume", "prune", "", {"reclaimed": str(freed)})
        return removed, freed

    async def usage(self) -> Objects:
        """Every volume with its size and the number of containers that use it; part of GET /system/df."""
        found = []
        for record in self._sorted():
            size = await asyncio.to_thread(self._size_bytes, record)
            view = self._view(record)
            view["UsageData"] = {"RefCount": len(self.users(record.name)), "Size": size}
            found.append(view)
        return found

    # --- for containers

    async def ensure(
        self, name: str | None, container_id: str, driver: str = "local", options: Mapping[str, str] | None = None,
        labels: Mapping[str, str] | None = None,
    ) -> str:
        """The volume a container is to use, made when it is not there ("" or None: a new anonymous one); its name."""
        record = self._volumes.get(name) if name else None
        if record is None:
            record = self._create(name or "", driver or "local", options, labels)
        self._users.setdefault(record.name, set()).add(container_id)
        return record.name

    def release(self, container_id: str) -> Names:
        """A container no longer uses its volumes; their names, sorted. Nothing is removed."""
        names = sorted(name for name, users in self._users.items() if container_id in users)
        for name in names:
            self._users[name].discard(container_id)
            if not self._users[name]:
                del self._users[name]
        return names

    def leave(self, name: str, container_id: str) -> None:
        """A container no longer uses this one."""
        users = self._users.get(name, set())
        users.discard(container_id)
        if not users:
            self._users.pop(name, None)

    def users(self, name: str) -> Names:
        """The ids of the containers that use a volume."""
        return sorted(self._users.get(name, ()))

    def mountpoint(self, name: str) -> str:
        """The host folder a container gets for it. Raises NotFound."""
        record = self._get(name)
        return bound_folder(record.options or {}) or self._store.data(name)

    def mount_of(self, name: str) -> LocalMount | None:
        """What it is when it is no plain folder of ours. Raises NotFound."""
        return local_mount(self._get(name).options or {})

    async def copy_up(self, name: str, layers: Sequence[str], path: str, subpath: str = "") -> bool:
        """Fill an empty volume with what the image (`layers`: folders, topmost first) has at `path`; True if it did.

        `subpath`: a folder of the volume, alone; none is made. Raises Internal when the copy fails.
        """
        target = self.mountpoint(name)
        mount = self.mount_of(name)
        if mount is not None and mount.kind != "bind":
            return False  # it is mounted in the container only
        async with self._copying.setdefault(name, asyncio.Lock()):
            try:
                place = open_place(target, subpath)
            except OSError:
                if subpath:
                    return False  # the start will tell
                raise
            try:
                return not os.listdir(place) and await asyncio.to_thread(copy_up, layers, path, place)
            except OSError as error:
                raise Internal(f"failed to copy the image's {path} to volume {name}: {error}") from None
            finally:
                os.close(place)

    # --- inside

    def _create(
        self, name: str, driver: str, options: Mapping[str, str] | None, labels: Mapping[str, str] | None
    ) -> VolumeRecord:
        chosen = dict(labels) if labels is not None else None
        if not name:
            name = anonymous_name()
            chosen = {**(chosen or {}), ANONYMOUS_LABEL: ""}
        check_name(name)
        if driver != "local":
            raise NotFound(f'create {name}: error looking up volume plugin {driver}: plugin "{driver}" not found')
        known = self._volumes.get(name)
        if known is not None:
            return known
        check_options(name, options or {})
        record = VolumeRecord(
            name=name, created_ns=now_ns(), options=dict(options) if options else None, labels=chosen,
        )
        try:
            self._store.make(name)
        except OSError as error:
            raise Internal(f"create {name}: {error.strerror}: {error.filename}") from None
        self._db.put("volume", name, encode(record))
        self._volumes[name] = record
        self._events.publish("volume", "create", name, {"driver": record.driver})
        return record

    async def _delete(self, record: VolumeRecord) -> None:
        """The record first: a daemon killed between leaves a folder, never a volume without its data."""
        del self._volumes[record.name]
        self._copying.pop(record.name, None)
        self._db.delete("volume", record.name)
        try:
            await asyncio.to_thread(self._store.remove, record.name)
        except OSError as error:
            raise Internal(f"remove {record.name}: {error.strerror}: {error.filename}") from None
        self._events.publish("volume", "destroy", record.name, {"driver": record.driver})

    def _get(self, name: str) -> VolumeRecord:
        record = self._volumes.get(name)
        if record is None:
            raise NotFound(f"get {name}: no such volume")
        return record

    def _sorted(self) -> Records:
        return sorted(self._volumes.values(), key=lambda record: record.name)

    def _matches(self, record: VolumeRecord, filters: Filters) -> bool:
        tests: dict[str, Callable[[str], bool]] = {
            "driver": lambda value: record.driver == value,
            "name": lambda value: value in record.name,
        }
        for name, values in filters.items():
            if name == "dangling":
                if truth_of(values) == bool(self.users(record.name)):
                    return False
            elif name == "label":
                if not all(has_label(record.labels, value) for value in values):
                    return False
            elif values and not any(tests[name](value) for value in values):
                return False
        return True

    def _view(self, record: VolumeRecord) -> dict[str, Any]:
        return {
            "CreatedAt": format_time(record.created_ns // 1_000_000_000 * 1_000_000_000), "Driver": record.driver,
            "Labels": record.labels, "Mountpoint": self._store.data(record.name), "Name": record.name,
            "Options": record.options, "Scope": "local",
        }

    def _size_bytes(self, record: VolumeRecord) -> int:
        return 0 if record.options else self._store.size_bytes(record.name)


def _labels_fit(record: VolumeRecord, filters: Filters) -> bool:
    if not all(has_label(record.labels, value) for value in filters.get("label", ())):
        return False
    return not any(has_label(record.labels, value) for value in filters.get("label!", ()))
