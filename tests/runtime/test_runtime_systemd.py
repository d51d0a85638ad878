"""corten-oci --systemd-cgroup: the scope that systemd makes, what it says of it, what the cgroup says, what is left."""

import json
import os
import signal
import subprocess
import sys
import time

import pytest

from corten.linux import cgroup, process

pytestmark = pytest.mark.timeout(600)  # a machine that runs systemd may be an emulated one


def show(unit, *names):
    """A unit's properties as systemd tells them."""
    found = subprocess.run(["systemctl", "show", unit, *(f"--property={name}" for name in names)], stdin=subprocess.DEVNULL,
                           capture_output=True, text=True, check=True, timeout=300).stdout
    return dict(line.split("=", 1) for line in found.splitlines())


def eventually(condition):
    deadline = time.monotonic() + 120
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.05)


class Systemd:
    def __init__(self, boxes):
        self.boxes = boxes
        self.name = boxes.name
        self.unit = f"box-{self.name}.scope"
        self.path = ""

    def __call__(self, *arguments):
        command = [sys.executable, "-m", "corten.runtime.cli", "--root", f"{self.boxes.folder}/root", "--systemd-cgroup",
                   *arguments]
        with open(f"{self.boxes.folder}/out", "w+") as out, open(f"{self.boxes.folder}/err", "w+") as err:
            done = subprocess.run(command, stdin=subprocess.DEVNULL, stdout=out, stderr=err, timeout=300, check=False)
            out.seek(0)
            err.seek(0)
            return done.returncode, out.read(), err.read()

    def bundle(self, path, *arguments, resources=None, annotations=None):
        spec = self.boxes.spec(*arguments)
        spec["linux"].update(cgroupsPath=path, resources=resources or {})
        spec["annotations"] = annotations or {}
        return self.boxes.bundle(spec, plain=True).path

    def limit(self, v1, v2):
        """The words of a file of its cgroup: `controller/file` on v1, the file on v2."""
        if cgroup.hierarchies().v1:
            controller, name = v1.split("/")
            return cgroup.read_words(f"{cgroup.folder(self.path, controller)}/{name}")
        return cgroup.read_words(f"{cgroup.hierarchies().unified}{self.path}/{v2}")


@pytest.fixture
def systemd(boxes):
    if not os.path.isdir("/run/systemd/system"):
        pytest.skip("machine: no systemd runs here")
    found = Systemd(boxes)
    os.mkdir(f"{boxes.folder}/root")
    yield found
    found("delete", "--force", found.name)


def test_a_life_in_a_scope(systemd):
    slice = f"corten{os.getpid()}-inner.slice"
    outer = f"corten{os.getpid()}.slice"
    systemd.path = f"/{outer}/{slice}/{systemd.unit}"
    resources = {"memory": {"limit": 64 << 20, "reservation": 32 << 20}, "pids": {"limit": 50},
                 "cpu": {"shares": 512, "quota": 50000, "period": 100000}}
    path = systemd.bundle(f"{slice}:box:{systemd.name}", "sleep", "1000", resources=resources, annotations={
        "org.systemd.property.TimeoutStopSec": "7", "org.systemd.property.CollectMode": "'inactive-or-failed'"})
    assert systemd("create", "--bundle", path, systemd.name) == (0, "", "")
    pid = json.loads(systemd("state", systemd.name)[1])["pid"]
    with open(f"/proc/{pid}/cgroup") as file:
        groups = [line.rstrip("\n").split(":", 2)[2] for line in file]
    assert set(groups) == {systemd.path}
    found = show(systemd.unit, "ActiveState", "Slice", "ControlGroup", "Delegate", "TasksMax", "CPUQuotaPerSecUSec",
                 "TimeoutStopUSec", "CollectMode", "Description", "DevicePolicy", "Transient", "MemoryAccounting")
    assert found == {
        "ActiveState": "active", "Slice": slice, "ControlGroup": systemd.path, "Delegate": "yes", "TasksMax": "50",
        "CPUQuotaPerSecUSec": "500ms", "TimeoutStopUSec": "7s", "CollectMode": "inactive-or-failed",
        "Description": f"corten container {systemd.name}", "DevicePolicy": "strict", "Transient": "yes",
        "MemoryAccounting": "yes"}
    assert systemd.limit("memory/memory.limit_in_bytes", "memory.max") == [str(64 << 20)]
    assert systemd.limit("pids/pids.max", "pids.max") == ["50"]
    assert systemd("start", systemd.name) == (0, "", "")
    assert systemd("exec", systemd.name, "sh", "-c", "echo x >/dev/null && cat /proc/self/cgroup")[1].endswith(":/\n")

    assert systemd("update", "--memory", "48M", "--pids-limit", "40", "--cpu-quota", "25000", systemd.name) == (0, "", "")
    assert systemd.limit("memory/memory.limit_in_bytes", "memory.max") == [str(48 << 20)]
    assert show(systemd.unit, "TasksMax", "CPUQuotaPerSecUSec") == {"TasksMax": "40", "CPUQuotaPerSecUSec": "250ms"}
    if not cgroup.hierarchies().v1:
        assert show(systemd.unit, "MemoryMax", "MemoryLow", "CPUWeight") == {
            "MemoryMax": str(48 << 20), "MemoryLow": str(32 << 20), "CPUWeight": "59"}
        assert systemd.limit("", "cpu.max") == ["25000", "100000"] and systemd.limit("", "cpu.weight") == ["59"]

    subprocess.run(["systemctl", "daemon-reload"], check=True, timeout=300)  # it writes all that it knows once more
    assert systemd.limit("pids/pids.max", "pids.max") == ["40"]
    assert systemd("exec", systemd.name, "sh", "-c", "echo x >/dev/null")[0] == 0

    assert systemd("kill", systemd.name, "KILL") == (0, "", "")
    eventually(lambda: process.state(pid) in "ZX")
    assert systemd("delete", systemd.name) == (0, "", "")
    assert not cgroup.exists(systemd.path) and show(systemd.unit, "LoadState")["LoadState"] == "not-found"
    subprocess.run(["systemctl", "stop", slice, outer], check=True, timeout=300)


def test_what_ends_by_itself_leaves_no_unit(systemd):
    path = systemd.bundle("", "cat", "/proc/1/cgroup")
    assert systemd("run", "--bundle", path, systemd.name) == (0, "0::/\n" if not cgroup.hierarchies().v1 else "", "")
    unit = f"corten-{systemd.name}.scope"
    assert show(unit, "LoadState")["LoadState"] == "not-found" and not cgroup.exists(f"/system.slice/{unit}")


def test_a_start_that_fails_leaves_no_unit(systemd):
    path = systemd.bundle(f":box:{systemd.name}", "absent")
    code, _, text = systemd("run", "--bundle", path, systemd.name)
    assert code != 0 and "absent" in text
    assert show(systemd.unit, "LoadState")["LoadState"] == "not-found"


def test_what_systemd_refuses_is_told(systemd):
    path = systemd.bundle(f":box:{systemd.name}", "true", annotations={"org.systemd.property.NoSuch": "true"})
    code, _, text = systemd("run", "--bundle", path, systemd.name)
    assert code == 1 and "unable to start unit" in text and "NoSuch" in text


def test_a_path_that_is_none_of_systemds(systemd):
    code, _, error = systemd("create", "--bundle", systemd.bundle("/plain/path", "true"), systemd.name)
    assert code == 1 and "slice:prefix:name" in error
    assert not os.listdir(f"{systemd.boxes.folder}/root")


def test_a_scope_of_another_is_left_alone(systemd):
    other = subprocess.Popen(["systemd-run", "--scope", "--quiet", f"--unit={systemd.unit}", "sleep", "1000"],
                             stdin=subprocess.DEVNULL)
    try:
        eventually(lambda: show(systemd.unit, "ActiveState")["ActiveState"] == "active")
        code, _, text = systemd("run", "--bundle", systemd.bundle(f":box:{systemd.name}", "true"), systemd.name)
        assert code == 1 and "not empty" in text
        assert other.poll() is None and show(systemd.unit, "ActiveState")["ActiveState"] == "active"
    finally:
        other.send_signal(signal.SIGKILL)
        other.wait()
