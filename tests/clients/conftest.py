"""docker buildx on one engine, for the tests of builds over BuildKit's protocol."""

import subprocess
from pathlib import Path

import pytest
from buildx_client import Client

FETCH = Path(__file__).with_name("fetch_plugin.sh")


@pytest.fixture(scope="module")
def plugin(tmp_path_factory):
    """The buildx program."""
    folder = tmp_path_factory.mktemp("buildx")
    done = subprocess.run(["bash", FETCH, folder, "docker-buildx"], capture_output=True, text=True, stdin=subprocess.DEVNULL)
    program = folder / "docker-buildx"
    if done.returncode or subprocess.run([program, "version"], capture_output=True, check=False).returncode:
        pytest.skip(f"machine: Debian's docker-buildx cannot be had or run here: {done.stderr[-300:]}")
    return program


@pytest.fixture
def client(plugin, engine, tmp_path):
    return Client(plugin, engine, tmp_path)
