"""linux.resources as files of control groups, v1 and v2; device rules as eBPF."""

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from corten.base.errors import InvalidArgument, Unsupported
from corten.linux import cgroup_devices
from corten.linux.cgroup_hierarchies import Hierarchies
from corten.linux.cgroup_limits import blkio_to_io_weight, shares_to_weight, swap_to_v2, v1_settings, v2_settings

MIB = 1 << 20


def as_dict(settings):
    return {name: value for _, name, value in settings}


def test_v1_writes_memory_before_memory_and_swap():
    names = [name for _, name, _ in v1_settings({"memory": {"limit": 64 * MIB, "swap": 128 * MIB}})]
    assert names == ["memory.limit_in_bytes", "memory.memsw.limit_in_bytes"]


def test_v2_counts_swap_alone():
    assert as_dict(v2_settings({"memory": {"limit": 64 * MIB, "swap": 96 * MIB}})) == {
        "memory.swap.max": str(32 * MIB), "memory.max": str(64 * MIB)}
    assert swap_to_v2(-1, 64 * MIB) == "max"
    assert swap_to_v2(64 * MIB, 64 * MIB) == "0"


@pytest.mark.parametrize("settings", [v1_settings, v2_settings])
def test_swap_below_memory_is_refused(settings):
    with pytest.raises(InvalidArgument, match="memory\\+swap limit must be"):
        settings({"memory": {"limit": 64 * MIB, "swap": 32 * MIB}})


def test_cpu():
    assert as_dict(v1_settings({"cpu": {"quota": 50000, "period": 100000, "shares": 512, "cpus": "0"}})) == {
        "cpu.shares": "512", "cpu.cfs_period_us": "100000", "cpu.cfs_quota_us": "50000", "cpuset.cpus": "0"}
    assert as_dict(v2_settings({"cpu": {"quota": 50000, "shares": 1024}})) == {
        "cpu.weight": "100", "cpu.max": "50000 100000"}
    assert as_dict(v2_settings({"cpu": {"quota": -1, "period": 50000}})) == {"cpu.max": "max 50000"}


@pytest.mark.parametrize(("shares", "weight"), [(2, 1), (1024, 100), (262144, 10000)])
def test_shares_meet_the_agreed_points(shares, weight):
    assert shares_to_weight(shares) == weight


@given(st.integers(2, 262144), st.integers(2, 262144))
def test_weights_keep_the_order_of_shares(one, other):
    first, second = sorted((one, other))
    assert 1 <= shares_to_weight(first) <= shares_to_weight(second) <= 10000


def test_io_weight_ends():
    assert (blkio_to_io_weight(10), blkio_to_io_weight(1000)) == (1, 10000)


def test_pids():
    assert as_dict(v1_settings({"pids": {"limit": 7}})) == {"pids.max": "7"}
    assert as_dict(v2_settings({"pids": {"limit": -1}})) == {"pids.max": "max"}
    assert as_dict(v1_settings({"pids": {"limit": 0}})) == {"pids.max": "1"}


@pytest.mark.parametrize("resources", [
    {"memory": {"swappiness": 10}}, {"memory": {"disableOOMKiller": True}}, {"cpu": {"realtimeRuntime": 5}},
    {"network": {"classID": 4}},
])
def test_what_only_v1_can_do_is_said_on_v2(resources):
    with pytest.raises(Unsupported):
        v2_settings(resources)


def test_unified_values_win_and_stay_in_their_folder():
    assert v2_settings({"unified": {"memory.high": "5"}}) == [("memory", "memory.high", "5")]
    for name in ("../memory.high", "cgroup.procs"):
        with pytest.raises(InvalidArgument):
            v2_settings({"unified": {name: "1"}})


def test_hybrid_machine_is_recognised():
    found = Hierarchies(
        "31 23 0:28 / /sys/fs/cgroup rw - tmpfs tmpfs rw\n"
        "32 31 0:29 / /sys/fs/cgroup/cpu,cpuacct rw - cgroup cgroup rw,cpu,cpuacct\n"
        "40 31 0:37 / /sys/fs/cgroup/systemd rw - cgroup cgroup rw,xattr,name=systemd\n"
        "41 31 0:38 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw\n"
    )
    assert found.v1 == {
        "cpu": "/sys/fs/cgroup/cpu,cpuacct", "cpuacct": "/sys/fs/cgroup/cpu,cpuacct",
        "name=systemd": "/sys/fs/cgroup/systemd"}
    assert found.unified == "/sys/fs/cgroup/unified"
    assert found.mounts == ["/sys/fs/cgroup/cpu,cpuacct", "/sys/fs/cgroup/systemd"]


# --- the device program, run by a little interpreter

ACCESS = {"m": 1, "r": 2, "w": 4}


def run(program: bytes, kind: str, major: int, minor: int, access: str) -> int:
    code = list(struct.iter_unpack("<BBhi", program))
    asked = sum(ACCESS[letter] for letter in access)
    context = {0: asked << 16 | {"b": 1, "c": 2}[kind], 4: major, 8: minor}
    registers = [0] * 11
    at = 0
    while True:
        op, regs, offset, value = code[at]
        at += 1
        dst, src = regs & 15, regs >> 4
        if op == 0x61:
            registers[dst] = context[offset]
        elif op == 0x54:
            registers[dst] &= value & 0xFFFFFFFF
        elif op == 0x74:
            registers[dst] >>= value
        elif op == 0xB4:
            registers[dst] = value
        elif op == 0xBC:
            registers[dst] = registers[src]
        elif op == 0x95:
            return registers[0]
        else:
            taken = {0x56: registers[dst] != value, 0x5E: registers[dst] != registers[src],
                     0x16: registers[dst] == value}[op]
            at += offset if taken else 0


RULES = [
    {"allow": False, "access": "rwm"},
    {"allow": True, "type": "c", "access": "m"},
    {"allow": True, "type": "c", "major": 1, "minor": 3, "access": "rwm"},
    {"allow": True, "type": "c", "major": 136, "access": "rw"},
    {"allow": False, "type": "c", "major": 136, "minor": 7, "access": "w"},
]


@pytest.mark.parametrize(("node", "allowed"), [
    (("c", 1, 3, "rw"), 1), (("c", 1, 3, "rwm"), 1), (("c", 1, 5, "r"), 0), (("c", 1, 5, "m"), 1),
    (("b", 8, 0, "r"), 0), (("b", 8, 0, "m"), 0), (("c", 136, 2, "rw"), 1), (("c", 136, 7, "rw"), 0),
    (("c", 136, 7, "r"), 1),
])
def test_device_program(node, allowed):
    assert run(cgroup_devices.program(RULES), *node) == allowed


def test_a_letter_of_no_meaning_among_the_access_is_passed_over():
    """Configurations with `rwa` are met with; alone it is no access at all, and refused."""
    program = cgroup_devices.program([*RULES, {"allow": True, "type": "c", "major": 1, "minor": 11, "access": "rwa"}])
    assert [run(program, "c", 1, 11, asked) for asked in ("r", "w", "rw", "rwm")] == [1, 1, 1, 0]
    with pytest.raises(InvalidArgument):
        cgroup_devices.program([{"allow": True, "type": "c", "access": "a"}])


def test_device_program_with_everything_allowed():
    program = cgroup_devices.program([*RULES, {"allow": True, "access": "rwm"}])
    assert run(program, "b", 8, 0, "rwm") == 1
