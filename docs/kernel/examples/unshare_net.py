"""The lecture's `unshare -fn sleep 60`, with our own functions. Needs root.

    python3 docs/kernel/examples/unshare_net.py [SECONDS]     then, in another terminal: lsns -t net

unshare moves this process into a new network namespace (-n); the fork (-f) makes the child that sleeps in it.
"""

import os
import sys

from corten.linux.namespaces import CLONE_NEWNET, unshare


def main() -> int:
    seconds = sys.argv[1] if len(sys.argv) > 1 else "60"
    before = os.readlink("/proc/self/ns/net")
    unshare(CLONE_NEWNET)
    child = os.fork()
    if child == 0:
        os.execv("/usr/bin/sleep", ["sleep", seconds])
    print(f"pid {child}: sleep {seconds}")
    print(f"before  {before}")
    print(f"now     {os.readlink(f'/proc/{child}/ns/net')}", flush=True)
    _, status = os.waitpid(child, 0)
    return os.waitstatus_to_exitcode(status)


if __name__ == "__main__":
    sys.exit(main())
