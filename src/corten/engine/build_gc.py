"""How large the build cache may grow: rules, tried one after another when a build has ended. Data and arithmetic.

Source: dockerd's `builder.gc` in daemon.json; docs.docker.com/build/cache/garbage-collection.
"""

import time

from corten.base.errors import InvalidArgument
from corten.base.units import parse_bytes, parse_duration

_SHARE_OF_DISK = 10  # without rules a cache may take a tenth of the disk before the least recently used goes
_LEAST_BYTES = 2 << 30
_AGES = ("unused-for", "until")


class GcRule:
    """What may go, and down to where: sizes in bytes, 0 for no bound; `unused_for_s`: only what is older."""

    __slots__ = ("everything", "filters", "free", "most", "reserved", "unused_for_s")

    def __init__(self, *, most: int = 0, reserved: int = 0, free: int = 0, everything: bool = False,
                 filters: dict[str, list[str]] | None = None, unused_for_s: float = 0.0) -> None:
        self.most, self.reserved, self.free, self.everything = most, reserved, free, everything
        self.filters, self.unused_for_s = filters or {}, unused_for_s

    def before_ns(self) -> int:
        """Used later than this stays; 0 when age decides nothing."""
        return time.time_ns() - int(self.unused_for_s * 1e9) if self.unused_for_s else 0

    def is_kept(self, used_bytes: int, free_bytes: int) -> bool:
        """Whether the bounds are kept, so that nothing needs to be looked at."""
        if self.filters or self.unused_for_s:
            return False
        most = self.most or (0 if self.free else self.reserved)
        return (not most or used_bytes <= most) and free_bytes >= self.free


def usual(disk_bytes: int) -> list[GcRule]:
    """What holds when nobody said anything."""
    return [GcRule(most=max(disk_bytes // _SHARE_OF_DISK, _LEAST_BYTES))]


def read_rules(value: object) -> list[GcRule] | None:
    """`builder.gc` of the configuration file; [] for never, None for the usual rules. Raises InvalidArgument."""
    if not isinstance(value, dict):
        raise InvalidArgument("builder.gc: not an object")
    left = dict(value)
    if left.pop("enabled", True) is False:
        return []
    rules = None
    policy = left.pop("policy", None)
    if policy is not None:
        if not isinstance(policy, list) or not all(isinstance(one, dict) for one in policy):
            raise InvalidArgument("builder.gc.policy: not a list of objects")
        rules = [_rule(one) for one in policy]
    bounds = {name: _bytes(left.pop(key), key) for name, keys in _DEFAULTS.items() for key in keys if key in left}
    if left:
        raise InvalidArgument(f"builder.gc: not known: {', '.join(sorted(left))}")
    if rules is None and any(bounds.values()):
        rules = [_bounded(bounds)]
    return rules


_FIELDS = {"enabled": "enabled", "max-used-space": "defaultMaxUsedSpace", "min-free-space": "defaultMinFreeSpace",
           "reserved-space": "defaultReservedSpace"}


def read_fields(text: str) -> list[GcRule] | None:
    """`--builder-gc`: the same as fields with commas. Raises InvalidArgument."""
    fields = [part.partition("=")[::2] for part in text.split(",")]
    unknown = [name for name, value in fields if name not in _FIELDS or not value]
    if unknown:
        raise InvalidArgument(f"invalid --builder-gc: {unknown[0]!r}: one of {', '.join(_FIELDS)} with a value is "
                              "wanted")
    found: dict[str, object] = {_FIELDS[name]: value for name, value in fields}
    if "enabled" in found:
        found["enabled"] = str(found["enabled"]).lower() not in ("false", "0")
    return read_rules(found)


_DEFAULTS = {"reserved": ("defaultKeepStorage", "defaultReservedSpace"), "most": ("defaultMaxUsedSpace",),
             "free": ("defaultMinFreeSpace",)}
_BOUNDS = {"reserved": ("keepStorage", "reservedSpace"), "most": ("maxUsedSpace",), "free": ("minFreeSpace",)}


def _rule(value: dict[str, object]) -> GcRule:
    left = dict(value)
    bounds = {name: _bytes(left.pop(key), key) for name, keys in _BOUNDS.items() for key in keys if key in left}
    rule = _bounded(bounds)
    rule.everything = left.pop("all", False) is True
    texts = left.pop("filter", None) or []
    if left:
        raise InvalidArgument(f"builder.gc.policy: not known: {', '.join(sorted(left))}")
    if not isinstance(texts, list) or not all(isinstance(one, str) for one in texts):
        raise InvalidArgument("builder.gc.policy: filter is not a list of texts")
    for text in texts:
        name, _, wanted = text.replace("==", "=").partition("=")
        if name in _AGES:
            rule.unused_for_s = max(rule.unused_for_s, parse_duration(wanted))
        else:
            rule.filters.setdefault(name, []).append(wanted)
    if not (any(bounds.values()) or rule.filters or rule.unused_for_s):
        raise InvalidArgument("builder.gc.policy: a rule without bounds and filter would leave nothing")
    return rule


def _bounded(bounds: dict[str, int]) -> GcRule:
    return GcRule(most=bounds.get("most", 0), reserved=bounds.get("reserved", 0), free=bounds.get("free", 0))


def _bytes(value: object, name: str) -> int:
    if isinstance(value, int) and not isinstance(value, bool) and value >= 0:
        return value
    if isinstance(value, str):
        try:
            return parse_bytes(value)
        except InvalidArgument:
            pass
    raise InvalidArgument(f"builder.gc: invalid size {name}: {value!r}")
