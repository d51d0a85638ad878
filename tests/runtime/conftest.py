"""`boxes`: containers made by the runtime alone; see runtime_box.py."""

import os

import pytest
from runtime_box import Boxes


@pytest.fixture
def boxes(leaks):
    if os.geteuid() != 0 or not os.path.exists("/bin/busybox"):
        pytest.skip("needs root and a static busybox")
    found = Boxes()
    try:
        yield found
    finally:
        found.close()
