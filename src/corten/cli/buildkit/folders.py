"""The user's folders, sent to the engine that asks for them: a list first, then what it wants of the content.

A tree that the engine knows already costs one pass of stat calls here. Nothing outside the named folders is sent, and
no link leads out of them. The protocol: api/buildkit/files.py has its other side. Source: tonistiigi/fsutil send.go.
"""

import os
import stat
import urllib.parse
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from grpclib.const import Status
from grpclib.exceptions import GRPCError

from corten.base.errors import InvalidArgument
from corten.build.buildkit.connection import has_input, send_many
from corten.build.buildkit.messages import MESSAGES, new
from corten.build.dockerignore import Ignore

STAT, REQ, DATA, FIN, ERR = range(5)
_BATCH, _PIECE_BYTES, _HELD_BYTES = 500, 1 << 19, 1 << 20
_LINKS = 40
_KINDS = {stat.S_IFDIR: 1 << 31, stat.S_IFLNK: 1 << 27, stat.S_IFIFO: 1 << 25, stat.S_IFBLK: 1 << 26,
          stat.S_IFCHR: 1 << 26 | 1 << 21, stat.S_IFREG: 0}
_SPECIAL = ((stat.S_ISUID, 1 << 23), (stat.S_ISGID, 1 << 22), (stat.S_ISVTX, 1 << 20))


def go_mode(mode: int) -> int | None:
    """st_mode as io/fs.FileMode; None for what is not sent (sockets)."""
    kind = _KINDS.get(stat.S_IFMT(mode))
    return None if kind is None else kind | mode & 0o777 | sum(go for bit, go in _SPECIAL if mode & bit)


class _Listing:
    """Entries of one folder in the protocol's order; `paths` by number, for what is asked of them."""

    def __init__(self, root: str, ignore: Ignore | None) -> None:
        self._root, self._ignore = root, ignore
        self._links: dict[tuple[int, int], str] = {}
        self._taken_back: set[str] = set()
        self.paths: list[str] = []

    def walk(self) -> Iterator[Any]:
        """A Stat for each entry that is not left out."""
        yield from self._below("", [])

    def _below(self, prefix: str, above: list[tuple[str, os.stat_result]]) -> Iterator[Any]:
        """above: folders that are left out themselves, and are sent only when something in them is not."""
        with os.scandir(f"{self._root}/{prefix}") as scan:
            entries = sorted(scan, key=lambda entry: entry.name)
        for entry in entries:
            path = f"{prefix}{entry.name}"
            try:
                found = entry.stat(follow_symlinks=False)
            except FileNotFoundError:
                continue
            folder = stat.S_ISDIR(found.st_mode)
            ignore = self._ignore
            if ignore is not None and ignore.excludes(path):
                if not ignore.leaves_out(path, folder):
                    yield from self._below(f"{path}/", [*above, (path, found)])
                continue
            for parent, status in above:
                if parent not in self._taken_back:
                    self._taken_back.add(parent)
                    yield from self.entry(parent, status)
            yield from self.entry(path, found)
            if folder:
                yield from self._below(f"{path}/", [])

    def entry(self, path: str, found: os.stat_result) -> Iterator[Any]:
        """One entry, none for a socket. Raises GRPCError for a name that the protocol cannot carry."""
        mode = go_mode(found.st_mode)
        if mode is None:
            return
        try:
            path.encode()
        except UnicodeEncodeError:
            raise GRPCError(Status.INVALID_ARGUMENT, f"{path!r}: the name is not UTF-8") from None
        full = f"{self._root}/{path}"
        link, size = "", 0
        if stat.S_ISLNK(found.st_mode):
            link = os.readlink(full)
        elif stat.S_ISREG(found.st_mode):
            size = found.st_size
            if found.st_nlink > 1:
                first = self._links.setdefault((found.st_dev, found.st_ino), path)
                link, size = ("", size) if first == path else (first, 0)
        made = new("Stat", path=path, mode=mode, size=size, modTime=found.st_mtime_ns, linkname=link)
        if mode & 1 << 26:
            made.devmajor, made.devminor = os.major(found.st_rdev), os.minor(found.st_rdev)
        for name, value in _attributes(full).items():
            made.xattrs[name] = value
        self.paths.append(path)
        yield made

    def follow(self, wanted: Sequence[str]) -> Iterator[Any]:
        """The entries that these paths lead to, and the links on the way, as if the folder were `/`."""
        found: dict[str, os.stat_result] = {}
        for path in wanted:
            self._follow(path, found)
        for path in sorted(found, key=lambda path: path.split("/")):
            yield from self.entry(path, found[path])

    def _follow(self, path: str, found: dict[str, os.stat_result]) -> None:
        todo, at, links = path.split("/")[::-1], "", 0
        while todo:
            name = todo.pop()
            if name in ("", "."):
                continue
            if name == "..":
                at = at.rpartition("/")[0]
                continue
            here = f"{at}/{name}" if at else name
            try:
                status = os.lstat(f"{self._root}/{here}")
            except (FileNotFoundError, NotADirectoryError):
                return
            if stat.S_ISLNK(status.st_mode):
                links += 1
                if links > _LINKS:
                    return
                found[here] = status
                target = os.readlink(f"{self._root}/{here}")
                at = "" if target.startswith("/") else at
                todo += target.split("/")[::-1]
                continue
            at = here
        if at:
            found[at] = os.lstat(f"{self._root}/{at}")


def _attributes(path: str) -> dict[str, bytes]:
    try:
        names = os.listxattr(path, follow_symlinks=False)
        return {name: os.getxattr(path, name, follow_symlinks=False) for name in names}
    except OSError:
        return {}


def listed(metadata: Any, name: str) -> list[str]:
    """A repeated value of a call's metadata, decoded where it says that it is encoded."""
    values = [str(value) for value in metadata.getall(name, ())]
    return [urllib.parse.unquote(value) for value in values] if metadata.get(f"{name}-encoded") == "1" else values


async def send_folder(stream: Any, folders: Mapping[str, str]) -> None:
    """FileSync.DiffCopy: answer one call of the engine's, for one of `folders`."""
    name = str(stream.metadata.get("dir-name", ""))
    if name not in folders:
        raise GRPCError(Status.NOT_FOUND, f"no access allowed to dir {name!r}")
    follow, exclude = listed(stream.metadata, "followpaths"), listed(stream.metadata, "exclude-patterns")
    try:
        ignore = Ignore("\n".join(exclude)) if exclude else None
        listing = _Listing(folders[name], ignore)
        await stream.send_initial_metadata()
        await _send_list(stream, listing.follow(follow) if follow else listing.walk())
        await _send_content(stream, folders[name], listing.paths)
    except InvalidArgument as error:
        raise GRPCError(Status.INVALID_ARGUMENT, str(error)) from None
    except OSError as error:
        raise GRPCError(Status.UNKNOWN, f"{error.filename}: {error.strerror}") from None


async def _send_list(stream: Any, entries: Iterator[Any]) -> None:
    kind = MESSAGES["Packet"]
    held = []
    for entry in entries:
        held.append(kind(type=STAT, stat=entry))
        if len(held) >= _BATCH:
            await send_many(stream, held)
            held.clear()
    await send_many(stream, [*held, kind(type=STAT)])


async def _send_content(stream: Any, root: str, paths: Sequence[str]) -> None:
    """What is asked for, until the engine has all it wants. Small files go together."""
    out = _Sending(stream)
    while (packet := await stream.recv_message()) is not None:
        if packet.type == FIN:
            await out.put(new("Packet", type=FIN), 0)
            await out.flush()
            return
        if packet.type == ERR:
            return
        if packet.type != REQ or not 0 <= packet.ID < len(paths):
            raise GRPCError(Status.INVALID_ARGUMENT, "the engine asked for what it was not told of")
        descriptor = os.open(f"{root}/{paths[packet.ID]}", os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
        try:
            while piece := os.read(descriptor, _PIECE_BYTES):
                await out.put(new("Packet", type=DATA, ID=packet.ID, data=piece), len(piece))
        finally:
            os.close(descriptor)
        await out.put(new("Packet", type=DATA, ID=packet.ID), 0)
        if not has_input(stream):
            await out.flush()


class _Sending:
    """Packets on their way, held until there are enough of them."""

    def __init__(self, stream: Any) -> None:
        self._stream = stream
        self._held: list[Any] = []
        self._bytes = 0

    async def put(self, packet: Any, size: int) -> None:
        self._held.append(packet)
        self._bytes += size
        if self._bytes >= _HELD_BYTES:
            await self.flush()

    async def flush(self) -> None:
        if self._held:
            held, self._held, self._bytes = self._held, [], 0
            await send_many(self._stream, held)
