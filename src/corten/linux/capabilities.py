"""Capabilities: names, the five sets, and the calls that set them. capabilities(7)."""

from __future__ import annotations

import errno
import struct

from corten.linux import foreign
from corten.linux.libc import libc, raise_errno, syscall
from corten.linux.process import prctl

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

# linux/capability.h, by number
NAMES = (
    "CAP_CHOWN", "CAP_DAC_OVERRIDE", "CAP_DAC_READ_SEARCH", "CAP_FOWNER", "CAP_FSETID", "CAP_KILL", "CAP_SETGID",
    "CAP_SETUID", "CAP_SETPCAP", "CAP_LINUX_IMMUTABLE", "CAP_NET_BIND_SERVICE", "CAP_NET_BROADCAST", "CAP_NET_ADMIN",
    "CAP_NET_RAW", "CAP_IPC_LOCK", "CAP_IPC_OWNER", "CAP_SYS_MODULE", "CAP_SYS_RAWIO", "CAP_SYS_CHROOT",
    "CAP_SYS_PTRACE", "CAP_SYS_PACCT", "CAP_SYS_ADMIN", "CAP_SYS_BOOT", "CAP_SYS_NICE", "CAP_SYS_RESOURCE",
    "CAP_SYS_TIME", "CAP_SYS_TTY_CONFIG", "CAP_MKNOD", "CAP_LEASE", "CAP_AUDIT_WRITE", "CAP_AUDIT_CONTROL",
    "CAP_SETFCAP", "CAP_MAC_OVERRIDE", "CAP_MAC_ADMIN", "CAP_SYSLOG", "CAP_WAKE_ALARM", "CAP_BLOCK_SUSPEND",
    "CAP_AUDIT_READ", "CAP_PERFMON", "CAP_BPF", "CAP_CHECKPOINT_RESTORE",
)
NUMBERS = {name: number for number, name in enumerate(NAMES)}
CAP_SYS_RESOURCE = NUMBERS["CAP_SYS_RESOURCE"]

PR_CAPBSET_READ = 23
PR_CAPBSET_DROP = 24
PR_CAP_AMBIENT = 47
PR_CAP_AMBIENT_RAISE = 2
PR_CAP_AMBIENT_CLEAR_ALL = 4
_VERSION_3 = 0x20080522
_HEADER = struct.pack("Ii", _VERSION_3, 0)


class Sets:
    """The five sets of a process as bit masks. Names the kernel does not know are left out, as runc does."""

    __slots__ = ("ambient", "bounding", "effective", "inheritable", "permitted")

    def __init__(self, document: dict[str, Any] | None) -> None:
        sets = document or {}
        self.bounding = mask(sets.get("bounding"))
        self.effective = mask(sets.get("effective"))
        self.permitted = mask(sets.get("permitted"))
        self.inheritable = mask(sets.get("inheritable"))
        self.ambient = mask(sets.get("ambient"))


def mask(names: list[str] | None) -> int:
    """The names as a bit mask; unknown ones are left out."""
    bits = 0
    for name in names or ():
        number = NUMBERS.get(name)
        if number is not None:
            bits |= 1 << number
    return bits


def names(bits: int) -> list[str]:
    """The names of a bit mask, by number."""
    return [name for number, name in enumerate(NAMES) if bits >> number & 1]


def own() -> tuple[int, int, int]:
    """(effective, permitted, inheritable) of this process. capget(2)."""
    data = bytearray(24)
    buffer = (foreign.c_char * 24).from_buffer(data)
    syscall("capget", _HEADER, buffer)
    low = struct.unpack("6I", data)
    return tuple(low[i] | low[i + 3] << 32 for i in range(3))


def has_own(number: int) -> bool:
    """Whether this process has a capability in effect."""
    return bool(own()[0] >> number & 1)


def bounding() -> int:
    """This process's bounding set, as far as the kernel knows capabilities."""
    bits = 0
    for number in range(64):
        try:
            bits |= prctl(PR_CAPBSET_READ, number) << number
        except OSError:
            break
    return bits


def drop_bounding(keep: int) -> None:
    """Drop every capability that is not in `keep` from the bounding set; needs CAP_SETPCAP when one is to drop."""
    drop = libc.prctl
    for number in range(64):
        if not keep >> number & 1 and drop(PR_CAPBSET_DROP, number, 0, 0, 0) < 0:
            if foreign.get_errno() == errno.EINVAL:  # past the last one the kernel knows
                return
            raise_errno("prctl")


def _set(effective: int, permitted: int, inheritable: int) -> None:
    words = (effective, permitted, inheritable)
    syscall("capset", _HEADER, struct.pack("6I", *(w & 0xFFFFFFFF for w in words), *(w >> 32 for w in words)))


def raise_effective(sets: Sets) -> None:
    """After a change of user (PR_SET_KEEPCAPS) the permitted set is left and nothing is in effect: put it back."""
    effective, permitted, inheritable = own()
    if effective != permitted:
        _set(permitted, permitted, inheritable)


def apply(sets: Sets) -> None:
    """The final sets of this process. One that we do not have cannot be given, e.g. where the engine is confined."""
    _, permitted, _ = own()
    allowed = sets.permitted & permitted
    inheritable = sets.inheritable & (permitted | sets.inheritable & sets.bounding)
    try:
        _set(sets.effective & allowed, allowed, inheritable)
    except PermissionError:
        inheritable &= permitted
        _set(sets.effective & allowed, allowed, inheritable)
    prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL)
    ambient = sets.ambient & allowed & inheritable
    for number in range(len(NAMES)):
        if ambient >> number & 1:
            prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_RAISE, number)
