"""COPY's ground: copying and digesting trees that somebody else filled. Needs root (owners, overlay)."""

import os
import stat
from pathlib import Path

import pytest

from corten.base.errors import InvalidArgument
from corten.build.context import Tree, read_dockerfile, select
from corten.build.copier import Copier
from corten.build.dockerignore import Ignore
from corten.build.files import Cancelled, Source
from corten.build.owner import parse_mode, parse_owner
from corten.linux.overlay import new_overlay

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="needs root")


MODES = [  # as BuildKit's --chmod came out
    ("0755", 0o600, False, 0o755), ("u=rwX,go=rX", 0o644, True, 0o755), ("u=rwX,go=rX", 0o644, False, 0o644),
    ("+x", 0o644, False, 0o755), ("a+w,u-r", 0o644, False, 0o266), ("u+s,g=u,o=", 0o644, False, 0o4660),
    ("+w", 0o444, False, 0o666), ("04755", 0o644, False, 0o4755), ("a=", 0o777, False, 0), ("g-w+s", 0o664, False, 0o2644),
]


def go_on() -> None:
    return None


def tree_of(path: Path) -> Tree:
    return Tree(os.open(path, os.O_RDONLY | os.O_DIRECTORY), True)


@pytest.fixture
def context(tmp_path):
    folder = tmp_path / "context"
    (folder / "d" / "sub").mkdir(parents=True)
    (folder / "a.txt").write_text("hi\n")
    (folder / "d" / "y").write_text("y\n")
    (folder / "d" / "sub" / "x").write_text("x\n")
    (folder / "link").symlink_to("a.txt")
    yield folder


@pytest.fixture
def target(tmp_path):
    """A root with an upper over a lower: (descriptor, the host canary beside it)."""
    lower, upper, work, canary = (tmp_path / name for name in ("lower", "upper", "work", "canary"))
    for path in (lower, upper, work, canary):
        path.mkdir()
    (lower / "run").mkdir()
    (lower / "var").mkdir()
    (lower / "var" / "run").symlink_to("/run")
    (lower / "out").symlink_to("/../../../../../../../../" + str(canary))
    (lower / "etc").mkdir()
    (lower / "etc" / "passwd").write_text("root:x:0:0::/:\nweb:x:33:44::/:\n")
    (lower / "etc" / "group").write_text("staff:x:50:\n")
    root = new_overlay([str(lower)], str(upper), str(work))
    yield root, upper, canary
    os.close(root)


def place(root: int, context: Path, path: str, destination: str, owner=(0, 0), mode="") -> None:
    tree = tree_of(context)
    source = Source(tree.root, path)
    try:
        Copier(root, owner, parse_mode(mode), go_on).place(source, destination)
    finally:
        source.close()
        tree.close()


def test_a_folder_gives_its_content_and_a_file_goes_into_a_folder(context, target) -> None:
    root, upper, _ = target
    place(root, context, "d", "/data", (1, 2))
    place(root, context, "a.txt", "/data/", mode="600")
    place(root, context, "a.txt", "/new/name")
    assert (upper / "data" / "sub" / "x").read_text() == "x\n"
    status = (upper / "data" / "sub").stat()
    assert (status.st_uid, status.st_gid) == (1, 2)
    assert (upper / "data").stat().st_uid == 1
    assert stat.S_IMODE((upper / "data" / "a.txt").stat().st_mode) == 0o600
    assert (upper / "new" / "name").read_text() == "hi\n"
    assert (upper / "new" / "name").stat().st_mtime_ns == (context / "a.txt").stat().st_mtime_ns


def test_links_of_the_image_are_followed_inside_it(context, target) -> None:
    root, upper, canary = target
    place(root, context, "a.txt", "/var/run/")
    assert (upper / "run" / "a.txt").read_text() == "hi\n"
    place(root, context, "d", "/out")
    place(root, context, "a.txt", "/out/deep/er/")
    assert list(canary.iterdir()) == []


def test_links_of_the_context_stay_inside_it(context, target) -> None:
    root, upper, _ = target
    (context / "escape").symlink_to("/etc/passwd")
    (context / "up").symlink_to("../../../../etc")
    (context / "etc").mkdir()
    (context / "etc" / "passwd").write_text("mine\n")
    place(root, context, "link", "/l")
    assert (upper / "l").read_text() == "hi\n"
    assert not (upper / "l").is_symlink()
    place(root, context, "escape", "/p")
    assert (upper / "p").read_text() == "mine\n"
    place(root, context, "up/passwd", "/q")
    assert (upper / "q").read_text() == "mine\n"
    (context / "d" / "inner").symlink_to("/etc/shadow")
    place(root, context, "d", "/links")
    assert os.readlink(upper / "links" / "inner") == "/etc/shadow"


def test_fifos_are_never_opened_and_devices_refused(context, target) -> None:
    root, upper, _ = target
    os.mkfifo(context / "d" / "fifo")
    tree = tree_of(context)
    select(tree, ["d"], [], go_on)  # would hang if it were opened
    place(root, context, "d", "/f")
    assert stat.S_ISFIFO((upper / "f" / "fifo").lstat().st_mode)
    os.mknod(context / "null", stat.S_IFCHR | 0o666, os.makedev(1, 3))
    with pytest.raises(InvalidArgument, match="devices and sockets are not copied"):
        select(tree, ["null"], [], go_on)
    with pytest.raises(InvalidArgument, match="devices and sockets are not copied"):
        place(root, context, "null", "/n")
    tree.close()


def test_the_digest_is_of_content_mode_and_names_and_not_of_times(context) -> None:
    def name() -> str:
        tree = tree_of(context)
        try:
            return select(tree, ["d", "a.txt"], [], go_on).name
        finally:
            tree.close()

    first = name()
    assert first.startswith("multi:")
    os.utime(context / "d" / "y", (1, 1))
    os.chown(context / "d" / "y", 5, 5)
    assert name() == first
    os.chmod(context / "d" / "y", 0o755)
    second = name()
    assert second != first
    (context / "d" / "y").write_text("z\n")
    third = name()
    assert third != second
    (context / "d" / "y").rename(context / "d" / "w")
    assert name() != third


def test_wildcards_excludes_and_refusals(context) -> None:
    tree = tree_of(context)
    assert select(tree, ["d/*"], [], go_on).paths == [("", "d/sub"), ("", "d/y")]
    assert select(tree, ["*.txt", "d"], ["a.*"], go_on).paths == [("", "d")]
    with pytest.raises(InvalidArgument, match="forbidden path outside the build context"):
        select(tree, ["../x"], [], go_on)
    with pytest.raises(InvalidArgument, match="stat nope: file does not exist"):
        select(tree, ["nope"], [], go_on)
    with pytest.raises(InvalidArgument, match="no source files were specified"):
        select(tree, ["z*"], [], go_on)
    tree.close()


def test_a_dockerfile_that_is_a_link_out_a_fifo_or_empty_is_refused(context) -> None:
    tree = tree_of(context)
    (context / "Dockerfile").symlink_to("../../etc/passwd")
    with pytest.raises(Exception, match="Cannot locate specified Dockerfile: Dockerfile"):
        read_dockerfile(tree, "")
    (context / "Dockerfile").unlink()
    os.mkfifo(context / "Dockerfile")
    with pytest.raises(InvalidArgument, match="not a regular file"):
        read_dockerfile(tree, "")
    (context / "empty").touch()
    with pytest.raises(InvalidArgument, match=r"the Dockerfile \(empty\) cannot be empty"):
        read_dockerfile(tree, "empty")
    tree.close()


def test_owners_come_from_the_images_own_files(target) -> None:
    root, _, _ = target
    assert parse_owner("web:staff", root) == (33, 50)
    assert parse_owner("web", root) == (33, 44)
    assert parse_owner("7:8", root) == (7, 8)
    for text in ("nobody", "1:", ":1", "٣", "4294967296"):
        with pytest.raises(InvalidArgument):
            parse_owner(text, root)
    for text, mode, folder, expected in MODES:
        parsed = parse_mode(text)
        assert parsed is not None and parsed.of(mode, folder) == expected, text
    with pytest.raises(InvalidArgument):
        parse_mode("zz")


def test_names_of_one_file_stay_one_and_excluded_files_stay_away(context, target) -> None:
    root, upper, _ = target
    (context / "tree" / "sub").mkdir(parents=True)
    (context / "tree" / "one").write_text("x")
    os.link(context / "tree" / "one", context / "tree" / "sub" / "two")
    os.setxattr(context / "tree" / "one", "user.note", b"kept")
    for name in ("a.log", "sub/b.log", "sub/keep.log"):
        (context / "tree" / name).write_text(name)
    source = Source(os.open(context, os.O_RDONLY), "tree")
    Copier(root, (0, 0), None, go_on, Ignore("**/*.log\n!**/keep.log")).place(source, "/t")
    assert sorted(str(path.relative_to(upper / "t")) for path in (upper / "t").rglob("*")) == [
        "one", "sub", "sub/keep.log", "sub/two"]
    assert (upper / "t" / "one").stat().st_ino == (upper / "t" / "sub" / "two").stat().st_ino
    assert os.getxattr(upper / "t" / "one", "user.note") == b"kept"


def test_a_cancelled_build_stops_its_copy(context, target) -> None:
    root, _, _ = target

    def cancelled() -> None:
        raise Cancelled

    tree = tree_of(context)
    source = Source(tree.root, "d")
    with pytest.raises(Cancelled):
        Copier(root, (0, 0), None, cancelled).place(source, "/x")
    source.close()
    tree.close()
