"""config.json's fields and what kind of value each takes, as data: runtime-spec 1.3, config.md, config-linux.md. Pure.

Fields that are not here are ignored, as the specification asks; what the words in a text mean is checked by who uses
them. The table is also what docs/runtime-spec.md is held against.
"""

from __future__ import annotations

from corten.base.errors import InvalidArgument
from corten.oci.runtime_spec import HOOKS

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

TEXT, FLAG, PAGE_SIZE = "a text", "true or false", "a size such as 64KB or 2MB"
U16, U32, U64 = (0, (1 << 16) - 1), (0, (1 << 32) - 1), (0, (1 << 64) - 1)
I64 = (-(1 << 63), (1 << 63) - 1)
ANY = "*"  # a field of any name

# a dictionary: an object with these fields; a list of one: an array; a pair: an integer and its limits; a set: words
_ID_MAP = [{"containerID": U32, "hostID": U32, "size": U32}]
_HOOK = [{"path": TEXT, "args": [TEXT], "env": [TEXT], "timeout": I64}]
_RATE = [{"major": I64, "minor": I64, "rate": U64}]
_CLOCK = {"secs": I64, "nanosecs": U32}

PROCESS: dict[str, Any] = {
    "args": [TEXT], "cwd": TEXT, "env": [TEXT], "terminal": FLAG, "noNewPrivileges": FLAG, "oomScoreAdj": I64,
    "apparmorProfile": TEXT, "selinuxLabel": TEXT,
    "consoleSize": {"height": U64, "width": U64},
    "user": {"uid": U32, "gid": U32, "umask": U32, "additionalGids": [U32]},
    "capabilities": {kind: [TEXT] for kind in ("bounding", "permitted", "effective", "inheritable", "ambient")},
    "ioPriority": {"class": TEXT, "priority": I64},
    "scheduler": {"policy": TEXT, "nice": I64, "priority": I64, "flags": [TEXT], "runtime": U64, "deadline": U64,
                  "period": U64},
    "rlimits": [{"type": TEXT, "soft": U64, "hard": U64}],
    "execCPUAffinity": {"initial": TEXT, "final": TEXT},
}
RESOURCES: dict[str, Any] = {
    "unified": {ANY: TEXT},
    "devices": [{"allow": FLAG, "type": TEXT, "major": I64, "minor": I64, "access": TEXT}],
    "pids": {"limit": I64},
    "blockIO": {
        "weight": U16, "leafWeight": U16,
        "weightDevice": [{"major": I64, "minor": I64, "weight": U16, "leafWeight": U16}],
        "throttleReadBpsDevice": _RATE, "throttleWriteBpsDevice": _RATE, "throttleReadIOPSDevice": _RATE,
        "throttleWriteIOPSDevice": _RATE,
    },
    "cpu": {"cpus": TEXT, "mems": TEXT, "period": U64, "quota": I64, "burst": U64, "realtimePeriod": U64,
            "realtimeRuntime": I64, "shares": U64, "idle": I64},
    "hugepageLimits": [{"pageSize": PAGE_SIZE, "limit": U64}],
    "memory": {"limit": I64, "reservation": I64, "swap": I64, "kernel": I64, "kernelTCP": I64, "swappiness": U64,
               "disableOOMKiller": FLAG, "useHierarchy": FLAG, "checkBeforeUpdate": FLAG},
    "network": {"classID": U32, "priorities": [{"name": TEXT, "priority": U32}]},
    "rdma": {ANY: {"hcaHandles": U32, "hcaObjects": U32}},
}
LINUX: dict[str, Any] = {
    "namespaces": [{"type": TEXT, "path": TEXT}], "uidMappings": _ID_MAP, "gidMappings": _ID_MAP,
    "timeOffsets": {"boottime": _CLOCK, "monotonic": _CLOCK},
    "devices": [{"type": TEXT, "path": TEXT, "fileMode": U32, "major": I64, "minor": I64, "uid": U32, "gid": U32}],
    "netDevices": {ANY: {"name": TEXT}},
    "cgroupsPath": TEXT, "resources": RESOURCES, "sysctl": {ANY: TEXT}, "rootfsPropagation": TEXT,
    "maskedPaths": [TEXT], "readonlyPaths": [TEXT], "mountLabel": TEXT,
    "seccomp": {
        "defaultAction": TEXT, "defaultErrnoRet": U32, "architectures": [TEXT], "flags": [TEXT], "listenerPath": TEXT,
        "listenerMetadata": TEXT,
        "syscalls": [{
            "names": [TEXT], "action": TEXT, "errnoRet": U32,
            "args": [{"index": U32, "value": U64, "valueTwo": U64, "op": TEXT}],
        }],
    },
    "personality": {"domain": TEXT, "flags": [TEXT]},
    "memoryPolicy": {"mode": TEXT, "nodes": TEXT, "flags": [TEXT]},
    "intelRdt": {"closID": TEXT, "schemata": [TEXT], "l3CacheSchema": TEXT, "memBwSchema": TEXT,
                 "enableMonitoring": FLAG},
}
CONFIG: dict[str, Any] = {
    "ociVersion": TEXT, "hostname": TEXT, "domainname": TEXT, "annotations": {ANY: TEXT},
    "root": {"path": TEXT, "readonly": FLAG},
    "mounts": [{"destination": TEXT, "source": TEXT, "type": TEXT, "options": [TEXT], "uidMappings": _ID_MAP,
                "gidMappings": _ID_MAP}],
    "hooks": dict.fromkeys(HOOKS, _HOOK),
    "process": PROCESS, "linux": LINUX,
}
# nothing of it is done here, but a document that is wrong for its own system is wrong
_JAIL = frozenset(("disable", "new", "inherit"))
FREEBSD: dict[str, Any] = {
    "devices": [{"path": TEXT, "mode": U32}],
    "jail": {
        "parent": TEXT, "interface": TEXT, "vnetInterfaces": [TEXT], "ip4Addr": [TEXT], "ip6Addr": [TEXT],
        "host": _JAIL - {"disable"}, "vnet": _JAIL - {"disable"}, "ip4": _JAIL, "ip6": _JAIL, "sysvmsg": _JAIL,
        "sysvsem": _JAIL, "sysvshm": _JAIL, "enforceStatfs": U16,
        "allow": {"mount": [TEXT], **dict.fromkeys(
            ("setHostname", "rawSockets", "chflags", "quotas", "socketAf", "mlock", "reservedPorts", "suser"), FLAG)},
    },
}


def check(value: object, shape: Any = None, where: str = "config.json") -> None:
    """Prove that a document has this shape (default: CONFIG). null is as if absent. Raises InvalidArgument."""
    if value is None:
        return
    if shape is None:
        check(value, CONFIG, where)
        if isinstance(value, dict):
            check(value.get("freebsd"), FREEBSD, f"{where}.freebsd")
    elif isinstance(shape, tuple):
        if type(value) is not int or not shape[0] <= value <= shape[1]:
            raise InvalidArgument(f"{where}: not an integer from {shape[0]} to {shape[1]}")
    elif shape is TEXT:
        if type(value) is not str:
            raise InvalidArgument(f"{where}: not a text")
    elif shape is PAGE_SIZE:
        number, unit = (value[:-2], value[-2:]) if isinstance(value, str) else ("", "")
        if unit not in ("KB", "MB", "GB") or not (number.isascii() and number.isdigit()) or number.startswith("0"):
            raise InvalidArgument(f"{where}: not {PAGE_SIZE}")
    elif shape is FLAG:
        if type(value) is not bool:
            raise InvalidArgument(f"{where}: not true or false")
    elif isinstance(shape, frozenset):
        if value not in shape:
            raise InvalidArgument(f"{where}: none of {', '.join(sorted(shape))}")
    elif isinstance(shape, list):
        if type(value) is not list:
            raise InvalidArgument(f"{where}: not an array")
        if shape[0] is TEXT and all(type(item) is str for item in value):
            return  # most of a document: no names of places have to be made for it
        for at, item in enumerate(value):
            check(item, shape[0], f"{where}[{at}]")
    else:
        _check_object(value, shape, where)


def _check_object(value: object, shape: dict[str, Any], where: str) -> None:
    if not isinstance(value, dict):
        raise InvalidArgument(f"{where}: not an object")
    every = shape.get(ANY)
    for name, item in value.items():
        known = shape.get(name, every)
        if known is not None:
            check(item, known, f"{where}.{name}")


def fields(shape: Any = None, where: str = "") -> list[str]:
    """Every field of a shape as a path: `process.user.uid`, `mounts[].source`, `linux.sysctl.*`."""
    shape = CONFIG if shape is None else shape
    if isinstance(shape, list):
        return fields(shape[0], f"{where}[]")
    if not isinstance(shape, dict):
        return [where]
    return [path for name, inner in shape.items() for path in fields(inner, f"{where}.{name}" if where else name)]
