"""linux.seccomp.listenerPath: handing a filter's notifications to an agent that answers for the kernel.

The process under the filter says by write(2) which descriptor the kernel gave it, and waits; whoever made it takes a
duplicate and sends that with a ContainerProcessState (runtime-spec, config-linux.md). The agent cannot be told by the
process itself: the calls that this takes may be among those that wait for the agent.
"""

from __future__ import annotations

import _socket
import errno
import posix
import sys

from corten.base import jsonio
from corten.linux import process
from corten.oci.runtime_spec import VERSION
from corten.runtime.errors import StepFailed, go_strerror

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

_PATIENCE_S = 10.0
_STEP = "hand over the seccomp listener"


class Agent:
    """Where a profile's notifications go. `document` is the container's state as the agent is to be told it."""

    __slots__ = ("document", "metadata", "path")

    def __init__(self, profile: dict[str, Any], document: dict[str, Any]) -> None:
        self.path: str = profile["listenerPath"]
        self.metadata: str = profile.get("listenerMetadata") or ""
        self.document = document

    def hand_over(self, pid: int, pidfd: int, number: int) -> None:
        """Send the listener, descriptor `number` of a process. Raises StepFailed."""
        told: dict[str, Any] = {"ociVersion": VERSION, "fds": ["seccompFd"], "pid": pid}
        if self.metadata:
            told["metadata"] = self.metadata
        told["state"] = self.document
        listener = -1
        connection = _socket.socket(_socket.AF_UNIX, _socket.SOCK_STREAM | _socket.SOCK_CLOEXEC)
        try:
            listener = process.pidfd_getfd(pidfd, number)
            connection.settimeout(_PATIENCE_S)
            connection.connect(self.path)
            rights = [(_socket.SOL_SOCKET, _socket.SCM_RIGHTS, listener.to_bytes(4, sys.byteorder))]
            connection.sendmsg([jsonio.dumps(told).encode("utf-8", "surrogateescape")], rights, _socket.MSG_NOSIGNAL)
        except OSError as error:
            number = error.errno or errno.EIO
            text = f"{_STEP}: failed to connect with seccomp agent specified in the seccomp profile: {self.path}"
            raise StepFailed(_STEP, "connect", number, self.path, f"{text}: {go_strerror(number)}") from None
        finally:
            connection.close()
            if listener >= 0:
                posix.close(listener)


def agent_of(spec: dict[str, Any], document: dict[str, Any]) -> Agent | None:
    """The agent that a container's profile names, if any."""
    profile = (spec.get("linux") or {}).get("seccomp") or {}
    return Agent(profile, document) if profile.get("listenerPath") else None
