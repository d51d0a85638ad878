"""The launcher: it lends its memory to programs on their way to execve, one at a time. docs/adr/0003.

The zygote forks it ahead of need and asks it for one start or exec after the other; what it makes are the zygote's
children, not its own. It holds nothing: killed at any moment, it costs the zygote a fork.

    zygote -> launcher   {"id","bundle"} + the init's channel, stdin, stdout, stderr, perhaps a network namespace
                         {"id","pid","bundle","process"} + the exec's channel and stdio, the pidfd of the init
    launcher -> zygote   R                                it is ready, for the first time

What becomes of a child is told on the child's channel (runtime/sync.py). One that is closed without a word has not been
begun: the zygote then makes the child itself.
"""

import gc
import os
import signal
import socket
import sys

from corten.linux import process, signals
from corten.linux.vfork import Lender, with_room
from corten.runtime import lending, sync
from corten.runtime.bundle import load_bundle
from corten.runtime.errors import from_exception
from corten.runtime.exec import Target, lend
from corten.zygote import protocol

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    Message = dict[str, object]
    Spec = dict[str, object]

USES = 100  # each leaves some memory behind, and the interpreter counts its frames as if they were still running
READY = b"R"
NAME = "corten-launch"
_RECURSION = 1 << 20
_KEPT_SPECS = 4


def main(channel: socket.socket) -> None:
    """Serve until the zygote is gone, the launcher worn, or a child was killed while it used this memory."""
    process.set_pdeathsig(signal.SIGKILL)
    gc.disable()
    signals.reset()
    sys.setrecursionlimit(_RECURSION)
    with_room(lambda: _serve_all(channel))


def _serve_all(channel: socket.socket) -> None:
    lender = Lender()
    lender.probe()
    process.forget_imports()
    channel.send(READY)
    specs = _Specs()
    for _ in range(USES):
        message, fds = protocol.receive(channel)
        if message is None or not _serve(lender, specs.of, message, fds):
            return


def _serve(lender: Lender, spec_of: "Callable[[Message], Spec]", message: "Message", fds: list[int]) -> bool:
    """Whether this memory can be lent again."""
    if "process" not in message:
        return _serve_init(lender, message, fds)
    pidfd = fds.pop()
    try:
        target = Target(str(message["id"]), int(str(message["pid"])), pidfd, spec_of(message))
        return lend(lender, target, message["process"], fds)  # type: ignore[arg-type]
    except Exception as error:
        if fds:
            sync.send(fds[0], sync.pack_failure(from_exception("clone the process", error)))
        return True
    finally:
        os.close(pidfd)
        while fds:
            os.close(fds.pop())


def _serve_init(lender: Lender, message: "Message", fds: list[int]) -> bool:
    try:
        return lending.lend(lender, load_bundle(str(message["id"]), str(message["bundle"])), fds)
    except Exception:
        return True  # not begun: the zygote meets with the same, and says so
    finally:
        while fds:
            os.close(fds.pop())


class _Specs:
    """The config.json of the containers asked for last, for health checks and the like."""

    def __init__(self) -> None:
        self._kept: dict[tuple[object, object], Spec] = {}

    def of(self, message: "Message") -> "Spec":
        key = (message["id"], message["pid"])
        found = self._kept.get(key)
        if found is None:
            if len(self._kept) >= _KEPT_SPECS:
                self._kept.pop(next(iter(self._kept)))
            found = self._kept[key] = load_bundle(str(message["id"]), str(message["bundle"])).spec
        return found
