"""Becomes Envoy, with no more rights than it needs. Run by envoy.py in a process of its own.

Of root's capabilities three are left: ports below 1024; other network namespaces (setns asks for CAP_SYS_ADMIN), in
which the listeners of half and zero trust are; the mark of its own sockets there. What it execs can gain none.
"""

import os
import sys

from corten.linux.capabilities import drop_bounding, mask
from corten.linux.process import set_no_new_privs

KEPT = ["CAP_NET_BIND_SERVICE", "CAP_NET_ADMIN", "CAP_SYS_ADMIN"]


def main() -> None:
    """`sys.argv`: where this package is, then Envoy's own arguments. Does not return."""
    command = sys.argv[2:]
    try:
        drop_bounding(mask(KEPT))
    except PermissionError:
        pass  # this engine is confined itself, and may not say of what
    set_no_new_privs()
    os.execv(command[0], command)  # noqa: S606  found by envoy.find, by its whole path
