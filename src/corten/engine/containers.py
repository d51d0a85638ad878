"""The containers of one daemon: look-up by name and id, and the verbs, each told in the file of its own name.

The records are all in memory; the database is read once, at start. Every verb past its reservation runs to its end or
undoes itself, whatever becomes of the request that asked for it.
"""

import asyncio
from collections.abc import Coroutine, Iterator
from typing import TYPE_CHECKING, Any, TypeVar

import msgspec

from corten.base.errors import Internal, InvalidArgument, NotFound
from corten.base.ids import is_id_prefix
from corten.engine import create, inspect, lifecycle, listing, remove, update, wait
from corten.engine.live import Live
from corten.engine.records import ContainerRecord, CreateRequest, decode_container, encode
from corten.image.compare import changed_bytes

if TYPE_CHECKING:
    from corten.engine.engine import Engine

T = TypeVar("T")
_FULL_S = 0.5  # a full disk: until the next attempt


class Containers:
    """All containers; one object a daemon."""

    def __init__(self, engine: "Engine") -> None:
        self.engine = engine
        self._records: dict[str, ContainerRecord] = {}
        self._names: dict[str, str] = {}
        self._live: dict[str, Live] = {}
        self._unsaved: dict[str, ContainerRecord] = {}  # for want of room on the disk
        self.reserved: dict[str, str] = {}  # names of containers that are being made -> id
        self.listing = listing.Listing(self)

    # --- look-up

    def load(self) -> None:
        """Read all records from the database. Raises Internal: one is damaged, and what it is of must not be swept."""
        for key, data in self.engine.db.all("container"):
            try:
                record = decode_container(data)
            except msgspec.MsgspecError as error:
                raise Internal(f"the record of container {key} is damaged: {error}. Nothing has been changed") from None
            self._records[record.id] = record
            self._names[record.name] = record.id
            self._live[record.id] = Live()

    def __iter__(self) -> Iterator[ContainerRecord]:
        return iter(list(self._records.values()))

    def __len__(self) -> int:
        return len(self._records)

    def find(self, container_id: str) -> ContainerRecord | None:
        """By full id; None when there is none."""
        return self._records.get(container_id)

    def named(self, name: str) -> ContainerRecord | None:
        """By name; None when there is none."""
        return self._records.get(self._names.get(name, ""))

    def get(self, ref: str) -> ContainerRecord:
        """By full id, name or unique beginning of an id. Raises NotFound, InvalidArgument when more than one fits."""
        found = self._records.get(ref) or self.named(ref.removeprefix("/"))
        if found:
            return found
        if is_id_prefix(ref):
            fits = [record for key, record in self._records.items() if key.startswith(ref)]
            if len(fits) == 1:
                return fits[0]
            if fits:
                raise InvalidArgument(f"multiple IDs found with provided prefix: {ref}")
        raise NotFound(f"No such container: {ref}")

    def live(self, container_id: str) -> Live:
        """The moving parts of a container. Raises NotFound when somebody has removed it meanwhile."""
        live = self._live.get(container_id)
        if live is None:
            raise NotFound(f"No such container: {container_id}")
        return live

    async def settled(self, ref: str) -> None:
        """Wait for a start (or other change of state) under way, before asking whether it runs. Raises NotFound."""
        await self.live(self.get(ref).id).settled()

    def exited(self, container_id: str) -> asyncio.Event:
        """Set while no process of the container runs (also when it is gone)."""
        live = self._live.get(container_id)
        return live.exited if live else _set_event()

    def drained(self, container_id: str) -> asyncio.Event:
        """Set once the last byte of its output is in the log."""
        live = self._live.get(container_id)
        return live.drained if live else _set_event()

    # --- the table

    def add(self, record: ContainerRecord) -> None:
        """Put a new record in memory and in the database. Raises NameTaken."""
        self.engine.db.put("container", record.id, encode(record), record.name)
        self._records[record.id] = record
        self._names[record.name] = record.id
        self._live[record.id] = Live()
        self.listing.members_changed()

    def save(self, record: ContainerRecord) -> None:
        """Write a changed record."""
        self.engine.db.put("container", record.id, encode(record), record.name)
        self.listing.changed(record.id)

    def save_soon(self, record: ContainerRecord) -> None:
        """Write what has happened already: a full disk must not keep it from those who wait for it."""
        try:
            self.save(record)
        except OSError as error:
            self.engine.log.warning("the record of container %s: %s", record.id[:12], error)
            self.listing.changed(record.id)
            self._unsaved[record.id] = record

    async def written(self, record: ContainerRecord) -> None:
        """Return once `save_soon` has come true, or the container is gone."""
        while record.id in self._unsaved and record.id in self._records:
            await asyncio.sleep(_FULL_S)
            try:
                self.save(record)
                del self._unsaved[record.id]
            except OSError:
                continue
        self._unsaved.pop(record.id, None)

    def renamed(self, record: ContainerRecord, old: str) -> None:
        """The record carries a new name."""
        self.save(record)
        self._names.pop(old, None)
        self._names[record.name] = record.id

    def discard(self, record: ContainerRecord) -> None:
        """Forget a record, in the database too."""
        self.engine.db.delete("container", record.id)
        self._records.pop(record.id, None)
        if self._names.get(record.name) == record.id:
            del self._names[record.name]
        self.listing.changed(record.id)
        self.listing.members_changed()
        live = self._live.pop(record.id, None)
        if live:
            live.cancel_restart()
            live.gone(record.state.exit_code)

    def publish(self, record: ContainerRecord, action: str, time_ns: int = 0, **extra: str) -> None:
        """Tell an event of this container, with its image, name and labels as Docker's attributes."""
        attributes = {**(record.config.labels or {}), **extra, "image": record.image, "name": record.name}
        self.engine.events.publish("container", action, record.id, attributes, time_ns=time_ns)

    # --- verbs

    async def _finish(self, operation: Coroutine[Any, Any, T]) -> T:
        """Run to the end even when the one who asked goes away."""
        return await asyncio.shield(self.engine.spawn(operation))

    async def create(
        self, name: str, request: CreateRequest, platform: str = "", image_volumes: bool = True,
    ) -> tuple[str, list[str]]:
        """Make a container; (id, warnings). `name` may be empty. POST /containers/create."""
        return await self._finish(create.create(self, name, request, platform, image_volumes))

    async def start(self, ref: str) -> None:
        """Start it. Raises NotModified when it runs. POST /containers/{id}/start."""
        await self._finish(lifecycle.start(self, self.get(ref)))

    async def stop(self, ref: str, timeout_s: int | None = None, signal: str = "") -> None:
        """Ask it to end, kill it after the timeout (-1: never). Raises NotModified when it does not run."""
        await self._finish(lifecycle.stop(self, self.get(ref), timeout_s, signal))

    async def restart(self, ref: str, timeout_s: int | None = None, signal: str = "") -> None:
        """Stop it if it runs, then start it."""
        await self._finish(lifecycle.restart(self, self.get(ref), timeout_s, signal))

    async def kill(self, ref: str, signal: str = "") -> None:
        """Send a signal, KILL by default; that one is waited for. Raises Conflict when it does not run."""
        try:
            record = self.get(ref)
        except NotFound as error:
            raise NotFound(f"cannot kill container: {ref}: {error}") from None
        await self._finish(lifecycle.kill(self, record, signal))

    async def pause(self, ref: str) -> None:
        """Freeze all its processes."""
        await self._finish(lifecycle.pause(self, self.get(ref)))

    async def unpause(self, ref: str) -> None:
        """Let them go on."""
        await self._finish(lifecycle.unpause(self, self.get(ref)))

    async def rename(self, ref: str, name: str) -> None:
        """Give it another name. Raises Conflict."""
        await self._finish(lifecycle.rename(self, self.get(ref), name))

    async def update(self, ref: str, asked: update.UpdateRequest) -> list[str]:
        """Change limits, restart policy, ports, mounts; warnings. POST /containers/{id}/update."""
        return await self._finish(update.update(self, self.get(ref), asked))

    async def resize(self, ref: str, rows: int, columns: int) -> None:
        """Set the size of its terminal; of a container that has none nothing but the event, as docker does."""
        record = self.get(ref)
        await self.live(record.id).settled()
        lifecycle.need_running(record)
        if record.config.tty:
            await self.engine.zygote.resize(record.id, rows, columns)
        self.publish(record, "resize", height=str(rows), width=str(columns))

    async def remove(self, ref: str, force: bool = False, volumes: bool = False) -> None:
        """Remove it, its layer and (volumes) its anonymous volumes. Raises Conflict when it runs and not `force`."""
        await self._finish(remove.remove(self, self.get(ref), force, volumes))

    async def unlink(self, path: str) -> None:
        """Remove the link `parent/alias`. Raises Conflict, NotFound."""
        await self._finish(lifecycle.unlink(self, path))

    async def prune(self, filters: dict[str, list[str]]) -> tuple[list[str], int]:
        """Remove all that do not run; (ids, bytes freed)."""
        return await self._finish(remove.prune(self, filters))

    def wait(self, ref: str, condition: str = "") -> "asyncio.Future[int]":
        """A future of the exit code; registered when this returns. Conditions not-running, next-exit, removed."""
        return wait.wait(self, self.get(ref), condition)

    def wait_healthy(self, ref: str) -> "Coroutine[Any, Any, tuple[int, str]]":
        """(0, "") once it is healthy, else the code of its end and why. Raises InvalidArgument, NotFound."""
        return wait.healthy(self, self.get(ref))

    def inspect(self, ref: str, size: bool = False) -> dict[str, Any]:
        """Docker's inspect. GET /containers/{id}/json."""
        return inspect.inspect(self, self.get(ref), size)

    def size_rw(self, record: ContainerRecord) -> int:
        """Bytes of what it has changed."""
        snapshots = self.engine.snapshots
        upper = snapshots.upper_dir(record.id)
        if not snapshots.copies:
            return remove.tree_bytes(upper)
        try:
            return changed_bytes(upper, snapshots.lowers(record.id)[0])
        except OSError:
            return 0  # it changes under our hands, or is being removed

    def size_rootfs(self, record: ContainerRecord) -> int:
        """Bytes of its image and of what it has changed."""
        return self.size_rw(record) + self.engine.images.size_of(record.image_id)

    def using_volume(self, name: str) -> list[str]:
        """The ids of the containers that mount a volume."""
        return [record.id for record in self if any(point.name == name for point in record.mounts)]

    def using_image(self, image_id: str) -> list[ContainerRecord]:
        """The containers made from an image, or that mount it."""
        return [
            record for record in self
            if record.image_id == image_id or any(point.image_id == image_id for point in record.mounts)
        ]

    def list(
        self, all: bool = False, limit: int = 0, filters: dict[str, list[str]] | None = None, size: bool = False
    ) -> list[dict[str, Any]]:
        """Docker's list, newest first. GET /containers/json."""
        return self.listing.list(all, limit, filters or {}, size)


def _set_event() -> asyncio.Event:
    event = asyncio.Event()
    event.set()
    return event
