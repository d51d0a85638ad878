"""Files of the client, by its session: a folder comes as packets and leaves here as a tar, for the confined worker.

The protocol: the client sends a STAT for each entry in order, an empty one at the end; the receiver asks with REQ for
entry N's content and gets DATA packets, an empty one at the end; FIN on both sides. Names and sizes are claims: the tar
goes through the same reader and confined worker as any other. Source: tonistiigi/fsutil send.go, receive.go.
"""

import posixpath
import stat
import urllib.parse
from collections.abc import AsyncGenerator, AsyncIterator, Collection, Sequence
from contextlib import asynccontextmanager
from typing import Any

from grpclib.const import Cardinality

from corten.api.buildkit.sessions import Session
from corten.base.errors import InvalidArgument
from corten.build.buildkit.connection import Inbox, send_many
from corten.build.buildkit.messages import MESSAGES, new
from corten.build.context import DOCKERFILE_LIMIT
from corten.image.tar_reader import BLOCK_DEVICE, CHAR, DIRECTORY, FIFO, HARDLINK, REGULAR, SYMLINK
from corten.image.tar_writer import END, header, padding

STAT, REQ, DATA, FIN, ERR = range(5)
_LIMIT_ENTRIES = 1 << 20
_AHEAD_BYTES, _AHEAD_FILES = 8 << 20, 2000
_PIECE_BYTES = 1 << 18  # of the tar that is made
_MOST_DEVICE = 0o7777777  # a number that ustar has room for
_LINKS = 8
# io/fs.FileMode of Go: the bits above the permissions
_GO_FOLDER, _GO_LINK, _GO_DEVICE = 1 << 31, 1 << 27, 1 << 26
_GO_FIFO, _GO_SOCKET, _GO_CHARACTER = 1 << 25, 1 << 24, 1 << 21
_GO_KIND = _GO_FOLDER | _GO_LINK | _GO_DEVICE | _GO_FIFO | _GO_SOCKET | _GO_CHARACTER
_GO_SPECIAL = ((1 << 23, stat.S_ISUID), (1 << 22, stat.S_ISGID), (1 << 20, stat.S_ISVTX))
_PATH = "/moby.filesync.v1.FileSync/DiffCopy"


async def receive(session: Session, folder: str, *, exclude: Sequence[str] = ()) -> AsyncGenerator[bytes]:
    """The client's folder `folder` ("context", "dockerfile" …) as a tar; nothing of `exclude`.

    Raises InvalidArgument with the client's text.
    """
    async with listed(session, folder, exclude) as listing:
        async for piece in listing.tar(None, ()):
            yield piece


@asynccontextmanager
async def listed(session: Session, folder: str, exclude: Sequence[str] = ()) -> AsyncIterator["FolderListing"]:
    """The list of the client's folder, from which content may be asked until the block ends. Raises InvalidArgument."""
    metadata = [("dir-name", folder), *_values("exclude-patterns", exclude)]
    packet = MESSAGES["Packet"]
    async with session.channel.request(_PATH, Cardinality.STREAM_STREAM, packet, packet, metadata=metadata) as stream:
        await stream.send_request()
        transfer = _Transfer(stream)
        await transfer.read_list()
        yield FolderListing(transfer)
        await transfer.finish()


class FolderListing:
    """A client's folder: `entries` by path (what tells one state from another), and their content as a tar."""

    def __init__(self, transfer: "_Transfer") -> None:
        self._transfer = transfer
        self.entries: dict[str, bytes] = {}
        self.whole = False
        for entry in transfer.entries:
            self.entries[entry.path] = entry.SerializeToString(deterministic=True)
            linked = bool(entry.linkname) and not entry.mode & _GO_KIND
            self.whole = self.whole or linked or entry.path.rpartition("/")[2].startswith(".wh.")

    async def tar(self, paths: Collection[str] | None, gone: Collection[str]) -> AsyncGenerator[bytes]:
        """The entries (None: all) as a tar, with whiteouts for what is gone. Raises InvalidArgument."""
        transfer = self._transfer
        chosen = [number for number, entry in enumerate(transfer.entries) if paths is None or entry.path in paths]
        transfer.want(chosen)
        held = bytearray()
        for path in gone:
            above, _, name = path.rpartition("/")
            held += header((f"{above}/.wh.{name}" if above else f".wh.{name}").encode(), REGULAR, 0)
        for number in chosen:
            entry = transfer.entries[number]
            held += _header(entry)
            if _is_file(entry):
                async for piece in transfer.content(number):
                    held += piece
                    if len(held) >= _PIECE_BYTES:
                        yield bytes(held)
                        held.clear()
                held += padding(entry.size)
            if len(held) >= _PIECE_BYTES:
                yield bytes(held)
                held.clear()
        yield bytes(held) + END


async def read_file(session: Session, folder: str, name: str) -> bytes | None:
    """The content of one file of the client's folder, links followed; None when it has none. Raises InvalidArgument."""
    metadata = [("dir-name", folder), *_values("followpaths", [name])]
    packet = MESSAGES["Packet"]
    async with session.channel.request(_PATH, Cardinality.STREAM_STREAM, packet, packet, metadata=metadata) as stream:
        await stream.send_request()
        transfer = _Transfer(stream)
        await transfer.read_list()
        number = transfer.find(name)
        content = None
        if number is not None:
            transfer.only(number)
            content = b"".join([piece async for piece in transfer.content(number)])
        await transfer.finish()
    return content


def _values(name: str, values: Sequence[str]) -> list[tuple[str, str]]:
    if all(value.isascii() and value.isprintable() for value in values):
        return [(name, value) for value in values]
    return [(f"{name}-encoded", "1"), *((name, urllib.parse.quote(value)) for value in values)]


class _Transfer:
    """One DiffCopy under way."""

    def __init__(self, stream: Any) -> None:
        self._stream, self._inbox = stream, Inbox(stream, MESSAGES["Packet"])
        self.entries: list[Any] = []
        self._wanted: list[int] = []  # regular files not asked for yet, the next one last
        self._asked: dict[int, int] = {}  # bytes that are to come, by entry
        self._ahead_bytes = 0  # all of them
        self._held: dict[int, list[bytes]] = {}
        self._ended: set[int] = set()

    async def _next(self) -> Any:
        packet = await self._inbox.next()
        if packet is None:
            raise InvalidArgument("the client ended the transfer of its files")
        if packet.type == ERR:
            raise InvalidArgument(f"error from sender: {packet.data.decode('utf-8', 'replace')}")
        return packet

    async def read_list(self) -> None:
        """All entries, before any content."""
        while True:
            packet = await self._next()
            if packet.type != STAT:
                raise InvalidArgument("the client sent content before the list of its files")
            if not packet.HasField("stat"):
                break
            self.entries.append(packet.stat)
            if len(self.entries) > _LIMIT_ENTRIES:
                raise InvalidArgument(f"more than {_LIMIT_ENTRIES} files")

    def want(self, numbers: Sequence[int]) -> None:
        """Whose content is to be asked for, in this order."""
        self._wanted = [number for number in reversed(numbers) if _is_file(self.entries[number])]

    def find(self, name: str) -> int | None:
        """The regular file that `name` leads to, by links of files and of folders."""
        known = {posixpath.normpath(entry.path): number for number, entry in enumerate(self.entries)}
        todo, at, links = name.split("/")[::-1], "", 0
        while todo:
            part = todo.pop()
            path = posixpath.normpath(posixpath.join("/", at, part)).lstrip("/")
            number = known.get(path)
            if number is not None and self.entries[number].mode & _GO_LINK:
                links += 1
                if links > _LINKS:
                    return None
                target = self.entries[number].linkname
                at = "" if target.startswith("/") else at
                todo += target.split("/")[::-1]
                continue
            at = path
        number = known.get(at)
        return number if number is not None and _is_file(self.entries[number]) else None

    def only(self, number: int) -> None:
        """Ask for this one file. Raises InvalidArgument when it is too large for a Dockerfile."""
        if self.entries[number].size > DOCKERFILE_LIMIT:
            raise InvalidArgument(f"{self.entries[number].path}: larger than {DOCKERFILE_LIMIT} bytes")
        self._wanted = [number]

    async def _ask_ahead(self) -> None:
        """Ask for the next files in one piece, once half of what was asked for ahead has come."""
        if not self._wanted:
            return
        if self._asked and (self._ahead_bytes > _AHEAD_BYTES // 2 or len(self._asked) > _AHEAD_FILES // 2):
            return
        asked = []
        while self._wanted and len(self._asked) < _AHEAD_FILES:
            if self._asked and self._ahead_bytes >= _AHEAD_BYTES:
                break
            number = self._wanted.pop()
            self._asked[number] = self.entries[number].size
            self._ahead_bytes += self._asked[number]
            self._held[number] = []
            asked.append(new("Packet", type=REQ, ID=number))
        if asked:
            await send_many(self._stream, asked)

    async def content(self, number: int) -> AsyncIterator[bytes]:
        """The pieces of a regular file, exactly as many bytes as its entry says."""
        await self._ask_ahead()
        left = self.entries[number].size
        while True:
            pieces, self._held[number] = self._held[number], []
            for piece in pieces:
                left -= len(piece)
                if left < 0:
                    break
                yield piece
            if number in self._ended or left < 0:
                break
            await self._take()
        if left:
            raise InvalidArgument(f"{self.entries[number].path}: the file changed while it was sent")
        del self._held[number]
        self._ended.discard(number)

    async def _take(self) -> None:
        packet = await self._next()
        number = packet.ID
        if packet.type != DATA or number not in self._asked:
            raise InvalidArgument("the client sent what was not asked for")
        if packet.data:
            self._held[number].append(packet.data)
            return
        self._ended.add(number)
        self._ahead_bytes -= self._asked.pop(number)
        await self._ask_ahead()

    async def finish(self) -> None:
        """FIN on both sides."""
        await self._stream.send_message(new("Packet", type=FIN), end=True)  # an open half would be reset by Go's server
        while (packet := await self._inbox.next()) is not None and packet.type != FIN:
            if packet.type == ERR:
                raise InvalidArgument(f"error from sender: {packet.data.decode('utf-8', 'replace')}")


def _is_file(entry: Any) -> bool:
    return not entry.mode & _GO_KIND and not entry.linkname


def _header(entry: Any) -> bytes:
    """A tar header of an entry; nothing for what a context cannot hold (sockets). Raises InvalidArgument."""
    device = entry.devmajor, entry.devminor
    if min(entry.uid, entry.gid, entry.size, *device) < 0 or max(device) > _MOST_DEVICE:
        raise InvalidArgument(f"{entry.path}: invalid size, owner or device")
    go = entry.mode & _GO_KIND
    if go & _GO_SOCKET:
        return b""
    kind = HARDLINK if entry.linkname else REGULAR
    if go & _GO_FOLDER:
        kind = DIRECTORY
    elif go & _GO_LINK:
        kind = SYMLINK
    elif go & _GO_FIFO:
        kind = FIFO
    elif go & _GO_DEVICE:
        kind = CHAR if go & _GO_CHARACTER else BLOCK_DEVICE
    mode = entry.mode & 0o777 | sum(bit for bits, bit in _GO_SPECIAL if entry.mode & bits)
    return header(
        entry.path.encode(), kind, mode, entry.uid, entry.gid, entry.size if kind == REGULAR else 0, entry.modTime,
        entry.linkname.encode(), *device,
        {name.encode(): value for name, value in entry.xattrs.items()} if entry.xattrs else None)
