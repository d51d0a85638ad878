"""Signal dispositions of a process that is about to become another program.

`_signal` and not `signal`: the latter's wrappers turn every number into an enum, 3 us each.
"""

import _signal  # type: ignore[import-not-found]

SIG_DFL = 0


def reset() -> None:
    """Nothing ignored, nothing blocked, no handler of the process we are a copy of. execve keeps only the first two."""
    _signal.set_wakeup_fd(-1)
    for number in _signal.valid_signals():
        if _signal.getsignal(number) not in (SIG_DFL, None):
            _signal.signal(number, SIG_DFL)
    _signal.pthread_sigmask(_signal.SIG_SETMASK, ())
