"""Processes: descriptors of them, signals, waiting, prctl. No policy.

What a short-lived command needs is done without ctypes, whose import costs it 4 ms.
"""

import _signal  # type: ignore[import-not-found]
import posix

PR_SET_PDEATHSIG = 1
PR_SET_DUMPABLE = 4
PR_SET_KEEPCAPS = 8
PR_SET_NAME = 15
PR_SET_CHILD_SUBREAPER = 36
PR_SET_NO_NEW_PRIVS = 38
CLOSE_RANGE_CLOEXEC = 4
ALL_DESCRIPTORS = 0xFFFFFFFF

def prctl(option: int, a: int = 0, b: int = 0, c: int = 0, d: int = 0) -> int:
    """prctl(2) with numbers. Raises OSError."""
    from corten.linux.libc import libc, raise_errno

    result: int = libc.prctl(option, a, b, c, d)
    if result == -1:
        raise_errno("prctl")
    return result


def set_pdeathsig(signum: int) -> None:
    """The signal this process gets when the thread that made it ends; 0 clears it. Lost on a change of user."""
    prctl(PR_SET_PDEATHSIG, signum)


def set_child_subreaper(on: bool = True) -> None:
    """Orphans below this process become its children, not those of pid 1."""
    prctl(PR_SET_CHILD_SUBREAPER, int(on))


def set_dumpable(on: bool) -> None:
    """Whether processes of the same user may trace this one and open its /proc/<pid>/{exe,mem,fd}. execve resets it."""
    prctl(PR_SET_DUMPABLE, int(on))


def set_no_new_privs() -> None:
    """execve grants nothing more from now on. Cannot be taken back."""
    prctl(PR_SET_NO_NEW_PRIVS, 1)


def forget_imports() -> None:
    """No module is found from now on but what is loaded: in another's root an import would run a file of his, as us."""
    import sys

    sys.meta_path.clear()


def set_name(name: str) -> None:
    """What ps shows as the command; 15 bytes."""
    from corten.linux import foreign

    data = foreign.create_string_buffer(name.encode()[:15])
    prctl(PR_SET_NAME, foreign.addressof(data))


def pidfd_open(pid: int) -> int:
    """A descriptor of a process, immune to the reuse of its pid; close-on-exec. pidfd_open(2). OSError (ESRCH)."""
    return posix.pidfd_open(pid)


def pid_of(pidfd: int) -> int:
    """The pid, in the caller's pid namespace, of the process a descriptor is of. Raises ProcessLookupError."""
    descriptor = posix.open(f"/proc/self/fdinfo/{pidfd}", posix.O_RDONLY | posix.O_CLOEXEC)
    try:
        words = posix.read(descriptor, 4096).partition(b"\nPid:")[2].split(None, 1)
    finally:
        posix.close(descriptor)
    if words and int(words[0]) > 0:
        return int(words[0])
    raise ProcessLookupError(3, "pidfd: No such process")


def pidfd_send_signal(pidfd: int, signum: int) -> None:
    """Signal the very process the descriptor is of. Raises ProcessLookupError when it is gone."""
    _signal.pidfd_send_signal(pidfd, signum)


def pidfd_getfd(pidfd: int, descriptor: int) -> int:
    """A duplicate of another process's descriptor; needs ptrace rights over it. pidfd_getfd(2)."""
    from corten.linux.libc import syscall

    return syscall("pidfd_getfd", pidfd, descriptor, 0)


def close_range(first: int, last: int = ALL_DESCRIPTORS, flags: int = 0) -> None:
    """Close the descriptors first..last, or with CLOSE_RANGE_CLOEXEC have execve close them. Raises OSError."""
    if first <= last:
        from corten.linux.libc import syscall

        syscall("close_range", first, last, flags)


def exit_code(status: int) -> int:
    """A wait status as a shell tells it: the exit code, or 128 + the signal."""
    return posix.WEXITSTATUS(status) if posix.WIFEXITED(status) else 128 + posix.WTERMSIG(status)


def peek_exit(pidfd: int) -> int | None:
    """The exit code of an ended child (128+n for a signal), left unreaped; None while it runs.

    waitid(2) with WNOWAIT: who records the exit first and reaps then loses nothing when killed between the two.
    Raises ChildProcessError when it is not our child, or reaped already.
    """
    found = posix.waitid(posix.P_PIDFD, pidfd, posix.WEXITED | posix.WNOHANG | posix.WNOWAIT)
    if found is None:
        return None
    return found.si_status if found.si_code == posix.CLD_EXITED else 128 + found.si_status


def reap(pidfd: int) -> int | None:
    """As `peek_exit`, and the child's entry in the process table is gone afterwards."""
    found = posix.waitid(posix.P_PIDFD, pidfd, posix.WEXITED | posix.WNOHANG)
    if found is None:
        return None
    return found.si_status if found.si_code == posix.CLD_EXITED else 128 + found.si_status


def start_time(pid: int) -> int:
    """When a process began, in clock ticks since boot; with the pid it names a process for good.

    Field 22 of /proc/<pid>/stat; the name in field 2 may hold anything, so count from its closing bracket.
    Raises FileNotFoundError or ProcessLookupError when it is gone.
    """
    return int(_stat(pid)[19])


def state(pid: int) -> str:
    """The state letter of a process: R S D T Z X ... ; `X` when it is gone."""
    try:
        return _stat(pid)[0].decode()
    except (FileNotFoundError, ProcessLookupError):
        return "X"


def is_zombie(pid: int) -> bool:
    """Whether it has exited and nobody has reaped it yet."""
    return state(pid) == "Z"


def is_killed(pid: int) -> bool:
    """Whether SIGKILL is on its way to a process; False when that is gone. proc(5), SigPnd and ShdPnd."""
    try:
        with open(f"/proc/{pid}/status", encoding="ascii", errors="replace") as file:
            pending = [line.split()[1] for line in file if line.startswith(("SigPnd:", "ShdPnd:"))]
    except OSError:
        return False
    return any(int(mask, 16) >> 8 & 1 for mask in pending)


def _stat(pid: int) -> list[bytes]:
    descriptor = posix.open(f"/proc/{pid}/stat", posix.O_RDONLY | posix.O_CLOEXEC)
    try:
        data = posix.read(descriptor, 4096)
    finally:
        posix.close(descriptor)
    return data[data.rindex(b")") + 2:].split()


def overwrite_arguments(proc: int, text: bytes) -> None:
    """Make /proc/<pid>/cmdline, which all may read, show `text` and not the command line of whom we are a copy of.

    The kernel shows this memory as it is; fields 48, 49 of /proc/<pid>/stat say where. `proc`: a descriptor of /proc.
    """
    descriptor = posix.open("self/stat", posix.O_RDONLY | posix.O_CLOEXEC, dir_fd=proc)
    try:
        data = posix.read(descriptor, 4096)
    finally:
        posix.close(descriptor)
    fields = data[data.rindex(b")") + 2:].split()
    start, end = int(fields[45]), int(fields[46])
    size = end - start
    if start and size > 0:
        import ctypes

        ctypes.memmove(start, text[:size - 1].ljust(size, b"\0"), size)


def set_personality(persona: int) -> None:
    """The execution domain, e.g. PER_LINUX32. personality(2). Raises OSError."""
    from corten.linux import foreign
    from corten.linux.libc import check, libc

    check(libc.personality(foreign.c_ulong(persona)), "personality")
