"""A container's unit in systemd's words: its name and place, its limits, devices and annotations as properties. Pure.

A property is (type, value) with D-Bus's types. Sources: systemd.resource-control(5), org.freedesktop.systemd1(5).
"""

from __future__ import annotations

import struct

from corten.base.errors import InvalidArgument
from corten.linux import cgroup_limits, dbus

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    Properties = dict[str, tuple[str, Any]]

DEFAULT_SLICE = "system.slice"
PREFIX = "corten"
INFINITY = 2**64 - 1
ANNOTATION = "org.systemd.property."
_DEFAULT_PERIOD_US = 100_000
_CPU_LIMIT = 1 << 16  # bits of a CPU or node mask
# a limit's file -> the property by which systemd would write it
_NUMBERS = {
    "memory.max": "MemoryMax", "memory.low": "MemoryLow", "memory.high": "MemoryHigh", "memory.min": "MemoryMin",
    "memory.swap.max": "MemorySwapMax", "cpu.weight": "CPUWeight", "pids.max": "TasksMax",
    "memory.limit_in_bytes": "MemoryLimit", "cpu.shares": "CPUShares", "blkio.weight": "BlockIOWeight",
}
_MASKS = {"cpuset.cpus": "AllowedCPUs", "cpuset.mems": "AllowedMemoryNodes"}
_TYPES = {
    "boolean": "b", "byte": "y", "int16": "n", "uint16": "q", "int32": "i", "uint32": "u", "int64": "x", "uint64": "t",
    "double": "d", "string": "s", "objectpath": "o",
}


def locate(path: object, id: str) -> tuple[str, str]:
    """linux.cgroupsPath as `slice:prefix:name` -> (unit, its cgroup). Raises InvalidArgument.

    Nothing is `system.slice:corten:<id>`; a slice `a-b.slice` lies in `a.slice`.
    """
    parts = str(path or f":{PREFIX}:{id}").split(":")
    if len(parts) != 3:
        text = f"expected cgroupsPath to be of format \"slice:prefix:name\" for systemd cgroups, got \"{path}\" instead"
        raise InvalidArgument(text)
    slice, prefix, name = parts
    if name.endswith(".slice"):
        raise InvalidArgument(f"cgroupsPath {path}: a slice holds no processes of its own")
    unit = f"{prefix}-{name}.scope"
    if "/" in unit or "\0" in unit or len(unit) > 255:
        raise InvalidArgument(f"invalid unit name: {unit!r}")
    return unit, f"{expand(slice or DEFAULT_SLICE)}/{unit}"


def expand(slice: str) -> str:
    """The cgroup of a slice: `a-b.slice` is /a.slice/a-b.slice, `-.slice` the root, "". Raises InvalidArgument."""
    if slice == "-.slice":
        return ""
    words = slice.removesuffix(".slice").split("-")
    if not slice.endswith(".slice") or "/" in slice or "\0" in slice or not all(words):
        raise InvalidArgument(f"invalid slice name: {slice}")
    return "".join("/" + "-".join(words[:depth]) + ".slice" for depth in range(1, len(words) + 1))


def slice_of(path: str) -> str:
    """The slice in which a scope's cgroup lies."""
    return path.split("/")[-2] or "-.slice"


def limits(resources: dict[str, Any], v1: bool) -> Properties:
    """linux.resources as properties; what systemd does not know is the cgroup's alone. Raises InvalidArgument.

    The values are those that are written to the cgroup's files, so that systemd, when it writes them, changes nothing.
    """
    settings = cgroup_limits.v1_settings(resources) if v1 else cgroup_limits.v2_settings(resources)
    found: Properties = {}
    quota, period = "", ""
    for _, name, value in settings:
        if name in _NUMBERS:
            found[_NUMBERS[name]] = ("t", _number(name, value))
        elif name in _MASKS and not v1:
            found[_MASKS[name]] = ("ay", mask(value))
        elif name == "cpu.max":
            quota, period = [*value.split(), ""][:2]
        elif name == "cpu.cfs_quota_us":
            quota = value
        elif name == "cpu.cfs_period_us":
            period = value
    if period:
        found["CPUQuotaPeriodUSec"] = ("t", _number("period", period))
    if quota or period:
        found["CPUQuotaPerSecUSec"] = ("t", _quota(quota, _number("period", period or str(_DEFAULT_PERIOD_US))))
    return found


def _number(name: str, value: str) -> int:
    """Without a limit, `max` or -1, is systemd's infinity."""
    if value in ("max", "-1"):
        return INFINITY
    if not (value.isascii() and value.isdigit()) or int(value) > INFINITY:
        raise InvalidArgument(f"linux.resources: {name} is not a number: {value!r}")
    return int(value)


def _quota(quota: str, period: int) -> int:
    """Microseconds a second; in steps of 10 ms, since systemd keeps whole percents."""
    if not quota.isdigit() or not period:
        return INFINITY
    return -(-int(quota) * 1_000_000 // period // 10_000) * 10_000


def mask(text: str) -> bytes:
    """`0-2,4` as bits, the first CPU in the lowest bit of the first byte. Raises InvalidArgument."""
    bits = 0
    for part in filter(None, (word.strip() for word in text.split(","))):
        first, dash, last = part.partition("-")
        numbers = (first, last if dash else first)
        if not all(word.isascii() and word.isdigit() and int(word) < _CPU_LIMIT for word in numbers):
            raise InvalidArgument(f"invalid list of CPUs or nodes: {text!r}")
        low, high = map(int, numbers)
        bits |= (1 << high + 1) - (1 << low) if low <= high else 0
    if not bits:
        raise InvalidArgument(f"invalid list of CPUs or nodes: {text!r}")
    return bits.to_bytes((bits.bit_length() + 7) // 8, "little")


def devices(rules: list[dict[str, Any]], drivers: dict[tuple[str, int], str], v1: bool) -> Properties:
    """A container's device rules as DevicePolicy and DeviceAllow, when they are a refusal of all and then grants.

    `drivers` names the majors, from /proc/devices. Other rules are left to the cgroup; so are, on v2, rules of which
    systemd cannot say one: its program and ours must both allow. v1 has one list, which systemd writes anew at times.
    """
    granted = rules[1:]
    if not rules or rules[0].get("allow") or not all(rule.get("allow") for rule in granted):
        return {}
    found = [(_node(rule, drivers), rule.get("access") or "rwm") for rule in granted]
    if not v1 and not all(node for node, _ in found):
        return {}
    return {"DevicePolicy": ("s", "strict"), "DeviceAllow": ("a(ss)", [entry for entry in found if entry[0]])}


def _node(rule: dict[str, Any], drivers: dict[tuple[str, int], str]) -> str:
    kind = {"b": "block", "c": "char", "u": "char"}.get(str(rule.get("type")), "")
    major, minor = (-1 if rule.get(key) is None else int(rule[key]) for key in ("major", "minor"))
    if not kind or (major < 0 <= minor):
        return ""
    if minor >= 0:
        return f"/dev/{kind}/{major}:{minor}"
    name = "*" if major < 0 else drivers.get((kind, major), "")
    return f"{kind}-{name}" if name else ""


def drivers(text: str) -> dict[tuple[str, int], str]:
    """/proc/devices as (`char` or `block`, major) -> name. proc(5)."""
    found, kind = {}, ""
    for line in text.splitlines():
        number, _, name = line.strip().partition(" ")
        if number.isdigit() and name:
            found[kind, int(number)] = name
        elif number in ("Character", "Block"):
            kind = "char" if number == "Character" else "block"
    return found


def annotated(annotations: dict[str, str]) -> Properties:
    """`org.systemd.property.<Name>`, a value in GVariant's text format: numbers, texts, lists of them.

    A name that ends in Sec is USec in seconds. Raises InvalidArgument.
    """
    found: Properties = {}
    for key, text in annotations.items():
        if not key.startswith(ANNOTATION):
            continue
        name = key.removeprefix(ANNOTATION)
        if len(name) < 3 or not (name.isascii() and name.isalpha()):
            raise InvalidArgument(f"annotation {key} name incorrect")
        try:
            kind, value, rest = _value(text.strip())
            if rest:
                raise ValueError(f"unexpected {rest!r}")
            if name.endswith("Sec") and name[-4:-3].islower():
                name, kind, value = f"{name[:-3]}USec", "t", int(value * 1_000_000)
            dbus.append(bytearray(), kind, value)
        except (ValueError, TypeError, AttributeError, RecursionError, struct.error) as error:
            raise InvalidArgument(f"annotation {key}={text} value parse error: {error}") from None
        found[name] = (kind, value)
    return found


def _value(text: str) -> tuple[str, Any, str]:
    """The (type, value, rest of the text) of one value. Raises ValueError."""
    if text[:1] == "@":
        kind, _, rest = text[1:].partition(" ")
        if len(dbus.split(kind)) != 1:
            raise ValueError(f"not one type: {kind!r}")
        return kind, *_value(rest.lstrip())[1:]
    if text[:1] == "[":
        return _list(text[1:].lstrip())
    if text[:1] in ("'", '"'):
        return _text(text)
    end = next((at for at, letter in enumerate(text) if letter in " ,]"), len(text))
    word, rest = text[:end], text[end:].lstrip()
    if word in _TYPES:
        return _TYPES[word], *_value(rest)[1:]
    if word in ("true", "false"):
        return "b", word == "true", rest
    if word.lstrip("+-").isdigit():
        return "i", int(word), rest
    return "d", float(word), rest


def _list(text: str) -> tuple[str, Any, str]:
    kind: str = "s"
    values: list[Any] = []
    while text[:1] != "]":
        if values:
            if text[:1] != ",":
                raise ValueError("a list that does not end")
            text = text[1:].lstrip()
        inner, value, text = _value(text)
        if values and inner != kind and inner != "i":  # `[uint64 1, 2]`: the first says for all
            raise ValueError("a list of different types")
        kind = kind if values else inner
        values.append(value)
    return f"a{kind}", values, text[1:].lstrip()


def _text(text: str) -> tuple[str, str, str]:
    found, at = "", 1
    while text[at:at + 1] != text[0]:
        at += text[at:at + 1] == "\\"
        if at >= len(text):
            raise ValueError("a text that does not end")
        found += text[at]
        at += 1
    return "s", found, text[at + 1:].lstrip()
