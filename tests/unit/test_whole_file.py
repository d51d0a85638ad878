"""Files that appear whole or not at all, in folders where others may write too."""

import os
import stat

import pytest

from corten.cli.whole_file import appearing


def test_it_appears_at_the_end_with_its_mode(tmp_path):
    path = tmp_path / "x.tar"
    before = os.umask(0o022)
    try:
        with appearing(str(path), mode=0o600) as file:
            file.write(b"one")
            assert not path.exists()
        with appearing(str(tmp_path / "y")) as file:
            pass
    finally:
        os.umask(before)
    assert path.read_bytes() == b"one" and sorted(os.listdir(tmp_path)) == ["x.tar", "y"]
    assert [stat.S_IMODE((tmp_path / name).stat().st_mode) for name in ("x.tar", "y")] == [0o600, 0o644]


def test_one_that_breaks_off_leaves_what_was_there(tmp_path):
    path = tmp_path / "x"
    path.write_text("old")
    with pytest.raises(KeyboardInterrupt), appearing(str(path)) as file:
        file.write(b"half")
        raise KeyboardInterrupt
    assert os.listdir(tmp_path) == ["x"] and path.read_text() == "old"


def test_a_link_in_its_place_is_replaced_and_not_followed(tmp_path):
    (tmp_path / "secret").write_text("kept")
    (tmp_path / "x").symlink_to("secret")
    with appearing(str(tmp_path / "x")) as file:
        file.write(b"new")
    assert (tmp_path / "secret").read_text() == "kept" and (tmp_path / "x").read_text() == "new"


def test_a_folder_that_is_not_there_is_told_by_the_users_name(tmp_path):
    with pytest.raises(FileNotFoundError) as told, appearing(f"{tmp_path}/none/x"):
        pass
    assert told.value.filename == f"{tmp_path}/none/x"
