"""Processes held by file descriptor: no pid is ever mistaken for its successor. No policy."""

import fcntl
import os
import struct

PIDFD_GET_INFO = 0xC040FF0B  # _IOWR(0xFF, 11, 64 bytes), linux/pidfd.h
PIDFD_INFO_EXIT = 1 << 3

_EXIT_CODE_OFFSET = 60


def pidfd_exit_status(pidfd: int) -> int | None:
    """The wait status of a process that has been reaped, by whomever; None where the kernel cannot tell (before 6.15).

    PIDFD_GET_INFO with PIDFD_INFO_EXIT, linux/pidfd.h.
    """
    info = bytearray(64)
    struct.pack_into("Q", info, 0, PIDFD_INFO_EXIT)
    try:
        fcntl.ioctl(pidfd, PIDFD_GET_INFO, info)
    except OSError:
        return None
    if not struct.unpack_from("Q", info, 0)[0] & PIDFD_INFO_EXIT:
        return None
    return int(struct.unpack_from("i", info, _EXIT_CODE_OFFSET)[0])


def exit_code(wait_status: int) -> int:
    """A wait status as a shell counts it: the exit status, or 128 and the signal. wait(2)."""
    if os.WIFSIGNALED(wait_status):
        return 128 + os.WTERMSIG(wait_status)
    return os.WEXITSTATUS(wait_status)
