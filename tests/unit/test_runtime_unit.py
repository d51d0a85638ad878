"""What systemd is told of a container: names, places, properties."""

import pytest

from corten.base.errors import InvalidArgument
from corten.linux.cgroup_devices import with_defaults
from corten.runtime import unit


def test_where_a_unit_lies():
    assert unit.locate("", "c") == ("corten-c.scope", "/system.slice/corten-c.scope")
    assert unit.locate(None, "c") == unit.locate("", "c")
    assert unit.locate(":docker:1", "c") == ("docker-1.scope", "/system.slice/docker-1.scope")
    assert unit.locate("-.slice:p:n", "c") == ("p-n.scope", "/p-n.scope")
    assert unit.locate("a-b-c.slice:p:n", "c")[1] == "/a.slice/a-b.slice/a-b-c.slice/p-n.scope"


@pytest.mark.parametrize(("path", "slice"), [("/p-n.scope", "-.slice"), ("/a.slice/a-b.slice/p-n.scope", "a-b.slice")])
def test_the_slice_of_a_path(path, slice):
    assert unit.slice_of(path) == slice


@pytest.mark.parametrize("path", ["a", "/a/b", "a.slice:b", "a:b:c:d", "x:p:n", "a--b.slice:p:n", "-a.slice:p:n",
                                  ".slice:p:n", "a/b.slice:p:n", "a.slice:p:../x", "a.slice:p:x.slice", f":p:{'n' * 250}"])
def test_a_path_that_is_none(path):
    with pytest.raises(InvalidArgument):
        unit.locate(path, "c")


def test_limits_on_the_unified_tree():
    found = unit.limits({
        "memory": {"limit": 4096, "swap": 8192, "reservation": 1024}, "pids": {"limit": 0},
        "cpu": {"shares": 1024, "quota": 12345, "period": 100000, "cpus": "0-2,9", "mems": "0"},
        "unified": {"memory.high": "max", "pids.max": "7"},
    }, v1=False)
    assert found == {
        "MemoryMax": ("t", 4096), "MemorySwapMax": ("t", 4096), "MemoryLow": ("t", 1024), "TasksMax": ("t", 7),
        "CPUWeight": ("t", 100), "CPUQuotaPeriodUSec": ("t", 100000), "CPUQuotaPerSecUSec": ("t", 130000),
        "AllowedCPUs": ("ay", b"\x07\x02"), "AllowedMemoryNodes": ("ay", b"\x01"), "MemoryHigh": ("t", unit.INFINITY)}
    assert unit.limits({"cpu": {"quota": -1}, "memory": {"limit": -1}}, v1=False) == {
        "CPUQuotaPeriodUSec": ("t", 100000), "CPUQuotaPerSecUSec": ("t", unit.INFINITY),
        "MemoryMax": ("t", unit.INFINITY), "MemorySwapMax": ("t", unit.INFINITY)}


def test_limits_on_v1():
    found = unit.limits({"memory": {"limit": 4096}, "cpu": {"shares": 2, "quota": 50000, "cpus": "0"},
                         "blockIO": {"weight": 20}, "pids": {"limit": -1}}, v1=True)
    assert found == {"MemoryLimit": ("t", 4096), "CPUShares": ("t", 2), "CPUQuotaPerSecUSec": ("t", 500000),
                     "BlockIOWeight": ("t", 20), "TasksMax": ("t", unit.INFINITY)}


@pytest.mark.parametrize("text", ["", "x", "1-", "99999999", "2-1"])
def test_no_mask(text):
    with pytest.raises(InvalidArgument):
        unit.mask(text)


def test_devices():
    known = unit.drivers("Character devices:\n  1 mem\n136 pts\n\nBlock devices:\n  8 sd\n")
    assert known == {("char", 1): "mem", ("char", 136): "pts", ("block", 8): "sd"}
    found = unit.devices(with_defaults([{"allow": True, "type": "b", "major": 8, "access": "r"}]), known, v1=False)
    assert found["DevicePolicy"] == ("s", "strict")
    allowed = found["DeviceAllow"][1]
    assert {("block-sd", "r"), ("char-*", "m"), ("/dev/char/1:3", "rwm"), ("char-pts", "rwm")} <= set(allowed)


def test_devices_that_systemd_cannot_say():
    known = {("char", 136): "pts"}
    nameless = with_defaults([{"allow": True, "type": "c", "major": 9, "access": "r"}])
    assert unit.devices(nameless, known, v1=False) == {}
    assert ("char-pts", "rwm") in unit.devices(nameless, known, v1=True)["DeviceAllow"][1]
    assert unit.devices(with_defaults([{"allow": True, "type": "a", "access": "rwm"}]), known, v1=True) == {}
    assert unit.devices(with_defaults([{"allow": False, "type": "c", "major": 1, "minor": 3}]), known, v1=True) == {}


def test_annotations():
    given = {"TimeoutStopSec": "7", "TimeoutStartSec": "0.5", "CollectMode": "'inactive-or-failed'", "After": "['a.service', \"b\"]",
             "Weight": "uint64 5", "Flag": "true", "Empty": "@as []", "Many": "[uint32 1, 2]", "Quoted": r"'it\'s'"}
    found = unit.annotated({f"org.systemd.property.{name}": text for name, text in given.items()} | {"other": "("})
    assert found == {
        "TimeoutStopUSec": ("t", 7_000_000), "TimeoutStartUSec": ("t", 500_000), "CollectMode": ("s", "inactive-or-failed"),
        "After": ("as", ["a.service", "b"]), "Weight": ("t", 5), "Flag": ("b", True), "Empty": ("as", []),
        "Many": ("au", [1, 2]), "Quoted": ("s", "it's")}


@pytest.mark.parametrize(("name", "text"), [
    ("ab", "1"), ("Some1", "1"), ("Name", ""), ("Name", "'open"), ("Name", "[1, 'a']"), ("Name", "[1"), ("Name", "byte 300"),
    ("Name", "1 2"), ("Name", "word"), ("Name", "uint32 'x'"), ("Name", "@z 1"), ("NameSec", "'x'"), ("Name", "'a\\"),
    ("Name", "@ 1"), ("NameSec", "-1")])
def test_annotations_that_are_none(name, text):
    with pytest.raises(InvalidArgument):
        unit.annotated({f"org.systemd.property.{name}": text})
