"""How often the kernel killed in a group for want of memory, and word of it when it happens."""

import os

from corten.linux import inotify
from corten.linux.cgroup_hierarchies import hierarchies
from corten.linux.fd import write_file


def oom_file(path: str) -> str:
    """The file with the line `oom_kill N`: how often the kernel killed in this group for want of memory; "" if none."""
    found = hierarchies()
    if "memory" in found.v1:
        return f"{found.v1['memory']}{path}/memory.oom_control"
    return f"{found.unified}{path}/memory.events" if "memory" in found.controllers else ""


def oom_kills(path: str) -> int:
    """The number in `oom_file`; 0 when the group is gone."""
    try:
        words = _words(oom_file(path))
        return int(words[words.index("oom_kill") + 1])
    except (OSError, ValueError):
        return 0


def _words(path: str) -> list[str]:
    with open(path, encoding="utf-8") as file:
        return file.read().split()


def watch(path: str) -> int:
    """A descriptor that becomes readable when the kernel kills in the group; -1 where there is nothing to watch.

    v1: an eventfd told by cgroup.event_control (Documentation/admin-guide/cgroup-v1/memory.rst); v2: inotify on the
    file, which the kernel notifies of changes. Raises OSError.
    """
    name = oom_file(path)
    if not name:
        return -1
    if "memory" not in hierarchies().v1:
        events = inotify.Inotify()
        events.add(name, inotify.IN_MODIFY)
        return events.fd
    told = os.eventfd(0, os.EFD_CLOEXEC)
    control = os.open(name, os.O_RDONLY | os.O_CLOEXEC)
    try:
        write_file(f"{os.path.dirname(name)}/cgroup.event_control", f"{told} {control}".encode())
    except OSError:
        os.close(told)
        raise
    finally:
        os.close(control)
    return told
