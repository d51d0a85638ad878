"""How a process is scheduled and where its memory comes from: policy, I/O priority, CPUs, NUMA nodes; OCI's words."""

from __future__ import annotations

import posix
import struct

from corten.base.errors import InvalidArgument
from corten.linux.libc import syscall

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

_POLICIES = {
    "SCHED_OTHER": 0, "SCHED_FIFO": 1, "SCHED_RR": 2, "SCHED_BATCH": 3, "SCHED_ISO": 4, "SCHED_IDLE": 5,
    "SCHED_DEADLINE": 6,
}
_FLAGS = {
    "SCHED_FLAG_RESET_ON_FORK": 0x01, "SCHED_FLAG_RECLAIM": 0x02, "SCHED_FLAG_DL_OVERRUN": 0x04,
    "SCHED_FLAG_KEEP_POLICY": 0x08, "SCHED_FLAG_KEEP_PARAMS": 0x10, "SCHED_FLAG_UTIL_CLAMP_MIN": 0x20,
    "SCHED_FLAG_UTIL_CLAMP_MAX": 0x40,
}
_IO_CLASSES = {"IOPRIO_CLASS_RT": 1, "IOPRIO_CLASS_BE": 2, "IOPRIO_CLASS_IDLE": 3}


MEMORY_MODES = {
    "MPOL_DEFAULT": 0, "MPOL_PREFERRED": 1, "MPOL_BIND": 2, "MPOL_INTERLEAVE": 3, "MPOL_LOCAL": 4,
    "MPOL_PREFERRED_MANY": 5, "MPOL_WEIGHTED_INTERLEAVE": 6,
}
MEMORY_FLAGS = {"MPOL_F_NUMA_BALANCING": 1 << 13, "MPOL_F_RELATIVE_NODES": 1 << 14, "MPOL_F_STATIC_NODES": 1 << 15}
_DEADLINE_LEAST, _DEADLINE_MOST = 1024, (1 << 63) - 1  # ns; sched(7)
_NODES = 1024


def parse_scheduler(entry: dict[str, Any] | None) -> bytes:
    """process.scheduler as the kernel's struct sched_attr; empty when there is none. Raises InvalidArgument."""
    if not entry:
        return b""
    policy = _POLICIES.get(entry.get("policy", ""))
    if policy is None:
        raise InvalidArgument(f"invalid scheduler policy: {entry.get('policy')!r}")
    flags = 0
    for word in entry.get("flags") or ():
        if word not in _FLAGS:
            raise InvalidArgument(f"invalid scheduler flag: {word!r}")
        flags |= _FLAGS[word]
    if policy == _POLICIES["SCHED_DEADLINE"]:
        _check_deadline(entry)
    return struct.pack(
        "IIQiIQQQ", 48, policy, flags, entry.get("nice") or 0, entry.get("priority") or 0,
        entry.get("runtime") or 0, entry.get("deadline") or 0, entry.get("period") or 0,
    )


def _check_deadline(entry: dict[str, Any]) -> None:
    """runtime <= deadline <= period, sched_setattr(2); the kernel says EINVAL to all else. Raises InvalidArgument."""
    what = "sched_setattr: `SCHED_DEADLINE`"
    for field in ("runtime", "deadline"):
        if entry.get(field) is None:
            raise InvalidArgument(f"{what} requires `{field}`")
    runtime, deadline = entry["runtime"], entry["deadline"]
    period = entry.get("period") or deadline
    if runtime <= 0:
        raise InvalidArgument(f"{what} runtime must be greater than 0")
    if not _DEADLINE_LEAST <= runtime <= _DEADLINE_MOST:
        raise InvalidArgument(f"{what} runtime {runtime} must be between {_DEADLINE_LEAST} and {_DEADLINE_MOST}")
    if runtime > deadline:
        raise InvalidArgument(f"{what} runtime {runtime} must be <= deadline {deadline}")
    if deadline > period:
        raise InvalidArgument(f"{what} deadline {deadline} must be <= period {period}")


def set_scheduler(attributes: bytes) -> None:
    """sched_setattr(2) for this process. Raises OSError."""
    syscall("sched_setattr", 0, attributes, 0)


_possible_cpus = range(0)  # the kernel's number of them never changes; it has to be read from a file


def forget_affinity() -> None:
    """May run on every CPU that the cpuset has, whatever the process before was bound to."""
    global _possible_cpus
    _possible_cpus = _possible_cpus or range(posix.sysconf("SC_NPROCESSORS_CONF"))
    try:
        posix.sched_setaffinity(0, _possible_cpus)
    except OSError:
        pass  # offline CPUs alone, or an odd cpuset: the kernel knows better


def parse_io_priority(entry: dict[str, Any] | None) -> int | None:
    """process.ioPriority as ioprio_set's number. Raises InvalidArgument."""
    if not entry:
        return None
    level = _IO_CLASSES.get(entry.get("class", ""))
    priority = entry.get("priority") or 0
    if level is None or not 0 <= priority <= 7:
        raise InvalidArgument(f"invalid io priority: {entry!r}")
    return level << 13 | priority


def set_io_priority(value: int) -> None:
    """ioprio_set(2) for this process. Raises OSError."""
    syscall("ioprio_set", 1, 0, value)


def parse_memory_policy(entry: dict[str, Any] | None) -> tuple[int, int] | None:
    """linux.memoryPolicy as (mode with its flags, mask of nodes); None when there is none. Raises InvalidArgument."""
    if entry is None:
        return None
    mode = MEMORY_MODES.get(entry.get("mode", ""))
    if mode is None:
        raise InvalidArgument(f"invalid memory policy mode: {entry.get('mode')!r}")
    for word in entry.get("flags") or ():
        if word not in MEMORY_FLAGS:
            raise InvalidArgument(f"invalid memory policy flag: {word!r}")
        mode |= MEMORY_FLAGS[word]
    nodes = parse_list(entry.get("nodes"), "memory policy node", _NODES)
    if nodes and entry["mode"] in ("MPOL_DEFAULT", "MPOL_LOCAL"):
        raise InvalidArgument(f"memory policy: mode requires 0 nodes but got {len(nodes)}")
    return mode, sum(1 << node for node in nodes)


def set_memory_policy(mode: int, nodes: int) -> None:
    """set_mempolicy(2) for this process. Raises OSError."""
    mask = nodes.to_bytes(_NODES // 8, "little") if nodes else None
    syscall("set_mempolicy", mode, mask, _NODES + 1 if nodes else 0)


def parse_list(text: str | None, what: str = "CPU", limit: int = 8192) -> set[int]:
    """`0-2,5` -> {0, 1, 2, 5}; all below `limit`. Raises InvalidArgument."""
    found: set[int] = set()
    for part in (text or "").replace(" ", "").split(","):
        first, dash, last = part.partition("-")
        if not part:
            continue
        if not (first.isascii() and first.isdigit() and (not dash or (last.isascii() and last.isdigit()))):
            raise InvalidArgument(f"invalid {what} list: {text!r}")
        if len(last or first) > 5 or int(last or first) >= limit or int(last or first) < int(first):
            raise InvalidArgument(f"invalid {what} list: {text!r}")
        found.update(range(int(first), int(last or first) + 1))
    return found
