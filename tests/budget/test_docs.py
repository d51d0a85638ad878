"""The documents tell the truth about the tree: each path they name exists, each page has its other language."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGES = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md"), *ROOT.glob("examples/**/*.md")])


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_path_named_exists(page):
    text = page.read_text()
    for target in re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", text):
        assert (page.parent / target).exists(), f"link to {target}"
    for path in re.findall(r"`((?:corten|docs|tests|bench|examples)/[A-Za-z0-9_./-]+)`", text):
        place = ROOT / "src" if path.startswith("corten/") else ROOT
        assert (place / path.rstrip("/")).exists(), f"names {path}"


@pytest.mark.parametrize("page", [p for p in PAGES if p.name.endswith(".zh-CN.md")],
                         ids=lambda page: str(page.relative_to(ROOT)))
def test_a_chinese_page_has_its_english_one(page):
    assert page.with_name(page.name.replace(".zh-CN", "")).exists()


def test_architecture_names_every_package():
    text = (ROOT / "ARCHITECTURE.md").read_text()
    for package in (ROOT / "src/corten").iterdir():
        if package.is_dir() and package.name != "__pycache__":
            assert f"corten/{package.name}/" in text, f"ARCHITECTURE.md does not speak of corten/{package.name}/"
