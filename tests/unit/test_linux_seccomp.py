"""The seccomp compiler against a BPF interpreter: by the meaning of the rules, and by libseccomp on the default profile."""

import ctypes
import ctypes.util
import json
import os
import struct
import tempfile
from importlib import resources

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from corten.base.errors import InvalidArgument, Unsupported
from corten.linux import seccomp
from corten.linux.seccomp_tables import ARCHITECTURES, INT_ARGUMENTS, X32_BIT, numbers

X86_64, X86, X32 = "SCMP_ARCH_X86_64", "SCMP_ARCH_X86", "SCMP_ARCH_X32"
ALLOW, KILL = seccomp.RET_ALLOW, seccomp.RET_KILL_PROCESS
ENOSYS, EPERM = seccomp.RET_ERRNO | 38, seccomp.RET_ERRNO | 1
AF_VSOCK = 40


def interpret(program: bytes, arch: int, number: int, arguments: tuple[int, ...] = ()) -> int:
    """Run classic BPF as the kernel would on this system call; returns the filter's value."""
    args = [value & (1 << 64) - 1 for value in (*arguments, 0, 0, 0, 0, 0, 0)[:6]]
    data = struct.pack("=IIQ6Q", number & 0xFFFFFFFF, arch, 0, *args)
    code = list(struct.iter_unpack("=HBBI", program))
    at = a = 0
    while True:
        op, jt, jf, k = code[at]
        at += 1
        if op == 0x20:
            a = struct.unpack_from("=I", data, k)[0]
        elif op == 0x06:
            return k
        elif op == 0x05:
            at += k
        elif op == 0x54:
            a &= k
        else:
            holds = {0x15: a == k, 0x25: a > k, 0x35: a >= k, 0x45: bool(a & k)}[op]
            at += jt if holds else jf


def ask(profile: dict, name: str, *arguments: int, arch: str = X86_64) -> int:
    program, _ = seccomp.compile_profile(profile, "x86_64")
    return interpret(program, ARCHITECTURES[arch], numbers(arch)[name], arguments)


def default_profile() -> dict:
    """The default profile for a container without capabilities on amd64, by its own conditions."""
    found = json.loads(resources.files("corten.oci").joinpath("seccomp_default.json").read_text())
    rules = []
    for rule in found["syscalls"]:
        includes, excludes = rule.get("includes") or {}, rule.get("excludes") or {}
        if includes.get("caps") or ("arches" in includes and "amd64" not in includes["arches"]):
            continue
        if "amd64" in excludes.get("arches", ()):
            continue
        rules.append({key: rule[key] for key in ("names", "action", "args", "errnoRet") if key in rule})
    return {"defaultAction": found["defaultAction"], "defaultErrnoRet": 1, "architectures": [X86_64, X86, X32],
            "syscalls": rules}


def test_allows_what_is_listed_and_refuses_the_rest():
    profile = default_profile()
    assert ask(profile, "read") == ALLOW
    assert ask(profile, "mount") == EPERM
    assert ask(profile, "clone3") == ENOSYS
    assert ask(profile, "keyctl") == EPERM


@pytest.mark.parametrize("arch", [X86_64, X86, X32])
def test_vsock_is_refused_with_any_upper_half(arch):
    profile = default_profile()
    upper = [0] if arch == X86 else [0, 1 << 32, 0xFFFFFFFF << 32, 1 << 63]
    for high in upper:
        assert ask(profile, "socket", high | AF_VSOCK, 1, 0, arch=arch) == EPERM
        assert ask(profile, "socket", high | 2, 1, 0, arch=arch) == ALLOW
        assert ask(profile, "socket", high | 39, 1, 0, arch=arch) == ALLOW
        assert ask(profile, "socket", high | 38, 1, 0, arch=arch) == EPERM


def test_clone_with_a_namespace_flag_is_refused():
    profile = default_profile()
    assert ask(profile, "clone", 0x01200011) == ALLOW
    for flag in (0x20000, 0x10000000, 0x40000000, 0x02000000):
        assert ask(profile, "clone", flag | 17) == EPERM
        assert ask(profile, "clone", 1 << 40 | flag | 17) == EPERM


def test_x32_and_i386_have_their_own_numbers():
    profile = default_profile()
    assert ask(profile, "read", arch=X32) == ALLOW
    assert ask(profile, "mount", arch=X32) == EPERM
    assert ask(profile, "mount", arch=X86) == EPERM
    native, _ = seccomp.compile_profile({**profile, "architectures": [X86_64]}, "x86_64")
    token = ARCHITECTURES[X86_64]
    assert interpret(native, token, X32_BIT) == KILL
    assert interpret(native, ARCHITECTURES[X86], 3) == KILL
    assert interpret(native, 0xDEAD, 0) == KILL


def test_numbers_newer_than_the_profile_are_enosys():
    program, _ = seccomp.compile_profile(default_profile(), "x86_64")
    token = ARCHITECTURES[X86_64]
    assert interpret(program, token, 999) == ENOSYS
    assert interpret(program, token, 0xFFFFFFFF & -1) in (ENOSYS, KILL)
    allowing, _ = seccomp.compile_profile({"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [
        {"names": ["mount"], "action": "SCMP_ACT_ERRNO", "errnoRet": 5}]}, "x86_64")
    assert interpret(allowing, token, 999) == ALLOW
    assert interpret(allowing, token, numbers(X86_64)["mount"]) == seccomp.RET_ERRNO | 5


def test_what_is_not_done_is_said():
    with pytest.raises(Unsupported, match="SECCOMP_FILTER_FLAG_NEW"):
        seccomp.compile_profile({"defaultAction": "SCMP_ACT_ALLOW", "flags": ["SECCOMP_FILTER_FLAG_NEW"]})


def notifying(*names, **more):
    return {"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [{"names": list(names), "action": "SCMP_ACT_NOTIFY"}], **more}


@pytest.mark.parametrize("profile", [
    {"defaultAction": "SCMP_ACT_NOTIFY", "listenerPath": "/x"},
    notifying("mkdir"),
    notifying("write", listenerPath="/x"),
    {"defaultAction": "SCMP_ACT_ALLOW", "listenerMetadata": "text"},
])
def test_notifications_that_could_never_be_answered(profile):
    with pytest.raises(InvalidArgument):
        seccomp.compile_profile(profile)


def test_notifications_ask_for_a_listener():
    program, flags = seccomp.compile_profile(notifying("mkdir", listenerPath="/x", flags=[]), "x86_64")
    assert flags == seccomp.NEW_LISTENER
    assert interpret(program, ARCHITECTURES[X86_64], numbers(X86_64)["mkdir"]) == seccomp.RET_USER_NOTIF


@pytest.mark.parametrize(("words", "flags"), [
    (None, 4), ([], 0), (["TSYNC"], 0), (["LOG"], 2), (["SPEC_ALLOW"], 4), (["WAIT_KILLABLE_RECV"], 32),
    (["TSYNC", "LOG", "SPEC_ALLOW", "WAIT_KILLABLE_RECV"], 2 | 4 | 32),
])
def test_the_flags_of_a_profile(words, flags):
    profile = {"defaultAction": "SCMP_ACT_ALLOW"}
    if words is not None:
        profile["flags"] = [f"SECCOMP_FILTER_FLAG_{word}" for word in words]
    assert seccomp.compile_profile(profile)[1] == flags


@pytest.mark.parametrize("action", sorted(seccomp.ACTIONS))
def test_every_action_returns_its_value(action):
    profile = {"defaultAction": "SCMP_ACT_ERRNO", "syscalls": [{"names": ["mkdir"], "action": action}],
               "listenerPath": "/x"}
    bits = 1 if action in ("SCMP_ACT_ERRNO", "SCMP_ACT_TRACE") else 0
    assert ask(profile, "mkdir") == seccomp.ACTIONS[action] | bits


@pytest.mark.parametrize("profile", [
    {"defaultAction": "SCMP_ACT_PERHAPS"},
    {"defaultAction": "SCMP_ACT_ERRNO", "defaultErrnoRet": 1 << 20},
    {"defaultAction": "SCMP_ACT_ALLOW", "defaultErrnoRet": 1},
    {"defaultAction": "SCMP_ACT_ALLOW", "architectures": ["SCMP_ARCH_Z80"]},
    {"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [
        {"names": ["read"], "action": "SCMP_ACT_LOG", "args": [{"index": 6, "value": 0, "op": "SCMP_CMP_EQ"}]}]},
])
def test_bad_profiles_are_refused(profile):
    with pytest.raises(InvalidArgument):
        seccomp.compile_profile(profile)


def test_compiling_is_remembered():
    profile = default_profile()
    assert seccomp.compile_cached(profile) is seccomp.compile_cached(json.loads(json.dumps(profile)))


# --- the meaning of the rules, said again in Python

NAMES = ["read", "write", "socket", "ioctl", "personality", "mmap", "process_vm_readv", "clone", "statx"]
VALUES = st.one_of(st.integers(0, 50), st.sampled_from([
    (1 << 31) - 1, 1 << 31, (1 << 32) - 1, 1 << 32, (1 << 32) + 40, (1 << 63), (1 << 64) - 1]))
ARGUMENT = st.fixed_dictionaries({
    "index": st.integers(0, 5), "value": VALUES, "valueTwo": VALUES,
    "op": st.sampled_from(["SCMP_CMP_NE", "SCMP_CMP_LT", "SCMP_CMP_LE", "SCMP_CMP_EQ", "SCMP_CMP_GE", "SCMP_CMP_GT",
                           "SCMP_CMP_MASKED_EQ"]),
})
RULE = st.fixed_dictionaries({
    "names": st.lists(st.sampled_from(NAMES), min_size=1, max_size=3, unique=True),
    "action": st.sampled_from(["SCMP_ACT_ALLOW", "SCMP_ACT_LOG", "SCMP_ACT_TRAP", "SCMP_ACT_KILL_PROCESS"]),
    "args": st.lists(ARGUMENT, max_size=3),
})


def holds(condition: dict, name: str, arguments: list[int]) -> bool:
    given_value, value, op = arguments[condition["index"]], condition["value"], condition["op"]
    mask = (1 << 64) - 1
    if op == "SCMP_CMP_MASKED_EQ":
        mask, value, op = value, condition["valueTwo"], "SCMP_CMP_EQ"
    if condition["index"] in INT_ARGUMENTS.get(name, ()) and value < 1 << 32:
        given_value &= 0xFFFFFFFF
        mask &= 0xFFFFFFFF
    given_value &= mask
    return {"NE": given_value != value, "LT": given_value < value, "LE": given_value <= value,
            "EQ": given_value == value, "GE": given_value >= value, "GT": given_value > value}[op[9:]]


def meaning(profile: dict, name: str, arguments: list[int]) -> int:
    values = {"SCMP_ACT_ALLOW": ALLOW, "SCMP_ACT_LOG": seccomp.RET_LOG, "SCMP_ACT_TRAP": seccomp.RET_TRAP,
              "SCMP_ACT_KILL_PROCESS": KILL}
    rules = [rule for rule in profile["syscalls"] if name in rule["names"]]
    for rule in rules:
        indexes = [one["index"] for one in rule["args"]]
        every = all if len(set(indexes)) == len(indexes) else any
        if rule["args"] and every(holds(one, name, arguments) for one in rule["args"]):
            return values[rule["action"]]
    for rule in rules:
        if not rule["args"]:
            return values[rule["action"]]
    return EPERM


@settings(max_examples=120, deadline=None)
@given(rules=st.lists(RULE, max_size=6), name=st.sampled_from(NAMES), arguments=st.lists(VALUES, min_size=6, max_size=6))
def test_compiled_code_means_the_rules(rules, name, arguments):
    profile = {"defaultAction": "SCMP_ACT_ERRNO", "architectures": [X86_64, X32],
               "syscalls": [*rules, {"names": ["statx"], "action": "SCMP_ACT_ERRNO"}]}
    program, _ = seccomp.compile_profile(profile, "x86_64")
    for arch in (X86_64, X32):
        table = numbers(arch)
        known = [table[one] for rule in profile["syscalls"] for one in rule["names"]]
        if table[name] <= max(known):
            got = interpret(program, ARCHITECTURES[arch], table[name], tuple(arguments))
            assert got == meaning({"syscalls": rules}, name, arguments)


@pytest.mark.parametrize(("argument", "second", "value"), [(0x123, 0x23, 7), (0x120, 0x23, 1), (0x100, 0x23, 1), (0xF03, 3, 7)])
def test_a_masked_argument_is_compared_with_the_second_value(argument, second, value):
    condition = {"index": 0, "value": 0xFF, "valueTwo": second, "op": "SCMP_CMP_MASKED_EQ"}
    profile = {"defaultAction": "SCMP_ACT_ERRNO", "syscalls": [
        {"names": ["close"], "action": "SCMP_ACT_ERRNO", "errnoRet": 7, "args": [condition]}]}
    program, _ = seccomp.compile_profile(profile, "x86_64")
    found = interpret(program, ARCHITECTURES[X86_64], numbers(X86_64)["close"], (argument, 0, 0, 0, 0, 0))
    assert found == seccomp.RET_ERRNO | value


@pytest.mark.parametrize(("rule", "text"), [
    ({"names": ["close"]}, "string  is not a valid action for seccomp"),
    ({"names": ["close"], "action": "SCMP_ACT_X"}, "string SCMP_ACT_X is not a valid action for seccomp"),
    ({"names": [""], "action": "SCMP_ACT_ALLOW"}, "empty string is not a valid syscall"),
    ({"names": ["close"], "action": "SCMP_ACT_ALLOW", "args": [{"index": 0, "value": 1}]}, "string  is not a valid operator"),
    ({"names": ["close"], "action": "SCMP_ACT_ALLOW", "args": [{"index": 6, "value": 1, "op": "SCMP_CMP_EQ"}]},
     "syscalls only have up to 6 arguments"),
])
def test_rules_that_say_nothing(rule, text):
    with pytest.raises(InvalidArgument, match=text):
        seccomp.compile_profile({"defaultAction": "SCMP_ACT_ERRNO", "syscalls": [rule]}, "x86_64")


# --- libseccomp says the same of the default profile

LIBSECCOMP = ctypes.util.find_library("seccomp")


class Argument(ctypes.Structure):
    _fields_ = [("index", ctypes.c_uint), ("op", ctypes.c_int), ("a", ctypes.c_uint64), ("b", ctypes.c_uint64)]


def reference_program(profile: dict) -> bytes:
    lib = ctypes.CDLL(LIBSECCOMP)
    lib.seccomp_init.restype = ctypes.c_void_p
    lib.seccomp_init.argtypes = [ctypes.c_uint32]
    lib.seccomp_arch_add.argtypes = [ctypes.c_void_p, ctypes.c_uint32]
    lib.seccomp_rule_add_array.argtypes = [
        ctypes.c_void_p, ctypes.c_uint32, ctypes.c_int, ctypes.c_uint, ctypes.POINTER(Argument)]
    lib.seccomp_export_bpf.argtypes = [ctypes.c_void_p, ctypes.c_int]
    operators = ["NE", "LT", "LE", "EQ", "GE", "GT", "MASKED_EQ"]
    context = lib.seccomp_init(EPERM)
    for token in (0x40000003, 0x4000003E):
        lib.seccomp_arch_add(context, token)
    for rule in profile["syscalls"]:
        value = seccomp._action(rule["action"], rule.get("errnoRet"))
        array = (Argument * 6)(*[
            Argument(one["index"], operators.index(one["op"][9:]) + 1, one["value"], one.get("valueTwo", 0))
            for one in rule.get("args", ())])
        for name in rule["names"]:
            number = lib.seccomp_syscall_resolve_name(name.encode())
            if number != -1:
                lib.seccomp_rule_add_array(context, value, number, len(rule.get("args", ())), array)
    with tempfile.TemporaryFile() as file:
        assert lib.seccomp_export_bpf(context, file.fileno()) == 0
        file.seek(0)
        return file.read()


@pytest.mark.skipif(LIBSECCOMP is None or os.uname().machine != "x86_64", reason="needs libseccomp on x86_64")
def test_default_profile_rule_by_rule_as_libseccomp():
    profile = default_profile()
    lib = ctypes.CDLL(LIBSECCOMP)
    ours, _ = seccomp.compile_profile(profile, "x86_64")
    reference = reference_program(profile)
    arguments = [(), (2,), (39,), (AF_VSOCK,), (41,), (8,), (0xFFFFFFFF,), (0x20000,), (0x01200011,), (0, 0x7E020000)]
    compared = 0
    for arch, token in ((X86_64, 0xC000003E), (X86, 0x40000003), (X32, 0x4000003E)):
        for name, number in numbers(arch).items():
            known = lib.seccomp_syscall_resolve_name_arch(ctypes.c_uint32(token), name.encode())
            if known & 0xFFFFFFFF != number:
                continue  # newer than this libseccomp
            for chosen in arguments:
                got = interpret(ours, ARCHITECTURES[arch], number, chosen)
                expected = interpret(reference, ARCHITECTURES[arch], number, chosen)
                if got == ENOSYS and expected == EPERM:
                    assert name not in {one for rule in profile["syscalls"] for one in rule["names"]}
                    continue
                assert got == expected, (arch, name, chosen)
                compared += 1
    assert compared > 9000
