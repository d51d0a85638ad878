"""What may be mounted on /proc and in it: nothing there is to be made up, for whoever trusts it (CVE-2019-16884).

As runc has it: procfs itself on /proc, and a few files in it that lxcfs stands in for.
"""


from corten.base import pathnames
from corten.base.errors import InvalidArgument
from corten.linux.fd import PROC_SUPER_MAGIC, filesystem_type
from corten.runtime.mount_options import Mount

_FILES = frozenset((
    "cpuinfo", "diskstats", "loadavg", "meminfo", "net/dev", "slabinfo", "stat", "swaps", "sys/crypto/fips_enabled",
    "sys/kernel/ns_last_pid", "uptime",
))


def check(entry: Mount, tree: int, target: int) -> None:
    """Refuse a mount `tree` on `target`, descriptors both, wherever links have led to it. Raises InvalidArgument."""
    place = pathnames.normal(f"/{entry.destination}").replace("//", "/")
    if place == "/proc":
        if filesystem_type(tree) != PROC_SUPER_MAGIC:
            raise InvalidArgument(f'"{place}" cannot be mounted because it is not of type proc')
        return
    inside = place.startswith("/proc/")
    if (inside or filesystem_type(target) == PROC_SUPER_MAGIC) and place.removeprefix("/proc/") not in _FILES:
        raise InvalidArgument(f'"{place}" cannot be mounted because it is inside /proc')
