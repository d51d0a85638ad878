"""Sizes and durations in words, as docker's lists print them. Pure, and importing nothing: a command's start counts.

Reading them back is `units`.
"""


def _scaled(value: float, base: float, units: tuple[str, ...], digits: int) -> str:
    step = 0
    while value >= base and step < len(units) - 1:
        value /= base
        step += 1
    text = f"{value:.{digits}g}"
    if "e" in text:  # `%g` falls into exponents just below a step (999.96 -> 1e+03)
        text = f"{float(text):.0f}"
    return text + units[step]


def human_size(size_bytes: float, digits: int = 4) -> str:
    """1000-based, as `docker images` prints: `72.8MB`."""
    return _scaled(float(size_bytes), 1000.0, ("B", "kB", "MB", "GB", "TB", "PB", "EB", "ZB", "YB"), digits)


def human_size_binary(size_bytes: float) -> str:
    """1024-based, as `docker stats` prints: `1.5MiB`."""
    return _scaled(float(size_bytes), 1024.0, ("B", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB", "ZiB", "YiB"), 4)


def human_duration(seconds: float) -> str:
    """`About a minute`, `3 hours`: the words of docker's `ps`."""
    s = int(seconds)
    if s < 1:
        return "Less than a second"
    if s == 1:
        return "1 second"
    if s < 60:
        return f"{s} seconds"
    minutes = s // 60
    if minutes == 1:
        return "About a minute"
    if minutes < 60:
        return f"{minutes} minutes"
    hours = int(s / 3600 + 0.5)
    if hours == 1:
        return "About an hour"
    if hours < 48:
        return f"{hours} hours"
    if hours < 24 * 7 * 2:
        return f"{hours // 24} days"
    if hours < 24 * 30 * 2:
        return f"{hours // 24 // 7} weeks"
    if hours < 24 * 365 * 2:
        return f"{hours // 24 // 30} months"
    return f"{int(s / 3600) // 24 // 365} years"
