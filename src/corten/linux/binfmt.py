"""Programs of other machines: which ELF files the kernel runs, by an interpreter that was registered or by itself.

Source: Documentation/admin-guide/binfmt-misc.rst, elf(5). Nothing is registered or mounted here.
"""

import os
import struct

from corten.linux.mount import FilesystemContext

# architecture as docker names it: (64 bits, little-endian, e_machine)
_MACHINES = {
    "386": (False, True, 3), "amd64": (True, True, 62), "arm": (False, True, 40), "arm64": (True, True, 183),
    "riscv64": (True, True, 243), "ppc64le": (True, True, 21), "s390x": (True, False, 22), "mips64le": (True, True, 8),
    "mips64": (True, False, 8), "loong64": (True, True, 258),
}
ARCHITECTURES = tuple(_MACHINES)
_EXIT_386 = bytes.fromhex("31c040 31db cd80")  # xor eax,eax; inc eax; xor ebx,ebx; int 0x80: exit(0)
_BASE = 0x08048000


def header(architecture: str) -> bytes:
    """The first 20 bytes of an executable of an architecture. Raises KeyError for one that is not known."""
    wide, little, machine = _MACHINES[architecture]
    start = b"\x7fELF" + bytes((2 if wide else 1, 1 if little else 2, 1)) + bytes(9)
    return start + struct.pack("<HH" if little else ">HH", 2, machine)


def interpreters() -> list[dict[str, str]]:
    """What is registered and enabled: {"interpreter", "flags", "magic", "mask", "offset"}; [] without binfmt_misc."""
    try:
        with FilesystemContext("binfmt_misc") as context:
            mount = context.mount()
        try:
            root = os.open(".", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC, dir_fd=mount)
        finally:
            os.close(mount)
    except OSError:
        return []
    try:
        found = (_read(root, name) for name in os.listdir(root) if name not in ("register", "status"))
        return [entry for entry in found if entry is not None]
    finally:
        os.close(root)


def _read(root: int, name: str) -> dict[str, str] | None:
    try:
        descriptor = os.open(name, os.O_RDONLY | os.O_CLOEXEC, dir_fd=root)
    except OSError:
        return None  # gone meanwhile
    try:
        lines = os.read(descriptor, 1 << 16).decode("utf-8", "replace").splitlines()
    finally:
        os.close(descriptor)
    pairs = (line.partition(" ") for line in lines[1:])
    fields = {key.rstrip(":"): value.strip() for key, _, value in pairs}
    return fields if lines[:1] == ["enabled"] and "magic" in fields else None


def interpreted(architecture: str, entries: list[dict[str, str]]) -> str | None:
    """The flags of the interpreter that runs an architecture's programs, None without one.

    With "F" it was opened when it was registered, and is there in every container.
    """
    wanted = header(architecture)
    for entry in entries:
        magic, offset = bytes.fromhex(entry["magic"]), int(entry.get("offset", "0"))
        mask = bytes.fromhex(entry["mask"]) if entry.get("mask") else b"\xff" * len(magic)
        seen = wanted[offset:offset + len(magic)]
        if len(seen) == len(magic) and all((a ^ b) & m == 0 for a, b, m in zip(seen, magic, mask, strict=True)):
            return entry.get("flags", "")
    return None


def program_386() -> bytes:
    """A program of 32-bit x86 that ends at once, with 0."""
    code = 52 + 32
    size = code + len(_EXIT_386)
    program = header("386") + struct.pack("<IIIIIHHHHHH", 1, _BASE + code, 52, 0, 0, 52, 32, 1, 0, 0, 0)
    return program + struct.pack("<8I", 1, 0, _BASE, _BASE, size, size, 5, 0x1000) + _EXIT_386


def runs_386() -> bool:
    """Whether this kernel itself runs programs of 32-bit x86: tried."""
    descriptor = os.memfd_create("probe", os.MFD_CLOEXEC)
    try:
        os.write(descriptor, program_386())
        child = os.posix_spawn(f"/proc/self/fd/{descriptor}", ["probe"], {})
    except OSError:
        return False  # ENOEXEC
    finally:
        os.close(descriptor)
    return os.waitpid(child, 0)[1] == 0
