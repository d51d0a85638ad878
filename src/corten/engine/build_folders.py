"""Folders of clients, kept from build to build: an unchanged tree costs its list alone, a changed one what has changed.

Named by what the client calls the folder. While builds read one it is not touched: a build that brings another state of
it meanwhile gets a folder of its own. They go with `builder prune`, when many others came, and when the daemon starts.
"""

import asyncio
import os
from collections.abc import AsyncGenerator, Awaitable, Callable, Collection, Mapping
from contextlib import AbstractAsyncContextManager, aclosing, suppress
from typing import Protocol

from corten.base.errors import InvalidArgument
from corten.base.files import remove_tree
from corten.base.ids import new_id
from corten.build.context import Tree
from corten.image import unpack, worker

_KEPT = 8
_TIMEOUT_S = 1800.0
_RING_BYTES, _RINGS = 1 << 20, 256  # when the worker begins; how often it is told of more
_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC


class Listing(Protocol):
    """What the client has now: all that tells one state of an entry from another, by path, in order.

    `whole`: entries hang together (hard links), so that only all of them can be fetched.
    """

    @property
    def entries(self) -> Mapping[str, object]: ...

    @property
    def whole(self) -> bool: ...

    def tar(self, paths: Collection[str] | None, gone: Collection[str]) -> AsyncGenerator[bytes]:
        """The entries (None: all) as a layer's tar, with whiteouts for what is gone."""


class Folder:
    """One state of a client's folder on the disk, below `path`; `users`: builds that read it."""

    def __init__(self, path: str) -> None:
        self.path = path
        self.entries: dict[str, object] = {}
        self.whole = False
        self.users = 0
        self.kept = True
        self.tree: Tree

    async def fill(self, listing: Listing) -> None:
        """Fetch it all."""
        os.makedirs(f"{self.path}/context", 0o755)
        await self._apply(listing.tar(None, ()))
        self._settle(listing)

    async def update(self, listing: Listing) -> None:
        """Fetch what has changed."""
        old, new = self.entries, listing.entries
        changed = {path for path, state in new.items() if old.get(path) != state}
        gone = [path for path in old if path not in new and path.rpartition("/")[0] not in old.keys() - new.keys()]
        await self._apply(listing.tar(changed, gone))
        self.tree.close()
        self._settle(listing)

    def _settle(self, listing: Listing) -> None:
        self.tree = Tree(os.open(f"{self.path}/context", _FOLDER), True)
        self.entries, self.whole = dict(listing.entries), listing.whole

    async def _apply(self, tar: AsyncGenerator[bytes]) -> None:
        path = f"{self.path}/context.tar"
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
        unpacking = _Unpacking(self.path, descriptor, {"whiteouts": not self.whole, "over": bool(self.entries)})
        try:
            async with aclosing(tar):
                async for piece in tar:
                    view = memoryview(piece)
                    while view:
                        view = view[os.write(descriptor, view):]
                    if unpacking.grown(len(piece)):
                        break  # it has failed
            await unpacking.end()
        finally:
            await unpacking.close()
            os.close(descriptor)
            os.unlink(path)

    async def release(self) -> None:
        """A build is done with it."""
        self.users -= 1
        if not self.users and not self.kept:
            await self.remove()

    async def remove(self) -> None:
        """Away with it; nobody reads it."""
        if hasattr(self, "tree"):
            self.tree.close()
        await asyncio.to_thread(remove_tree, self.path)


class _Unpacking:
    """A folder's tar that is written to `descriptor`, unpacked by the worker while it grows, if it grows long.

    The bell is arrival.py's; it is rung ever more seldom, so that its pipe never fills.
    """

    def __init__(self, root: str, descriptor: int, how: Mapping[str, bool]) -> None:
        self._job: dict[str, object] = {"descriptor": descriptor, "folder": "context",
                                        "limit_bytes": unpack.LIMIT_BYTES, "limit_entries": unpack.LIMIT_ENTRIES, **how}
        self._root, self._given = root, [descriptor]
        self._size = self._rung = 0
        self._bell = self._rope = -1
        self._asking: asyncio.Task[object] | None = None

    def grown(self, size: int) -> bool:
        """So many bytes more are there; whether the worker has ended, which it should not."""
        self._size += size
        if self._size - self._rung >= max(_RING_BYTES, self._size // _RINGS):
            self._rung = self._size
            if self._asking is None:
                self._bell, self._rope = os.pipe2(os.O_CLOEXEC)
                self._job["bell"] = self._bell
                self._given.append(self._bell)
                self._asking = asyncio.create_task(self._ask(None))  # the client takes the time that it takes
            else:
                self._ring(b".")
        return self._asking is not None and self._asking.done()

    def _ring(self, sign: bytes) -> None:
        with suppress(BrokenPipeError):
            os.write(self._rope, sign)

    async def _ask(self, timeout_s: float | None) -> None:
        question = {"root": self._root, "jobs": [self._job], "cpu_seconds": int(_TIMEOUT_S),
                    "memory_bytes": unpack.MEMORY_BYTES}
        await worker.ask("corten.image.unpack_worker", question, self._given, timeout_s)

    async def end(self) -> None:
        """All of it is there: return when it is unpacked. Raises what the worker says."""
        if self._asking is None:
            await self._ask(_TIMEOUT_S)
            return
        self._ring(b"!")
        try:
            await asyncio.wait_for(self._asking, _TIMEOUT_S)
        except TimeoutError:
            raise InvalidArgument("the files took too long to unpack") from None

    async def close(self) -> None:
        """Nothing of it runs any more."""
        if self._asking is not None:
            self._asking.cancel()
            await asyncio.gather(self._asking, return_exceptions=True)
        for descriptor in (self._bell, self._rope):
            if descriptor >= 0:
                os.close(descriptor)


class Folders:
    """All that one daemon keeps, the least recently used first; `root` is where builds have their folders."""

    def __init__(self, root: str) -> None:
        self._root = root
        self._kept: dict[str, Folder] = {}
        self._locks: dict[str, asyncio.Lock] = {}

    async def borrow(self, key: str, listed: Callable[[], AbstractAsyncContextManager[Listing]]) -> Folder:
        """The folder as the client has it now; `release` it. Raises what listing and fetching raise."""
        async with self._locks.setdefault(key, asyncio.Lock()), listed() as listing:
            folder = self._kept.pop(key, None)
            if folder is not None and folder.entries != listing.entries:
                folder = await self._changed(key, folder, listing)
            if folder is None:
                folder = Folder(f"{self._root}/{new_id()[:12]}")
                folder.whole = listing.whole
                folder.kept = key not in self._kept
                await self._try(folder, folder.fill(listing))
            if folder.kept:
                self._kept[key] = folder
            folder.users += 1
        await self._shrink(_KEPT)
        return folder

    async def _changed(self, key: str, folder: Folder, listing: Listing) -> Folder | None:
        if folder.users:
            self._kept[key] = folder
            return None
        if folder.whole or listing.whole:
            await folder.remove()
            return None
        await self._try(folder, folder.update(listing))
        return folder

    async def _try(self, folder: Folder, work: Awaitable[None]) -> None:
        try:
            await work
        except BaseException:
            await asyncio.shield(folder.remove())
            raise

    async def _shrink(self, most: int) -> None:
        for key, folder in list(self._kept.items())[:max(len(self._kept) - most, 0)]:
            if not folder.users and self._kept.get(key) is folder:  # others come and go while one is removed
                del self._kept[key]
                if not self._locks[key].locked():
                    del self._locks[key]
                await folder.remove()

    async def prune(self) -> None:
        """All that no build reads."""
        await self._shrink(0)
