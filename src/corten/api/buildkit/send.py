"""What a build yields, sent to the client by its session: one file as a stream of pieces, or a folder as packets.

The client takes a folder by the protocol it sends its own by (files.py), with the roles exchanged.
Source: moby/buildkit session/filesync, tonistiigi/fsutil send.go.
"""

import asyncio
import heapq
import os
import stat
from collections.abc import AsyncIterator, Iterator
from typing import Any

from grpclib.const import Cardinality

from corten.api.buildkit.files import DATA, ERR, FIN, REQ, STAT
from corten.api.buildkit.sessions import Session
from corten.base.errors import InvalidArgument, Unsupported
from corten.build.buildkit.messages import MESSAGES, new
from corten.build.files import walk
from corten.engine.build_export import Part
from corten.image.rootfs_view import go_mode
from corten.linux.path import RESOLVE_BENEATH, RESOLVE_NO_SYMLINKS, openat2

_PATH = "/moby.filesync.v1.FileSend/DiffCopy"
_EXPORTER = "buildkit-attachable-exporter-id"
_PIECE_BYTES = 1 << 20


async def send_file(session: Session, exporter: int, pieces: AsyncIterator[bytes], described: dict[str, str]) -> None:
    """The pieces become the file (or the standard output) the client named for exporter number `exporter`.

    Raises Unsupported when the client takes nothing, GRPCError with its reason.
    """
    metadata = [(_EXPORTER, str(exporter)), *((f"exporter-md-{name}", value) for name, value in described.items())]
    kind = MESSAGES["BytesMessage"]
    async with _open(session, kind, metadata) as stream:
        await stream.send_request()
        async for piece in pieces:
            view = memoryview(piece)
            while view:
                await stream.send_message(kind(data=bytes(view[:_PIECE_BYTES])))
                view = view[_PIECE_BYTES:]
        await stream.end()
        await stream.recv_message()  # the client has written it all


async def send_tree(session: Session, exporter: int, parts: list[Part], time_ns: int | None) -> None:
    """The parts go into the client's folder; `time_ns`: the time all files are given.

    Raises Unsupported, InvalidArgument with the client's text.
    """
    async with _open(session, MESSAGES["Packet"], [(_EXPORTER, str(exporter))]) as stream:
        await stream.send_request()
        places: list[tuple[Part, str]] = []
        entries = _told(parts, time_ns)
        while some := await asyncio.to_thread(_some, entries):
            for part, path, entry in some:
                places.append((part, path))
                await stream.send_message(new("Packet", type=STAT, stat=entry))
        await stream.send_message(new("Packet", type=STAT))
        while (packet := await stream.recv_message()) is not None and packet.type != FIN:
            if packet.type == ERR:
                raise InvalidArgument(f"error from receiver: {packet.data.decode('utf-8', 'replace')}")
            if packet.type != REQ or not 0 <= packet.ID < len(places):
                raise InvalidArgument("the client asked for what it was not told of")
            await _send_content(stream, packet.ID, *places[packet.ID])
        await stream.send_message(new("Packet", type=FIN), end=True)
        await stream.recv_message()


def _open(session: Session, kind: Any, metadata: list[tuple[str, str]]) -> Any:
    if _PATH not in session.methods:
        raise Unsupported("the client takes no files: it does not offer moby.filesync.v1.FileSend")
    return session.channel.request(_PATH, Cardinality.STREAM_STREAM, kind, kind, metadata=metadata)


async def _send_content(stream: Any, number: int, part: Part, path: str) -> None:
    if path in part.files:
        if part.files[path]:
            await stream.send_message(new("Packet", type=DATA, ID=number, data=part.files[path]))
        await stream.send_message(new("Packet", type=DATA, ID=number))
        return
    root = part.root
    descriptor = openat2(root, path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK, RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS)
    try:
        while piece := await asyncio.to_thread(os.read, descriptor, _PIECE_BYTES):
            await stream.send_message(new("Packet", type=DATA, ID=number, data=piece))
    finally:
        os.close(descriptor)
    await stream.send_message(new("Packet", type=DATA, ID=number))


def _told(parts: list[Part], time_ns: int | None) -> Iterator[tuple[Part, str, Any]]:
    """(part, path in it, the Stat the client is told) of all parts, which are in order."""
    for part in parts:
        if part.folder:
            yield part, "", new("Stat", path=part.folder, mode=go_mode(stat.S_IFDIR | 0o755), modTime=time_ns or 0)
        for path, entry in _with_files(part, time_ns):
            yield part, path, entry


def _with_files(part: Part, time_ns: int | None) -> Iterator[tuple[str, Any]]:
    prefix = f"{part.folder}/" if part.folder else ""
    mode = go_mode(stat.S_IFREG | 0o600)
    added = [(name, new("Stat", path=prefix + name, mode=mode, size=len(data), modTime=time_ns or 0))
             for name, data in sorted(part.files.items())]
    entries = (pair for pair in _entries(part.root, time_ns, prefix) if pair[0] not in part.files)
    yield from heapq.merge(entries, added, key=lambda pair: pair[0].split("/"))


def _some(entries: Iterator[Any]) -> list[Any]:
    return [entry for entry, _ in zip(entries, range(1000), strict=False)]


def _entries(root: int, time_ns: int | None, prefix: str) -> Iterator[tuple[str, Any]]:
    """Each path and its Stat, where names begin with `prefix`, in the protocol's order.

    Raises InvalidArgument for names no client can be told.
    """
    links: dict[tuple[int, int], str] = {}
    for path in walk(root, lambda: None):
        if not path.isprintable() and any("\udc80" <= char <= "\udcff" for char in path):
            raise InvalidArgument(f"{path!r}: the name is not UTF-8, and cannot be sent to the client")
        folder, _, name = path.rpartition("/")
        parent = openat2(root, folder or ".", os.O_PATH | os.O_DIRECTORY, RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS)
        try:
            found = os.stat(name, dir_fd=parent, follow_symlinks=False)
            link = os.readlink(name, dir_fd=parent) if stat.S_ISLNK(found.st_mode) else ""
        finally:
            os.close(parent)
        if stat.S_ISSOCK(found.st_mode):
            continue
        if stat.S_ISREG(found.st_mode) and found.st_nlink > 1:
            link = links.setdefault((found.st_dev, found.st_ino), path)
            link = "" if link == path else prefix + link
        yield path, new("Stat", path=prefix + path, mode=go_mode(found.st_mode), uid=found.st_uid, gid=found.st_gid,
                  size=found.st_size if stat.S_ISREG(found.st_mode) and not link else 0,
                  modTime=found.st_mtime_ns if time_ns is None else time_ns, linkname=link,
                  devmajor=os.major(found.st_rdev), devminor=os.minor(found.st_rdev))
