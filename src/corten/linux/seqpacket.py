"""Sockets on which one process of ours listens to others: SOCK_SEQPACKET, 0600, one listener at a time."""

import fcntl
import os
import socket


def listen_alone(path: str, lock: str) -> socket.socket | None:
    """Listen at `path`, in the place of a dead one's; None when another process is alive there.

    `lock` is the file that tells: it stays locked until this process and all its forks have ended. Raises OSError.
    """
    held = os.open(lock, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(held)
        return None
    try:
        os.unlink(path)
    except FileNotFoundError:
        pass
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    old = os.umask(0o177)
    try:
        listener.bind(path)
    finally:
        os.umask(old)
    listener.listen(16)
    return listener
