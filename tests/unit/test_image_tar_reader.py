"""The tar reader against Python's own writer, against our writer, and against anything at all."""

import io
import tarfile

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from corten.base.errors import InvalidArgument, Unsupported
from corten.image.inflate import StreamSource
from corten.image.tar_reader import DIRECTORY, HARDLINK, REGULAR, SYMLINK, BadArchive, Reader, parse_pax
from corten.image.tar_writer import END, header, padding


def members(data, piece=7000):
    """[(entry, its data)] of an archive that comes in pieces."""
    source = StreamSource(iter([data[i:i + piece] for i in range(0, len(data), piece)]), 1 << 30)
    reader = Reader(source)
    return [(entry, bytes(reader.read(entry.size))) for entry in reader]


def written(infos, format):
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=format) as tar:
        for info, data in infos:
            tar.addfile(info, io.BytesIO(data))
    return out.getvalue()


names = st.text(st.characters(codec="utf-8", exclude_characters="\0/", exclude_categories=("Cs",)), min_size=1, max_size=60)
paths = st.lists(names, min_size=1, max_size=8).map("/".join)


@given(path=paths, link=paths, data=st.binary(max_size=1500), mode=st.integers(0, 0o7777), uid=st.integers(0, 1 << 31),
       mtime=st.integers(0, 1 << 35), kind=st.sampled_from([tarfile.REGTYPE, tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.DIRTYPE]),
       format=st.sampled_from([tarfile.PAX_FORMAT, tarfile.GNU_FORMAT]))
@settings(max_examples=150, deadline=None)
def test_reads_what_python_writes(path, link, data, mode, uid, mtime, kind, format):
    info = tarfile.TarInfo(path)
    info.mode, info.uid, info.gid, info.mtime, info.type, info.linkname = mode, uid, uid, mtime, kind, link
    info.size = len(data) if kind == tarfile.REGTYPE else 0
    ((entry, found),) = members(written([(info, data)], format))
    assert entry.name.rstrip(b"/") == path.encode().rstrip(b"/")
    assert (entry.kind, entry.mode, entry.uid, entry.gid) == (kind, mode, uid, uid)
    assert entry.mtime_ns == mtime * 1_000_000_000
    assert found == (data if kind == tarfile.REGTYPE else b"")
    if kind in (tarfile.SYMTYPE, tarfile.LNKTYPE):
        assert entry.link == link.encode()


@given(path=paths, link=paths, data=st.binary(max_size=1500), mode=st.integers(0, 0o7777), uid=st.integers(0, 1 << 31),
       size_lie=st.just(0), xattr=st.binary(max_size=40))
@settings(max_examples=100, deadline=None)
def test_python_and_we_read_what_we_write(path, link, data, mode, uid, size_lie, xattr):
    archive = header(path.encode(), REGULAR, mode, uid, uid, len(data), 5_000_000_000, xattrs={b"user.x": xattr})
    archive += data + padding(len(data))
    archive += header(path.encode() + b"2", SYMLINK, 0o777, link=link.encode()) + END
    (first, body), (second, _) = members(archive)
    assert (first.name, first.mode, first.uid, body, first.xattrs) == (path.encode(), mode, uid, data, {b"user.x": xattr})
    assert (second.kind, second.link) == (SYMLINK, link.encode())
    with tarfile.open(fileobj=io.BytesIO(archive)) as tar:
        one, two = tar.getmembers()
        assert (one.name, one.mode, one.uid, tar.extractfile(one).read()) == (path, mode, uid, data)
        assert two.linkname == link


@given(st.binary(max_size=4096))
@settings(max_examples=300, deadline=None)
def test_any_bytes_end_in_a_clean_refusal(data):
    try:
        members(data)
    except (InvalidArgument, Unsupported):
        pass


@given(data=st.data())
@settings(max_examples=300, deadline=None)
def test_a_damaged_archive_never_surprises(data):
    info = tarfile.TarInfo("a" * 150 + "/" + "b" * 120)
    info.size, info.pax_headers = 700, {"SCHILY.xattr.user.a": "1"}
    archive = bytearray(written([(info, bytes(700))], tarfile.PAX_FORMAT))
    for _ in range(data.draw(st.integers(1, 6))):
        archive[data.draw(st.integers(0, len(archive) - 1))] = data.draw(st.integers(0, 255))
    try:
        members(bytes(archive[:data.draw(st.integers(0, len(archive)))]))
    except (InvalidArgument, Unsupported):
        pass


def test_truncated_member_is_an_error():
    archive = header(b"f", REGULAR, size=1000) + bytes(500)
    with pytest.raises(BadArchive, match="unexpected end"):
        members(archive)
    with pytest.raises(BadArchive, match="unexpected end"):
        for _ in Reader(StreamSource(iter([archive]), 1 << 20)):
            pass


def test_huge_extended_header_is_refused_before_it_is_read():
    archive = header(b"x", b"x", size=1 << 32)
    with pytest.raises(BadArchive, match="extended headers"):
        members(archive)


def test_endless_small_extended_headers_are_bounded():
    one = header(b"x", b"L", size=512) + b"n" * 512

    def forever():
        while True:
            yield one * 64

    with pytest.raises(BadArchive, match="extended headers"):
        next(iter(Reader(StreamSource(forever(), 1 << 34))))


def test_negative_and_absurd_sizes_are_refused():
    block = bytearray(header(b"f", REGULAR, size=0))
    block[124:136] = b"\xff" * 12
    block[148:156] = b"        "
    block[148:156] = b"%06o\0 " % sum(block)
    with pytest.raises(BadArchive):
        members(bytes(block) + END)
    with pytest.raises(BadArchive):
        members(_pax({b"size": b"-1"}) + header(b"f", REGULAR))
    with pytest.raises(BadArchive):
        members(_pax({b"size": b"99999999999999999999"}) + header(b"f", REGULAR))


def _pax(records):
    data = b""
    for key, value in records.items():
        body = b" " + key + b"=" + value + b"\n"
        length = len(body) + 2
        data += b"%d" % (length if length > 9 else length - 1) + body
    return header(b"p", b"x", size=len(data)) + data + padding(len(data))


def test_sparse_members_are_refused_by_name():
    with pytest.raises(Unsupported, match="sparse"):
        members(_pax({b"GNU.sparse.major": b"1"}) + header(b"f", REGULAR))
    with pytest.raises(Unsupported, match="sparse"):
        members(header(b"f", b"S") + END)


def test_names_with_nul_or_without_anything_are_refused():
    for records in ({b"path": b"a\0b"}, {b"linkpath": b"\0"}):
        with pytest.raises(BadArchive):
            members(_pax(records) + header(b"f", SYMLINK))
    with pytest.raises(BadArchive):
        members(header(b"", REGULAR) + END)


@pytest.mark.parametrize("data", [b"5 a\n", b"99 a=b\n", b"x a=b\n", b"6 a=b", b"7  a=b\n0", b"\xc2\xb2 a=b\n", b"5 =b\n"])
def test_bad_pax_records(data):
    with pytest.raises(BadArchive):
        parse_pax(data)


def test_links_carry_no_data_and_folders_by_slash():
    link = bytearray(header(b"l", HARDLINK, link=b"t"))
    link[124:136] = b"00000001000\0"
    link[148:156] = b"        "
    link[148:156] = b"%06o\0 " % sum(link)
    (entry, _), (other, _) = members(bytes(link) + header(b"d/", REGULAR) + END)
    assert (entry.kind, entry.size, other.kind) == (HARDLINK, 0, DIRECTORY)
