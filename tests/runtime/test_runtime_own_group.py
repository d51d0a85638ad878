"""corten-oci by a user without privileges who has a cgroup of his own (delegated, v2): limits, exec, what is left."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

GROUPS = "/sys/fs/cgroup"


def own_group():
    """The nearest group above ours that this user may make groups in; "" when there is none."""
    try:
        with open("/proc/self/cgroup") as file:
            path = next((line.strip()[3:] for line in file if line.startswith("0::")), "")
    except OSError:
        return ""
    while path.strip("/"):
        path = os.path.dirname(path)
        if os.access(f"{GROUPS}{path}/cgroup.subtree_control", os.W_OK):
            return path.rstrip("/")
    return ""


class Box:
    def __init__(self, folder):
        self.folder = folder
        self.group = f"{own_group()}/box{os.getpid()}"
        for name in ("bin", "etc", "proc", "sys", "dev", "tmp"):
            os.makedirs(folder / "rootfs" / name)
        shutil.copy("/bin/busybox", folder / "rootfs/bin/busybox")
        for name in ("sh", "cat", "sleep", "id"):
            os.symlink("busybox", folder / "rootfs/bin" / name)
        assert self("spec", "--rootless")[0] == 0
        self.spec = json.loads((folder / "config.json").read_text())
        self.spec["process"]["terminal"] = False
        self.spec["linux"]["cgroupsPath"] = self.group

    def __call__(self, *arguments):
        command = [sys.executable, "-m", "corten.runtime.cli", "--root", f"{self.folder}/state", *arguments]
        with open(self.folder / "out", "w+") as out, open(self.folder / "err", "w+") as err:
            done = subprocess.run(command, cwd=self.folder, stdin=subprocess.DEVNULL, stdout=out, stderr=err, timeout=100,
                                  check=False)
            out.seek(0)
            err.seek(0)
            return done.returncode, out.read(), err.read()

    def write(self, *arguments, **resources):
        self.spec["process"]["args"] = list(arguments)
        self.spec["linux"].setdefault("resources", {}).update(resources)
        (self.folder / "config.json").write_text(json.dumps(self.spec))

    def read(self, name):
        return Path(f"{GROUPS}{self.group}/{name}").read_text().split()


@pytest.fixture
def box(tmp_path):
    if os.geteuid() == 0 or not own_group():
        pytest.skip("machine: we are no user with a control group of his own")
    found = Box(tmp_path)
    yield found
    found("delete", "--force", "box")
    assert not os.path.exists(GROUPS + found.group)


def test_a_life_with_limits(box):
    box.write("sleep", "1000", pids={"limit": 9}, memory={"limit": 64 << 20})
    assert box("create", "box") == (0, "", "")
    pid = json.loads(box("state", "box")[1])["pid"]
    assert box.read("cgroup.procs") == [str(pid)]
    assert (box.read("pids.max"), box.read("memory.max")) == (["9"], [str(64 << 20)])
    assert box("start", "box") == (0, "", "")
    assert box("exec", "box", "sh", "-c", "id -u; cat /proc/self/cgroup") == (0, "0\n0::/\n", "")
    assert box("update", "--pids-limit", "7", "box") == (0, "", "")
    assert box.read("pids.max") == ["7"]
    assert box("pause", "box")[0] == 0 and json.loads(box("state", "box")[1])["status"] == "paused"
    assert box("resume", "box")[0] == 0
    assert box("delete", "--force", "box") == (0, "", "")
    assert not os.path.exists(f"/proc/{pid}") and json.loads(box("list", "--format", "json")[1]) in ([], None)


def test_run_to_the_end(box):
    box.write("sh", "-c", "id -u; cat /proc/self/uid_map; exit 5")
    code, output, error = box("run", "box")
    assert (code, error, output.split()) == (5, "", ["0", "0", str(os.geteuid()), "1"])


def test_systemd_is_not_asked_by_a_user(box):
    box.write("true")
    code, _, error = box("--systemd-cgroup", "run", "box")
    assert code == 1 and "systemd" in error
