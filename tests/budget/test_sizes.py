"""Files and functions stay small enough to be read; no file is a bag."""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SOURCES = sorted((ROOT / "src/corten").rglob("*.py"))


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(ROOT)))
def test_file_and_its_functions_are_small(path):
    text = path.read_text()
    assert text.count("\n") <= 400, "files are at most 400 lines"
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            assert node.end_lineno - node.lineno + 1 <= 60, f"{node.name} is over 60 lines"


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(ROOT)))
def test_module_says_what_it_is(path):
    assert ast.get_docstring(ast.parse(path.read_text())), "a module begins with a docstring"
    assert path.stem not in {"utils", "util", "helpers", "helper", "common", "misc", "manager"}


def test_init_files_hold_a_docstring_only():
    for path in ROOT.glob("src/corten/*/__init__.py"):
        assert len(ast.parse(path.read_text()).body) == 1, f"{path}: a fat __init__ taxes every module below it"


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(ROOT)))
def test_nothing_dangerous_is_called(path):
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Call):
            name = ast.unparse(node.func)
            assert name not in {"eval", "exec", "pickle.loads", "pickle.load", "yaml.load", "os.system"}
            assert not name.endswith(".extractall")
            assert not any(word.arg == "shell" and ast.unparse(word.value) == "True" for word in node.keywords)
            assert not any(word.arg == "preexec_fn" for word in node.keywords)
