"""A new volume is filled with what the image has at its place, exactly, and nothing outside is touched."""

import os
import stat

import pytest

from corten.volume.copy_up import copy_up, open_place

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="needs root")


@pytest.fixture
def layers(tmp_path):
    """Two layers, topmost first; the data folder is spread over both."""
    upper, lower = tmp_path / "l2", tmp_path / "l1"
    for layer in (upper, lower):
        (layer / "data").mkdir(parents=True)
    return upper, lower, tmp_path / "volume"


def fill(layers, path="/data"):
    upper, lower, volume = layers
    volume.mkdir(exist_ok=True)
    place = open_place(str(volume), "")
    try:
        return copy_up([str(upper), str(lower)], path, place)
    finally:
        os.close(place)


def test_owners_modes_times_links_and_attributes_are_kept(layers):
    upper, lower, volume = layers
    data = lower / "data"
    (data / "file").write_bytes(b"x" * 100_000)
    os.chown(data / "file", 1234, 4321)
    os.chmod(data / "file", 0o4750)
    os.setxattr(data / "file", "user.note", b"kept")
    os.setxattr(data / "file", "security.capability", bytes.fromhex("0100000200040000000000000000000000000000"))
    os.utime(data / "file", ns=(1_000_000_001, 2_000_000_002))
    os.link(data / "file", data / "again")
    (data / "sub").mkdir(0o700)
    (data / "sub" / "deep").write_text("deep")
    os.chmod(data / "sub", 0o500)
    os.symlink("/etc/passwd", data / "link")
    os.mkfifo(data / "fifo", 0o640)
    (upper / "data" / "top").write_text("top")
    os.mknod(upper / "data" / "gone", stat.S_IFCHR, 0)  # overlay's whiteout
    (data / "gone").write_text("no")
    os.chown(upper / "data", 77, 88)
    os.chmod(upper / "data", 0o1777)
    assert fill(layers)
    assert sorted(os.listdir(volume)) == ["again", "fifo", "file", "link", "sub", "top"]
    found = os.lstat(volume / "file")
    assert (found.st_uid, found.st_gid, stat.S_IMODE(found.st_mode)) == (1234, 4321, 0o4750)
    assert (found.st_mtime_ns, found.st_size, found.st_nlink) == (2_000_000_002, 100_000, 2)
    assert os.getxattr(volume / "file", "user.note") == b"kept"
    assert os.getxattr(volume / "file", "security.capability")
    assert os.readlink(volume / "link") == "/etc/passwd"
    assert stat.S_ISFIFO(os.lstat(volume / "fifo").st_mode)
    assert stat.S_IMODE(os.lstat(volume / "sub").st_mode) == 0o500
    assert (volume / "sub" / "deep").read_text() == "deep"
    root = os.lstat(volume)
    assert (root.st_uid, root.st_gid, stat.S_IMODE(root.st_mode)) == (77, 88, 0o1777)


def test_a_link_in_the_image_leads_inside_the_image(layers, tmp_path):
    upper, lower, volume = layers
    (tmp_path / "secret").mkdir()
    (tmp_path / "secret" / "key").write_text("host")
    os.symlink(str(tmp_path / "secret"), upper / "out")
    os.symlink("../../../../../../data", upper / "in")
    (lower / "data" / "mine").write_text("image")
    assert not fill(layers, "/out")
    assert os.listdir(volume) == []
    assert fill(layers, "/in")
    assert os.listdir(volume) == ["mine"]


def test_no_such_folder_in_the_image_is_no_error(layers):
    upper, _lower, volume = layers
    (upper / "file").write_text("")
    assert not fill(layers, "/nope/deeper")
    assert not fill(layers, "/file")
    assert os.listdir(volume) == []


def test_a_single_layer_does(layers):
    upper, _lower, volume = layers
    (upper / "data" / "a").write_text("a")
    volume.mkdir()
    place = open_place(str(volume), "")
    assert copy_up([str(upper)], "/data", place)
    os.close(place)
    assert os.listdir(volume) == ["a"]


def test_what_a_container_put_into_the_volume_meanwhile_is_not_followed(layers, tmp_path):
    """A running container that shares the volume plants links where the image has folders and files."""
    _upper, lower, volume = layers
    canary = tmp_path / "canary"
    canary.mkdir()
    (lower / "data" / "conf").mkdir()
    (lower / "data" / "conf" / "passwd").write_text("evil")
    (lower / "data" / "passwd").write_text("evil")
    volume.mkdir()
    os.symlink(canary, volume / "conf")
    os.symlink(canary / "passwd", volume / "passwd")
    assert fill(layers)
    assert os.listdir(canary) == []
    assert os.path.islink(volume / "conf")
    assert os.path.islink(volume / "passwd")


def test_no_mount_is_left_or_seen(layers):
    before = open("/proc/self/mountinfo").read()
    fill(layers)
    assert open("/proc/self/mountinfo").read() == before
