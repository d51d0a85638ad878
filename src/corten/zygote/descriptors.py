"""The descriptors of this process, as /proc lists them."""

import os

from corten.base.paths import Layout


def lock_fd(layout: Layout) -> int:
    """The descriptor of this process that holds the run root's lock (see main.py)."""
    path = os.path.realpath(f"{layout.exec_root}/zygote.lock")
    for name in os.listdir("/proc/self/fd"):
        try:
            if os.readlink(f"/proc/self/fd/{name}") == path:
                return int(name)
        except OSError:
            continue
    return -1


def close_others(keep: set[int]) -> None:
    """Close every descriptor but these."""
    for name in os.listdir("/proc/self/fd"):
        if int(name) not in keep:
            try:
                os.close(int(name))
            except OSError:
                pass
