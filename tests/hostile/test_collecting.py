"""Prune without a pause while images are pulled, loaded, built and removed: nothing lost, nothing referenced removed."""

import hashlib
import io
import json
import os
import tarfile
import threading

import pytest
from build_context import build
from images import docker_archive
from registry_server import layer, needs_registry, running_registry

pytestmark = needs_registry
ROUNDS = 6
NOISE = os.urandom(40_000)
BASE = layer({"base": NOISE})  # shared by all of them


@pytest.fixture
def registry():
    with running_registry() as server:
        for number in range(ROUNDS):
            server.put_image("t/x", f"v{number}", [BASE, layer({"pulled": b"%d" % number * 1000})], {"Cmd": ["x"]})
        yield server


def check_whole(engine, name, expected):
    """The image is here with every blob right, and its topmost files are what they were."""
    answer = engine.api("GET", f"/images/{name}/get")
    assert answer.status == 200, (name, answer.body[:300])
    files = {}
    with tarfile.open(fileobj=io.BytesIO(answer.body)) as tar:
        blobs = {info.name: tar.extractfile(info).read() for info in tar if info.isreg()}
    for path, data in blobs.items():
        if path.startswith("blobs/"):
            assert hashlib.sha256(data).hexdigest() == path.rpartition("/")[2]
    (item,) = json.loads(blobs["manifest.json"])
    for path in item["Layers"]:
        with tarfile.open(fileobj=io.BytesIO(blobs[path])) as tar:
            files |= {info.name: tar.extractfile(info).read() for info in tar if info.isreg()}
    assert expected.items() <= files.items(), name
    made = engine.api("POST", "/containers/create", {"Image": name, "Cmd": ["x"]})
    assert made.status == 201, made.body
    for path, data in expected.items():
        got = engine.api("GET", f"/containers/{made.json['Id']}/archive?path=/{path}")
        with tarfile.open(fileobj=io.BytesIO(got.body)) as tar:
            assert tar.extractfile(path).read() == data
    engine.api("DELETE", f"/containers/{made.json['Id']}")


def pulls(engine, registry, tmp_path, number):
    name = f"{registry.host}/t/x:v{number}"
    answer = engine.api("POST", f"/images/create?fromImage={registry.host}/t/x&tag=v{number}")
    assert answer.status == 200 and b'"error"' not in answer.body, answer.body[-300:]
    return name, {"base": NOISE, "pulled": b"%d" % number * 1000}


def loads(engine, registry, tmp_path, number):
    files = {"loaded": b"%d" % number * 1000}
    docker_archive(tmp_path / f"{number}.tar", [BASE, layer(files)], [f"loaded:{number}"], {"Cmd": ["x"]})
    answer = engine.api("POST", "/images/load?quiet=1", (tmp_path / f"{number}.tar").read_bytes(), headers={"Content-Type": "application/x-tar"})
    assert answer.status == 200 and b'"error"' not in answer.body, answer.body[-300:]
    return f"loaded:{number}", {"base": NOISE, **files}


def builds(engine, registry, tmp_path, number):
    files = {"built": b"%d" % number * 1000, "base": NOISE}
    done = build(engine, "FROM scratch\nCOPY base /\nCOPY built /\nCMD [\"x\"]\n", files=files, t=f"built:{number}", nocache="1")
    assert not done.error and not done.refusal, (done.error, done.refusal)
    return f"built:{number}", files


def test_nothing_is_lost_to_a_prune_that_never_rests(own_engine, registry, tmp_path):
    engine, failures, over = own_engine, [], threading.Event()

    def work(kind):
        try:
            for number in range(ROUNDS):
                name, files = kind(engine, registry, tmp_path, number)
                check_whole(engine, name, files)
                if number % 2:
                    assert engine.api("DELETE", f"/images/{name}").status == 200
        except BaseException as error:
            failures.append(f"{kind.__name__}: {type(error).__name__}: {error}")

    pruned = 0
    threads = [threading.Thread(target=work, args=(kind,)) for kind in (pulls, loads, builds)]

    def sweep():
        nonlocal pruned
        while not over.is_set():
            for url in ("/images/prune", "/build/prune"):
                answer = engine.api("POST", url)
                if answer.status != 200:
                    failures.append(f"{url}: {answer.body[:300]}")
            pruned += 1

    sweeper = threading.Thread(target=sweep)
    for thread in (*threads, sweeper):
        thread.start()
    for thread in threads:
        thread.join()
    over.set()
    sweeper.join()
    assert not failures, failures
    assert pruned >= ROUNDS
    for number in range(0, ROUNDS, 2):
        check_whole(engine, f"{registry.host}/t/x:v{number}", {"base": NOISE, "pulled": b"%d" % number * 1000})
        check_whole(engine, f"loaded:{number}", {"base": NOISE})
        check_whole(engine, f"built:{number}", {"base": NOISE})
    for row in engine.api("GET", "/images/json?all=1").json:
        if row["RepoTags"] != ["host:latest"]:
            engine.api("DELETE", f"/images/{row['Id']}?force=1")
    engine.api("POST", "/images/prune")
    content = f"{engine.folder}/data/content"
    assert (os.listdir(f"{content}/blobs/sha256"), os.listdir(f"{content}/ingest")) == ([], [])
