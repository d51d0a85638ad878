"""A child that runs in its parent's memory until it executes: vfork(2)'s bargain, with all that clone3(2) can do.

No page table is copied and no page is copied on write: a millisecond less than a fork of a small interpreter. The
parent sleeps until the child has executed or ended. The child runs Python on a stack of its own, in the parent's
interpreter, as a coroutine would; it must end in execve or `os._exit`. What it had in hand is never freed, and if it
was killed in the middle of a change the interpreter is not to be trusted: a process that lends its memory does
nothing else, and ends after some uses (docs/adr/0003). One thread only.
"""

import ctypes
import errno
import mmap
import os
import struct

from corten.linux.libc import MACHINE, check, libc
from corten.linux.namespaces import CLONE_INTO_CGROUP, CLONE_PIDFD, SIGCHLD

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import TypeVar

    T = TypeVar("T")

CLONE_VM = 0x00000100
CLONE_VFORK = 0x00004000
CLONE_PARENT = 0x00008000
CLONE_CLEAR_SIGHAND = 0x100000000

# int clone3_call(struct clone_args *arguments, size_t size, void (*child)(void)): libc has no function for it, and by
# syscall(3) the child would come back on an empty stack.
_CODE = {
    "x86_64": bytes.fromhex(
        "b8b3010000"  # mov  $435, %eax
        "0f05"        # syscall
        "4885c0"      # test %rax, %rax
        "7401"        # jz   1f
        "c3"          # ret
        "31ed"        # 1: xor %ebp, %ebp
        "ffd2"        # call *%rdx
        "0f0b"        # ud2
    ),
    "aarch64": struct.pack(
        "<8I",
        0xAA0203EA,  # mov  x10, x2
        0xD2803668,  # mov  x8, #435
        0xD4000001,  # svc  #0
        0xB4000040,  # cbz  x0, 1f
        0xD65F03C0,  # ret
        0xD280001D,  # 1: mov x29, #0
        0xD63F0140,  # blr  x10
        0xD4200000,  # brk  #0
    ),
}
_STACK_BYTES = 1 << 20
_ENTRY = ctypes.PYFUNCTYPE(None)
_PROBES = 3

libc.mprotect.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int]


class Lender:
    """The stack and the few instructions that a lending process needs; to be used below `with_room`.

    Raises OSError where the kernel forbids them.
    """

    def __init__(self) -> None:
        self._code = mmap.mmap(-1, mmap.PAGESIZE)
        self._code.write(_CODE[MACHINE])
        start = _address(self._code)
        check(libc.mprotect(start, mmap.PAGESIZE, mmap.PROT_READ | mmap.PROT_EXEC), "mprotect")
        self._stack = mmap.mmap(-1, _STACK_BYTES, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
        self._stack_start = _address(self._stack)
        check(libc.mprotect(self._stack_start, mmap.PAGESIZE, 0), "mprotect")  # a guard
        self._pidfd = ctypes.c_int(-1)
        self._arguments = ctypes.create_string_buffer(88)
        self._call = ctypes.PYFUNCTYPE(ctypes.c_long, ctypes.c_void_p, ctypes.c_size_t, _ENTRY)(start)
        self._entry = _ENTRY(self._begin)
        self._run: Callable[[], object] = _nothing
        self._ended = False

    def clone(self, flags: int, cgroup_fd: int, run: "Callable[[], object]") -> tuple[int, int]:
        """As namespaces.clone3, for a child that calls `run`; returns (pid, pidfd) once it has executed or ended.

        When `run` returns or raises the child ends, with 255."""
        self._run, self._ended = run, False
        flags |= CLONE_VM | CLONE_VFORK | CLONE_PIDFD | CLONE_CLEAR_SIGHAND
        if cgroup_fd >= 0:
            flags |= CLONE_INTO_CGROUP
        struct.pack_into(
            "11Q", self._arguments, 0, flags, ctypes.addressof(self._pidfd), 0, 0,
            0 if flags & CLONE_PARENT else SIGCHLD, self._stack_start, _STACK_BYTES, 0, 0, 0, max(cgroup_fd, 0),
        )
        # Called from C, by map, the interpreter enters a frame of C's: on the way out of that it finds its own frames
        # again, where the child has left it with the child's.
        result = next(map(self._clone, (len(self._arguments),)))
        self._run = _nothing
        if result < 0:
            raise OSError(-result, f"clone3: {os.strerror(-result)}")
        return result, self._pidfd.value

    def _clone(self, size: int) -> int:
        return int(self._call(ctypes.addressof(self._arguments), size, self._entry))

    def _begin(self) -> None:
        try:
            self._run()
        finally:
            self._ended = True
            os._exit(255)

    @property
    def ended(self) -> bool:
        """Whether the child last made came to the end of `run`."""
        return self._ended

    def probe(self) -> None:
        """Try it on children that end at once. Raises OSError when it does not work with this interpreter."""
        for number in range(_PROBES):
            pid, pidfd = self.clone(0, -1, lambda code=number: os._exit(code))  # type: ignore[misc]
            os.close(pidfd)
            if os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) != number:
                raise OSError(errno.ENOSYS, "clone3: a child in this process's memory does not run")


def with_room(function: "Callable[[], T]") -> "T":
    """Call a function with room for the frames of a child on the interpreter's own stack.

    That is a list of chunks, each as large as the frame it was made for takes, to a power of two. A child that had to
    add one would leave its parent with the wrong chunk.
    """
    return function()


# two thirds of a chunk of 128 KiB: the rest is the room
with_room.__code__ = with_room.__code__.replace(co_stacksize=10_000)


def _nothing() -> None:
    pass


def _address(area: mmap.mmap) -> int:
    return ctypes.addressof(ctypes.c_char.from_buffer(area))

