"""A container's life as a command-line runtime leads it: create, start, kill, delete, across processes.

Between create and start the init waits on `start.sock` in the state folder; whoever starts it connects, says START,
and reads until the end of file (it runs) or a failure.
"""

from __future__ import annotations

import _socket
import errno
import os
import time

from corten.base.errors import Conflict, InvalidArgument, NotFound
from corten.base.files import remove_tree
from corten.linux import cgroup, process, tty
from corten.linux.path import O_PATH
from corten.runtime import borrowed_mounts, create, hooks, state, sync
from corten.runtime.bundle import Bundle, check_id
from corten.runtime.errors import StepFailed
from corten.runtime.seccomp_agent import agent_of

TYPE_CHECKING = False
if TYPE_CHECKING:
    from corten.runtime.create import Child
    from corten.runtime.state import State

_KILLED_WAIT_S = 10.0
SIGKILL = 9


def make_folder(root: str, id: str) -> str:
    """The state folder of a new container. Raises Conflict when the id is taken."""
    check_id(id)
    os.makedirs(root, mode=0o711, exist_ok=True)
    try:
        os.mkdir(f"{root}/{id}", 0o711)
    except FileExistsError:
        raise Conflict("container with given ID already exists") from None
    return f"{root}/{id}"


def _check_group(path: str) -> None:
    """A group that is there already must be empty and not frozen: it becomes the container's alone. Raises Conflict."""
    if not cgroup.exists(path):
        return
    found = len(cgroup.processes(path))
    if found:
        raise Conflict(f"container's cgroup is not empty: {found} process(es) found")
    if cgroup.is_frozen(path):
        raise Conflict("container's cgroup unexpectedly frozen")


def new(
    bundle: Bundle, *, detached: bool, preserve_fds: int = 0, no_pivot: bool = False, keyring: bool = True,
    rootless: bool | None = None,
) -> Child:
    """Make a container up to READY; on failure nothing is left. Raises Conflict, StepFailed, and what spawn raises."""
    folder = make_folder(bundle.root, bundle.id)
    try:
        _check_group(bundle.cgroup)
        listener = _listen(folder) if detached else -1
        child = create.spawn(
            bundle, (0, 1, 2), preserve_fds=preserve_fds, listener=listener, no_pivot=no_pivot, keyring=keyring,
            rootless=os.geteuid() != 0 if rootless is None else rootless,
        )
        if listener >= 0:
            os.close(listener)
        try:
            while child.wait() == create.CREATING:
                pass
            if child.failure:
                raise child.failure
        except BaseException:
            _end(child)
            create.destroy(bundle)
            raise
    except BaseException:
        remove_tree(folder)
        raise
    return child


def _end(child: Child) -> None:
    """A child that failed: make sure that it ends, and reap it."""
    try:
        process.pidfd_send_signal(child.pidfd, SIGKILL)
    except ProcessLookupError:
        pass
    os.waitpid(child.pid, 0)
    child.close()


def _near(folder: str) -> tuple[int, str]:
    """A short name for the start socket, whatever the length of its folder (sun_path holds 108 bytes)."""
    descriptor = os.open(folder, O_PATH | os.O_DIRECTORY)
    return descriptor, f"/proc/self/fd/{descriptor}/{state.START_SOCKET}"


def _listen(folder: str) -> int:
    descriptor, name = _near(folder)
    listening = _socket.socket(_socket.AF_UNIX, _socket.SOCK_SEQPACKET | _socket.SOCK_CLOEXEC)
    try:
        before = os.umask(0o077)
        try:
            listening.bind(name)
        finally:
            os.umask(before)
        listening.listen(1)
        return listening.detach()
    finally:
        listening.close()
        os.close(descriptor)


def start(record: State) -> None:
    """Let a created container run its program, then run its poststart hooks. Raises Conflict, StepFailed."""
    status = record.status
    if status == "stopped":
        raise Conflict("cannot start a container that has stopped")
    if status != "created":
        raise Conflict("cannot start an already running container")
    descriptor, name = _near(record.folder)
    connection = _socket.socket(_socket.AF_UNIX, _socket.SOCK_SEQPACKET | _socket.SOCK_CLOEXEC)
    try:
        connection.connect(name)
        os.unlink(f"{record.folder}/{state.START_SOCKET}")
        sync.send(connection.fileno(), sync.START)
        message = _follow(record, connection.fileno())
    except (ConnectionRefusedError, FileNotFoundError):
        raise Conflict("cannot start an already running container") from None
    finally:
        connection.close()
        os.close(descriptor)
    if message:
        raise sync.unpack_failure(message)
    run_hooks(record, record.load_bundle(), "poststart", "running")


def _follow(record: State, channel: int) -> bytes:
    """Until the program runs (no message) or has failed; a listener of its seccomp filter goes to its agent."""
    while True:
        message, _ = sync.receive(channel)
        if message[:1] != sync.LISTENER:
            return message
        bundle = record.load_bundle()
        agent = agent_of(bundle.spec, state.document(bundle, "creating", record.pid))
        assert agent is not None
        pidfd = process.pidfd_open(record.pid)
        try:
            agent.hand_over(record.pid, pidfd, int(message[1:]))
        except StepFailed:
            process.pidfd_send_signal(pidfd, SIGKILL)
            raise
        finally:
            os.close(pidfd)
        sync.send(channel, sync.GO)


def run_hooks(record: State, bundle: Bundle, kind: str, status: str) -> None:
    """Hooks that run in the runtime's own namespaces. A poststart that fails ends the container (runtime-spec 1.3)."""
    if not (bundle.spec.get("hooks") or {}).get(kind):
        return
    try:
        hooks.run_all(bundle.spec, (kind,), state.document(bundle, status, record.pid))
    except StepFailed:
        if kind == "poststart":
            _kill_and_wait(record)
        raise


def kill(record: State, signum: int, everyone: bool = False) -> None:
    """Signal the init, or all processes of the container. Raises NotFound `container not running`.

    Where the init is no pid 1 of a namespace of its own, its end ends nobody else: SIGKILL is for all then.
    """
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
    finally:
        os.close(pidfd)
    if signum == SIGKILL and cgroup.is_frozen(record.cgroup):
        cgroup.thaw(record.cgroup)


def delete(root: str, id: str, force: bool = False) -> None:
    """Remove a stopped or created container, with force any; absent is an error unless forced. Raises Conflict."""
    try:
        record = state.load(root, id)
    except NotFound:
        if not force:
            raise
        if os.path.isdir(f"{root}/{check_id(id)}"):
            remove_tree(f"{root}/{id}")  # a create that was killed before it wrote its record
        return
    status = record.status
    if status not in ("stopped", "created") and not force:
        raise Conflict(f"cannot delete container {id} that is not stopped: {status}")
    if status != "stopped":
        _kill_and_wait(record)
    cgroup.remove(record.cgroup)
    try:
        bundle = record.load_bundle()
    except (InvalidArgument, NotFound, OSError):
        bundle = None
    if record.bundle == record.folder:
        os.unlink(f"{record.folder}/{state.STATE}")  # the bundle is its owner's, an engine's
    else:
        remove_tree(record.folder)
    if bundle is not None:
        borrowed_mounts.take_away(bundle.spec, bundle.rootfs)
        try:
            run_hooks(record, bundle, "poststop", "stopped")
        except (StepFailed, InvalidArgument):
            pass  # runtime.md: logged at most; the container is gone


def _kill_and_wait(record: State) -> None:
    try:
        kill(record, SIGKILL)
    except NotFound:
        return
    deadline = time.monotonic() + _KILLED_WAIT_S
    while state.is_alive(record.pid, record.start_time):
        if time.monotonic() > deadline:
            raise Conflict("container init still running")
        time.sleep(0.002)


def send_descriptor(path: str, text: bytes, descriptor: int, what: str) -> None:
    """Hand a pty's master or a pidfd to whoever listens on the socket `path`: one message, the descriptor with it."""
    connection = _socket.socket(_socket.AF_UNIX, _socket.SOCK_STREAM | _socket.SOCK_CLOEXEC)
    try:
        connection.connect(path)
        sync.send(connection.fileno(), text, descriptor)
    except OSError as error:
        raise StepFailed(f"send the {what}", "connect", error.errno or errno.EIO, path) from None
    finally:
        connection.close()


def copy_size(master: int) -> None:
    """Give a container's terminal the size of ours, if we have one."""
    try:
        tty.set_size(master, *tty.get_size(0))
    except OSError:
        pass
