"""What a group has used: raw numbers, the same keys for v1 and v2. Nanoseconds and bytes; nothing is interpreted."""

from __future__ import annotations

import os

from corten.linux import cgroup

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any


def _text(path: str) -> str:
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return ""
    try:
        return os.read(descriptor, 1 << 16).decode("ascii", "replace")
    except OSError:
        return ""
    finally:
        os.close(descriptor)


def _number(path: str) -> int:
    """The number in a file; 0 when it is absent, the largest there is for `max`."""
    text = _text(path).strip()
    if text == "max":
        return (1 << 64) - 1
    return int(text) if text.isascii() and text.isdigit() else 0


def _pairs(path: str) -> dict[str, int]:
    found = {}
    for line in _text(path).splitlines():
        key, _, value = line.partition(" ")
        if value.isascii() and value.isdigit():
            found[key] = int(value)
    return found


def read(path: str) -> dict[str, Any]:
    """cpu: usage_ns user_ns system_ns percpu_ns[] periods throttled throttled_ns; memory: usage max_usage limit failcnt
    swap_usage swap_limit cache stat{}; pids: current limit; blkio: [{major, minor, op, bytes, ios}]. Absent
    files count 0, so a group that is gone gives zeros.
    """
    if cgroup.hierarchies().v1:
        return {"version": 1, "cpu": _v1_cpu(path), "memory": _v1_memory(path), "pids": _pids(path),
                "blkio": _v1_blkio(path)}
    return {"version": 2, "cpu": _v2_cpu(path), "memory": _v2_memory(path), "pids": _pids(path), "blkio": _v2_io(path)}


def _v1_cpu(path: str) -> dict[str, Any]:
    account, cpu = cgroup.folder(path, "cpuacct"), cgroup.folder(path, "cpu")
    tick_ns = 1_000_000_000 // os.sysconf("SC_CLK_TCK")
    split, throttle = _pairs(f"{account}/cpuacct.stat"), _pairs(f"{cpu}/cpu.stat")
    user, system = _number(f"{account}/cpuacct.usage_user"), _number(f"{account}/cpuacct.usage_sys")
    return {
        "usage_ns": _number(f"{account}/cpuacct.usage"),
        "user_ns": user or split.get("user", 0) * tick_ns,
        "system_ns": system or split.get("system", 0) * tick_ns,
        "percpu_ns": [int(word) for word in _text(f"{account}/cpuacct.usage_percpu").split()],
        "periods": throttle.get("nr_periods", 0),
        "throttled": throttle.get("nr_throttled", 0),
        "throttled_ns": throttle.get("throttled_time", 0),
    }


def _v2_cpu(path: str) -> dict[str, Any]:
    found = _pairs(f"{cgroup.hierarchies().unified}{path}/cpu.stat")
    return {
        "usage_ns": found.get("usage_usec", 0) * 1000,
        "user_ns": found.get("user_usec", 0) * 1000,
        "system_ns": found.get("system_usec", 0) * 1000,
        "percpu_ns": [],
        "periods": found.get("nr_periods", 0),
        "throttled": found.get("nr_throttled", 0),
        "throttled_ns": found.get("throttled_usec", 0) * 1000,
    }


def _v1_memory(path: str) -> dict[str, Any]:
    place = cgroup.folder(path, "memory")
    detail = _pairs(f"{place}/memory.stat")
    return {
        "usage": _number(f"{place}/memory.usage_in_bytes"),
        "max_usage": _number(f"{place}/memory.max_usage_in_bytes"),
        "limit": _number(f"{place}/memory.limit_in_bytes"),
        "failcnt": _number(f"{place}/memory.failcnt"),
        "swap_usage": _number(f"{place}/memory.memsw.usage_in_bytes"),
        "swap_limit": _number(f"{place}/memory.memsw.limit_in_bytes"),
        "cache": detail.get("cache", 0),
        "stat": detail,
    }


def _v2_memory(path: str) -> dict[str, Any]:
    place = f"{cgroup.hierarchies().unified}{path}"
    detail = _pairs(f"{place}/memory.stat")
    return {
        "usage": _number(f"{place}/memory.current"),
        "max_usage": _number(f"{place}/memory.peak"),
        "limit": _number(f"{place}/memory.max"),
        "failcnt": _pairs(f"{place}/memory.events").get("max", 0),
        "swap_usage": _number(f"{place}/memory.swap.current"),
        "swap_limit": _number(f"{place}/memory.swap.max"),
        "cache": detail.get("file", 0),
        "stat": detail,
    }


def _pids(path: str) -> dict[str, int]:
    place = cgroup.folder(path, "pids")
    return {"current": _number(f"{place}/pids.current"), "limit": _number(f"{place}/pids.max")}


def _v1_blkio(path: str) -> list[dict[str, Any]]:
    place = cgroup.folder(path, "blkio")
    found: dict[tuple[int, int, str], dict[str, Any]] = {}
    for stem in ("blkio.throttle", "blkio.bfq"):
        for name, key in (("io_service_bytes_recursive", "bytes"), ("io_serviced_recursive", "ios")):
            for line in _text(f"{place}/{stem}.{name}").splitlines():
                words = line.split()
                if len(words) == 3 and ":" in words[0]:
                    major, _, minor = words[0].partition(":")
                    at = (int(major), int(minor), words[1])
                    found.setdefault(at, _io(*at))[key] = int(words[2])
        if any(entry["bytes"] or entry["ios"] for entry in found.values()):
            break
    return list(found.values())


def _io(major: int, minor: int, op: str) -> dict[str, Any]:
    return {"major": major, "minor": minor, "op": op, "bytes": 0, "ios": 0}


def _v2_io(path: str) -> list[dict[str, Any]]:
    found = []
    for line in _text(f"{cgroup.hierarchies().unified}{path}/io.stat").splitlines():
        device, _, rest = line.partition(" ")
        major, _, minor = device.partition(":")
        values = dict(word.split("=", 1) for word in rest.split() if "=" in word)
        for op, byte_key, io_key in (("Read", "rbytes", "rios"), ("Write", "wbytes", "wios")):
            entry = _io(int(major), int(minor), op)
            entry["bytes"], entry["ios"] = int(values.get(byte_key, 0)), int(values.get(io_key, 0))
            found.append(entry)
    return found


def cpuset(path: str) -> dict[str, Any]:
    """{cpus, mems} as lists of numbers; on v1 the flags of the group too."""
    place = cgroup.folder(path, "cpuset")
    found: dict[str, Any] = {}
    for key in ("cpus", "mems"):
        numbers = numbers_of(_text(f"{place}/cpuset.{key}") or _text(f"{place}/cpuset.{key}.effective"))
        if numbers:
            found[key] = numbers
    for name in (
        "cpu_exclusive", "mem_hardwall", "mem_exclusive", "memory_migrate", "memory_spread_page", "memory_spread_slab",
        "memory_pressure", "sched_load_balance",
    ):
        found[name] = _number(f"{place}/cpuset.{name}")
    level = _text(f"{place}/cpuset.sched_relax_domain_level").strip()
    found["sched_relax_domain_level"] = int(level) if level.lstrip("-").isdigit() else 0
    return found


def numbers_of(ranges: str) -> list[int]:
    """`0-2,5` as numbers."""
    found: list[int] = []
    for part in ranges.strip().split(","):
        first, _, last = part.partition("-")
        if first.isascii() and first.isdigit():
            found.extend(range(int(first), int(last or first) + 1))
    return found


def huge_page_sizes() -> list[str]:
    """As the files of hugetlb groups name them: `2MB`, `1GB`."""
    try:
        kibibytes = [int(name[10:-2]) for name in os.listdir("/sys/kernel/mm/hugepages")]  # hugepages-2048kB
    except (OSError, ValueError):
        return []
    return [f"{size >> 20}GB" if size >= 1 << 20 else f"{size >> 10}MB" if size >= 1 << 10 else f"{size}KB"
            for size in kibibytes]


def hugetlb(path: str) -> dict[str, Any]:
    """page size -> {usage, max, failcnt}, for the sizes the machine has."""
    place = cgroup.folder(path, "hugetlb")
    found: dict[str, Any] = {}
    for size in huge_page_sizes() if place else ():
        stem = f"{place}/hugetlb.{size}"
        if os.path.exists(f"{stem}.rsvd.current") or os.path.exists(f"{stem}.rsvd.usage_in_bytes"):
            stem += ".rsvd"
        if cgroup.hierarchies().v1:
            found[size] = {"usage": _number(f"{stem}.usage_in_bytes"), "max": _number(f"{stem}.max_usage_in_bytes"),
                           "failcnt": _number(f"{stem}.failcnt")}
        else:
            events = _pairs(f"{place}/hugetlb.{size}.events")
            found[size] = {"usage": _number(f"{stem}.current"), "failcnt": events.get("max", 0)}
    return found


def pressure(path: str, name: str) -> dict[str, Any]:
    """What waiting for `cpu`, `memory` or `io` cost (v2, PSI): {some: {avg10, avg60, avg300, total}, full: ...}."""
    unified = cgroup.hierarchies().unified
    if cgroup.hierarchies().v1 or not unified:
        return {}
    found: dict[str, Any] = {}
    for line in _text(f"{unified}{path}/{name}.pressure").splitlines():
        kind, *words = line.split()
        pairs = dict(word.split("=", 1) for word in words if "=" in word)
        found[kind] = {key: int(value) if key == "total" else float(value) for key, value in pairs.items()}
    return found
