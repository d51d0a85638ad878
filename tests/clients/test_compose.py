"""docker compose on the example projects.

`compose`: names, aliases, several networks, three of a service, an internal network. `board`: a build, a volume, a secret,
a config, health and completion conditions, a profile, scaling, watch.
"""

import json
import os
import shutil
import socket
import subprocess
import time
import urllib.request
from pathlib import Path

import pytest
from compose_program import compose_program

pytestmark = [pytest.mark.skipif(os.geteuid() != 0, reason="needs root"), pytest.mark.timeout(900)]

ROOT = Path(__file__).parents[2]
EXAMPLE = ROOT / "examples" / "compose"
BOARD = ROOT / "examples" / "board"
PATIENCE_S = 60


@pytest.fixture(scope="module")
def plugin(tmp_path_factory):
    """The compose program."""
    return compose_program(tmp_path_factory.mktemp("compose"))


class Project:
    """An example as a project of its own name on one engine."""

    def __init__(self, plugin, engine, folder=EXAMPLE):
        self.plugin, self.engine, self.folder = plugin, engine, folder
        self.name = f"{folder.name}{os.getpid()}"
        with socket.create_server(("127.0.0.1", 0)) as free:
            self.port = free.getsockname()[1]
        self.environment = {**os.environ, "DOCKER_HOST": f"unix://{engine.socket}", "PORT": str(self.port),
                            "DOCKER_BUILDKIT": "0", "DOCKER_CONFIG": "/nonexistent"}

    def __call__(self, *arguments, code=0):
        done = subprocess.run(
            self.command(*arguments), env=self.environment,
            stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=280)
        assert done.returncode == code, (arguments, done.stdout, done.stderr)
        return done.stdout

    def command(self, *arguments):
        return [self.plugin, "-p", self.name, "-f", self.folder / "compose.yaml", *arguments]

    def page(self, path=""):
        return urllib.request.urlopen(f"http://127.0.0.1:{self.port}/{path}", timeout=30).read().decode()

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


@pytest.fixture
def board(plugin, engine, tmp_path):
    """The notice board in a folder where its pages can be changed."""
    shutil.copytree(BOARD, tmp_path / "board")
    made = Project(plugin, engine, tmp_path / "board")
    yield made
    made("down", "--timeout", "1", "--volumes", "--rmi", "local")


def test_the_notice_board(board):
    board("up", "-d", "--wait")
    assert board.page() == "<h1>First page</h1>\n"
    title, words, key, secret = board.page("cgi-bin/facts").splitlines()
    assert title == f"The board of {board.name}" and words == "en green" and secret == "ses"
    assert len(key) == 8
    states = {row["Service"]: row["State"] for row in map(json.loads, board("ps", "-a", "--format", "json").splitlines())}
    assert states == {"db": "running", "migrate": "exited", "cache": "running", "web": "running"}
    assert "<h1>" in board("--profile", "tools", "run", "--rm", "-T", "tools")
    board("up", "-d", "--scale", "cache=3", "--no-recreate")
    assert board.running() == ["cache", "cache", "cache", "db", "web"]


def test_what_the_notice_board_keeps(board):
    for runs in (1, 2):
        board("up", "-d", "--wait")
        assert board("exec", "-T", "db", "cat", "/data/migrations") == "run\n" * runs
        board("down", "--timeout", "1")
    board("down", "--volumes")
    assert board.engine.api("GET", f"/volumes/{board.name}_data").status == 404


def test_watched_pages_change(board):
    board("up", "-d", "--wait")
    watching = subprocess.Popen(board.command("watch", "--no-up"), env=board.environment, stdin=subprocess.DEVNULL,
                                stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        deadline, count = time.monotonic() + PATIENCE_S, 0
        while f"page {count}" not in board.page() or not count:  # until it has begun to watch
            assert time.monotonic() < deadline and watching.poll() is None
            count += 1
            (board.folder / "web/www/index.html").write_text(f"page {count}\n")
            for _ in range(40):
                if f"page {count}" in board.page():
                    break
                time.sleep(0.05)
    finally:
        watching.terminate()
        watching.wait(PATIENCE_S)
