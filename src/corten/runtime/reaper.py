"""Pid 1 of a container with `--init`: passes signals on, reaps orphans, ends as the program ends.

It is the process that made the container, without its execve: so it needs no file in the image. It keeps the program's
user and confinement, no capability, no descriptor but stdio, and may not be traced from inside.
"""

import _signal  # type: ignore[import-not-found]
import posix

from corten.linux import capabilities, process
from corten.runtime import program as steps
from corten.runtime.program import Program

_NOT_PASSED_ON = (_signal.SIGKILL, _signal.SIGSTOP, _signal.SIGCHLD)
_FAULTS = (_signal.SIGSEGV, _signal.SIGBUS, _signal.SIGFPE, _signal.SIGILL, _signal.SIGTRAP, _signal.SIGABRT)


def split(program: Program, proc: int) -> None:
    """Fork: the child returns and goes on to the execve, the parent becomes the reaper and never returns.

    `proc` is a descriptor of the host's /proc.
    """
    signals = set(range(1, 32)) - {int(number) for number in (*_NOT_PASSED_ON, *_FAULTS)}
    signals.add(_signal.SIGCHLD)
    _signal.pthread_sigmask(_signal.SIG_BLOCK, signals)
    child = posix.fork()
    if child == 0:
        process.set_dumpable(False)
        posix.setpgid(0, 0)
        _to_foreground()
        _signal.pthread_sigmask(_signal.SIG_SETMASK, ())
        return
    try:
        process.overwrite_arguments(proc, b"/sbin/init")
        _reap(program, child, signals)
    finally:
        posix._exit(255)


def _to_foreground() -> None:
    """The program's group gets the terminal's keys, when stdin is our controlling terminal."""
    previous = _signal.signal(_signal.SIGTTOU, _signal.SIG_IGN)
    try:
        posix.tcsetpgrp(0, posix.getpgrp())
    except OSError:
        pass
    finally:
        _signal.signal(_signal.SIGTTOU, previous)


def _reap(program: Program, child: int, signals: set[int]) -> None:
    process.set_pdeathsig(0)
    process.close_range(3)
    process.set_name("init")
    steps.become_user(program, ())
    if program.no_new_privs:
        process.set_no_new_privs()
    nothing = capabilities.Sets(None)
    nothing.effective = nothing.permitted = program.capabilities.permitted & 1 << capabilities.NUMBERS["CAP_KILL"]
    capabilities.apply(nothing)
    process.set_dumpable(False)  # the change of user may have made it traceable again
    while True:
        got = _signal.sigwait(signals)
        if got != _signal.SIGCHLD:
            try:
                posix.kill(-child if got in (_signal.SIGTSTP, _signal.SIGTTIN, _signal.SIGTTOU) else child, got)
            except OSError:
                pass
            continue
        status = _collect(child)
        if status is not None:
            posix._exit(process.exit_code(status))


def _collect(child: int) -> int | None:
    """Reap all that has ended; the program's wait status when it was among them."""
    found = None
    while True:
        try:
            pid, status = posix.waitpid(-1, posix.WNOHANG)
        except ChildProcessError:
            return found
        if pid == 0:
            return found
        if pid == child:
            found = status
