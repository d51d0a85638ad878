"""Images on this machine as their user sees them: load, save, tag, remove, prune, restart, garbage."""

import asyncio
import hashlib
import json
import os
import signal
import subprocess
import sys
import tarfile
from types import SimpleNamespace

import pytest
from image_fixture import UNDERTAKER, SmallEngine, engine, needs_root, pieces, tree, write_save
from images import busybox_archive, busybox_layer, docker_archive, entry, folder, layer

from corten.base.errors import Conflict, Forbidden, InvalidArgument, NotFound
from corten.engine.events import matches
from corten.image.diff import add_layer, pack

pytestmark = needs_root
__all__ = ["engine"]


def load(engine, path):
    return asyncio.run(engine.images.load_archive(pieces(path)))


def container(engine, image, status="exited"):
    record = SimpleNamespace(id="c" * 64, image_id=image.id, state=SimpleNamespace(status=status))
    engine.containers.records.append(record)
    engine.images.store.snapshots.prepare(record.id, image)
    return record


def actions(engine):
    return [(event["Action"], event["Actor"]["Attributes"].get("name")) for event in engine.events._kept]


def test_load_says_what_came(engine, tmp_path):
    image_id = busybox_archive(tmp_path / "b.tar", ["busybox:latest", "localhost:5000/x/y:v1"])
    assert load(engine, tmp_path / "b.tar") == [
        {"stream": "Loaded image: busybox:latest\n"}, {"stream": "Loaded image: localhost:5000/x/y:v1\n"}]
    for ref in ("busybox", "docker.io/library/busybox", image_id, image_id[7:], image_id[7:19], "localhost:5000/x/y:v1"):
        assert engine.images.find(ref).id == image_id
    assert ("load", image_id) in actions(engine)
    other = busybox_archive(tmp_path / "c.tar", ["busybox:latest"], {"Cmd": ["other"]})
    assert load(engine, tmp_path / "c.tar")[0]["stream"].startswith("The image busybox:latest already exists, renaming")
    assert engine.images.find("busybox").id == other
    nameless = docker_archive(tmp_path / "d.tar", [layer([entry("x", b"1")])])
    assert load(engine, tmp_path / "d.tar") == [{"stream": f"Loaded image ID: {nameless}\n"}]


@pytest.mark.parametrize("ref, text", [
    ("nope", "No such image: nope:latest"), ("a/b:1", "No such image: a/b:1"), ("sha256:" + "0" * 64, "No such image: sha256:" + "0" * 64),
    ("abcdef012345", "No such image: abcdef012345:latest"),
])
def test_what_is_not_there_is_named_as_docker_does(engine, ref, text):
    with pytest.raises(NotFound, match=text):
        engine.images.find(ref)


def test_save_is_read_by_others_and_by_us(engine, tmp_path):
    layers = [busybox_layer(), layer([folder("d"), entry("d/x", b"1" * 3000, uid=7)]), layer([entry("d/.wh.x")])]
    image_id = docker_archive(tmp_path / "a.tar", layers, ["one:1", "two:2"], compress=True)
    load(engine, tmp_path / "a.tar")
    write_save(engine, ["one:1", "two:2"], tmp_path / "save.tar")
    assert ("save", image_id) in actions(engine)
    with tarfile.open(tmp_path / "save.tar") as tar:
        names = tar.getnames()
        assert len(names) == len(set(names)) and {"manifest.json", "index.json", "oci-layout"} <= set(names)
        (saved,) = json.load(tar.extractfile("manifest.json"))
        assert saved["RepoTags"] == ["one:1", "two:2"] and saved["Config"] == f"blobs/sha256/{image_id[7:]}"
    before = engine.images.inspect("one:1")
    roots = [tree(engine.images.store.snapshots.path(short)) for short in engine.images.find("one:1").layers]
    engine.images.remove(image_id, True)
    assert [image["RepoTags"] for image in engine.images.list()] == [["host:latest"]]
    load(engine, tmp_path / "save.tar")
    after = engine.images.inspect("two:2")
    assert {**before, "GraphDriver": 0, "Metadata": 0} == {**after, "GraphDriver": 0, "Metadata": 0}
    assert roots == [tree(engine.images.store.snapshots.path(short)) for short in engine.images.find("one:1").layers]


@pytest.mark.skipif(not os.path.exists("/usr/bin/skopeo"), reason="skopeo is not installed")
def test_skopeo_and_umoci_agree_with_us(engine, tmp_path):
    image_id = docker_archive(tmp_path / "a.tar", [busybox_layer(), layer([folder("d"), entry("d/x", b"1")])], ["one:1"])
    load(engine, tmp_path / "a.tar")
    write_save(engine, ["one:1"], tmp_path / "save.tar")
    for source in (f"docker-archive:{tmp_path}/save.tar", f"oci-archive:{tmp_path}/save.tar"):
        config = json.loads(_run("skopeo", "inspect", "--config", source))
        assert config["rootfs"]["diff_ids"] == engine.images.find("one:1").diff_ids
    _run("skopeo", "copy", "--quiet", f"oci-archive:{tmp_path}/save.tar", f"oci:{tmp_path}/layout:one")
    if os.path.exists("/usr/bin/umoci"):
        _run("umoci", "unpack", "--image", f"{tmp_path}/layout:one", f"{tmp_path}/bundle")
        assert os.path.exists(f"{tmp_path}/bundle/rootfs/bin/busybox") and open(f"{tmp_path}/bundle/rootfs/d/x").read() == "1"
    engine.images.remove("one:1")
    for target in (f"docker-archive:{tmp_path}/s1.tar:one:1", f"oci-archive:{tmp_path}/s2.tar:docker.io/library/one:2"):
        _run("skopeo", "copy", "--quiet", f"docker-archive:{tmp_path}/save.tar", target)
    load(engine, tmp_path / "s1.tar")
    load(engine, tmp_path / "s2.tar")
    assert engine.images.find("one:1").id == image_id
    assert engine.images.find("one:2").diff_ids == engine.images.find("one:1").diff_ids


@pytest.mark.skipif(not os.path.exists("/usr/bin/umoci"), reason="umoci is not installed")
def test_we_read_what_umoci_writes(engine, tmp_path):
    """A layout of umoci's own, and one of ours that it has put a layer on: an owner, a removed file, a link."""
    layout, bundle = tmp_path / "layout", tmp_path / "bundle"
    docker_archive(tmp_path / "a.tar", [busybox_layer(), layer([folder("d"), entry("d/old", b"1")])], ["ours:1"])
    load(engine, tmp_path / "a.tar")
    write_save(engine, ["ours:1"], tmp_path / "save.tar")
    layout.mkdir()
    _run("tar", "-xf", str(tmp_path / "save.tar"), "-C", str(layout))
    (layout / "manifest.json").unlink()  # umoci knows nothing of docker's own list of what is there
    index = json.loads((layout / "index.json").read_text())
    index["manifests"][0]["annotations"] = {"org.opencontainers.image.ref.name": "theirs:1"}
    (layout / "index.json").write_text(json.dumps(index))
    _run("umoci", "unpack", "--image", f"{layout}:theirs:1", str(bundle))
    (bundle / "rootfs/d/old").unlink()
    (bundle / "rootfs/d/new").write_text("by umoci")
    os.chown(bundle / "rootfs/d/new", 12, 34)
    (bundle / "rootfs/link").symlink_to("d/new")
    _run("umoci", "repack", "--image", f"{layout}:theirs:2", str(bundle))
    _run("umoci", "config", "--image", f"{layout}:theirs:2", "--config.cmd", "cat", "--config.cmd", "/link")
    _run("umoci", "init", "--layout", str(tmp_path / "own"))
    _run("umoci", "new", "--image", f"{tmp_path}/own:own:1")
    (tmp_path / "file").write_text("alone")
    _run("umoci", "insert", "--image", f"{tmp_path}/own:own:1", str(tmp_path / "file"), "/file")
    for place in (layout, tmp_path / "own"):
        with tarfile.open(f"{place}.tar", "w") as tar:
            tar.add(place, ".")
        load(engine, f"{place}.tar")
    theirs, own = engine.images.find("theirs:2"), engine.images.find("own:1")
    assert theirs.config["config"]["Cmd"] == ["cat", "/link"] and theirs.diff_ids[:2] == engine.images.find("ours:1").diff_ids
    top = engine.images.store.snapshots.path(theirs.layers[-1])
    status = os.lstat(f"{top}/d/new")
    assert open(f"{top}/d/new").read() == "by umoci" and (status.st_uid, status.st_gid) == (12, 34)
    assert os.readlink(f"{top}/link") == "d/new" and os.lstat(f"{top}/d/old").st_rdev == 0
    assert open(f"{engine.images.store.snapshots.path(own.layers[-1])}/file").read() == "alone"


def _run(*command):
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


def test_names_come_and_go(engine, tmp_path):
    image_id = busybox_archive(tmp_path / "b.tar")
    load(engine, tmp_path / "b.tar")
    engine.images.tag("busybox", "my.registry:5000/b", "v2")
    engine.images.tag(image_id[7:19], "b2", "")
    assert engine.images.find("busybox").names == ["b2:latest", "busybox:latest", "my.registry:5000/b:v2"]
    assert ("tag", "my.registry:5000/b:v2") in actions(engine)
    assert engine.images.remove("b2") == [{"Untagged": "b2:latest"}]
    with pytest.raises(InvalidArgument, match="invalid reference format"):
        engine.images.tag("busybox", "UPPER:x", "")
    with pytest.raises(InvalidArgument, match="cannot import digest reference"):
        engine.images.tag("busybox", "a@" + image_id, "")
    removed = engine.images.remove("busybox:latest")
    assert removed == [{"Untagged": "busybox:latest"}]
    removed = engine.images.remove("my.registry:5000/b:v2")
    assert removed[0] == {"Untagged": "my.registry:5000/b:v2"} and removed[1] == {"Deleted": image_id}
    assert removed[2]["Deleted"].startswith("sha256:") and len(removed) == 3


def test_an_id_with_several_names_needs_force(engine, tmp_path):
    image_id = busybox_archive(tmp_path / "b.tar", ["a:1", "b:1"])
    load(engine, tmp_path / "b.tar")
    short = image_id[7:19]
    text = rf"conflict: unable to delete {short} \(must be forced\) - image is referenced in multiple repositories"
    with pytest.raises(Conflict, match=text):
        engine.images.remove(short)
    assert [r for r in engine.images.remove(short, True) if "Untagged" in r] == [{"Untagged": "a:1"}, {"Untagged": "b:1"}]


def test_containers_keep_their_image(engine, tmp_path):
    busybox_archive(tmp_path / "b.tar", ["a:1"])
    load(engine, tmp_path / "b.tar")
    image = engine.images.find("a:1")
    record = container(engine, image, "running")
    short = image.id[7:19]
    with pytest.raises(Conflict) as caught:
        engine.images.remove("a:1")
    assert str(caught.value) == (f'conflict: unable to remove repository reference "a:1" (must force) - container {"c" * 12} '
                                 f"is using its referenced image {short}")
    with pytest.raises(Conflict, match=rf"\(cannot be forced\) - image is being used by running container {'c' * 12}"):
        engine.images.remove(short, True)
    assert engine.images.remove("a:1", True) == [{"Untagged": "a:1"}]
    assert engine.images.find(short).id == image.id
    record.state.status = "exited"
    with pytest.raises(Conflict, match=rf"\(must be forced\) - image is being used by stopped container {'c' * 12}"):
        engine.images.remove(short)
    assert {"Deleted": image.id} in engine.images.remove(short, True)
    lower = engine.images.store.snapshots.rootfs(record.id)["lower"]
    assert os.path.exists(f"{lower[0]}/bin/busybox"), "the container still stands on its layer"
    engine.images.store.snapshots.remove(record.id)
    engine.images.store.collect()
    engine.images.store.snapshots.flush()
    assert not os.path.exists(lower[0])


def test_prune_takes_what_nothing_names(engine, tmp_path):
    docker_archive(tmp_path / "a.tar", [busybox_layer()], ["a:1"])
    load(engine, tmp_path / "a.tar")
    loose = docker_archive(tmp_path / "b.tar", [busybox_layer(), layer([entry("x", b"1" * 50000)])], [])
    load(engine, tmp_path / "b.tar")
    assert [image["Id"] for image in engine.images.list(filters={"dangling": ["true"]})] == [loose]
    found = engine.images.prune({})
    assert {"Deleted": loose} in found["ImagesDeleted"] and found["SpaceReclaimed"] >= 50000
    assert engine.images.prune({}) == {"ImagesDeleted": None, "SpaceReclaimed": 0}
    assert engine.images.prune({"dangling": ["false"], "label": ["nope"]})["ImagesDeleted"] is None
    assert {"Untagged": "a:1"} in engine.images.prune({"dangling": ["false"]})["ImagesDeleted"]
    store = engine.images.store
    store.snapshots.flush()
    assert store.content.all() == [] and store.layers == {}
    with pytest.raises(InvalidArgument, match="invalid filter 'x'"):
        engine.images.prune({"x": ["1"]})


def test_prune_filters(engine, tmp_path):
    """until and label, alone and together; `label!` the other way round. Every image but the last two is from 2023."""
    for at, labels in enumerate(({"a": "1"}, {"a": "2"}, {}, {"a": "1", "keep": ""})):
        docker_archive(tmp_path / f"{at}.tar", [layer([entry("x", b"%d" % at)])], [f"p:{at}"], config={"Labels": labels})
        load(engine, tmp_path / f"{at}.tar")
    pruned = lambda **filters: sorted(  # noqa: E731
        item["Untagged"] for item in engine.images.prune({"dangling": ["false"], **filters})["ImagesDeleted"] or () if "Untagged" in item)
    assert pruned(until=["2023-01-01T00:00:00"]) == [] and pruned(label=["a=3"]) == []
    assert pruned(label=["a=1"], **{"label!": ["keep"]}) == ["p:0"]
    assert pruned(**{"label!": ["a"]}, until=["24h"]) == ["p:2"]
    assert pruned(label=["a", "a=2"]) == ["p:1"]
    assert pruned(until=["2024-01-01"]) == ["p:3"]
    for filters, text in (({"until": ["1h", "2h"]}, "more than one until"), ({"until": ["x"]}, "time or duration"), ({"dangling": ["maybe"]}, "invalid filter")):
        with pytest.raises(InvalidArgument, match=text):
            engine.images.prune(filters)


def test_usage_is_what_du_says(engine, tmp_path):
    layers = [layer([folder("d"), *(entry(f"d/{at}", bytes(at * 7)) for at in range(1500))]),
              layer([entry("big", os.urandom(3_000_001)), *(folder(f"f{at}") for at in range(100))])]
    docker_archive(tmp_path / "a.tar", layers, ["a:1"], compress=True)
    docker_archive(tmp_path / "b.tar", [layers[0], layer([entry("y", bytes(100_000))])], ["b:1"])
    load(engine, tmp_path / "a.tar")
    load(engine, tmp_path / "b.tar")
    rows, total = engine.images.usage()
    store = engine.images.store
    places = [f"{store.snapshots.root}/{name.snapshot}/fs" for name in store.layers.values()]
    du = sum(int(line.split()[0]) for line in _run("du", "-s", "-B1", *places, f"{store.content.root}/blobs").splitlines())
    assert abs(total - du) < du / 20, (total, du)
    assert [row["RepoTags"] for row in rows] == [["a:1"], ["b:1"]] or [row["RepoTags"] for row in rows] == [["b:1"], ["a:1"]]
    shared = store.layers[engine.images.find("a:1").record.chain_ids[0]].disk
    assert {row["SharedSize"] for row in rows} == {shared}
    assert sum(row["Size"] - row["SharedSize"] for row in rows) + shared == total
    kept = f"{store.content.root}/ingest/{'a' * 64}"
    with open(kept, "wb") as stream:
        stream.write(bytes(50_000))
    again = engine.reopened()
    engine.db = again.db
    assert os.path.exists(kept), "a download may be resumed"
    reclaimed = again.images.prune({"dangling": ["false"]})["SpaceReclaimed"]
    assert not os.path.exists(kept) and total <= reclaimed <= total + 60_000
    assert again.images.usage() == ([], 0)
    again.images.store.snapshots.flush()


def test_list_filters(engine, tmp_path):
    for at, name in enumerate(["a/one:1", "a/two:1", "three:1"]):
        config = {"Labels": {"n": str(at)}}
        docker_archive(tmp_path / "x.tar", [layer([entry("x", name.encode())])], [name], config)
        load(engine, tmp_path / "x.tar")

    def names(**filters):
        return sorted(n for image in engine.images.list(filters=filters) for n in image["RepoTags"])

    assert names(reference=["a/*"]) == ["a/one:1", "a/two:1"] and names(reference=["thr*"]) == ["three:1"]
    assert names(reference=["*"]) == ["host:latest", "three:1"] and names(reference=["three:1", "a/one"]) == ["a/one:1", "three:1"]
    assert names(label=["n=1"]) == ["a/two:1"] and names(label=["n"]) == ["a/one:1", "a/two:1", "three:1"]
    assert names(before=["host"]) == ["a/one:1", "a/two:1", "three:1"] and names(since=["three:1"]) == ["host:latest"]
    with pytest.raises(InvalidArgument, match="invalid filter"):
        names(nope=["1"])


def test_all_is_there_after_a_restart(engine, tmp_path):
    busybox_archive(tmp_path / "b.tar", ["a:1", "b:2"])
    load(engine, tmp_path / "b.tar")
    engine.images.tag("a:1", "c", "3")
    before = engine.images.list(), engine.images.inspect("a:1"), engine.images.history("a:1")
    again = engine.reopened()
    try:
        assert before == (again.images.list(), again.images.inspect("a:1"), again.images.history("a:1"))
    finally:
        engine.db = again.db


def test_the_host_image_is_there_and_stays(engine):
    image = engine.images.find("host")
    assert image.is_host and image.names == ["host:latest"] and engine.images.inspect("host")["Config"]["Cmd"]
    for action in (lambda: engine.images.remove("host", True), lambda: engine.images.save(["host"]),
                   lambda: engine.images.tag("host", "x", "")):
        with pytest.raises(Forbidden, match="this machine's own /usr"):
            action()
    assert engine.images.prune({"dangling": ["false"]})["ImagesDeleted"] is None
    record = container(engine, image)
    rootfs = engine.images.store.snapshots.rootfs(record.id)
    mounts = engine.images.container_mounts(record.id)
    assert {"destination": "/usr", "type": "bind", "source": "/usr", "options": ["bind", "ro", "nodev"]} in mounts
    root = rootfs["lower"][0]
    for name in ("bin", "lib"):
        assert os.path.islink(f"/{name}") == os.path.islink(f"{root}/{name}")
    assert os.lstat(f"{root}/tmp").st_mode & 0o7777 == 0o1777
    assert not os.path.exists(f"{root}/etc/shadow")


def test_commit_keeps_changes_and_nothing_else(engine, tmp_path):
    busybox_archive(tmp_path / "b.tar", ["a:1"])
    load(engine, tmp_path / "b.tar")
    image, store = engine.images.find("a:1"), engine.images.store
    upper = store.snapshots.prepare("d" * 64, image)["upper"]
    os.mkdir(f"{upper}/etc")
    open(f"{upper}/etc/hosts", "w").close()
    open(f"{upper}/.dockerenv", "w").close()
    os.mkdir(f"{upper}/proc")

    async def take(**more):
        with store.content.lease() as lease:
            made = await add_layer(store, upper, image.diff_ids, lease, **more)
            if made is None:
                return None
            with tarfile.open(store.content.path(made.blob)) as tar:
                return sorted(tar.getnames()), tree(store.snapshots.path(made.snapshot))

    assert asyncio.run(take(keep_empty=False)) is None, "mount points are no changes"
    store.collect()
    with open(f"{upper}/etc/new", "w") as stream:
        stream.write("1")
    os.link(f"{upper}/etc/new", f"{upper}/etc/twin")
    os.mknod(f"{upper}/home", 0o020000, 0)
    os.mkdir(f"{upper}/var")
    os.setxattr(f"{upper}/var", "trusted.overlay.opaque", b"y")
    copied, files = asyncio.run(take())
    assert copied == [".wh.home", "etc", "etc/new", "etc/twin", "var", "var/.wh..wh..opq"]
    assert ("trusted.overlay.opaque", b"y") in files[b"var"][6]
    store.collect()
    moved, files = asyncio.run(take(move=True))
    assert moved == copied and b"etc/new" in files and not os.path.exists(upper)


def test_holes_of_a_file_stay_holes_in_its_layer(engine, tmp_path):
    """A layer of a sparse file is its whole tar by its digest, and takes the room of its data alone."""
    store, tree = engine.images.store, tmp_path / "tree"
    tree.mkdir()
    size, marks = (200 << 20) + 777, {0: b"first", (100 << 20) + 3: b"middle" * 1000, 150 << 20: bytes(1 << 20) + b"after zeros"}
    with open(tree / "sparse", "wb") as file:
        file.truncate(size)
        for at, data in marks.items():
            os.pwrite(file.fileno(), data, at)

    async def packed():
        with store.content.lease() as lease:
            return await pack(store, str(tree), lease)

    digest = asyncio.run(packed()).digest
    with open(store.content.open(digest), "rb") as blob:
        assert hashlib.file_digest(blob, "sha256").hexdigest() == digest.removeprefix("sha256:")
        assert os.fstat(blob.fileno()).st_blocks << 9 < 4 << 20
    with open(store.content.open(digest), "rb") as blob, tarfile.open(fileobj=blob, mode="r:") as tar:
        read = tar.extractfile("sparse")
        assert read.seek(0, os.SEEK_END) == size
        read.seek(0)
        with open(tree / "sparse", "rb") as file:
            while data := file.read(1 << 20):
                assert read.read(1 << 20) == data


def test_what_is_leased_is_not_collected(engine):
    store = engine.images.store
    data = layer([entry("x", b"1")])

    async def hold():
        with store.content.lease() as lease:
            digest = store.content.add(data)
            lease.add(digest)
            store.collect()
            assert store.content.has(digest)
            await store.ensure_layers([digest], [digest], lease)
            store.collect()
            assert digest in store.layers and os.path.isdir(store.snapshots.path(store.layers[digest].snapshot))
            return digest

    digest = asyncio.run(hold())
    store.collect()
    assert digest not in store.layers and not store.content.has(digest)


def test_one_layer_asked_for_by_many_is_unpacked_once(engine):
    store = engine.images.store
    digest = store.content.add(layer([entry("x", b"1")]))
    staged = []
    stage, store.snapshots.stage = store.snapshots.stage, lambda: staged.append(1) or stage()

    async def all_at_once():
        with store.content.lease() as lease:
            await asyncio.gather(*(store.ensure_layers([digest], [digest], lease) for _ in range(20)))

    asyncio.run(all_at_once())
    assert len(staged) == 1


KILLED = UNDERTAKER + """
import asyncio, os, sys, threading, time
sys.path[:0] = {path!r}
from image_fixture import SmallEngine, pieces
engine = SmallEngine({root!r})
threading.Timer({delay}, lambda: os.kill(os.getpid(), 9)).start()
asyncio.run(engine.images.load_archive(pieces({archive!r})))
time.sleep(5)
"""


@pytest.mark.parametrize("delay", [0.005, 0.03, 0.06, 0.09, 0.15, 0.3])
def test_a_load_killed_anywhere_leaves_nothing(tmp_path, delay):
    root = f"/var/tmp/corten-test-killed-{os.getpid()}-{delay}"
    os.makedirs(root)
    archive = str(tmp_path / "a.tar")
    files = [layer([folder(f"d{i}"), *(entry(f"d{i}/{k}", bytes(3000)) for k in range(1500))]) for i in range(4)]
    image_id = docker_archive(archive, files, ["killed:1"])
    script = KILLED.format(path=[os.path.dirname(os.path.dirname(__file__)), *sys.path[1:]], root=root, delay=delay, archive=archive)
    try:
        done = subprocess.run([sys.executable, "-c", script], capture_output=True, timeout=60, cwd="/")
        assert done.returncode == -signal.SIGKILL, done.stderr
        engine = SmallEngine(root)
        store = engine.images.store
        store.snapshots.flush()
        whole = image_id in store.images
        assert len(store.layers) == (4 if whole else 0)
        assert len(store.content.all()) == (5 if whole else 0) and os.listdir(f"{store.content.root}/ingest") == []
        on_disk = {name for name in os.listdir(store.snapshots.root) if not name.startswith("host-")}
        assert on_disk == {"empty", "regions", *(layer.snapshot for layer in store.layers.values())}
        assert not any(os.listdir(f"{store.snapshots.root}/regions/{region}") for region in os.listdir(f"{store.snapshots.root}/regions"))
        load(engine, archive)
        assert engine.images.find("killed:1").id == image_id
        engine.close()
    finally:
        subprocess.run(["rm", "-rf", root], check=True)


DOCKERD = os.environ.get("DOCKERD_SOCKET", "")


@pytest.mark.skipif(not DOCKERD or not os.path.exists(DOCKERD), reason="machine: DOCKERD_SOCKET names no dockerd to compare with")
def test_inspect_history_and_list_are_dockerds(engine, tmp_path):
    name = f"corten-diff-{os.getpid()}:1"
    config = {"Env": ["A=b"], "Cmd": ["sh"], "Labels": {"l": "m"}, "ExposedPorts": {"80/tcp": {}}, "Volumes": {"/v": {}},
              "User": "5", "WorkingDir": "/w", "StopSignal": "SIGINT", "Entrypoint": ["/e"]}
    docker_archive(tmp_path / "a.tar", [busybox_layer(), layer([folder("d"), entry("d/x", b"123")])], [name], config)
    load(engine, tmp_path / "a.tar")

    def ask(path, method="GET", body=None):
        command = ["curl", "-sS", "-X", method, "--unix-socket", DOCKERD, f"http://d{path}"]
        if body:
            command += ["-H", "Content-Type: application/x-tar", "--data-binary", f"@{body}"]
        return _run(*command)

    ask("/images/load?quiet=1", "POST", tmp_path / "a.tar")
    try:
        theirs, ours = json.loads(ask(f"/images/{name}/json")), engine.images.inspect(name)
        theirs["GraphDriver"] = ours["GraphDriver"] = None
        assert ours == theirs
        assert engine.images.history(name) == json.loads(ask(f"/images/{name}/history"))
        (summary,) = engine.images.list(filters={"reference": [name]})
        (other,) = json.loads(ask(f"/images/json?filters=%7B%22reference%22%3A%5B%22{name}%22%5D%7D"))
        assert summary == other
    finally:
        ask(f"/images/{name}?force=1", "DELETE")


def test_events_pass_the_image_filter(engine, tmp_path):
    busybox_archive(tmp_path / "b.tar", ["a:1"])
    load(engine, tmp_path / "b.tar")
    engine.images.tag("a:1", "z", "9")
    assert any(matches(event, {"type": ["image"], "image": ["z:9"]}) for event in engine.events._kept)
