"""Fixtures of the suites that drive a daemon as its users do."""

import pytest
from lecture_client import PROGRAMS, Client, traces, until


@pytest.fixture(params=list(PROGRAMS))
def client(request, engine, tmp_path):
    """docker, then corten, on the same daemon; after the test nothing of its containers may be left."""
    if PROGRAMS[request.param] is None:
        pytest.skip("needs the docker CLI")
    yield Client(request.param, engine, tmp_path / "client")
    engine.clear()
    until(lambda: not traces(engine) or None, 5) if traces(engine) else None
    assert traces(engine) == {}
