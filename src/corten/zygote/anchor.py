"""The anchor: the zygote's parent, kept so small that it has no reason to die.

It is subreaper (prctl(2)): when the zygote is gone, its containers become the anchor's children, and the anchor records
their exits. It keeps a second copy of every descriptor the zygote holds for more than a moment, and forks a new zygote
that finds them at their numbers. It reads nothing but the first lines of the zygote's own messages:

    zygote -> anchor   H<key>\\n<pid>\\n<oom path>\\n<text not read>  + descriptors     hold, or hold anew
                       D<key>                                                           drop
                       Q                                                                the end: nothing is held
    anchor -> zygote   X<pid>\\n<exit record>                                          reaped one that is not your child

When the anchor itself is killed, the zygote sees its end of the socket close, forks, and the parent of the two goes on
as anchor: it is the containers' parent already (docs/adr/0001).
"""

import json
import os
import select
import signal
import socket
import time

from corten.zygote.reaper import peek_any, reap, record_exit

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

PR_SET_CHILD_SUBREAPER = 36
_FULL_S = 0.05
_SHORT_LIFE_S, _PAUSE_S, _NO_PLACE_S = 1.0, 0.05, 1.0


class Held:
    """One process and its descriptors; `opaque` is the zygote's own text."""

    __slots__ = ("fds", "key", "oom_path", "opaque", "pid")

    def __init__(self, key: str, pid: int, oom_path: str, opaque: bytes, fds: list[int]) -> None:
        self.key = key
        self.pid = pid
        self.oom_path = oom_path
        self.opaque = opaque
        self.fds = fds


class Anchor:
    """Runs until nothing is left to hold. `spawn(held, channel)` is the life of a zygote, in a fork."""

    def __init__(self, exits: str, held: dict[str, Held], spawn: "Callable[[list[Held], socket.socket], None]") -> None:
        self.exits = exits
        self.held = held
        self.spawn = spawn
        self.zygote = -1
        self.started = 0.0
        self.unwritten = False  # an exit that could not be put on record yet
        self.channel = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)[0]
        self.wake, theirs = socket.socketpair()
        self.wake.setblocking(False)
        theirs.setblocking(False)
        self.theirs = theirs
        signal.set_wakeup_fd(theirs.fileno(), warn_on_full_buffer=False)
        signal.signal(signal.SIGCHLD, lambda _number, _frame: None)

    def run(self, channel: socket.socket | None = None, zygote: int = -1) -> None:
        """Hold, reap, and start zygotes; given a channel, the zygote `zygote` is alive at its other end."""
        self.zygote, self.started = zygote, time.monotonic()
        if channel is None:
            self._start_zygote()
        else:
            self.channel = channel
        while True:
            self._reap_all()
            poll = select.poll()
            poll.register(self.channel, select.POLLIN)
            poll.register(self.wake, select.POLLIN)
            for descriptor, _events in poll.poll(1000 if self.unwritten else None):
                if descriptor == self.wake.fileno():
                    _drain(self.wake)
                elif not self._hear():
                    return

    def _start_zygote(self) -> None:
        mine, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        held = list(self.held.values())
        while (pid := _fork()) < 0:
            self._reap_all()
            time.sleep(_FULL_S)
        if pid == 0:
            mine.close()
            self.channel.close()
            self.wake.close()
            self.theirs.close()
            signal.set_wakeup_fd(-1)
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            self.spawn(held, theirs)
            os._exit(0)
        theirs.close()
        self.channel.close()
        self.channel, self.zygote, self.started = mine, pid, time.monotonic()

    def _hear(self) -> bool:
        """One message of the zygote. False when all is over."""
        try:
            data, fds, _flags, _address = socket.recv_fds(self.channel, 1 << 17, 16)
        except ConnectionError:
            data, fds = b"", []
        if not data:
            self._await_zygote()
            self._reap_all()
            if not self._pause():
                return False
            self._start_zygote()
        elif data[:1] == b"H":
            key, pid, oom_path, opaque = data[1:].split(b"\n", 3)
            self._drop(key.decode())
            self.held[key.decode()] = Held(key.decode(), int(pid), oom_path.decode(), opaque, fds)
        elif data[:1] == b"D":
            self._drop(data[1:].decode())
        return data[:1] != b"Q"

    def _pause(self) -> bool:
        """Before another zygote: one that cannot live is not tried in haste. False: place and charges are gone."""
        if not os.path.isdir(self.exits):
            if not self.held:
                return False
            time.sleep(_NO_PLACE_S)
        elif time.monotonic() - self.started < _SHORT_LIFE_S:
            time.sleep(_PAUSE_S)
        return True

    def _await_zygote(self) -> None:
        """It is gone for good, and what it had under way has been told so, before there is another."""
        try:
            os.waitid(os.P_PID, self.zygote, os.WEXITED)
        except ChildProcessError:
            pass

    def _drop(self, key: str) -> None:
        gone = self.held.pop(key, None)
        for descriptor in gone.fds if gone else ():
            os.close(descriptor)

    def _reap_all(self) -> None:
        """Record and reap every child that has exited; tell the zygote of those it could not wait for itself."""
        self.unwritten = False
        while True:
            try:
                found = peek_any()
            except ChildProcessError:
                return
            if found is None:
                return
            pid, status = found
            try:
                for entry in self.held.values():
                    if entry.pid == pid:
                        self._tell(pid, record_exit(self.exits, entry.key, status, entry.oom_path))
            except OSError:
                self.unwritten = True
                return  # no room to write it down: it stays a zombie, which keeps the code
            reap(pid)

    def _tell(self, pid: int, record: dict[str, object]) -> None:
        try:
            self.channel.send(f"X{pid}\n{json.dumps(record)}".encode(), socket.MSG_DONTWAIT)
        except OSError:
            pass  # no zygote now: the next one reads the file


def _fork() -> int:
    """As os.fork; -1 when there are too many processes."""
    try:
        return os.fork()
    except OSError:
        return -1


def _drain(sock: socket.socket) -> None:
    try:
        while sock.recv(4096):
            pass
    except BlockingIOError:
        pass
