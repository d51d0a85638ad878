"""Input, output and signals of a container or exec that is attached: one loop over poll, no threads.

Without a terminal the engine frames the output (8-byte header: stream, three zeros, size); with one the bytes are raw.
"""

import os
import select
from collections.abc import Callable

from corten.base.detach_keys import Scanner
from corten.cli.client import Connection, half_close

_PIECE = 1 << 18

PROXIED = ("SIGHUP", "SIGINT", "SIGQUIT", "SIGUSR1", "SIGUSR2", "SIGALRM", "SIGTERM", "SIGTSTP", "SIGTTIN", "SIGTTOU",
           "SIGCONT")


class Detached(Exception):
    """The detach keys were pressed."""


def write_all(descriptor: int, data: bytes | memoryview) -> None:
    """All of it, whatever a pipe takes at a time."""
    view = memoryview(data)
    while view:
        try:
            view = view[os.write(descriptor, view):]
        except BlockingIOError:
            select.select([], [descriptor], [])


class Demultiplexer:
    """Framed output to stdout and stderr; the cut between frames may be anywhere in what arrives."""

    __slots__ = ("_left", "_rest", "_target")

    def __init__(self) -> None:
        self._rest = b""
        self._left = 0
        self._target = 1

    def feed(self, data: bytes) -> None:
        """Write what is complete enough to be written."""
        if self._rest:
            data, self._rest = self._rest + data, b""
        view = memoryview(data)
        while view:
            if self._left:
                part = view[:self._left]
                write_all(self._target, part)
                self._left -= len(part)
                view = view[len(part):]
                continue
            if len(view) < 8:
                self._rest = bytes(view)
                return
            self._target = 2 if view[0] == 2 else 1
            self._left = int.from_bytes(view[4:8], "big")
            view = view[8:]


class Signals:
    """Signals as bytes in a pipe while the block lasts: the loop sees them between two reads."""

    def __init__(self, names: tuple[str, ...]) -> None:
        self.names = names
        self.reader = -1
        self._writer = -1
        self._before: list[tuple[int, object]] = []
        self._wakeup = -1

    def __enter__(self) -> "Signals":
        import signal

        self.reader, self._writer = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        self._wakeup = signal.set_wakeup_fd(self._writer, warn_on_full_buffer=False)
        for name in self.names:
            number = getattr(signal, name)
            self._before.append((number, signal.signal(number, lambda *_: None)))
        return self

    def __exit__(self, *_: object) -> None:
        import signal

        for number, handler in self._before:
            signal.signal(number, handler if handler is not None else signal.SIG_DFL)  # type: ignore[arg-type]
        signal.set_wakeup_fd(self._wakeup)
        os.close(self.reader)
        os.close(self._writer)

    def take(self) -> list[str]:
        """The names of the signals that came."""
        import signal

        try:
            return [signal.Signals(number).name for number in os.read(self.reader, 4096)]
        except BlockingIOError:
            return []


class Streamer:
    """One attached connection and the user's stdin, stdout and stderr."""

    def __init__(
        self, connection: Connection, *, tty: bool, stdin: bool, detach_keys: bytes,
        on_signal: Callable[[str], None], signals: Signals,
    ) -> None:
        self._connection = connection
        self._socket = connection.sock
        self._stdin = stdin
        self._keys = Scanner(detach_keys) if stdin and tty and detach_keys else None
        self._on_signal = on_signal
        self._signals = signals
        self._pending = b""
        self._ended = False
        demultiplexer = Demultiplexer()
        self._show: Callable[[bytes], None] = (lambda data: write_all(1, data)) if tty else demultiplexer.feed

    def run(self) -> None:
        """Until the other side ends its output. Raises Detached."""
        if self._connection.ahead:
            data, self._connection.ahead = self._connection.ahead, b""
            self._show(data)
        self._socket.setblocking(False)
        poll = select.poll()
        poll.register(self._signals.reader, select.POLLIN)
        own = self._socket.fileno()
        poll.register(own, select.POLLIN)
        if self._stdin:
            poll.register(0, select.POLLIN)
        else:
            self._ended = True
        while True:
            for descriptor, events in poll.poll():
                if descriptor == self._signals.reader:
                    for name in self._signals.take():
                        self._on_signal(name)
                elif descriptor == 0:
                    self._input(poll)
                elif events & select.POLLOUT:
                    self._flush(poll)
                elif not self._output():
                    return

    def _output(self) -> bool:
        try:
            data = self._socket.recv(_PIECE)
        except BlockingIOError:
            return True
        except ConnectionResetError:
            return False
        if data:
            self._show(data)
        return bool(data)

    def _input(self, poll: select.poll) -> None:
        try:
            data = os.read(0, 65536)
        except OSError:
            data = b""
        if not data:
            self._ended = True
            poll.unregister(0)
            if not self._pending:
                half_close(self._connection)
            return
        detached = False
        if self._keys:
            data, detached = self._keys.feed(data)
        if data:
            self._pending = data
            poll.unregister(0)  # one piece under way at a time: stdin waits as long as the engine does
            self._flush(poll)
        if detached:
            raise Detached

    def _flush(self, poll: select.poll) -> None:
        own = self._socket.fileno()
        try:
            self._pending = self._pending[self._socket.send(self._pending):]
        except BlockingIOError:
            pass
        except OSError:
            self._pending, self._ended = b"", True  # the other side reads no more; its output may still come
            poll.modify(own, select.POLLIN)
            return
        if self._pending:
            poll.modify(own, select.POLLIN | select.POLLOUT)
            return
        poll.modify(own, select.POLLIN)
        if self._ended:
            half_close(self._connection)
        else:
            poll.register(0, select.POLLIN)
