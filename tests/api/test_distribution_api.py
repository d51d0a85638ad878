"""Pull, push and login over HTTP and by the docker CLI, against a real registry: statuses, streams, exit codes."""

import base64
import json
import os
import socket
import time
import urllib.parse
from concurrent.futures import ThreadPoolExecutor

import pytest
from daemon_process import DOCKER, Daemon
from registry_server import layer, needs_registry, running_registry

pytestmark = needs_registry


@pytest.fixture(scope="module")
def registry():
    with running_registry(users={"ann": "secret"}) as server:
        server.put_image("t/x", "v1", [layer({"a": b"1"})], {"Cmd": ["true"]})
        yield server


def login(name, password):
    return {"X-Registry-Auth": base64.urlsafe_b64encode(json.dumps({"username": name, "password": password}).encode()).decode()}


def lines(reply):
    return [json.loads(line) for line in reply.body.splitlines()]


def create(engine, name, tag="", headers=None):
    query = urllib.parse.urlencode({"fromImage": name, "tag": tag})
    return engine.api("POST", f"/images/create?{query}", headers=headers)


def test_what_fails_before_the_stream_is_an_http_error(engine, registry):
    host = registry.host
    reply = create(engine, f"{host}/t/x", "v1")
    assert (reply.status, reply.message) == (500, f'Head "http://{host}/v2/t/x/manifests/v1": no basic auth credentials')
    reply = create(engine, f"{host}/t/x", "v1", login("ann", "no"))
    assert (reply.status, reply.message) == (401, "unauthorized: authentication required")
    reply = create(engine, f"{host}/t/x", "v9", login("ann", "secret"))
    assert (reply.status, reply.message) == (404, f"manifest for {host}/t/x:v9 not found: manifest unknown: manifest unknown")
    reply = create(engine, "FOO")
    assert (reply.status, reply.message) == (400, "invalid reference format: repository name (library/FOO) must be lowercase")
    reply = create(engine, "127.0.0.1:1/x", "v1")
    assert (reply.status, reply.message) == (500, 'Get "http://127.0.0.1:1/v2/": dial tcp 127.0.0.1:1: connect: connection refused')
    assert create(engine, "scratch").status == 403


def test_what_fails_later_is_the_streams_last_line(engine, registry):
    reply = engine.api("POST", f"/images/{registry.host}/t/none/push?tag=v1")
    text = f"An image does not exist locally with the tag: {registry.host}/t/none"
    assert reply.status == 200
    assert lines(reply) == [
        {"status": f"The push refers to repository [{registry.host}/t/none]"},
        {"errorDetail": {"message": text}, "error": text},
    ]
    assert engine.api("POST", f"/images/{registry.host}/t/none@sha256:{'a' * 64}/push").status == 400


def test_pull_push_and_inspect(engine, registry):
    host, ann = registry.host, login("ann", "secret")
    reply = create(engine, f"{host}/t/x", "v1", ann)
    assert reply.status == 200
    assert lines(reply)[-1] == {"status": f"Status: Downloaded newer image for {host}/t/x:v1"}
    assert engine.api("POST", f"/images/{host}/t/x:v1/tag?repo={host}/t/y&tag=v2").status == 201
    reply = engine.api("POST", f"/images/{host}/t/y/push?tag=v2", headers=ann)
    assert lines(reply)[-1]["aux"]["Tag"] == "v2"
    assert registry.get_manifest("t/y", "v2")[1] == registry.get_manifest("t/x", "v1")[1]
    reply = engine.api("GET", f"/distribution/{host}/t/y:v2/json", headers=ann)
    assert reply.json["Platforms"] == [{"architecture": "amd64", "os": "linux"}]
    assert reply.json["Descriptor"]["digest"] == lines(create(engine, f"{host}/t/y", "v2", ann))[1]["status"][8:]
    for name in (f"{host}/t/x:v1", f"{host}/t/y:v2"):
        assert engine.api("DELETE", f"/images/{name}").status == 200


def test_auth(engine, registry):
    def ask(password):
        return engine.api("POST", "/auth", {"username": "ann", "password": password, "serveraddress": registry.host})

    assert ask("secret").json == {"IdentityToken": "", "Status": "Login Succeeded"}
    assert ask("wrong").message == f"login attempt to http://{registry.host}/v2/ failed with status: 401 Unauthorized"


@pytest.mark.skipif(DOCKER is None, reason="needs the docker CLI")
def test_the_lecture_by_the_docker_cli(engine):
    with running_registry() as server:
        name = f"{server.host}/cncamp/busybox:v1.0"
        assert engine.docker("tag", "busybox:latest", name).returncode == 0
        pushed = engine.docker("push", name)
        assert pushed.returncode == 0, pushed.stderr
        assert "v1.0: digest: sha256:" in pushed.stdout
        assert engine.docker("rmi", name).returncode == 0
        ran = engine.docker("run", "--rm", name, "echo", "pulled")
        assert (ran.returncode, ran.stdout) == (0, "pulled\n"), ran.stderr
        assert "Unable to find image" in ran.stderr
        missing = engine.docker("run", "--rm", f"{server.host}/no:x", "true")
        assert missing.returncode == 125
        assert "not found: manifest unknown: manifest unknown" in missing.stderr
        assert engine.docker("rmi", name).returncode == 0


@needs_registry
def test_what_a_mirror_lacks_is_told_when_the_origin_is_out_of_reach():
    with socket.socket() as nobody, running_registry() as registry:
        nobody.bind(("127.0.0.1", 0))  # bound and not listening: connections are refused
        origin = f"127.0.0.1:{nobody.getsockname()[1]}"
        registry.put_image("there", "v1", [layer({"file": b"x"})], {})
        daemon = Daemon("--registry-mirror", f"{origin}=http://{registry.host}").start()
        try:
            def pull(name, tag):
                return daemon.api("POST", f"/images/create?fromImage={origin}/{name}&tag={tag}")

            assert pull("there", "v1").status == 200
            for name, tag in (("nonesuch", "v1"), ("there", "v2")):
                answer = pull(name, tag)
                assert answer.status == 404
                assert f"manifest for {origin}/{name}:{tag} not found: does not exist or no pull access" in answer.message
            assert daemon.api("GET", f"/distribution/{origin}/there:v1/json").status == 200
        finally:
            daemon.close()


def test_the_engines_memory_does_not_grow_with_what_is_pulled(registry):
    """All processes of the engine together stay under 150 MB while 300 MB come, unpacked meanwhile."""
    data = os.urandom(1 << 20)
    content = layer({f"f{number}": data * 10 for number in range(30)})
    registry.put_image("t/big", "v1", [content], compress=False)
    del content
    daemon = Daemon().start()
    try:
        with ThreadPoolExecutor(1) as pool:
            url = f"/images/create?fromImage={registry.host}/t/big&tag=v1"
            pulling = pool.submit(daemon.api, "POST", url, headers=login("ann", "secret"), timeout=600)
            seen = []
            while not pulling.done():
                seen.append(_memory_bytes(daemon))
                time.sleep(0.02)
        assert b"Downloaded newer image" in pulling.result().body
        assert max(seen) < 150 << 20, f"{max(seen) >> 20} MiB"
    finally:
        daemon.close()


def _memory_bytes(daemon):
    """What the processes of a daemon take together, shared pages once."""
    total = 0
    for name in filter(str.isdecimal, os.listdir("/proc")):
        try:
            with open(f"/proc/{name}/cmdline", "rb") as file:
                ours = daemon.folder.encode() in file.read()
            with open(f"/proc/{name}/stat") as file:
                ours = ours or int(file.read().rpartition(")")[2].split()[1]) == daemon.process.pid
            if ours:
                with open(f"/proc/{name}/smaps_rollup") as file:
                    total += next(int(line.split()[1]) << 10 for line in file if line.startswith("Pss:"))
        except OSError:
            continue  # it has ended
    return total
