"""The log pump: moves what containers write into their logs, and does nothing else.

Bytes go from pipe to file inside the kernel by splice(2). The frame's header announces how many bytes wait in the pipe
before they are moved, so a pump killed between any two steps loses nothing and repeats nothing: the next one finishes
the frame from the same pipe, of which zygote and anchor hold copies. A terminal's bytes go through a pipe of their own
(the relay) for the same reason. Readers follow the file; no client is connected here, so none can slow a container.

It also holds each container's mount namespace until its end has been told to everyone: to take its mounts apart costs
the kernel a millisecond or two, which else the exiting process, and whoever waits for it, would have to spend.

    zygote -> pump   A<key>\\n<folder>\\n<names of descriptors>  + descriptors    read this one
                     R<key>                                                       stop reading it, let go
    pump -> zygote   D<key>                                                       all streams at their end, all written
"""

import errno
import fcntl
import os
import select
import signal
import socket
import struct
import termios
import time

from corten.zygote.log_format import ENTRY, FRAME, STDERR, STDOUT, repair, segment_names
from corten.zygote.log_rotation import compress_aside, drop_old, newest, read_limits

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

SPLICE_F_NONBLOCK = 2
MOUNTS = "mounts"  # the name a mount namespace comes under
_CHUNK = 1 << 20
_CROWDED = 32 << 10  # a pipe that holds so much is written to faster than it is read: it gets a larger buffer
_TERMINAL_CHUNK = 1 << 16
_NO_SPACE = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO, errno.EROFS)


def waiting_bytes(descriptor: int) -> int:
    """How many bytes can be read now. FIONREAD, ioctl_tty(2), pipe(7)."""
    count = bytearray(4)
    fcntl.ioctl(descriptor, termios.FIONREAD, count)
    return int(struct.unpack("i", count)[0])


class Log:
    """The log of one container, written at its end. `gap_bytes` could not be written for want of space."""

    __slots__ = ("folder", "gap_bytes", "index", "limits", "log", "nudge", "number", "offset")

    def __init__(self, folder: str, nudge: bool) -> None:
        self.folder = folder
        self.limits = read_limits(folder)
        self.number = newest(folder) if self.limits.segment_bytes else 0
        self.offset = 0
        self.gap_bytes = 0
        self.nudge = nudge
        self.index, self.log = self._open(self.number)

    def _open(self, number: int, more: int = 0) -> tuple[int, int]:
        """(index, log) of a segment; the index first: whoever sees the log finds its index."""
        flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW | more
        log_name, index_name = segment_names(number)
        index = os.open(f"{self.folder}/{index_name}", flags, 0o600)
        try:
            return index, os.open(f"{self.folder}/{log_name}", flags, 0o600)
        except BaseException:
            os.close(index)
            raise

    def rotate(self) -> None:
        """Begin a new segment; the old one is whole and not touched again. Without room for it the old one grows on."""
        try:
            index, log = self._open(self.number + 1, os.O_TRUNC)
        except OSError as error:
            if error.errno not in _NO_SPACE:
                raise
            return
        old = self.log, self.index
        self.log, self.index, self.number, self.offset = log, index, self.number + 1, 0
        if os.fstat(old[0]).st_size:  # wake who follows the old one: its next frame will not come there
            os.pwrite(old[0], os.pread(old[0], 1, 0), 0)
        for descriptor in old:
            os.close(descriptor)
        if self.limits.compress and self.limits.files > 1:
            compress_aside(self.folder, self.number - 1)
        drop_old(self.folder, self.number, self.limits)

    def adopt(self, pipes: dict[int, int]) -> None:
        """Finish what a killed pump began. `pipes` maps stream numbers to the descriptors they come from."""
        log_bytes, index_bytes = os.fstat(self.log).st_size, os.fstat(self.index).st_size
        whole = index_bytes // ENTRY.size
        last = ENTRY.unpack(os.pread(self.index, ENTRY.size, (whole - 1) * ENTRY.size))[1] if whole else 0
        tail = repair(log_bytes, index_bytes, last, os.pread(self.log, FRAME.size, last))
        os.ftruncate(self.log, tail.log_bytes)
        os.ftruncate(self.index, tail.index_bytes)
        self.offset = os.lseek(self.log, 0, os.SEEK_END)
        os.lseek(self.index, 0, os.SEEK_END)
        if tail.missing_bytes:
            there = min(tail.missing_bytes, waiting_bytes(pipes[tail.stream]) if tail.stream in pipes else 0)
            self.offset += self._splice(pipes.get(tail.stream, -1), there)
            if there < tail.missing_bytes:  # cannot be, but a reader must never wait for bytes that will not come
                os.pwrite(self.log, FRAME.pack(tail.stream, self.offset - last - FRAME.size), last)

    def take(self, stream: int, pipe: int, count: int) -> None:
        """Append a frame of `count` bytes that wait in `pipe`. A full disk costs the bytes, which are counted."""
        if self.gap_bytes and not self._mark_gap():
            self._discard(pipe, count)
            return
        start = self.offset
        header = FRAME.pack(stream, count)
        moved = 0
        try:
            _write(self.index, ENTRY.pack(time.time_ns(), start))
            _write(self.log, header)
            self.offset = start + FRAME.size
            while moved < count:
                moved += self._splice(pipe, count - moved)
        except OSError as error:
            if error.errno not in _NO_SPACE:
                raise
            self.gap_bytes += moved
            self._cut(start)
            self._discard(pipe, count - moved)
            return
        self.offset = start + FRAME.size + count
        if self.limits.segment_bytes and self.offset >= self.limits.segment_bytes:
            self.rotate()
        elif self.nudge:  # before Linux 6.6 splice tells no inotify watcher
            os.pwrite(self.log, header, start)

    def _splice(self, pipe: int, count: int) -> int:
        return os.splice(pipe, self.log, count) if count else 0

    def _cut(self, start: int) -> None:
        os.ftruncate(self.log, start)
        self.offset = os.lseek(self.log, start, os.SEEK_SET)
        index_bytes = os.fstat(self.index).st_size
        while index_bytes >= ENTRY.size:  # drop the entry of the frame that is not there
            if ENTRY.unpack(os.pread(self.index, ENTRY.size, index_bytes - ENTRY.size))[1] < start:
                break
            index_bytes -= ENTRY.size
        index_bytes -= index_bytes % ENTRY.size
        os.ftruncate(self.index, index_bytes)
        os.lseek(self.index, index_bytes, os.SEEK_SET)

    def _mark_gap(self) -> bool:
        """Tell the reader of the log what is missing, once there is room again."""
        text = f"[corten: {self.gap_bytes} bytes of output lost: no space left on device]\n".encode()
        start = self.offset
        try:
            _write(self.index, ENTRY.pack(time.time_ns(), start))
            _write(self.log, FRAME.pack(STDERR, len(text)) + text)
        except OSError:
            self._cut(start)
            return False
        self.offset = start + FRAME.size + len(text)
        self.gap_bytes = 0
        return True

    def _discard(self, pipe: int, count: int) -> None:
        while count > 0:
            part = len(os.read(pipe, min(count, _CHUNK)))
            count -= part
            self.gap_bytes += part

    def close(self) -> None:
        if self.gap_bytes:
            self._mark_gap()
        os.close(self.log)
        os.close(self.index)


class Source:
    """One container: its log and the descriptors still open. `fds` as in entry.PUMP_FDS."""

    __slots__ = ("fds", "key", "large", "log", "open")

    def __init__(self, key: str, folder: str, fds: dict[str, int], nudge: bool) -> None:
        self.key = key
        self.fds = fds
        self.log = Log(folder, nudge)
        self.large: set[int] = set()
        if "console" in fds:
            self.log.adopt({STDOUT: fds["relay_out"]})
            self._from_relay()
            self.open = {fds["console"]: 0}
        else:
            self.log.adopt({STDOUT: fds["stdout"], STDERR: fds["stderr"]})
            self.open = {fds["stdout"]: STDOUT, fds["stderr"]: STDERR}

    def move(self, descriptor: int, hung_up: bool) -> bool:
        """Move what waits. False when this descriptor is at its end."""
        stream = self.open[descriptor]
        if not stream:
            return self._move_terminal(descriptor)
        count = min(waiting_bytes(descriptor), self.log.limits.segment_bytes or _CHUNK, _CHUNK)
        if count > _CROWDED and descriptor not in self.large:
            self.large.add(descriptor)
            _grow(descriptor)
        if count:
            self.log.take(stream, descriptor, count)
        return bool(count) or not hung_up

    def _move_terminal(self, console: int) -> bool:
        try:
            count = _console_to_pipe(console, self.fds["relay_in"])
        except BlockingIOError:
            return True
        except OSError as error:  # EIO: the last process has closed the terminal
            if error.errno != errno.EIO:
                raise
            return False
        self._from_relay()
        return count > 0

    def _from_relay(self) -> None:
        while count := waiting_bytes(self.fds["relay_out"]):
            self.log.take(STDOUT, self.fds["relay_out"], min(count, self.log.limits.segment_bytes or count))

    def close(self) -> None:
        self.log.close()
        for descriptor in self.fds.values():
            os.close(descriptor)


def _grow(pipe: int) -> None:
    """Writer and pump take fewer turns a megabyte then. F_SETPIPE_SZ, fcntl(2); refused beyond the system's limit."""
    try:
        fcntl.fcntl(pipe, fcntl.F_SETPIPE_SZ, _CHUNK)
    except OSError:
        pass


def _console_to_pipe(console: int, pipe: int) -> int:
    try:
        return os.splice(console, pipe, _TERMINAL_CHUNK, flags=SPLICE_F_NONBLOCK)
    except OSError as error:
        if error.errno != errno.EINVAL:
            raise
    return os.write(pipe, os.read(console, 4096))  # Linux 5.10 cannot splice from a terminal


def _write(descriptor: int, data: bytes) -> None:
    done = os.write(descriptor, data)
    if done != len(data):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


class Pump:
    """The loop of the process."""

    def __init__(self, channel: socket.socket, lock_path: str) -> None:
        self.channel = channel
        self.sources: dict[str, Source] = {}
        self.by_fd: dict[int, Source] = {}
        self.namespaces: dict[str, int] = {}
        self.epoll = select.epoll()
        release = tuple(int(part) for part in os.uname().release.split("-")[0].split(".")[:2])
        self.nudge = release < (6, 6)
        # A record lock is this process's alone: not inherited, gone when it is killed. Two pumps would mix frames.
        self.lock = os.open(lock_path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        fcntl.lockf(self.lock, fcntl.LOCK_EX)
        signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # those that compress old segments need no reaping

    def add(self, key: str, folder: str, fds: dict[str, int]) -> None:
        """Read from these descriptors, which are the pump's own from here on."""
        if MOUNTS in fds:
            self.namespaces[key] = fds.pop(MOUNTS)
        try:
            source = Source(key, folder, fds, self.nudge)
        except OSError:
            # Its folder is gone, so the container is being removed: there is nowhere to write and nobody to read.
            for descriptor in fds.values():
                os.close(descriptor)
            self._tell(key)
            return
        self.sources[key] = source
        for descriptor in source.open:
            os.set_blocking(descriptor, False)
            self.by_fd[descriptor] = source
            self.epoll.register(descriptor, select.EPOLLIN)

    def run(self) -> None:
        """Until the zygote closes the channel."""
        self.epoll.register(self.channel, select.EPOLLIN)
        while True:
            for descriptor, events in self.epoll.poll():
                if descriptor == self.channel.fileno():
                    if not self._hear():
                        return
                elif (source := self.by_fd.get(descriptor)) is not None:
                    hung_up = bool(events & (select.EPOLLHUP | select.EPOLLERR)) and not events & select.EPOLLIN
                    if not source.move(descriptor, hung_up):
                        self._end(source, descriptor)

    def _end(self, source: Source, descriptor: int) -> None:
        self.epoll.unregister(descriptor)
        del self.by_fd[descriptor], source.open[descriptor]
        if not source.open:
            del self.sources[source.key]
            source.close()
            self._tell(source.key)

    def _tell(self, key: str) -> None:
        try:
            self.channel.send(b"D" + key.encode())
        except OSError:
            pass  # the zygote is gone, and so is this pump in a moment

    def _hear(self) -> bool:
        try:
            data, fds, _flags, _address = socket.recv_fds(self.channel, 1 << 16, 8)
        except ConnectionError:
            return False
        if data[:1] == b"A":
            key, folder, names = data[1:].decode().split("\n")
            self.add(key, folder, dict(zip(names.split(","), fds, strict=True)))
        elif data[:1] == b"R":
            self._remove(data[1:].decode())
        return bool(data)

    def _remove(self, key: str) -> None:
        namespace = self.namespaces.pop(key, -1)
        if namespace >= 0:
            os.close(namespace)
        source = self.sources.pop(key, None)
        if source is not None:
            for descriptor in tuple(source.open):
                self.epoll.unregister(descriptor)
                del self.by_fd[descriptor]
            source.close()


def main(channel: socket.socket, lock_path: str, adopted: "Iterable[tuple[str, str, dict[str, int]]]") -> None:
    """The life of the process: take over what is there, then serve. Entries are (key, folder, descriptors)."""
    pump = Pump(channel, lock_path)
    for key, folder, fds in adopted:
        pump.add(key, folder, fds)
    pump.run()
