"""A layer unpacked while it is still being downloaded: the same files as otherwise, and nothing when it turns out bad."""

import asyncio
import bz2
import contextlib
import gzip
import json
import os

import pytest
import zstandard
from distribution_fixture import own_distribution, statuses, told
from fault_proxy import Fault, fault_proxy
from registry_server import OCI_MANIFEST, digest_of, layer, needs_registry, running_registry

from corten.base.errors import InvalidArgument
from corten.image.arrival import Arrival
from corten.registry.auth import Credentials
from corten.registry.errors import Unreachable

pytestmark = [needs_registry, pytest.mark.skipif(os.geteuid() != 0, reason="machine: unpacking needs root")]

CONTENT = os.urandom(3_000_000)
TAR = layer({"big": CONTENT, "last": b"z"})
SMALL = layer({"small": b"s"})
PACKERS = {
    "gzip": (lambda data: gzip.compress(data, 1, mtime=0), "+gzip"),
    "zstd": (zstandard.ZstdCompressor().compress, "+zstd"),
    "plain": (bytes, ""),
    "bzip2": (bz2.compress, "+gzip"),  # the bytes decide, and these can only be read whole
}


def put(registry, kind, diff_id=None):
    pack, suffix = PACKERS[kind]
    blob = pack(TAR)
    config = json.dumps({
        "architecture": "amd64", "os": "linux", "config": {},
        "rootfs": {"type": "layers", "diff_ids": [diff_id or digest_of(TAR), digest_of(SMALL)]},
    }).encode()
    layers = [
        {"mediaType": f"application/vnd.oci.image.layer.v1.tar{end}", "size": len(data), "digest": registry.put_blob("t/x", data)}
        for data, end in ((blob, suffix), (SMALL, ""))
    ]
    registry.put_manifest("t/x", kind, {
        "schemaVersion": 2, "mediaType": OCI_MANIFEST, "layers": layers,
        "config": {"mediaType": "application/vnd.oci.image.config.v1+json", "size": len(config), "digest": registry.put_blob("t/x", config)},
    }, OCI_MANIFEST)
    return digest_of(blob)


@pytest.fixture(scope="module")
def registry():
    with running_registry() as server:
        server.blobs = {kind: put(server, kind) for kind in PACKERS}
        yield server


@pytest.fixture
def followed(monkeypatch):
    """Blobs of a few hundred kB are followed; the list of what was."""
    seen = []
    follow = Arrival.follow
    monkeypatch.setattr("corten.image.pull.FOLLOWED_BYTES", 200_000)
    monkeypatch.setattr("corten.image.arrival._RING_BYTES", 1)
    monkeypatch.setattr("corten.registry.blobs._BATCH_BYTES", 50_000)
    monkeypatch.setattr(Arrival, "follow", lambda self: seen.append(self.size) or follow(self))
    return seen


@pytest.fixture
def local():
    with own_distribution() as found:
        yield found
        assert not [name for name in os.listdir(found.store.snapshots.root) if name.startswith("new-")]


def first_answers(blob, *faults):
    left = list(faults)
    return lambda r: left.pop(0) if left and r.path.endswith(blob) and r.command == "GET" else None


def check(local, host, kind):
    image = local.store.by_name(f"{host}/t/x:{kind}")
    with open(f"{local.store.snapshots.path(image.layers[0])}/big", "rb") as file:
        assert file.read() == CONTENT
    assert sorted(os.listdir(local.store.snapshots.path(image.layers[0]))) == ["big", "last"]


FAULTS = {
    "whole": [],
    "cut": [Fault(cut_after=1_000_000)],
    "restarted": [Fault(cut_after=2_000_000), Fault(no_range=True)],
    "cut twice": [Fault(cut_after=900_000), Fault(cut_after=900_000)],
}


@pytest.mark.parametrize(("kind", "how"), [
    *(("gzip", how) for how in FAULTS), ("plain", "whole"), ("plain", "restarted"), ("zstd", "cut"), ("bzip2", "whole"),
])
def test_the_same_files_however_it_came(registry, local, followed, kind, how):
    with fault_proxy(registry.host, first_answers(registry.blobs[kind], *FAULTS[how])) as proxy:
        messages, error = local.pull(f"{proxy.host}/t/x", kind)
        assert error is None, error
        check(local, proxy.host, kind)
    assert followed
    assert statuses(messages).count("Pull complete") == 2
    told_of = [message["status"] for message in messages if message.get("id") == registry.blobs[kind][7:19]]
    assert list(dict.fromkeys(told_of)) == [
        "Pulling fs layer", "Downloading", "Verifying Checksum", "Download complete", "Extracting", "Pull complete"
    ]


@pytest.mark.parametrize("kind", ["gzip", "plain"])
def test_a_changed_byte_makes_no_layer(registry, local, followed, kind):
    with fault_proxy(registry.host, lambda r: Fault(flip=True) if r.path.endswith(registry.blobs[kind]) else None) as proxy:
        _, error = local.pull(f"{proxy.host}/t/x", kind)
    assert isinstance(error, InvalidArgument)
    assert str(error) == f"filesystem layer verification failed for digest {registry.blobs[kind]}"
    assert not local.store.images and not local.store.layers


def test_a_download_that_stays_cut_is_told_as_such(registry, local, followed):
    with fault_proxy(registry.host, first_answers(registry.blobs["gzip"], Fault(cut_after=500_000), *[Fault(cut_after=0)] * 4)) as proxy:
        _, error = local.pull(f"{proxy.host}/t/x", "gzip")
        assert isinstance(error, Unreachable)
        assert not local.store.layers
        _, error = local.pull(f"{proxy.host}/t/x", "gzip")
        assert error is None, error
        resumed = [headers.get("range") for path, headers in proxy.blob_requests() if path.endswith(registry.blobs["gzip"])][-1]
        check(local, proxy.host, "gzip")
    assert resumed and resumed.startswith("bytes=")


def test_a_false_diff_id_is_found_out(registry, local, followed):
    with running_registry() as other:
        put(other, "gzip", diff_id="sha256:" + "0" * 64)
        _, error = local.pull(f"{other.host}/t/x", "gzip")
    assert isinstance(error, InvalidArgument)
    assert "has not the diff id its config promises" in str(error)
    assert not local.store.layers


def test_many_pulls_share_one_download_and_one_unpacking(registry, local, followed):
    async def many(distribution):
        return await asyncio.gather(*(told(distribution.pull(f"{proxy.host}/t/x", "gzip", "", Credentials())) for _ in range(32)))

    with fault_proxy(registry.host) as proxy:
        results = local.run(many)
        fetched = [path for path, _ in proxy.blob_requests()]
        check(local, proxy.host, "gzip")
    assert [error for _, error in results if error] == []
    assert sorted(fetched) == sorted(set(fetched)) and len(fetched) == 3
    assert len(followed) == 1


def test_the_pull_that_unpacks_is_cancelled_and_another_goes_on(registry, local, followed):
    async def two(distribution):
        first = asyncio.create_task(told(distribution.pull(f"{proxy.host}/t/x", "gzip", "", Credentials())))
        second = asyncio.create_task(told(distribution.pull(f"{proxy.host}/t/x", "gzip", "", Credentials())))
        while not followed and not first.done():  # noqa: ASYNC110  the loop must run
            await asyncio.sleep(0)
        first.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await first
        return await second

    with fault_proxy(registry.host) as proxy:
        _, error = local.run(two)
        assert error is None, error
        check(local, proxy.host, "gzip")
