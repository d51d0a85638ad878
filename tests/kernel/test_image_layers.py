"""Layers become files: what an image's author put into a tar is what a container finds, overlay marks included."""

import asyncio
import bz2
import gzip
import io
import lzma
import os
import stat
import tarfile

import pytest
import zstandard
from image_fixture import engine, needs_root, one, pieces, tree
from images import EPOCH, busybox_layer, docker_archive, entry, folder, layer, symlink

from corten.base.errors import InvalidArgument

pytestmark = needs_root
__all__ = ["engine"]


def load(engine, path, *layers, names=("t:1",), compress=False):
    docker_archive(path, list(layers), names, compress=compress)
    asyncio.run(engine.images.load_archive(pieces(path)))
    image = engine.images.find(names[0])
    return [engine.images.store.snapshots.path(short) for short in image.layers]


def test_everything_a_layer_can_hold(engine, tmp_path):
    name = "n" * 90 + "/" + "é" * 100
    (root,) = load(engine, tmp_path / "a.tar", layer([
        folder("d", 0o2755, uid=5, gid=6), entry("d/suid", b"x" * 100000, 0o4755, uid=1000, gid=1001),
        entry("d/hard", type=tarfile.LNKTYPE, link="d/suid"), symlink("d/sym", "/etc/passwd"),
        entry("d/null", type=tarfile.CHRTYPE, dev=(1, 3), mode=0o666), entry("d/loop", type=tarfile.BLKTYPE, dev=(7, 0)),
        entry("d/fifo", type=tarfile.FIFOTYPE, mode=0o600), entry("empty", b"", 0o400), entry("./" + name, b"long"),
        entry("cap", b"c", 0o755, pax={"SCHILY.xattr.user.k": "v", "SCHILY.xattr.trusted.overlay.opaque": "y"}),
        folder("."), entry("late", b"1", mtime=EPOCH - 7),
    ]))

    def find(path):
        return os.lstat(os.path.join(root, path))

    assert (find("d").st_mode, find("d").st_uid, find("d").st_gid) == (stat.S_IFDIR | 0o2755, 5, 6)
    assert int(find("d").st_mtime) == EPOCH
    suid = find("d/suid")
    assert (suid.st_mode, suid.st_uid, suid.st_gid, suid.st_size) == (stat.S_IFREG | 0o4755, 1000, 1001, 100000)
    assert find("d/hard").st_ino == suid.st_ino and int(suid.st_mtime) == EPOCH
    assert os.readlink(f"{root}/d/sym") == "/etc/passwd" and int(find("d/sym").st_mtime) == EPOCH
    assert (stat.S_ISCHR(find("d/null").st_mode), find("d/null").st_rdev) == (True, os.makedev(1, 3))
    assert find("d/null").st_mode & 0o777 == 0o666
    assert stat.S_ISBLK(find("d/loop").st_mode) and stat.S_ISFIFO(find("d/fifo").st_mode)
    assert find("empty").st_mode & 0o777 == 0o400 and int(find("late").st_mtime) == EPOCH - 7
    assert open(f"{root}/{name}").read() == "long"
    assert os.listxattr(f"{root}/cap") == ["user.k"]


def test_file_capabilities_come_through(engine, tmp_path):
    value = bytes.fromhex("0100000200040000000000000000000000000000").decode("latin-1")
    (root,) = load(engine, tmp_path / "a.tar", layer([entry("ping", b"p", 0o755, pax={
        "SCHILY.xattr.security.capability": value})]))
    assert os.getxattr(f"{root}/ping", "security.capability") == value.encode()


def test_whiteouts_become_overlays_own(engine, tmp_path):
    lower = layer([folder("a"), entry("a/x", b"1"), entry("a/y", b"2"), folder("b"), entry("b/z", b"3"), entry("c", b"4")])
    upper = layer([folder("a"), entry("a/.wh.x"), folder("b"), entry("b/.wh..wh..opq"), entry("b/new", b"5"), entry(".wh.c")])
    _, root = load(engine, tmp_path / "a.tar", lower, upper)
    for path in ("a/x", "c"):
        found = os.lstat(f"{root}/{path}")
        assert stat.S_ISCHR(found.st_mode) and found.st_rdev == 0
    assert os.getxattr(f"{root}/b", "trusted.overlay.opaque") == b"y"
    assert sorted(os.listdir(f"{root}/b")) == ["new"]


def test_a_removed_folder_made_again_hides_the_old_one(engine, tmp_path):
    lower = layer([folder("d"), entry("d/old", b"1"), folder("e"), entry("e/old", b"1"), folder("f"), entry("f/old", b"1")])
    upper = layer([entry(".wh.d"), folder("d"), entry("d/new", b"2"), folder("e"), entry(".wh.e"), entry(".wh.f"), entry("f/g/new", b"3")])
    _, root = load(engine, tmp_path / "a.tar", lower, upper)
    for path in ("d", "e", "f"):
        assert os.getxattr(f"{root}/{path}", "trusted.overlay.opaque") == b"y", path
    assert os.path.exists(f"{root}/f/g/new")


def test_implied_folders_keep_what_the_layer_below_says(engine, tmp_path):
    lower = layer([folder("tmp", 0o1777, uid=3, gid=4), folder("tmp/deep", 0o700, uid=9)])
    _, root = load(engine, tmp_path / "a.tar", lower, layer([entry("tmp/deep/file", b"1"), entry("new/x", b"2")]))
    found = os.lstat(f"{root}/tmp")
    assert (found.st_mode & 0o7777, found.st_uid, found.st_gid) == (0o1777, 3, 4)
    assert (os.lstat(f"{root}/tmp/deep").st_mode & 0o7777, os.lstat(f"{root}/tmp/deep").st_uid) == (0o700, 9)
    assert os.lstat(f"{root}/new").st_mode & 0o7777 == 0o755


def test_the_last_of_equal_names_wins(engine, tmp_path):
    (root,) = load(engine, tmp_path / "a.tar", layer([
        entry("f", b"old"), entry("f", b"new"), folder("d"), entry("d/x", b"1"), entry("d", b"file now"),
        entry("g", b"file"), folder("g", 0o711), entry("g/in", b"2"), symlink("s", "g"), entry("s", b"plain"),
        symlink("t", "g"), folder("t", 0o700), entry("t/own", b"3"), folder("g", 0o750),
    ]))
    assert open(f"{root}/f").read() == "new" and open(f"{root}/d").read() == "file now"
    assert sorted(os.listdir(f"{root}/g")) == ["in"] and os.lstat(f"{root}/g").st_mode & 0o777 == 0o750
    assert open(f"{root}/s").read() == "plain" and os.listdir(f"{root}/t") == ["own"]


@pytest.mark.parametrize("pack", [
    lambda data: data, gzip.compress, lambda data: gzip.compress(data[:1000]) + gzip.compress(data[1000:]),
    zstandard.ZstdCompressor().compress,
], ids=["plain", "gzip", "gzip-members", "zstd"])
def test_compressions_of_a_layer_give_the_same_files(engine, tmp_path, pack):
    plain = layer([folder("d"), *(entry(f"d/{i}", os.urandom(5000)) for i in range(200))])
    store = engine.images.store

    async def unpack():
        with store.content.lease() as lease:
            digest, diff_id = store.content.add(pack(plain)), store.content.add(plain)
            lease.add(digest)
            await store.ensure_layers([diff_id], [digest], lease)
            return tree(store.snapshots.path(store.layers[diff_id].snapshot))

    found = asyncio.run(unpack())
    with tarfile.open(fileobj=io.BytesIO(plain)) as tar:
        for info in tar.getmembers():
            if info.isreg():
                assert found[info.name.encode()][5] == tar.extractfile(info).read()


def test_a_layer_that_is_not_what_its_config_says_is_refused(engine, tmp_path):
    store = engine.images.store
    other = layer([entry("x", b"1")])

    async def unpack(data):
        with store.content.lease() as lease:
            await store.ensure_layers([store.content.add(other)], [store.content.add(data)], lease)

    for data in (layer([entry("y", b"2")]), gzip.compress(layer([entry("y", b"2")])), gzip.compress(other + b"\0" * 512)):
        with pytest.raises(InvalidArgument, match="diff id"):
            asyncio.run(unpack(data))
    assert store.snapshots.layers() == {name for name in store.snapshots.layers() if name.startswith("host-")}


@pytest.mark.parametrize("pack", [gzip.compress, bz2.compress, lzma.compress, zstandard.ZstdCompressor().compress])
def test_import_takes_compressed_tars(engine, tmp_path, pack):
    from corten.engine.image_transfer import ImportRequest

    wanted = ImportRequest("-", "docker.io/library/i:1", "note", ['CMD ["sh"]', "ENV A=b", "EXPOSE 80"], "")
    asyncio.run(engine.images.import_archive(one(pack(busybox_layer())), wanted))
    found = engine.images.inspect("i:1")
    assert found["Comment"] == "note" and found["Config"]["Cmd"] == ["sh"] and found["Config"]["Env"] == ["A=b"]
    assert found["Config"]["ExposedPorts"] == {"80/tcp": {}}
    root = engine.images.store.snapshots.path(engine.images.find("i:1").layers[0])
    assert os.path.exists(f"{root}/bin/busybox")


def test_changes_that_no_image_can_have_are_refused(engine):
    from corten.engine.image_transfer import apply_changes

    for line in ("RUN true", "FROM x", "ADD a b"):
        with pytest.raises(InvalidArgument):
            apply_changes({}, [line])
