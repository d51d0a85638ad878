"""Folders of clients, kept from build to build: an unchanged tree costs its list alone, a changed one what has changed.

Named by what the client calls the folder. While builds read one it is not touched: a build that brings another state of
it meanwhile gets a folder of its own. They go with `builder prune`, when many others came, and when the daemon starts.
"""

import asyncio
import os
from collections.abc import AsyncGenerator, Awaitable, Callable, Collection, Mapping
from contextlib import AbstractAsyncContextManager, aclosing
from typing import Protocol

from corten.base.files import remove_tree
from corten.base.ids import new_id
from corten.build.context import Tree
from corten.image import unpack, worker

_KEPT = 8
_TIMEOUT_S = 1800.0
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
        try:
            async with aclosing(tar):
                async for piece in tar:
                    view = memoryview(piece)
                    while view:
                        view = view[os.write(descriptor, view):]
            job = {"descriptor": descriptor, "folder": "context", "limit_bytes": unpack.LIMIT_BYTES,
                   "limit_entries": unpack.LIMIT_ENTRIES, "whiteouts": not self.whole, "apply": bool(self.entries)}
            question = {"root": self.path, "jobs": [job], "cpu_seconds": int(_TIMEOUT_S),
                        "memory_bytes": unpack.MEMORY_BYTES}
            await worker.ask("corten.image.unpack_worker", question, [descriptor], _TIMEOUT_S)
        finally:
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
