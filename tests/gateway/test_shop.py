"""examples/shop: the tutorial's commands as the page has them, and the five services by docker compose."""

import json
import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest
from compose_program import compose_program
from gateway_world import World
from tutorial import Shell, steps, walk

ROOT = Path(__file__).parents[2]
SHOP = ROOT / "examples/shop"
PAGE = ROOT / "docs/microservices.md"
pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="needs root")


@pytest.fixture
def market():
    """A daemon with a gateway and nothing else."""
    world = World().start()
    try:
        yield world
    finally:
        world.close()


def environment(world, folder):
    """What a user has: `corten` on the path, which asks this daemon."""
    program = folder / "corten"
    program.write_text(f"#!/bin/sh\nPYTHONPATH={ROOT}/src exec {sys.executable} -m corten.cli.main \"$@\"\n")
    program.chmod(program.stat().st_mode | stat.S_IXUSR)
    return {"PATH": f"{folder}:{os.environ['PATH']}", "CORTEN_HOST": f"unix://{world.socket}", "HOME": str(folder),
            "GATEWAY": f"http://127.0.0.1:{world.port}"}


def test_the_tutorial_from_monolith_to_services(market, tmp_path):
    shell = Shell(ROOT, environment(market, tmp_path))
    try:
        walk(PAGE, shell)
    finally:
        shell.close()
    assert market.api("GET", "/containers/json?all=1").json == []
    assert market.api("GET", "/corten/v1/gateway/documents").json == []


def test_both_languages_have_the_same_commands():
    assert steps(PAGE) == steps(PAGE.with_suffix(".zh-CN.md"))


@pytest.fixture(scope="module")
def compose(tmp_path_factory):
    """The compose program."""
    return compose_program(tmp_path_factory.mktemp("compose"))


@pytest.mark.timeout(900)
def test_the_shop_by_docker_compose_at_each_level(market, compose, tmp_path):
    """The documents first, so that nothing runs before its policy is in force; then up, and the three levels."""
    def run(*words):
        done = subprocess.run([compose, "-f", SHOP / "compose.yaml", *words], capture_output=True, text=True, timeout=200,
                              stdin=subprocess.DEVNULL, env={**environment(market, tmp_path), "DOCKER_HOST": f"unix://{market.socket}",
                                                             "DOCKER_CONFIG": "/nonexistent"})
        assert done.returncode == 0, done.stderr
        return done.stdout

    said = "".join((SHOP / f"gateway/{name}.yaml").read_text() for name in ("policies", "users", "catalogue", "orders", "media", "v1"))
    assert market.cli("apply", "-f", "-", stdin=said).returncode == 0
    trust = (SHOP / "trust.yaml").read_text()
    assert market.cli("apply", "-f", "-", stdin=trust).returncode == 0  # zero from the first moment
    run("up", "-d", "--wait")
    token = json.loads(market.until(201, "/sessions", "-d", '{"user": "ann", "password": "tea"}').text)["token"]
    ann = ("-H", f"Authorization: Bearer {token}")
    try:
        for level, status in (("zero", "403"), ("half", "403"), ("full", "200")):
            assert market.cli("apply", "-f", "-", stdin=trust.replace("level: zero", f"level: {level}")).returncode == 0
            order = market.until(201, "/orders", *ann, "-d", '{"product": "cup"}', timeout=60)
            assert json.loads(order.text)["total"] == 9
            assert market.until(200, "/media/tea.svg").headers["content-type"] == "image/svg+xml"
            assert market.curl("/notes").status == 404
            asked = run("exec", "-T", "catalogue", "python3", "-c", "import urllib.request\ntry: print(urllib.request.urlopen("
                        "'http://notify:8080/notes', timeout=30).status)\nexcept urllib.error.HTTPError as error: print(error.code)")
            assert asked.strip() == status, level
        old = market.curl("/v1/orders", *ann)
        assert json.loads(old.text)[0] == {"order": 1, "client": "ann", "item": "cup", "pieces": 1, "sum": 9}
        assert "deprecation" in old.headers
    finally:
        run("down", "--timeout", "3")
