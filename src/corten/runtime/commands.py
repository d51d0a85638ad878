"""The commands of a container's life: create, start, run, state, kill, delete, pause, resume."""

import posix

from corten.base import jsonio
from corten.base.errors import Conflict, InvalidArgument, NotFound, Unsupported
from corten.base.files import atomic_write
from corten.runtime import container, state
from corten.runtime.errors import StepFailed
from corten.runtime.options import text

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from corten.runtime.command import Call
    from corten.runtime.create import Child

_INIT_FAILED = "unable to start container process: error during container init: "


def told(failure: StepFailed, prefix: str = _INIT_FAILED) -> StepFailed:
    """The same failure, with the words before it by which callers know it."""
    failure.args = (f"{prefix}{failure}",)
    return failure


def hand_over(call: "Call", child: "Child") -> None:
    """What the caller wants of a process that is made: its terminal, a descriptor of it, its pid. Raises OSError."""
    from corten.runtime import launch

    console = text(call.options, "console")
    if console:
        launch.send_descriptor(console, b"/dev/ptmx", child.console, "console")
        posix.close(child.console)
        child.console = -1
    elif child.console >= 0:
        from corten.linux import tty

        tty.keep_newlines(child.console)  # what it prints goes through a terminal, or into a file, of ours
    if call.options.get("pidfd_socket"):
        launch.send_descriptor(text(call.options, "pidfd_socket"), b"pidfd", child.pidfd, "pidfd")
    pid_file = call.path("pid_file")
    if pid_file:
        atomic_write(pid_file, str(child.pid).encode(), 0o644)


def check_terminal(terminal: bool, detached: bool, console: str) -> None:
    """A terminal of a detached process needs a taker, and nothing else has one. Raises InvalidArgument."""
    if terminal and detached and not console:
        raise InvalidArgument("cannot allocate tty if runc will detach without setting console socket")
    if console and not (terminal and detached):
        raise InvalidArgument("cannot use console socket if runc will not detach or allocate tty")


def warn_of_unknown(call: "Call", process: "dict[str, Any]") -> None:
    """Capabilities that the kernel has not: the specification asks for a warning."""
    sets = process.get("capabilities") or {}
    if sets:
        from corten.linux.capabilities import NUMBERS

        unknown = sorted({name for names in sets.values() for name in names or ()} - set(NUMBERS))
        if unknown:
            call.tell("warning", f"ignoring unknown or unavailable capabilities: [{' '.join(unknown)}]")


def passed_on(call: "Call", environment: list[str]) -> int:
    """How many descriptors from 3 on the program gets: those of socket activation, then --preserve-fds.

    sd_listen_fds(3): LISTEN_PID says whom they are for; the program is told by variables of its own.
    """
    count = 0
    if posix.environ.get(b"LISTEN_PID") == b"%d" % posix.getpid():
        word = posix.environ.get(b"LISTEN_FDS", b"").decode("ascii", "replace")
        count = int(word) if word.isascii() and word.isdigit() and len(word) < 4 else 0
        if count:
            environment += [f"LISTEN_FDS={count}", "LISTEN_PID=1"]
    total = count + call.number("preserve_fds")
    for number in range(3 + count, 3 + total):
        try:
            posix.fstat(number)
        except OSError:
            raise InvalidArgument(
                f"unable to stat preserved-fd {number - 3 - count} (of {total - count}): no such file or directory"
            ) from None
    return total


def trace(call: "Call", child: "Child", spec: dict[str, object], last: str) -> None:
    """What --debug tells of a process that was made: the words are runc's, since people look for them."""
    call.tell("debug", f"nsexec container setup: clone3 gave pid {child.pid}")
    call.tell("debug", "child process in init()")
    profile: object = (spec.get("linux") or {}).get("seccomp")  # type: ignore[attr-defined]
    if profile and call.debugging:
        from corten.linux import seccomp

        call.tell("debug", f"seccomp filter flags: {seccomp.compile_cached(profile)[1]}")  # type: ignore[arg-type]
    call.tell("debug", last)


def _new(call: "Call", detached: bool) -> "Child":
    from corten.runtime import launch
    from corten.runtime.bundle import load_bundle

    bundle = load_bundle(call.id, text(call.options, "bundle", "."), call.root)
    if call.systemd:
        from corten.runtime import systemd

        systemd.place(bundle)
    process = bundle.spec.get("process") or {}
    check_terminal(bool(process.get("terminal")), detached, text(call.options, "console"))
    sets = process.get("capabilities") or {}
    warn_of_unknown(call, process)
    for name in set(sets.get("ambient") or ()) - set(sets.get("inheritable") or ()):
        call.tell("warning", f"can't raise ambient capability {name}: not in the inheritable set")
    environment: list[str] = []
    preserved = passed_on(call, environment)
    if environment:
        process["env"] = [*(process.get("env") or ()), *environment]
    try:
        child = launch.new(
            bundle, detached=detached, preserve_fds=preserved, no_pivot=bool(call.options.get("no_pivot")),
            keyring=not call.options.get("no_keyring"), rootless=call.rootless,
        )
    except StepFailed as failure:
        raise told(failure) from None
    trace(call, child, bundle.spec, "init: closing the pipe to signal completion")
    try:
        hand_over(call, child)
    except BaseException:
        container.delete(call.root, call.id, force=True)
        raise
    return child


def create(call: "Call") -> int:
    """create: everything but the execve."""
    _new(call, detached=True)
    return 0


def start(call: "Call") -> int:
    """start: the execve of a created container."""
    try:
        container.start(call.load())
    except StepFailed as failure:
        raise told(failure) from None
    return 0


def run(call: "Call") -> int:
    """run: create, start, and unless --detach wait and delete."""
    from corten.linux import process
    from corten.runtime import foreground

    detached = bool(call.options.get("detach"))
    if not call.options.get("no_subreaper") and not detached:
        process.set_child_subreaper()
    child = _new(call, detached)
    try:
        if detached:
            return start(call)
        child.start()
        if child.wait() == "failed" and child.failure:
            posix.waitpid(child.pid, 0)
            raise told(child.failure)
        container.run_hooks(call.load(), "poststart", "running")
    except BaseException:
        container.delete(call.root, call.id, force=True)
        raise
    code = foreground.wait(child.pid, child.pidfd, child.console)
    if not call.options.get("keep"):
        container.delete(call.root, call.id, force=True)
    return code


def show_state(call: "Call") -> int:
    """state: the state document."""
    print(jsonio.indented(state.describe(call.load()), 2))
    return 0


def parse_signal(word: str) -> int:
    """`9`, `KILL`, `SIGKILL`. Raises InvalidArgument."""
    if word.isascii() and word.isdigit() and len(word) < 3:
        return int(word)
    import _signal  # type: ignore[import-not-found]

    name = word.upper() if word.upper().startswith("SIG") else f"SIG{word.upper()}"
    number = getattr(_signal, name, None)
    if not isinstance(number, int) or name in ("SIG_BLOCK", "SIG_UNBLOCK", "SIG_SETMASK", "SIG_DFL", "SIG_IGN"):
        raise InvalidArgument(f"unknown signal {word!r}".replace("'", '"'))
    return number


def kill(call: "Call") -> int:
    """kill: a signal (default TERM) to the init; --all makes a stopped container no error."""
    signum = parse_signal(call.words[1] if len(call.words) > 1 and call.words[1] else "TERM")
    record = call.load()
    try:
        container.kill(record, signum, bool(call.options.get("all")))
    except NotFound:
        if not call.options.get("all"):
            raise
    return 0


def delete(call: "Call") -> int:
    """delete: what a container has left."""
    container.delete(call.root, call.id, bool(call.options.get("force")))
    return 0


def pause(call: "Call") -> int:
    """pause: freeze all processes."""
    from corten.linux import cgroup

    record = call.load()
    if record.status not in ("running", "created"):
        raise Conflict("container not running")
    cgroup.freeze(record.cgroup)
    return 0


def resume(call: "Call") -> int:
    """resume: let a paused container go on."""
    from corten.linux import cgroup

    record = call.load()
    if record.status != "paused":
        raise Conflict("container not paused")
    cgroup.thaw(record.cgroup)
    return 0


def checkpoint(_call: "Call") -> int:
    """checkpoint: known, not done here."""
    raise Unsupported("checkpoint is not supported")


def restore(_call: "Call") -> int:
    """restore: known, not done here."""
    raise Unsupported("restore is not supported")
