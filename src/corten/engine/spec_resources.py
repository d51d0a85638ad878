"""The `linux.resources` of a runtime spec, from the limits of a HostConfig. Pure."""

import re
from typing import Any

from corten.base.errors import InvalidArgument
from corten.engine.records import HostConfig

DEFAULT_PIDS_LIMIT = 4096

# devices.allow of every container: nodes may be made (mknod), only these opened
_ALLOWED = (
    ("c", None, None, "m"), ("b", None, None, "m"),
    ("c", 1, 3, "rwm"), ("c", 1, 5, "rwm"), ("c", 1, 7, "rwm"), ("c", 1, 8, "rwm"), ("c", 1, 9, "rwm"),
    ("c", 5, 0, "rwm"), ("c", 5, 2, "rwm"), ("c", 136, None, "rwm"),
)


def _rule(kind: str, major: int | None, minor: int | None, access: str) -> dict[str, Any]:
    rule: dict[str, Any] = {"allow": True, "type": kind, "access": access}
    if major is not None:
        rule["major"] = major
    if minor is not None:
        rule["minor"] = minor
    return rule


_DEFAULT_RULES = [{"allow": False, "access": "rwm"}, *(_rule(*entry) for entry in _ALLOWED)]


_CGROUP_RULE = re.compile(r"([acb]) ([0-9]{1,10}|\*):([0-9]{1,10}|\*) ([rwm]{1,3})", re.ASCII)


def device_rules(host: HostConfig) -> list[dict[str, Any]]:
    """DeviceCgroupRules as entries of `linux.resources.devices`. Raises InvalidArgument with docker's text."""
    rules = []
    for text in host.device_cgroup_rules or ():
        found = _CGROUP_RULE.fullmatch(text)
        if not found:
            raise InvalidArgument(f"invalid device cgroup rule format: '{text}'")
        numbers = [None if number == "*" else int(number) for number in found.group(2, 3)]
        rules.append(_rule(found[1], numbers[0], numbers[1], found[4]))
    return rules


def _devices(host: HostConfig, devices: list[tuple[dict[str, Any], str]]) -> list[dict[str, Any]]:
    if host.privileged:
        return [{"allow": True, "access": "rwm"}]
    if not devices and not host.device_cgroup_rules:
        return _DEFAULT_RULES
    given = [_rule(node["type"], node["major"], node["minor"], access) for node, access in devices]
    return _DEFAULT_RULES + given + device_rules(host)


def _cpu(host: HostConfig) -> dict[str, Any]:
    cpu: dict[str, Any] = {}
    if host.nano_cpus:
        cpu["period"] = 100_000
        cpu["quota"] = host.nano_cpus * 100_000 // 1_000_000_000
    for attribute, key in (("cpu_shares", "shares"), ("cpu_quota", "quota"), ("cpu_period", "period"),
                           ("cpuset_cpus", "cpus"), ("cpuset_mems", "mems"),
                           ("cpu_realtime_period", "realtimePeriod"), ("cpu_realtime_runtime", "realtimeRuntime")):
        value = getattr(host, attribute)
        if value:
            cpu[key] = value
    return cpu


def _memory(host: HostConfig) -> dict[str, Any]:
    memory: dict[str, Any] = {}
    if host.memory:
        memory["limit"] = host.memory
    if host.memory_swap:
        memory["swap"] = host.memory_swap
    if host.memory_reservation:
        memory["reservation"] = host.memory_reservation
    if host.memory_swappiness is not None:
        memory["swappiness"] = host.memory_swappiness
    if host.kernel_memory_tcp:
        memory["kernelTCP"] = host.kernel_memory_tcp
    if host.oom_kill_disable:
        memory["disableOOMKiller"] = True
    return memory


def pids_limit(host: HostConfig) -> int:
    """The number of processes a container may have; -1 and 0 are unlimited, not given is the default."""
    if host.pids_limit is None:
        return DEFAULT_PIDS_LIMIT
    return host.pids_limit if host.pids_limit > 0 else -1


def build_resources(
    host: HostConfig, devices: list[tuple[dict[str, Any], str]], block_io: dict[str, Any] | None = None
) -> dict[str, Any]:
    """`linux.resources`: only what was asked for, beside devices and the process limit that every container has.

    `block_io` comes from devices.block_io, which has looked the devices up.
    """
    resources: dict[str, Any] = {"devices": _devices(host, devices), "pids": {"limit": pids_limit(host)}}
    cpu, memory = _cpu(host), _memory(host)
    if cpu:
        resources["cpu"] = cpu
    if memory:
        resources["memory"] = memory
    if block_io:
        resources["blockIO"] = block_io
    return resources
