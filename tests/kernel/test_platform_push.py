"""Images of several platforms at a registry: the whole index goes there, or the one asked for, or the one that is whole."""

import asyncio
import io
import json
import os
import subprocess
import tarfile

import pytest
from distribution_fixture import own_distribution, statuses
from image_fixture import one
from registry_server import needs_registry, running_registry
from test_image_archives import HERE, OTHER, layout, tar_of
from test_image_platforms import _docker_archive_of_two

from corten.base.errors import Conflict, NotFound
from corten.image.load import load
from corten.oci.platform import Platform

pytestmark = [needs_registry, pytest.mark.skipif(os.geteuid() != 0, reason="unpacking needs root")]


@pytest.fixture(scope="module")
def registry():
    with running_registry() as server:
        yield server


@pytest.fixture
def local():
    with own_distribution() as found:
        yield found
        assert not found.left_behind()


def members_of(data):
    with tarfile.open(fileobj=io.BytesIO(data)) as tar:
        return {info.name: tar.extractfile(info).read() for info in tar if info.isreg()}


def documents(members):
    """(digest of the index, the index, platform -> digest of its manifest) of `layout`."""
    (top,) = json.loads(members["index.json"])["manifests"]
    index = json.loads(members[f"blobs/sha256/{top['digest'][7:]}"])
    return top["digest"], index, {entry["platform"]["architecture"]: entry["digest"] for entry in index["manifests"][:2]}


def loaded(local, registry, repository, data):
    """An archive's image under a name at the registry."""
    (found,) = asyncio.run(load(local.store, one(data)))
    name = f"{registry.host}/{repository}"
    local.store.tag(found.image.id, f"{name}:1")
    return name


def architecture(registry, name, wanted):
    done = subprocess.run(["skopeo", "inspect", "--tls-verify=false", "--override-arch", wanted, f"docker://{name}:1"],
                          capture_output=True, text=True, timeout=60, check=True)
    return json.loads(done.stdout)["Architecture"]


def test_the_whole_index_goes_there(registry, local):
    members = members_of(layout()[0])
    top, index, manifests = documents(members)
    name = loaded(local, registry, "whole/multi", tar_of(members))
    messages, error = local.push(name, "1")
    assert error is None, error
    assert statuses(messages)[0] == f"The push refers to repository [{name}]"
    assert statuses(messages)[-1].startswith(f"1: digest: {top} size: ")
    assert statuses(messages).count("Pushed") == 5, "two configs, two layers, and the entry of no known kind"
    assert registry.get_manifest("whole/multi", "1")[0] == index
    for digest in manifests.values():
        assert registry.get_manifest("whole/multi", digest)[1] == members[f"blobs/sha256/{digest[7:]}"]
    assert [architecture(registry, name, wanted) for wanted in (HERE, OTHER)] == [HERE, OTHER]
    image = local.store.by_name(f"{name}@{top}")
    assert image is local.store.by_name(f"{name}:1"), "the index's digest is a name of it now"
    again, error = local.push(name, "1")
    assert error is None and statuses(again).count("Layer already exists") == 5
    local.store.tag(image.id, f"{registry.host}/whole/other:1")
    mounted, error = local.push(f"{registry.host}/whole/other", "1")
    assert error is None and "Mounted from whole/multi" in statuses(mounted), statuses(mounted)


def test_a_pull_of_what_went_there(registry, local):
    data, ids = layout()
    name = loaded(local, registry, "back/multi", data)
    assert local.push(name, "1")[1] is None
    with own_distribution() as there:
        for wanted in (OTHER, HERE):
            _, error = there.pull(name, "1", f"linux/{wanted}")
            assert error is None, error
            assert there.store.by_name(f"{name}:1").id == ids[wanted]


def test_one_platform_goes_alone(registry, local):
    data, ids = layout()
    _, _, manifests = documents(members_of(data))
    name = loaded(local, registry, "one/multi", data)
    for wanted in (OTHER, HERE):
        messages, error = local.push(name, "1", platform=Platform("linux", wanted))
        assert error is None, error
        assert statuses(messages)[-1].startswith(f"1: digest: {manifests[wanted]} ")
        document, _ = registry.get_manifest("one/multi", "1")
        assert document["config"]["digest"] == ids[wanted]
        assert architecture(registry, name, wanted) == wanted
    _, error = local.push(name, "1", platform=Platform("linux", "s390x"))
    assert isinstance(error, NotFound)
    assert str(error) == f"image with reference {name}:1 was found but does not provide the specified platform (linux/s390x)"


def with_a_third(members, whole):
    """The layout with an entry whose manifest is not there; `whole`: the architectures that stay whole."""
    (top,) = json.loads(members["index.json"])["manifests"]
    index = json.loads(members.pop(f"blobs/sha256/{top['digest'][7:]}"))
    gone = {**index["manifests"][0], "digest": "sha256:" + "5" * 64, "platform": {"os": "linux", "architecture": "riscv64"}}
    index["manifests"] = [*index["manifests"][:2], gone]
    for entry in index["manifests"][:2]:
        if entry["platform"]["architecture"] not in whole:
            entry["platform"] = {"os": "linux", "architecture": "s390x"}
    from test_image_archives import blob

    described = {**top, **blob(members, index)}
    members["index.json"] = json.dumps({"schemaVersion": 2, "manifests": [described]}).encode()
    return described["digest"]


def test_parts_that_are_not_here(registry, local):
    members = members_of(layout()[0])
    top = with_a_third(members, (HERE, OTHER))
    _, _, manifests = documents(members)
    name = loaded(local, registry, "part/multi", tar_of(members))
    messages, error = local.push(name, "1")
    assert error is None, error
    assert statuses(messages)[-1].startswith(f"1: digest: {manifests[HERE]} ")
    (note,) = [message["aux"] for message in messages if "manifestPushedInsteadOfIndex" in message.get("aux", ())]
    assert note["originalIndex"]["digest"] == top and note["selectedManifest"]["digest"] == manifests[HERE]
    messages, error = local.push(name, "1", platform=Platform("linux", OTHER))
    assert error is None and statuses(messages)[-1].startswith(f"1: digest: {manifests[OTHER]} ")


def test_parts_and_none_for_this_machine(registry, local):
    data, ids = layout()
    members = members_of(data)
    config = json.loads(members[f"blobs/sha256/{ids[HERE][7:]}"])
    assert config["architecture"] == HERE
    with_a_third(members, (OTHER,))
    name = loaded(local, registry, "none/multi", tar_of(members))
    if local.store.by_name(f"{name}:1").id == ids[HERE]:
        pytest.fail("the entry's own word counts, not the config's")
    _, error = local.push(name, "1")
    assert isinstance(error, Conflict)
    assert str(error) == "multiple matching manifests found but no specific platform requested"


@pytest.mark.skipif("DOCKERD_SOCKET" not in os.environ, reason="machine: DOCKERD_SOCKET names no dockerd to compare with")
def test_dockerd_pulls_each_platform_of_what_we_push(registry, local):
    name = loaded(local, registry, "dockerd/multi", layout()[0])
    assert local.push(name, "1")[1] is None
    docker = ["docker", "-H", f"unix://{os.environ['DOCKERD_SOCKET']}"]
    for wanted in (OTHER, HERE):
        subprocess.run([*docker, "pull", "--platform", f"linux/{wanted}", f"{name}:1"], check=True, capture_output=True, timeout=60)
        shown = subprocess.run([*docker, "image", "inspect", "--platform", f"linux/{wanted}", "-f", "{{.Architecture}}", f"{name}:1"], check=True, capture_output=True, text=True)
        subprocess.run([*docker, "rmi", f"{name}:1"], check=True, capture_output=True)
        assert shown.stdout.strip() == wanted


def test_a_docker_archive_of_two_platforms(registry, local, tmp_path):
    """Its index was made here; without one of its platforms the manifest that was made goes there."""
    data, ids = _docker_archive_of_two(tmp_path)
    name = loaded(local, registry, "archive/two", data)
    messages, error = local.push(name, "1")
    assert error is None, error
    manifests = registry.get_manifest("archive/two", "1")[0]["manifests"]
    assert sorted(entry["platform"]["architecture"] for entry in manifests) == sorted((HERE, OTHER))
    image = local.store.by_name(f"{name}:1")
    local.store.content.remove(ids[OTHER])
    messages, error = local.push(name, "1")
    assert error is None, error
    assert any("manifestPushedInsteadOfIndex" in message.get("aux", ()) for message in messages)
    assert registry.get_manifest("archive/two", "1")[0]["config"]["digest"] == image.id == ids[HERE]
