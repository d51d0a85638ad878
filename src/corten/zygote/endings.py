"""The ends of processes: noticed, put on record, told; and of those that are to end, which nobody waits for.

A container's exit is written down first, reaped after, told last (docs/adr/0001). A process that has failed, or is not
wanted any more, is told to go and heard of when it has gone: until then it is held as before, and the loop serves
others.
"""

import os
import signal
import time

from corten.linux import process
from corten.linux.pidfd import pidfd_exit_status
from corten.zygote import reaper
from corten.zygote.entry import CREATING, EXITED, FAILED, RUNNING, STARTING, Entry

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from corten.zygote.loop import Zygote

UNKNOWN_STATUS = 255 << 8  # docs/adr/0001: an old kernel, and both zygote and anchor were killed in turn
GOING_S = 2.0  # who waits for an end is told by then how far it has come
_WRITTEN_S = 1.0
_AGAIN_S = 0.05  # until another look at an exit that could not be recorded, or that others reap


class Endings:
    """Of one zygote."""

    def __init__(self, zygote: "Zygote") -> None:
        self.zygote = zygote
        self.foreign: set[Entry] = set()  # exited, and some other process has yet to reap them
        self._going: dict[Entry, list[Callable[[bool], None]]] = {}
        self.strangers = False  # there may be children that nobody knows

    # --- having one end

    def end(self, entry: Entry, then: "Callable[[bool], None]", patience_s: float = 0.0) -> None:
        """Have a process end, without a record of it, and forget it and its group.

        It is killed unless it ends by itself within `patience_s`. `then` is called with True when all is gone, with
        False when that has not come about within two seconds: it goes on all the same.
        """
        self._going.setdefault(entry, []).append(then)
        if entry.state == EXITED or not entry.pid or "pidfd" not in entry.fds:
            self._gone(entry)
        elif patience_s:
            self.zygote.after(patience_s, lambda: self._kill(entry))
        else:
            self._kill(entry)
        if entry in self._going:
            self.zygote.after(GOING_S, lambda: self._lose_patience(entry, then))

    def _kill(self, entry: Entry) -> None:
        if entry not in self._going or "pidfd" not in entry.fds:
            return
        try:
            signal.pidfd_send_signal(entry.fds["pidfd"], signal.SIGKILL)
        except ProcessLookupError:
            pass
        if entry.exec_id is None:
            self.zygote.groups.remove(entry.cgroup)  # a frozen one would not die

    def _lose_patience(self, entry: Entry, then: "Callable[[bool], None]") -> None:
        waiting = self._going.get(entry, [])
        if then in waiting:
            waiting.remove(then)
            then(False)

    def _gone(self, entry: Entry) -> None:
        """The process is; now its group, unless that went with the exit."""
        if entry.exec_id is None and (entry.state != EXITED or self.zygote.groups.busy(entry.cgroup)):
            self.zygote.groups.remove(entry.cgroup, lambda: self._forget(entry))
        else:
            self._forget(entry)

    def _forget(self, entry: Entry) -> None:
        waiting = self._going.pop(entry, [])
        self.zygote.drop(entry)
        for then in waiting:
            then(True)

    # --- noticing

    def on_exit(self, entry: Entry) -> None:
        """The pidfd says that it has exited."""
        if self.zygote.entries.get(entry.key) is not entry or entry.state == EXITED:
            return
        status = self._exit_status(entry)
        if status is None:
            return
        if entry.child is not None and status & 0x7F:
            self.zygote.launcher.kill(entry)  # killed in the launcher's memory, perhaps, in the middle of anything
        if entry not in self._going:
            self.zygote.hear_out(entry)
        if entry in self._going:
            self._reap(entry)
            self._gone(entry)
        elif entry.state in (CREATING, STARTING, FAILED):
            self._reap(entry)
            self._failed(entry)
        else:
            self._ended(entry, status)

    def _ended(self, entry: Entry, status: int) -> None:
        if entry.exec_id is not None and entry not in self.foreign:
            self._exec_ended(entry, status)
            return
        try:
            record = reaper.record_exit(self.zygote.layout.exits, entry.key, status, entry.oom_path)
        except OSError:  # no room, or no descriptor: it stays a zombie, which keeps the code
            self._look_again(entry)
            return
        self.mark_exited(entry, record)
        reaper.reap(entry.pid)
        self.zygote.broadcast({"event": "exit", **record})
        self.after_exit(entry)

    def _exec_ended(self, entry: Entry, status: int) -> None:
        """Somebody waits for an exec's end now: told first, then held by the anchor, reaped last.

        Whatever is killed meanwhile, the zombie keeps the code. A container's goes to a file first: the daemon may be
        away for long and wants those codes by all means.
        """
        record = reaper.exit_record(entry.key, status, "")
        self.mark_exited(entry, record)
        self.zygote.broadcast({"event": "exit", **record})
        self.after_exit(entry)
        reaper.reap(entry.pid)

    def on_told(self, entry: Entry, record: dict[str, object]) -> None:
        """The anchor has reaped it and written that down."""
        self.mark_exited(entry, record)
        if entry in self._going:
            self._gone(entry)
        else:
            self.zygote.broadcast({"event": "exit", **record})
            self.after_exit(entry)

    def _failed(self, entry: Entry) -> None:
        entry.state = FAILED
        self.zygote.end_child(entry)  # a launcher's copy of the channel closes later, which reads as an execve
        if entry.failure is None:
            entry.failure = {"text": "the init process was killed", "exit_code": 125}
        if entry.waiting is not None:
            self.zygote.answer(entry)
        elif entry.exec_id is None:
            self.zygote.groups.remove(entry.cgroup)

    def _exit_status(self, entry: Entry) -> int | None:
        """The wait status; None while it runs, or while another process has yet to reap it and say so."""
        try:
            return reaper.peek(entry.pid)
        except ChildProcessError:
            pass
        pidfd = entry.fds["pidfd"]
        status = pidfd_exit_status(pidfd)
        if status is None:
            try:
                signal.pidfd_send_signal(pidfd, 0)
            except ProcessLookupError:
                status = UNKNOWN_STATUS  # unless whoever reaped it has written the file: record_exit looks there first
            else:
                self.foreign.add(entry)
                self._look_again(entry)
        return status

    def _look_again(self, entry: Entry) -> None:
        self.zygote.unwatch(entry.fds["pidfd"])  # it stays ready
        self.zygote.after(_AGAIN_S, lambda: self.on_exit(entry))

    def _reap(self, entry: Entry) -> None:
        reaper.reap(entry.pid)
        self.zygote.unwatch(entry.fds["pidfd"])
        self.foreign.discard(entry)
        entry.close("pidfd")

    # --- putting it on record

    def mark_exited(self, entry: Entry, record: dict[str, object]) -> None:
        """What the record says is known of the entry from here on."""
        self.zygote.unwatch(entry.fds["pidfd"])
        self.foreign.discard(entry)
        entry.state = EXITED
        entry.status = int(str(record["status"]))
        entry.time_ns = int(str(record["time_ns"]))
        entry.oom = bool(record["oom"])

    def after_exit(self, entry: Entry) -> None:
        """What nobody waits for: the cgroup goes, stdin closes, the anchor hears of it."""
        if entry.exec_id is None:
            self.zygote.groups.remove(entry.cgroup)
        else:
            entry.close("console")
        entry.close("stdin")
        self.zygote.hold(entry)

    # --- children that nobody knows

    def reap_strangers(self) -> None:
        """Reap what a launcher has made and what was killed before it could say so."""
        self.strangers = False
        known = {entry.pid for entry in self.zygote.entries.values()}
        for pid in _children():
            try:
                if pid not in known and reaper.peek(pid) is not None:
                    reaper.reap(pid)
            except ChildProcessError:
                continue


# --- after a kill of the zygote


def judge(exits: str, entry: Entry, kept: dict[str, object] | None) -> dict[str, object] | None:
    """What became of a process that a killed zygote had under way; returns the record of its exit if it has run.

    One that had not been let go dies of the kill (PR_SET_PDEATHSIG, prctl(2)), and one that had, unless it was past
    that. The anchor waits for the zygote's end before it starts another, so the signal has been sent by now.
    """
    deadline = time.monotonic() + _WRITTEN_S
    while kept is None and process.is_zombie(entry.pid) and time.monotonic() < deadline:
        time.sleep(0.001)  # the anchor is about to write it down
        kept = reaper.read_exit(f"{exits}/{entry.key}.json")
    lost = kept["status"] == 128 + signal.SIGKILL if kept is not None else process.is_killed(entry.pid)
    if entry.state == STARTING and not lost:
        entry.state = RUNNING
        return kept
    entry.state, entry.failure = FAILED, {"text": "the zygote was killed meanwhile", "exit_code": 125, "lost": True}
    if kept is not None:
        os.unlink(f"{exits}/{entry.key}.json")
    try:
        signal.pidfd_send_signal(entry.fds["pidfd"], signal.SIGKILL)
    except ProcessLookupError:
        pass
    return None


def _children() -> list[int]:
    """This process's children, as far as the kernel tells. proc(5), CONFIG_PROC_CHILDREN."""
    try:
        with open(f"/proc/self/task/{os.getpid()}/children", "rb") as file:
            return [int(word) for word in file.read().split()]
    except OSError:
        return []
