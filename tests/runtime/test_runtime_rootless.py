"""corten-oci as a user without privileges: a namespace of his own, the host's devices, no cgroups he may not make."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import corten

USER = 65534
PYTHON = "/usr/bin/python3"
COMMAND = ("import sys; sys.path.insert(0, sys.argv.pop(1)); from corten.runtime.cli import main; main()")
SUB_IDS = """
import os, subprocess, sys
from corten.linux import mount, namespaces
namespaces.unshare(namespaces.CLONE_NEWNS)
mount.set_propagation("/", mount.MS_PRIVATE, True)
for name in ("subuid", "subgid"):
    own = f"{sys.argv[1]}/{name}"
    with open(own, "w") as file:
        file.write("65534:200000:65536\\n")
    target = os.open(f"/etc/{name}", os.O_RDONLY | os.O_CREAT, 0o644)
    mount.attach(mount.copy_tree(own, recursive=False), target)
done = subprocess.run(sys.argv[2:], user=65534, group=65534, extra_groups=[])
sys.exit(done.returncode)
"""


class Rootless:
    def __init__(self, boxes):
        if not os.path.exists(PYTHON):
            pytest.skip(f"machine: no {PYTHON} that every user may run")
        self.boxes = boxes
        self.folder = f"{boxes.folder}/rootless"
        self.sub_ids = False
        os.chmod(boxes.folder, 0o755)
        os.makedirs(f"{self.folder}/bundle")
        subprocess.run(["cp", "-a", boxes.lower, f"{self.folder}/bundle/rootfs"], check=True)
        source = Path(corten.__path__[0])  # a clone may lie where the user cannot look
        for name in ("base", "linux", "oci", "runtime"):
            shutil.copytree(source / name, f"{self.folder}/source/corten/{name}")
        shutil.copy(source / "__init__.py", f"{self.folder}/source/corten")
        subprocess.run(["chown", "-R", f"{USER}:{USER}", self.folder], check=True)
        assert self("spec", "--rootless")[0] == 0

    def __call__(self, *arguments):
        command = [PYTHON, "-IS", "-c", COMMAND, f"{self.folder}/source", "--root", f"{self.folder}/state", *arguments]
        who = {"user": USER, "group": USER, "extra_groups": []}
        if self.sub_ids:
            command, who = [sys.executable, "-c", SUB_IDS, self.boxes.folder, *command], {}
        environment = {"PATH": "/usr/bin:/bin", "PYTHONPATH": os.pathsep.join(sys.path)}
        with open(f"{self.boxes.folder}/out", "w+") as out, open(f"{self.boxes.folder}/err", "w+") as err:
            done = subprocess.run(command, cwd=f"{self.folder}/bundle", stdin=subprocess.DEVNULL, stdout=out, stderr=err,
                                  env=environment, timeout=60, check=False, **who)
            out.seek(0)
            err.seek(0)
            return done.returncode, out.read(), err.read()

    def change(self, change):
        path = f"{self.folder}/bundle/config.json"
        with open(path) as file:
            spec = json.load(file)
        spec["process"]["terminal"] = False
        change(spec)
        with open(path, "w") as file:
            json.dump(spec, file)

    def run(self, *words, change=None):
        def both(spec):
            spec["process"]["args"] = list(words)
            if change:
                change(spec)

        self.change(both)
        return self("run", "box")


@pytest.fixture
def rootless(boxes):
    with open("/proc/sys/user/max_user_namespaces") as file:
        if file.read() == "0\n":
            pytest.skip("machine: users may make no user namespaces")
    found = Rootless(boxes)
    yield found
    found("delete", "--force", "box")


def test_a_user_is_root_inside(rootless):
    code, output, error = rootless.run("sh", "-c", "id -u; cat /proc/self/uid_map /proc/self/setgroups; hostname")
    assert (code, error) == (0, "")
    assert output.split() == ["0", "0", str(USER), "1", "deny", "corten"]


def test_devices_are_the_hosts(rootless):
    code, output, error = rootless.run("sh", "-c", "echo x > /dev/null; head -c 2 /dev/zero | wc -c; grep null /proc/mounts")
    assert (code, error) == (0, "")
    assert output.startswith("2\n") and "nosuid,noexec" in output


def test_a_life_with_an_exec(rootless):
    rootless.change(lambda spec: spec["process"].update(args=["sleep", "100"]))
    assert rootless("run", "-d", "box") == (0, "", "")
    assert json.loads(rootless("state", "box")[1])["status"] == "running"
    assert rootless("exec", "box", "sh", "-c", "id -u; readlink /proc/1/exe")[1] == "0\n/bin/busybox\n"
    assert rootless("kill", "box", "KILL")[0] == 0
    assert rootless("delete", "--force", "box")[0] == 0


def test_groups_that_are_not_mapped(rootless):
    code, _, error = rootless.run("true", change=lambda spec: spec["process"]["user"].update(additionalGids=[5]))
    assert code == 1 and "become the user" in error


def test_limits_that_he_may_not_set(rootless):
    code, _, error = rootless.run("true", change=lambda spec: spec["linux"].update(
        resources={"pids": {"limit": 5}}))
    assert code == 1 and "no permission is granted for cgroups" in error


def test_a_range_of_ids_by_newuidmap(rootless):
    if not os.path.exists("/usr/bin/newuidmap"):
        pytest.skip("machine: no newuidmap")
    rootless.sub_ids = True
    ids = [{"containerID": 0, "hostID": USER, "size": 1}, {"containerID": 1, "hostID": 200000, "size": 65536}]

    def change(spec):
        spec["linux"]["uidMappings"] = spec["linux"]["gidMappings"] = ids
        spec["process"]["user"] = {"uid": 5, "gid": 6, "additionalGids": [7]}

    code, output, error = rootless.run("sh", "-c", "grep -E '^(Uid|Gid|Groups)' /proc/self/status; cat /proc/self/uid_map",
                                       change=change)
    assert (code, error) == (0, "")
    assert [line.split() for line in output.splitlines()] == [
        ["Uid:", *"5555"], ["Gid:", *"6666"], ["Groups:", "7"], ["0", str(USER), "1"], ["1", "200000", "65536"]]


def test_a_range_that_is_not_his(rootless):
    ids = [{"containerID": 0, "hostID": 1000, "size": 2}]
    code, _, error = rootless.run("true", change=lambda spec: spec["linux"].update(uidMappings=ids, gidMappings=ids))
    assert code == 1 and "newuidmap" in error
