"""The ways around calls that Linux 5.10 does not have yet, walked on the kernel that we run on."""

import os
import subprocess
import sys

import pytest

from corten.linux.probe import kernel

SAFE = ["nosuid", "noexec", "nodev"]


@pytest.fixture
def without_mount_setattr():
    kernel.mount_setattr = False
    yield
    kernel.mount_setattr = True


def options_of(text, point):
    """The mount's own options of the topmost mount at a point, from mountinfo."""
    found = [line.split(" ") for line in text.splitlines() if line.split(" ")[4] == point]
    return found[-1][5].split(",") if found else None


def shown(boxes, *options, source=None, change=None):
    """A container with a bind mount at /mnt of a folder that has another file system below it."""
    def both(spec):
        spec["mounts"].append({"destination": "/mnt", "type": "bind", "source": source or boxes.lower,
                               "options": list(options)})
        if change:
            change(spec)

    result = boxes.run("cat", "/proc/self/mountinfo", change=both)
    assert result.failure is None, result.failure
    return result.output


@pytest.mark.usefixtures("without_mount_setattr")
def test_read_only_and_the_rest_of_a_bind_mount(boxes):
    found = options_of(shown(boxes, "bind", "ro", "nosuid", "nodev", "noexec", "noatime"), "/mnt")
    assert found == ["ro", "nosuid", "nodev", "noexec", "noatime"]


@pytest.mark.usefixtures("without_mount_setattr")
def test_what_a_mount_has_stays(boxes):
    found = options_of(shown(boxes, "bind", "strictatime", "nodiratime"), "/mnt")
    assert "nodiratime" in found and "relatime" not in found and "ro" not in found


@pytest.mark.usefixtures("without_mount_setattr")
def test_all_mounts_below_are_changed(boxes):
    text = shown(boxes, "rbind", "rro", "rnosuid", source="/dev")
    assert {"ro", "nosuid"} <= set(options_of(text, "/mnt"))
    below = {line.split(" ")[4] for line in text.splitlines() if line.split(" ")[4].startswith("/mnt/")}
    assert below and all({"ro", "nosuid"} <= set(options_of(text, point)) for point in below)


@pytest.mark.usefixtures("without_mount_setattr")
def test_masks_and_read_only_paths(boxes):
    text = shown(boxes, "bind")
    assert options_of(text, "/proc/sys")[0] == "ro" and options_of(text, "/proc/irq")[0] == "ro"
    assert {"nosuid", "noexec"} <= set(options_of(text, "/proc/keys"))
    assert options_of(text, "/sys/firmware")[0] == "ro"
    assert options_of(text, "/sys/fs/cgroup")[0] == "ro"


@pytest.mark.usefixtures("without_mount_setattr")
def test_a_read_only_root_and_propagation(boxes):
    def change(spec):
        spec["root"]["readonly"] = True
        spec["linux"]["rootfsPropagation"] = "unbindable"

    text = shown(boxes, "bind", "rslave", "rprivate", change=change)
    assert options_of(text, "/")[0] == "ro"
    line = next(line for line in text.splitlines() if line.split(" ")[4] == "/mnt")
    assert "shared:" not in line and "master:" not in line


@pytest.mark.usefixtures("without_mount_setattr")
def test_both_ways_show_the_same(boxes):
    older = shown(boxes, "bind", "ro")
    kernel.mount_setattr = True
    newer = shown(boxes, "bind", "ro")

    def table(text):
        return [(fields[4], fields[5]) for fields in (line.split(" ") for line in text.splitlines())]

    assert table(older) == table(newer)


@pytest.mark.usefixtures("without_mount_setattr")
def test_id_mapped_mounts_say_what_they_need(boxes):
    maps = [{"containerID": 0, "hostID": 1000, "size": 10}]
    mount = {"destination": "/mnt", "type": "bind", "source": boxes.lower, "options": ["bind", "idmap"],
             "uidMappings": maps, "gidMappings": maps}
    result = boxes.run("true", change=lambda spec: spec["mounts"].append(mount))
    assert "mount_setattr" in str(result.failure) and "function not implemented" in str(result.failure)


def test_a_kernel_that_refuses_the_call_is_remembered():
    """With a filter that answers ENOSYS, as an older kernel would."""
    script = (
        "from corten.linux import mount, namespaces, process, seccomp\n"
        "from corten.linux.probe import kernel\n"
        "import os\n"
        "namespaces.unshare(namespaces.CLONE_NEWNS); mount.set_propagation('/', mount.MS_PRIVATE, True)\n"
        "profile = {'defaultAction': 'SCMP_ACT_ALLOW', 'syscalls': [\n"
        "    {'names': ['mount_setattr'], 'action': 'SCMP_ACT_ERRNO', 'errnoRet': 38}]}\n"
        "process.set_no_new_privs(); seccomp.install(*seccomp.compile_profile(profile))\n"
        "tree = mount.new_mount('tmpfs', [])\n"
        "target = os.open('/tmp', os.O_PATH)\n"
        "mount.attach_changed(tree, target, [mount.Change(mount.MOUNT_ATTR_RDONLY | mount.MOUNT_ATTR_NOEXEC)])\n"
        "flags = os.statvfs('/tmp').f_flag\n"
        "print(kernel.mount_setattr, bool(flags & os.ST_RDONLY), bool(flags & os.ST_NOEXEC))\n"
    )
    if os.geteuid() != 0:
        pytest.skip("machine: needs root")
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    found = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, env=environment, check=False)
    assert found.stdout == "False True True\n", found.stderr


@pytest.mark.parametrize("newer", [True, False])
def test_a_sealed_program_cannot_be_written_to(newer):
    script = (
        "import os, sys; from corten.linux import sealed; from corten.linux.probe import kernel\n"
        f"kernel.mount_setattr = {newer}\n"
        "child = \"import os\\ntry: os.open('/proc/self/exe', os.O_WRONLY)\\nexcept OSError as e: print(e.errno)\"\n"
        "sealed.execute([sys.argv[1], '-IS', '-c', child], {})\n"
    )
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    found = subprocess.run([sys.executable, "-c", script, os.path.realpath(sys.executable)], capture_output=True,
                           text=True, env=environment, check=False)
    assert found.stdout.strip() in ("26", "30", "1"), found.stderr  # ETXTBSY, EROFS, EPERM
