"""How a process is scheduled: policy, I/O priority, CPUs; words as OCI has them."""

from __future__ import annotations

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
    return struct.pack(
        "IIQiIQQQ", 48, policy, flags, entry.get("nice") or 0, entry.get("priority") or 0,
        entry.get("runtime") or 0, entry.get("deadline") or 0, entry.get("period") or 0,
    )


def set_scheduler(attributes: bytes) -> None:
    """sched_setattr(2) for this process. Raises OSError."""
    syscall("sched_setattr", 0, attributes, 0)


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


def parse_affinity(text: str | None) -> set[int]:
    """`0-2,5` -> {0, 1, 2, 5}. Raises InvalidArgument."""
    found: set[int] = set()
    for part in (text or "").replace(" ", "").split(","):
        first, dash, last = part.partition("-")
        if not part:
            continue
        if not (first.isascii() and first.isdigit() and (not dash or (last.isascii() and last.isdigit()))):
            raise InvalidArgument(f"invalid CPU list: {text!r}")
        if int(last or first) > 8191 or int(last or first) < int(first):
            raise InvalidArgument(f"invalid CPU list: {text!r}")
        found.update(range(int(first), int(last or first) + 1))
    return found
