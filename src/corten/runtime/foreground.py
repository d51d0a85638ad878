"""Waiting for a container or an exec in the foreground: signals are passed on, a terminal is relayed.

Only for the command line; an engine's containers are waited for by its zygote.
"""

import _signal  # type: ignore[import-not-found]
import os
import select
import termios

from corten.linux import process, tty

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

_CHUNK = 32768
_PASSED_ON = (1, 2, 3, 10, 12, 13, 14, 15, 18)
_SIGWINCH = 28


def wait(pid: int, pidfd: int, console: int) -> int:
    """Relay until the process ends; returns its exit code, 128+n for a signal."""
    wake_r, wake_w = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
    _signal.set_wakeup_fd(wake_w, warn_on_full_buffer=False)
    for number in (*_PASSED_ON, _SIGWINCH):
        _signal.signal(number, lambda *_: None)
    before = _make_raw() if console >= 0 else None
    try:
        if console >= 0:
            tty.copy_size(console)
        _relay(pidfd, console, wake_r)
    finally:
        if before is not None:
            termios.tcsetattr(0, termios.TCSADRAIN, before)
    return process.exit_code(os.waitpid(pid, 0)[1])


def _make_raw() -> "list[Any] | None":
    """Our terminal sends every key as it is; None when stdin is no terminal. cfmakeraw(3)."""
    try:
        before = termios.tcgetattr(0)
    except termios.error:
        return None
    raw = list(before)
    raw[0] &= ~(termios.IGNBRK | termios.BRKINT | termios.PARMRK | termios.ISTRIP | termios.INLCR | termios.IGNCR
                | termios.ICRNL | termios.IXON)
    raw[1] &= ~termios.OPOST
    raw[2] = raw[2] & ~(termios.CSIZE | termios.PARENB) | termios.CS8
    raw[3] &= ~(termios.ECHO | termios.ECHONL | termios.ICANON | termios.ISIG | termios.IEXTEN)
    termios.tcsetattr(0, termios.TCSANOW, raw)
    return before


def _relay(pidfd: int, console: int, wake: int) -> None:
    poll = select.poll()
    poll.register(pidfd, select.POLLIN)
    poll.register(wake, select.POLLIN)
    if console >= 0:
        poll.register(console, select.POLLIN)
        poll.register(0, select.POLLIN)
    while True:
        ready = {descriptor for descriptor, _ in poll.poll()}
        if wake in ready:
            _pass_on(pidfd, console, os.read(wake, 64))
        if console in ready and not _copy(console, 1):
            poll.unregister(console)
            console = -1
        if console >= 0 and 0 in ready and not _copy(0, console):
            poll.unregister(0)
        if pidfd in ready:
            while console >= 0 and select.select([console], [], [], 0)[0] and _copy(console, 1):
                pass
            return


def _copy(source: int, target: int) -> bool:
    try:
        data = os.read(source, _CHUNK)
        while data:
            data = data[os.write(target, data):]
            if not data:
                return True
    except OSError:
        pass  # EIO: the last process has closed the terminal
    return False


def _pass_on(pidfd: int, console: int, numbers: bytes) -> None:
    for number in numbers:
        if number == _SIGWINCH:
            if console >= 0:
                tty.copy_size(console)
            continue
        try:
            process.pidfd_send_signal(pidfd, number)
        except OSError:
            continue
