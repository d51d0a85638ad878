"""How anchor and zygote come to be: `python -IS … <data root> <exec root>`, started by the daemon, outliving it.

The process first runs its interpreter anew from a read-only mount of its own, for what a container can reach by
/proc/<pid>/exe must not be writable (CVE-2019-5736). It ends at once; its child is the anchor, and the anchor's child
the zygote. A lock on the run root, shared by both and freed when neither is left, keeps a second pair from starting.
"""

import gc
import os
import signal
import sys

from corten.base.paths import Layout
from corten.linux import cgroup_devices, cgroup_limits, process, rlimit, sealed
from corten.linux.libc import syscall
from corten.linux.seqpacket import listen_alone
from corten.runtime import hooks
from corten.zygote.anchor import PR_SET_CHILD_SUBREAPER, Anchor
from corten.zygote.loop import life
from corten.zygote.starting import COMMAND

LOCKED = 3  # exit status: another pair is alive
SEALED = "sealed"
# what is imported late elsewhere: a long life must not meet code that was replaced meanwhile
_EARLY = (cgroup_devices, cgroup_limits, hooks)


def start(layout: Layout) -> int:
    """Become anchor and zygote. Returns in the calling process only: 0, or LOCKED."""
    listener = listen_alone(layout.zygote_socket, f"{layout.exec_root}/zygote.lock")
    if listener is None:
        return LOCKED
    if os.fork():
        return 0
    os.setsid()
    os.chdir("/")
    os.umask(0o022)
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, _ignore)  # a handler, not SIG_IGN, which children would inherit
    syscall("prctl", PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    gc.collect()
    gc.disable()  # the collector writes to every page it looks at, and each fork would pay for its own copy
    gc.freeze()
    process.set_name("corten-anchor")
    Anchor(layout.exits, {}, lambda held, channel: life(layout, listener, channel, held)).run()
    os._exit(0)


def _ignore(_number: int, _frame: object) -> None:
    pass


def main() -> int:
    """`COMMAND PACKAGE_ROOT DATA_ROOT EXEC_ROOT`, then the same again from the sealed interpreter."""
    if len(sys.argv) == 4:
        sealed.execute([sys.executable, "-IS", "-c", COMMAND, *sys.argv[1:], SEALED], dict(os.environ))
    process.set_dumpable(False)
    rlimit.raise_files()
    return start(Layout(sys.argv[2], sys.argv[3]))
