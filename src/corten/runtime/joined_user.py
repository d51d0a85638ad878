"""A process in a user namespace that exists already: a container's first, or one that a user executes in his.

Its other namespaces must belong to that one, so whoever makes them has to be inside; and a process that has entered it
cannot come back. So one in between enters, makes the init as a sibling of its own (CLONE_PARENT), and ends.
"""

import errno
import posix

from corten.linux import namespaces, process
from corten.runtime import sync
from corten.runtime.errors import from_exception

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

_STEP = "join the user namespace"


def clone(enter: "Callable[[], None]", flags: int, group: int = -1) -> tuple[int, int]:
    """As namespaces.clone3: (pid, pidfd) in the caller, whose child it is, (0, -1) in the child.

    `enter` joins the user namespace, and what the child is to be born in. `group`: the v2 group for it, where its user
    may move a process to there from here; he may stand outside of what was given to him. Raises StepFailed.
    """
    ours, theirs = sync.make_pair()
    between, descriptor = namespaces.clone3(0)
    if between == 0:
        try:
            enter()
            pid, pidfd = _clone(flags & ~namespaces.CLONE_NEWUSER | namespaces.CLONE_PARENT, group)
            if pid == 0:
                return 0, -1
            sync.send(theirs, sync.GO, pidfd)
        except BaseException as error:  # nothing may unwind into the parent's code
            sync.send(theirs, sync.pack_failure(from_exception(_STEP, error)))
        posix._exit(0)
    posix.close(descriptor)
    posix.close(theirs)
    try:
        message, pidfd = sync.receive(ours)
    finally:
        posix.close(ours)
        posix.waitpid(between, 0)
    if message[:1] == sync.FAILED:
        raise sync.unpack_failure(message)
    return process.pid_of(pidfd), pidfd


def _clone(flags: int, group: int) -> tuple[int, int]:
    try:
        return namespaces.clone3(flags, group)
    except OSError as error:
        if group < 0 or error.errno not in (errno.EACCES, errno.EPERM, errno.EBUSY):
            raise
        return namespaces.clone3(flags)


def enter_path(path: str, others: list[tuple[str, int, str]]) -> list[tuple[str, int, str]]:
    """Join the user namespace at a path, and those of the `others` (kind, flag, path) that it does not own before.

    Returns the rest, to be joined from within: what is refused out here, and the mount namespace, where paths would
    lead elsewhere. Raises OSError.
    """
    joined = _open(path, "user")
    try:
        left = [other for other in others if not _join_outside(*other)]
        namespaces.setns(joined, namespaces.CLONE_NEWUSER)
    finally:
        posix.close(joined)
    return left


def _join_outside(kind: str, flag: int, path: str) -> bool:
    if kind == "mnt":
        return False
    try:
        joined = _open(path, kind)
    except PermissionError:
        return False
    try:
        namespaces.setns(joined, flag)
    except PermissionError:
        return False
    finally:
        posix.close(joined)
    return True


def _open(path: str, kind: str) -> int:
    """A descriptor of a namespace, after a look at its kind."""
    found = posix.open(path, posix.O_RDONLY | posix.O_CLOEXEC)
    try:
        namespaces.check_type(found, kind, path)
    except BaseException:
        posix.close(found)
        raise
    return found
