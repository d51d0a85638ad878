"""Fixtures of the suites that drive a daemon as its users do."""

import subprocess

import pytest
from daemon_process import until
from lecture_client import LAUNCHER, PROGRAMS, Client, traces


@pytest.fixture(scope="session")
def _launcher():
    """./corten has done its first use, so that it prints nothing of its own."""
    subprocess.run([LAUNCHER, "--version"], check=True, capture_output=True, timeout=280)


@pytest.fixture(params=list(PROGRAMS))
def client(request, _launcher, engine, tmp_path):
    """docker, then corten, on the same daemon; after the test nothing of its containers may be left."""
    if PROGRAMS[request.param] is None:
        pytest.skip("needs the docker CLI")
    yield Client(request.param, engine, tmp_path / "client")
    engine.clear()
    until(lambda: not traces(engine), lambda: f"the end of {traces(engine)}")
