"""A container's life as a command-line runtime leads it, once it is made (launch.py): start, kill, delete.

Between create and start the init waits on `start.sock` in the state folder; whoever starts it connects, says START,
and reads until the end of file (it runs) or a failure.
"""

from __future__ import annotations

import posix

from corten.base.errors import Conflict, InvalidArgument, NotFound
from corten.linux import process
from corten.runtime import state
from corten.runtime.errors import StepFailed, go_strerror

TYPE_CHECKING = False
if TYPE_CHECKING:
    from corten.runtime.state import State

_KILLED_WAIT_MS = 10_000
SIGKILL = 9


def near(folder: str) -> tuple[int, str]:
    """A short name for the start socket, whatever the length of its folder (sun_path holds 108 bytes)."""
    descriptor = posix.open(folder, posix.O_PATH | posix.O_DIRECTORY | posix.O_CLOEXEC)
    return descriptor, f"/proc/self/fd/{descriptor}/{state.START_SOCKET}"


def start(record: State) -> None:
    """Let a created container run its program, then run its poststart hooks. Raises Conflict, StepFailed."""
    status = record.status
    if status == "stopped":
        raise Conflict("cannot start a container that has stopped")
    if status == "paused":
        raise Conflict("cannot start a container in the paused state")
    if status != "created":
        raise Conflict("cannot start an already running container")

    import _socket

    from corten.runtime import sync

    descriptor, name = near(record.folder)
    connection = _socket.socket(_socket.AF_UNIX, _socket.SOCK_SEQPACKET | _socket.SOCK_CLOEXEC)
    try:
        connection.connect(name)
        posix.unlink(f"{record.folder}/{state.START_SOCKET}")
        sync.send(connection.fileno(), sync.START)
        message = _follow(record, connection.fileno())
    except (ConnectionRefusedError, FileNotFoundError):
        raise Conflict("cannot start an already running container") from None
    finally:
        connection.close()
        posix.close(descriptor)
    if message:
        raise sync.unpack_failure(message)
    try:
        run_hooks(record, "poststart", "running")
    except StepFailed:
        delete(record.root, record.id, force=True)  # runtime.md, lifecycle: on with step 12, its destruction
        raise


def _follow(record: State, channel: int) -> bytes:
    """Until the program runs (no message) or has failed; a listener of its seccomp filter goes to its agent."""
    from corten.runtime import sync

    while True:
        message, _ = sync.receive(channel)
        if message[:1] != sync.LISTENER:
            return message

        from corten.runtime.seccomp_agent import agent_of

        agent = agent_of(record.load_bundle().spec, state.document(record, "creating", record.pid))
        assert agent is not None
        pidfd = process.pidfd_open(record.pid)
        try:
            agent.hand_over(record.pid, pidfd, int(message[1:]))
        except StepFailed:
            process.pidfd_send_signal(pidfd, SIGKILL)
            raise
        finally:
            posix.close(pidfd)
        sync.send(channel, sync.GO)


def run_hooks(record: State, kind: str, status: str) -> None:
    """Hooks that run in the runtime's own namespaces. A poststart that fails ends the container (runtime-spec 1.3)."""
    if not record.hooks.get(kind):
        return
    from corten.runtime import hooks

    try:
        hooks.run_all({"hooks": record.hooks}, (kind,), state.document(record, status, record.pid))
    except StepFailed:
        if kind == "poststart":
            _kill_and_wait(record)
        raise


def kill(record: State, signum: int, everyone: bool = False) -> None:
    """Signal the init, or all processes of the container. Raises NotFound `container not running`.

    Where the init is no pid 1 of a namespace of its own, its end ends nobody else: SIGKILL is for all then.
    """
    from corten.linux import cgroup

    if everyone or (signum == SIGKILL and record.shared_pids):
        if not cgroup.processes(record.cgroup):
            raise NotFound("container not running")
        cgroup.kill(record.cgroup, signum)
        if signum == SIGKILL and cgroup.is_frozen(record.cgroup):
            cgroup.thaw(record.cgroup)
        return
    try:
        pidfd = process.pidfd_open(record.pid)
    except (ProcessLookupError, OSError):
        raise NotFound("container not running") from None
    try:
        if not state.is_alive(record.pid, record.start_time):
            raise NotFound("container not running")
        process.pidfd_send_signal(pidfd, signum)
    except ProcessLookupError:
        raise NotFound("container not running") from None
    except OSError as error:
        raise InvalidArgument(f"unable to signal init: {go_strerror(error.errno or 0)}") from None
    finally:
        posix.close(pidfd)
    if signum == SIGKILL and cgroup.is_frozen(record.cgroup):
        cgroup.thaw(record.cgroup)


def delete(root: str, id: str, force: bool = False) -> None:
    """Remove a stopped or created container, with force any; absent is an error unless forced. Raises Conflict."""
    try:
        record = state.load(root, id)
    except NotFound:
        if not force:
            raise
        _remove_folder(f"{root}/{id}")  # of a create that was killed before it wrote its record
        return
    status = record.status
    if status not in ("stopped", "created") and not force:
        raise Conflict(f"cannot delete container {id} that is not stopped: {status}")
    if status != "stopped":
        _kill_and_wait(record)
    from corten.linux import cgroup

    cgroup.remove(record.cgroup)
    if record.unit:
        from corten.runtime import systemd

        systemd.stop(record.unit)
    if record.bundle == record.folder:
        posix.unlink(f"{record.folder}/{state.STATE}")  # the bundle is its owner's, an engine's
    else:
        _remove_folder(record.folder)
    if record.shared_mounts:
        from corten.runtime import borrowed_mounts

        borrowed_mounts.take_away(record.rootfs)
    _run_poststop(record)


def _run_poststop(record: State) -> None:
    """Each hook, whatever became of those before: a failure is a warning (runtime.md), the container is gone."""
    for number, hook in enumerate(record.hooks.get("poststop") or ()):
        from corten.base import jsonio
        from corten.runtime import hooks

        document = jsonio.dumps(state.document(record, "stopped", record.pid)).encode()
        try:
            hooks.run(f"poststop hook #{number}", hook, document)
        except (StepFailed, InvalidArgument) as failure:
            posix.write(2, f"corten-oci: warning: {failure}".replace("\n", " ").rstrip().encode() + b"\n")


def _remove_folder(folder: str) -> None:
    try:
        names = posix.listdir(folder)
    except FileNotFoundError:
        return
    for name in names:
        posix.unlink(f"{folder}/{name}")
    posix.rmdir(folder)


def _kill_and_wait(record: State) -> None:
    try:
        pidfd = process.pidfd_open(record.pid)
    except OSError:
        return
    try:
        kill(record, SIGKILL)
        import select

        poll = select.poll()
        poll.register(pidfd, select.POLLIN)
        if not poll.poll(_KILLED_WAIT_MS):
            raise Conflict("container init still running")
    except NotFound:
        return
    finally:
        posix.close(pidfd)
