"""Daemons with a gateway."""

import os

import pytest
from gateway_world import World
from mesh_world import Shop


@pytest.fixture(scope="session")
def _shared_world():
    if os.geteuid() != 0 or not os.path.exists("/bin/busybox"):
        pytest.skip("needs root and a static busybox")
    world = World().start()
    try:
        yield world.load_busybox()
    finally:
        world.close()


@pytest.fixture
def world(_shared_world):
    """A daemon with a gateway; what was registered and run is taken away after the test."""
    yield _shared_world
    _shared_world.clear()


@pytest.fixture
def shop(world):
    """Services on a network of their own, on the shared daemon."""
    made = Shop(world)
    try:
        yield made
    finally:
        made.close()


@pytest.fixture
def own_world():
    """One for a test alone: it may be killed."""
    world = World().start()
    try:
        yield world.load_busybox()
    finally:
        world.close()


