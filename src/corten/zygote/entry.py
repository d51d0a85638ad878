"""One container's or exec's first process, as zygote and anchor hold it."""

import json
import os

TYPE_CHECKING = False
if TYPE_CHECKING:
    from corten.runtime.create import Child

CREATING = "creating"
STARTING = "starting"  # it has been told to execute: from here on only its end says whether it has
RUNNING = "running"
EXITED = "exited"
FAILED = "failed"

# Descriptors an entry may hold, in the order in which they travel.
FD_NAMES = ("pidfd", "stdin", "stdout", "stderr", "console", "relay_out", "relay_in")
EXEC_HELD = ("pidfd", "console")
# What the pump reads from (and for a terminal the pipe between it and the log).
PUMP_FDS = ("stdout", "stderr", "console", "relay_out", "relay_in")


def entry_key(container_id: str, exec_id: str | None) -> str:
    """How an entry is named towards the anchor and in the folder of exits."""
    return f"{container_id}.{exec_id}" if exec_id else container_id


class Entry:
    """What is known of one process. `fds` maps names of FD_NAMES to descriptors; `start_time` is in clock ticks."""

    __slots__ = (
        "cgroup", "child", "drained", "exec_id", "failure", "fds", "id", "log_dir", "oom", "oom_path", "pid",
        "start_time", "state", "status", "time_ns", "tty", "waiting",
    )

    def __init__(self, container_id: str, exec_id: str | None, pid: int, start_time: int) -> None:
        self.id = container_id
        self.exec_id = exec_id
        self.pid = pid
        self.start_time = start_time
        self.tty = False
        self.log_dir: str | None = None
        self.cgroup = ""
        self.oom_path = ""
        self.state = CREATING
        self.status = -1
        self.time_ns = 0
        self.oom = False
        self.drained = False
        self.fds: dict[str, int] = {}
        self.child: Child | None = None
        self.failure: dict[str, object] | None = None
        self.waiting: tuple[object, int] | None = None

    @property
    def key(self) -> str:
        return entry_key(self.id, self.exec_id)

    def describe(self) -> dict[str, object]:
        """The entry as `list` answers it and as the anchor keeps it."""
        return {
            "id": self.id, "exec_id": self.exec_id, "pid": self.pid, "start_time": self.start_time, "tty": self.tty,
            "log_dir": self.log_dir, "cgroup": self.cgroup, "oom_path": self.oom_path,
            "state": self.state, "status": self.status, "time_ns": self.time_ns,
            "oom": self.oom, "drained": self.drained,
        }

    def to_hold(self) -> tuple[bytes, list[int]]:
        """Message and descriptors for the anchor: key, pid, oom path, then text it does not read.

        The stdio of an exec goes to the daemon and no further: nobody else could do anything with it.
        """
        names = [name for name in FD_NAMES if name in self.fds and (self.exec_id is None or name in EXEC_HELD)]
        opaque = json.dumps({**self.describe(), "names": names})
        return f"H{self.key}\n{self.pid}\n{self.oom_path}\n{opaque}".encode(), [self.fds[name] for name in names]

    @classmethod
    def from_hold(cls, opaque: bytes, fds: list[int]) -> "Entry":
        """The entry back from what the anchor kept."""
        kept = json.loads(opaque)
        entry = cls(kept["id"], kept["exec_id"], kept["pid"], kept["start_time"])
        for name in ("tty", "log_dir", "cgroup", "oom_path", "state", "status", "time_ns", "oom", "drained"):
            setattr(entry, name, kept[name])
        entry.fds = dict(zip(kept["names"], fds, strict=True))
        return entry

    def fail(self, error: object) -> None:
        """It has not come to run; `error` is a StepFailed or some other exception."""
        self.state = FAILED
        self.failure = {
            "text": str(error), "exit_code": getattr(error, "exit_code", 125), "step": getattr(error, "step", ""),
            "errno": getattr(error, "errno", 0),
        }

    def close(self, *names: str) -> None:
        """Close these descriptors (all without names); absent ones are fine."""
        for name in names or tuple(self.fds):
            descriptor = self.fds.pop(name, -1)
            if descriptor >= 0:
                os.close(descriptor)
