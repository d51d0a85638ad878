"""Pull and push against Debian's docker-registry: messages, names, events, what comes out at the other end."""

import os
import shutil
import subprocess

import pytest
from distribution_fixture import built, own_distribution, statuses
from images import busybox_archive
from registry_server import (
    MANIFEST_LIST,
    MANIFEST_V2,
    OCI_INDEX,
    OCI_MANIFEST,
    digest_of,
    layer,
    needs_registry,
    running_registry,
)

from corten.base.errors import Forbidden, Internal, InvalidArgument, NotFound, Unauthorized
from corten.registry.auth import Credentials

pytestmark = [needs_registry, pytest.mark.skipif(os.geteuid() != 0, reason="unpacking needs root")]

ONE, TWO = layer({"one": b"1"}), layer({"two": os.urandom(300_000)})
ANN = Credentials("ann", "secret")


@pytest.fixture(scope="module")
def registry():
    with running_registry() as server:
        server.put_image("t/x", "v1", [ONE, TWO], {"Cmd": ["one"], "Labels": {"a": "b"}})
        yield server


@pytest.fixture(scope="module")
def guarded():
    with running_registry(users={"ann": "secret"}) as server:
        server.put_image("t/x", "v1", [ONE], {})
        yield server


@pytest.fixture
def local():
    with own_distribution() as found:
        yield found
        assert not found.left_behind()


def short(tar_gz_digest):
    return tar_gz_digest[7:19]


def events(local):
    return [(event["Action"], event["Actor"]["ID"], event["Actor"]["Attributes"]) for event in local.events._kept]


def test_a_pull_tells_what_docker_tells(registry, local):
    document, raw = registry.get_manifest("t/x", "v1")
    messages, error = local.pull(f"{registry.host}/t/x", "v1")
    assert error is None
    first, last = (short(found["digest"]) for found in document["layers"])
    assert messages[0] == {"status": "Pulling from t/x", "id": "v1"}
    assert messages[1:3] == [{"status": "Pulling fs layer", "progressDetail": {}, "id": name} for name in (first, last)]
    for name in (first, last):
        told = [message["status"] for message in messages if message.get("id") == name]
        told = [text for at, text in enumerate(told) if not at or told[at - 1] != text]
        assert told == [
            "Pulling fs layer", "Downloading", "Verifying Checksum", "Download complete", "Extracting", "Pull complete"
        ]
    assert messages[-2:] == [
        {"status": f"Digest: {digest_of(raw)}"},
        {"status": f"Status: Downloaded newer image for {registry.host}/t/x:v1"},
    ]
    image = local.store.by_name(f"{registry.host}/t/x:v1")
    assert image.id == document["config"]["digest"]
    assert image.digests == [f"{registry.host}/t/x@{digest_of(raw)}"]
    assert events(local) == [("pull", f"{registry.host}/t/x:v1", {"name": f"{registry.host}/t/x", "a": "b"})]
    again, error = local.pull(f"{registry.host}/t/x", "v1")
    assert error is None
    assert statuses(again) == [
        "Pulling from t/x", f"Digest: {digest_of(raw)}", f"Status: Image is up to date for {registry.host}/t/x:v1"
    ]


def test_a_second_image_shares_layers_and_says_so(registry, local):
    registry.put_image("t/x", "v2", [ONE, layer({"three": b"3"})], {})
    local.pull(f"{registry.host}/t/x", "v1")
    messages, error = local.pull(f"{registry.host}/t/x", "v2")
    assert error is None
    assert statuses(messages).count("Already exists") == 1
    assert statuses(messages).count("Pull complete") == 1


def test_a_name_without_tag_means_every_tag(registry, local):
    registry.put_image("t/many", "a", [ONE], {})
    registry.put_image("t/many", "b", [TWO], {})
    messages, error = local.pull(f"{registry.host}/t/many")
    assert error is None
    assert sorted(name for image in local.store.images.values() for name in image.names) == [
        f"{registry.host}/t/many:a", f"{registry.host}/t/many:b"
    ]
    assert statuses(messages)[-1] == f"Status: Downloaded newer image for {registry.host}/t/many"


def test_a_digest_pins(registry, local):
    _, raw = registry.get_manifest("t/x", "v1")
    messages, error = local.pull(f"{registry.host}/t/x:ignored@{digest_of(raw)}")
    assert error is None
    assert [image.names for image in local.store.images.values()] == [[]]
    assert statuses(messages)[-1].endswith(f"t/x:ignored@{digest_of(raw)}")


@pytest.mark.parametrize(("index_type", "oci"), [(MANIFEST_LIST, False), (OCI_INDEX, True)])
def test_an_index_gives_the_platform_asked_for(registry, local, index_type, oci):
    entries = []
    for architecture, variant in (("arm64", "v8"), ("amd64", "")):
        digest = registry.put_image("t/multi", architecture, [layer({architecture: b""})], {}, oci=oci, architecture=architecture)
        size = len(registry.get_manifest("t/multi", digest)[1])
        platform = {"os": "linux", "architecture": architecture, **({"variant": variant} if variant else {})}
        entries.append({"mediaType": OCI_MANIFEST if oci else MANIFEST_V2, "digest": digest, "size": size, "platform": platform})
    top = registry.put_manifest(
        "t/multi", "all", {"schemaVersion": 2, "mediaType": index_type, "manifests": entries}, index_type
    )
    _, error = local.pull(f"{registry.host}/t/multi", "all", "linux/arm64")
    assert error is None, error
    image = local.store.by_name(f"{registry.host}/t/multi:all")
    assert image.config["architecture"] == "arm64"
    assert image.digests == [f"{registry.host}/t/multi@{top}"]
    _, error = local.pull(f"{registry.host}/t/multi", "all", "linux/s390x")
    assert isinstance(error, NotFound)
    assert str(error) == "no matching manifest for linux/s390x in the manifest list entries"
    inspected = local.run(lambda d: d.inspect(f"{registry.host}/t/multi:all", Credentials()))
    assert inspected["Descriptor"]["digest"] == top
    assert inspected["Platforms"] == [entry["platform"] for entry in entries]


def test_another_platform_than_asked_for_is_a_warning(registry, local):
    messages, error = local.pull(f"{registry.host}/t/x", "v1", "linux/arm64")
    assert error is None
    assert any("does not match the specified platform (linux/arm64)" in text for text in statuses(messages))


@pytest.mark.parametrize(("name", "tag", "kind", "text"), [
    ("t/x", "no", NotFound, "manifest for {host}/t/x:no not found: manifest unknown: manifest unknown"),
    ("t/no", "no", NotFound, "manifest for {host}/t/no:no not found: manifest unknown: manifest unknown"),
    ("T/x", "v1", InvalidArgument, "invalid reference format: repository name (T/x) must be lowercase"),
    ("t/x", "a/b", InvalidArgument, "invalid tag format"),
])
def test_what_is_not_there(registry, local, name, tag, kind, text):
    messages, error = local.pull(f"{registry.host}/{name}", tag)
    assert not messages
    assert isinstance(error, kind)
    assert str(error) == text.format(host=registry.host)


# --- logins


def test_logins(guarded, local):
    host = guarded.host
    messages, error = local.pull(f"{host}/t/x", "v1")
    assert (messages, str(error)) == ([], f'Head "http://{host}/v2/t/x/manifests/v1": no basic auth credentials')
    _, error = local.pull(f"{host}/t/x", "v1", credentials=Credentials("ann", "wrong"))
    assert isinstance(error, Unauthorized)
    assert str(error) == "unauthorized: authentication required"
    _, error = local.pull(f"{host}/t/x", "v1", credentials=ANN)
    assert error is None
    image = local.store.by_name(f"{host}/t/x:v1")
    local.store.tag(image.id, f"{host}/t/y:v1")
    _, error = local.push(f"{host}/t/y", "v1")
    assert str(error) == "no basic auth credentials"
    _, error = local.push(f"{host}/t/y", "v1", ANN)
    assert error is None
    answer = local.run(lambda d: d.login(host, ANN))
    assert answer == {"IdentityToken": "", "Status": "Login Succeeded"}
    with pytest.raises(Internal, match=f"login attempt to http://{host}/v2/ failed with status: 401 Unauthorized"):
        local.run(lambda d: d.login(f"http://{host}/v1/", Credentials("ann", "wrong")))


# --- push


def test_a_built_image_is_pushed_compressed_once(local):
    with running_registry() as registry:
        name = f"{registry.host}/made/here"
        image = built(local, f"{name}:v1", ONE, TWO)
        messages, error = local.push(name, "v1")
        assert error is None, error
        document, raw = registry.get_manifest("made/here", "v1")
        assert document["config"]["digest"] == image.id
        assert all(found["mediaType"].endswith("tar.gzip") for found in document["layers"])
        ids = [digest_of(tar)[7:19] for tar in (TWO, ONE)]
        assert messages[0] == {"status": f"The push refers to repository [{name}]"}
        assert messages[1:3] == [{"status": "Preparing", "progressDetail": {}, "id": at} for at in ids]
        for at in ids:
            assert [m["status"] for m in messages if m.get("id") == at][-1] == "Pushed"
        assert messages[-2:] == [
            {"status": f"v1: digest: {digest_of(raw)} size: {len(raw)}"},
            {"progressDetail": {}, "aux": {"Tag": "v1", "Digest": digest_of(raw), "Size": len(raw)}},
        ]
        assert image.digests == [f"{name}@{digest_of(raw)}"]
        assert events(local)[-1] == ("push", f"{name}:v1", {"name": name})
        again, error = local.push(name, "v1")
        assert error is None
        assert statuses(again).count("Layer already exists") == 2
        assert registry.get_manifest("made/here", "v1")[1] == raw
        with own_distribution() as other:
            _, error = other.pull(name, "v1")
            assert error is None
            assert list(other.store.images) == [image.id]


def test_blobs_are_mounted_from_another_repository(registry, local):
    local.pull(f"{registry.host}/t/x", "v1")
    image = local.store.by_name(f"{registry.host}/t/x:v1")
    local.store.tag(image.id, f"{registry.host}/t/mounted:v9")
    messages, error = local.push(f"{registry.host}/t/mounted", "")
    assert error is None
    assert statuses(messages).count("Mounted from t/x") == 2
    assert registry.get_manifest("t/mounted", "v9")[1] == registry.get_manifest("t/x", "v1")[1]


def test_a_push_of_what_is_not_here(registry, local):
    messages, error = local.push(f"{registry.host}/t/none", "v1")
    assert messages == [{"status": f"The push refers to repository [{registry.host}/t/none]"}]
    assert str(error) == f"An image does not exist locally with the tag: {registry.host}/t/none"
    local.pull(f"{registry.host}/t/x", "v1")
    _, error = local.push(f"{registry.host}/t/x", "v8")
    assert str(error) == f"tag does not exist: {registry.host}/t/x:v8"
    _, error = local.push(f"{registry.host}/t/x@sha256:{'a' * 64}")
    assert str(error) == "cannot import digest reference"


def test_the_reserved_name_and_the_host_image(registry, local):
    from corten.image.host import add_host_image

    _, error = local.pull("scratch")
    assert isinstance(error, Forbidden)
    assert str(error) == "'scratch' is a reserved name"
    image = add_host_image(local.store)
    local.store.names[f"{registry.host}/host:latest"] = image.id
    messages, error = local.push(f"{registry.host}/host", "latest")
    assert not messages
    assert isinstance(error, Forbidden)
    assert "cannot be pushed" in str(error)
    messages, error = local.pull("host", "latest")  # never asked of a registry
    assert (statuses(messages), error) == (["Status: Image is up to date for host:latest"], None)


@pytest.mark.skipif(shutil.which("skopeo") is None, reason="needs skopeo")
def test_skopeo_and_we_read_each_others_images(local, tmp_path):
    with running_registry() as registry:
        copy = ["skopeo", "--insecure-policy", "copy", "--src-tls-verify=false", "--dest-tls-verify=false"]
        busybox_archive(str(tmp_path / "busybox.tar"), names=["busybox:latest"])
        theirs = f"{registry.host}/by/skopeo"
        subprocess.run(
            [*copy, "--format", "oci", "--dest-compress-format", "zstd", f"docker-archive:{tmp_path}/busybox.tar", f"docker://{theirs}:z"],
            check=True, capture_output=True, timeout=60,
        )
        _, error = local.pull(theirs, "z")
        assert error is None, error
        image = local.store.by_name(f"{theirs}:z")
        assert "zstd" in image.record.blobs[0].media_type
        local.store.tag(image.id, f"{registry.host}/by/us:z")
        _, error = local.push(f"{registry.host}/by/us", "z")
        assert error is None, error
        subprocess.run([*copy, f"docker://{registry.host}/by/us:z", f"oci:{tmp_path}/out:z"], check=True, capture_output=True, timeout=60)
        built(local, f"{registry.host}/by/build:v1", ONE, TWO)
        _, error = local.push(f"{registry.host}/by/build", "v1")
        assert error is None, error
        subprocess.run([*copy, f"docker://{registry.host}/by/build:v1", f"oci:{tmp_path}/out:b"], check=True, capture_output=True, timeout=60)
