"""Kernel settings below /proc/sys, of the network namespace the calling thread is in. sysctl(8), proc(5).

Names are paths (`net/ipv4/ip_forward`); who takes one from outside checks it first.
"""

import os


def read(name: str) -> str:
    """The value as one line, "" when this kernel has no such setting."""
    try:
        with open(f"/proc/sys/{name}", encoding="ascii") as file:
            return file.read().strip()
    except OSError:
        return ""


def write(name: str, value: str) -> None:
    """Set it, in one write. Raises OSError."""
    descriptor = os.open(f"/proc/sys/{name}", os.O_WRONLY | os.O_CLOEXEC)
    try:
        os.write(descriptor, value.encode())
    finally:
        os.close(descriptor)
