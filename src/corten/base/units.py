"""Sizes, durations and points in time, as Docker writes and reads them. Pure.

Numbers from outside are ASCII digits and bounded: `int()` also takes `_`, spaces and the digits of other scripts.
"""

import re
import time
from calendar import timegm

from corten.base.errors import InvalidArgument
from corten.base.human import human_duration, human_size, human_size_binary

__all__ = [
    "ZERO_TIME", "format_time", "go_duration", "human_duration", "human_size", "human_size_binary", "now_ns",
    "parse_bytes", "parse_duration", "parse_number", "parse_time",
]

ZERO_TIME = "0001-01-01T00:00:00Z"  # Go's zero time: how the API says "never"

_SIZE = re.compile(r"([0-9]{1,18})(?:\.([0-9]{1,9}))? ?([kKmMgGtTpP]?)(?:[iI]?[bB])?", re.ASCII)
_POWER = {"": 0, "k": 1, "m": 2, "g": 3, "t": 4, "p": 5}
_DURATION = re.compile(r"([0-9]+(?:\.[0-9]*)?|\.[0-9]+)(ns|us|µs|ms|s|m|h)", re.ASCII)
_SECONDS = {"ns": 1e-9, "us": 1e-6, "µs": 1e-6, "ms": 1e-3, "s": 1.0, "m": 60.0, "h": 3600.0}
_RFC3339 = re.compile(
    r"(\d{4})-(\d\d)-(\d\d)(?:[Tt ](\d\d):(\d\d)(?::(\d\d)(?:\.(\d{1,9}))?)?)?([Zz]|[+-]\d\d:\d\d)?", re.ASCII
)


def parse_number(text: str, what: str, minimum: int = 0, maximum: int = (1 << 63) - 1) -> int:
    """A decimal number of ASCII digits, an optional minus before it. Raises InvalidArgument."""
    if not re.fullmatch(r"-?[0-9]{1,19}", text, re.ASCII) or not minimum <= int(text) <= maximum:
        raise InvalidArgument(f"invalid {what}: {text!r}")
    return int(text)


def parse_bytes(text: str) -> int:
    """`64m` -> 67108864. Binary multiples, as docker's `--memory`. Raises InvalidArgument."""
    found = _SIZE.fullmatch(text)
    if not found:
        raise InvalidArgument(f"invalid size: '{text}'")
    whole, fraction, unit = found.groups()
    factor = 1024 ** _POWER[unit.lower()]
    size: int = int(whole) * factor + (int(fraction) * factor // 10 ** len(fraction) if fraction else 0)
    return size


def parse_duration(text: str) -> float:
    """Go's duration, `1m30s` -> 90.0 seconds; a leading minus is taken. Raises InvalidArgument."""
    body = text.removeprefix("-")
    at, total = 0, 0.0
    while at < len(body):
        found = _DURATION.match(body, at)
        if not found:
            break
        total += float(found[1]) * _SECONDS[found[2]]
        at = found.end()
    if not body or (at < len(body) and body != "0"):
        raise InvalidArgument(f"invalid duration: {text!r}")
    return -total if text.startswith("-") else total


def now_ns() -> int:
    """The wall clock in nanoseconds since 1970."""
    return time.time_ns()


def format_time(time_ns: int, trim: bool = True) -> str:
    """RFC 3339 in UTC with nanoseconds, trailing zeros dropped as Go's RFC3339Nano does; 0 is Go's zero time."""
    if not time_ns:
        return ZERO_TIME
    seconds, fraction = divmod(time_ns, 1_000_000_000)
    text = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(seconds))
    digits = f"{fraction:09d}"
    if trim:
        digits = digits.rstrip("0")
    return f"{text}.{digits}Z" if digits else f"{text}Z"


def parse_time(text: str, now: int | None = None) -> int:
    """What `--since` takes, in nanoseconds since 1970: RFC 3339, a date, seconds with a fraction, or a duration ago.

    A time without a zone is local. Raises InvalidArgument.
    """
    if re.fullmatch(r"\d{1,12}(\.\d{1,9})?", text, re.ASCII):
        whole, _, fraction = text.partition(".")
        return int(whole) * 1_000_000_000 + int(fraction.ljust(9, "0") or 0)
    found = _RFC3339.fullmatch(text)
    if not found:
        return (now_ns() if now is None else now) - int(parse_duration(text) * 1e9)
    year, month, day, hour, minute, second, fraction, zone = found.groups()
    fields = (int(year), int(month), int(day), int(hour or 0), int(minute or 0), int(second or 0))
    if zone is None:
        try:
            seconds = int(time.mktime((*fields, 0, 0, -1)))
        except (OverflowError, ValueError):
            raise InvalidArgument(f"invalid time: {text!r}") from None
    else:
        seconds = timegm((*fields, 0, 0, 0))
        if zone not in "Zz":
            offset = int(zone[1:3]) * 3600 + int(zone[4:6]) * 60
            seconds += -offset if zone[0] == "+" else offset
    return seconds * 1_000_000_000 + int((fraction or "").ljust(9, "0"))


def go_duration(duration: int) -> str:
    """Nanoseconds as Go prints a duration: `1m30s`, `500ms`, `0s`."""
    if duration < 1_000_000_000:
        for unit, size in (("ms", 1_000_000), ("µs", 1000), ("ns", 1)):
            if duration >= size:
                return f"{duration / size:g}{unit}"
        return "0s"
    minutes, rest = divmod(duration, 60_000_000_000)
    hours, minutes = divmod(minutes, 60)
    whole, fraction = divmod(rest, 1_000_000_000)
    digits = f"{fraction:09d}".rstrip("0")
    seconds = f"{whole}.{digits}s" if digits else f"{whole}s"
    return (f"{hours}h" if hours else "") + (f"{minutes}m" if hours or minutes else "") + seconds
