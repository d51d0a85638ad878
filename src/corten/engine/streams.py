"""Bytes between an API connection and the file descriptors of a process, without ever blocking the loop.

What a connection is, how to wait for a descriptor, the detach keys, and `run_duplex` for exec. Container output is
not read here: it comes from the log file (follow.py).
"""

import array
import asyncio
import fcntl
import os
import termios
from collections.abc import Coroutine
from typing import Any, NamedTuple, Protocol

from corten.base.detach_keys import DEFAULT, Scanner, key_byte
from corten.base.errors import InvalidArgument

CHUNK_BYTES = 256 << 10
PIPE_BYTES = 1 << 20
STDOUT, STDERR = 1, 2
EXIT_DRAIN_S = 2.0  # of silence: a left-behind child may still hold the output open after the process itself has ended


class FileSpan(NamedTuple):
    """A part of a regular file, sent by sendfile(2): the file need not be read into memory."""

    fd: int
    offset: int
    size: int


class PipeSpan(NamedTuple):
    """Bytes a pipe is known to hold, moved to the client by splice(2)."""

    fd: int
    size: int


class Connection(Protocol):
    """A raw connection after the hijack; corten.api.stream has the real one."""

    async def read(self, limit: int = CHUNK_BYTES) -> bytes: ...
    async def write(self, data: bytes | memoryview) -> None: ...
    async def sendfile(self, fd: int, offset: int, count: int) -> None: ...
    async def splice_from(self, pipe: int, count: int) -> None: ...
    async def splice_to(self, pipe: int) -> int: ...
    def hung_up(self) -> "asyncio.Future[None]": ...
    def write_eof(self) -> None: ...
    def close(self) -> None: ...
    def fileno(self) -> int: ...


# --- waiting


def _wake(future: "asyncio.Future[None]") -> None:
    if not future.done():
        future.set_result(None)


async def wait_readable(fd: int) -> None:
    """Sleep until `fd` has something to read or is at its end. One waiter a descriptor."""
    loop = asyncio.get_running_loop()
    future = loop.create_future()
    loop.add_reader(fd, _wake, future)
    try:
        await future
    finally:
        loop.remove_reader(fd)


async def wait_writable(fd: int) -> None:
    """Sleep until `fd` takes something or its reader is gone. One waiter a descriptor."""
    loop = asyncio.get_running_loop()
    future = loop.create_future()
    loop.add_writer(fd, _wake, future)
    try:
        await future
    finally:
        loop.remove_writer(fd)


async def read_fd(fd: int, limit: int = CHUNK_BYTES) -> bytes:
    """The next bytes of a non-blocking pipe or terminal; b"" at its end (a terminal's end is EIO)."""
    while True:
        try:
            return os.read(fd, limit)
        except BlockingIOError:
            await wait_readable(fd)
        except OSError:
            return b""


async def write_fd(fd: int, data: bytes) -> bool:
    """Write all of `data` to a non-blocking pipe or terminal; False when its reader is gone."""
    view = memoryview(data)
    while view:
        try:
            view = view[os.write(fd, view):]
        except BlockingIOError:
            await wait_writable(fd)
        except OSError:
            return False
    return True


def grow_pipe(fd: int) -> None:
    """Give a pipe a 1 MiB buffer; anything else, or a user over the system's pipe limit, stays as it is. fcntl(2)."""
    try:
        fcntl.fcntl(fd, fcntl.F_SETPIPE_SZ, PIPE_BYTES)
    except OSError:
        pass


def waiting_bytes(fd: int) -> int:
    """How much a pipe holds. ioctl(2) FIONREAD."""
    count = array.array("i", (0,))
    fcntl.ioctl(fd, termios.FIONREAD, count)
    return count[0]


# --- frames


def frame_header(stream: int, size: int) -> bytes:
    """The 8 bytes before each piece of a multiplexed stream: stream, three zeros, size (big endian)."""
    return bytes((stream, 0, 0, 0)) + size.to_bytes(4, "big")


# --- detach keys


def parse_detach_keys(text: str) -> bytes:
    """`ctrl-p,ctrl-q` -> b"\\x10\\x11"; empty is the default. Raises InvalidArgument."""
    if not text:
        return DEFAULT
    found = [key_byte(key) for key in text.split(",")]
    if min(found) < 0:
        raise InvalidArgument(f"Invalid detach keys ({text}) provided")
    return bytes(found)


# --- copying


async def copy_input(connection: Connection, fd: int, *, detach_keys: bytes | None) -> bool:
    """From the client to a process's input until the client ends it. True: the user typed the detach keys.

    `detach_keys` None: nothing is looked at, and bytes move socket to pipe inside the kernel where they can.
    """
    scanner = Scanner(detach_keys) if detach_keys else None
    try:
        if scanner is None:
            await _splice_input(connection, fd)
            return False
        while data := await connection.read():
            data, detached = scanner.feed(data)
            if not await write_fd(fd, data):
                break
            if detached:
                return True
    except (ConnectionError, BrokenPipeError):
        pass
    return False


async def _splice_input(connection: Connection, fd: int) -> None:
    while True:
        try:
            if not await connection.splice_to(fd):
                return
        except BrokenPipeError:
            return
        except OSError:  # not a pipe: copy
            break
    while data := await connection.read():
        if not await write_fd(fd, data):
            return


class _Outgoing:
    """The connection as the copies use it; `busy` while one of them has bytes that the client has yet to take."""

    __slots__ = ("_connection", "busy")

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self.busy = False  # one writes at a time

    async def write(self, data: bytes) -> None:
        self.busy = True
        await self._connection.write(data)
        self.busy = False

    async def splice_from(self, pipe: int, count: int) -> None:
        self.busy = True
        await self._connection.splice_from(pipe, count)
        self.busy = False


async def _copy_raw(connection: _Outgoing, fd: int) -> None:
    while data := await read_fd(fd):
        await connection.write(data)


async def _copy_terminal_framed(connection: _Outgoing, fd: int) -> None:
    """A terminal's output for a client that has asked for frames: all of it is standard output."""
    while data := await read_fd(fd):
        await connection.write(frame_header(STDOUT, len(data)) + data)


async def _copy_unframed(connection: _Outgoing, fd: int, turn: asyncio.Lock) -> None:
    while data := await read_fd(fd):
        async with turn:
            await connection.write(data)


async def _copy_framed(connection: _Outgoing, fd: int, stream: int, turn: asyncio.Lock) -> None:
    """Frame what a pipe holds: the header by write, the bytes by splice(2)."""
    while True:
        size = waiting_bytes(fd)
        if not size:
            # empty and readable is the end; anything else is a byte that has just come
            try:
                first = os.read(fd, 1 << 16)
            except BlockingIOError:
                await wait_readable(fd)
                continue
            except OSError:
                return
            if not first:
                return
            async with turn:
                await connection.write(frame_header(stream, len(first)) + first)
            continue
        async with turn:
            if size <= 1 << 16:
                data = os.read(fd, size)
                await connection.write(frame_header(stream, len(data)) + data)
            else:
                await connection.write(frame_header(stream, size))
                await connection.splice_from(fd, size)


class Ended(NamedTuple):
    """How a duplex came to its end: by the detach keys, by the client going away, or (both False) by the process."""

    detached: bool
    disconnected: bool


async def run_duplex(
    connection: Connection, *, stdin_fd: int = -1, stdout_fd: int = -1, stderr_fd: int = -1, tty: bool = False,
    framed: bool | None = None, detach_keys: bytes | None = None, exited: "asyncio.Future[None] | None" = None,
) -> Ended:
    """Join a hijacked connection to a process's descriptors (exec start). Takes the descriptors and closes them.

    tty: `stdout_fd` is the terminal's master (stdin_fd too), output is raw. Else frames of two pipes; a client that
    ends its input ends the process's. `framed` (default: unless `tty`): a client may ask for frames of a terminal, or
    for two pipes without them. `exited`: the process's end, after which its output goes to a client however slow, and
    a child that holds it open is waited for while it writes, and 2 s.
    The connection stays open: the caller closes it.
    """
    return await Duplex(connection, stdin_fd, stdout_fd, stderr_fd, tty, framed).run(detach_keys, exited)


class Duplex:
    """One connection and three descriptors; see run_duplex."""

    __slots__ = ("_connection", "_framed", "_outgoing", "_stderr", "_stdin", "_stdout", "_tty")

    def __init__(
        self, connection: Connection, stdin_fd: int, stdout_fd: int, stderr_fd: int, tty: bool, framed: bool | None
    ) -> None:
        self._framed = not tty if framed is None else framed
        if tty and 0 <= stdin_fd == stdout_fd:
            stdin_fd = os.dup(stdout_fd)
        self._connection, self._outgoing = connection, _Outgoing(connection)
        self._stdin, self._stdout, self._stderr, self._tty = stdin_fd, stdout_fd, stderr_fd, tty
        for fd in (stdin_fd, stdout_fd, stderr_fd):
            if fd >= 0:
                os.set_blocking(fd, False)
                if not tty:
                    grow_pipe(fd)

    async def run(self, detach_keys: bytes | None, exited: "asyncio.Future[None] | None") -> Ended:
        outputs = {asyncio.ensure_future(copy) for copy in self._copies()}
        given = asyncio.ensure_future(self._input(detach_keys)) if self._stdin >= 0 else None
        gone = self._connection.hung_up()
        try:
            return await self._until_end(outputs, given, gone, exited)
        finally:
            left = [task for task in (*outputs, given) if task is not None and not task.done()]
            for task in (*left, gone):
                task.cancel()
            if left:
                await asyncio.gather(*left, return_exceptions=True)
            self._close()

    def _copies(self) -> "list[Coroutine[None, None, None]]":
        """From the process's outputs to the client, each until its end. They raise ConnectionError: nobody listens."""
        if self._tty:
            return [(_copy_terminal_framed if self._framed else _copy_raw)(self._outgoing, self._stdout)]
        turn = asyncio.Lock()
        return [
            _copy_framed(self._outgoing, fd, stream, turn) if self._framed
            else _copy_unframed(self._outgoing, fd, turn)
            for fd, stream in ((self._stdout, STDOUT), (self._stderr, STDERR)) if fd >= 0
        ]

    async def _until_end(
        self, outputs: "set[asyncio.Task[None]]", given: "asyncio.Task[bool] | None", gone: "asyncio.Future[None]",
        exited: "asyncio.Future[None] | None",
    ) -> Ended:
        pending: set[asyncio.Future[Any]] = {*outputs, gone, *({given} if given else ()), *({exited} if exited else ())}
        while True:
            done, pending = await asyncio.wait(pending, return_when=asyncio.FIRST_COMPLETED)
            if given in done and given is not None and given.result():
                return Ended(True, False)
            if any(task.exception() is not None for task in outputs if task.done()):
                return Ended(False, True)
            if outputs and all(task.done() for task in outputs):
                return Ended(False, False)
            if gone in done:
                return Ended(False, True)
            if exited in done:
                return await self._drained(outputs, gone)
            if not outputs and exited is None and given in done:
                return Ended(False, False)

    async def _drained(self, outputs: "set[asyncio.Task[None]]", gone: "asyncio.Future[None]") -> Ended:
        left: set[asyncio.Future[Any]] = {task for task in outputs if not task.done()}
        while left:
            done, _ = await asyncio.wait({*left, gone}, timeout=EXIT_DRAIN_S, return_when=asyncio.FIRST_COMPLETED)
            if gone in done or any(task.exception() is not None for task in done):
                return Ended(False, True)
            left -= done
            if not done and not self._outgoing.busy:
                break
        return Ended(False, False)

    async def _input(self, detach_keys: bytes | None) -> bool:
        keys = (detach_keys or DEFAULT) if self._tty else None
        detached = await copy_input(self._connection, self._stdin, detach_keys=keys)
        if not detached and not self._tty:
            fd, self._stdin = self._stdin, -1
            os.close(fd)
        return detached

    def _close(self) -> None:
        for fd in {self._stdin, self._stdout, self._stderr} - {-1}:
            os.close(fd)
        self._stdin = self._stdout = self._stderr = -1
