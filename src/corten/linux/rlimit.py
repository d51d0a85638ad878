"""Resource limits of a process: names as OCI has them, applied by setrlimit(2)."""

from __future__ import annotations

from corten.base.errors import InvalidArgument

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

_INFINITY = (1 << 64) - 1
_SOFT_FILES = "CORTEN_SOFT_NOFILE"
_soft_files: int | None = None  # what programs get, once this process has raised its own limit
# asm-generic/resource.h
NUMBERS = {
    "RLIMIT_CPU": 0, "RLIMIT_FSIZE": 1, "RLIMIT_DATA": 2, "RLIMIT_STACK": 3, "RLIMIT_CORE": 4, "RLIMIT_RSS": 5,
    "RLIMIT_NPROC": 6, "RLIMIT_NOFILE": 7, "RLIMIT_MEMLOCK": 8, "RLIMIT_AS": 9, "RLIMIT_LOCKS": 10,
    "RLIMIT_SIGPENDING": 11, "RLIMIT_MSGQUEUE": 12, "RLIMIT_NICE": 13, "RLIMIT_RTPRIO": 14, "RLIMIT_RTTIME": 15,
}


def parse(entries: list[dict[str, Any]] | None) -> list[tuple[int, int, int]]:
    """(number, soft, hard) of each; -1 is no limit. Raises InvalidArgument."""
    found: dict[int, tuple[int, int, int]] = {}
    if entries:
        __import__("resource")  # `apply` is for a child, which imports nothing
    for entry in entries or ():
        number = NUMBERS.get(entry.get("type", ""))
        if number is None:
            raise InvalidArgument(f"wrong rlimit value: {entry.get('type') or ''}")
        if number in found:
            raise InvalidArgument(f"rlimit {entry['type']} is given twice")
        soft, hard = _value(entry.get("soft", 0)), _value(entry.get("hard", 0))
        found[number] = (number, soft, hard)
    return list(found.values())


def _value(value: int) -> int:
    return -1 if value < 0 or value >= _INFINITY >> 1 else value


def raise_files() -> None:
    """As many descriptors as this process may have; programs it starts get the soft limit it was itself begun with.

    A host's soft limit is 1024 for the sake of select(2), and an engine holds several for each container. The first
    caller's limit goes on to processes executed later by the environment.
    """
    global _soft_files
    import os
    import resource

    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    _soft_files = int(os.environ.setdefault(_SOFT_FILES, str(soft)))
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def apply(limits: list[tuple[int, int, int]]) -> None:
    """Set them for this process. Without CAP_SYS_RESOURCE a hard limit cannot rise: then as far as it may go."""
    if not limits and _soft_files is None:
        return

    import resource

    if _soft_files is not None:
        resource.setrlimit(resource.RLIMIT_NOFILE, (_soft_files, resource.getrlimit(resource.RLIMIT_NOFILE)[1]))

    for number, soft, hard in limits:
        try:
            resource.setrlimit(number, (soft, hard))
        except (ValueError, PermissionError):
            if hard != -1 and not -1 < soft <= hard:
                raise OSError(22, "setrlimit: Invalid argument") from None
            _apply_within(number, soft, hard)


def _apply_within(number: int, soft: int, hard: int) -> None:
    import resource

    _, ceiling = resource.getrlimit(number)
    if ceiling == -1:
        return
    hard = ceiling if hard == -1 else min(hard, ceiling)
    soft = hard if soft == -1 else min(soft, hard)
    try:
        resource.setrlimit(number, (soft, hard))
    except (ValueError, PermissionError) as error:
        raise OSError(1, f"setrlimit: {error}") from None
