"""The corten-oci that an installation puts beside its python: bare Python, whatever it is called by and however it was installed."""

import os
import shutil
import subprocess
import sys

import pytest

REPOSITORY = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
SHOW = "import sys; sys.stderr.write(f'{sys.flags.no_site} {sys.flags.isolated} {sys.argv[0]} {sys.argv[1:]}')"


@pytest.fixture
def prefix(tmp_path):
    """As pip leaves it: bin with python and script, and the package's folder."""
    (tmp_path / "bin").mkdir()
    os.symlink(sys.executable, tmp_path / "bin/python3")
    shutil.copy(f"{REPOSITORY}/scripts/corten-oci", tmp_path / "bin")
    site = tmp_path / f"lib/python3.{sys.version_info.minor}/site-packages"
    for name in ("base", "runtime"):
        (site / "corten" / name).mkdir(parents=True)
    (site / "corten/base/import_cache.py").write_text("def install(): pass\n")
    (site / "corten/runtime/cli.py").write_text(f"def main(): {SHOW}\n")
    return tmp_path


def told(*command, cwd=None):
    return subprocess.run(command, stderr=subprocess.PIPE, text=True, check=True, cwd=cwd).stderr


def test_it_starts_python_bare_with_its_arguments(prefix):
    script = prefix / "bin/corten-oci"
    assert told(script, "--root", "/a b", "state") == f"1 1 {script} ['--root', '/a b', 'state']"
    assert told("sh", "corten-oci", cwd=prefix / "bin") == "1 1 corten-oci []"


def test_links_to_it_keep_their_name(prefix, tmp_path):
    os.symlink("corten-oci", prefix / "bin/one")
    (tmp_path / "other").mkdir()
    os.symlink("../bin/one", tmp_path / "other/runc")
    assert told(tmp_path / "other/runc") == f"1 1 {tmp_path}/other/runc []"


def test_a_package_that_lies_where_it_is_worked_on(prefix, tmp_path):
    site = prefix / f"lib/python3.{sys.version_info.minor}/site-packages"
    shutil.move(site / "corten", tmp_path / "src/corten")
    (site / "__editable__.corten-0.1.0.pth").write_text(f"{tmp_path}/src\n")
    assert told(prefix / "bin/corten-oci").startswith("1 1 ")


def test_a_package_found_by_python_alone(prefix, tmp_path):
    site = prefix / f"lib/python3.{sys.version_info.minor}/site-packages"
    shutil.move(site / "corten", tmp_path / "elsewhere/corten")
    done = subprocess.run(
        [prefix / "bin/corten-oci", "list"], stderr=subprocess.PIPE, text=True, check=True,
        env={**os.environ, "PYTHONPATH": str(tmp_path / "elsewhere")},
    )
    assert done.stderr == f"0 0 {prefix}/bin/corten-oci ['list']"
