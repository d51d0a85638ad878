"""Pulls that are killed at every write, and disks that fill up: nothing half-made counts, nothing lost, all can be freed."""

import contextlib
import ctypes
import errno
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest
from distribution_fixture import Local, built, own_distribution
from fault_proxy import Fault, fault_proxy
from registry_server import MANIFEST_V2, digest_of, layer, needs_registry, running_registry

from corten.engine.db import Database
from corten.image.gc import forget_downloads
from corten.registry.settings import Settings

pytestmark = [needs_registry, pytest.mark.skipif(os.geteuid() != 0, reason="machine: unpacking needs root")]

TESTS = Path(__file__).parents[1]
FILE = os.urandom(1_500_000)
BIG, SMALL = layer({"big": FILE}), layer({"bin": None, "bin/hello": b"hello"})


@pytest.fixture(scope="module")
def registry():
    with running_registry() as server:
        server.put_image("t/x", "v1", [SMALL, BIG], {"Cmd": ["hello"]}, compress=False)
        yield server


@contextlib.contextmanager
def data_root():
    folder = tempfile.mkdtemp(prefix="corten-interrupted-", dir="/var/tmp")
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def opened(folder):
    settings = Settings()
    settings.backoff_s = 0.01
    return Local(folder, settings)


def close(local):
    local.store.snapshots.flush()
    local.database.close()


def on_disk(local):
    """What prune would have to have freed."""
    store = local.store
    store.snapshots.flush()
    folders = {name for name in os.listdir(store.snapshots.root) if name not in ("empty", "regions")}
    return store.content.all(), os.listdir(f"{store.content.root}/ingest"), sorted(folders - {s.snapshot for s in store.layers.values()})


def check_image(local, name):
    image = local.store.by_name(name)
    assert Path(local.store.snapshots.path(image.layers[1]), "big").read_bytes() == FILE
    assert Path(local.store.snapshots.path(image.layers[0]), "bin/hello").read_bytes() == b"hello"
    for blob in image.record.blobs:
        assert digest_of(Path(local.store.content.path(blob.digest)).read_bytes()) == blob.digest
    assert os.listdir(f"{local.store.content.root}/ingest") == []


def prune(local):
    for image_id in list(local.store.images):
        local.store.forget(image_id)
    forget_downloads(local.store)
    local.store.collect()


class Killer:
    """pull_killer.py, kept running."""

    def __init__(self):
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(TESTS), *filter(None, sys.path)])}
        self.process = subprocess.Popen(
            [sys.executable, TESTS / "pull_killer.py"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment
        )

    def pull(self, root, name, tag, at, verb="pull"):
        self.process.stdin.write(json.dumps({"verb": verb, "root": root, "name": name, "tag": tag, "at": at}) + "\n")
        self.process.stdin.flush()
        return int(self.process.stdout.readline())

    def end(self):
        self.process.stdin.close()
        self.process.stdout.close()
        self.process.wait()


def test_a_pull_killed_at_any_write(registry):
    name = f"{registry.host}/t/x"
    killer = Killer()
    try:
        with data_root() as folder:
            at, ended = 0, signal.SIGKILL
            while ended == signal.SIGKILL:
                at += 1
                ended = killer.pull(folder, name, "v1", at)
                whole = look_after_kill(folder, f"{name}:v1", again=at % 5 == 1)
            assert ended == 0 and whole and at > 15
    finally:
        killer.end()


def look_after_kill(folder, name, again):
    """All of an image or none of it; the next try works; everything can be freed."""
    local = opened(folder)
    whole = local.store.by_name(name) is not None
    if not whole:
        assert not local.store.images and not local.store.layers and not local.store.content.all()
    if again:
        _, error = local.pull(name)
        assert error is None, error
    if again or whole:
        check_image(local, name)
    prune(local)
    assert on_disk(local) == ([], [], [])
    close(local)
    return whole


def test_a_push_killed_at_any_step(registry):
    """The image stays what it was, nothing is left beside it, and the registry has the name whole or not at all."""
    text = layer({"text": os.urandom(300_000).hex().encode()})
    killer = Killer()
    try:
        with data_root() as folder:
            local = opened(f"{folder}/first")
            image_id = built(local, f"{registry.host}/t/made:v1", text, SMALL).id
            close(local)
            at, ended = 0, signal.SIGKILL
            while ended == signal.SIGKILL:
                at += 1
                subprocess.run(["cp", "-a", f"{folder}/first", f"{folder}/{at}"], check=True)
                name = f"{registry.host}/t/made{at}"
                local = opened(f"{folder}/{at}")
                local.store.tag(image_id, f"{name}:v1")
                close(local)
                ended = killer.pull(f"{folder}/{at}", name, "v1", at, "push")
                look_after_push(registry, f"{folder}/{at}", at, again=at % 4 == 1 or not ended)
                shutil.rmtree(f"{folder}/{at}")
            assert ended == 0 and at > 15
    finally:
        killer.end()


def look_after_push(registry, folder, at, again):
    """What a push left here and at the registry; `again`: the next one ends well."""
    name = f"{registry.host}/t/made{at}"
    local = opened(folder)
    image = local.store.by_name(f"{name}:v1")
    assert image is not None and os.listdir(f"{local.store.content.root}/ingest") == []
    named = {image.id, image.record.pushed, *(blob.digest for blob in image.record.blobs)}
    named |= {record.gzip for record in local.store.layers.values()}
    assert set(local.store.content.all()) <= named
    for digest in local.store.content.all():
        assert digest_of(Path(local.store.content.path(digest)).read_bytes()) == digest
    if again:
        _, error = local.push(name, "v1")
        assert error is None, error
    status, _, body = registry.request("GET", f"/v2/t/made{at}/manifests/v1", Accept=MANIFEST_V2)
    assert status == 200 or (status == 404 and not again)
    if status == 200:
        parts = json.loads(body)
        for part in (parts["config"], *parts["layers"]):
            assert digest_of(registry.get_blob(f"t/made{at}", part["digest"])) == part["digest"]
    close(local)


@pytest.mark.parametrize("how", ["killed", "failed"])
def test_the_next_try_fetches_only_what_is_missing(registry, how):
    broken = [Fault(cut_after=900_000), *[Fault(cut_after=0)] * 4]

    def rule(request):
        return broken.pop(0) if broken and request.path.endswith(digest_of(BIG)) else None

    with fault_proxy(registry.host, rule) as proxy, data_root() as folder:
        local = opened(folder)
        _, error = local.pull(f"{proxy.host}/t/x", "v1")
        assert error is not None
        close(local)
        local = opened(folder)
        assert local.store.content.disk_bytes() > 800_000
        if how == "killed":
            close(local)
            local = opened(folder)
        assert not broken
        before = len(proxy.seen)
        _, error = local.pull(f"{proxy.host}/t/x", "v1")
        assert error is None, error
        asked = [(path.rpartition("/")[2], headers.get("range")) for _, path, headers in proxy.seen[before:] if "/blobs/" in path]
        assert [digest for digest, _ in asked] == [digest_of(BIG)]
        assert int(asked[0][1].removeprefix("bytes=").rstrip("-")) >= 800_000
        check_image(local, f"{proxy.host}/t/x:v1")
        close(local)


def mount(target, options, remount=False):
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.mount(b"tmpfs", os.fsencode(target), b"tmpfs", 32 if remount else 0, options.encode()):
        raise OSError(ctypes.get_errno(), "mount")


@contextlib.contextmanager
def small_disk(size):
    """A file system of so many bytes."""
    with data_root() as folder:
        mount(folder, f"size={size}")
        try:
            yield folder
        finally:
            libc = ctypes.CDLL(None, use_errno=True)
            assert libc.umount2(os.fsencode(folder), 2) == 0, os.strerror(ctypes.get_errno())


def used(folder):
    found = os.statvfs(folder)
    return (found.f_blocks - found.f_bfree) * found.f_frsize


@pytest.mark.parametrize("size", [1_000_000, 1_600_000, 2_400_000, 3_000_000])
def test_a_full_disk(registry, size):
    with small_disk(size) as folder:
        local = opened(folder)
        empty = used(folder)
        _, error = local.pull(f"{registry.host}/t/x", "v1")
        assert error is not None and os.strerror(errno.ENOSPC).lower() in str(error).lower(), error
        assert not local.store.images and not local.store.names
        prune(local)
        assert on_disk(local) == ([], [], [])
        assert used(folder) <= empty + 256 * 1024  # the database's log
        _, error = local.pull(f"{registry.host}/t/x", "v1")
        assert error is not None
        mount(folder, "size=64m", remount=True)
        with fault_proxy(registry.host) as proxy:
            local.settings.mirrors = {registry.host: [f"http://{proxy.host}"]}
            _, error = local.pull(f"{registry.host}/t/x", "v1")
            assert error is None, error
            resumed = [headers.get("range") for path, headers in proxy.blob_requests() if path.endswith(digest_of(BIG))]
        assert all(resumed)
        check_image(local, f"{registry.host}/t/x:v1")
        close(local)


def test_what_frees_room_is_written_down_on_a_full_disk():
    with small_disk(4_000_000) as folder:
        database = Database(f"{folder}/corten.db")
        database.put("layer", "old", b"{}")
        with open(f"{folder}/filler", "wb", buffering=0) as filler, contextlib.suppress(OSError):
            while True:
                filler.write(bytes(1 << 12))
        with pytest.raises(OSError, match=os.strerror(errno.ENOSPC)):
            for number in range(1000):
                database.put("layer", f"new{number}", bytes(1 << 12))
        database.delete("layer", "old")
        assert database.get("layer", "old") is None
        database.close()


def test_a_disk_full_while_pushing(registry):
    with small_disk(16_000_000) as folder, running_registry() as target:
        local = opened(folder)
        text = layer({"text": os.urandom(2_000_000).hex().encode()})
        built(local, f"{target.host}/t/made:v1", text)
        with open(f"{folder}/filler", "wb", buffering=0) as filler, contextlib.suppress(OSError):
            while True:
                filler.write(bytes(1 << 16))
        _, error = local.push(f"{target.host}/t/made", "v1")
        assert error is not None and os.strerror(errno.ENOSPC).lower() in str(error).lower(), error
        os.unlink(f"{folder}/filler")
        mount(folder, "size=64m", remount=True)
        _, error = local.push(f"{target.host}/t/made", "v1")
        assert error is None, error
        with own_distribution() as other:
            _, error = other.pull(f"{target.host}/t/made", "v1")
            assert error is None, error
        close(local)
