"""Containers in user namespaces, made by root: maps, sources out of the user's reach, devices, id-mapped mounts."""

import os
import stat

import pytest

from corten.base.errors import InvalidArgument
from corten.runtime import create

MAP = [{"containerID": 0, "hostID": 100000, "size": 65536}]


def mapped(spec, entries=MAP):
    spec["linux"]["namespaces"].append({"type": "user"})
    if entries:
        spec["linux"]["uidMappings"] = spec["linux"]["gidMappings"] = entries


def open_to(boxes):
    """The bundles can be searched by the mapped root; the layer belongs to it."""
    os.chmod(boxes.folder, 0o755)
    for folder, folders, files in os.walk(boxes.lower):
        for name in ("", *folders, *files):
            os.lchown(os.path.join(folder, name), 100000, 100000)


def run(boxes, *arguments, change=None, entries=MAP):
    open_to(boxes)

    def both(spec):
        mapped(spec, entries)
        if change:
            change(spec)

    return boxes.run(*arguments, change=both, plain=True)


def test_root_inside_is_a_plain_user_outside(boxes):
    open_to(boxes)
    spec = boxes.spec("sleep", "100")
    mapped(spec)
    child, bundle = boxes.start(spec, plain=True)
    assert child.failure is None
    assert os.stat(f"/proc/{child.pid}").st_uid == 100000
    assert boxes.exec(child, bundle, "id", "-u").output == "0\n"
    assert os.readlink(f"/proc/{child.pid}/ns/user") != os.readlink("/proc/self/ns/user")


def test_the_maps_are_as_asked_for(boxes):
    result = run(boxes, "cat", "/proc/self/uid_map", "/proc/self/gid_map", entries=[
        {"containerID": 0, "hostID": 100000, "size": 10}, {"containerID": 10, "hostID": 5000, "size": 2}])
    assert [line.split() for line in result.output.splitlines()] == 2 * [["0", "100000", "10"], ["10", "5000", "2"]]


def test_without_maps_all_ids_are_as_outside(boxes):
    result = run(boxes, "cat", "/proc/self/uid_map", entries=None)
    assert result.output.split()[:2] == ["0", "0"] and result.failure is None


def test_a_source_below_a_closed_folder(boxes):
    closed = f"{boxes.folder}/closed"
    os.makedirs(f"{closed}/inner")
    with open(f"{closed}/inner/file", "w") as file:
        file.write("text")
    os.chmod(closed, 0)
    mount = {"destination": "/mnt", "type": "bind", "source": f"{closed}/inner", "options": ["bind", "ro"]}
    result = run(boxes, "cat", "/mnt/file", change=lambda spec: spec["mounts"].append(mount))
    assert (result.output, result.failure) == ("text", None)


def test_a_source_that_is_missing_is_told_with_its_path(boxes):
    mount = {"destination": "/mnt", "type": "bind", "source": "/no/such/place", "options": ["bind"]}
    result = run(boxes, "true", change=lambda spec: spec["mounts"].append(mount))
    assert "/no/such/place" in str(result.failure) and "no such file or directory" in str(result.failure)


def test_devices_are_made_with_their_owner_and_the_hosts_stay(boxes):
    before = [(found.st_mode, found.st_uid, found.st_gid, found.st_ctime_ns)
              for found in map(os.stat, ("/dev/null", "/dev/tty", "/dev/zero"))]

    def change(spec):
        spec["linux"]["devices"] = [{"path": "/dev/own", "type": "c", "major": 1, "minor": 5, "fileMode": 0o640,
                                     "uid": 3, "gid": 4}]

    result = run(boxes, "stat", "-c", "%F %a %u %g %t:%T", "/dev/own", change=change)
    assert (result.output, result.failure) == ("character special file 640 3 4 1:5\n", None)
    assert run(boxes, "head", "-c", "3", "/dev/zero").output == "\0\0\0"
    assert "nosuid,noexec" in run(boxes, "grep", "/dev/null", "/proc/self/mountinfo").output
    after = [(found.st_mode, found.st_uid, found.st_gid, found.st_ctime_ns)
             for found in map(os.stat, ("/dev/null", "/dev/tty", "/dev/zero"))]
    assert before == after


def test_a_fifo_among_the_devices(boxes):
    def change(spec):
        spec["linux"]["devices"] = [{"path": "/dev/queue", "type": "p", "fileMode": 0o600}]

    assert run(boxes, "stat", "-c", "%F", "/dev/queue", change=change).output == "fifo\n"


@pytest.mark.parametrize("inside", [True, False], ids=["userns", "host"])
@pytest.mark.parametrize("maps", [MAP, None], ids=["idmap", "plain"])
def test_a_source_on_a_mount_that_came_before(boxes, inside, maps):
    """Mounts are made one after the other, whoever opens their sources."""
    source = f"{boxes.folder}/source"
    os.makedirs(f"{source}/x")
    for name in ("outer", "x/inner"):
        with open(f"{source}/{name}", "w") as file:
            file.write(name)
    os.chmod(source, 0o750)
    open_to(boxes)
    spec = boxes.spec("cat", "/final/y/inner", "/copy/inner")
    if inside:
        mapped(spec)
    bundle = f"{boxes.folder}/b1/rootfs"
    spec["mounts"] += [
        {"destination": "/mnt", "type": "tmpfs"},
        {"destination": "/mnt/y", "type": "bind", "source": f"{source}/x", "options": ["bind"]},
        {"destination": "/copy", "type": "bind", "source": f"{bundle}/mnt/y", "options": ["bind"]},
        {"destination": "/final", "type": "bind", "source": f"{bundle}/mnt", "options": ["rbind"]},
    ]
    if maps:
        spec["mounts"][-2].update(uidMappings=maps, gidMappings=maps)
    result = boxes.run(spec=spec, plain=True)
    assert (result.output, result.failure) == ("x/innerx/inner", None)


def test_a_mount_that_fails_between_two_sources_is_told(boxes):
    """The process that opens sources leaves what it was not asked to whom it is for."""
    def change(spec):
        spec["mounts"] += [
            {"destination": "/one", "type": "bind", "source": boxes.lower, "options": ["bind"]},
            {"destination": "/two", "type": "tmpfs", "options": ["size=nonsense"]},
            {"destination": "/three", "type": "bind", "source": boxes.lower, "options": ["bind"]},
        ]

    assert "/two" in str(run(boxes, "true", change=change).failure)


def test_a_dev_from_elsewhere_asks_for_no_nodes(boxes):
    mount = {"destination": "/dev", "type": "bind", "source": "/dev", "options": ["rbind"]}

    def change(spec):
        spec["mounts"] = [one for one in spec["mounts"] if not one["destination"].startswith("/dev")] + [mount]

    result = run(boxes, "sh", "-c", "echo made > /dev/null && echo yes", change=change)
    assert (result.output, result.failure) == ("yes\n", None)


@pytest.mark.parametrize("word", ["idmap", "ridmap"])
@pytest.mark.parametrize(("host", "owner"), [(0, "0:0"), (100000, None)])
def test_the_owners_of_an_id_mapped_mount(boxes, word, host, owner):
    source = f"{boxes.folder}/source"
    os.makedirs(source)
    open(f"{source}/file", "w").close()
    maps = [{"containerID": 0, "hostID": 100000, "size": 65536}] if host == 0 else None
    mount = {"destination": "/mnt", "type": "bind", "source": source, "options": ["bind", word]}
    if maps:
        mount["uidMappings"] = mount["gidMappings"] = maps
    result = run(boxes, "stat", "-c", "%u:%g", "/mnt/file", change=lambda spec: spec["mounts"].append(mount))
    assert (result.output, result.failure) == (f"{owner or '0:0'}\n", None)


@pytest.mark.parametrize("owner", [0, 10])
def test_an_id_mapped_mount_without_a_user_namespace(boxes, owner):
    source = f"{boxes.folder}/source"
    os.makedirs(source)
    open(f"{source}/file", "w").close()
    os.chown(f"{source}/file", owner, owner)
    maps = [{"containerID": owner, "hostID": 1000, "size": 10}]
    mount = {"destination": "/mnt", "type": "bind", "source": source, "options": ["bind", "idmap"],
             "uidMappings": maps, "gidMappings": maps}
    result = boxes.run("stat", "-c", "%u:%g", "/mnt/file", change=lambda spec: spec["mounts"].append(mount))
    assert result.output == "1000:1000\n"


def test_an_id_mapped_mount_with_no_map_to_take(boxes):
    mount = {"destination": "/mnt", "type": "bind", "source": boxes.lower, "options": ["bind", "idmap"]}
    result = boxes.run("true", change=lambda spec: spec["mounts"].append(mount))
    assert "without mappings" in str(result.failure)


def test_sysfs_is_the_hosts_and_read_only_without_a_network_of_its_own(boxes):
    def change(spec):
        spec["linux"]["namespaces"] = [one for one in spec["linux"]["namespaces"] if one["type"] != "network"]

    result = run(boxes, "grep", " /sys ", "/proc/self/mountinfo", change=change)
    assert result.failure is None and " ro," in result.output.splitlines()[0]


def test_bad_maps(boxes):
    spec = boxes.spec("true")
    mapped(spec, [{"containerID": 0, "hostID": 0, "size": 0}])
    with pytest.raises(InvalidArgument, match="id mapping"):
        create.spawn(boxes.bundle(spec), (0, 1, 2))


def test_the_console_is_the_containers_own(boxes):
    open_to(boxes)
    spec = boxes.spec("sh", "-c", "test -c /dev/console && tty", terminal=True)
    mapped(spec)
    child, _ = boxes.start(spec, plain=True)
    assert child.failure is None
    assert stat.S_ISCHR(os.fstat(child.console).st_mode)
    os.close(child.console)
