"""The lecture's image: built, pushed to a real registry, removed here, pulled back by run, reached by HTTP, stopped."""

import http.client
import os
import re
import socket
import subprocess
import time

import pytest
from daemon_process import REPOSITORY, until
from registry_server import free_port, needs_registry, running_registry

EXAMPLES = f"{REPOSITORY}/examples"

pytestmark = needs_registry


@pytest.fixture(scope="module")
def base_tar(tmp_path_factory):
    """What examples/base packs."""
    path = tmp_path_factory.mktemp("base") / "root.tar"
    with open(path, "wb") as file:
        subprocess.run([f"{EXAMPLES}/base/python-from-host.sh"], stdout=file, env={**os.environ, "ENGINE": "cat"}, check=True,
                       timeout=100)
    return path


@pytest.fixture(scope="module")
def registry():
    with running_registry() as running:
        yield running


@pytest.fixture
def image(client, base_tar, registry):
    """The name of the image, built; the base is python-host."""
    client("import", "-c", "ENV PATH=/usr/bin:/bin", base_tar, "python-host", timeout=100)
    name = f"localhost:{registry.port}/cncamp/httpserver:v1.0"
    client("build", "-t", name, ".", cwd=f"{EXAMPLES}/httpserver", timeout=100)
    yield name
    client("rm", "-f", *(client("ps", "-aq").split() or ["none"]))
    client("rmi", "-f", name, "python-host")


def own_address(engine):
    """An address of this machine that is not loopback."""
    try:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
            probe.connect(("192.0.2.1", 9))
            return probe.getsockname()[0]
    except OSError:
        return engine.api("GET", "/networks/bridge").json["IPAM"]["Config"][0]["Gateway"]


def get(address, port, path, **headers):
    """(status, headers, body), once the server is up."""
    deadline = time.monotonic() + 90
    while True:
        connection = http.client.HTTPConnection(address, port, timeout=30)
        try:
            connection.request("GET", path, headers=headers)
            answer = connection.getresponse()
            return answer.status, answer.headers, answer.read()
        except OSError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.05)
        finally:
            connection.close()


def test_from_dockerfile_to_http_and_back(client, image, registry):
    pushed = client("push", image)
    digest = re.search(r"v1\.0: digest: (sha256:[0-9a-f]{64}) size: \d+", pushed).group(1)
    manifest, _ = registry.get_manifest("cncamp/httpserver", "v1.0")
    assert len(manifest["layers"]) == 2  # the base, and the server
    image_id = client("inspect", "-f", "{{.Id}}", image)
    client("rmi", image)
    client("inspect", image, fails="(?i)no such")
    port = free_port()
    done = client.run("run", "-d", "--name", "web", "-p", f"{port}:80", image)
    assert done.returncode == 0 and re.fullmatch("[0-9a-f]{64}\n", done.stdout), done
    assert f"Unable to find image '{image}' locally" in done.stderr and f"Digest: {digest}" in done.stderr
    assert client("inspect", "-f", "{{.Id}}", image) == image_id
    assert client("inspect", "-f", "{{index .RepoDigests 0}}", image) == f"localhost:{registry.port}/cncamp/httpserver@{digest}"

    host = own_address(client.engine)
    for address in ("127.0.0.1", host):
        status, headers, body = get(address, port, "/healthz")
        assert (status, body) == (200, b"ok\n")
        status, headers, body = get(address, port, "/?user=corten", **{"X-Lecture": "microservices", "Accept": "text/x"})
        assert (status, body) == (200, b"hello [corten]\n")
        assert headers["X-Lecture"] == "microservices" and headers["Accept"] == "text/x"

    lines = client("logs", "web").splitlines()
    assert lines[0] == "listening on port 80" and len(lines) == 5
    for line in lines[1:]:
        client_address, = re.fullmatch(r"client=(\S+) status=200 GET '/\S*'", line).groups()
        assert socket.inet_aton(client_address)
    begin = time.monotonic()
    client("stop", "web")
    assert time.monotonic() - begin < 9.9 and client.state("web") == "exited 0"
    assert client("logs", "--tail", "2", "web") == "SIGTERM: stopping\nstopped"
    with pytest.raises(OSError):
        socket.create_connection(("127.0.0.1", port), 2).close()


def test_the_entry_point_is_the_shell_form_and_the_port_is_told(client, image):
    shown = "{{json .Config.Entrypoint}} {{json .Config.ExposedPorts}} {{index .Config.Labels \"multi.label2\"}}"
    assert client("inspect", "-f", shown, image) == '["/bin/sh","-c","/httpserver"] {"80/tcp":{}} value2'
    assert "MY_SERVICE_PORT=80" in client("inspect", "-f", "{{range .Config.Env}}{{println .}}{{end}}", image)
    client("run", "-d", "--name", "other", "-e", "MY_SERVICE_PORT=8123", "-e", "VERSION=v2", "-P", "--expose", "8123", image)
    until(lambda: client("logs", "other") == "listening on port 8123")
    port = int(client("port", "other", "8123/tcp").rpartition(":")[2])
    _, headers, _ = get("127.0.0.1", port, "/")
    assert headers["VERSION"] == "v2"


def test_a_push_that_cannot_be(client):
    client("push", "localhost:1/no/such:image", fails="does not exist locally|An image does not exist")
    client("tag", "busybox", "localhost:1/down:1")
    try:
        client("push", "localhost:1/down:1", fails="connection refused")
    finally:
        client("rmi", "localhost:1/down:1")


def test_pull(client, registry):
    name = f"localhost:{registry.port}/pulled/{client.name}"
    client("tag", "busybox", f"{name}:1")
    client("push", "-q", f"{name}:1")
    client("rmi", f"{name}:1")
    assert "Status: Downloaded newer image for" in client("pull", f"{name}:1")
    assert "Status: Image is up to date for" in client("pull", f"{name}:1")
    digest = client("inspect", "-f", "{{index .RepoDigests 0}}", f"{name}:1")
    assert client("run", "--rm", digest, "echo", "by digest") == "by digest"
    client("pull", f"{name}:2", fails="(?i)not found|manifest unknown")
    client("rmi", f"{name}:1")
