"""`guest`: runs tests of this tree in a guest and shows what they came to. The guest is described in machine.py."""

import os
import re
import sys

import pytest

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))  # for machine.py and its neighbours

COUNTS = re.compile(r"^=*\s*((?:\d+ \w+, )*\d+ \w+) in [\d.]+s", re.MULTILINE)


@pytest.fixture
def guest():
    """A function (tests, **options of machine.run): fails unless at least one test ran in the guest and none failed."""
    if os.geteuid() != 0:
        pytest.skip("needs root")
    import machine

    def run_tests(tests, **options):
        command = f"CORTEN_NO_SKIPS=1 .venv/bin/python -m pytest -q --color=no --tb=short -p no:cacheprovider {tests}"
        code, output = machine.run(command, **options)
        print(output)
        counts = COUNTS.findall(output)
        assert code == 0 and counts, output[-6000:]
        assert int(re.search(r"(\d+) passed", counts[-1])[1]) > 0

    return run_tests
