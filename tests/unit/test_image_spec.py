"""Digests, manifests and configs as they come from strangers."""

import hashlib
import json

import pytest

from corten.base.errors import Error, InvalidArgument, Unsupported
from corten.oci.digest import digest_of, hex_of, is_digest
from corten.oci.image_spec import (
    DOCKER_CONFIG,
    DOCKER_LAYER_GZIP,
    DOCKER_MANIFEST,
    OCI_INDEX,
    chain_ids,
    parse_config,
    parse_index,
    parse_manifest,
)

D = "sha256:" + "a" * 64


@pytest.mark.parametrize("text", [
    "sha256:../../../etc/passwd", "sha256:" + "A" * 64, "sha256:" + "a" * 63, "sha512:" + "a" * 128, "a" * 64, "", None,
    "sha256:" + "a" * 63 + "\n", "sha256:" + "a" * 64 + "\n", "sha256:" + "١" * 64, 5, "sha256:/" + "a" * 63,
])
def test_only_whole_sha256_digests_pass(text):
    assert not is_digest(text)
    with pytest.raises(InvalidArgument):
        hex_of(text)


def test_chain_ids_are_the_specs():
    first, second = digest_of(b"1"), digest_of(b"2")
    assert chain_ids([first, second]) == [
        first, "sha256:" + hashlib.sha256(f"{first} {second}".encode()).hexdigest()]


def manifest(**changes):
    value = {"schemaVersion": 2, "mediaType": DOCKER_MANIFEST,
             "config": {"mediaType": DOCKER_CONFIG, "digest": D, "size": 1},
             "layers": [{"mediaType": DOCKER_LAYER_GZIP, "digest": D, "size": 1}], **changes}
    return json.dumps({key: item for key, item in value.items() if item is not None}).encode()


def test_a_manifest_reads():
    found = parse_manifest(manifest(), DOCKER_MANIFEST)
    assert (found.config.digest, found.layers[0].media_type) == (D, DOCKER_LAYER_GZIP)


@pytest.mark.parametrize("changes", [
    {"manifests": []}, {"schemaVersion": 1}, {"schemaVersion": "2"}, {"mediaType": OCI_INDEX}, {"layers": None},
    {"layers": [{"mediaType": DOCKER_LAYER_GZIP, "digest": "sha256:../x", "size": 1}]},
    {"layers": [{"mediaType": DOCKER_LAYER_GZIP, "digest": D, "size": -1}]},
    {"layers": [{"mediaType": DOCKER_LAYER_GZIP, "digest": D, "size": True}]},
    {"layers": [{"mediaType": DOCKER_LAYER_GZIP, "digest": D, "size": 1, "urls": ["http://x"]}]},
    {"config": {"mediaType": "application/vnd.oci.empty.v1+json", "digest": D, "size": 2}},
])
def test_ambiguous_and_odd_manifests_are_refused(changes):
    with pytest.raises(Error):
        parse_manifest(manifest(**changes), "")


def test_served_type_must_be_the_stated_one():
    with pytest.raises(InvalidArgument):
        parse_manifest(manifest(), "application/vnd.oci.image.manifest.v1+json")
    with pytest.raises(InvalidArgument):
        parse_manifest(b'{"schemaVersion": 2, "schemaVersion": 2}')
    with pytest.raises(InvalidArgument):
        parse_index(manifest())


def test_schema_one_is_named():
    with pytest.raises(Unsupported, match="schema 1"):
        parse_manifest(b'{"schemaVersion": 1, "fsLayers": []}')


@pytest.mark.parametrize("config", [
    {"Env": "A=b"}, {"Env": [1]}, {"Env": ["A=\0"]}, {"Cmd": [None]}, {"User": 5}, {"Labels": []}, {"Volumes": ["/a"]},
])
def test_malformed_configs_are_refused(config):
    with pytest.raises(InvalidArgument):
        parse_config(json.dumps({"rootfs": {"type": "layers", "diff_ids": []}, "config": config}).encode())


def test_missing_parts_of_a_config_are_made_whole():
    found = parse_config(b'{"rootfs": {"type": "layers"}, "config": null, "history": null}')
    assert found["rootfs"]["diff_ids"] == [] and found["config"] == {} and found["history"] == []
