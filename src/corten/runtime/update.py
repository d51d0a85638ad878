"""corten-oci update: new limits for a container that is there, from flags or from a JSON document; the rest stays."""

from __future__ import annotations

from corten.base.errors import Conflict, InvalidArgument, Unsupported
from corten.base.files import parse_json, read_bytes
from corten.linux import cgroup
from corten.runtime.options import text

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from corten.runtime.command import Call
    from corten.runtime.options import Options

_LIMIT = 1 << 20
# flag -> (section, key, how its value is read)
_FLAGS = {
    "blkio-weight": ("blockIO", "weight", "count"), "cpu-period": ("cpu", "period", "count"),
    "cpu-quota": ("cpu", "quota", "signed"), "cpu-burst": ("cpu", "burst", "count"),
    "cpu-share": ("cpu", "shares", "count"), "cpu-rt-period": ("cpu", "realtimePeriod", "count"),
    "cpu-rt-runtime": ("cpu", "realtimeRuntime", "signed"), "cpu-idle": ("cpu", "idle", "signed"),
    "cpuset-cpus": ("cpu", "cpus", "word"), "cpuset-mems": ("cpu", "mems", "word"),
    "memory": ("memory", "limit", "bytes"), "memory-reservation": ("memory", "reservation", "bytes"),
    "memory-swap": ("memory", "swap", "bytes"), "pids-limit": ("pids", "limit", "signed"),
}
_UNITS = {"": 1, "b": 1, "k": 1 << 10, "m": 1 << 20, "g": 1 << 30, "t": 1 << 40, "p": 1 << 50}


def run(call: Call) -> int:
    """update: --resources=FILE|-, or one flag a limit. Raises InvalidArgument, Unsupported, OSError."""
    record = call.load()
    if record.status == "stopped":
        raise Conflict("container not running")
    if text(call.options, "kernel-memory") or text(call.options, "kernel-memory-tcp"):
        call.tell("warning", "Kernel memory settings are ignored and will be removed")
    for name, what in (("l3-cache-schema", "CAT: l3 cache"), ("mem-bw-schema", "MBA: memory bandwidth")):
        if text(call.options, name):
            raise Unsupported(f"Intel RDT/{what} schema is not enabled")
    resources = _document(text(call.options, "resources")) if call.options.get("resources") else _flags(call.options)
    resources.pop("devices", None)  # what a container may open is not changed by an update
    resources = cgroup.complete(record.cgroup, resources)
    if record.unit:
        from corten.runtime import systemd

        systemd.update(record.unit, resources)
    cgroup.apply(record.cgroup, resources)
    return 0


def _document(name: str) -> dict[str, Any]:
    value = parse_json(read_bytes("/dev/stdin" if name == "-" else name, _LIMIT))
    if not isinstance(value, dict) or not all(isinstance(part, (dict, list, type(None))) for part in value.values()):
        raise InvalidArgument("resources: not an object of linux.resources")
    return value


def _flags(options: Options) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name, (section, key, kind) in _FLAGS.items():
        value = text(options, name)
        if value and not (name == "blkio-weight" and value == "0"):
            found.setdefault(section, {})[key] = value if kind == "word" else _number(name, value, kind)
    return found


def _number(name: str, value: str, kind: str) -> int:
    negative = value.startswith("-") and kind != "count"
    digits = value[negative:]
    if kind == "bytes" and not negative:
        unit = digits.lstrip("0123456789").lower()
        factor = _UNITS.get(unit.removesuffix("ib") if unit.endswith("ib") else unit.removesuffix("b") or unit)
        digits = digits[: len(digits) - len(unit)] if unit else digits
    else:
        factor = 1
    if not (digits.isascii() and digits.isdigit()) or factor is None or len(digits) > 19:
        what = f"invalid size: {value!r}" if kind == "bytes" else f'"{value}"'
        raise InvalidArgument(f"invalid value for {name}: {what}")
    return -int(digits) if negative else int(digits) * factor
