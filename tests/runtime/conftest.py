"""`boxes`: containers made by the runtime alone; see runtime_box.py."""

import os

import pytest
from runtime_box import Boxes


@pytest.fixture
def boxes():
    """Fails the test when a mount, cgroup, process or descriptor of its containers is left."""
    if os.geteuid() != 0 or not os.path.exists("/bin/busybox"):
        pytest.skip("needs root and a static busybox")
    before = set(os.listdir("/proc/self/fd"))
    found = Boxes()
    try:
        yield found
    finally:
        found.close()
    assert not found.left_behind()
    assert len(os.listdir("/proc/self/fd")) <= len(before) + 1  # the own pid namespace, kept by the first exec
