"""corten-oci events: statistics once or at an interval, and a line whenever the kernel kills for want of memory."""

from __future__ import annotations

import json
import os
import select
import sys
import time

from corten.base.errors import Conflict, InvalidArgument
from corten.linux import cgroup, cgroup_oom, cgroup_stats
from corten.linux.proc import interfaces
from corten.runtime.options import text

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from corten.runtime.command import Call
    from corten.runtime.state import State

_SECONDS = {"ns": 1e-9, "us": 1e-6, "ms": 1e-3, "s": 1.0, "m": 60.0, "h": 3600.0}


def run(call: Call) -> int:
    """events: until the container is gone; --stats once. Raises Conflict when it does not run."""
    interval_s = duration(text(call.options, "interval", "5s"))
    record = call.load()
    if record.status == "stopped":
        raise Conflict(f"container with id {record.id} is not running")
    if call.options.get("stats"):
        _tell({"type": "stats", "id": record.id, "data": _stats(record)})
        return 0
    _follow(record, interval_s)
    return 0


def duration(words: str) -> float:
    """A Go duration (`1s`, `1m30s`, `100ms`) in seconds. Raises InvalidArgument: also for nothing, and for none."""
    total, rest = 0.0, words
    while rest:
        digits = len(rest) - len(rest.lstrip("0123456789."))
        letters = len(rest[digits:]) - len(rest[digits:].lstrip("nusmh"))
        number, unit, rest = rest[:digits], rest[digits:digits + letters], rest[digits + letters:]
        if not number or number.count(".") > 1 or number == "." or unit not in _SECONDS or not number.isascii():
            raise InvalidArgument(f"invalid value {words!r} for flag --interval")
        total += float(number) * _SECONDS[unit]
    if total <= 0:
        raise InvalidArgument("duration interval must be greater than 0")
    return total


def _tell(event: dict[str, Any]) -> None:
    sys.stdout.write(json.dumps(event, separators=(",", ":")) + "\n")
    sys.stdout.flush()


def _follow(record: State, interval_s: float) -> None:
    """Between two intervals wait for the kernel's word of an OOM kill; the end comes with the group's."""
    watch = cgroup_oom.watch(record.cgroup)
    poll = select.poll()
    if watch >= 0:
        poll.register(watch, select.POLLIN)
    kills = cgroup_oom.oom_kills(record.cgroup)
    next_s = time.monotonic() + interval_s
    try:
        while cgroup.exists(record.cgroup):
            # the group's end is not told everywhere, so it is looked for ten times a second
            if poll.poll(max(0, int(min(next_s - time.monotonic(), 0.1) * 1000))):
                os.read(watch, 4096)
            now = cgroup_oom.oom_kills(record.cgroup)
            for _ in range(kills, now):
                _tell({"type": "oom", "id": record.id})
            kills = max(kills, now)
            if time.monotonic() >= next_s and cgroup.exists(record.cgroup):
                _tell({"type": "stats", "id": record.id, "data": _stats(record)})
                next_s = time.monotonic() + interval_s
    finally:
        if watch >= 0:
            os.close(watch)


def _stats(record: State) -> dict[str, Any]:
    """Our numbers under runc's names."""
    found = cgroup_stats.read(record.cgroup)
    cpu, memory = found["cpu"], found["memory"]
    return {
        "cpu": {
            "usage": {"total": cpu["usage_ns"], "percpu": cpu["percpu_ns"], "kernel": cpu["system_ns"],
                      "user": cpu["user_ns"]},
            "throttling": {"periods": cpu["periods"], "throttledPeriods": cpu["throttled"],
                           "throttledTime": cpu["throttled_ns"]},
            **_pressure(record, "cpu"),
        },
        "cpuset": cgroup_stats.cpuset(record.cgroup),
        "memory": {
            "cache": memory["cache"],
            "usage": {"limit": memory["limit"], "usage": memory["usage"], "max": memory["max_usage"],
                      "failcnt": memory["failcnt"]},
            "swap": {"limit": memory["swap_limit"], "usage": memory["swap_usage"], "failcnt": 0},
            "kernel": {"limit": 0, "failcnt": 0}, "kernelTCP": {"limit": 0, "failcnt": 0}, "raw": memory["stat"],
            **_pressure(record, "memory"),
        },
        "pids": found["pids"],
        "blkio": {
            "ioServiceBytesRecursive": _block(found["blkio"], "bytes"),
            "ioServicedRecursive": _block(found["blkio"], "ios"), **_pressure(record, "io"),
        },
        "hugetlb": cgroup_stats.hugetlb(record.cgroup),
        "intel_rdt": {},
        "network_interfaces": _interfaces(record.pid),
    }


def _block(entries: list[dict[str, Any]], key: str) -> list[dict[str, Any]]:
    return [
        {"major": entry["major"], "minor": entry["minor"], "op": entry["op"], "value": entry[key]} for entry in entries
    ]


def _pressure(record: State, name: str) -> dict[str, Any]:
    found = cgroup_stats.pressure(record.cgroup, name)
    return {"psi": found} if found else {}


def _interfaces(pid: int) -> list[dict[str, Any]]:
    names = {"rx_bytes": "RxBytes", "rx_packets": "RxPackets", "rx_errors": "RxErrors", "rx_dropped": "RxDropped",
             "tx_bytes": "TxBytes", "tx_packets": "TxPackets", "tx_errors": "TxErrors", "tx_dropped": "TxDropped"}
    try:
        found = interfaces(pid)
    except OSError:
        return []
    return [{"Name": name, **{names[key]: value for key, value in one.items()}} for name, one in found.items()]
