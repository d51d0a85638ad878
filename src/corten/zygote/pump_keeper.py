"""The zygote's hold on the log pump: start and feed it, hear what is drained, replace it when it is killed."""

import os
import signal
import socket
import time

from corten.linux import process
from corten.zygote import reaper
from corten.zygote.descriptors import close_others
from corten.zygote.entry import PUMP_FDS, Entry
from corten.zygote.pump import MOUNTS
from corten.zygote.pump import main as pump_main

TYPE_CHECKING = False
if TYPE_CHECKING:
    from corten.zygote.loop import Zygote


QUICK_S = 0.05


class PumpKeeper:
    """The pump of one zygote."""

    def __init__(self, zygote: "Zygote") -> None:
        self.zygote = zygote
        self.channel: socket.socket | None = None
        self.pidfd = -1
        self.started_s = 0.0
        # With the index feature a second overlay on the same upper folder is refused while the first is mounted, so a
        # container started again at once must not find its old mounts held.
        self.holds_mounts = not _overlay_index()

    def start(self) -> None:
        """Fork the pump; it takes over every container whose output is not drained."""
        mine, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        try:
            pid = os.fork()
        except OSError:  # too many processes: output waits in the pipes
            mine.close()
            theirs.close()
            self.zygote.after(QUICK_S, self.start)
            return
        if pid == 0:
            self._become_pump(theirs)
        theirs.close()
        self.started_s = time.monotonic()
        self.channel = mine
        self.pidfd = os.pidfd_open(pid)
        self.zygote.watch(mine.fileno(), lambda _events: self._hear())
        self.zygote.watch(self.pidfd, lambda _events: self._restart(pid))

    def feed(self, entry: Entry, mounts: int = -1) -> None:
        """Give the pump what an entry's output comes from; `mounts`, its mount namespace, is not kept here."""
        names = [name for name in PUMP_FDS if name in entry.fds]
        if entry.log_dir is None or not names or self.channel is None:
            return
        fds = [entry.fds[name] for name in names]
        if mounts >= 0:
            names, fds = [*names, MOUNTS], [*fds, mounts]
        message = f"A{entry.key}\n{entry.log_dir}\n{','.join(names)}".encode()
        try:
            socket.send_fds(self.channel, [message], fds)
        except OSError:
            pass  # it was killed; the next one is given all there is

    def tell(self, message: bytes) -> None:
        """Send a message of pump.py."""
        try:
            if self.channel is not None:
                self.channel.send(message)
        except OSError:
            pass

    def _become_pump(self, channel: socket.socket) -> None:
        process.set_name("corten-pump")
        process.set_pdeathsig(signal.SIGKILL)
        adopted = [
            (entry.key, entry.log_dir, {name: entry.fds[name] for name in PUMP_FDS if name in entry.fds})
            for entry in self.zygote.entries.values() if entry.log_dir and not entry.drained
        ]
        adopted = [one for one in adopted if one[2]]
        close_others({0, 1, 2, channel.fileno(), *(fd for one in adopted for fd in one[2].values())})
        try:
            pump_main(channel, self.zygote.layout.pump_lock, adopted)
        finally:
            os._exit(0)

    def _restart(self, pid: int) -> None:
        self._hear()
        reaper.reap(pid)
        self.zygote.unwatch(self.pidfd)
        os.close(self.pidfd)
        if self.channel is not None:
            self.zygote.unwatch(self.channel.fileno())
            self.channel.close()
        self.channel = None
        if time.monotonic() < self.started_s + QUICK_S:
            self.zygote.after(QUICK_S, self.start)  # it cannot work, its folder may be gone: no busy loop
        else:
            self.start()

    def _hear(self) -> None:
        while self.channel is not None:
            try:
                data = self.channel.recv(4096, socket.MSG_DONTWAIT)
            except OSError:
                return
            if not data:
                self.zygote.unwatch(self.channel.fileno())
                return
            entry = self.zygote.entries.get(data[1:].decode())
            if entry is not None:
                entry.drained = True
                entry.close("stdout", "stderr", "relay_out", "relay_in")
                self.zygote.hold(entry)
                self.zygote.broadcast({"event": "drained", "id": entry.id})


def _overlay_index() -> bool:
    """Whether overlayfs mounts have an index unless told otherwise. Documentation/filesystems/overlayfs.rst."""
    try:
        with open("/sys/module/overlay/parameters/index", "rb") as file:
            return file.read(1) == b"Y"
    except OSError:
        return False
