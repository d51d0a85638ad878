"""The zygote: one thread, one epoll, and every container's first process as its child.

It forks, holds stdio, reaps and records; it decides nothing. A second thread would break setns and unshare.
Requests are in protocol.py, their doing in requests.py; this file is the loop and what happens by itself.
"""

import json
import os
import select
import socket
import time

from corten.base.paths import Layout
from corten.linux import process
from corten.zygote import protocol, reaper
from corten.zygote.anchor import PR_SET_CHILD_SUBREAPER, Anchor, Held
from corten.zygote.descriptors import close_others, lock_fd
from corten.zygote.endings import Endings, judge
from corten.zygote.entry import CREATING, EXITED, RUNNING, STARTING, Entry
from corten.zygote.groups import Groups
from corten.zygote.launcher_keeper import LauncherKeeper
from corten.zygote.pump_keeper import PumpKeeper
from corten.zygote.requests import OPERATIONS, Refused, answer_start
from corten.zygote.spare_networks import PAUSE_S, SpareNetworks

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

IDLE_S = 30.0  # without a daemon and without containers that run
_FULL_S = 0.1  # no descriptor for a client: until one may be free


class Zygote:
    """The state of the process; `entries` by key, `watched` maps descriptors to what to do when they are ready."""

    def __init__(self, layout: Layout, listener: socket.socket, anchor: socket.socket, held: list[Held]) -> None:
        self.layout = layout
        self.listener = listener
        self.anchor = anchor
        self.clients: dict[int, socket.socket] = {}
        self.entries: dict[str, Entry] = {}
        self.epoll = select.epoll()
        self.watched: dict[int, Callable[[int], None]] = {}
        self._timers: list[tuple[float, Callable[[], None]]] = []
        self.endings = Endings(self)
        self.groups = Groups(self.after)
        self.pump = PumpKeeper(self)
        self.spares = SpareNetworks()
        self.launcher = LauncherKeeper(self)
        self.needed_s = time.monotonic()  # when there was last a daemon or a container
        self.last_spec: tuple[Entry, dict[str, object]] | None = None  # see requests.exec_
        self.over = False
        self.watch(listener.fileno(), self._accept)
        self.watch(anchor.fileno(), self._hear_anchor)
        for one in held:
            self._adopt(Entry.from_hold(one.opaque, one.fds))
        self.pump.start()

    def run(self) -> None:
        """Serve until told to shut down."""
        while not self.over:
            ready = self.epoll.poll(self._patience_s())
            if not ready:
                self._use_the_pause()
            for descriptor, events in ready:
                action = self.watched.get(descriptor)
                if action is not None:
                    action(events)
            if self._timers:
                self._run_timers()
            if self._needed:
                self.needed_s = time.monotonic()
            elif time.monotonic() > self.needed_s + IDLE_S and not (self.entries and os.path.isdir(self.layout.exits)):
                self.end()

    @property
    def _needed(self) -> bool:
        """By a daemon or a process; ends are kept for the next daemon, for as long as there is a place to ask at."""
        return bool(self.clients) or any(entry.state != EXITED for entry in self.entries.values())

    def _use_the_pause(self) -> None:
        """Nothing to do: make what the next start or exec would have to wait for."""
        if self.endings.strangers:
            self.endings.reap_strangers()
        if self.clients and not self.launcher.prepare() and self.spares.short:
            self.spares.make()

    def _patience_s(self) -> float | None:
        """How long to wait: until the next timer at most, and not for ever when nobody needs this process."""
        if self.endings.strangers or (self.clients and (self.launcher.wanted or self.spares.short)):
            return PAUSE_S
        if self._timers:
            return max(0.0, min(self._timers, key=_when)[0] - time.monotonic())
        return None if self._needed else IDLE_S

    def after(self, delay_s: float, action: "Callable[[], None]") -> None:
        """Call something later."""
        self._timers.append((time.monotonic() + delay_s, action))

    def _run_timers(self) -> None:
        now = time.monotonic()
        due = [timer for timer in self._timers if timer[0] <= now]
        if due:
            self._timers = [timer for timer in self._timers if timer[0] > now]
        for _, action in sorted(due, key=_when):
            action()

    def end(self) -> None:
        """Leave nothing behind: no socket, no anchor, no pump. A daemon that comes later starts others."""
        for leave in (lambda: os.unlink(self.layout.zygote_socket), lambda: self.anchor.send(b"Q")):
            try:
                leave()
            except OSError:
                pass  # the folder is gone; the anchor is
        self.over = True

    # --- epoll

    def watch(self, descriptor: int, action: "Callable[[int], None]", events: int = select.EPOLLIN) -> None:
        self.watched[descriptor] = action
        self.epoll.register(descriptor, events)

    def unwatch(self, descriptor: int) -> None:
        if self.watched.pop(descriptor, None) is not None:
            self.epoll.unregister(descriptor)

    # --- entries

    def add(self, entry: Entry) -> None:
        """Hold a process that has just been cloned: watch it, and give the anchor its copy."""
        self.entries[entry.key] = entry
        self.watch(entry.fds["pidfd"], lambda _events: self.endings.on_exit(entry))
        if entry.child is not None:
            self.watch(entry.child.channel, lambda _events: self._on_child(entry))
        self.hold(entry)

    def hold(self, entry: Entry) -> None:
        """Tell the anchor all there is to know of the entry, anew."""
        data, fds = entry.to_hold()
        try:
            socket.send_fds(self.anchor, [data], fds)
        except OSError:
            pass  # the anchor is gone; the end of the socket says so too, and then everything is handed over

    def drop(self, entry: Entry) -> None:
        """Forget an entry and close what was held for it, here, at the pump and at the anchor."""
        self.unwatch(entry.fds.get("pidfd", -1))
        self.endings.foreign.discard(entry)
        self.end_child(entry)
        if entry.log_dir:
            self.pump.tell(b"R" + entry.key.encode())
        entry.close()
        self.entries.pop(entry.key, None)
        if self.last_spec is not None and self.last_spec[0] is entry:
            self.last_spec = None
        try:
            self.anchor.send(b"D" + entry.key.encode())
        except OSError:
            pass

    def _adopt(self, entry: Entry) -> None:
        """Take over from a zygote that was killed; what that had not let go dies with it."""
        self.entries[entry.key] = entry
        kept = reaper.read_exit(f"{self.layout.exits}/{entry.key}.json")
        if entry.state in (CREATING, STARTING):
            kept = judge(self.layout.exits, entry, kept)
        if kept is not None:
            self.endings.mark_exited(entry, kept)
            if entry.exec_id is None:  # recorded by the anchor, which does no more than that
                self.groups.remove(entry.cgroup)
        else:
            self.watch(entry.fds["pidfd"], lambda _events: self.endings.on_exit(entry))
        self.hold(entry)

    def _on_child(self, entry: Entry) -> None:
        """Word from an init or exec process on its way to execve."""
        child = entry.child
        if child is None:
            return
        state = child.receive()
        if state == "created":
            self._on_created(entry)
        elif state == "running":
            self._on_running(entry)
        elif state == "failed":
            self.fail(entry, child.failure)

    def let_go(self, entry: Entry) -> None:
        """Have it execute; the anchor knows before the process does."""
        assert entry.child is not None
        entry.state = STARTING
        self.hold(entry)
        entry.child.start()

    def _on_running(self, entry: Entry) -> None:
        """Who waits hears of it first. Until the anchor has, it knows that it was let go: enough for a next zygote.

        Of an exec that is all that there is to know until its end.
        """
        entry.state = RUNNING
        self.end_child(entry)
        answer_start(self, entry)
        if entry.exec_id is None:
            self.hold(entry)

    def fail(self, entry: Entry, failure: object) -> None:
        """It has not come to run: see Entry.fail."""
        entry.fail(failure)
        self.end_child(entry)
        answer_start(self, entry)

    def _on_created(self, entry: Entry) -> None:
        child = entry.child
        assert child is not None
        if entry.tty and child.console >= 0 and "console" not in entry.fds:
            os.set_blocking(child.console, False)
            entry.fds["console"] = child.console
            if entry.log_dir:
                entry.fds["relay_out"], entry.fds["relay_in"] = os.pipe2(os.O_CLOEXEC)
            self.hold(entry)
            self.pump.feed(entry)

    def hear_out(self, entry: Entry) -> None:
        """A process's last words come before its end."""
        while entry.child is not None:
            before = entry.child.state
            self._on_child(entry)
            if entry.child is not None and entry.child.state == before:
                if entry.child.ended() == "running":
                    self._on_running(entry)
                return

    def end_child(self, entry: Entry) -> None:
        """There is nothing more to hear from it on its way to execve."""
        if entry.child is not None:
            self.unwatch(entry.child.channel)
            entry.child.close()
            entry.child = None

    def answer(self, entry: Entry) -> None:
        """Tell whoever waits for its start what has come of it."""
        answer_start(self, entry)

    # --- clients

    def _accept(self, _events: int) -> None:
        try:
            client, _address = self.listener.accept()
        except OSError:  # no descriptors left: those waiting stay in the backlog a moment longer
            self.unwatch(self.listener.fileno())
            self.after(_FULL_S, lambda: self.watch(self.listener.fileno(), self._accept))
            return
        client.setblocking(False)
        self.clients[client.fileno()] = client
        self.watch(client.fileno(), lambda _events: self._serve(client))

    def _serve(self, client: socket.socket) -> None:
        try:
            message, fds = protocol.receive(client)
        except (OSError, ValueError):
            message, fds = None, []
        for descriptor in fds:
            os.close(descriptor)  # no request brings any
        if message is None:
            self.disconnect(client)
            return
        number = int(str(message.get("n", 0)))
        try:
            result = OPERATIONS[str(message.get("op"))](self, message, client)
        except Refused as error:
            self.reply(client, {"n": number, "error": {"kind": error.kind, "text": str(error), "exit_code": 125}})
        except Exception as error:
            self.reply(client, {"n": number, "error": {"kind": "Internal", "text": str(error), "exit_code": 125}})
        else:
            if result is not None:
                self.reply(client, {"n": number, "ok": result[0]}, result[1])

    def reply(self, client: socket.socket, message: dict[str, object], fds: "tuple[int, ...] | list[int]" = ()) -> None:
        """Answer; a client that does not read is let go: it comes back and asks for the list."""
        try:
            protocol.send(client, message, fds)
        except OSError:
            self.disconnect(client)

    def reply_if_there(self, client: socket.socket | None, message: dict[str, object]) -> None:
        """The same for an answer that comes late."""
        if client is not None and client in self.clients.values():
            self.reply(client, message)

    def disconnect(self, client: socket.socket) -> None:
        if self.clients.pop(client.fileno(), None) is not None:
            self.unwatch(client.fileno())
            client.close()

    def broadcast(self, message: dict[str, object]) -> None:
        for client in tuple(self.clients.values()):
            self.reply(client, message)

    # --- the anchor

    def _hear_anchor(self, _events: int) -> None:
        try:
            data = self.anchor.recv(1 << 16)
        except ConnectionError:
            data = b""
        if not data:
            self._become_anchor()
            return
        pid, record = data[1:].split(b"\n", 1)
        for entry in tuple(self.entries.values()):
            if entry.pid == int(pid) and entry.state in (CREATING, STARTING, RUNNING):
                self.endings.on_told(entry, json.loads(record))

    def _become_anchor(self) -> None:
        """The anchor was killed. This process is the containers' parent, so it becomes the anchor; its fork goes on."""
        from corten.linux.libc import syscall

        syscall("prctl", PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
        self.unwatch(self.anchor.fileno())
        try:
            mine, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
            pid = os.fork()
        except OSError:  # too many processes or descriptors: go on without for a moment
            self.after(_FULL_S, self._become_anchor)
            return
        self.anchor.close()
        if pid == 0:
            mine.close()
            self.anchor = theirs
            old, self.epoll = self.epoll, select.epoll()  # the epoll would be shared with the parent
            for descriptor in self.watched:
                self.epoll.register(descriptor, select.EPOLLIN)
            old.close()
            self.watch(theirs.fileno(), self._hear_anchor)
            self.launcher.let_go()  # what they make would be the anchor's children
            return
        theirs.close()
        process.set_name("corten-anchor")
        held = {}
        for key, entry in self.entries.items():
            data, fds = entry.to_hold()
            held[key] = Held(key, entry.pid, entry.oom_path, data.split(b"\n", 3)[3], fds)
        layout, listener = self.layout, self.listener
        close_others({0, 1, 2, listener.fileno(), mine.fileno(), lock_fd(layout),
                      *(fd for one in held.values() for fd in one.fds)})
        Anchor(layout.exits, held, lambda rest, channel: life(layout, listener, channel, rest)).run(mine, pid)
        os._exit(0)


def _when(timer: "tuple[float, Callable[[], None]]") -> float:
    return timer[0]


def life(layout: Layout, listener: socket.socket, anchor: socket.socket, held: list[Held]) -> None:
    """A zygote from its first moment to its last."""
    process.set_name("corten-zygote")
    Zygote(layout, listener, anchor, held).run()
