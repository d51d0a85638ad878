"""The way into the kernel: libc by foreign.py, and system calls by number where libc has no function for them.

Calls keep the GIL (PyDLL): a raw clone returns twice, and the child must come back holding it. Blocking calls
do not belong here. A call costs 0.27 us.
"""

import posix

from corten.linux import foreign

libc = foreign.PyDLL(None, use_errno=True)

MACHINE = posix.uname().machine

# number on x86_64, number on aarch64 (asm/unistd_64.h, asm-generic/unistd.h)
_NUMBERS = {
    "pivot_root": (155, 41),
    "clone": (56, 220),
    "sethostname": (170, 161),
    "setdomainname": (171, 162),
    "keyctl": (250, 219),
    "unshare": (272, 97),
    "setns": (308, 268),
    "seccomp": (317, 277),
    "memfd_create": (319, 279),
    "bpf": (321, 280),
    "capget": (125, 90),
    "capset": (126, 91),
    "pidfd_send_signal": (424, 424),
    "open_tree": (428, 428),
    "move_mount": (429, 429),
    "fsopen": (430, 430),
    "fsconfig": (431, 431),
    "fsmount": (432, 432),
    "fspick": (433, 433),
    "pidfd_open": (434, 434),
    "clone3": (435, 435),
    "close_range": (436, 436),
    "openat2": (437, 437),
    "pidfd_getfd": (438, 438),
    "mount_setattr": (442, 442),
    "landlock_create_ruleset": (444, 444),
    "landlock_add_rule": (445, 445),
    "landlock_restrict_self": (446, 446),
    "ioprio_set": (251, 30),
    "sched_setattr": (314, 274),
    "set_mempolicy": (238, 237),
    "add_key": (248, 217),
    "sync_file_range": (277, 84),
    "splice": (275, 76),
    "tee": (276, 77),
    "vmsplice": (278, 75),
    "prctl": (157, 167),
    "umount2": (166, 39),
    "mount": (165, 40),
    "execveat": (322, 281),
    "prlimit64": (302, 261),
    "ioprio_get": (252, 31),
    "getcpu": (309, 168),
}
_COLUMN = {"x86_64": 0, "aarch64": 1}[MACHINE]
SYS = {name: numbers[_COLUMN] for name, numbers in _NUMBERS.items()}

_syscall = libc.syscall
_syscall.restype = foreign.c_long
_long = foreign.c_long

libc.prctl.argtypes = [foreign.c_int, *[foreign.c_ulong] * 4]  # converted in C: a start calls it some forty times


def syscall(name: str, *arguments: object) -> int:
    """Call `name` by its number; arguments are int, bytes, None or ctypes objects. syscall(2). Raises OSError."""
    converted = [_long(a) if isinstance(a, int) else a for a in arguments]
    result = _syscall(_long(SYS[name]), *converted)
    if result == -1:
        raise_errno(name)
    return int(result)


def raise_errno(what: str, path: str | None = None) -> None:
    """Raise the OSError of the last call; `strerror` begins with the call's name, `filename` is the path."""
    number = foreign.get_errno()
    raise OSError(number, f"{what}: {posix.strerror(number)}", path)


def check(result: int, what: str, path: str | None = None) -> int:
    """Pass a libc function's result through; -1 raises its OSError."""
    if result == -1:
        raise_errno(what, path)
    return result
