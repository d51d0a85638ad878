"""pull -a, push -a and --platform by both command lines, against a registry: every tag, every platform."""

import gzip
import io
import json
import os
import re
import tarfile

import pytest
from images import busybox_layer, entry, layer
from registry_server import digest_of, needs_registry, running_registry
from registry_server import layer as small

pytestmark = needs_registry
HERE = {"x86_64": "amd64", "aarch64": "arm64"}[os.uname().machine]
OTHER = "arm64" if HERE == "amd64" else "amd64"
MANIFEST = "application/vnd.oci.image.manifest.v1+json"
INDEX = "application/vnd.oci.image.index.v1+json"


@pytest.fixture(scope="module")
def registry():
    with running_registry() as server:
        yield server


@pytest.fixture
def name(client, registry):
    """A repository that only this test uses; its images and containers are removed after."""
    found = f"{registry.host}/by/{client.name}"
    yield found
    client("rm", "-f", *(client("ps", "-aq").split() or ["none"]))
    client.run("rmi", "-f", *client("images", "-q", f"{registry.host}/*/*").split(), "none")


def test_every_tag(client, registry, name):
    repository = name.partition("/")[2]
    for tag in ("one", "two", "three"):
        registry.put_image(repository, tag, [small({tag: tag.encode()})], {"Labels": {"tag": tag}})
    out = client("pull", "-a", name).splitlines()
    assert out[-1] == name and f"Status: Downloaded newer image for {name}" in out[-2]
    assert sorted(line for line in out if line.endswith(f"Pulling from {repository}")) == [
        f"{tag}: Pulling from {repository}" for tag in ("one", "three", "two")]
    rows = client("images", "--format", "{{.Tag}}", name).split()
    assert sorted(rows) == ["one", "three", "two"]
    assert client("inspect", "-f", "{{.Config.Labels.tag}}", f"{name}:three") == "three"
    assert client("pull", "-q", "--all-tags", name) == name
    client("pull", "-a", f"{name}:one", fails="tag can't be used with --all-tags/-a")
    client("tag", f"{name}:one", f"{name}-again:a")
    client("tag", f"{name}:two", f"{name}-again:b")
    pushed = client("push", "-a", f"{name}-again")
    assert [line.partition(":")[0] for line in pushed.splitlines() if " digest: " in line] == ["a", "b"]
    for tag, again in (("one", "a"), ("two", "b")):
        assert registry.get_manifest(repository, tag)[1] == registry.get_manifest(f"{repository}-again", again)[1]


def archive(path):
    """An OCI layout of one index of two platforms, both of which this machine can run."""
    members, entries = {}, []

    def blob(data):
        members[f"blobs/sha256/{digest_of(data)[7:]}"] = data
        return {"digest": digest_of(data), "size": len(data)}

    for architecture in (OTHER, HERE):
        layers = [busybox_layer(), layer([entry("arch", architecture.encode())])]
        config = {"architecture": architecture, "os": "linux", "config": {"Cmd": ["cat", "/arch"]},
                  "history": [{"created_by": f"for {architecture}"}, {"created_by": "arch"}],
                  "rootfs": {"type": "layers", "diff_ids": [digest_of(data) for data in layers]}}
        manifest = {"schemaVersion": 2, "mediaType": MANIFEST,
                    "config": {"mediaType": "application/vnd.oci.image.config.v1+json", **blob(json.dumps(config).encode())},
                    "layers": [{"mediaType": "application/vnd.oci.image.layer.v1.tar+gzip", **blob(gzip.compress(data, 1))}
                               for data in layers]}
        entries.append({"mediaType": MANIFEST, **blob(json.dumps(manifest).encode()),
                        "platform": {"os": "linux", "architecture": architecture}})
    index = blob(json.dumps({"schemaVersion": 2, "mediaType": INDEX, "manifests": entries}).encode())
    top = {"mediaType": INDEX, **index, "annotations": {"io.containerd.image.name": "docker.io/library/both:1"}}
    members["index.json"] = json.dumps({"schemaVersion": 2, "manifests": [top]}).encode()
    members["oci-layout"] = b'{"imageLayoutVersion": "1.0.0"}'
    with tarfile.open(path, "w") as tar:
        for member, data in members.items():
            info = tarfile.TarInfo(member)
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
    return index["digest"], [entry["digest"] for entry in entries]


@pytest.fixture
def both(client, name, tmp_path):
    """(digest of the index, of the other platform's manifest, of ours) of the image `name:1`."""
    index, (other, own) = archive(tmp_path / "both.tar")
    assert client("load", "-q", "-i", tmp_path / "both.tar") == "Loaded image: both:1"
    client("tag", "both:1", f"{name}:1")
    client("rmi", "both:1")
    return index, other, own


def test_every_platform_of_an_image_is_reached(client, name, both):
    assert client("run", "--rm", f"{name}:1") == HERE
    assert client("run", "--rm", "--platform", f"linux/{OTHER}", "--pull", "never", f"{name}:1") == OTHER
    made = client("create", "--platform", f"linux/{OTHER}", "--name", f"p-{client.name}", f"{name}:1")
    assert client("start", "-a", made) == OTHER
    assert client("ps", "-a", "--format", "{{.Image}}", "--filter", f"ancestor={name}:1") == f"{name}:1"
    described = json.loads(client("inspect", "-f", "{{json .ImageManifestDescriptor}}", made))
    assert (described["digest"], described["platform"]["architecture"]) == (both[1], OTHER)
    for wanted in (HERE, OTHER):
        words = ("--platform", f"linux/{wanted}", f"{name}:1")
        assert client("image", "inspect", "-f", "{{.Architecture}}", *words) == wanted
        assert client("history", "--no-trunc", "--format", "{{.CreatedBy}}", *words).splitlines()[-1] == f"for {wanted}"
    client("image", "inspect", "--platform", "linux/s390x", f"{name}:1", fails="does not provide the specified platform")
    client("rmi", f"{name}:1", fails="container .* is using its referenced image")
    assert len(client("images", "-q", "-a", name).split()) == 1, "one image to the user"
    client("rm", made)
    client("rmi", "--platform", f"linux/{OTHER}", f"{name}:1", fails="Content will be removed from all images")
    assert client("rmi", "-f", "--platform", f"linux/{OTHER}", f"{name}:1") == f"Deleted: {both[1]}"
    client("run", "--pull", "never", "--platform", f"linux/{OTHER}", f"{name}:1", code=125, fails="does not provide")


def test_a_tree_of_platforms(client, name, both):
    long, name = name, f"tree-{client.name}"  # as long a name as eighty columns have room for
    client("tag", f"{long}:1", f"{name}:1")
    client("tag", f"{long}:1", f"{name}:again")
    made = client("create", "--platform", f"linux/{OTHER}", f"{name}:1")
    warning, legend, blank, header, *rows = client("images", "--tree", name).split("\n")
    assert warning.startswith("WARNING: This is an experimental feature.") and not blank
    assert legend == "Info ->  U In Use ".rjust(80)
    columns = re.sub(r"\x1b\[\d+m", "", header)
    assert columns.split("   ")[0].strip() == "IMAGE" and columns.endswith("ID             DISK USAGE   CONTENT SIZE   EXTRA")
    width = max(len(f"{name}:again"), len(f"linux/{HERE}") + 7, len(f"linux/{OTHER}") + 7)
    assert columns.index("ID") == width + 3
    first, image, other, own, *rest = rows
    assert first == f"{name}:again" and rest in ([""], [])
    size = r" +[\d.]+k?M?B"
    assert re.fullmatch(rf"{name}:1 +   [0-9a-f]{{12}}   {size}   {size}   U    ", image), image
    assert re.fullmatch(rf"├─ linux/{OTHER} +{both[1][7:19]}   {size}   {size}   U    ", other), other
    assert re.fullmatch(rf"└─ linux/{HERE} +{both[2][7:19]}   {size}   {size} +", own), own
    assert [len(row) for row in (image, other, own)] == [width + 3 + 12 + 3 + 10 + 3 + 12 + 3 + 5] * 3
    client("rm", made)
    client("rmi", f"{name}:1", f"{name}:again")
    client("images", "--tree", "-q", fails="--quiet is not yet supported with --tree")
    client("images", "--tree", "--digests", fails="--show-digest is not yet supported with --tree")


def test_push_of_every_platform_and_of_one(client, registry, name, both):
    repository = name.partition("/")[2]
    assert client("push", f"{name}:1").splitlines()[-1].startswith(f"1: digest: {both[0]} ")
    assert [one["digest"] for one in registry.get_manifest(repository, "1")[0]["manifests"]] == list(both[1:])
    done = client.run("push", "--platform", f"linux/{OTHER}", f"{name}:1")
    assert done.returncode == 0 and f"1: digest: {both[1]} " in done.stdout
    assert "Using --platform pushes only the specified platform manifest of a multi-platform image index." in done.stdout
    client("push", "--platform", "linux/s390x", f"{name}:1", fails="does not provide the specified platform")
    client("rmi", "-f", "--platform", f"linux/{OTHER}", f"{name}:1")
    done = client.run("push", f"{name}:1")
    assert done.returncode == 0 and f"1: digest: {both[2]} " in done.stdout
    assert "Not all multiplatform-content is present and only the available single-platform image was pushed" in done.stdout
