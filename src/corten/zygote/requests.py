"""What the zygote does when asked: one function an operation of protocol.py.

Each takes the zygote, the message and the client, and returns (result, descriptors to send), or None when the answer
comes later.
"""

import errno
import fcntl
import os
import signal
import struct
import termios

from corten.base.errors import Error
from corten.linux import cgroup_oom
from corten.runtime import create as runtime
from corten.runtime import exec as runtime_exec
from corten.runtime import forerunner
from corten.runtime.bundle import load_bundle
from corten.runtime.errors import go_strerror
from corten.zygote.entry import CREATING, EXITED, FAILED, RUNNING, STARTING, Entry, entry_key

TYPE_CHECKING = False
if TYPE_CHECKING:
    import socket
    from collections.abc import Callable

    from corten.zygote.loop import Zygote

    Message = dict[str, object]
    Answer = tuple[Message, list[int]] | None


_RUNC = ("failed to create task for container: failed to create shim task: OCI runtime create failed: "
         "runc create failed: unable to start container process: ")
_LAST_S = 0.1  # a child that has told of its failure ends within this time, or is killed


class Refused(Exception):
    """A request that cannot be done; `kind` is the name of a class of base.errors."""

    def __init__(self, kind: str, text: str) -> None:
        super().__init__(text)
        self.kind = kind


def find(zygote: "Zygote", message: "Message") -> Entry:
    """The entry a message speaks of. Raises Refused."""
    exec_id = message.get("exec_id")
    entry = zygote.entries.get(entry_key(str(message["id"]), str(exec_id) if exec_id else None))
    if entry is None:
        raise Refused("NotFound", f"container {message['id']} is not running")
    return entry


def create(zygote: "Zygote", message: "Message", _client: "socket.socket") -> "Answer":
    """Clone a container's init; answers at once with its pid, pidfd and network namespace."""
    container_id = str(message["id"])
    if container_id in zygote.entries:
        raise Refused("Conflict", f"container {container_id} is held already")
    tty = bool(message["tty"])
    child_ends, fds = _pipes(tty, bool(message["open_stdin"]))
    entry = Entry(container_id, None, 0, 0)
    try:
        lent = zygote.launcher.begin_init(entry, child_ends)
        try:
            bundle = load_bundle(container_id, zygote.layout.bundle(container_id))
        except BaseException:
            runtime.abandon(lent)
            raise
        child = runtime.spawn(bundle, child_ends, spare_network=zygote.spares.take, lent=lent)
    except Error as error:
        _close(fds.values())
        raise Refused("Internal", str(error)) from None
    except OSError as error:
        _close(fds.values())
        raise Refused("Internal", _refusal(error)) from None
    except BaseException:
        _close(fds.values())
        raise
    finally:
        _close(child_ends)
    entry.pid, entry.start_time = child.pid, child.start_time
    entry.tty, entry.log_dir = tty, str(message["log_dir"])
    entry.cgroup, entry.oom_path = bundle.cgroup, cgroup_oom.oom_file(bundle.cgroup)
    entry.child, entry.fds = child, {"pidfd": child.pidfd, **fds}
    zygote.add(entry)
    _feed_pump(zygote, entry)
    answer: Message = {"n": message["n"], "ok": {"pid": child.pid, "start_time": child.start_time}}
    try:
        netns = os.open(f"/proc/{child.pid}/ns/net", os.O_RDONLY | os.O_CLOEXEC)
    except OSError as error:
        if error.errno in (errno.EMFILE, errno.ENFILE):
            zygote.endings.end(entry, lambda _gone: None)
            raise
        # it has failed and ended already; `start` says of what
        zygote.reply(_client, answer, [child.pidfd])
        return None
    try:
        zygote.reply(_client, answer, [child.pidfd, netns])
    finally:
        os.close(netns)
    return None


def _refusal(error: OSError) -> str:
    """As runc and docker tell that a control group does not take a limit."""
    place = str(error.filename or "")
    if not place.startswith("/sys/fs/cgroup"):
        return str(error)
    call = (error.strerror or "").partition(": ")[0]
    return (f"{_RUNC}unable to apply cgroup configuration: failed to {call}: {call} {place}: "
            f"{go_strerror(error.errno or 0)}")


def _feed_pump(zygote: "Zygote", entry: Entry) -> None:
    mounts = -1
    if zygote.pump.holds_mounts:
        try:
            mounts = os.open(f"/proc/{entry.pid}/ns/mnt", os.O_RDONLY | os.O_CLOEXEC)
        except OSError:
            pass  # it has failed and ended already
    try:
        zygote.pump.feed(entry, mounts)
    finally:
        if mounts >= 0:
            os.close(mounts)


def _pipes(tty: bool, stdin: bool, output: bool = True) -> tuple[tuple[int, int, int], dict[str, int]]:
    """The child's three descriptors and our ends of them; with a terminal the child makes its own.

    Raises OSError: no descriptors are left; none is taken then.
    """
    made: list[int] = []
    null: list[int] = []
    ours: dict[str, int] = {}

    def end(name: str, wanted: bool) -> int:
        if not wanted or tty:
            if not null:
                null.append(os.open("/dev/null", os.O_RDWR | os.O_CLOEXEC))
            return null[0]
        made.extend(os.pipe2(os.O_CLOEXEC))
        theirs, ours[name] = made[-2:] if name == "stdin" else (made[-1], made[-2])
        return theirs

    try:
        return (end("stdin", stdin), end("stdout", output), end("stderr", output)), ours
    except OSError:
        _close(made + null)
        raise


def _close(descriptors: "object") -> None:
    for descriptor in set(descriptors):  # type: ignore[call-overload]
        os.close(descriptor)


def start(zygote: "Zygote", message: "Message", client: "socket.socket") -> "Answer":
    """Let a created container run its program; the answer comes when execve has succeeded or failed."""
    entry = find(zygote, message)
    if entry.state in (RUNNING, EXITED):
        raise Refused("Conflict", f"container {entry.id} is running already")
    entry.waiting = (client, int(str(message["n"])))
    if entry.state == FAILED:
        answer_start(zygote, entry)
    elif entry.child is not None and entry.state == CREATING:
        zygote.let_go(entry)  # it may still be mounting: the word waits for it
    return None


def answer_start(zygote: "Zygote", entry: Entry) -> None:
    """Tell whoever waits for an entry that it runs; or, when it has gone again, that it failed."""
    if entry.waiting is None:
        return
    client, number = entry.waiting
    if client not in zygote.clients.values():
        client = None
    entry.waiting = None
    if entry.state == FAILED:
        failure: Message = {"n": number, "error": {"kind": "StartFailed", **(entry.failure or {})}}
        zygote.endings.end(entry, lambda _gone: zygote.reply_if_there(client, failure), _LAST_S)  # type: ignore[arg-type]
        return
    names = [name for name in ("stdin", "stdout", "stderr", "console") if name in entry.fds] if entry.exec_id else []
    if client is not None:
        answer: Message = {"n": number, "ok": {"pid": entry.pid, "fds": names}}
        zygote.reply(client, answer, [entry.fds[name] for name in names])  # type: ignore[arg-type]
    if entry.exec_id is not None:
        entry.close("stdin", "stdout", "stderr")


def exec_(zygote: "Zygote", message: "Message", client: "socket.socket") -> "Answer":
    """Run one more process in a container; answers with the descriptors of its stdio."""
    container = zygote.entries.get(str(message["id"]))
    if container is None or container.state != RUNNING:
        raise Refused("Conflict", f"container {message['id']} is not running")
    exec_id, tty = str(message["exec_id"]), bool(message["tty"])
    process = message["process"]
    assert isinstance(process, dict)
    entry = Entry(container.id, exec_id, 0, 0)
    entry.tty, entry.waiting = tty, (client, int(str(message["n"])))
    child_ends, entry.fds = _pipes(tty, bool(message["stdin"]), bool(message["output"]))
    asked = Exec(zygote, entry, container, process, child_ends)
    try:
        if not zygote.launcher.begin(asked):
            asked.fork()
    except OSError as error:
        asked.fail(error)
    return None


class Exec:
    """An exec asked for, until its process is there. `ends`: the child's stdio."""

    __slots__ = ("container", "ends", "entry", "process", "zygote")

    def __init__(
        self, zygote: "Zygote", entry: Entry, container: Entry, process: dict[str, object], ends: tuple[int, int, int]
    ) -> None:
        self.zygote = zygote
        self.entry = entry
        self.container = container
        self.process = process
        self.ends = ends

    def fork(self) -> None:
        """Without a launcher: a copy of this process becomes the program."""
        container = self.container
        try:
            spec = _spec_of(self.zygote, container)
            target = runtime_exec.Target(container.id, container.pid, container.fds["pidfd"], spec)
            if runtime_exec.may_be_traced(spec):
                plan = runtime_exec.plan_of(target, self.process)
                self._await_birth(forerunner.spawn(target, self.process, plan, self.ends))
                return
            child = runtime_exec.spawn_exec(target, self.process, self.ends)
        except Exception as error:
            self.fail(error)
            return
        self.begun(child)

    def _await_birth(self, child: runtime.Child) -> None:
        """A forerunner is on its way: it is reaped when it ends, whatever has come of it."""
        zygote, ended = self.zygote, child.forerunner

        def on_end(_events: int) -> None:
            zygote.unwatch(ended)
            os.waitid(os.P_PIDFD, ended, os.WEXITED)
            os.close(ended)

        self.entry.child = child
        zygote.watch(ended, on_end)
        zygote.watch(child.channel, lambda _events: self.on_birth(child, lambda: self.fail(forerunner.unborn())))

    def on_birth(self, child: runtime.Child, unborn: "Callable[[], None]") -> None:
        """The first word of a child that is under way; `unborn` is called when there will be none."""
        state = child.receive()
        if state == runtime.CREATING:
            return
        self.zygote.unwatch(child.channel)
        if state == runtime.BORN:
            self.begun(child)
        elif state == runtime.UNBORN:
            child.close()
            self.entry.child = None
            unborn()
        else:
            self.fail(child.failure)

    def begun(self, child: runtime.Child) -> None:
        """Its process is there: hold it, then let it go on, since nothing is left to be done from outside."""
        entry = self.entry
        entry.child, entry.pid, entry.start_time, entry.fds["pidfd"] = child, child.pid, child.start_time, child.pidfd
        entry.state = STARTING
        self.zygote.add(entry)
        child.start()
        _close(self.ends)

    def fail(self, error: object) -> None:
        """There will be none."""
        _close(self.ends)
        self.zygote.fail(self.entry, error)


def _spec_of(zygote: "Zygote", container: Entry) -> dict[str, object]:
    """A running container's config.json; the one asked for last is kept, for health checks and the like."""
    known = zygote.last_spec
    if known is None or known[0] is not container:
        bundle = load_bundle(container.id, zygote.layout.bundle(container.id))
        known = zygote.last_spec = (container, bundle.spec)
    return known[1]


def stdin(zygote: "Zygote", message: "Message", _client: "socket.socket") -> "Answer":
    """A copy of the container's standard input, or of its terminal."""
    entry = find(zygote, message)
    descriptor = entry.fds.get("console", entry.fds.get("stdin", -1))
    if descriptor < 0:
        raise Refused("Conflict", f"container {entry.id} has no open standard input")
    return {}, [descriptor]


def close_stdin(zygote: "Zygote", message: "Message", _client: "socket.socket") -> "Answer":
    """Close every copy of the container's standard input that is held here and at the anchor."""
    entry = find(zygote, message)
    entry.close("stdin")
    zygote.hold(entry)
    return {}, []


def signal_(zygote: "Zygote", message: "Message", _client: "socket.socket") -> "Answer":
    """Send a signal by pidfd. pidfd_send_signal(2)."""
    entry = find(zygote, message)
    if entry.state in (EXITED, FAILED):
        raise Refused("NotFound", f"container {entry.id} is not running")
    try:
        signal.pidfd_send_signal(entry.fds["pidfd"], int(str(message["signal"])))
    except ProcessLookupError:
        raise Refused("NotFound", f"container {entry.id} is not running") from None
    return {}, []


def resize(zygote: "Zygote", message: "Message", _client: "socket.socket") -> "Answer":
    """Set the terminal's size. TIOCSWINSZ, ioctl_tty(2)."""
    entry = find(zygote, message)
    if "console" not in entry.fds:
        raise Refused("Conflict", f"container {entry.id} has no terminal")
    size = struct.pack("4H", int(str(message["rows"])) & 0xFFFF, int(str(message["cols"])) & 0xFFFF, 0, 0)
    fcntl.ioctl(entry.fds["console"], termios.TIOCSWINSZ, size)
    return {}, []


def list_(zygote: "Zygote", _message: "Message", _client: "socket.socket") -> "Answer":
    """Every entry, as Entry.describe."""
    return {"entries": [entry.describe() for entry in zygote.entries.values()]}, []


def forget_execs(zygote: "Zygote", message: "Message", _client: "socket.socket") -> "Answer":
    """Execs whose exits have been heard of: drop those that have ended."""
    for container_id, exec_id in message["execs"]:  # type: ignore[attr-defined]
        entry = zygote.entries.get(entry_key(container_id, exec_id))
        if entry is not None and entry.state == EXITED:
            zygote.drop(entry)
            _remove_exit(zygote, entry.key)
    return {}, []


def forget(zygote: "Zygote", message: "Message", client: "socket.socket") -> "Answer":
    """The exit is in the database: drop the entry and its file. One that still runs is killed first."""
    exec_id = message.get("exec_id")
    key = entry_key(str(message["id"]), str(exec_id) if exec_id else None)
    entry = zygote.entries.get(key)

    def then(gone: bool) -> None:
        answer: Message = {"n": message["n"], "ok": {}}
        if gone:
            _remove_exit(zygote, key)
        else:
            answer = {"n": message["n"], "error": {"kind": "Internal", "text": f"container {key} does not end"}}
        zygote.reply_if_there(client, answer)

    if entry is None:
        then(True)
    else:
        zygote.endings.end(entry, then)
        if entry.waiting is not None:
            entry.fail("it was given up before it ran")
            answer_start(zygote, entry)
    return None


def _remove_exit(zygote: "Zygote", key: str) -> None:
    try:
        os.unlink(f"{zygote.layout.exits}/{key}.json")
    except FileNotFoundError:
        pass


def shutdown(zygote: "Zygote", message: "Message", client: "socket.socket") -> "Answer":
    """End zygote, pump and anchor, when nothing is held."""
    if zygote.entries:
        raise Refused("Conflict", f"{len(zygote.entries)} processes are held")
    zygote.reply(client, {"n": message["n"], "ok": {}})
    zygote.end()
    return None


OPERATIONS: "dict[str, Callable[[Zygote, Message, socket.socket], Answer]]" = {
    "create": create, "start": start, "exec": exec_, "stdin": stdin, "close_stdin": close_stdin, "signal": signal_,
    "resize": resize, "list": list_, "forget": forget, "forget_execs": forget_execs,
    "shutdown": shutdown,
}
