"""Look-ups inside a root that somebody else filled stay inside it, also while it changes under them."""

import ctypes
import os
import threading

import pytest

from corten.linux import path

AT_FDCWD, RENAME_EXCHANGE = -100, 2


@pytest.fixture
def root(tmp_path):
    (tmp_path / "root/etc").mkdir(parents=True)
    (tmp_path / "canary").mkdir()
    descriptor = os.open(tmp_path / "root", os.O_PATH | os.O_DIRECTORY)
    yield tmp_path, descriptor
    os.close(descriptor)
    assert os.listdir(tmp_path / "canary") == []


@pytest.mark.parametrize("target", ["/canary", "../canary", "../../../../canary", "{tmp}/canary"])
def test_links_lead_inside_the_root(root, target):
    tmp, descriptor = root
    os.symlink(target.format(tmp=tmp), tmp / "root/link")
    os.close(path.make_folder(descriptor, "/link/a/b"))
    os.close(path.make_file(descriptor, "/link/file"))
    inside = path.open_in_root(descriptor, "/link/a/b")
    assert os.readlink(f"/proc/self/fd/{inside}").startswith(f"{tmp}/root/")
    os.close(inside)


def test_dots_do_not_lead_out(root):
    tmp, descriptor = root
    found = path.open_in_root(descriptor, "../../../..")
    assert os.fstat(found).st_ino == os.stat(tmp / "root").st_ino
    os.close(found)


def test_magic_links_are_refused(root):
    slash = os.open("/", os.O_PATH)
    with pytest.raises(OSError):
        path.open_in_root(slash, f"/proc/self/fd/{slash}/etc")
    os.close(slash)


def test_a_file_in_the_way(root):
    tmp, descriptor = root
    (tmp / "root/file").write_text("")
    with pytest.raises(NotADirectoryError):
        path.make_folder(descriptor, "/file/below")


def test_link_loops_end(root):
    tmp, descriptor = root
    os.symlink("two", tmp / "root/one")
    os.symlink("one", tmp / "root/two")
    with pytest.raises(OSError):
        path.make_folder(descriptor, "/one/x")


def test_a_folder_exchanged_with_a_link_to_the_outside(root):
    """500 rounds against renameat2(RENAME_EXCHANGE): every descriptor is below the root."""
    tmp, descriptor = root
    (tmp / "root/swap").mkdir()
    os.symlink(f"{tmp}/canary", tmp / "root/evil")
    over = threading.Event()

    def exchange():
        libc = ctypes.CDLL(None)
        one, other = f"{tmp}/root/swap".encode(), f"{tmp}/root/evil".encode()
        while not over.is_set():
            libc.renameat2(AT_FDCWD, one, AT_FDCWD, other, RENAME_EXCHANGE)

    thread = threading.Thread(target=exchange)
    thread.start()
    try:
        for _ in range(500):
            try:
                found = path.make_folder(descriptor, "/swap/in")
            except OSError:
                continue
            assert os.readlink(f"/proc/self/fd/{found}").removesuffix(" (deleted)").startswith(f"{tmp}/root")
            os.close(found)
    finally:
        over.set()
        thread.join()
