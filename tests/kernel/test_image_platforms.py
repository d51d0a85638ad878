"""Archives with images of several platforms: all are kept, one of them is the image, and `save` writes them again."""

import asyncio
import hashlib
import io
import json
import os
import subprocess
import tarfile
from types import SimpleNamespace

import pytest
from image_fixture import engine, needs_root, one
from images import docker_archive, entry, layer
from test_image_archives import HERE, OTHER, blob, layout, tar_of

from corten.base.errors import Conflict, InvalidArgument, NotFound
from corten.engine.image_platforms import manifest_descriptor

pytestmark = needs_root
__all__ = ["engine"]


def container_of(image):
    return SimpleNamespace(id="c" * 64, image_id=image.id, state=SimpleNamespace(status="exited"))


def load(engine, data, *arguments):
    return asyncio.run(engine.images.load_archive(one(data), *arguments))


def save(engine, path, names, platform=""):
    with open(path, "wb") as out:
        for piece in engine.images.save(names, platform):
            out.write(piece if isinstance(piece, bytes) else os.pread(piece.fd, piece.size, piece.offset))
    with tarfile.open(path) as tar:
        return {info.name: tar.extractfile(info).read() for info in tar if info.isreg()}


def test_all_platforms_stay_and_are_saved(engine, tmp_path):
    data, ids = layout()
    assert load(engine, data) == [{"stream": "Loaded image: multi:1\n"}]
    assert engine.images.find("multi:1").id == ids[HERE]
    assert [row["RepoTags"] for row in engine.images.list()].count(["multi:1"]) == 1 and len(engine.images.list()) == 2
    engine.images.prune({})
    members = save(engine, tmp_path / "s.tar", ["multi:1"])
    with tarfile.open(fileobj=io.BytesIO(data)) as tar:
        before = {info.name: tar.extractfile(info).read() for info in tar}
    kept = {name: body for name, body in before.items() if name.startswith("blobs/") and body != b"?"}
    assert kept.items() <= members.items(), "every blob of the index, bit by bit"
    top = json.loads(members["index.json"])["manifests"]
    assert [entry["digest"] for entry in top] == [entry["digest"] for entry in json.loads(before["index.json"])["manifests"]]
    assert [item["Config"] for item in json.loads(members["manifest.json"])] == [f"blobs/sha256/{ids[HERE][7:]}"]


def test_a_next_daemon_and_a_next_load_have_them_all(engine, tmp_path):
    data, ids = layout()
    load(engine, data)
    members = save(engine, tmp_path / "s.tar", ["multi:1"])
    again = engine.reopened()
    try:
        assert save(again, tmp_path / "t.tar", ["multi:1"]) == members
        again.images.remove("multi:1")
        assert again.images.store.content.all() == [], "all of it goes with the image"
        load(again, (tmp_path / "s.tar").read_bytes(), f"linux/{OTHER}")
        assert again.images.find("multi:1").id == ids[OTHER]
        load(again, (tmp_path / "s.tar").read_bytes())
        assert again.images.find("multi:1").id == ids[HERE]
    finally:
        again.close()


def test_one_platform_is_saved_alone(engine, tmp_path):
    data, ids = layout()
    load(engine, data)
    members = save(engine, tmp_path / "s.tar", ["multi:1"], f"linux/{OTHER}")
    (item,) = json.loads(members["manifest.json"])
    assert item["Config"] == f"blobs/sha256/{ids[OTHER][7:]}" and item["RepoTags"] == ["multi:1"]
    assert f"blobs/sha256/{ids[HERE][7:]}" not in members
    with pytest.raises(NotFound, match="no suitable export target found for platform linux/s390x"):
        engine.images.save(["multi:1"], "linux/s390x")
    engine.images.remove("multi:1")
    load(engine, (tmp_path / "s.tar").read_bytes())
    assert engine.images.find("multi:1").id == ids[OTHER]
    with pytest.raises(NotFound):
        engine.images.save(["multi:1"], f"linux/{HERE}")


def test_skopeo_reads_all_platforms_that_we_save(engine, tmp_path):
    load(engine, layout()[0])
    save(engine, tmp_path / "s.tar", ["multi:1"])
    for architecture in (HERE, OTHER):
        done = subprocess.run(["skopeo", "inspect", "--override-arch", architecture, f"oci-archive:{tmp_path}/s.tar:1"],
                              capture_output=True, text=True)
        assert json.loads(done.stdout)["Architecture"] == architecture, done.stderr


def _docker_archive_of_two(tmp_path):
    """A manifest.json with the same name for two platforms, as builders write it."""
    members, items, ids = {}, [], {}
    for architecture in (OTHER, HERE):
        path = tmp_path / f"{architecture}.tar"
        docker_archive(path, [layer([entry("arch", architecture.encode())])], ["two:1"])
        with tarfile.open(path) as tar:
            read = {info.name: tar.extractfile(info).read() for info in tar}
        (item,) = json.loads(read.pop("manifest.json"))
        config = json.loads(read.pop(item["Config"])) | {"architecture": architecture}
        item["Config"] = f"{architecture}.json"
        members |= read | {item["Config"]: json.dumps(config).encode()}
        items.append(item)
        ids[architecture] = "sha256:" + hashlib.sha256(members[item["Config"]]).hexdigest()
    members["manifest.json"] = json.dumps(items).encode()
    return tar_of(members), ids


def test_a_docker_archive_of_two_platforms_under_one_name(engine, tmp_path):
    data, ids = _docker_archive_of_two(tmp_path)
    load(engine, data)
    assert engine.images.find("two:1").id == ids[HERE] and len(engine.images.list()) == 2
    members = save(engine, tmp_path / "s.tar", ["two:1"], f"linux/{OTHER}")
    assert f"blobs/sha256/{ids[OTHER][7:]}" in members
    save(engine, tmp_path / "all.tar", ["two:1"])
    engine.images.remove("two:1")
    load(engine, (tmp_path / "all.tar").read_bytes(), f"linux/{OTHER}")
    assert engine.images.find("two:1").id == ids[OTHER]
    load(engine, data, f"linux/{OTHER}")
    assert engine.images.find("two:1").id == ids[OTHER]


def test_an_index_that_leads_nowhere_or_round_is_refused(engine):
    """Indexes below one another without end, names of what is not there, a manifest that is an index too."""
    kinds = {"index": "application/vnd.oci.image.index.v1+json", "manifest": "application/vnd.oci.image.manifest.v1+json"}
    members = {}
    at = {"mediaType": kinds["manifest"], **blob(members, {"schemaVersion": 2})}
    for _ in range(7):
        at = {"mediaType": kinds["index"], **blob(members, {"schemaVersion": 2, "manifests": [at, at]})}
    deep = members | {"index.json": json.dumps({"schemaVersion": 2, "manifests": [at]}).encode()}
    with pytest.raises(InvalidArgument, match="nested too deep"):
        load(engine, tar_of(deep))
    wide = {}
    at = {"mediaType": kinds["manifest"], **blob(wide, {"schemaVersion": 2})}
    for number in range(3):  # a thousand ways to a thousand ways to a thousand ways to one thing
        at = {"mediaType": kinds["index"], **blob(wide, {"schemaVersion": 2, "manifests": [at] * 1000, "annotations": {"n": str(number)}})}
    with pytest.raises(InvalidArgument, match="not a JSON object"):
        load(engine, tar_of(wide | {"index.json": json.dumps({"schemaVersion": 2, "manifests": [at]}).encode()}))
    many = {}
    entries = [{"mediaType": kinds["index"], **blob(many, {"schemaVersion": 2, "manifests": [], "annotations": {"n": str(n)}})} for n in range(600)]
    top = {"mediaType": kinds["index"], **blob(many, {"schemaVersion": 2, "manifests": entries})}
    with pytest.raises(InvalidArgument, match="more than 500 manifests"):
        load(engine, tar_of(many | {"index.json": json.dumps({"schemaVersion": 2, "manifests": [top]}).encode()}))
    both = {}
    top = {"mediaType": kinds["index"], **blob(both, {"schemaVersion": 2, "manifests": [], "layers": [], "config": {}})}
    with pytest.raises(InvalidArgument, match="both at once"):
        load(engine, tar_of(both | {"index.json": json.dumps({"schemaVersion": 2, "manifests": [top]}).encode()}))
    gone = {"index.json": json.dumps({"schemaVersion": 2, "manifests": [
        {"mediaType": kinds["index"], "digest": "sha256:" + "1" * 64, "size": 3}]}).encode()}
    with pytest.raises(NotFound, match="is not in it"):
        load(engine, tar_of(gone))
    assert engine.images.store.content.all() == []


def test_another_platform_is_read(engine):
    data, ids = layout()
    load(engine, data)

    def of(platform):
        return asyncio.run(engine.images.of_platform("multi:1", platform))

    with tarfile.open(fileobj=io.BytesIO(data)) as tar:
        (top,) = json.loads(tar.extractfile("index.json").read())["manifests"]
    own, other = engine.images.inspect("multi:1"), engine.images.inspect(of(f"linux/{OTHER}"))
    assert (own["Id"], own["Architecture"], own["Descriptor"]["digest"]) == (ids[HERE], HERE, top["digest"])
    assert (other["Id"], other["Architecture"], other["RepoTags"]) == (ids[OTHER], OTHER, ["multi:1"])
    assert other["Descriptor"]["platform"] == {"os": "linux", "architecture": OTHER} and other["Size"] > 0
    assert other["RootFS"]["Layers"] != own["RootFS"]["Layers"]
    assert engine.images.history(of(f"linux/{OTHER}")) == [], "this config has none"
    with pytest.raises(NotFound, match=r"multi:1 was found but does not provide the specified platform \(linux/s390x\)"):
        of("linux/s390x")
    assert len(engine.images.store.images) == 2, "reading unpacks nothing"


def test_manifests_are_told_of(engine):
    data, _ = layout()
    load(engine, data)
    found = engine.images.inspect("multi:1", manifests=True)["Manifests"]
    assert [(one["Kind"], one["Available"]) for one in found] == [("image", True), ("image", True), ("unknown", True)]
    assert [one["ImageData"]["Platform"]["architecture"] for one in found[:2]] == [OTHER, HERE]
    other, own = found[:2]
    assert other["ImageData"]["Size"]["Unpacked"] == 0 and other["Size"]["Total"] == other["Size"]["Content"] > 0
    assert own["ImageData"]["Size"]["Unpacked"] == own["Size"]["Total"] - own["Size"]["Content"] > 0
    (row,) = [row for row in engine.images.list(manifests=True) if row["RepoTags"] == ["multi:1"]]
    assert row["Manifests"] == found and "Manifests" not in engine.images.inspect("multi:1")


def test_a_container_of_another_platform(engine):
    """Unpacked when it is wanted, one image to the user, kept by its container, gone with the image."""
    data, ids = layout()
    load(engine, data)
    listed = engine.images.list(True)
    other = asyncio.run(engine.images.resolve("multi:1", f"linux/{OTHER}"))
    assert other.id == ids[OTHER] and os.listdir(engine.images.store.snapshots.path(other.layers[0])) == ["arch"]
    assert asyncio.run(engine.images.resolve("multi:1", f"linux/{OTHER}")) is other
    assert asyncio.run(engine.images.resolve("multi:1", f"linux/{HERE}")).id == ids[HERE]
    assert engine.images.list(True) == listed
    (row, *_), total = engine.images.usage()
    assert row["Size"] == total, "its unpacked platform is counted with it"
    assert {ids[HERE], ids[OTHER]} <= engine.images.descendants("multi:1")
    engine.containers.records.append(container_of(other))
    assert engine.images.inspect("multi:1", manifests=True)["Manifests"][0]["ImageData"]["Containers"] == ["c" * 64]
    described = manifest_descriptor(engine.images, other.id)
    assert described["platform"]["architecture"] == OTHER and described["digest"] == other.record.manifest
    with pytest.raises(Conflict, match="container cccccccccccc is using its referenced image"):
        engine.images.remove("multi:1")
    engine.images.prune({"dangling": ["false"]})
    engine.images.remove("multi:1", force=True)
    assert [row["Id"] for row in engine.images.list() if not row["RepoTags"]] == [ids[OTHER]], "its container has it still"
    engine.containers.records.clear()
    engine.images.prune({})
    assert engine.images.store.content.all() == []


def test_an_image_takes_its_other_platforms_along(engine):
    load(engine, layout()[0])
    asyncio.run(engine.images.resolve("multi:1", f"linux/{OTHER}"))
    again = engine.reopened()
    try:
        assert asyncio.run(again.images.resolve("multi:1", f"linux/{OTHER}")).record.among
        again.images.remove("multi:1")
        assert again.images.store.content.all() == [] and len(again.images.list(True)) == 1
        assert all(name.startswith("host-") for name in again.images.store.snapshots.layers())
    finally:
        again.close()


def test_one_platform_is_taken_away(engine, tmp_path):
    data, ids = layout()
    load(engine, data)

    def remove(platform, force=True):
        return asyncio.run(engine.images.remove_platforms("multi:1", [platform], force))

    with pytest.raises(Conflict, match="Content will be removed from all images referencing this variant"):
        remove(f"linux/{OTHER}", force=False)
    with pytest.raises(Conflict, match="is what multi:1 means on this machine"):
        remove(f"linux/{HERE}")
    with pytest.raises(NotFound, match="does not provide"):
        remove("linux/s390x")
    other = asyncio.run(engine.images.resolve("multi:1", f"linux/{OTHER}"))
    engine.containers.records.append(container_of(other))
    with pytest.raises(Conflict, match="a container is using it"):
        remove(f"linux/{OTHER}")
    engine.containers.records.clear()
    assert remove(f"linux/{OTHER}") == [{"Deleted": other.record.manifest}]
    assert not engine.images.store.content.has(ids[OTHER]) and engine.images.store.get(ids[OTHER]) is None
    assert engine.images.find("multi:1").id == ids[HERE]
    assert f"blobs/sha256/{ids[HERE][7:]}" in save(engine, tmp_path / "s.tar", ["multi:1"])
    with pytest.raises(NotFound, match="no suitable export target"):
        engine.images.save(["multi:1"], f"linux/{OTHER}")
    load(engine, data)
    assert engine.images.store.content.has(ids[OTHER]), "a load brings it back"
