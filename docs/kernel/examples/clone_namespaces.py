"""One clone3 call that makes a process with all namespaces new: what every container begins as. Needs root.

    python3 docs/kernel/examples/clone_namespaces.py
"""

import os
import socket
import sys

from corten.linux.namespaces import (
    CLONE_NEWCGROUP,
    CLONE_NEWIPC,
    CLONE_NEWNET,
    CLONE_NEWNS,
    CLONE_NEWPID,
    CLONE_NEWUTS,
    clone3,
)
from corten.linux.process import exit_code

NEW = CLONE_NEWCGROUP | CLONE_NEWIPC | CLONE_NEWNET | CLONE_NEWNS | CLONE_NEWPID | CLONE_NEWUTS


def child() -> None:
    """Runs in the new namespaces. It must end in execve or os._exit: it is a copy of the caller."""
    socket.sethostname("inside")
    print(f"inside:  pid {os.getpid()}, host name {socket.gethostname()}, "
          f"network devices {[name for _, name in socket.if_nameindex()]}", flush=True)
    os._exit(7)


def main() -> int:
    print(f"outside: pid {os.getpid()}, host name {socket.gethostname()}", flush=True)
    pid, pidfd = clone3(NEW)
    if pid == 0:
        child()
    _, status = os.waitpid(pid, 0)
    os.close(pidfd)
    print(f"outside: the child was pid {pid} here, it ended with {exit_code(status)}; "
          f"our host name is still {socket.gethostname()}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
