"""A connection taken over from HTTP (attach, exec start, session): raw bytes both ways, no framing of its own.

Never blocks the loop; each direction has one user at a time. Moves bytes inside the kernel where it can
(sendfile(2), splice(2)).
"""

import array
import asyncio
import fcntl
import os
import select
import socket
import termios

from corten.engine.streams import CHUNK_BYTES, wait_readable, wait_writable, write_fd

_SO_SNDBUFFORCE = 32  # asm-generic/socket.h
SEND_BUFFER_BYTES = 1 << 20
_LINGER_S = 2.0
_HEAD_POLL_S = (0.0, 0.0, 0.0005, 0.001, 0.002, 0.005, 0.01, 0.02)  # the last for ever
_TURNS = 32  # operations in a row before others get the loop


class HangupWatch:
    """Tells when a peer has closed both directions, for sockets nobody reads: one epoll for all, edge triggered.

    A half-closed peer (end of input, still listening) is not gone and does not count.
    """

    __slots__ = ("_epoll", "_loop", "_waiting")

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._epoll = select.epoll()
        self._waiting: dict[int, asyncio.Future[None]] = {}
        loop.add_reader(self._epoll.fileno(), self._ready)

    def close(self) -> None:
        """Forget everything."""
        self._loop.remove_reader(self._epoll.fileno())
        self._epoll.close()

    def watch(self, fd: int) -> "asyncio.Future[None]":
        """A future that is done at the hangup of `fd`; one watcher a descriptor, the newest wins. End with unwatch."""
        future: asyncio.Future[None] = self._loop.create_future()
        if fd in self._waiting:
            self._waiting[fd] = future
            return future
        self._waiting[fd] = future
        self._epoll.register(fd, select.EPOLLET)
        return future

    def unwatch(self, fd: int) -> None:
        """Before `fd` is closed."""
        if self._waiting.pop(fd, None) is not None:
            try:
                self._epoll.unregister(fd)
            except OSError:
                pass

    def _ready(self) -> None:
        for fd, _events in self._epoll.poll(0):
            future = self._waiting.get(fd)
            if future is not None and not future.done():
                future.set_result(None)


class Connection:
    """The raw connection; see the protocol of the same name in corten.engine.streams."""

    __slots__ = ("_head_unread", "_loop", "_socket", "_turns", "_watch", "closed", "leftover")

    def __init__(self, loop: asyncio.AbstractEventLoop, sock: socket.socket, watch: HangupWatch) -> None:
        self._head_unread = False
        self._loop = loop
        self._socket = sock
        self._watch = watch
        self._turns = 0
        self.leftover = b""  # read already, while it was HTTP
        self.closed = False

    def fileno(self) -> int:
        """The socket's descriptor; still owned by this object."""
        return self._socket.fileno()

    async def _fair(self) -> None:
        self._turns += 1
        if self._turns >= _TURNS:
            self._turns = 0
            await asyncio.sleep(0)

    async def read(self, limit: int = CHUNK_BYTES) -> bytes:
        """The next bytes, at most `limit`; b"" when the client has ended its direction or is gone."""
        if self.leftover:
            data, self.leftover = self.leftover[:limit], self.leftover[limit:]
            return data
        while not self.closed:
            try:
                data = self._socket.recv(limit)
            except (BlockingIOError, InterruptedError):
                self._turns = 0
                await wait_readable(self._socket.fileno())
                continue
            except OSError:
                return b""
            await self._fair()
            return data
        return b""

    async def write_head(self, data: bytes) -> None:
        """Send the answer's head; what is written next goes once the client has read it. Raises ConnectionError.

        Clients that read the head through a buffer and then use the bare socket (docker-py over urllib3) would lose
        what lies behind it in the same read.
        """
        await self.write(data)
        self._head_unread = self._socket.family == socket.AF_UNIX

    async def _head_read(self) -> None:
        turn = 0
        while not self.closed and unread_bytes(self._socket):
            await asyncio.sleep(_HEAD_POLL_S[min(turn, len(_HEAD_POLL_S) - 1)])
            turn += 1
        self._head_unread = False

    async def write(self, data: bytes | memoryview) -> None:
        """Send all of it, waiting for a slow client. Raises ConnectionError when the client is gone."""
        if self._head_unread:
            await self._head_read()
        view = memoryview(data)
        while view:
            self._check()
            try:
                view = view[self._socket.send(view):]
            except (BlockingIOError, InterruptedError):
                self._turns = 0
                await wait_writable(self._socket.fileno())
        await self._fair()

    async def sendfile(self, fd: int, offset: int, count: int) -> None:
        """Send a part of a regular file by sendfile(2). Raises ConnectionError; EOFError when the file is shorter."""
        if self._head_unread:
            await self._head_read()
        while count > 0:
            self._check()
            try:
                sent = os.sendfile(self._socket.fileno(), fd, offset, min(count, CHUNK_BYTES * 4))
            except (BlockingIOError, InterruptedError):
                self._turns = 0
                await wait_writable(self._socket.fileno())
                continue
            if not sent:
                raise EOFError("the file ended early")
            offset += sent
            count -= sent
            await self._fair()

    async def splice_from(self, pipe: int, count: int) -> None:
        """Move `count` bytes that `pipe` is known to hold to the client by splice(2). Raises ConnectionError."""
        if self._head_unread:
            await self._head_read()
        while count > 0:
            self._check()
            try:
                count -= os.splice(pipe, self._socket.fileno(), count, flags=os.SPLICE_F_NONBLOCK)
            except (BlockingIOError, InterruptedError):
                self._turns = 0
                await wait_writable(self._socket.fileno())
        await self._fair()

    async def splice_to(self, pipe: int) -> int:
        """Move what the client sends next into `pipe` by splice(2); 0 at its end.

        Raises BrokenPipeError (the pipe has no reader), OSError EINVAL (not a pipe).
        """
        if self.leftover:
            data, self.leftover = self.leftover, b""
            if not await write_fd(pipe, data):
                raise BrokenPipeError
            return len(data)
        while not self.closed:
            try:
                moved = os.splice(self._socket.fileno(), pipe, CHUNK_BYTES * 4, flags=os.SPLICE_F_NONBLOCK)
            except (BlockingIOError, InterruptedError):
                self._turns = 0
                if _has_input(self._socket.fileno()):
                    await wait_writable(pipe)
                else:
                    await wait_readable(self._socket.fileno())
                continue
            except ConnectionResetError:
                return 0
            await self._fair()
            return moved
        return 0

    def hung_up(self) -> "asyncio.Future[None]":
        """Done when the client has closed both directions; the newest asked for, and until the connection is closed."""
        if not self.closed:
            return self._watch.watch(self._socket.fileno())
        gone: asyncio.Future[None] = self._loop.create_future()
        gone.set_result(None)
        return gone

    def write_eof(self) -> None:
        """End our direction; the client may go on sending."""
        try:
            self._socket.shutdown(socket.SHUT_WR)
        except OSError:
            pass

    def close(self) -> None:
        """Close both directions; bytes already written still arrive."""
        if self.closed:
            return
        self.closed = True
        self._watch.unwatch(self._socket.fileno())
        self._loop.remove_reader(self._socket.fileno())
        self._loop.remove_writer(self._socket.fileno())
        close_gently(self._loop, self._socket)

    def detach(self) -> tuple[socket.socket, bytes]:
        """Give the socket and the unread bytes to another owner (a transport, for HTTP/2)."""
        self.closed = True
        self._watch.unwatch(self._socket.fileno())
        leftover, self.leftover = self.leftover, b""
        return self._socket, leftover

    def _check(self) -> None:
        if self.closed:
            raise ConnectionAbortedError("the connection is closed")


def close_gently(loop: asyncio.AbstractEventLoop, sock: socket.socket, linger: bool = False) -> None:
    """Close without cutting off what the peer has yet to read: a unix socket closed over unread input resets its peer.

    Our direction is ended at once; unread input is thrown away until the peer ends or 2 s have passed.
    `linger`: do so even when nothing has come yet.
    """
    if not _throw_input_away(sock, at_end=linger):
        sock.close()
        return
    try:
        sock.shutdown(socket.SHUT_WR)
    except OSError:
        sock.close()
        return
    fd = sock.fileno()

    def end() -> None:
        loop.remove_reader(fd)
        sock.close()

    timer = loop.call_later(_LINGER_S, end)

    def more() -> None:
        if not _throw_input_away(sock, at_end=True):
            timer.cancel()
            end()

    loop.add_reader(fd, more)


def _throw_input_away(sock: socket.socket, at_end: bool = False) -> bool:
    """Whether the peer may still be sending: input was there (or, `at_end`, its end was not)."""
    seen = False
    for _ in range(_TURNS):
        try:
            if not sock.recv(CHUNK_BYTES):
                return False
            seen = True
        except (BlockingIOError, InterruptedError):
            return seen or at_end
        except OSError:
            return False
    return True


def _has_input(fd: int) -> bool:
    poll = select.poll()
    poll.register(fd, select.POLLIN)
    return bool(poll.poll(0))


def is_hung_up(fd: int) -> bool:
    """Whether the peer has closed both directions."""
    poll = select.poll()
    poll.register(fd, 0)
    return bool(poll.poll(0))


def unread_bytes(sock: socket.socket) -> int:
    """How much the peer of a unix socket has not read yet. unix(7) SIOCOUTQ (the number of TIOCOUTQ)."""
    count = array.array("i", (0,))
    try:
        fcntl.ioctl(sock.fileno(), termios.TIOCOUTQ, count)
    except OSError:
        return 0
    return count[0]


def grow_send_buffer(sock: socket.socket) -> None:
    """A larger buffer for a stream: fewer turns a megabyte. socket(7) SO_SNDBUFFORCE, else up to the system's limit."""
    try:
        sock.setsockopt(socket.SOL_SOCKET, _SO_SNDBUFFORCE, SEND_BUFFER_BYTES)
    except OSError:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SEND_BUFFER_BYTES)
