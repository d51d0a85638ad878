"""The history of builds asked for by BuildKit's protocol: what was asked, what came of it, what was told meanwhile.

A record is written when a build begins and when it ends; one that a killed daemon left open is a failed one. What was
told (opaque here) is a file of its own. At most 50 records, and none older than two days, unless they are pinned.
Source: moby/buildkit solver/llbsolver/history.go; docs.docker.com/reference/cli/docker/buildx/history.
"""

import asyncio
import os
import re
from collections.abc import AsyncGenerator
from typing import TYPE_CHECKING

import msgspec

from corten.base.errors import NotFound
from corten.base.files import atomic_write
from corten.base.units import now_ns

if TYPE_CHECKING:
    from corten.engine.engine import Engine

KEPT = 50
AGE_NS = 48 * 3600 * 1_000_000_000
LOG_LIMIT_BYTES = 16 << 20
_BLOB_LIMIT_BYTES = 1 << 20
_REF = re.compile(r"[A-Za-z0-9_.-]{1,128}", re.ASCII)
_LEFT = "the daemon ended before the build did"
UNKNOWN = 2  # codes of google.rpc.Status
CANCELED = 1


class Attached(msgspec.Struct):
    """A document that belongs to a record; `data` when it is kept here, else it is a blob of the image store.

    `platform` "": of the whole build.
    """

    kind: str
    digest: str
    size: int
    platform: str = ""
    data: bytes = b""
    result: bool = False  # what the exporter made, not what attests to it


class HistoryRecord(msgspec.Struct):
    """One build; key of table `build_history` is its ref. Times in nanoseconds since 1970; `ended_ns` 0: it runs."""

    ref: str
    frontend: str = ""
    attributes: dict[str, str] = {}
    exporters: list[tuple[str, dict[str, str]]] = []
    begun_ns: int = 0
    ended_ns: int = 0
    code: int = 0
    error: str = ""
    details: bytes = b""  # the error as a google.rpc.Status
    response: dict[str, str] = {}
    attached: list[Attached] = []
    steps: int = 0
    completed: int = 0
    cached: int = 0
    warnings: int = 0
    pinned: bool = False


class History:
    """One daemon's builds, by ref, in the order they began."""

    def __init__(self, engine: "Engine") -> None:
        self._engine = engine
        self._records: dict[str, HistoryRecord] = {}
        self._running: set[str] = set()
        self._listeners: set[asyncio.Queue[tuple[str, HistoryRecord]]] = set()

    @property
    def _root(self) -> str:
        return self._engine.layout.build_history

    def _path(self, ref: str) -> str:
        return f"{self._root}/{ref}"

    def load(self) -> None:
        """Read the records; what a killed daemon left open has failed, files without a record go."""
        os.makedirs(self._root, 0o700, exist_ok=True)
        found = [msgspec.json.decode(data, type=HistoryRecord) for _, data in self._engine.db.all("build_history")]
        for record in sorted(found, key=lambda one: one.begun_ns):
            self._records[record.ref] = record
            if not record.ended_ns:
                record.ended_ns, record.code, record.error = now_ns(), UNKNOWN, _LEFT
                self._write(record)
        for name in os.listdir(self._root):
            if name not in self._records:
                os.unlink(f"{self._root}/{name}")
        self._bound()

    def _write(self, record: HistoryRecord) -> None:
        self._engine.db.put("build_history", record.ref, msgspec.json.encode(record))

    # --- builds

    def begin(self, record: HistoryRecord) -> bool:
        """A build begins; False when its ref is none to keep, or is taken."""
        if not _REF.fullmatch(record.ref) or record.ref in self._records:
            return False
        record.begun_ns = now_ns()
        self._records[record.ref] = record
        self._running.add(record.ref)
        self._write(record)
        self._tell("started", record)
        return True

    def end(self, record: HistoryRecord, log: bytes) -> None:
        """It has ended; `log`: what was told, cut by the caller."""
        record.attached = [one for one in record.attached if len(one.data) <= _BLOB_LIMIT_BYTES]
        record.ended_ns = now_ns()
        self._running.discard(record.ref)
        if record.ref not in self._records:
            return  # removed meanwhile
        atomic_write(self._path(record.ref), log)
        self._write(record)
        self._tell("completed", record)
        self._bound()

    def _bound(self) -> None:
        over = [one for one in self._records.values() if one.ended_ns and not one.pinned]
        oldest = now_ns() - AGE_NS
        for at, record in enumerate(over):
            if len(over) - at > KEPT or record.ended_ns < oldest:
                self._drop(record)

    def _drop(self, record: HistoryRecord) -> None:
        del self._records[record.ref]
        self._engine.db.delete("build_history", record.ref)
        if os.path.exists(self._path(record.ref)):
            os.unlink(self._path(record.ref))
        self._tell("deleted", record)

    # --- who asks

    def get(self, ref: str) -> HistoryRecord | None:
        """By ref."""
        return self._records.get(ref)

    def is_over(self, ref: str) -> bool:
        """Whether this is a build that has ended."""
        record = self._records.get(ref)
        return record is not None and bool(record.ended_ns)

    def all(self, ref: str = "", *, active: bool = False, limit: int = 0) -> list[HistoryRecord]:
        """The newest first; `active`: those that run alone; `limit` 0: all."""
        found = [one for one in reversed(list(self._records.values()))
                 if ref in ("", one.ref) and not (active and one.ended_ns)]
        return found[:limit] if limit else found

    def log(self, ref: str) -> bytes:
        """What was told of a build that has ended. Raises NotFound."""
        try:
            with open(self._path(ref) if ref in self._records else "", "rb") as file:
                return file.read()
        except FileNotFoundError:
            raise NotFound(f"no such build record: {ref}") from None

    def blob(self, digest: str) -> bytes:
        """A document that a record has: kept with it, or a manifest of an image. Raises NotFound."""
        for record in self._records.values():
            for one in record.attached:
                if one.digest == digest:
                    return one.data or self._engine.images.store.content.read(digest)
        return self._manifest(digest)

    def _manifest(self, digest: str) -> bytes:
        """What an index that is a build's result names. Raises NotFound."""
        store = self._engine.images.store
        known = {other for image in store.images.values()
                 for other in (image.id, *image.record.kept, image.record.manifest)}
        if digest not in known:
            raise NotFound(f"content {digest}: not found")
        return store.content.read(digest)

    def update(self, ref: str, *, pinned: bool, delete: bool) -> None:
        """Pin a record, or unpin it, or remove it. Raises NotFound unless it is to go."""
        record = self._records.get(ref)
        if record is None:
            if not delete:
                raise NotFound(f"no such build record: {ref}")
        elif delete:
            if record.ended_ns:
                self._drop(record)
        else:
            record.pinned = pinned
            self._write(record)
            self._bound()

    async def listen(self) -> AsyncGenerator[tuple[str, HistoryRecord]]:
        """(started | completed | deleted, record) from now on."""
        queue: asyncio.Queue[tuple[str, HistoryRecord]] = asyncio.Queue(1000)
        self._listeners.add(queue)
        try:
            while True:
                yield await queue.get()
        finally:
            self._listeners.discard(queue)

    def _tell(self, what: str, record: HistoryRecord) -> None:
        for queue in self._listeners:
            if not queue.full():  # who does not read misses some
                queue.put_nowait((what, record))
