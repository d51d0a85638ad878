"""seccomp: a profile of the runtime spec (linux.seccomp) compiled to the kernel's classic BPF, and installed.

Per architecture the numbers are cut into ranges with the same outcome and looked up by binary search; rules on
arguments hang below their number. Three decisions differ from a naive compilation:

* An argument that the kernel takes as a 32-bit value is compared in its low half only. The field compares all 64 bits,
  and `socket(0x100000028)` passes it and opens AF_VSOCK (40).
* Numbers above all that the profile names answer ENOSYS, not the default errno: a C library then falls back.
* An architecture that is not listed, x32 among them, ends the process.
"""

from __future__ import annotations

import marshal
import struct

from corten.base.errors import InvalidArgument, Unsupported
from corten.linux import foreign
from corten.linux.libc import MACHINE, syscall
from corten.linux.seccomp_tables import ARCHITECTURES, INT_ARGUMENTS, NATIVE, X32_BIT, numbers

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    Instruction = tuple[int, int, int, int]  # code, jump if true, jump if false, value
    Rule = tuple[int, list["Condition"]]  # the value to return, the conditions that must all hold
    Range = tuple[int, list[Instruction]]  # the first number, what becomes of it and those up to the next range

# linux/filter.h, linux/seccomp.h
_LD, _JA, _JEQ, _JGT, _JGE, _JSET, _AND, _RET = 0x20, 0x05, 0x15, 0x25, 0x35, 0x45, 0x54, 0x06
RET_KILL_PROCESS, RET_KILL_THREAD, RET_TRAP = 0x80000000, 0x00000000, 0x00030000
RET_ERRNO, RET_TRACE, RET_LOG, RET_ALLOW = 0x00050000, 0x7FF00000, 0x7FFC0000, 0x7FFF0000
RET_USER_NOTIF = 0x7FC00000
NEW_LISTENER, _SPEC_ALLOW = 8, 4
_OFFSET_NUMBER, _OFFSET_ARCH, _OFFSET_ARGUMENTS = 0, 4, 16
_ENOSYS, _EPERM = 38, 1
ACTIONS = {
    "SCMP_ACT_KILL": RET_KILL_THREAD, "SCMP_ACT_KILL_THREAD": RET_KILL_THREAD,
    "SCMP_ACT_KILL_PROCESS": RET_KILL_PROCESS, "SCMP_ACT_TRAP": RET_TRAP, "SCMP_ACT_ERRNO": RET_ERRNO,
    "SCMP_ACT_TRACE": RET_TRACE, "SCMP_ACT_LOG": RET_LOG, "SCMP_ACT_ALLOW": RET_ALLOW,
    "SCMP_ACT_NOTIFY": RET_USER_NOTIF,
}
OPERATORS = frozenset(("NE", "LT", "LE", "EQ", "GE", "GT", "MASKED_EQ"))
FLAGS = {
    "SECCOMP_FILTER_FLAG_TSYNC": 0,  # for all threads: whoever installs a filter here has one
    "SECCOMP_FILTER_FLAG_LOG": 2, "SECCOMP_FILTER_FLAG_SPEC_ALLOW": _SPEC_ALLOW,
    "SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV": 32,
}
_LIMIT = 4096  # BPF_MAXINSNS
_SET_MODE_FILTER = 1
_LOW, _HIGH = 0, 4  # both machines are little-endian

_compiled: dict[bytes, tuple[bytes, int]] = {}
_CACHE = 64
_latest: tuple[object, tuple[bytes, int]] = (None, (b"", 0))  # the very profile, of the last exec perhaps


class Condition:
    """One comparison of an argument; `narrow`: only its low 32 bits count."""

    __slots__ = ("index", "mask", "narrow", "operator", "value")

    def __init__(self, entry: dict[str, Any]) -> None:
        self.index = int(entry.get("index") or 0)
        self.operator = str(entry.get("op") or "").removeprefix("SCMP_CMP_")
        self.value = int(entry.get("value") or 0)
        self.mask = (1 << 64) - 1
        self.narrow = False
        if self.operator not in OPERATORS:
            raise InvalidArgument(f"string {entry.get('op') or ''} is not a valid operator for seccomp")
        if not 0 <= self.index <= 5:
            raise InvalidArgument(f"seccomp: syscalls only have up to 6 arguments ({self.index} given)")
        if not 0 <= self.value < 1 << 64:
            raise InvalidArgument(f"seccomp: {self.value} is not a number of 64 bits")
        if self.operator == "MASKED_EQ":  # value is the mask, valueTwo what the masked argument must be
            self.mask, self.value = self.value, int(entry.get("valueTwo") or 0)
            self.operator = "EQ"

    def narrowed(self) -> Condition:
        """The same on the low half. A value the half cannot hold stays wide: then nothing equal can come."""
        copy = Condition.__new__(Condition)
        copy.index, copy.operator, copy.value, copy.mask = self.index, self.operator, self.value, self.mask
        copy.narrow = self.value < 1 << 32
        return copy


def compile_cached(profile: dict[str, Any]) -> tuple[bytes, int]:
    """`compile_profile`, remembered: most containers have the same few profiles."""
    global _latest
    if _latest[0] is profile:
        return _latest[1]
    key = marshal.dumps(profile, 2)
    found = _compiled.get(key)
    if found is None:
        if len(_compiled) >= _CACHE:
            _compiled.pop(next(iter(_compiled)))
        found = _compiled[key] = compile_profile(profile)
    _latest = profile, found
    return found


def compile_profile(profile: dict[str, Any], machine: str = MACHINE) -> tuple[bytes, int]:
    """linux.seccomp -> (struct sock_filter[] as bytes, flags for `install`). `machine` as uname tells it.

    Raises InvalidArgument, Unsupported (an action or architecture that is not done here).
    """
    default = _action(profile.get("defaultAction"), profile.get("defaultErrnoRet"))
    flags = _flags(profile)
    wanted = profile.get("architectures") or [NATIVE[machine]]
    for name in wanted:
        if name not in ARCHITECTURES and name not in _FOREIGN:
            raise InvalidArgument(f"string {name} is not a valid arch for seccomp")
    rules = _parse_rules(profile.get("syscalls") or (), default)
    sections = {name: _section(name, rules, default) for name in wanted if name in ARCHITECTURES}
    code = _dispatch(sections)
    if len(code) > _LIMIT:
        raise InvalidArgument(f"seccomp profile too large: {len(code)} instructions")
    return b"".join([struct.pack("=HBBI", *instruction) for instruction in code]), flags


def _flags(profile: dict[str, Any]) -> int:
    """The flags for seccomp(2): those of the profile, and a listener when it names an agent for one.

    A profile that says nothing of flags gets SPEC_ALLOW, as runc's do: a filter is no reason to slow a program down by
    the mitigations of speculative store bypass. One with an empty list gets none.
    Before it has a listener the filter's own process must say so, by write(2): that must not wait for the listener.
    """
    words = profile.get("flags")
    flags = _SPEC_ALLOW if words is None else 0
    for word in words or ():
        if word not in FLAGS:
            raise Unsupported(f"seccomp flag {word} is not supported")
        flags |= FLAGS[word]
    if profile.get("defaultAction") == "SCMP_ACT_NOTIFY":
        raise InvalidArgument("seccomp: SCMP_ACT_NOTIFY cannot be the default action")
    notifying = [entry for entry in profile.get("syscalls") or () if entry.get("action") == "SCMP_ACT_NOTIFY"]
    if any("write" in (entry.get("names") or ()) for entry in notifying):
        raise InvalidArgument("seccomp: SCMP_ACT_NOTIFY cannot be used for the write syscall")
    if notifying and not profile.get("listenerPath"):
        raise InvalidArgument("seccomp: SCMP_ACT_NOTIFY needs listenerPath")
    if profile.get("listenerMetadata") and not profile.get("listenerPath"):
        raise InvalidArgument("seccomp: listenerMetadata needs listenerPath")
    if profile.get("listenerPath"):  # also when nothing notifies: an agent that was named waits to be told
        flags |= NEW_LISTENER
    return flags


# architectures a profile may name and no process of our machines can have
_FOREIGN = frozenset(f"SCMP_ARCH_{name}" for name in (
    "MIPS", "MIPS64", "MIPS64N32", "MIPSEL", "MIPSEL64", "MIPSEL64N32", "PPC", "PPC64", "PPC64LE", "S390", "S390X",
    "PARISC", "PARISC64", "RISCV64", "LOONGARCH64", "M68K", "SH", "SHEB",
))


def _action(name: object, errno: object) -> int:
    if name not in ACTIONS:
        raise InvalidArgument(f"string {name or ''} is not a valid action for seccomp")
    value = ACTIONS[str(name)]
    if errno is not None and value not in (RET_ERRNO, RET_TRACE):
        raise InvalidArgument(f"invalid seccomp errnoRet: {name} takes none")
    if value in (RET_ERRNO, RET_TRACE):
        number = _EPERM if errno is None else errno
        if not isinstance(number, int) or not 0 <= number <= 0xFFFF:
            raise InvalidArgument(f"invalid seccomp errnoRet: {errno!r}")
        value |= number
    return value


def _parse_rules(entries: Any, default: int) -> dict[str, list[Rule]]:
    """The rules by system call, in the profile's order. A rule that repeats the default says nothing."""
    found: dict[str, list[Rule]] = {}
    for entry in entries:
        value = _action(entry.get("action"), entry.get("errnoRet"))
        conditions = [Condition(argument) for argument in entry.get("args") or ()]
        indexes = [condition.index for condition in conditions]
        # several conditions on one argument are alternatives, as libseccomp's callers have always treated them
        chains = [conditions] if len(set(indexes)) == len(indexes) else [[one] for one in conditions]
        for name in entry.get("names") or ():
            if not name:
                raise InvalidArgument("seccomp: empty string is not a valid syscall")
            rules = found.setdefault(name, [])
            if value != default:
                rules.extend((value, chain) for chain in chains)
    return found


def _section(architecture: str, rules: dict[str, list[Rule]], default: int) -> list[Instruction]:
    """The code for one architecture, entered with the system call's number in the accumulator."""
    table = numbers(architecture)
    leaves: list[Range] = []
    last = -1
    for name, chain in rules.items():
        number = table.get(name)
        if number is None:
            continue
        last = max(last, number)
        code = _leaf(name, chain, default)
        if code != [(_RET, 0, 0, default)]:
            leaves.append((number, code))
    leaves.sort(key=lambda leaf: leaf[0])
    unknown = default if default in (RET_ALLOW, RET_LOG) or last < 0 else RET_ERRNO | _ENOSYS
    return _tree(_ranges(leaves, default, last, unknown))


def _ranges(leaves: list[Range], default: int, last: int, unknown: int) -> list[Range]:
    """(first number, code) of each run of numbers with the same outcome, from 0 up."""
    otherwise: list[Instruction] = [(_RET, 0, 0, default)]
    found: list[Range] = []

    def add(start: int, code: list[Instruction]) -> None:
        if not found or found[-1][1] != code:
            found.append((start, code))

    at = 0
    for number, code in leaves:
        if number > at:
            add(at, otherwise)
        add(number, code)
        at = number + 1
    if at <= last:
        add(at, otherwise)
    add(last + 1, [(_RET, 0, 0, unknown)])
    return found


def _tree(ranges: list[Range]) -> list[Instruction]:
    """Binary search. Outcomes that are one return are shared and stand at the end, as far as a jump reaches (255)."""
    code = _search(ranges)
    values = sorted({target.value for one in code for target in one[1:3] if isinstance(target, _Return)})
    places = {value: len(code) + index for index, value in enumerate(values)}

    def skip(at: int, target: int | _Return) -> int:
        return places[target.value] - at - 1 if isinstance(target, _Return) else target

    found = [(op, skip(at, yes), skip(at, no), value) for at, (op, yes, no, value) in enumerate(code)]
    if all(yes < 256 and no < 256 for _, yes, no, _ in found):
        return [*found, *((_RET, 0, 0, value) for value in values)]
    middle = len(ranges) // 2
    below, above = _tree(ranges[:middle]), _tree(ranges[middle:])
    return [(_JGE, 0, 1, ranges[middle][0]), (_JA, 0, 0, len(below)), *below, *above]


class _Return:
    """As the target of a jump: a return of this value, wherever it stands."""

    __slots__ = ("value",)

    def __init__(self, value: int) -> None:
        self.value = value


def _search(ranges: list[Range]) -> list[tuple[int, int | _Return, int | _Return, int]]:
    """The search; an outcome of several instructions stands where the search ends."""
    if len(ranges) == 1:
        return list(ranges[0][1])
    middle = len(ranges) // 2
    below, above = ranges[:middle], ranges[middle:]
    shared_below, shared_above = _shared(below), _shared(above)
    code_below = [] if shared_below else _search(below)
    code_above = [] if shared_above else _search(above)
    return [(_JGE, shared_above or len(code_below), shared_below or 0, above[0][0]), *code_below, *code_above]


def _shared(ranges: list[Range]) -> _Return | None:
    if len(ranges) == 1 and len(ranges[0][1]) == 1:
        return _Return(ranges[0][1][0][3])
    return None


def _leaf(name: str, chain: list[Rule], default: int) -> list[Instruction]:
    """The rules of one system call: the first that holds decides; those with conditions come before the one without."""
    code: list[Instruction] = []
    narrow = INT_ARGUMENTS.get(name, ())
    final = default
    for value, conditions in chain:
        if not conditions:
            final = value
            break
    for value, conditions in chain:
        if conditions:
            chosen = [one.narrowed() if one.index in narrow else one for one in conditions]
            code += _conditions(chosen, value)
    return [*code, (_RET, 0, 0, final)]


def _conditions(conditions: list[Condition], value: int) -> list[Instruction]:
    """Code that returns `value` when all conditions hold, and else runs on past its end."""
    code: list[Instruction] = [(_RET, 0, 0, value)]
    for condition in reversed(conditions):
        code = _compare(condition, len(code)) + code
    return code


def _compare(condition: Condition, skip: int) -> list[Instruction]:
    """Code that runs on when the condition holds, and else jumps over the `skip` instructions behind it."""
    if skip > 240:
        raise InvalidArgument("seccomp rule with too many conditions")
    low = _half(condition, _LOW)
    low_value = condition.value & 0xFFFFFFFF
    if condition.narrow:
        return [*low, *_compare_last(condition.operator, low_value, skip)]
    high = _half(condition, _HIGH)
    high_value = condition.value >> 32
    tail = [*low, *_compare_last(condition.operator, low_value, skip)]
    past = len(tail)
    operator = condition.operator
    if operator == "EQ":
        return [*high, (_JEQ, 0, past + skip, high_value), *tail]
    if operator == "NE":
        return [*high, (_JEQ, 0, past, high_value), *tail]
    if operator in ("GT", "GE"):  # decided by the high half unless it is equal
        return [*high, (_JGT, past + 1, 0, high_value), (_JEQ, 0, past + skip, high_value), *tail]
    return [*high, (_JGT, past + 1 + skip, 0, high_value), (_JEQ, 0, past, high_value), *tail]


def _half(condition: Condition, half: int) -> list[Instruction]:
    code: list[Instruction] = [(_LD, 0, 0, _OFFSET_ARGUMENTS + 8 * condition.index + half)]
    mask = condition.mask >> (32 if half == _HIGH else 0) & 0xFFFFFFFF
    if mask != 0xFFFFFFFF:
        code.append((_AND, 0, 0, mask))
    return code


def _compare_last(operator: str, value: int, skip: int) -> list[Instruction]:
    code, holds = {
        "EQ": (_JEQ, True), "NE": (_JEQ, False), "GT": (_JGT, True), "GE": (_JGE, True), "LE": (_JGT, False),
        "LT": (_JGE, False),
    }[operator]
    return [(code, 0, skip, value) if holds else (code, skip, 0, value)]


def _dispatch(sections: dict[str, list[Instruction]]) -> list[Instruction]:
    """The architecture first. x32 has x86_64's token and a bit in the number."""
    x32 = sections.pop("SCMP_ARCH_X32", None)
    code: list[Instruction] = [(_LD, 0, 0, _OFFSET_ARCH)]
    for name, section in sections.items():
        block: list[Instruction] = [(_LD, 0, 0, _OFFSET_NUMBER)]
        if name == "SCMP_ARCH_X86_64":
            other = x32 if x32 is not None else [(_RET, 0, 0, RET_KILL_PROCESS)]
            block += [(_JGE, 1, 0, X32_BIT), (_JA, 0, 0, len(other)), *other]
        block += section
        code += [(_JEQ, 1, 0, ARCHITECTURES[name]), (_JA, 0, 0, len(block)), *block]
    return [*code, (_RET, 0, 0, RET_KILL_PROCESS)]


def install(program: bytes, flags: int = 0) -> int:
    """Put this thread under a filter for good; returns the listener's descriptor when `flags` ask for one.

    Takes CAP_SYS_ADMIN or no_new_privs. seccomp(2). Raises OSError.
    """
    buffer = foreign.create_string_buffer(program, len(program))
    head = struct.pack("HxxxxxxQ", len(program) // 8, foreign.addressof(buffer))
    return syscall("seccomp", _SET_MODE_FILTER, flags, head)


def lets_through(program: bytes, calls: dict[str, tuple[int, ...]]) -> bool:
    """Whether a filter allows all these system calls of this machine's, given by name with their first arguments."""
    architecture = NATIVE[MACHINE]
    table, code = numbers(architecture), list(struct.iter_unpack("=HBBI", program))
    return all(
        _value(code, struct.pack("=IIQ6Q", table[name], ARCHITECTURES[architecture], 0, *(*arguments, *[0] * 6)[:6]))
        in (RET_ALLOW, RET_LOG) for name, arguments in calls.items() if name in table
    )


def _value(code: list[Any], data: bytes) -> int:
    """What the filter returns for a `struct seccomp_data`: the instructions that `compile_profile` writes, run here."""
    at = accumulator = 0
    while True:
        operation, yes, no, value = code[at]
        at += 1
        if operation == _RET:
            return int(value)
        if operation == _LD:
            accumulator = struct.unpack_from("=I", data, value)[0]
        elif operation == _AND:
            accumulator &= value
        elif operation == _JA:
            at += value
        else:
            holds = {_JEQ: accumulator == value, _JGT: accumulator > value, _JGE: accumulator >= value}[operation]
            at += yes if holds else no
