"""An archive of images on its way in: its members become blobs, whatever their names; names are only looked up.

The outer tar is read as it streams in, on a thread fed by the event loop; a compressed one is inflated by a confined
process first. No member's name is ever a path here. What the archive says is read by load.py.
"""

import asyncio
import contextlib
import posixpath
import queue
from collections.abc import AsyncGenerator, AsyncIterable, AsyncIterator, Iterator

from corten.base.errors import InvalidArgument
from corten.image import worker
from corten.image.ahead import Ahead, Following
from corten.image.content import ContentStore, Lease, Writer
from corten.image.inflate import StreamSource, compression_of
from corten.image.snapshot import Snapshots
from corten.image.tar_reader import HARDLINK, REGULAR, SYMLINK, Entry, Reader
from corten.image.tar_writer import END
from corten.oci.digest import PREFIX, is_digest

KEPT_IN_MEMORY = ("manifest.json", "index.json", "oci-layout", "repositories")
LIMIT_BYTES = 1 << 42
MEMBERS_LIMIT = 100_000
_JSON_LIMIT = 8 << 20
_CHUNK = 1 << 20
_QUEUE = 8  # chunks between the loop and the thread


class Contents:
    """What an archive held: `documents` by name (the few JSON files at its top), `blobs`: member name -> digest."""

    __slots__ = ("blobs", "documents", "links")

    def __init__(self) -> None:
        self.documents: dict[str, bytes] = {}
        self.blobs: dict[str, str] = {}
        self.links: dict[str, str] = {}

    def digest(self, name: str) -> str:
        """The blob a member's name leads to, through the archive's own links. Raises InvalidArgument."""
        at = posixpath.normpath(name)
        for _ in range(10):
            if at in self.blobs:
                return self.blobs[at]
            if at not in self.links:
                break
            at = self.links[at]
        raise InvalidArgument(f"invalid archive: {name[:200]!r} is not in it")


class _Feed:
    """Chunks from the loop to the thread; either end may give up."""

    def __init__(self) -> None:
        self._queue: queue.Queue[bytes | BaseException | None] = queue.Queue(_QUEUE)
        self.stopped = False

    async def put(self, item: bytes | BaseException | None) -> None:
        while not self.stopped:
            try:
                self._queue.put_nowait(item)
                return
            except queue.Full:
                await asyncio.sleep(0.0005)

    def chunks(self) -> Iterator[bytes]:
        while (item := self._queue.get()) is not None:
            if isinstance(item, BaseException):
                raise item
            yield item


async def ingest(content: ContentStore, lease: Lease, body: AsyncIterable[bytes], scratch: str,
                 ahead: Ahead) -> Contents:
    """Read a whole archive into the content store; every blob is held by the lease.

    `scratch`: an empty folder of ours (all that an inflating process sees). Big layers are unpacked `ahead`.
    Raises InvalidArgument, OSError.
    """
    feed = _Feed()
    reading = asyncio.get_running_loop().run_in_executor(None, _read, content, lease, feed, ahead)
    try:
        async with contextlib.aclosing(_inflated(body, scratch)) as chunks:
            async for chunk in chunks:
                if reading.done():
                    break
                await feed.put(chunk)
        await feed.put(None)
    except BaseException as error:
        await feed.put(error if isinstance(error, Exception) else InvalidArgument("the load was given up"))
        await asyncio.wait([reading])
        reading.exception()  # the same, or that it was told to stop
        raise
    return await reading


async def inflate_into(content: ContentStore, lease: Lease, body: AsyncIterable[bytes], snapshots: Snapshots) -> str:
    """One tar, inflated when it is compressed, as a blob under the lease; its digest is a layer's diff id.

    Nothing at all is an empty tar, as docker has it.
    """
    scratch = snapshots.stage()
    try:
        with content.writer() as writer:
            async with contextlib.aclosing(_inflated(body, scratch)) as chunks:
                async for chunk in chunks:
                    writer.write(chunk)
            if writer.offset == 0:
                writer.write(END)
            lease.add(writer.digest)
            return writer.commit()
    finally:
        snapshots.discard(scratch)


async def _inflated(body: AsyncIterable[bytes], scratch: str) -> AsyncGenerator[bytes, None]:
    """The archive's bytes; the first ones tell whether a process must inflate them."""
    chunks = aiter(body)
    head = b""
    while len(head) < 6 and (piece := await anext(chunks, b"")):
        head += piece
    kind = compression_of(head)
    if not kind:
        pieces, size = [head], len(head)
        async for piece in chunks:  # small pieces cost a wake-up each
            pieces.append(piece)
            size += len(piece)
            if size >= _CHUNK:
                yield b"".join(pieces)
                pieces, size = [], 0
        yield b"".join(pieces)
        return
    process = await asyncio.create_subprocess_exec(
        *worker.command("corten.image.inflate_worker"), stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE, env={}, cwd="/",
    )
    assert process.stdin and process.stdout and process.stderr
    feeding = asyncio.ensure_future(_feed_process(process.stdin, kind, scratch, head, chunks))
    try:
        while piece := await process.stdout.read(_CHUNK):
            yield piece
        complaint = (await process.stderr.read(65536)).decode(errors="replace").strip().rsplit("\n", 1)[-1]
        await feeding
        if await process.wait():
            raise InvalidArgument(f"cannot inflate the archive: {complaint.rpartition(': ')[2]}")
    finally:
        feeding.cancel()
        if process.returncode is None:
            process.kill()
            await process.wait()


async def _feed_process(stdin: asyncio.StreamWriter, kind: str, scratch: str, head: bytes,
                        chunks: AsyncIterator[bytes]) -> None:
    try:
        stdin.write(f"{kind}\0{scratch}\0{LIMIT_BYTES}\n".encode() + head)
        async for piece in chunks:
            stdin.write(piece)
            await stdin.drain()
    except (BrokenPipeError, ConnectionResetError):
        return  # it has complained already
    finally:
        stdin.close()


def _read(content: ContentStore, lease: Lease, feed: _Feed, ahead: Ahead) -> Contents:
    """The thread: members out of the stream, blobs into the store."""
    source = StreamSource(feed.chunks(), LIMIT_BYTES, hashed=False)
    contents = Contents()
    try:
        reader = Reader(source)
        for count, entry in enumerate(reader):
            if count > MEMBERS_LIMIT:
                raise InvalidArgument("invalid archive: too many members")
            _member(content, lease, contents, reader, source, entry, ahead)
        source.finish()
        return contents
    finally:
        feed.stopped = True


def _member(content: ContentStore, lease: Lease, contents: Contents, reader: Reader, source: StreamSource,
            entry: Entry, ahead: Ahead) -> None:
    name = posixpath.normpath(entry.name.decode("utf-8", "surrogateescape"))
    if entry.kind in (SYMLINK, HARDLINK):
        target = entry.link.decode("utf-8", "surrogateescape")
        base = posixpath.dirname(name) if entry.kind == SYMLINK else ""
        contents.links[name] = posixpath.normpath(posixpath.join(base, target))
        return
    if entry.kind != REGULAR:
        return
    if name in KEPT_IN_MEMORY:
        if entry.size > _JSON_LIMIT:
            raise InvalidArgument(f"invalid archive: {name} is longer than {_JSON_LIMIT} bytes")
        contents.documents[name] = bytes(reader.read(entry.size))
        return
    promised = PREFIX + name.removeprefix("blobs/sha256/") if name.startswith("blobs/sha256/") else ""
    if is_digest(promised):
        lease.add(promised)
        if content.has(promised):
            contents.blobs[name] = promised
            return
    with content.writer(promised if is_digest(promised) else None, entry.size) as writer:
        following = ahead.follow(writer, entry.size)
        digest = ""
        try:
            _pour(reader, source, writer, entry.size, following)
            lease.add(writer.digest)  # held before it is there
            digest = contents.blobs[name] = writer.commit()
        finally:
            if following:
                following.end(digest)


def _pour(reader: Reader, source: StreamSource, writer: Writer, left: int, following: Following | None) -> None:
    while left:
        piece = source.some(left)
        if not piece:
            raise InvalidArgument("unexpected end of the archive: a member is shorter than its header says")
        writer.write(piece)
        reader.taken(len(piece))
        left -= len(piece)
        if following:
            following.grown()
