"""Which device nodes a group may use: v1's devices.allow and devices.deny, v2's eBPF program.

The rules are those of linux.resources.devices, the last that matches decides; without one nothing is allowed but what
the rules before said.
"""

from __future__ import annotations

import posix

from corten.base.errors import InvalidArgument

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

# what every container may use, whatever its own rules say: mknod of anything, the nodes it is given, its terminals, tun
ALWAYS: tuple[dict[str, Any], ...] = (
    {"allow": True, "type": "c", "access": "m"},
    {"allow": True, "type": "b", "access": "m"},
    *(
        {"allow": True, "type": "c", "major": major, "minor": minor, "access": "rwm"}
        for major, minor in (
            (1, 3), (1, 5), (1, 7), (1, 8), (1, 9), (5, 0), (5, 2), (10, 200),
        )
    ),
    {"allow": True, "type": "c", "major": 136, "access": "rwm"},
)
_ACCESS = {"m": 1, "r": 2, "w": 4}
_KINDS = {"b": 1, "c": 2}


def with_defaults(rules: list[dict[str, Any]] | None) -> list[dict[str, Any]]:
    """A container's own rules between a refusal of all and what is always allowed, as runc has it."""
    asked = list(rules or ())
    if len(asked) == 1 and _fields(asked[0])[:2] == (True, "a"):
        return asked
    first = [] if asked and _fields(asked[0])[1] == "a" else [{"allow": False, "access": "rwm"}]
    return [*first, *asked, *(rule for rule in ALWAYS if rule not in asked)]


def _fields(rule: dict[str, Any]) -> tuple[bool, str, int, int, str]:
    kind = rule.get("type") or "a"
    access = rule.get("access") or ""
    if len(access) > 1:
        access = access.replace("a", "")  # `rwa` is met with; what the other letters say is meant, as in runc
    if kind not in ("a", "b", "c", "u") or set(access) - set("rwm"):
        raise InvalidArgument(f"invalid device rule: {rule!r}")
    major, minor = rule.get("major"), rule.get("minor")
    numbers = (-1 if major is None else int(major), -1 if minor is None else int(minor))
    return bool(rule.get("allow")), "c" if kind == "u" else kind, *numbers, access


def apply_v1(place: str, rules: list[dict[str, Any]]) -> None:
    """Write the rules in order to a v1 devices group. Raises InvalidArgument, OSError."""
    files: dict[str, int] = {}
    try:
        for rule in rules:
            allow, kind, major, minor, access = _fields(rule)
            text = "a"
            if kind != "a":
                text = f"{kind} {'*' if major < 0 else major}:{'*' if minor < 0 else minor} {access or 'rwm'}"
            name = f"{place}/devices.{'allow' if allow else 'deny'}"
            if name not in files:
                files[name] = posix.open(name, posix.O_WRONLY | posix.O_CLOEXEC)
            try:
                posix.write(files[name], text.encode())
            except OSError as error:
                raise OSError(error.errno, f"write: {error.strerror}", name) from None
    finally:
        for descriptor in files.values():
            posix.close(descriptor)


# --- v2: BPF_PROG_TYPE_CGROUP_DEVICE, linux/bpf.h

_PROG_LOAD = 5
_PROG_ATTACH = 8
_TYPE_CGROUP_DEVICE = 15
_ATTACH_CGROUP_DEVICE = 6
_F_ALLOW_MULTI = 2


def _instruction(code: int, dst: int = 0, src: int = 0, offset: int = 0, value: int = 0) -> bytes:
    return b"".join((
        bytes((code, src << 4 | dst)), offset.to_bytes(2, "little", signed=True),
        value.to_bytes(4, "little", signed=True),
    ))


_LDX_W, _AND_K, _RSH_K, _MOV_K, _MOV_X = 0x61, 0x54, 0x74, 0xB4, 0xBC
_JNE_K, _JNE_X, _EXIT = 0x56, 0x5E, 0x95


def program(rules: list[dict[str, Any]]) -> bytes:
    """The rules as eBPF: 1 allowed, 0 refused. Newest rule first, since the last that matches decides.

    Context (struct bpf_cgroup_dev_ctx): access_type = access << 16 | type, major, minor.
    """
    code = [
        _instruction(_LDX_W, 2, 1, 0),       # r2 = type
        _instruction(_AND_K, 2, value=0xFFFF),
        _instruction(_LDX_W, 3, 1, 0),       # r3 = access asked for
        _instruction(_RSH_K, 3, value=16),
        _instruction(_LDX_W, 4, 1, 4),       # r4 = major
        _instruction(_LDX_W, 5, 1, 8),       # r5 = minor
    ]
    for rule in reversed(rules):
        block = _rule_block(rule)
        code.append(block)
        if _fields(rule)[1] == "a":
            return b"".join(code)
    code += [_instruction(_MOV_K, 0, value=0), _instruction(_EXIT)]
    return b"".join(code)


def _rule_block(rule: dict[str, Any]) -> bytes:
    """Tests that jump past the block when they fail, then the verdict."""
    allow, kind, major, minor, access = _fields(rule)
    verdict = [_instruction(_MOV_K, 0, value=int(allow)), _instruction(_EXIT)]
    tests: list[tuple[bytes, tuple[int, int, int, int]]] = []
    if kind != "a":
        tests.append((b"", (_JNE_K, 2, 0, _KINDS[kind])))
        bits = sum(_ACCESS[letter] for letter in set(access or "rwm"))
        if bits != 7:
            # an allowing rule must cover all that is asked; a denying one catches any of it
            if allow:
                prepare = _instruction(_MOV_X, 1, 3) + _instruction(_AND_K, 1, value=bits)
                tests.append((prepare, (_JNE_X, 1, 3, 0)))
            else:
                prepare = _instruction(_MOV_X, 1, 3) + _instruction(_AND_K, 1, value=bits)
                tests.append((prepare, (0x16, 1, 0, 0)))  # jeq 0: none of it asked
        if major >= 0:
            tests.append((b"", (_JNE_K, 4, 0, major)))
        if minor >= 0:
            tests.append((b"", (_JNE_K, 5, 0, minor)))
    size = sum(len(prepare) // 8 + 1 for prepare, _ in tests) + len(verdict)
    out, at = b"", 0
    for prepare, (opcode, dst, src, value) in tests:
        at += len(prepare) // 8 + 1
        out += prepare + _instruction(opcode, dst, src, size - at, value)
    return out + b"".join(verdict)


def apply_v2(place: str, rules: list[dict[str, Any]]) -> None:
    """Load and attach the rules' program to a v2 group. bpf(2). Raises InvalidArgument, OSError."""
    import struct

    from corten.linux import foreign
    from corten.linux.libc import syscall

    code = foreign.create_string_buffer(program(rules))
    licence = foreign.create_string_buffer(b"Apache")
    attributes = struct.pack(
        "IIQQIIQII16s", _TYPE_CGROUP_DEVICE, (len(code) - 1) // 8, foreign.addressof(code), foreign.addressof(licence),
        0, 0, 0, 0, 0, b"corten_devices",
    )
    loaded = syscall("bpf", _PROG_LOAD, attributes, len(attributes))
    group = posix.open(place, posix.O_RDONLY | posix.O_DIRECTORY | posix.O_CLOEXEC)
    try:
        attach = struct.pack("IIII", group, loaded, _ATTACH_CGROUP_DEVICE, _F_ALLOW_MULTI)
        syscall("bpf", _PROG_ATTACH, attach, len(attach))
    finally:
        posix.close(group)
        posix.close(loaded)
