"""`nsenter --target PID --mount --uts --ipc --net --pid` by setns, with our own functions. Needs root.

    python3 docs/kernel/examples/nsenter.py PID [COMMAND ...]     the shell of the container if no command is given

One setns on a pidfd joins all five at once. The pid namespace is for children only: hence the fork.
"""

import os
import sys

from corten.linux.namespaces import CLONE_NEWIPC, CLONE_NEWNET, CLONE_NEWNS, CLONE_NEWPID, CLONE_NEWUTS, setns
from corten.linux.process import pidfd_open

JOINED = CLONE_NEWNS | CLONE_NEWUTS | CLONE_NEWIPC | CLONE_NEWNET | CLONE_NEWPID


def main() -> int:
    target = int(sys.argv[1])
    command = sys.argv[2:] or ["/bin/sh"]
    pidfd = pidfd_open(target)
    setns(pidfd, JOINED)  # with the mount namespace come its root and working directory
    os.close(pidfd)
    child = os.fork()
    if child == 0:
        try:
            os.execvp(command[0], command)
        except OSError as error:
            print(f"{command[0]}: {error.strerror}", file=sys.stderr)
            os._exit(127)
    _, status = os.waitpid(child, 0)
    return os.waitstatus_to_exitcode(status)


if __name__ == "__main__":
    sys.exit(main())
