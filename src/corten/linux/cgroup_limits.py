"""Limits of the runtime spec (linux.resources) as files and values of control groups. Pure, but for `write_all`.

Conversions from v1's numbers to v2's are those the field agreed on (runtime-spec config-linux.md, runc, crun).
"""

from __future__ import annotations

import errno

from corten.base.errors import InvalidArgument, Unsupported
from corten.linux.fd import write_file

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    Setting = tuple[str, str, str]

_THROTTLES = (
    ("throttleReadBpsDevice", "blkio.throttle.read_bps_device", "rbps"),
    ("throttleWriteBpsDevice", "blkio.throttle.write_bps_device", "wbps"),
    ("throttleReadIOPSDevice", "blkio.throttle.read_iops_device", "riops"),
    ("throttleWriteIOPSDevice", "blkio.throttle.write_iops_device", "wiops"),
)


def refuse(controller: str, name: str) -> None:
    """A limit for which the machine has no controller. Raises Unsupported."""
    raise Unsupported(f"cannot set {name}: the {controller} cgroup controller is not available on this machine")


def _number(section: dict[str, Any], key: str) -> int | None:
    value = section.get(key)
    if value is None:
        return None
    if not isinstance(value, int) or isinstance(value, bool):
        raise InvalidArgument(f"linux.resources: {key} is not a number")
    return value


def _pids(resources: dict[str, Any], found: list[Setting]) -> None:
    """0 is the smallest limit there is, 1, since systemd takes no 0; negative is none at all (runtime-spec 1.3)."""
    limit = _number(resources.get("pids") or {}, "limit")
    if limit is not None:
        found.append(("pids", "pids.max", str(limit or 1) if limit >= 0 else "max"))


def _hugetlb(resources: dict[str, Any], suffix: str, found: list[Setting]) -> None:
    """Both what is faulted in and what is reserved (Linux 5.7) of each size, where the kernel counts the latter."""
    for entry in resources.get("hugepageLimits") or ():
        size = entry.get("pageSize") or entry.get("pagesize")
        found.append(("hugetlb", f"hugetlb.{size}.{suffix}", str(entry["limit"])))
        found.append(("hugetlb", f"hugetlb.{size}.rsvd.{suffix}", str(entry["limit"])))


def v1_settings(resources: dict[str, Any]) -> list[Setting]:
    """(controller, file, value) for v1, in an order the kernel takes for a new group."""
    if resources.get("unified"):
        raise InvalidArgument("invalid configuration: cannot use unified on cgroup v1")
    found: list[Setting] = []
    _v1_memory(resources.get("memory") or {}, found)
    _v1_cpu(resources.get("cpu") or {}, found)
    _v1_blkio(resources.get("blockIO") or {}, found)
    _pids(resources, found)
    _hugetlb(resources, "limit_in_bytes", found)
    network = resources.get("network") or {}
    if network.get("classID"):
        found.append(("net_cls", "net_cls.classid", str(network["classID"])))
    for entry in network.get("priorities") or ():
        found.append(("net_prio", "net_prio.ifpriomap", f"{entry['name']} {entry['priority']}"))
    _rdma(resources, found)
    return found


def _v1_memory(memory: dict[str, Any], found: list[Setting]) -> None:
    limit, swap = _number(memory, "limit"), _number(memory, "swap")
    if limit is not None and limit > 0 and swap is not None and 0 < swap < limit:
        raise InvalidArgument("memory+swap limit must be greater than or equal to the memory limit")
    if limit == -1 and swap is None:
        swap = -1  # unlimited memory with a limit on memory+swap would be refused
    if limit:
        found.append(("memory", "memory.limit_in_bytes", str(limit)))
    if swap:
        found.append(("memory", "memory.memsw.limit_in_bytes", str(swap)))
    for key, name in (
        ("reservation", "memory.soft_limit_in_bytes"), ("kernelTCP", "memory.kmem.tcp.limit_in_bytes"),
    ):
        value = _number(memory, key)
        if value:
            found.append(("memory", name, str(value)))
    if memory.get("disableOOMKiller"):
        found.append(("memory", "memory.oom_control", "1"))
    swappiness = _number(memory, "swappiness")
    if swappiness is not None and swappiness != -1:
        if not 0 <= swappiness <= 100:
            raise InvalidArgument(f"invalid memory swappiness value: {swappiness}")
        found.append(("memory", "memory.swappiness", str(swappiness)))
    if memory.get("useHierarchy"):
        found.append(("memory", "memory.use_hierarchy", "1"))


def _v1_cpu(cpu: dict[str, Any], found: list[Setting]) -> None:
    for key, name in (
        ("shares", "cpu.shares"), ("period", "cpu.cfs_period_us"), ("quota", "cpu.cfs_quota_us"),
        ("burst", "cpu.cfs_burst_us"), ("realtimePeriod", "cpu.rt_period_us"),
        ("realtimeRuntime", "cpu.rt_runtime_us"), ("idle", "cpu.idle"),
    ):
        value = _number(cpu, key)
        if value or (value is not None and key in ("idle", "burst")):
            found.append(("cpu", name, str(value)))
    for key in ("cpus", "mems"):
        if cpu.get(key):
            found.append(("cpuset", f"cpuset.{key}", str(cpu[key])))


def _v1_blkio(section: dict[str, Any], found: list[Setting]) -> None:
    weight, leaf = _number(section, "weight"), _number(section, "leafWeight")
    if weight:
        found.append(("blkio", "blkio.weight", str(weight)))
    if leaf:
        found.append(("blkio", "blkio.leaf_weight", str(leaf)))
    for entry in section.get("weightDevice") or ():
        if entry.get("weight"):
            found.append(("blkio", "blkio.weight_device", f"{entry['major']}:{entry['minor']} {entry['weight']}"))
        if entry.get("leafWeight"):
            value = f"{entry['major']}:{entry['minor']} {entry['leafWeight']}"
            found.append(("blkio", "blkio.leaf_weight_device", value))
    for key, name, _ in _THROTTLES:
        for entry in section.get(key) or ():
            found.append(("blkio", name, f"{entry['major']}:{entry['minor']} {entry['rate']}"))


def _rdma(resources: dict[str, Any], found: list[Setting]) -> None:
    for device, limits in (resources.get("rdma") or {}).items():
        words = [device]
        for key, name in (("hcaHandles", "hca_handle"), ("hcaObjects", "hca_object")):
            if limits.get(key) is not None:
                words.append(f"{name}={limits[key]}")
        found.append(("rdma", "rdma.max", " ".join(words)))


# kernels name the weight after the scheduler that honours it; values of both are the same
_ALTERNATIVES = {
    "blkio.weight": "blkio.bfq.weight",
    "blkio.weight_device": "blkio.bfq.weight_device",
}


def write_all(settings: list[tuple[str, str, str]]) -> None:
    """Write (folder, file, value) each; what the kernel has no file for is Unsupported, naming it. Raises OSError.

    Limits that bound each other (memory and memory+swap, quota and period, burst) may be refused now and right once the
    other is written: such a one is tried again after the rest.
    """
    while settings:
        refused: list[tuple[str, str, str]] = []
        first: OSError | None = None
        for place, name, value in settings:
            try:
                _write(place, name, value)
            except OSError as error:
                if error.errno not in (errno.EINVAL, errno.EBUSY):
                    raise
                first = first or error
                refused.append((place, name, value))
        if first and len(refused) == len(settings):
            raise _explained(*refused[0], first)
        settings = refused


def _write(place: str, name: str, value: str) -> None:
    try:
        write_file(f"{place}/{name}", value.encode())
    except FileNotFoundError:
        if name in _ALTERNATIVES:
            _write(place, _ALTERNATIVES[name], value)
        elif name not in _MAY_LACK.get(value, ()):
            raise Unsupported(f"cannot set {name}: this kernel's cgroups have no such file") from None
    if name == "cpu.shares":
        held = read_number(f"{place}/{name}")
        if held != int(value):
            raise InvalidArgument(f"the {'max' if held < int(value) else 'min'}imum allowed cpu-shares is {held}")


_MAY_LACK = {"max": ("memory.swap.max",), "0": ("memory.swap.max",)}  # a kernel without swap accounting limits none


def read_number(path: str) -> int:
    """The number in a file of the kernel's; -1 when it is none, e.g. `max`. Raises OSError."""
    with open(path, encoding="utf-8") as file:
        word = file.read(64).strip()
    return int(word) if word.isdigit() else -1


def _explained(place: str, name: str, value: str, error: OSError) -> Exception:
    """A refusal that a person can act on: a memory limit below what is in use."""
    if name == "memory.limit_in_bytes" and error.errno == errno.EBUSY:
        used, peak = (read_number(f"{place}/memory.{stem}usage_in_bytes") for stem in ("", "max_"))
        return InvalidArgument(f"unable to set memory limit to {value} (current usage: {used}, peak usage: {peak})")
    return error


# --- v2


def shares_to_weight(shares: int) -> int:
    """cpu.shares [2, 262144] -> cpu.weight [1, 10000], 1024 -> 100: runc 1.3's quadratic fit of logarithms.

    weight = 10 ** ((l*l + 125*l) / 612 - 7/34) with l = log2(shares).
    """
    from math import ceil, log2

    if shares <= 2:
        return 1
    if shares >= 262144:
        return 10000
    exponent = log2(shares)
    return ceil(10 ** ((exponent * exponent + 125 * exponent) / 612.0 - 7.0 / 34.0))


def blkio_to_io_weight(weight: int) -> int:
    """blkio weight [10, 1000] -> io.weight [1, 10000]."""
    return 1 + (weight - 10) * 9999 // 990


def swap_to_v2(swap: int, limit: int | None) -> str | None:
    """v1 counts memory+swap, v2 swap alone. Raises InvalidArgument."""
    if swap == 0 or (swap == -1 and limit is None):
        return None if swap == 0 else "max"
    if swap == -1:
        return "max"
    if limit == -1:
        return str(swap)  # unlimited memory: swap is taken as it is
    if not limit or limit < 0:
        raise InvalidArgument("unable to set swap limit without memory limit")
    if swap < limit:
        raise InvalidArgument("memory+swap limit must be greater than or equal to the memory limit")
    return str(swap - limit)


def v2_settings(resources: dict[str, Any]) -> list[Setting]:
    """(controller, file, value) for v2; linux.resources.unified comes last and wins."""
    found: list[Setting] = []
    _v2_memory(resources.get("memory") or {}, found)
    _v2_cpu(resources.get("cpu") or {}, found)
    _v2_io(resources.get("blockIO") or {}, found)
    _pids(resources, found)
    _hugetlb(resources, "max", found)
    if resources.get("network"):
        raise Unsupported("linux.resources.network needs cgroup v1")
    _rdma(resources, found)
    for name, value in (resources.get("unified") or {}).items():
        if "/" in name or name.startswith("cgroup."):
            raise InvalidArgument(f"unified resource {name!r} must be a file name (no slashes)")
        controller, dot, _ = name.partition(".")
        if not dot:
            raise InvalidArgument(f"unified resource {name!r} must be in the form CONTROLLER.PARAMETER")
        found.extend((controller, name, line) for line in str(value).splitlines() if line.strip())
    return found


def complete_v2(resources: dict[str, Any], read: Callable[[str], list[str]]) -> dict[str, Any]:
    """An update's limits with what v2 wants together: quota with period, memory with memory+swap.

    `read` gives the words of one of the group's files, [] when it is absent.
    """
    found = dict(resources)
    cpu, memory = dict(found.get("cpu") or {}), dict(found.get("memory") or {})
    if (cpu.get("quota") is None or not cpu["quota"]) != (not cpu.get("period")):
        quota, period = [*read("cpu.max"), "max", "100000"][:2]
        cpu["quota"] = cpu.get("quota") or (int(quota) if quota.isdigit() else -1)
        cpu["period"] = cpu.get("period") or int(period)
        found["cpu"] = cpu
    if memory.get("limit") == -1 and memory.get("swap") is None:
        memory["swap"] = -1
    swap = memory.get("swap")
    if swap and swap > 0 and not memory.get("limit"):
        held = (read("memory.max") or ["max"])[0]
        memory["limit"] = int(held) if held.isdigit() else -1
    if memory:
        found["memory"] = memory
    return found


def check_use(memory: dict[str, Any], used: int) -> None:
    """checkBeforeUpdate: a limit that what is in use exceeds would kill. Raises InvalidArgument."""
    if memory.get("checkBeforeUpdate"):
        for key, what in (("swap", "memory+swap"), ("limit", "memory")):
            limit = _number(memory, key)
            if limit is not None and 0 < limit <= used:
                raise InvalidArgument(f"rejecting {what} limit {limit} <= usage {used}")


def _v2_memory(memory: dict[str, Any], found: list[Setting]) -> None:
    limit, swap = _number(memory, "limit"), _number(memory, "swap")
    if limit == -1 and not swap:
        swap = -1
    if swap is not None:
        value = swap_to_v2(swap, limit)
        if value is not None:
            found.append(("memory", "memory.swap.max", value))
    if limit:
        found.append(("memory", "memory.max", str(limit) if limit > 0 else "max"))
    reservation = _number(memory, "reservation")
    if reservation:
        found.append(("memory", "memory.low", str(reservation) if reservation > 0 else "max"))
    for key in ("kernelTCP", "disableOOMKiller"):
        if memory.get(key):
            raise Unsupported(f"linux.resources.memory.{key} needs cgroup v1")
    swappiness = _number(memory, "swappiness")
    if swappiness is not None and swappiness != -1:
        raise Unsupported("linux.resources.memory.swappiness needs cgroup v1")


def _v2_cpu(cpu: dict[str, Any], found: list[Setting]) -> None:
    shares, idle = _number(cpu, "shares"), _number(cpu, "idle")
    if idle is not None:
        found.append(("cpu", "cpu.idle", str(idle)))
    if shares and not idle:
        found.append(("cpu", "cpu.weight", str(shares_to_weight(shares))))
    quota, period = _number(cpu, "quota"), _number(cpu, "period")
    if quota or period:
        text = str(quota) if quota and quota > 0 else "max"
        found.append(("cpu", "cpu.max", f"{text} {period or 100000}"))
    burst = _number(cpu, "burst")
    if burst is not None:
        found.append(("cpu", "cpu.max.burst", str(burst)))
    if cpu.get("realtimePeriod") or cpu.get("realtimeRuntime"):
        raise Unsupported("linux.resources.cpu.realtimePeriod and realtimeRuntime need cgroup v1")
    for key in ("cpus", "mems"):
        if cpu.get(key):
            found.append(("cpuset", f"cpuset.{key}", str(cpu[key])))


def _v2_io(section: dict[str, Any], found: list[Setting]) -> None:
    weight = _number(section, "weight")
    if weight:
        found.append(("io", "io.weight", f"default {blkio_to_io_weight(weight)}"))
    for entry in section.get("weightDevice") or ():
        if entry.get("weight"):
            value = f"{entry['major']}:{entry['minor']} {blkio_to_io_weight(entry['weight'])}"
            found.append(("io", "io.weight", value))
    for key, _, word in _THROTTLES:
        for entry in section.get(key) or ():
            found.append(("io", "io.max", f"{entry['major']}:{entry['minor']} {word}={entry['rate']}"))
