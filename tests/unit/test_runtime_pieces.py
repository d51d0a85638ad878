"""The runtime's pure parts: mount options, bundles, messages, errors, capabilities, command-line options."""

import errno
import json
import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from corten.base.errors import InvalidArgument, NotFound
from corten.base.ids import check_id
from corten.linux import capabilities, mount, rlimit, schedule
from corten.runtime import net_devices, sync
from corten.runtime.bundle import load_bundle
from corten.runtime.errors import EXECUTE, LOOK_UP, StepFailed, from_exception
from corten.runtime.mount_options import Mount, label_mounts, parse_mounts, parse_propagation
from corten.runtime.options import FLAG, MANY, TEXT, parse
from corten.runtime.plan import check_sysctl


def test_mount_options_become_attributes():
    entry = Mount({"destination": "/x", "type": "tmpfs", "options": ["nosuid", "ro", "rw", "size=1m", "rslave", "huge"]})
    assert entry.set_bits == mount.MOUNT_ATTR_NOSUID
    assert entry.clear_bits & mount.MOUNT_ATTR_RDONLY
    assert entry.data == [("size", "1m"), ("huge", None)]
    assert entry.propagation == [(mount.MS_SLAVE, True)]


def test_recursive_read_only_is_not_plain_read_only():
    entry = Mount({"destination": "/x", "source": "/y", "options": ["rbind", "rro"]})
    assert entry.bind and entry.recursive and not entry.read_only
    assert entry.recursive_set == mount.MOUNT_ATTR_RDONLY


ONE = [{"containerID": 0, "hostID": 1, "size": 1}]


@pytest.mark.parametrize("entry", [
    {"destination": "/x", "options": ["idmap"]},
    {"destination": "/x", "options": ["bind"], "uidMappings": ONE},
    {"destination": "/x", "uidMappings": ONE, "gidMappings": ONE},
    {"destination": "/x", "options": ["bind"], "uidMappings": [{"containerID": 0, "hostID": -1, "size": 1}],
     "gidMappings": ONE},
])
def test_id_mapped_mounts_need_both_maps_and_a_source(entry):
    with pytest.raises(InvalidArgument):
        Mount(entry)


def test_a_relative_source_is_below_the_bundle():
    assert parse_mounts([{"destination": "/x", "source": "a/../b", "options": ["bind"]}], "/bundle")[0].source == (
        "/bundle/b")


@pytest.mark.parametrize(("entry", "text"), [
    ({"deadline": 20, "period": 20}, "requires `runtime`"),
    ({"runtime": 2000}, "requires `deadline`"),
    ({"runtime": 0, "deadline": 20}, "greater than 0"),
    ({"runtime": 3000, "deadline": 2000}, "must be <= deadline"),
    ({"runtime": 2000, "deadline": 3000, "period": 2500}, "must be <= period"),
    ({"runtime": 1000, "deadline": 3000}, "must be between"),
])
def test_deadlines_that_the_kernel_would_refuse(entry, text):
    with pytest.raises(InvalidArgument, match=text):
        schedule.parse_scheduler({"policy": "SCHED_DEADLINE", **entry})


@pytest.mark.parametrize(("entry", "numbers"), [
    ({"policy": "SCHED_FIFO", "priority": 5, "flags": ["SCHED_FLAG_RESET_ON_FORK"]}, (1, 1, 0, 5, 0, 0, 0)),
    ({"policy": "SCHED_BATCH", "nice": -7}, (3, 0, -7, 0, 0, 0, 0)),
    ({"policy": "SCHED_DEADLINE", "runtime": 2000, "deadline": 3000, "period": 4000}, (6, 0, 0, 0, 2000, 3000, 4000)),
])
def test_a_scheduler_becomes_the_kernels_structure(entry, numbers):
    """struct sched_attr of linux/sched/types.h: policy, flags, nice, priority, runtime, deadline, period."""
    assert schedule.parse_scheduler(entry) == struct.pack("=IIQiIQQQ", 48, *numbers)


@pytest.mark.parametrize("entry", [{}, {"mode": "BAD"}, {"mode": "MPOL_BIND", "flags": ["x"]},
                                   {"mode": "MPOL_BIND", "nodes": "x"}, {"mode": "MPOL_BIND", "nodes": "10284838"}])
def test_memory_policies_that_make_no_sense(entry):
    with pytest.raises(InvalidArgument):
        schedule.parse_memory_policy(entry)


def test_memory_policies():
    assert schedule.parse_memory_policy(None) is None
    assert schedule.parse_memory_policy({"mode": "MPOL_BIND", "nodes": "0-1,3", "flags": ["MPOL_F_STATIC_NODES"]}) == (
        2 | 1 << 15, 0b1011)


@pytest.mark.parametrize("entries", [
    {"eth0": {"name": "a/b"}}, {"eth0": {"name": "sixteen-chars-xx"}}, {"..": {}}, {"a b": {}},
    {"eth0": {"name": "x"}, "eth1": {"name": "x"}},
])
def test_network_devices_of_bad_names(entries):
    with pytest.raises(InvalidArgument):
        net_devices.parse(entries, {"net"})


def test_network_devices_need_a_network_of_their_own():
    assert net_devices.parse({"eth0": None, "eth1": {"name": "x"}}, {"net"}) == [("eth0", "eth0"), ("eth1", "x")]
    with pytest.raises(InvalidArgument, match="private NET"):
        net_devices.parse({"eth0": {}}, set())


def test_propagation_words():
    assert parse_propagation(None) == (mount.MS_SLAVE, True)
    assert parse_propagation("shared") == (mount.MS_SHARED, False)
    with pytest.raises(InvalidArgument):
        parse_propagation("everywhere")


@pytest.mark.parametrize("bad", ["", ".", "..", "a/b", "a b", "x" * 1025, "é"])
def test_ids_that_would_be_paths_are_refused(bad):
    with pytest.raises(InvalidArgument):
        check_id(bad)


@pytest.mark.parametrize("change", [
    {"ociVersion": "2.0.0"}, {"ociVersion": None}, {"root": None}, {"root": {}}, {"mounts": {}}, {"linux": []},
])
def test_bundles_that_cannot_be_are_refused(tmp_path, change):
    spec = {"ociVersion": "1.0.2", "root": {"path": "rootfs"}, "process": {"args": ["x"], "cwd": "/"}, **change}
    (tmp_path / "config.json").write_text(json.dumps(spec))
    with pytest.raises(InvalidArgument):
        load_bundle("x", str(tmp_path))


def test_missing_bundle(tmp_path):
    with pytest.raises(NotFound, match=r"config\.json not found"):
        load_bundle("x", str(tmp_path))


def test_overlay_comes_from_rootfs_json_only(tmp_path):
    spec = {"ociVersion": "1.2.0", "root": {"path": "rootfs"}, "annotations": {"lower": "/etc"}}
    (tmp_path / "config.json").write_text(json.dumps(spec))
    assert load_bundle("x", str(tmp_path)).overlay is None
    (tmp_path / "rootfs.json").write_text(json.dumps({"lower": ["/a"], "upper": "/b", "work": "/c", "init": True}))
    bundle = load_bundle("x", str(tmp_path))
    assert bundle.overlay == {"lower": ["/a"], "upper": "/b", "work": "/c", "init": True}
    assert bundle.init and bundle.rootfs == f"{tmp_path}/rootfs"


@given(st.text(max_size=40), st.text(max_size=40), st.integers(0, 200), st.text(max_size=40), st.text(max_size=40))
def test_failures_cross_the_channel(step, syscall, number, path, detail):
    fields = [text.replace("\0", "?").encode("utf-8", "replace").decode() for text in (step, syscall, path, detail)]
    failure = StepFailed(fields[0], fields[1], number, fields[2], fields[3])
    back = sync.unpack_failure(sync.pack_failure(failure))
    assert (back.step, back.syscall, back.errno, back.path, back.detail) == (
        failure.step, failure.syscall, failure.errno, failure.path, failure.detail)


def test_an_oserror_becomes_a_line_with_step_call_and_path():
    failure = from_exception("mount", OSError(errno.ENOENT, "open_tree: No such file or directory", "/src"))
    assert str(failure) == "mount: open_tree /src: no such file or directory"


@pytest.mark.parametrize(("step", "number", "code"), [
    (LOOK_UP, errno.ENOENT, 127), (LOOK_UP, errno.EISDIR, 126), (EXECUTE, errno.EACCES, 126),
    (EXECUTE, errno.ENOEXEC, 126), (EXECUTE, errno.ENOENT, 127), ("mount", errno.ENOENT, 125),
])
def test_exit_codes(step, number, code):
    assert StepFailed(step, "", number).exit_code == code


def test_capability_masks():
    assert capabilities.names(capabilities.mask(["CAP_CHOWN", "CAP_NEWER", "CAP_BPF"])) == ["CAP_CHOWN", "CAP_BPF"]


@pytest.mark.parametrize(("name", "kinds", "fine"), [
    ("net.ipv4.ip_forward", {"net"}, True), ("net.ipv4.ip_forward", set(), False), ("kernel.shmmax", {"ipc"}, True),
    ("kernel.panic", {"ipc", "net"}, False), ("net/../kernel/panic", {"net"}, False), ("kernel.domainname", {"uts"}, True),
])
def test_only_sysctls_of_own_namespaces(name, kinds, fine):
    if fine:
        check_sysctl(name, kinds)
    else:
        with pytest.raises(InvalidArgument):
            check_sysctl(name, kinds)


def test_options_as_go_reads_them():
    table = {"--bundle": ("bundle", TEXT), "-b": ("bundle", TEXT), "--env": ("env", MANY), "--tty": ("tty", FLAG)}
    assert parse(["-b", "x", "id", "--env=A=1", "-env", "B", "--tty"], table) == (
        {"bundle": "x", "env": ["A=1", "B"], "tty": True}, ["id"])
    assert parse(["id", "--tty"], table, interspersed=False) == ({}, ["id", "--tty"])
    with pytest.raises(InvalidArgument, match="not defined: --nope"):
        parse(["--nope"], table)


@pytest.mark.parametrize("text", ["1-0", "a", "1_0", "-1", "99999"])
def test_bad_cpu_lists(text):
    with pytest.raises(InvalidArgument):
        schedule.parse_list(text)


def test_cpu_lists():
    assert schedule.parse_list("0-2,5") == {0, 1, 2, 5}


def test_rlimits():
    assert rlimit.parse([{"type": "RLIMIT_NOFILE", "soft": 5, "hard": (1 << 64) - 1}]) == [(7, 5, -1)]
    with pytest.raises(InvalidArgument):
        rlimit.parse([{"type": "RLIMIT_SILLY"}])


def test_a_mount_label_goes_to_new_file_systems_alone():
    mounts = parse_mounts([
        {"destination": "/a", "type": "tmpfs"}, {"destination": "/b", "type": "bind", "source": "/"},
        {"destination": "/c", "type": "proc"}, {"destination": "/d", "type": "tmpfs", "options": ["context=own"]}])
    label_mounts(mounts, "label")
    assert [one.data for one in mounts] == [[("context", "label")], [], [], [("context", "own")]]
