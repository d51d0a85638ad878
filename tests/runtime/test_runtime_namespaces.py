"""Namespaces that are joined or left as they are: each kind, checked, and what a container then shares."""

import os
import subprocess
import sys

import pytest

from corten.base.errors import InvalidArgument
from corten.linux import namespaces
from corten.runtime import create
from corten.runtime.errors import StepFailed

KINDS = {"pid": "pid", "network": "net", "ipc": "ipc", "uts": "uts", "cgroup": "cgroup", "time": "time", "user": "user",
         "mount": "mnt"}


@pytest.fixture
def holder():
    """A process in new namespaces of all kinds, as somebody else's that may be joined."""
    yield from hold(list(namespaces.FLAGS))


@pytest.fixture
def hosts():
    """A process in new namespaces that belong to the host's users."""
    yield from hold(["net", "uts", "ipc", "time"])


def hold(names):
    script = (
        "import os, sys; from corten.linux import namespaces as n\n"
        f"for name in {names!r}: n.unshare(n.FLAGS[name])\n"
        "print('made', flush=True); sys.stdin.readline()\n"
        "child = os.fork()\n"
        "if child == 0: sys.stdin.read(); os._exit(0)\n"
        "print(child, flush=True); os.wait()\n"
    )
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    process = subprocess.Popen([sys.executable, "-c", script], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
                               env=environment)
    assert process.stdout.readline() == "made\n"
    for name in ("uid", "gid") if "user" in names else ():
        with open(f"/proc/{process.pid}/{name}_map", "w") as file:
            file.write("0 0 65536\n")
    process.stdin.write("go\n")
    process.stdin.flush()
    yield int(process.stdout.readline())
    process.stdin.close()
    process.wait()
    process.stdout.close()


def joining(kinds, pid):
    def change(spec):
        kept = [one for one in spec["linux"]["namespaces"] if one["type"] not in kinds]
        spec["linux"]["namespaces"] = kept + [
            {"type": kind, "path": f"/proc/{pid}/ns/{KINDS[kind]}"} for kind in kinds]
        if "mount" in kinds:
            spec["linux"]["maskedPaths"] = spec["linux"]["readonlyPaths"] = []
    return change


@pytest.mark.parametrize("kind", [*(kind for kind in KINDS if kind not in ("user", "mount")), "user"])
def test_a_namespace_is_joined_by_path(holder, boxes, kind):
    spec = boxes.spec("sleep", "100")
    spec.pop("hostname")
    joining([kind], holder)(spec)
    os.chmod(boxes.folder, 0o755)
    child, bundle = boxes.start(spec, plain=True)
    assert child.failure is None, child.failure
    name = KINDS[kind]
    assert os.readlink(f"/proc/{child.pid}/ns/{name}") == os.readlink(f"/proc/{holder}/ns/{name}")
    found = boxes.exec(child, bundle, "readlink", f"/proc/self/ns/{name}")
    assert found.output.strip() == os.readlink(f"/proc/{holder}/ns/{name}")


def test_all_but_the_mounts_are_joined_at_once(holder, boxes):
    spec = boxes.spec("sleep", "100")
    spec.pop("hostname")
    joining(["user", "network", "ipc", "uts", "cgroup"], holder)(spec)
    os.chmod(boxes.folder, 0o755)
    child, bundle = boxes.start(spec, plain=True)
    assert child.failure is None, child.failure
    for name in ("user", "net", "ipc", "uts", "cgroup"):
        assert os.readlink(f"/proc/{child.pid}/ns/{name}") == os.readlink(f"/proc/{holder}/ns/{name}")
    assert boxes.exec(child, bundle, "id", "-u").output == "0\n"


def test_namespaces_that_the_joined_user_does_not_own(holder, hosts, boxes):
    spec = boxes.spec("sleep", "100")
    spec.pop("hostname")
    joining(["user"], holder)(spec)
    joining(["network", "uts", "ipc", "time"], hosts)(spec)
    spec["mounts"] = [one for one in spec["mounts"] if one["type"] not in ("sysfs", "mqueue")]
    os.chmod(boxes.folder, 0o755)
    child, bundle = boxes.start(spec, plain=True)
    assert child.failure is None, child.failure
    assert os.readlink(f"/proc/{child.pid}/ns/user") == os.readlink(f"/proc/{holder}/ns/user")
    for name in ("net", "uts", "ipc", "time"):
        assert os.readlink(f"/proc/{child.pid}/ns/{name}") == os.readlink(f"/proc/{hosts}/ns/{name}")
    assert boxes.exec(child, bundle, "id", "-u").output == "0\n"


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind != "time"])
def test_a_path_of_another_kind_is_refused(boxes, kind):
    def change(spec):
        kept = [one for one in spec["linux"]["namespaces"] if one["type"] != kind]
        spec["linux"]["namespaces"] = [*kept, {"type": kind, "path": "/proc/self/ns/time"}]
        spec["linux"]["maskedPaths"] = spec["linux"]["readonlyPaths"] = []
        spec.pop("hostname")

    try:
        result = boxes.run("true", change=change, plain=True)
    except (OSError, StepFailed) as error:
        result = type("Refused", (), {"failure": error})
    assert result.failure is not None
    assert os.readlink("/proc/self/ns/pid") == os.readlink("/proc/self/ns/pid_for_children")


MOUNTS_OF_OUR_OWN = """
from runtime_box import Boxes
from corten.linux import mount, namespaces
namespaces.unshare(namespaces.CLONE_NEWNS)
mount.set_propagation("/", mount.MS_PRIVATE, True)
boxes = Boxes()
try:
    spec = boxes.spec("sleep", "100")
    spec["linux"].update(namespaces=[], maskedPaths=[], readonlyPaths=[])
    spec.pop("hostname")
    before = open("/proc/self/mountinfo").read()
    child, bundle = boxes.start(spec, plain=True)
    assert child.failure is None, child.failure
    import os
    for name in ("mnt", "pid", "net", "ipc", "uts", "cgroup", "user"):
        assert os.readlink(f"/proc/{child.pid}/ns/{name}") == os.readlink(f"/proc/self/ns/{name}"), name
    assert bundle.rootfs in open("/proc/self/mountinfo").read()
    assert boxes.exec(child, bundle, "ls", "/").output.split()[:2] == ["bin", "dev"]
    os.kill(child.pid, 9)
finally:
    boxes.close()
assert open("/proc/self/mountinfo").read() == before
print("fine")
"""


def test_a_container_without_namespaces_leaves_no_mounts():
    if os.geteuid() != 0 or not os.path.exists("/bin/busybox"):
        pytest.skip("machine: needs root and a static busybox")
    folder = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join((folder, *sys.path))}
    found = subprocess.run([sys.executable, "-c", MOUNTS_OF_OUR_OWN], capture_output=True, text=True, env=environment,
                           check=False)
    assert found.stdout == "fine\n", found.stderr


def test_a_mount_namespace_is_joined(holder, boxes):
    spec = boxes.spec("sleep", "100")
    joining(["mount"], holder)(spec)
    child, bundle = boxes.start(spec, plain=True)
    assert child.failure is None, child.failure
    assert os.readlink(f"/proc/{child.pid}/ns/mnt") == os.readlink(f"/proc/{holder}/ns/mnt")
    assert boxes.exec(child, bundle, "ls", "/").output.split()[:2] == ["bin", "dev"]


def test_masks_need_mounts_of_its_own(boxes):
    spec = boxes.spec("true")
    spec["linux"]["namespaces"] = [one for one in spec["linux"]["namespaces"] if one["type"] != "mount"]
    with pytest.raises(InvalidArgument, match="private MNT namespace"):
        create.spawn(boxes.bundle(spec, plain=True), (0, 1, 2))


def test_time_offsets(boxes):
    def change(spec):
        spec["linux"]["namespaces"].append({"type": "time"})
        spec["linux"]["timeOffsets"] = {
            "boottime": {"secs": 1000000000, "nanosecs": 7}, "monotonic": {"secs": 5, "nanosecs": 6}}

    result = boxes.run("cat", "/proc/self/timens_offsets", "/proc/uptime", change=change)
    assert result.output.split()[:6] == ["monotonic", "5", "6", "boottime", "1000000000", "7"]
    assert float(result.output.split()[6]) > 1000000000
    assert namespaces.open_own and os.readlink("/proc/self/ns/time") == os.readlink("/proc/self/ns/time_for_children")


def test_something_mounted_on_the_root_is_the_root(boxes):
    other = f"{boxes.folder}/other"
    subprocess.run(["cp", "-a", boxes.lower, other], check=True)
    open(f"{other}/other-root", "w").close()

    def change(spec):
        spec["mounts"].insert(0, {"destination": "/", "type": "bind", "source": other, "options": ["bind"]})

    assert "other-root" in boxes.run("ls", "/", change=change).output.split()


def test_the_loopback_of_a_new_network_is_up(boxes):
    found = boxes.run("cat", "/proc/net/if_inet6", "/proc/net/fib_trie")
    assert found.failure is None and "127.0.0.1" in found.output
