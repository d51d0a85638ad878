"""A cgroup with a limit on processes and memory, a process in it that runs into both, and the numbers. Needs root.

    python3 docs/kernel/examples/limits.py

Version 1, version 2 or both side by side: corten.linux.cgroup finds out, the example does not have to.
"""

import errno
import os
import sys

from corten.linux import cgroup, cgroup_oom

GROUP = f"/corten-example-{os.getpid()}"
LIMITS = {"pids": {"limit": 8}, "memory": {"limit": 32 << 20, "swap": 32 << 20}}


def inside() -> None:
    """Joins the group and forks until the kernel says no; then takes memory until it is killed."""
    cgroup.join(GROUP)
    children = []
    try:
        while len(children) < 100:
            pid = os.fork()
            if pid == 0:
                os.read(0, 1)  # waits for its end
                os._exit(0)
            children.append(pid)
    except OSError as error:
        print(f"after {len(children)} forks: {errno.errorcode[error.errno or 0]}", flush=True)
    for pid in children:
        os.kill(pid, 9)
        os.waitpid(pid, 0)
    kept = bytearray()
    while True:
        kept += b"x" * (1 << 20)


def main() -> int:
    folder = cgroup.create(GROUP, LIMITS)  # the group's folder in the version 2 tree, if there is one
    if folder >= 0:
        os.close(folder)
    try:
        reader, writer = os.pipe()
        child = os.fork()
        if child == 0:
            os.dup2(reader, 0)
            inside()
        os.close(reader)
        _, status = os.waitpid(child, 0)
        os.close(writer)
        print(f"ended by signal {os.WTERMSIG(status)}" if os.WIFSIGNALED(status) else f"ended with {status}")
        numbers = cgroup.stats(GROUP)
        print(f"memory limit {LIMITS['memory']['limit']}, most used {numbers['memory'].get('max_usage', '?')}, "
              f"killed for want of memory: {cgroup_oom.oom_kills(GROUP)}")
    finally:
        cgroup.remove(GROUP)
    return 0


if __name__ == "__main__":
    sys.exit(main())
