"""The file from which corten-oci takes its modules is as good as the modules: stale, damaged or absent it changes nothing."""

import os
import shutil
import subprocess

import pytest

REPOSITORY = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))


@pytest.fixture
def clone(tmp_path):
    for name in ("__init__.py", "base", "linux", "oci", "runtime"):
        source, target = f"{REPOSITORY}/src/corten/{name}", tmp_path / "src/corten" / name
        if os.path.isdir(source):
            shutil.copytree(source, target, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            target.parent.mkdir(parents=True)
            shutil.copy(source, target)
    shutil.copy(f"{REPOSITORY}/corten-oci", tmp_path)
    return tmp_path


def state_of_nothing(clone):
    done = subprocess.run([clone / "corten-oci", "--root", clone / "states", "state", "nothing"], capture_output=True, text=True)
    assert done.returncode == 1
    return done.stderr


def kept(clone):
    return list((clone / "src/corten/__pycache__").glob("oci-state.*"))


def test_a_changed_source_counts_at_once(clone):
    first = state_of_nothing(clone)
    assert "container does not exist" in first and len(kept(clone)) == 1
    assert state_of_nothing(clone) == first
    source = clone / "src/corten/runtime/state.py"
    source.write_text(source.read_text().replace("container does not exist", "nobody knows it"))
    assert "nobody knows it" in state_of_nothing(clone)
    assert "nobody knows it" in state_of_nothing(clone)


@pytest.mark.parametrize("damage", [b"", b"junk", b"\x00" * 100])
def test_a_damaged_file_is_written_anew(clone, damage):
    first = state_of_nothing(clone)
    [file] = kept(clone)
    good = file.read_bytes()
    file.write_bytes(damage)
    assert state_of_nothing(clone) == first
    assert len(file.read_bytes()) > len(good) // 2


def test_a_folder_that_was_moved(clone, tmp_path_factory):
    first = state_of_nothing(clone)
    elsewhere = tmp_path_factory.mktemp("elsewhere") / "clone"
    os.rename(clone, elsewhere)
    before = kept(elsewhere)[0].stat().st_mtime_ns
    assert state_of_nothing(elsewhere) == first
    assert kept(elsewhere)[0].stat().st_mtime_ns == before  # all of it was good still
