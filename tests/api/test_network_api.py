"""The network API answered as dockerd 28.5 answers it, call by call (network_cases.py says how the table is made)."""

import json
import os
import time

import network_cases
import pytest

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="needs root")

with open(network_cases.EXPECTED) as file:
    EXPECTED = json.load(file)


@pytest.fixture(scope="module")
def side(_shared_daemon, tmp_path_factory):
    made = network_cases.Side(
        _shared_daemon.socket, f"na{os.getpid()}", f"10.{os.getpid() % 50 + 100}", tmp_path_factory.mktemp("images"))
    yield made
    made.clear()


def test_the_table_of_answers_is_whole():
    assert list(EXPECTED) == list(network_cases.CASES)


@pytest.mark.parametrize("name", network_cases.CASES)
def test_answers(side, name):
    found = side.plain(side.run(name))
    for mine, docker in zip(found, EXPECTED[name], strict=True):
        assert mine == docker


def test_networks_that_go_at_once_leave_no_resolver(own_engine):
    """The process of names is started with the first network that has names, and ends with the last."""
    for _ in range(5):
        network = own_engine.api("POST", "/networks/create", {"Name": "short"}).json["Id"]
        assert own_engine.api("DELETE", f"/networks/{network}").status == 204
    deadline = time.monotonic() + 30
    while os.path.exists(f"{own_engine.folder}/run/resolver.sock"):
        assert time.monotonic() < deadline
        time.sleep(0.05)
