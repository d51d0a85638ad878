"""Layers of an archive that are unpacked while the archive still comes in.

Which members are layers is known at its end only: what is big and begins as a tar does is taken for one. Nobody has
asked for what is made here: `take` hands it over when a manifest does, `close` throws the rest away. A worker reads
the blob as it grows, by arrival.py's means, but told by the thread that reads the archive.
"""

import asyncio
import os

from corten.image.arrival import Arrival
from corten.image.content import Writer
from corten.image.inflate import compression_of
from corten.image.store import ImageStore
from corten.image.unpack import WORKERS, Job, Unpacked, unpack

AHEAD_BYTES = 32 << 20  # a smaller layer is here before it would pay
_MAGIC_AT, _MAGIC = 257, b"ustar"  # tar(5)


class Ahead:
    """What is unpacked ahead for one archive. Made on the loop; `follow` is called by the reading thread."""

    def __init__(self, store: ImageStore) -> None:
        self._store = store
        self._loop = asyncio.get_running_loop()
        self._tasks: list[asyncio.Task[Unpacked]] = []
        self._named: dict[str, asyncio.Task[Unpacked]] = {}
        self._stages: list[str] = []
        self._closed = False

    # --- on the reading thread

    def follow(self, writer: Writer, size: int) -> "Following | None":
        """A member of `size` bytes is about to be written; what to tell of it, None when nothing is done ahead."""
        if size < AHEAD_BYTES or self._store.snapshots.copies:
            return None
        return Following(self, writer, size)

    def begin(self, arrival: Arrival, name: str) -> None:
        """Let a worker read along; it is known by `name` until it has a digest."""
        descriptor, bell = arrival.follow()
        head = os.pread(descriptor, 512, 0)
        if compression_of(head) not in ("gzip", "zstd") and not head.startswith(_MAGIC, _MAGIC_AT):
            os.close(descriptor)
            os.close(bell)
            return
        job = Job.followed(self._store.content, arrival, (descriptor, bell))
        self._loop.call_soon_threadsafe(self._start, name, job)

    def settle(self, name: str, digest: str) -> None:
        """The member is whole; its digest is known."""
        self._loop.call_soon_threadsafe(self._rename, name, digest)

    # --- on the loop

    def _start(self, name: str, job: Job) -> None:
        if self._closed or sum(not task.done() for task in self._tasks) >= WORKERS:
            job.close()
            return
        self._stages.append(self._store.snapshots.stage())
        self._named[name] = self._loop.create_task(self._unpack(self._stages[-1], job))
        self._tasks.append(self._named[name])

    async def _unpack(self, staging: str, job: Job) -> Unpacked:
        try:
            return (await unpack(self._store.content, staging, [job]))[0]
        finally:
            job.close()

    def _rename(self, name: str, digest: str) -> None:
        task = self._named.pop(name, None)
        if task is not None:
            self._named.setdefault(digest, task)

    def take(self, digest: str) -> asyncio.Task[Unpacked] | None:
        """The layer of this blob, once; None when it was not unpacked ahead. Awaited, it raises what unpacking did."""
        return self._named.pop(digest, None)

    async def close(self) -> None:
        """Stop what runs, throw away what nobody wanted."""
        self._closed = True
        for task in self._tasks:
            task.cancel()
        if self._tasks:
            await asyncio.wait(self._tasks)
        for task in self._tasks:
            if not task.cancelled():
                task.exception()  # heard: it was told to who took it, or concerned nobody
        for staging in self._stages:
            self._store.snapshots.discard(staging)


class Following:
    """One member on its way in, for the thread that writes it."""

    __slots__ = ("_ahead", "_arrival", "_begun", "_name")

    def __init__(self, ahead: Ahead, writer: Writer, size: int) -> None:
        self._ahead = ahead
        self._arrival = Arrival(writer, size)
        self._name = writer.path
        self._begun = False

    def grown(self) -> None:
        """The writer has written."""
        self._arrival.grown()
        if not self._begun and self._arrival.begun:
            self._begun = True
            self._ahead.begin(self._arrival, self._name)

    def end(self, digest: str) -> None:
        """All is written and a blob; "" when it never will be."""
        self._ahead.settle(self._name, digest)
        self._arrival.end(whole=bool(digest))
