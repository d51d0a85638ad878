"""docker compose on the example project: names, aliases, several networks, three of a service, an internal network."""

import json
import os
import socket
import subprocess
import urllib.request
from pathlib import Path

import pytest

pytestmark = [pytest.mark.skipif(os.geteuid() != 0, reason="needs root"), pytest.mark.timeout(900)]

ROOT = Path(__file__).parents[2]
EXAMPLE = ROOT / "examples" / "compose"


@pytest.fixture(scope="module")
def plugin(tmp_path_factory):
    """The compose program."""
    folder = tmp_path_factory.mktemp("compose")
    try:
        done = subprocess.run(["bash", ROOT / "tests" / "clients" / "fetch_plugin.sh", folder], capture_output=True, text=True,
                              stdin=subprocess.DEVNULL, timeout=200)
    except subprocess.TimeoutExpired:
        pytest.skip("machine: Debian's docker-compose does not arrive here")
    program = folder / "docker-compose"
    if done.returncode or subprocess.run([program, "version"], capture_output=True, check=False).returncode:
        pytest.skip(f"machine: Debian's docker-compose cannot be had or run here: {done.stderr[-300:]}")
    return program


class Project:
    """The example as a project of its own name on one engine."""

    def __init__(self, plugin, engine):
        self.plugin, self.engine, self.name = plugin, engine, f"shop{os.getpid()}"
        with socket.create_server(("127.0.0.1", 0)) as free:
            self.port = free.getsockname()[1]
        self.environment = {**os.environ, "DOCKER_HOST": f"unix://{engine.socket}", "PORT": str(self.port)}

    def __call__(self, *arguments, code=0):
        done = subprocess.run(
            [self.plugin, "-p", self.name, "-f", EXAMPLE / "compose.yaml", *arguments], env=self.environment,
            stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=110)
        assert done.returncode == code, (arguments, done.stdout, done.stderr)
        return done.stdout

    def running(self):
        return sorted(json.loads(line)["Service"] for line in self("ps", "--format", "json").splitlines())

    def addresses(self, service, name):
        said = self("exec", "-T", service, "nslookup", "-type=a", name)
        return {line.split()[1] for line in said.split("Name:", 1)[1].splitlines() if line.startswith("Address:")}


@pytest.fixture
def project(plugin, engine):
    made = Project(plugin, engine)
    yield made
    made("down", "--timeout", "1", "--volumes")


def test_the_example_project(project):
    project("up", "-d")
    assert project.running() == ["api", "api", "api", "db", "web"]
    assert project("port", "web", "80") == f"127.0.0.1:{project.port}\n"
    assert len(project.addresses("web", "api")) == 3
    assert project.addresses("api", "store") == project.addresses("api", "db")
    assert "Name:" not in project("exec", "-T", "web", "nslookup", "db", code=1)
    assert "SERVFAIL" in project("exec", "-T", "db", "nslookup", "www.example", code=1)
    told = {urllib.request.urlopen(f"http://127.0.0.1:{project.port}/cgi-bin/who", timeout=30).read() for _ in range(5)}
    assert all(answer.endswith(b"\n42\n") for answer in told)
    project("up", "-d", "--scale", "api=1", "--timeout", "1")
    assert project.running() == ["api", "db", "web"]
    assert len(project.addresses("web", "api")) == 1
    assert project("run", "--rm", "-T", "api", "wget", "-qO-", "http://store:5432/answer") == "42\n"
    project("restart", "--timeout", "1", "db")
    assert len(project.addresses("api", "store")) == 1
    project("down", "--timeout", "1")
    left = {network["Name"] for network in project.engine.api("GET", "/networks").json}
    assert not {name for name in left if name.startswith(project.name)}
