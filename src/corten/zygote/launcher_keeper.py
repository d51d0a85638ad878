"""The zygote's hold on the launcher: fork it ahead of need, give it execs, replace it, do without it."""

import os
import signal
import socket
import time

from corten.linux import process
from corten.runtime import create as runtime
from corten.runtime import sync
from corten.zygote import launcher, protocol, reaper
from corten.zygote.descriptors import close_others
from corten.zygote.entry import Entry

TYPE_CHECKING = False
if TYPE_CHECKING:
    from corten.zygote.loop import Zygote
    from corten.zygote.requests import Exec

BIRTH_S = 2.0  # a launcher that has not made an exec's process by then hangs: it is ended, and the process forked
SHORT_S = 1.0  # without descriptors or processes: until the next attempt
_ATTEMPTS = 3  # so many in a row that never came to be ready: it does not work on this machine


class LauncherKeeper:
    """The launcher of one zygote, if there is one."""

    def __init__(self, zygote: "Zygote") -> None:
        self.zygote = zygote
        self._channel: socket.socket | None = None
        self._pidfd = -1
        self._ready = False
        self._failures = 0
        self._not_before_s = 0.0
        self._serves: Entry | None = None  # whom it was given last; it is busy for as long as that has a child
        self._late_s = 0.0  # when the process it makes is late
        self._timed = False

    @property
    def wanted(self) -> bool:
        """Whether it should be forked at the next pause."""
        return self._pidfd < 0 and self._failures < _ATTEMPTS and time.monotonic() >= self._not_before_s

    def prepare(self) -> bool:
        """Fork it if it is wanted; whether that was so."""
        wanted = self.wanted
        if wanted:
            self._start()
        return wanted

    def kill(self, entry: Entry) -> None:
        """End it if it is this entry's child that it has lent its memory to."""
        if self._serves is entry and self._pidfd >= 0:
            signal.pidfd_send_signal(self._pidfd, signal.SIGKILL)

    def _start(self) -> None:
        try:
            mine, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        except OSError:
            self._not_before_s = time.monotonic() + SHORT_S
            return
        try:
            pid = os.fork()
        except OSError:  # too many processes
            mine.close()
            theirs.close()
            self._not_before_s = time.monotonic() + SHORT_S
            return
        self._failures += 1  # until it says otherwise
        if pid == 0:
            try:
                process.set_name(launcher.NAME)
                close_others({0, 1, 2, theirs.fileno()})
                launcher.main(theirs)
            finally:
                os._exit(0)
        theirs.close()
        self._channel, self._pidfd = mine, os.pidfd_open(pid)
        self.zygote.watch(mine.fileno(), lambda _events: self._hear())
        self.zygote.watch(self._pidfd, lambda _events: self._on_end(pid))

    @property
    def _free(self) -> bool:
        return self._ready and (self._serves is None or self._serves.child is None)

    def begin_init(self, entry: Entry, ends: tuple[int, int, int]) -> int:
        """Ask for a container's init; our end of its channel, or -1. What becomes of it is create.spawn's matter."""
        if not self._free:
            return -1
        spare = self.zygote.spares.take()
        message: dict[str, object] = {"id": entry.id, "bundle": self.zygote.layout.bundle(entry.id)}
        try:
            ours = self._send(message, [*ends, spare] if spare >= 0 else list(ends))
        finally:
            if spare >= 0:
                os.close(spare)
        self._serves = entry
        return ours

    def begin(self, asked: "Exec") -> bool:
        """Have an exec made by the launcher; False when that is not there, or busy."""
        if not self._free:
            return False
        entry, container = asked.entry, asked.container
        message: dict[str, object] = {
            "id": container.id, "pid": container.pid, "bundle": self.zygote.layout.bundle(container.id),
            "process": asked.process,
        }
        ours = self._send(message, [*asked.ends, container.fds["pidfd"]])
        if ours < 0:
            return False
        os.set_blocking(ours, False)
        child = entry.child = runtime.Child(container.id, 0, -1, ours)
        self._serves = entry
        self.zygote.watch(ours, lambda _events: asked.on_birth(child, asked.fork))
        self._late_s = time.monotonic() + BIRTH_S
        if not self._timed:
            self._timed = True
            self.zygote.after(BIRTH_S, self._end_if_late)
        return True

    def _end_if_late(self) -> None:
        """Whatever it hangs in, its channels close with it, and whoever waits for a birth hears that there is none."""
        self._timed = False
        serves = self._serves
        if serves is None or serves.child is None or serves.pid or self._pidfd < 0:
            return
        left_s = self._late_s - time.monotonic()
        if left_s > 0:
            self._timed = True
            self.zygote.after(left_s, self._end_if_late)
        else:
            signal.pidfd_send_signal(self._pidfd, signal.SIGKILL)

    def _send(self, message: dict[str, object], fds: list[int]) -> int:
        """A request, with a new channel before the descriptors; our end of that, -1 when the launcher is gone."""
        assert self._channel is not None
        ours, theirs = sync.make_pair()
        try:
            protocol.send(self._channel, message, [theirs, *fds])
        except OSError:
            os.close(ours)
            return -1
        finally:
            os.close(theirs)
        return ours

    def _hear(self) -> None:
        """Its one message says that it works; the end of the channel, that it ends."""
        assert self._channel is not None
        try:
            self._ready = bool(self._channel.recv(64, socket.MSG_DONTWAIT))
        except OSError:
            self._ready = False
        if self._ready:
            self._failures = 0
        else:
            self._hang_up()

    def _hang_up(self) -> None:
        if self._channel is not None:
            self.zygote.unwatch(self._channel.fileno())
            self._channel.close()
        self._channel, self._ready = None, False

    def _on_end(self, pid: int) -> None:
        reaper.reap(pid)
        self.zygote.endings.strangers = True
        self.let_go()

    def let_go(self) -> None:
        """Have nothing more to do with it; it ends, and another is forked at the next pause."""
        self._hang_up()
        if self._pidfd >= 0:
            self.zygote.unwatch(self._pidfd)
            os.close(self._pidfd)
            self._pidfd = -1
