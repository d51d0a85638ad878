"""The systemd driver: a container's cgroup as a scope unit that systemd is asked for over D-Bus."""

import os

from corten.base.errors import Unsupported

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from corten.runtime.bundle import Bundle


def place(bundle: "Bundle") -> None:
    """Where no systemd runs it says so. Raises Unsupported."""
    if not os.path.isdir("/run/systemd/system"):
        raise Unsupported("systemd not running on this host, cannot use systemd cgroups manager")
    raise Unsupported("--systemd-cgroup is not supported")


def update(unit: str, resources: "dict[str, Any]") -> None:
    raise Unsupported(unit)
