"""What a build yields, taken from the engine: an archive into a file or onto standard output, files into a folder.

The engine's names are claims: nothing is written outside of the folder, no link in it is followed; devices are
left out for who may not make them. Source: tonistiigi/fsutil receive.go.
"""

import os
import stat
from collections.abc import Callable, Sequence
from typing import Any

from grpclib.const import Status
from grpclib.exceptions import GRPCError

from corten.build.buildkit.connection import send_many
from corten.build.buildkit.messages import MESSAGES
from corten.cli.buildkit.asked import Output
from corten.cli.buildkit.folders import DATA, ERR, FIN, REQ, STAT
from corten.cli.whole_file import appearing
from corten.linux.path import RESOLVE_BENEATH, RESOLVE_NO_SYMLINKS, openat2

_EXPORTER = "buildkit-attachable-exporter-id"
_LIMIT_ENTRIES = 1 << 20
_AHEAD = 200
_FOLDER, _LINK, _OTHER = 1 << 31, 1 << 27, 1 << 26 | 1 << 25 | 1 << 24
_SPECIAL = ((1 << 23, stat.S_ISUID), (1 << 22, stat.S_ISGID), (1 << 20, stat.S_ISVTX))
_BENEATH = RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS


async def receive_output(stream: Any, outputs: Sequence[Output], write_out: Callable[[bytes], None]) -> None:
    """FileSend.DiffCopy: one call of the engine's. Messages come as bytes: they are of two kinds."""
    number = str(stream.metadata.get(_EXPORTER, ""))
    output = outputs[int(number)] if number.isascii() and number.isdigit() and int(number) < len(outputs) else None
    if output is None or not (output.file or output.kind == "local"):
        raise GRPCError(Status.NOT_FOUND, f"no output number {number}")
    await stream.send_initial_metadata()
    try:
        if output.file:
            await _archive(stream, output.file, write_out)
        else:
            os.makedirs(output.folder, exist_ok=True)
            await _Receiving(stream, output).run()
    except OSError as error:
        raise GRPCError(Status.UNKNOWN, f"{error.filename or output.folder}: {error.strerror}") from None


async def _archive(stream: Any, path: str, write_out: Callable[[bytes], None]) -> None:
    kind = MESSAGES["BytesMessage"]
    if path == "-":
        while (data := await stream.recv_message()) is not None:
            write_out(kind.FromString(data).data)
        return
    with appearing(path) as file:
        while (data := await stream.recv_message()) is not None:
            file.write(kind.FromString(data).data)


class _Receiving:
    """One tree on its way into a folder."""

    def __init__(self, stream: Any, output: Output) -> None:
        self._stream = stream
        self._packet = MESSAGES["Packet"]
        self._root = os.open(output.folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        self._delete = output.delete
        self._entries: list[Any] = []
        self._open: dict[int, int] = {}
        self._wanted: list[int] = []

    async def run(self) -> None:
        try:
            await self._list()
            if self._delete:
                self._drop_others()
            for number, entry in enumerate(self._entries):
                self._make(number, entry)
            await self._contents()
            for entry in self._entries:
                if entry.linkname and not entry.mode & _LINK:
                    self._link(entry)
            self._finish()
        finally:
            for descriptor in self._open.values():
                os.close(descriptor)
            os.close(self._root)

    async def _next(self) -> Any:
        data = await self._stream.recv_message()
        if data is None:
            raise GRPCError(Status.ABORTED, "the engine ended the transfer of its files")
        packet = self._packet.FromString(data)
        if packet.type == ERR:
            raise GRPCError(Status.UNKNOWN, packet.data.decode("utf-8", "replace"))
        return packet

    async def _list(self) -> None:
        while (packet := await self._next()).HasField("stat"):
            parts = packet.stat.path.split("/")
            if packet.type != STAT or not {"", ".", ".."}.isdisjoint(parts) or "\0" in packet.stat.path:
                raise GRPCError(Status.INVALID_ARGUMENT, f"invalid path {packet.stat.path!r}")
            self._entries.append(packet.stat)
            if len(self._entries) > _LIMIT_ENTRIES:
                raise GRPCError(Status.INVALID_ARGUMENT, f"more than {_LIMIT_ENTRIES} files")

    def _above(self, path: str) -> tuple[int, str]:
        """A descriptor of the folder a path is in, to be closed, and its name there."""
        folder, _, name = path.rpartition("/")
        return openat2(self._root, folder or ".", os.O_PATH | os.O_DIRECTORY, _BENEATH), name

    def _make(self, number: int, entry: Any) -> None:
        above, name = self._above(entry.path)
        try:
            if entry.mode & _FOLDER:
                _make_folder(above, name)
                return
            _clear(above, name)
            if entry.mode & _LINK:
                os.symlink(entry.linkname, name, dir_fd=above)
            elif entry.mode & _OTHER:
                _make_node(above, name, entry)
            elif not entry.linkname:
                self._wanted.append(number)
        finally:
            os.close(above)

    def _link(self, entry: Any) -> None:
        """A further name of a file that is there by now."""
        above, name = self._above(entry.path)
        try:
            source, first = self._above(entry.linkname)
            try:
                os.link(first, name, src_dir_fd=source, dst_dir_fd=above, follow_symlinks=False)
            finally:
                os.close(source)
        finally:
            os.close(above)

    async def _contents(self) -> None:
        """Ask for all files, some of them ahead, and write what comes."""
        waiting = self._wanted[::-1]
        while waiting or self._open:
            asked = []
            while waiting and len(self._open) < _AHEAD:
                number = waiting.pop()
                above, name = self._above(self._entries[number].path)
                try:
                    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
                    self._open[number] = os.open(name, flags, 0o600, dir_fd=above)
                finally:
                    os.close(above)
                asked.append(self._packet(type=REQ, ID=number))
            if asked:
                await send_many(self._stream, asked)
            packet = await self._next()
            if packet.type != DATA or packet.ID not in self._open:
                raise GRPCError(Status.INVALID_ARGUMENT, "the engine sent what was not asked for")
            descriptor = self._open[packet.ID]
            if packet.data:
                _write(descriptor, packet.data)
                continue
            del self._open[packet.ID]
            entry = self._entries[packet.ID]
            os.fchmod(descriptor, _mode(entry))
            os.utime(descriptor, ns=(entry.modTime, entry.modTime))
            os.close(descriptor)
        await send_many(self._stream, [self._packet(type=FIN)])
        await self._stream.recv_message()

    def _finish(self) -> None:
        """Modes and times of folders, the innermost first: what is made in them changes them."""
        for entry in reversed(self._entries):
            above, name = self._above(entry.path)
            try:
                if entry.mode & _FOLDER:
                    descriptor = os.open(name, os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=above)
                    try:
                        os.utime(descriptor, ns=(entry.modTime, entry.modTime))
                        os.fchmod(descriptor, _mode(entry))
                    finally:
                        os.close(descriptor)
                elif entry.mode & _LINK:
                    os.utime(name, ns=(entry.modTime, entry.modTime), dir_fd=above, follow_symlinks=False)
            finally:
                os.close(above)

    def _drop_others(self) -> None:
        """mode=delete: what the engine does not list goes."""
        kept = {entry.path for entry in self._entries}
        for folder, names, files, descriptor in os.fwalk(".", topdown=False, dir_fd=self._root):
            prefix = folder[2:]
            for name in (*names, *files):
                if (f"{prefix}/{name}" if prefix else name) not in kept:
                    _clear(descriptor, name)


def _mode(entry: Any) -> int:
    return int(entry.mode & 0o777 | sum(bit for go, bit in _SPECIAL if entry.mode & go))


def _make_folder(above: int, name: str) -> None:
    try:
        os.mkdir(name, 0o700, dir_fd=above)
    except FileExistsError:
        if not stat.S_ISDIR(os.lstat(name, dir_fd=above).st_mode):
            os.unlink(name, dir_fd=above)
            os.mkdir(name, 0o700, dir_fd=above)


def _make_node(above: int, name: str, entry: Any) -> None:
    if entry.mode & 1 << 24:
        return  # a socket
    kind = stat.S_IFIFO if entry.mode & 1 << 25 else stat.S_IFCHR if entry.mode & 1 << 21 else stat.S_IFBLK
    try:
        os.mknod(name, kind | _mode(entry), os.makedev(entry.devmajor, entry.devminor), dir_fd=above)
    except PermissionError:
        return  # who is not root makes no devices


def _clear(above: int, name: str) -> None:
    """Take away what has the name, a folder with all that is in it."""
    try:
        os.unlink(name, dir_fd=above)
    except FileNotFoundError:
        return
    except (IsADirectoryError, PermissionError):
        from shutil import rmtree

        rmtree(name, dir_fd=above)


def _write(descriptor: int, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(descriptor, view):]
