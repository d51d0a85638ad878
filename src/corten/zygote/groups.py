"""Control groups on their way out: removed when they are empty. What is still in one is killed, and nobody waits.

A process may take its time to die, and a frozen one does not before it is thawed (cgroups(7)), so the kernel may refuse
for a while. It is tried again, less and less often, for as long as it takes.
"""

from corten.linux import cgroup

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

_FIRST_PAUSE_S = 0.0005
_LONGEST_PAUSE_S = 0.25


def _nothing() -> None:
    pass


class Groups:
    """Those that were not to be removed at once. `after` calls something later."""

    def __init__(self, after: "Callable[[float, Callable[[], None]], None]") -> None:
        self._after = after
        self._busy: dict[str, list[Callable[[], None]]] = {}

    def busy(self, path: str) -> bool:
        """Whether a group of this path is being removed: nothing new may be put into it."""
        return path in self._busy

    def remove(self, path: str, then: "Callable[[], None]" = _nothing) -> None:
        """Remove a group with all that is in it; `then` is called when it is gone, now or later. Absent is fine."""
        waiting = self._busy.get(path)
        if waiting is not None:
            waiting.append(then)
        elif cgroup.remove_now(path):
            then()
        else:
            self._busy[path] = [then]
            self._try_later(path, _FIRST_PAUSE_S)

    def _try_later(self, path: str, pause_s: float) -> None:
        cgroup.end(path)  # each time: what could fork may have done so
        self._after(pause_s, lambda: self._try(path, min(2 * pause_s, _LONGEST_PAUSE_S)))

    def _try(self, path: str, pause_s: float) -> None:
        if not cgroup.remove_now(path):
            self._try_later(path, pause_s)
            return
        for then in self._busy.pop(path):
            then()
