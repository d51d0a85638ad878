"""Namespaces: making, joining and naming them. clone3, setns, unshare; no policy.

`clone3` returns twice. The child is a copy of the caller that holds the GIL and must end in execve or `posix._exit`:
nothing of the interpreter's after-fork work has been done in it. Only a single-threaded process may call it.
"""

import _socket
import errno
import fcntl
import posix
import struct

from corten.linux import foreign
from corten.linux.libc import SYS, _syscall, raise_errno, syscall

CLONE_NEWTIME = 0x00000080
CLONE_NEWNS = 0x00020000
CLONE_NEWCGROUP = 0x02000000
CLONE_NEWUTS = 0x04000000
CLONE_NEWIPC = 0x08000000
CLONE_NEWUSER = 0x10000000
CLONE_NEWPID = 0x20000000
CLONE_NEWNET = 0x40000000
CLONE_PIDFD = 0x00001000
CLONE_PARENT = 0x00008000
CLONE_INTO_CGROUP = 0x200000000

SIGCHLD = 17
SIBLING = CLONE_PARENT | CLONE_PIDFD | SIGCHLD  # the flags of `clone_sibling`
NS_GET_NSTYPE = 0xB703
_SIOCSIFFLAGS, _IFF_UP = 0x8914, 1

# name in /proc/<pid>/ns -> flag, in the order in which a process joins them: user first, mnt last (paths still resolve)
FLAGS = {
    "user": CLONE_NEWUSER,
    "cgroup": CLONE_NEWCGROUP,
    "ipc": CLONE_NEWIPC,
    "uts": CLONE_NEWUTS,
    "net": CLONE_NEWNET,
    "pid": CLONE_NEWPID,
    "time": CLONE_NEWTIME,
    "mnt": CLONE_NEWNS,
}

_pidfd = foreign.c_int(-1)
_arguments = foreign.create_string_buffer(88)


def clone3(flags: int, cgroup_fd: int = -1) -> tuple[int, int]:
    """Copy this process into new namespaces; returns (pid, pidfd) in the parent and (0, -1) in the child.

    With CLONE_PARENT the child becomes the caller's sibling. `cgroup_fd` is a folder of the v2 tree that the child is
    born in (CLONE_INTO_CGROUP), -1 for the caller's. clone3(2), Linux 5.7. Raises OSError.
    """
    flags |= CLONE_PIDFD
    if cgroup_fd >= 0:
        flags |= CLONE_INTO_CGROUP
    struct.pack_into(
        "11Q", _arguments, 0, flags, foreign.addressof(_pidfd), 0, 0, 0 if flags & CLONE_PARENT else SIGCHLD,
        0, 0, 0, 0, 0, max(cgroup_fd, 0),
    )
    pid: int = _syscall(_number, _arguments, _size)
    if pid < 0:
        raise_errno("clone3")
    return (pid, _pidfd.value) if pid else (0, -1)


_number = foreign.c_long(SYS["clone3"])
_size = foreign.c_long(88)


def clone_sibling() -> tuple[int, int]:
    """Copy this process as a sibling of it, by clone(2): many filters answer ENOSYS for clone3. Returns as `clone3`."""
    zero = foreign.c_long(0)
    pid: int = _syscall(
        foreign.c_long(SYS["clone"]), foreign.c_long(SIBLING), zero, foreign.c_long(foreign.addressof(_pidfd)), zero,
        zero,
    )
    if pid < 0:
        raise_errno("clone")
    return (pid, _pidfd.value) if pid else (0, -1)


def setns(descriptor: int, flags: int) -> None:
    """Join the namespaces `flags` of a pidfd (several at once), or the one that a namespace file is. setns(2)."""
    syscall("setns", descriptor, flags)


def unshare(flags: int) -> None:
    """Leave the caller's namespaces `flags` for new ones. unshare(2). Raises OSError."""
    syscall("unshare", flags)


def open_own(name: str) -> int:
    """A descriptor of the caller's own namespace: `pid`, `net`, ... Raises OSError."""
    return posix.open(f"/proc/self/ns/{name}", posix.O_RDONLY | posix.O_CLOEXEC)


def open_of(pid: int, name: str) -> int:
    """A descriptor of a process's namespace. Raises OSError."""
    return posix.open(f"/proc/{pid}/ns/{name}", posix.O_RDONLY | posix.O_CLOEXEC)


def raise_loopback() -> None:
    """Bring up `lo` of the caller's network namespace. netdevice(7). Raises OSError."""
    endpoint = _socket.socket(_socket.AF_INET, _socket.SOCK_DGRAM | _socket.SOCK_CLOEXEC)
    try:
        fcntl.ioctl(endpoint.fileno(), _SIOCSIFFLAGS, struct.pack("16sH22x", b"lo", _IFF_UP))
    finally:
        endpoint.close()


def check_type(descriptor: int, kind: str, path: str) -> None:
    """Prove that a descriptor is a namespace of this kind (`pid`, `net`, ...). Raises OSError with the path."""
    try:
        found = type_of(descriptor)
    except OSError:
        found = 0
    if found != FLAGS[kind]:
        raise OSError(errno.EINVAL, f"setns: not a {kind} namespace", path)


def type_of(descriptor: int) -> int:
    """The CLONE_NEW* flag of a namespace file; OSError (ENOTTY) when it is no namespace. ioctl_ns(2)."""
    return fcntl.ioctl(descriptor, NS_GET_NSTYPE) & 0xFFFFFFFF
