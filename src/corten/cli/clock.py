"""Times of the API in words and numbers, without `datetime`. Pure but for the clock.

RFC 3339 in UTC or with an offset, as Go writes it; anything else is not a time here.
"""

import time

from corten.base.human import human_duration


def seconds_of(text: str) -> float:
    """Seconds since 1970 of an RFC 3339 time; 0.0 for Go's zero time and for what is none."""
    if len(text) < 19 or text.startswith("0001-"):
        return 0.0
    try:
        year, month, day = int(text[:4]), int(text[5:7]), int(text[8:10])
        total = _days(year, month, day) * 86400.0 + int(text[11:13]) * 3600 + int(text[14:16]) * 60 + int(text[17:19])
        rest = text[19:]
        if rest.startswith("."):
            end = 1
            while end < len(rest) and rest[end].isdigit():
                end += 1
            total += float("0" + rest[:end])
            rest = rest[end:]
        if rest[:1] in ("+", "-"):
            offset = int(rest[1:3]) * 3600 + int(rest[4:6]) * 60
            total += -offset if rest[0] == "+" else offset
    except ValueError:
        return 0.0
    return total


def _days(year: int, month: int, day: int) -> int:
    """Days since 1970-01-01 (Gregorian), from the count of days in 400 years."""
    year -= month <= 2
    era, of_era = divmod(year, 400)
    of_year = (153 * (month + (-3 if month > 2 else 9)) + 2) // 5 + day - 1
    return era * 146097 + of_era * 365 + of_era // 4 - of_era // 100 + of_year - 719468


def ago(seconds: float) -> str:
    """`3 hours ago`."""
    return human_duration(time.time() - seconds) + " ago"


def go_time(seconds: float, zone: bool = True) -> str:
    """As Go prints a local time: `2026-01-02 03:04:05 +0000 UTC`."""
    return time.strftime("%Y-%m-%d %H:%M:%S %z %Z" if zone else "%Y-%m-%d %H:%M:%S", time.localtime(seconds))
