"""Contexts and images that try to reach the host by a build: nothing of it is read or written."""

import os
import tarfile

import pytest
from build_context import build

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="needs root")


@pytest.fixture
def canary(tmp_path):
    folder = tmp_path / "canary"
    folder.mkdir()
    (folder / "secret").write_text("the host's\n")
    yield folder
    assert sorted(os.listdir(folder)) == ["secret"]
    assert (folder / "secret").read_text() == "the host's\n"


def node(kind, **fields):
    entry = tarfile.TarInfo()
    entry.type, entry.mode = kind, 0o666
    for name, value in fields.items():
        setattr(entry, name, value)
    return entry


def test_links_out_of_the_context_lead_nowhere(engine, canary):
    files = {"link": ("link", f"{canary}/secret"), "up": ("link", "../" * 20 + str(canary)[1:]), "dir": ("link", str(canary))}
    for source in ("link", "up", "up/secret", "dir/secret"):
        done = build(engine, f"FROM scratch\nCOPY {source} /x\n", files=files)
        assert "file does not exist" in done.error, source
    done = build(engine, "FROM busybox\nCOPY . /all\nRUN readlink /all/link; cat /all/link || true\n", files=files, nocache="1")
    assert "the host's" not in done.text


def test_members_of_the_context_cannot_be_written_outside(engine, canary):
    for name in (f"../../../../../../../..{canary}/new", f"{canary}/new"):
        files = {name: b"x", "a": b"a"}
        build(engine, "FROM scratch\nCOPY a /\n", files=files)
    files = {"l": ("link", str(canary)), "l/new": b"x", "a": b"a"}
    build(engine, "FROM scratch\nCOPY a /\n", files=files)


def test_links_of_the_image_stay_in_the_image(engine, canary):
    done = build(engine, f"FROM busybox\nRUN mkdir -p /q && ln -s {canary} /out && ln -s ../../../../..{canary} /up\n"
                         "COPY a.txt /out/new\nCOPY d /up/\nWORKDIR /out/work\nADD a.txt ./\n", nocache="1")
    assert not done.error


def test_a_dockerfile_that_is_a_link_a_fifo_or_a_device(engine, canary):
    for member in (("link", f"{canary}/secret"), node(tarfile.FIFOTYPE),
                   node(tarfile.CHRTYPE, devmajor=1, devminor=5)):
        done = build(engine, "", files={"Other": member}, dockerfile="Other")
        assert done.status in (400, 500), member


def test_fifos_and_devices_of_the_context_are_never_opened(engine):
    files = {"fifo": node(tarfile.FIFOTYPE), "zero": node(tarfile.CHRTYPE, devmajor=1, devminor=5), "a": b"a"}
    done = build(engine, "FROM busybox\nCOPY fifo /\nRUN test -p /fifo\n", files=files, nocache="1")
    assert not done.error
    assert build(engine, "FROM scratch\nCOPY zero /\n", files=files).error


def test_an_archive_of_add_stays_below_its_destination(engine, canary):
    from build_context import archive

    inner = archive({"l": ("link", str(canary)), "l/new": b"x"})
    build(engine, "FROM busybox\nADD in.tar /d/\n", files={"in.tar": inner}, nocache="1")
    inner = archive({f"../../../../../..{canary}/new": b"x"})
    assert build(engine, "FROM busybox\nADD in.tar /d/\n", files={"in.tar": inner}, nocache="1").error


def test_malformed_contexts_are_refused(engine):
    for data in (b"no tar at all" * 100, b"\x1f\x8b\x08\0garbage", b"\xfd7zXZ\0\0\0", b"\0" * 1024):
        answer = engine.api("POST", "/build", data, headers={"Content-Type": "application/x-tar"})
        assert answer.status in (400, 500), data[:8]


def test_a_dockerfile_of_stars_does_not_hold_the_daemon(engine):
    text = "FROM scratch\nARG V=" + "a" * 3000 + "\nENV W=${V%%" + "*a" * 40 + "b}\nCOPY " + "*a" * 40 + "b /\n"
    done = build(engine, text, files={"a" * 200: b"x"})
    assert "no source files were specified" in done.error
