"""What seccomp.py has to know about the kernel's system calls: numbers by architecture, and which arguments are 32-bit.

The numbers are data, syscalls.json, read once by whoever compiles first. Pure but for that read.
"""

from __future__ import annotations

from corten.base import jsonio

# audit tokens (linux/audit.h); x32 shares x86_64's
ARCHITECTURES = {
    "SCMP_ARCH_X86_64": 0xC000003E,
    "SCMP_ARCH_X86": 0x40000003,
    "SCMP_ARCH_X32": 0xC000003E,
    "SCMP_ARCH_AARCH64": 0xC00000B7,
    "SCMP_ARCH_ARM": 0x40000028,
}
NATIVE = {"x86_64": "SCMP_ARCH_X86_64", "aarch64": "SCMP_ARCH_AARCH64"}
X32_BIT = 0x40000000

_COLUMNS = {
    "SCMP_ARCH_X86_64": "x86_64", "SCMP_ARCH_X86": "x86", "SCMP_ARCH_X32": "x32", "SCMP_ARCH_AARCH64": "aarch64",
    "SCMP_ARCH_ARM": "arm",
}

# arguments declared int, unsigned int or a 32-bit type in the kernel's SYSCALL_DEFINEs: the upper half never reaches it
INT_ARGUMENTS = {
    "accept": (0,), "accept4": (0, 3), "bind": (0, 2), "bpf": (0, 2), "chmod": (1,), "clone": (0,), "close": (0,),
    "connect": (0, 2), "dup": (0,), "dup2": (0, 1), "dup3": (0, 1, 2), "epoll_create1": (0,), "eventfd2": (0, 1),
    "faccessat": (0, 2), "fchmod": (0, 1), "fchmodat": (0, 2), "fchmodat2": (0, 2, 3), "fcntl": (0, 1), "flock": (0, 1),
    "futex": (1, 2, 5), "getsockopt": (0, 1, 2), "ioctl": (0, 1), "ioprio_set": (0, 1, 2), "kcmp": (0, 1, 2),
    "keyctl": (0,), "kill": (0, 1), "listen": (0, 1), "madvise": (2,), "memfd_create": (1,), "mkdir": (1,),
    "mkdirat": (0, 2), "mknod": (1, 2), "mknodat": (0, 2, 3), "mq_open": (1, 2), "open": (1, 2), "openat": (0, 2, 3),
    "perf_event_open": (1, 2, 3), "personality": (0,), "pidfd_open": (0, 1), "pidfd_send_signal": (0, 1, 3),
    "prctl": (0,), "prlimit64": (0, 1), "quotactl": (0, 2), "reboot": (0, 1, 2), "renameat2": (0, 2, 4),
    "rt_sigaction": (0,), "sched_setscheduler": (0, 1), "seccomp": (0, 1), "semctl": (0, 1, 2), "semget": (0, 1, 2),
    "setns": (0, 1), "setpriority": (0, 1, 2), "setsockopt": (0, 1, 2, 4), "shmat": (0, 2), "shmctl": (0, 1),
    "shmget": (0, 2), "shutdown": (0, 1), "socket": (0, 1, 2), "socketcall": (0,), "socketpair": (0, 1, 2),
    "syslog": (0, 2), "tgkill": (0, 1, 2), "tkill": (0, 1), "umask": (0,), "umount2": (1,), "unlinkat": (0, 2),
    "unshare": (0,), "userfaultfd": (0,), "wait4": (0, 2), "waitid": (0, 1, 3),
}

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

_tables: dict[str, dict[str, int]] | None = None


def numbers(architecture: str) -> dict[str, int]:
    """Name -> number of an architecture's system calls (`SCMP_ARCH_*`). Linux 6.17."""
    global _tables
    if _tables is None:
        with open(f"{__file__.rpartition('/')[0]}/syscalls.json", "rb") as file:
            read: Any = jsonio.loads(file.read())
        _tables = read
    tables: dict[str, dict[str, int]] = _tables or {}
    return tables[_COLUMNS[architecture]]
