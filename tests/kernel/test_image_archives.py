"""Archives of every kind and way in: compressed, old and new layouts, platforms, from a URL; what is told meanwhile."""

import asyncio
import bz2
import gzip
import hashlib
import http.server
import io
import json
import lzma
import os
import signal
import subprocess
import sys
import tarfile
import threading
import uuid

import pytest
import zstandard
from image_fixture import UNDERTAKER, SmallEngine, engine, needs_root, one, pieces, write_save
from images import docker_archive, entry, folder, layer

from corten.base.errors import InvalidArgument, NotFound
from corten.engine.image_transfer import ImportRequest

pytestmark = needs_root
__all__ = ["engine"]
HERE = {"x86_64": "amd64", "aarch64": "arm64"}[os.uname().machine]
OTHER = "arm64" if HERE == "amd64" else "amd64"


def load(engine, path, *arguments):
    return asyncio.run(engine.images.load_archive(pieces(path), *arguments))


def tar_of(members):
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as tar:
        for name, data in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
    return out.getvalue()


def blob(members, value):
    data = value if isinstance(value, bytes) else json.dumps(value).encode()
    digest = hashlib.sha256(data).hexdigest()
    members[f"blobs/sha256/{digest}"] = data
    return {"digest": f"sha256:{digest}", "size": len(data)}


def layout(name="multi:1", **changes):
    """An OCI layout of one index with images for two platforms, an attestation and an entry of no known kind.

    `changes`: members of the manifests that are others.
    """
    members, entries, ids = {}, [], {}
    for architecture in (OTHER, HERE):
        data = layer([entry("arch", architecture.encode())])
        config = blob(members, {"architecture": architecture, "os": "linux", "config": {}, "rootfs": {
            "type": "layers", "diff_ids": [f"sha256:{hashlib.sha256(data).hexdigest()}"]}})
        ids[architecture] = config["digest"]
        manifest = {
            "schemaVersion": 2, "mediaType": "application/vnd.oci.image.manifest.v1+json",
            "config": {"mediaType": "application/vnd.oci.image.config.v1+json", **config},
            "layers": [{"mediaType": "application/vnd.oci.image.layer.v1.tar+gzip", **blob(members, gzip.compress(data))}], **changes}
        entries.append({"mediaType": "application/vnd.oci.image.manifest.v1+json", **blob(members, manifest),
                        "platform": {"os": "linux", "architecture": architecture}})
    entries.append({**entries[0], "platform": {"os": "unknown", "architecture": "unknown"},
                    "annotations": {"vnd.docker.reference.type": "attestation-manifest"}})
    entries.append({"mediaType": "application/x-nobody-knows", **blob(members, b"?")})
    index = {"schemaVersion": 2, "mediaType": "application/vnd.oci.image.index.v1+json", "manifests": entries}
    top = {"mediaType": index["mediaType"], **blob(members, index),
           "annotations": {"io.containerd.image.name": f"docker.io/library/{name}"}}
    members["index.json"] = json.dumps({"schemaVersion": 2, "manifests": [top]}).encode()
    members["oci-layout"] = b'{"imageLayoutVersion": "1.0.0"}'
    return tar_of(members), ids


def test_manifests_without_a_schema_version(engine):
    """Some writers of layouts leave it out. No registry takes such a manifest: it is not kept as the one to push."""
    data, ids = layout(schemaVersion=0)
    asyncio.run(engine.images.load_archive(one(data)))
    image = engine.images.find("multi:1")
    assert image.id == ids[HERE] and image.record.manifest == ""
    for platform in (HERE, OTHER):
        assert ids[platform] in image.record.kept, "the other platform is not thrown away"


@pytest.mark.parametrize("changes", [{"schemaVersion": False}, {"schemaVersion": 3}, {"schemaVersion": 0, "mediaType": ""}])
def test_manifests_of_no_known_schema(engine, changes):
    with pytest.raises(InvalidArgument, match="schemaVersion is not 2"):
        asyncio.run(engine.images.load_archive(one(layout(**changes)[0])))


def test_the_platform_asked_for_is_taken_out_of_an_index(engine):
    data, ids = layout()
    asyncio.run(engine.images.load_archive(one(data)))
    assert engine.images.find("multi:1").id == ids[HERE]
    asyncio.run(engine.images.load_archive(one(data), f"linux/{OTHER}"))
    assert engine.images.find("multi:1").id == ids[OTHER] and len(engine.images.list()) == 3
    with pytest.raises(NotFound, match="s390x"):
        asyncio.run(engine.images.load_archive(one(data), "linux/s390x"))


def test_a_platform_is_honoured_everywhere(engine, tmp_path):
    docker_archive(tmp_path / "a.tar", [layer([entry("x", b"1")])], ["a:1"])
    with pytest.raises(NotFound, match="no image in the archive provides the specified platform"):
        load(engine, tmp_path / "a.tar", f"linux/{OTHER}")
    assert [image["RepoTags"] for image in engine.images.list()] == [["host:latest"]]
    load(engine, tmp_path / "a.tar", f"linux/{HERE}")
    for platform in ("", f"linux/{HERE}"):
        assert asyncio.run(engine.images.of_platform("a:1", platform)) is engine.images.find("a:1")
    with pytest.raises(NotFound, match=rf"image with reference a:1 was found but its platform \(linux/{HERE}\) does not match the specified platform \(linux/{OTHER}\)"):
        asyncio.run(engine.images.of_platform("a:1", f"linux/{OTHER}"))
    with pytest.raises(NotFound, match=f"no suitable export target found for platform linux/{OTHER}"):
        engine.images.save(["a:1"], f"linux/{OTHER}")


@pytest.mark.parametrize("squeeze", [gzip.compress, bz2.compress, lzma.compress, lambda data: zstandard.ZstdCompressor().compress(data)],
                         ids=["gzip", "bzip2", "xz", "zstd"])
def test_archives_and_layers_come_compressed(engine, tmp_path, squeeze):
    image_id = docker_archive(tmp_path / "a.tar", [layer([entry("x", b"1" * 9000)])], ["a:1"])
    data = (tmp_path / "a.tar").read_bytes()
    asyncio.run(engine.images.load_archive(one(squeeze(data))))
    assert engine.images.find("a:1").id == image_id
    engine.images.remove("a:1")
    with tarfile.open(tmp_path / "a.tar") as tar:  # the layer itself compressed, as others write it
        members = {info.name: tar.extractfile(info).read() for info in tar}
    members = {name: squeeze(body) if name.endswith("layer.tar") else body for name, body in members.items()}
    asyncio.run(engine.images.load_archive(one(tar_of(members))))
    image = engine.images.find("a:1")
    assert image.id == image_id
    assert os.listdir(engine.images.store.snapshots.path(image.layers[0])) == ["x"]
    write_save(engine, ["a:1"], tmp_path / "s.tar")
    if os.path.exists("/usr/bin/skopeo"):
        subprocess.run(["skopeo", "inspect", f"docker-archive:{tmp_path}/s.tar"], check=True, capture_output=True)


def test_several_images_and_names_in_one_archive(engine, tmp_path):
    shared = layer([folder("d"), entry("d/s", b"shared")])
    ids = [docker_archive(tmp_path / f"{at}.tar", [shared, layer([entry("x", b"%d" % at)])], [f"m{at}:1", f"m{at}:2"]) for at in (1, 2)]
    for at in (1, 2):
        load(engine, tmp_path / f"{at}.tar")
    write_save(engine, ["m1:1", "m1:2", "m2"], tmp_path / "all.tar")
    with tarfile.open(tmp_path / "all.tar") as tar:
        assert len(tar.getnames()) == len(set(tar.getnames())), "what they share is in it once"
    for image_id in ids:
        engine.images.remove(image_id, True)
    said = load(engine, tmp_path / "all.tar")
    assert {message["stream"] for message in said} == {f"Loaded image: m{at}:{tag}\n" for at in (1, 2) for tag in (1, 2)}
    assert [engine.images.find(f"m{at}:2").id for at in (1, 2)] == ids


def test_layers_are_told_of_as_they_are_unpacked(engine, tmp_path):
    docker_archive(tmp_path / "a.tar", [layer([entry("x", b"1")]), layer([entry("y", b"2")])], ["a:1"])

    async def told():
        return [message async for message in engine.images.load_messages(pieces(tmp_path / "a.tar"))]

    messages = asyncio.run(told())
    short = [digest[7:19] for digest in engine.images.find("a:1").diff_ids]
    assert [(message["status"], message["id"]) for message in messages[:-1]] == [("Loading layer", layer) for layer in short * 2]
    assert messages[-2]["progressDetail"] == {"current": 10240, "total": 10240}
    assert messages[-1] == {"stream": "Loaded image: a:1\n"}
    assert len(asyncio.run(told())) == 1, "what is here is not loaded again"


class _Web(http.server.BaseHTTPRequestHandler):
    body = b""

    def do_GET(self):
        found = self.path == "/a.tar"
        self.send_response(200 if found else 404)
        self.end_headers()
        self.wfile.write(self.body if found else b"")

    def log_message(self, *_):
        pass


@pytest.fixture
def web():
    """The address of a server on this machine that has /a.tar."""
    _Web.body = gzip.compress(layer([entry("x", b"from afar" * 1000)]))
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), _Web)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield f"127.0.0.1:{server.server_address[1]}"
    server.shutdown()
    server.server_close()
    thread.join()


@pytest.mark.parametrize("scheme", ["", "http://"])
def test_import_from_a_url(engine, web, scheme):
    request = ImportRequest(f"{scheme}{web}/a.tar", "docker.io/library/url:1", "", ["CMD x"], "")

    async def told():
        return [message async for message in await engine.images.import_url(request)]

    messages = asyncio.run(told())
    image = engine.images.find("url:1")
    assert messages[0] == {"status": f"Downloading from http://{web}/a.tar"} and messages[-1] == {"status": image.id}
    assert image.config["comment"] == f"Imported from {scheme}{web}/a.tar" and image.config["config"]["Cmd"] == ["/bin/sh", "-c", "x"]
    for source in (f"http://{web}/nothing", "ftp://x/y", "http://127.0.0.1:1/x"):
        bad = ImportRequest(source, "", "", [], "")
        with pytest.raises(InvalidArgument, match=source):
            asyncio.run(engine.images.import_url(bad))
    assert len(engine.images.list()) == 2


def test_garbage_is_collected_while_everything_comes_in(engine, tmp_path):
    """Loads and imports of images that share layers against prunes that take all they can, many rounds."""
    shared = [layer([folder(f"s{at}"), *(entry(f"s{at}/{name}", b"%d" % name) for name in range(50))]) for at in range(2)]
    for at in range(3):
        docker_archive(tmp_path / f"{at}.tar", [*shared, layer([entry("own", b"%d" % at)])], [f"race{at}:1"], compress=bool(at % 2))
    plain = layer([folder("i"), entry("i/x", b"imported")])
    store, done = engine.images.store, []

    def whole(image):
        """It may be gone by now; if it is here, all of it is."""
        if image.id in store.images:
            for short in image.layers:
                assert os.listdir(store.snapshots.path(short))
            assert all(store.content.has(piece.digest) for piece in image.record.blobs) and store.content.has(image.id)

    async def loader(at):
        for _ in range(8):
            await engine.images.load_archive(pieces(tmp_path / f"{at}.tar"))
            if (found := store.by_name(f"docker.io/library/race{at}:1")) is not None:
                whole(found)
        done.append(at)

    async def importer():
        for _ in range(8):
            image_id = await engine.images.import_archive(one(plain), ImportRequest("-", "docker.io/library/race-i:1", "", [], ""))
            if image_id in store.images:
                whole(store.images[image_id])
        done.append("import")

    async def pruner():
        rounds = 0
        while len(done) < 4:
            engine.images.prune({"dangling": ["false"]})
            rounds += 1
            await asyncio.sleep(0)
        return rounds

    async def all_of_it():
        found = await asyncio.gather(*(loader(at) for at in range(3)), importer(), pruner())
        return found[-1]

    assert asyncio.run(all_of_it()) > 10
    engine.images.prune({"dangling": ["false"]})
    assert store.usage_bytes() == 0 and store.layers == {} and store.content.all() == []
    store.snapshots.flush()
    assert not any(os.listdir(f"{store.snapshots.root}/regions/{region}") for region in os.listdir(f"{store.snapshots.root}/regions"))


OLD_IMAGE = "sha256:f306e3cb0cb3d748f30443113f30308682c4adf8d92dccbece3719d2b47ea51d"
OLD_IDS = ("a" * 64, "b" * 64)


def old_archive(**changes):
    """An image of two layers as docker 1.9 saved it."""
    base, top = OLD_IDS
    documents = [
        {"id": base, "created": "2015-11-01T00:00:00Z", "container_config": {"Cmd": ["/bin/sh", "-c", "#(nop) ADD <x> & y"]},
         "architecture": "amd64", "os": "linux", "Size": 5},
        {"id": top, "parent": base, "created": "2015-11-02T00:00:00Z", "author": "é", "comment": "c", "docker_version": "1.9.1",
         "container_config": {"Cmd": ["echo"]}, "config": {"Cmd": ["sh"], "Env": ["A=<b>"]}, "architecture": "amd64", "os": "linux"}]
    members = {}
    for document, content in zip(documents, (b"base", b"top"), strict=True):
        members[f"{document['id']}/VERSION"] = b"1.0"
        members[f"{document['id']}/json"] = json.dumps(document, ensure_ascii=False).encode()
        members[f"{document['id']}/layer.tar"] = layer([entry(content.decode(), content)])
    members["repositories"] = json.dumps({"old/image": {"1.9": top}}).encode()
    return tar_of({**members, **changes})


def test_the_oldest_archives(engine):
    said = asyncio.run(engine.images.load_archive(one(old_archive())))
    assert said == [{"stream": "Loaded image: old/image:1.9\n"}]
    image = engine.images.find("old/image:1.9")
    assert image.id == OLD_IMAGE, "the id that dockerd 28 gives it"
    assert [os.listdir(engine.images.store.snapshots.path(short)) for short in image.layers] == [["base"], ["top"]]
    assert [step["CreatedBy"] for step in engine.images.history("old/image:1.9")] == ["echo", "/bin/sh -c #(nop) ADD <x> & y"]


@pytest.mark.parametrize("changes", [
    {"repositories": b"[]"}, {"repositories": b'{"a": {"b": "../../x"}}'}, {f"{OLD_IDS[1]}/json": b"[]"},
    {f"{OLD_IDS[1]}/json": json.dumps({"parent": OLD_IDS[1]}).encode()}, {f"{OLD_IDS[0]}/json": b'{"parent": 5}'},
    {"repositories": json.dumps({"low/UP": {"t": OLD_IDS[1]}}).encode()},
])
def test_broken_oldest_archives(engine, changes):
    with pytest.raises(InvalidArgument):
        asyncio.run(engine.images.load_archive(one(old_archive(**changes))))
    assert engine.images.store.content.all() == []


KILLED = UNDERTAKER + """
import asyncio, os, sys, threading, time
sys.path[:0] = {path!r}
from image_fixture import SmallEngine, pieces
from corten.engine.image_transfer import ImportRequest
engine = SmallEngine({root!r})
threading.Timer({delay}, lambda: os.kill(os.getpid(), 9)).start()
asyncio.run(engine.images.import_archive(pieces({archive!r}), ImportRequest("-", "docker.io/library/k:1", "", [], "")))
time.sleep(30)
"""


@pytest.mark.parametrize("delay", [0.02, 0.1])
def test_a_killed_import_leaves_nothing(tmp_path, delay):
    root = f"/var/tmp/corten-test-killed-import-{uuid.uuid4().hex}"
    os.makedirs(root)
    archive = str(tmp_path / "a.tar")
    with open(archive, "wb") as out:
        out.write(layer([folder("d"), *(entry(f"d/{at}", bytes(3000)) for at in range(3000))]))
    script = KILLED.format(path=[os.path.dirname(os.path.dirname(__file__)), *sys.path[1:]], root=root, delay=delay, archive=archive)
    try:
        done = subprocess.run([sys.executable, "-c", script], capture_output=True, timeout=100, cwd="/")
        assert done.returncode == -signal.SIGKILL, done.stderr
        again = SmallEngine(root)
        again.images.prune({"dangling": ["false"]})
        store = again.images.store
        store.snapshots.flush()
        assert store.usage_bytes() == 0 and os.listdir(f"{store.content.root}/ingest") == [] and store.layers == {}
        again.close()
    finally:
        subprocess.run(["rm", "-rf", root], check=True)
