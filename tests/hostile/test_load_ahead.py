"""Layers unpacked while their archive still comes: the same image as otherwise, and nothing left of what proves bad."""

import asyncio
import contextlib
import gzip
import os
import subprocess
import tarfile
import tempfile

import pytest
from image_fixture import SmallEngine, needs_root, shared_engine, tree
from images import docker_archive, entry, layer, symlink
from test_hostile_layers import leftover

from corten.base.errors import Error, InvalidArgument
from corten.image import worker
from corten.image.arrival import Arrival

pytestmark = needs_root
__all__ = ["shared_engine"]
BIG = os.urandom(4 << 20)


@pytest.fixture
def engine(shared_engine, monkeypatch):
    """Layers of a megabyte are unpacked ahead; `engine.followed` lists their sizes."""
    shared_engine.followed = []
    follow = Arrival.follow
    monkeypatch.setattr("corten.image.ahead.AHEAD_BYTES", 1 << 20)
    monkeypatch.setattr(Arrival, "follow", lambda self: shared_engine.followed.append(self.size) or follow(self))
    yield shared_engine
    for image in list(shared_engine.images.store.images.values()):
        if not image.is_host:
            shared_engine.images.remove(image.id, True)
    leftover(shared_engine)


def files_below(engine, name):
    """Where a file of this name is among what is being unpacked."""
    regions = f"{engine.images.store.snapshots.root}/regions"
    return [f"{folder}/{name}" for folder, _, files in os.walk(regions) if name in files]


async def body(path, held=None, size=1 << 16):
    """An archive's bytes; before the last ones `held` is awaited."""
    with open(path, "rb") as stream:
        data = stream.read()
    for at in range(0, len(data) - 4096, size):
        yield data[at:min(at + size, len(data) - 4096)]
        await asyncio.sleep(0)
    if held is not None:
        await held()
    yield data[-4096:]


def load(engine, path, held=None):
    return asyncio.run(engine.images.load_archive(body(path, held)))


@pytest.mark.parametrize("compress", [False, True], ids=["plain", "gzip"])
def test_files_are_there_before_the_archives_end(engine, tmp_path, compress):
    layers = [layer([entry("big", BIG), entry("last", b"z")]), layer([entry("small", b"s")])]
    image_id = docker_archive(tmp_path / "a.tar", layers, ["ahead:1"], compress=compress)

    async def held():
        for _ in range(6000):  # a minute
            if (found := files_below(engine, "big")) and os.stat(found[0]).st_size:
                return
            await asyncio.sleep(0.01)
        raise AssertionError("nothing was unpacked before the end")

    load(engine, tmp_path / "a.tar", held)
    image = engine.images.find("ahead:1")
    assert image.id == image_id and len(engine.followed) == 1
    found = tree(engine.images.store.snapshots.path(image.layers[0]))
    assert found[b"big"][5] == BIG and found[b"last"][5] == b"z"


def test_the_same_layer_twice_in_an_image(engine, tmp_path):
    data = layer([entry("big", BIG)])
    image_id = docker_archive(tmp_path / "a.tar", [data, data], ["twice:1"])
    load(engine, tmp_path / "a.tar")
    image = engine.images.find(image_id)
    assert [tree(engine.images.store.snapshots.path(name))[b"big"][5] == BIG for name in image.layers] == [True, True]


def test_what_no_manifest_names_is_thrown_away(engine, tmp_path):
    docker_archive(tmp_path / "a.tar", [layer([entry("x", b"1")])], ["lone:1"])
    docker_archive(tmp_path / "b.tar", [layer([entry("big", BIG)])], ["never:1"])
    with tarfile.open(tmp_path / "b.tar") as other, tarfile.open(tmp_path / "a.tar") as own, \
            tarfile.open(tmp_path / "c.tar", "w") as out:
        for source in (other, own):
            for info in source:
                if source is own or info.name.endswith("layer.tar"):
                    out.addfile(info, source.extractfile(info))
    load(engine, tmp_path / "c.tar")
    assert len(engine.followed) == 1 and len(engine.images.find("lone:1").layers) == 1
    leftover(engine)


def test_a_layer_that_breaks_out_is_refused_as_ever(engine, tmp_path):
    members = [entry("big", BIG), symlink("hop", "/"), entry("../../out", b"o")]
    docker_archive(tmp_path / "a.tar", [layer(members)], ["evil:1"])
    with pytest.raises(InvalidArgument, match="would break out"):
        load(engine, tmp_path / "a.tar")
    assert engine.followed
    leftover(engine)


def test_bytes_that_are_not_the_promised_ones(engine, tmp_path):
    """The member's name promises a digest, the config a diff id: neither is believed."""
    docker_archive(tmp_path / "a.tar", [layer([entry("big", BIG)])], ["lie:1"])
    data = (tmp_path / "a.tar").read_bytes()
    at = data.index(BIG[:64])
    (tmp_path / "a.tar").write_bytes(data[:at] + bytes(64) + data[at + 64:])
    with pytest.raises(InvalidArgument, match="diff id"):
        load(engine, tmp_path / "a.tar")
    leftover(engine)


@pytest.mark.parametrize("compress", [False, True], ids=["plain", "gzip"])
def test_an_archive_cut_within_the_layer(engine, tmp_path, compress):
    docker_archive(tmp_path / "a.tar", [layer([entry("big", BIG)])], ["cut:1"], compress=compress)
    data = (tmp_path / "a.tar").read_bytes()
    (tmp_path / "a.tar").write_bytes(data[:2 << 20])
    with pytest.raises(InvalidArgument, match="unexpected end"):
        load(engine, tmp_path / "a.tar")
    assert engine.followed
    leftover(engine)


def test_a_client_that_goes_away_within_the_layer(engine, tmp_path):
    docker_archive(tmp_path / "a.tar", [layer([entry("big", BIG)])], ["gone:1"])

    async def gone():
        raise ConnectionResetError("the client has gone")

    with pytest.raises((Error, OSError)):
        load(engine, tmp_path / "a.tar", gone)
    leftover(engine)


def test_a_bomb_is_one_bomb(engine, tmp_path, monkeypatch):
    """Unpacked ahead it ends as an error, and is not tried again."""
    monkeypatch.setattr("corten.image.unpack._FLOOR", 1 << 20)
    monkeypatch.setattr("corten.image.unpack._ENLARGE", 1)
    data = layer([entry("big", BIG), entry("zeros", bytes(16 << 20))])
    docker_archive(tmp_path / "a.tar", [data], ["bomb:1"], compress=True)
    assert len(gzip.compress(data, 1)) < 5 << 20
    asked = []
    ask = worker.ask
    monkeypatch.setattr(worker, "ask", lambda *args: asked.append(args[0]) or ask(*args))
    with pytest.raises(InvalidArgument, match="limit"):
        load(engine, tmp_path / "a.tar")
    assert asked == ["corten.image.unpack_worker"]
    leftover(engine)


@contextlib.contextmanager
def loop_disk(folder, megabytes):
    """A small ext4 of its own, mounted in a folder; gone afterwards."""
    image, target = f"{folder}/disk.img", f"{folder}/disk"
    os.mkdir(target)
    with open(image, "wb") as out:
        out.truncate(megabytes << 20)
    subprocess.run(["mkfs.ext4", "-q", "-F", "-m", "0", image], check=True)
    subprocess.run(["mount", "-o", "loop", image, target], check=True)
    try:
        yield target
    finally:
        subprocess.run(["umount", target], check=True)


@pytest.mark.parametrize("megabytes", [14, 18, 24], ids=["blob", "unpacked", "together"])
def test_a_disk_too_small_for_a_load(engine, megabytes):
    """Whatever the disk is full of, nothing is left, and with room the same load is well."""
    with tempfile.TemporaryDirectory(prefix="corten-test-", dir="/var/tmp") as folder, loop_disk(folder, megabytes) as disk:
        small = SmallEngine(disk)
        empty = os.statvfs(disk).f_bfree
        big = layer([entry("big", os.urandom(6 << 20)), entry("more", os.urandom(1 << 20))])
        path = f"{folder}/a.tar"
        docker_archive(path, [big, layer([entry("other", os.urandom(5 << 20))])], ["full:1"])
        with contextlib.closing(small):
            check_full(small, path, disk, empty)


def check_full(small, path, disk, empty):
    """A load that the disk has no room for, then one that it has."""
    with pytest.raises((OSError, Error), match="No space left"):
        load(small, path)
    leftover(small)
    assert small.images.store.content.all() == []
    assert os.statvfs(disk).f_bfree > empty - 128, "blocks of 4 KiB, the database's log"
    fits = layer([entry("x", b"1")])
    docker_archive(path, [fits], ["fits:1"])
    load(small, path)
    assert small.images.find("fits:1").names == ["fits:1"]
