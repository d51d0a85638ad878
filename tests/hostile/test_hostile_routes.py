"""The archives of test_hostile_layers by every other way in: import, cp, ADD, a build's context, a pull."""

import asyncio
import io
import os
import tarfile
import uuid

import pytest
from build_context import build
from distribution_fixture import own_distribution
from image_fixture import needs_root, one, shared_engine, tree
from images import entry, layer
from registry_server import needs_registry, running_registry
from test_hostile_layers import NAMES, attacks, leftover

from corten.base.errors import Error
from corten.engine.image_transfer import ImportRequest
from corten.image.gc import forget_downloads

pytestmark = needs_root
__all__ = ["shared_engine"]


@pytest.fixture
def canary():
    """A folder of the host's with everything an escape would touch; compared byte for byte afterwards."""
    path = f"/var/tmp/corten-canary-{uuid.uuid4().hex}"
    os.makedirs(f"{path}/etc")
    for name in ("passwd", "etc/shadow", "victim"):
        with open(f"{path}/{name}", "w") as stream:
            stream.write(name)
    before, outside = tree(path), set(os.listdir("/"))
    yield path
    try:
        assert tree(path) == before
        assert not {name for name in set(os.listdir("/")) - outside if name in ("x", "victim", "new", "n" * 300)}
    finally:
        for name in ("passwd", "etc/shadow", "victim"):
            os.unlink(f"{path}/{name}")
        os.rmdir(f"{path}/etc")
        os.rmdir(path)


def odd_members(canary):
    """More than Python's tarfile writes by itself: old sparse members, multi-volume ones, lies about sizes."""
    found = {}
    for name, kind in (("sparse", b"S"), ("volume", b"M"), ("label", b"V"), ("dump", b"D"), ("solaris", b"X"), ("unknown", b"Z")):
        info = tarfile.TarInfo("victim")
        info.type, info.size = kind, 512
        found[name] = info.tobuf() + bytes(512) + layer([entry("after", b"1")])
    for name, size in (("size lie", 1 << 33), ("negative size", -1), ("huge size", (1 << 62) + 5)):
        info = tarfile.TarInfo("victim")
        info.size = size
        found[name] = info.tobuf(tarfile.GNU_FORMAT) + b"short"
    sparse = tarfile.TarInfo("victim")
    sparse.pax_headers = {"GNU.sparse.major": "1", "GNU.sparse.minor": "0", "GNU.sparse.name": f"{canary}/victim", "GNU.sparse.realsize": str(1 << 50)}
    sparse.size = 512
    found["pax sparse"] = sparse.tobuf(tarfile.PAX_FORMAT) + b"1\n0\n1\n".ljust(512, b"\0")
    twice = tarfile.TarInfo("x")
    twice.pax_headers = {"path": f"../../../..{canary}/victim", "size": "3", "linkpath": "/"}
    found["pax path"] = twice.tobuf(tarfile.PAX_FORMAT) + b"abc".ljust(512, b"\0") + bytes(1024)
    return found


@pytest.fixture
def archives(canary):
    """name -> bytes of every hostile archive."""
    return {**{name: layer(members) for name, members in attacks(canary).items()}, **odd_members(canary)}


def test_all_of_them_were_made(archives):
    assert len(archives) >= len(NAMES) + 10


def test_import(shared_engine, archives):
    images = shared_engine.images
    for name, data in archives.items():
        try:
            asyncio.run(images.import_archive(one(data), ImportRequest("-", "docker.io/library/evil:1", "", [], "")))
            images.remove("evil:1", True)
        except Error as error:
            assert "No such image" not in str(error), name
    leftover(shared_engine)


@pytest.mark.parametrize("running", [False, True], ids=["stopped", "running"])
def test_cp_into_a_container(engine, archives, running):
    made = engine.run("sleep", "1000") if running else engine.create("true")
    for data in archives.values():
        for flags in ("", "&noOverwriteDirNonDir=1"):
            answer = engine.api("PUT", f"/containers/{made}/archive?path=/tmp{flags}", data)
            assert answer.status in (200, 400, 403, 500, 501), answer.body
    assert engine.api("GET", "/_ping").status == 200


def test_add_and_contexts(engine, archives):
    for name, data in archives.items():
        done = build(engine, "FROM scratch\nADD evil.tar /x/\nCOPY evil.tar /y\n", files={"evil.tar": data}, nocache="1")
        assert done.status == 200 and (done.image or done.error), name
        dockerfile = layer([entry("Dockerfile", b"FROM scratch\nCOPY . /\n")])
        answer = engine.api("POST", "/build?nocache=1", dockerfile[:1024] + data, headers={"Content-Type": "application/x-tar"})
        assert answer.status in (200, 400, 500, 501), (name, answer.body)
    engine.api("POST", "/images/prune")


@needs_registry
def test_pull(archives):
    with running_registry() as server, own_distribution() as local:
        host = f"127.0.0.1:{server.port}"
        for at, data in enumerate(archives.values()):
            server.put_image("evil/x", f"v{at}", [data], {})
            _, error = local.pull(f"{host}/evil/x", f"v{at}")
            assert error is None or isinstance(error, Error), error
        for image_id in list(local.store.images):
            local.store.forget(image_id)
        local.store.collect()
        forget_downloads(local.store)
        assert not local.left_behind() and local.store.usage_bytes() == 0


def test_a_bomb_by_each_decoder_ends_by_its_memory_or_its_size(shared_engine, monkeypatch):
    """Windows and dictionaries that ask for more than the limit, and a gzip within a gzip (which stays a file)."""
    import gzip
    import lzma

    import zstandard

    monkeypatch.setattr("corten.image.archive.LIMIT_BYTES", 4 << 20)
    zeros = bytes(16 << 20)
    window = zstandard.ZstdCompressionParameters.from_level(1, window_log=30, enable_ldm=True)
    frame = zstandard.ZstdCompressor(compression_params=window)
    out = io.BytesIO()
    with frame.stream_writer(out, closefd=False) as stream:  # a stream does not know its size: the window is asked for
        stream.write(zeros)
    for data in (gzip.compress(zeros, 1), out.getvalue(), lzma.compress(zeros, preset=0)):
        for _ in range(2):
            try:
                asyncio.run(shared_engine.images.load_archive(one(data)))
            except Error:
                continue
            raise AssertionError("a bomb was loaded")
    nested = gzip.compress(gzip.compress(layer([entry("x", b"1")])))
    try:
        asyncio.run(shared_engine.images.load_archive(one(nested)))
    except Error:
        pass
    else:
        raise AssertionError("only one compression is undone")
    leftover(shared_engine)
