"""The build context: a tar sent by the client, in a folder of its own, unpacked in a confined worker when needed.

A build without COPY and ADD never needs it unpacked; its Dockerfile is found by walking the headers of a small tar.
"""

import asyncio
import os
from collections.abc import AsyncIterator, Awaitable, Callable

from corten.base.errors import InvalidArgument
from corten.base.files import remove_tree
from corten.build.context import DOCKERFILE_LIMIT, NoDockerfile, Tree
from corten.engine.build_folders import Folder
from corten.image import unpack, worker
from corten.image.inflate import MapSource, compression_of
from corten.image.tar_reader import REGULAR, BadArchive, Reader

_SMALL = 1 << 20
_TIMEOUT_S = 1800.0


class Context:
    """One build's folder `path`: `context.tar`, the unpacked `context/`, and what archives of ADD hold."""

    def __init__(self, path: str) -> None:
        self.path = path
        self.size = 0
        self.fetched: dict[str, str] = {}  # what came from elsewhere: address -> "sha256:…", or a commit as "sha1:…"
        self._tree: Tree | None = None
        self._kept: list[Tree] = []
        self._lock = asyncio.Lock()
        self._archives = 0
        self._source: AsyncIterator[bytes] | None = None
        self._lender: Callable[[], Awaitable[Folder]] | None = None
        self._borrowed: Folder | None = None

    def begin(self) -> None:
        """Make the folder."""
        os.mkdir(self.path, 0o700)

    def fetch_later(self, tar: AsyncIterator[bytes]) -> None:
        """A context that is asked for when the first step needs it."""
        self.begin()
        self._source = tar

    def borrow_later(self, lender: Callable[[], Awaitable[Folder]]) -> None:
        """The same for a folder that is kept from build to build."""
        self.begin()
        self._lender = lender

    def adopt(self, tree: Tree) -> None:
        """The context is what lies there already."""
        self._tree = tree
        self._kept.remove(tree)

    def adopt_archive(self, descriptor: int) -> None:
        """The context is an archive that lies below `path` already."""
        os.rename(os.readlink(f"/proc/self/fd/{descriptor}"), f"{self.path}/context.tar")
        self.size = os.fstat(descriptor).st_size

    def is_empty(self) -> None:
        """A Dockerfile has come alone."""
        self._tree = Tree(os.open(self._made("nothing"), os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC), True)

    def _made(self, name: str) -> str:
        os.mkdir(f"{self.path}/{name}", 0o755)
        return f"{self.path}/{name}"

    def keep(self, tree: Tree) -> None:
        """A tree below `path`, closed with the context."""
        self._kept.append(tree)

    async def receive(self, tar: AsyncIterator[bytes]) -> None:
        """Write the request's body to the disk. Raises NoDockerfile when it is empty."""
        self.begin()
        await self._write(tar)
        if not self.size:
            raise NoDockerfile("Dockerfile")

    async def _write(self, tar: AsyncIterator[bytes]) -> None:
        descriptor = os.open(f"{self.path}/context.tar", os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        try:
            async for piece in tar:
                view = memoryview(piece)
                while view:
                    view = view[os.write(descriptor, view):]
                self.size += len(piece)
        finally:
            os.close(descriptor)

    async def early_dockerfile(self, name: str) -> bytes | None:
        """The Dockerfile, when it can be had without unpacking: a small tar, not compressed, nothing odd in it."""
        wanted = os.fsencode(os.path.normpath(name or "Dockerfile").lstrip("/"))
        if self.size > _SMALL or self._tree is not None:
            return None
        descriptor = os.open(f"{self.path}/context.tar", os.O_RDONLY | os.O_CLOEXEC)
        try:
            if compression_of(os.pread(descriptor, 6, 0)):
                return None
            return _find(descriptor, wanted)
        finally:
            os.close(descriptor)

    async def tree(self) -> Tree:
        """The unpacked context. Raises InvalidArgument when the tar is malformed."""
        async with self._lock:
            if self._tree is None and self._lender is not None:
                self._borrowed = await self._lender()
                self._tree = self._borrowed.tree
            if self._tree is None:
                if self._source is not None:
                    await self._write(self._source)
                descriptor = os.open(f"{self.path}/context.tar", os.O_RDONLY | os.O_CLOEXEC)
                try:
                    self._tree = Tree(await self._unpack(descriptor, "context"), True)
                except InvalidArgument as error:
                    raise InvalidArgument(f"Error processing tar file(exit status 1): {error}") from None
                finally:
                    os.close(descriptor)
                os.unlink(f"{self.path}/context.tar")
            return self._tree

    async def archive(self, descriptor: int) -> int | None:
        """An archive that ADD found: unpacked next to the context, or None when it is no archive."""
        head = os.pread(descriptor, 512, 0)
        if not compression_of(head[:6]) and head[257:262] != b"ustar":
            return None
        self._archives += 1
        try:
            return await self._unpack(descriptor, f"archive-{self._archives}")
        except InvalidArgument as error:
            nothing = not os.listdir(f"{self.path}/archive-{self._archives}")
            if compression_of(head[:6]) and nothing and not str(error).startswith("invalid tar member"):
                return None  # not what its first bytes say, or no tar inside: ADD copies it as it is
            raise

    async def _unpack(self, descriptor: int, name: str) -> int:
        self._made(name)
        bound = min(unpack.LIMIT_BYTES, (os.fstat(descriptor).st_size << 10) + (1 << 30))
        job = {"descriptor": descriptor, "folder": name, "limit_bytes": bound, "limit_entries": unpack.LIMIT_ENTRIES,
               "whiteouts": False}
        question = {"root": self.path, "jobs": [job], "cpu_seconds": int(_TIMEOUT_S),
                    "memory_bytes": unpack.MEMORY_BYTES}
        await worker.ask("corten.image.unpack_worker", question, [descriptor], _TIMEOUT_S)
        return os.open(f"{self.path}/{name}", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)

    async def close(self) -> None:
        """Away with it all. Safe to repeat, and at the same time."""
        tree, self._tree = self._tree, None
        borrowed, self._borrowed = self._borrowed, None
        if borrowed is not None:
            await borrowed.release()
        elif tree is not None:
            self._kept.append(tree)
        while self._kept:
            self._kept.pop().close()
        try:
            os.rename(self.path, f"{self.path}-dead")
        except FileNotFoundError:
            return
        await asyncio.to_thread(remove_tree, f"{self.path}-dead")


def _find(descriptor: int, wanted: bytes) -> bytes | None:
    """The content of a regular member; None when it is not there once and plainly (the worker then judges)."""
    found: bytes | None = None
    try:
        reader = Reader(MapSource(descriptor))
        for entry in reader:
            name = entry.name[2:] if entry.name.startswith(b"./") else entry.name
            if name == wanted or wanted.startswith(name.rstrip(b"/") + b"/"):
                if entry.kind != REGULAR or found is not None or not 0 < entry.size <= DOCKERFILE_LIMIT:
                    return None
                found = bytes(reader.read(entry.size))
    except (BadArchive, OSError, ValueError):
        return None
    return found
