"""Archives made to break out: nothing beside the layer's own folder may change, nothing may be left behind."""

import asyncio
import bz2
import gzip
import io
import lzma
import os
import tarfile
import time
import uuid

import pytest
from image_fixture import needs_root, one, pieces, shared_engine, tree
from images import docker_archive, entry, folder, layer, symlink

from corten.base.errors import Error, Internal, InvalidArgument

pytestmark = needs_root
__all__ = ["shared_engine"]


@pytest.fixture
def engine(shared_engine):
    return shared_engine


@pytest.fixture
def canary(engine):
    """A folder beside the store with everything an escape would touch; compared byte for byte afterwards."""
    path = f"{os.path.dirname(engine.layout.data_root)}/canary-{uuid.uuid4().hex}"
    os.makedirs(f"{path}/etc")
    for name in ("passwd", "etc/shadow", "victim"):
        with open(f"{path}/{name}", "w") as stream:
            stream.write(name)
    before = tree(path)
    yield path
    assert tree(path) == before


def hardlink(name, target):
    return entry(name, type=tarfile.LNKTYPE, link=target)


def attacks(canary):
    """name -> members of a layer; {c} is the canary's absolute path."""
    up = "../" * 12
    return {
        "absolute name": [entry(f"{canary}/victim", b"owned"), entry(f"/{canary}/etc/new", b"owned")],
        "dotdot": [entry(up + canary.lstrip("/") + "/victim", b"owned")],
        "dotdot inside": [folder("a"), entry("a/../../../x", b"owned")],
        "symlink hop absolute": [symlink("hop", canary), entry("hop/victim", b"owned")],
        "symlink hop relative": [symlink("hop", up + canary.lstrip("/")), entry("hop/victim", b"owned")],
        "symlink chain": [symlink("a", "b"), symlink("b", "c"), symlink("c", canary), entry("a/victim", b"owned")],
        "symlink file": [symlink("f", f"{canary}/victim"), entry("f", b"owned")],
        "symlink then folder": [symlink("d", canary), folder("d", 0o777), entry("d/victim", b"owned")],
        "symlink swap": [folder("d"), entry("d/x", b"1"), symlink("d", canary), entry("d/victim", b"owned")],
        "deep symlink swap": [folder("d"), folder("d/e"), entry("d/e/x", b"1"), symlink("d/e", canary), entry("d/e/victim", b"o")],
        "hardlink out": [hardlink("h", f"{canary}/victim"), entry("h", b"owned")],
        "hardlink dotdot": [hardlink("h", up + canary.lstrip("/") + "/victim")],
        "hardlink through symlink": [symlink("hop", canary), hardlink("h", "hop/victim"), entry("h", b"owned")],
        "hardlink to symlink": [symlink("s", f"{canary}/victim"), hardlink("h", "s"), entry("h", b"owned")],
        "hardlink to itself": [hardlink("h", "h")],
        "hardlink to folder": [folder("d"), hardlink("h", "d")],
        "whiteout dotdot": [entry(".wh..."), entry("a/.wh.."), entry(".wh.")],
        "whiteout through symlink": [symlink("hop", canary), entry("hop/.wh.victim")],
        "opaque through symlink": [symlink("hop", canary), entry("hop/.wh..wh..opq")],
        "whiteout path": [entry(f".wh.{up}{canary}/victim")],
        "whiteout of root": [entry(".wh..wh..opq"), entry(".wh..wh.plnk/x", b"1")],
        "folder is link at the end": [folder("d", 0o777), symlink("e", canary), folder("e/etc", 0o777)],
        "chmod through link": [folder("d", 0o777, uid=77), symlink("d", canary)],
        "magic link": [symlink("p", "/proc/self/root"), entry(f"p{canary}/victim", b"owned"), symlink("q", "/proc/self/cwd"), entry("q/x", b"o")],
        "link loop": [symlink("a", "b"), symlink("b", "a"), entry("a/x", b"1")],
        "device then write": [entry("dev", type=tarfile.CHRTYPE, dev=(1, 3)), entry("dev", b"x")],
        "root as file": [entry("./", b"x"), symlink(".", canary), entry("victim", b"o")],
        "overlay xattrs": [folder("d", pax={"SCHILY.xattr.trusted.overlay.redirect": canary, "SCHILY.xattr.user.overlay.opaque": "y"})],
        "odd bytes": [entry("\udcff\udcfe\n\x01 name", b"1"), symlink("\udc80", "\udcff")],
        "long names": [entry("/".join(["d" * 250] * 30), b"1")],
        "name too long": [entry("n" * 300, b"1")],
        "path too long": [entry("/".join(["d" * 250] * 20) * 4, b"1")],
    }


NAMES = list(attacks("/c"))


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("compress", [False, True], ids=["plain", "gzip"])
def test_nothing_outside_changes(engine, canary, tmp_path, name, compress):
    docker_archive(tmp_path / "a.tar", [layer(attacks(canary)[name])], ["evil:1"], compress=compress)
    outside = {folder: sorted(os.listdir(folder)) for folder in ("/", os.path.dirname(engine.layout.data_root))}
    try:
        asyncio.run(engine.images.load_archive(pieces(tmp_path / "a.tar")))
        image = engine.images.find("evil:1")
        root = engine.images.store.snapshots.path(image.layers[0])
        for path, found in tree(root).items():
            assert not any(key.startswith(("trusted.overlay.r", "user.overlay")) for key, _ in found[6]), path
    except Error as error:
        assert "No such image" not in str(error)
    assert outside == {folder: sorted(os.listdir(folder)) for folder in outside}
    leftover(engine)


def leftover(engine):
    """After a load, good or bad: no staging folder, no blob that no image names."""
    store = engine.images.store
    store.snapshots.flush()
    regions = f"{store.snapshots.root}/regions"
    assert not [name for region in os.listdir(regions) for name in os.listdir(f"{regions}/{region}")]
    assert os.listdir(f"{store.content.root}/ingest") == []
    kept = {layer.snapshot for layer in store.layers.values()}
    assert {name for name in store.snapshots.layers() if not name.startswith("host-")} == kept
    named = {image.id for image in store.images.values()} | {blob.digest for i in store.images.values() for blob in i.record.blobs}
    assert set(store.content.all()) <= named


def bomb(size):
    """A gzip of one huge file of zeros, made without making it."""
    out = io.BytesIO()
    info = tarfile.TarInfo("zeros")
    info.size = size
    with gzip.GzipFile(fileobj=out, mode="wb", compresslevel=1) as stream:
        stream.write(info.tobuf())
        chunk = bytes(1 << 20)
        for _ in range(size >> 20):
            stream.write(chunk)
    return out.getvalue()


def test_a_bomb_ends_as_an_error(engine, monkeypatch):
    from corten.image import unpack

    monkeypatch.setattr(unpack, "_FLOOR", 1 << 20)
    monkeypatch.setattr(unpack, "_ENLARGE", 10)
    store = engine.images.store

    packed = bomb(256 << 20)

    async def load():
        with store.content.lease() as lease:
            blob = store.content.add(packed)
            await store.ensure_layers(["sha256:" + "0" * 64], [blob], lease)

    begun = time.monotonic()
    with pytest.raises(InvalidArgument, match="limit"):
        asyncio.run(load())
    assert time.monotonic() - begun < 20
    store.collect()
    leftover(engine)


def test_a_nested_bomb_of_entries_ends_as_an_error(engine, monkeypatch):
    from corten.image import unpack

    monkeypatch.setattr(unpack, "LIMIT_ENTRIES", 1000)
    store = engine.images.store
    data = layer([folder(f"d{i}") for i in range(2000)])

    async def load():
        with store.content.lease() as lease:
            blob = store.content.add(data)
            await store.ensure_layers([blob], [blob], lease)

    with pytest.raises(InvalidArgument, match="limit"):
        asyncio.run(load())


GOOD = layer([entry("f", b"x" * 5000)])


@pytest.mark.parametrize("data", [
    b"", b"\0" * 1024, b"not a tar" * 200, GOOD[:700], GOOD[:1500], GOOD[:5000], gzip.compress(GOOD)[:-20],
    b"\x1f\x8b" + b"garbage" * 100, b"\x28\xb5\x2f\xfd" + b"garbage" * 100, b"BZh9garbage", b"\xfd7zXZ\0garbage",
    lzma.compress(GOOD)[:60] + b"?" * 60, bz2.compress(GOOD)[:60] + b"?" * 60,
], ids=range(13))
def test_broken_archives_are_refused_and_leave_nothing(engine, data):
    from corten.engine.image_transfer import ImportRequest

    for action in (
        lambda: engine.images.load_archive(one(data)),
        lambda: engine.images.import_archive(one(data), ImportRequest("-", "docker.io/library/x:1", "", [], "")),
    ):
        try:
            asyncio.run(action())
        except Error as error:
            assert not isinstance(error, Internal), error
        else:
            assert data in (b"", b"\0" * 1024)  # an empty tar is an empty layer, and so is nothing at all
            engine.images.remove("x:1", True)
        engine.images.store.collect()
        leftover(engine)


@pytest.mark.parametrize("manifest", [
    b"[]x", b"{}", b'[{"Config": "../../etc/passwd", "Layers": []}]', b'[{"Config": 5}]', b'[{"Config": "c", "Layers": ["../x"]}]',
    b'[{"Config": "c", "RepoTags": ["../../x"], "Layers": []}]', b'[{"Config": "c", "RepoTags": "x", "Layers": []}]',
    b'[{"Config": "c", "Config": "d", "Layers": []}]', b"[" * 100000, b'[{"Config": "loop", "Layers": []}]',
])
def test_hostile_manifests(engine, canary, manifest):
    members = [("c", b'{"rootfs": {"type": "layers", "diff_ids": []}}'), ("manifest.json", manifest)]
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as tar:
        for name, data in members:
            info = tarfile.TarInfo(name)
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
        loop = tarfile.TarInfo("loop")
        loop.type, loop.linkname = tarfile.SYMTYPE, "loop"
        tar.addfile(loop)
    try:
        asyncio.run(engine.images.load_archive(one(out.getvalue())))
    except Error:
        pass
    else:
        assert manifest == b"[]x" or "x" not in [n for i in engine.images.list() for n in i["RepoTags"]]
    engine.images.store.collect()
    leftover(engine)


def test_a_worker_sees_nothing_but_its_folder(engine, tmp_path):
    """Run code inside the confinement itself: what a decoder taken over could do."""
    import subprocess

    from corten.image import worker

    inside = tmp_path / "inside"
    inside.mkdir()
    probe = (
        "import sys, os, socket; sys.path += sys.argv[1:]\n"
        "from corten.image.confine import enter\n"
        f"held = os.open('/', os.O_PATH); enter({str(inside)!r}, write=True, cpu_seconds=5, memory_bytes=1 << 28)\n"
        "def attempt(action):\n"
        "    try: action(); return 'done'\n"
        "    except OSError as error: return type(error).__name__\n"
        "print(os.listdir('/'))\n"
        "print(attempt(lambda: os.open('/proc/self/status', os.O_RDONLY)))\n"
        "print(attempt(lambda: os.open('etc/passwd', os.O_RDONLY, dir_fd=held)))\n"
        "print(attempt(lambda: os.open('tmp/escaped', os.O_WRONLY | os.O_CREAT, dir_fd=held)))\n"
        "print(attempt(lambda: socket.socket()))\n"
        "print(attempt(lambda: os.fork()))\n"
        "print(attempt(lambda: os.execv('/x', ['x'])))\n"
        "print(attempt(lambda: os.chroot('/')))\n"
        "print(attempt(lambda: os.kill(os.getppid(), 0)))\n"
        "print(attempt(lambda: os.mknod('/sda', 0o060600, os.makedev(7, 0))))\n"
        "print(attempt(lambda: os.open('/sda', os.O_RDONLY)))\n"
        "print(attempt(lambda: os.mkdir('/fine')))\n"
    )
    run = subprocess.run([*worker.command("x")[:3], probe, *worker.command("x")[5:]], capture_output=True, text=True)
    assert run.returncode == 0, run.stderr
    assert run.stdout.split("\n")[:-1] == [
        "[]", "FileNotFoundError", "PermissionError", "PermissionError", "PermissionError", "PermissionError",
        "PermissionError", "PermissionError", "PermissionError", "done", "PermissionError", "done",
    ]
