"""The lecture's image, as its README says: base image from this machine, build, run, ask, stop."""

import http.client
import os
import shutil
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
EXAMPLE = ROOT / "examples" / "httpserver"

pytestmark = pytest.mark.skipif(not shutil.which("dpkg") or not os.path.exists("/usr/bin/python3"),
                                reason="needs Debian with python3")


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def ask(port, path, **headers):
    """(status, headers, body), trying again until somebody listens."""
    deadline = time.monotonic() + 90
    while True:
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
        try:
            connection.request("GET", path, headers=headers)
            answer = connection.getresponse()
            return answer.status, dict(answer.getheaders()), answer.read()
        except OSError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.05)
        finally:
            connection.close()


def test_the_server_alone():
    port = free_port()
    server = subprocess.Popen([sys.executable, EXAMPLE / "httpserver"], stdout=subprocess.PIPE, text=True,
                              env={"MY_SERVICE_PORT": str(port)})
    assert ask(port, "/healthz")[::2] == (200, b"ok\n")
    status, headers, body = ask(port, "/?user=me", **{"X-Who": "a b"})
    assert (status, headers["X-Who"], body) == (200, "a b", b"hello [me]\n")
    waiting = http.client.HTTPConnection("127.0.0.1", port)
    waiting.request("GET", "/")
    waiting.getresponse().read()  # stays open: it must not hold the server up
    server.terminate()
    output, _ = server.communicate(timeout=90)
    waiting.close()
    assert server.returncode == 0
    assert "client=127.0.0.1 status=200 GET '/healthz'" in output and output.endswith("stopped\n")


@pytest.fixture
def image(engine):
    """The example, built by the docker CLI without buildx on a base image made by the script."""
    packed = subprocess.run([ROOT / "examples" / "base" / "python-from-host.sh"], capture_output=True, timeout=120,
                            env={**os.environ, "ENGINE": "cat"}, check=True).stdout
    answer = engine.api("POST", "/images/create?fromSrc=-&repo=python-host", packed, headers={"Content-Type": "application/x-tar"})
    assert answer.status == 200, answer.body
    context = subprocess.run(["tar", "-C", EXAMPLE, "-c", "."], capture_output=True, check=True).stdout
    answer = engine.api("POST", "/build?rm=1&t=cncamp/httpserver:v1.0", context, headers={"Content-Type": "application/x-tar"})
    assert b"Successfully tagged cncamp/httpserver:v1.0" in answer.body, answer.body
    return "cncamp/httpserver:v1.0"


def test_the_image_is_built_answers_and_stops_at_once(engine, image):
    port = free_port()
    web = engine.run(name="web", Image=image, Cmd=None,
                     HostConfig={"PortBindings": {"80/tcp": [{"HostIp": "127.0.0.1", "HostPort": str(port)}]}})
    assert ask(port, "/healthz")[::2] == (200, b"ok\n")
    assert ask(port, "/", **{"X-Who": "me"})[1]["X-Who"] == "me"
    begun = time.monotonic()
    assert engine.api("POST", "/containers/web/stop").status == 204
    assert time.monotonic() - begun < 9.9  # a second more and it would have been killed
    assert engine.inspect(web)["State"]["ExitCode"] == 0
    logs = engine.api("GET", "/containers/web/logs?stdout=1").body
    assert b"status=200 GET '/healthz'" in logs and b"stopped\n" in logs
