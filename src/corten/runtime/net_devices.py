"""linux.netDevices: links of the runtime's network namespace that move into the container's before it starts."""

from __future__ import annotations

import posix

from corten.base.errors import InvalidArgument
from corten.linux import namespaces

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from corten.runtime.plan import Plan

_NAME_LIMIT = 15  # IFNAMSIZ less its NUL


def parse(entries: dict[str, Any] | None, kinds: set[str]) -> list[tuple[str, str]]:
    """linux.netDevices as (name here, name in the container). Raises InvalidArgument."""
    found = [(name, (entry or {}).get("name") or name) for name, entry in (entries or {}).items()]
    if found and "net" not in kinds:
        raise InvalidArgument("unable to move network devices without a private NET namespace")
    for pair in found:
        for name in pair:
            _check_name(name)
    inside = [name for _, name in found]
    if len(set(inside)) != len(inside):
        raise InvalidArgument("network devices: a name in the container is given twice")
    return found


def _check_name(name: object) -> None:
    """As the kernel's dev_valid_name. Raises InvalidArgument."""
    good = isinstance(name, str) and 0 < len(name.encode()) <= _NAME_LIMIT and name not in (".", "..")
    if not good or any(character in "/:\0" or character.isspace() for character in str(name)):
        raise InvalidArgument(f"invalid network device name {name!r}")


def move(plan: Plan, child: int) -> None:
    """Move the links into the network namespace of the process `child`, or the one it will join. Raises OSError."""
    if not plan.net_devices:
        return
    from corten.linux.link_move import move_link

    paths = [path for kind, _, path in plan.joins if kind == "net"]
    inside = posix.open(paths[0], posix.O_RDONLY | posix.O_CLOEXEC) if paths else namespaces.open_of(child, "net")
    try:
        namespaces.check_type(inside, "net", "".join(paths))
        for name, new_name in plan.net_devices:
            move_link(name, inside, new_name)
    finally:
        posix.close(inside)
