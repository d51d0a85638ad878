"""Network namespaces made ahead of need: the kernel takes a millisecond for one, which a start would have to wait for.

A spare is as new as one that clone3 makes: nobody has been in it. It belongs to the host's user namespace, so a
container with a user namespace of its own gets none of these.
"""

import os
import time

from corten.linux import namespaces

SPARES = 4
SHORT_S = 1.0  # none to be had: until the next attempt
PAUSE_S = 0.002  # the zygote has had nothing to do for so long


class SpareNetworks:
    """Descriptors of namespaces that are held open by nothing else."""

    def __init__(self) -> None:
        self._spares: list[int] = []
        self._own = namespaces.open_own("net")
        self._not_before_s = 0.0

    @property
    def short(self) -> bool:
        """Whether one should be made at the next pause."""
        return len(self._spares) < SPARES and time.monotonic() >= self._not_before_s

    def take(self) -> int:
        """One that the caller closes; -1 when there is none at hand."""
        return self._spares.pop() if self._spares else -1

    def make(self) -> None:
        """Make one more, if there may be more. unshare(2), setns(2); only a process with one thread may."""
        try:
            namespaces.unshare(namespaces.CLONE_NEWNET)
        except OSError:
            self._not_before_s = time.monotonic() + SHORT_S
            return
        try:
            self._spares.append(namespaces.open_own("net"))
        except OSError:
            self._not_before_s = time.monotonic() + SHORT_S
        finally:
            namespaces.setns(self._own, namespaces.CLONE_NEWNET)

    def close(self) -> None:
        """Let all of them go."""
        while self._spares:
            os.close(self._spares.pop())
