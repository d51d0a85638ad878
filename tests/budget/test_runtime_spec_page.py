"""docs/runtime-spec.md and docs/security.md: a row for each field and each number, and tests that exist."""

import re
from pathlib import Path

import pytest

from corten.oci import config_shape

ROOT = Path(__file__).parents[2]
TESTS = {path.stem: path.read_text() for path in ROOT.glob("tests/*/test_*.py")}


def rows(page):
    """(first cell, all test names) of a page's tables."""
    for line in (ROOT / "docs" / page).read_text().splitlines():
        if line.startswith("| ") and not line.startswith("| field") and not line.startswith("| number"):
            cells = [cell.strip() for cell in line.strip("|").split("|")]
            yield cells[0], re.findall(r"`(\w+)::(\w+)`", line)


def test_every_field_has_one_row():
    named = [cell.strip("`") for cell, _ in rows("runtime-spec.md")]
    assert named == list(dict.fromkeys(named))
    assert set(named) == set(config_shape.fields())


@pytest.mark.parametrize("page", ["runtime-spec.md", "security.md"])
def test_every_row_names_tests_that_exist(page):
    for cell, names in rows(page):
        assert names, f"{cell} names no test"
        for file, name in names:
            assert re.search(rf"^(async )?def {name}\(", TESTS.get(file, ""), re.M), f"{cell}: no {file}::{name}"
