"""Locking a worker in before it reads what strangers wrote: one folder is all it sees. Standard library only.

`enter` in order: die with the daemon, own mount, network, IPC and UTS namespaces, pivot into the folder, limits,
capabilities down to what writing files of any owner takes, Landlock, seccomp. Each layer holds when the others fall.
Not for containers: those get their confinement from runtime.
"""

import ctypes
import os
import resource
import struct

from corten.linux.libc import MACHINE, SYS, check, libc, syscall

CLONE_NEWNS, CLONE_NEWUTS, CLONE_NEWIPC, CLONE_NEWNET = 0x20000, 0x4000000, 0x8000000, 0x40000000
MS_RDONLY, MS_NOSUID, MS_NODEV, MS_NOEXEC = 1, 2, 4, 8
MS_REMOUNT, MS_BIND, MS_REC, MS_PRIVATE = 32, 4096, 16384, 1 << 18
MNT_DETACH = 2
PR_SET_PDEATHSIG, PR_CAPBSET_DROP, PR_SET_NO_NEW_PRIVS, PR_CAP_AMBIENT, PR_SET_SECCOMP = 1, 24, 38, 47, 22

# capability.h: CHOWN DAC_OVERRIDE FOWNER FSETID MKNOD SETFCAP; to read only: DAC_READ_SEARCH
WRITER_CAPABILITIES = (0, 1, 3, 4, 27, 31)
READER_CAPABILITIES = (2,)
SYS_ADMIN = 21

_EPERM_CALLS = (  # what a decoder of archives has no business with; x86_64 and aarch64 numbers
    (165, 40), (166, 39), (155, 41), (161, 51), (308, 268), (272, 97), (101, 117), (321, 280), (59, 221), (322, 281),
    (41, 198), (53, 199), (42, 203), (49, 200), (304, 265), (175, 105), (313, 273), (176, 106), (246, 104), (298, 241),
    (250, 219), (248, 217), (310, 270), (311, 271), (425, 425), (428, 428), (429, 429), (430, 430), (432, 432),
    (442, 442), (438, 438), (424, 424), (323, 282), (62, 129), (200, 130), (234, 131), (435, 435), (57, -1), (58, -1),
    (56, 220),
)
_AUDIT_ARCH = {"x86_64": 0xC000003E, "aarch64": 0xC00000B7}


def enter(root: str, *, write: bool, cpu_seconds: int, memory_bytes: int,
          capabilities: tuple[int, ...] | None = None) -> None:
    """Shut this (single-threaded, freshly exec'd) process into `root`, which becomes `/`. Import everything before.

    Raises OSError when the kernel refuses a step that matters; a kernel without Landlock is let pass.
    """
    check(libc.prctl(PR_SET_PDEATHSIG, 9, 0, 0, 0), "prctl(PR_SET_PDEATHSIG)")
    os.umask(0)
    _namespaces(root, write)
    _limits(cpu_seconds, memory_bytes)
    _capabilities(capabilities or (WRITER_CAPABILITIES if write else READER_CAPABILITIES))
    check(libc.prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0), "prctl(PR_SET_NO_NEW_PRIVS)")
    _landlock(write)
    _seccomp()


def enter_here(*, write: bool, cpu_seconds: int, memory_bytes: int,
               capabilities: tuple[int, ...] | None = None) -> None:
    """As `enter`, for a process whose `/` is the folder already, in a mount namespace of its own."""
    check(libc.prctl(PR_SET_PDEATHSIG, 9, 0, 0, 0), "prctl(PR_SET_PDEATHSIG)")
    os.umask(0)
    check(libc.unshare(CLONE_NEWNET | CLONE_NEWIPC | CLONE_NEWUTS), "unshare")
    _limits(cpu_seconds, memory_bytes)
    _capabilities(capabilities or (WRITER_CAPABILITIES if write else READER_CAPABILITIES))
    check(libc.prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0), "prctl(PR_SET_NO_NEW_PRIVS)")
    _landlock(write)
    _seccomp()


def _mount(source: bytes, target: bytes, flags: int) -> None:
    check(libc.mount(source, target, None, ctypes.c_ulong(flags), None), "mount", os.fsdecode(target))


def _namespaces(root: str, write: bool) -> None:
    check(libc.unshare(CLONE_NEWNS | CLONE_NEWNET | CLONE_NEWIPC | CLONE_NEWUTS), "unshare")
    _mount(b"none", b"/", MS_REC | MS_PRIVATE)
    path = os.fsencode(root)
    _mount(path, path, MS_BIND)
    flags = MS_NOSUID | MS_NODEV | MS_NOEXEC | (0 if write else MS_RDONLY)
    _mount(b"none", path, MS_BIND | MS_REMOUNT | flags)
    os.chdir(path)
    syscall("pivot_root", b".", b".")
    check(libc.umount2(b".", MNT_DETACH), "umount2")
    os.chdir("/")


def _limits(cpu_seconds: int, memory_bytes: int) -> None:
    for kind, limit in (
        (resource.RLIMIT_CORE, 0), (resource.RLIMIT_NPROC, 0), (resource.RLIMIT_NOFILE, 1024),
        (resource.RLIMIT_CPU, cpu_seconds), (resource.RLIMIT_DATA, memory_bytes),
    ):
        hard = resource.getrlimit(kind)[1]
        bound = limit if hard == resource.RLIM_INFINITY else min(limit, hard)
        resource.setrlimit(kind, (bound, bound))


def _capabilities(kept: tuple[int, ...]) -> None:
    for capability in range(64):
        if capability not in kept and libc.prctl(PR_CAPBSET_DROP, capability, 0, 0, 0) == -1:
            break  # past the last one this kernel knows
    libc.prctl(PR_CAP_AMBIENT, 4, 0, 0, 0)
    mask = sum(1 << capability for capability in kept)
    header = struct.pack("Ii", 0x20080522, 0)
    low, high = mask & 0xFFFFFFFF, mask >> 32
    syscall("capset", header, struct.pack("6I", low, low, 0, high, high, 0))


def _landlock(write: bool) -> None:
    """Only `/` (which is the folder already), nothing executed, no sockets, no signals out. landlock(7)."""
    try:
        version = syscall("landlock_create_ruleset", None, 0, 1)
    except OSError:
        return
    rights = (1 << (13, 14, 15, 15, 16)[min(version, 5) - 1]) - 1
    attributes = struct.pack("=QQQ", rights, 3 if version >= 4 else 0, 3 if version >= 6 else 0)
    size = 24 if version >= 6 else 16 if version >= 4 else 8
    ruleset = syscall("landlock_create_ruleset", attributes, size, 0)
    execute, read = 1, 0b1100
    allowed = (rights & ~execute & ~(1 << 15)) if write else read
    root = os.open("/", os.O_PATH | os.O_CLOEXEC)
    try:
        syscall("landlock_add_rule", ruleset, 1, struct.pack("=Qi", allowed, root), 0)
        syscall("landlock_restrict_self", ruleset, 0)
    finally:
        os.close(root)
        os.close(ruleset)


def _seccomp() -> None:
    """EPERM for the calls above, death for another architecture's or x32's. seccomp(2), linux/filter.h."""
    column = 0 if MACHINE == "x86_64" else 1
    numbers = sorted({pair[column] for pair in _EPERM_CALLS if pair[column] >= 0})
    load, jump_equal, jump_at_least, result = 0x20, 0x15, 0x35, 0x06
    code = [
        (load, 0, 0, 4), (jump_equal, 1, 0, _AUDIT_ARCH[MACHINE]), (result, 0, 0, 0x80000000),
        (load, 0, 0, 0), (jump_at_least, len(numbers) + 1, 0, 0x40000000),
    ]
    code += [(jump_equal, len(numbers) - index, 0, number) for index, number in enumerate(numbers)]
    code += [(result, 0, 0, 0x7FFF0000), (result, 0, 0, 0x00050001)]
    program = b"".join(struct.pack("=HBBI", *line) for line in code)
    buffer = ctypes.create_string_buffer(program, len(program))
    filter_ = struct.pack("@HP", len(code), ctypes.addressof(buffer))
    head = ctypes.create_string_buffer(filter_, len(filter_))
    check(libc.prctl(PR_SET_SECCOMP, 2, ctypes.addressof(head), 0, 0), "prctl(PR_SET_SECCOMP)")


assert SYS["openat2"] == 437
