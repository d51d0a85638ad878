"""Making a container by command line, up to the moment before its execve; what it is then handed to its caller.

Its life from there on is container.py.
"""

from __future__ import annotations

import _socket
import errno
import posix

from corten.base import pathnames
from corten.base.errors import Conflict
from corten.base.files import remove_tree
from corten.base.ids import check_id
from corten.linux import cgroup, process
from corten.runtime import create, sync
from corten.runtime.bundle import Bundle
from corten.runtime.container import near
from corten.runtime.errors import StepFailed

TYPE_CHECKING = False
if TYPE_CHECKING:
    from corten.runtime.create import Child

SIGKILL = 9


def make_folder(root: str, id: str) -> str:
    """The state folder of a new container. Raises Conflict when the id is taken."""
    check_id(id)
    pathnames.make_folders(root, mode=0o711)
    try:
        posix.mkdir(f"{root}/{id}", 0o711)
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
            rootless=posix.geteuid() != 0 if rootless is None else rootless,
        )
        if listener >= 0:
            posix.close(listener)
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
    posix.waitpid(child.pid, 0)
    child.close()


def _listen(folder: str) -> int:
    descriptor, name = near(folder)
    listening = _socket.socket(_socket.AF_UNIX, _socket.SOCK_SEQPACKET | _socket.SOCK_CLOEXEC)
    try:
        before = posix.umask(0o077)
        try:
            listening.bind(name)
        finally:
            posix.umask(before)
        listening.listen(1)
        return listening.detach()
    finally:
        listening.close()
        posix.close(descriptor)


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
