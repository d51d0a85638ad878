"""Descriptors: where they lie in a child, what they are, writing to one."""

import errno
import fcntl
import posix

from corten.linux.process import close_range

PROC_SUPER_MAGIC = 0x9FA0
DEVPTS_SUPER_MAGIC = 0x1CD1
CGROUP2_SUPER_MAGIC = 0x63677270
OVERLAYFS_SUPER_MAGIC = 0x794C7630


def filesystem_type(descriptor: int) -> int:
    """The magic number of the file system a descriptor is on. fstatfs(2)."""
    from corten.linux import foreign
    from corten.linux.libc import check, libc

    found = foreign.create_string_buffer(256)
    check(libc.fstatfs(descriptor, found), "fstatfs")
    return int.from_bytes(found.raw[:8], "little")


def open_proc() -> int:
    """The caller's own /proc, proven to be one. Open it before entering a root that somebody else filled."""
    descriptor = posix.open("/proc", posix.O_PATH | posix.O_DIRECTORY | posix.O_CLOEXEC)
    if filesystem_type(descriptor) != PROC_SUPER_MAGIC:
        posix.close(descriptor)
        raise OSError(0, "/proc is not a proc file system")
    return descriptor


def write_proc(proc: int, path: str, data: bytes) -> None:
    """One write to a file below a proc file system's root, proven to be procfs's own (CVE-2025-52881). OSError."""
    descriptor = posix.open(path, posix.O_WRONLY | posix.O_CLOEXEC, dir_fd=proc)
    try:
        if filesystem_type(descriptor) != PROC_SUPER_MAGIC:
            raise OSError(errno.EXDEV, "open: not a file of procfs", path)
        try:
            posix.write(descriptor, data)
        except OSError as error:
            raise OSError(error.errno, f"write: {error.strerror}", path) from None
    finally:
        posix.close(descriptor)


def write_file(path: str, data: bytes) -> None:
    """One write to an existing file of the kernel's own, by absolute path. Raises OSError with the path."""
    descriptor = posix.open(path, posix.O_WRONLY | posix.O_CLOEXEC)
    try:
        posix.write(descriptor, data)
    except OSError as error:
        raise OSError(error.errno, f"write: {error.strerror}", path) from None
    finally:
        posix.close(descriptor)


def arrange(stdio: tuple[int, int, int], kept: list[int], first: int = 3) -> list[int]:
    """Put `stdio` on 0, 1, 2 and `kept` on `first`, first+1, ... and close every other descriptor above.

    What lies on 3..first-1 stays as it is. `kept` become close-on-exec. Returns their new numbers.
    """
    start = first + len(kept)
    high = [fcntl.fcntl(descriptor, fcntl.F_DUPFD_CLOEXEC, start) for descriptor in (*stdio, *kept)]
    for target, descriptor in enumerate(high[:3]):
        posix.dup2(descriptor, target)
    numbers = list(range(first, start))
    for target, descriptor in zip(numbers, high[3:], strict=True):
        posix.dup2(descriptor, target, inheritable=False)
    close_range(start)
    return numbers


def give_pipe(descriptor: int, uid: int, gid: int) -> None:
    """Make a pipe, socket or pty the user's, so that it can be opened again through /dev/stdout.

    Never a device node (but a pty): /dev/null of the host would change hands for everyone.
    """
    import stat

    try:
        found = posix.fstat(descriptor)
    except OSError:
        return
    mode = found.st_mode
    pty = stat.S_ISCHR(mode) and filesystem_type(descriptor) == DEVPTS_SUPER_MAGIC
    if found.st_uid == uid or not (stat.S_ISFIFO(mode) or stat.S_ISSOCK(mode) or pty):
        return
    try:
        posix.fchown(descriptor, uid, -1 if pty else gid)
    except OSError:
        pass  # a pipe from a user namespace we do not own: its reopening will fail, nothing else


def write_all(descriptor: int, data: bytes) -> None:
    """All of `data`, however often write(2) has to be called; for blocking descriptors."""
    view = memoryview(data)
    while view:
        view = view[posix.write(descriptor, view):]
