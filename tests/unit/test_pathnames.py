"""base.pathnames says what os and os.path say, of any text."""

import os

from hypothesis import given
from hypothesis import strategies as st

from corten.base import pathnames

NAMES = st.text(st.sampled_from("/./a.b..é\udc80"), max_size=12)


@given(NAMES)
def test_one_name(name):
    assert pathnames.normal(name) == os.path.normpath(name)
    assert pathnames.absolute(name) == os.path.abspath(name)
    assert pathnames.split(name) == os.path.split(name)
    assert pathnames.encode(name) == os.fsencode(name)
    assert pathnames.decode(os.fsencode(name)) == name
    assert pathnames.exists(name) == os.path.exists(name)


@given(NAMES, NAMES, NAMES)
def test_joined(one, two, three):
    assert pathnames.join(one, two, three) == os.path.join(one, two, three)


def test_folders_are_made_as_by_makedirs(tmp_path):
    before = os.umask(0o022)
    try:
        for place, make in (("a", lambda path: os.makedirs(path, mode=0o711, exist_ok=True)),
                            ("b", lambda path: pathnames.make_folders(path, 0o711))):
            for path in (f"{tmp_path}/{place}/x/y", f"{tmp_path}/{place}/x/z/", f"{tmp_path}/{place}/x/y"):
                make(path)
    finally:
        os.umask(before)
    assert modes(tmp_path / "a") == modes(tmp_path / "b")


def modes(folder):
    return sorted((os.path.relpath(path, folder), os.stat(path).st_mode) for path, _, _ in os.walk(folder))
