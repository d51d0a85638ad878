"""What a client says of its files, as a tar; and how often it is asked for their content."""

import asyncio
import io
import stat
import tarfile

import pytest

from corten.api.buildkit import files
from corten.base.errors import InvalidArgument
from corten.build.buildkit.messages import new

FOLDER, LINK, FIFO, SOCKET = 1 << 31, 1 << 27, 1 << 25, 1 << 24


def read(*entries):
    data = b"".join(files._header(entry) for entry in entries) + bytes(1024)
    return list(tarfile.open(fileobj=io.BytesIO(data)))


def test_entries_become_members():
    long = "l" * 120 + "/é"
    found = read(
        new("Stat", path="d", mode=FOLDER | 1 << 20 | 0o755, modTime=7_900_000_000),
        new("Stat", path="d/f", mode=1 << 23 | 0o644, uid=1, gid=3_000_000, modTime=-1, xattrs={"user.a": b"\xff=1\n"}),
        new("Stat", path="d/h", mode=0o644, linkname="d/f", size=9), new("Stat", path="d/s", mode=LINK | 0o777, linkname=long),
        new("Stat", path="d/p", mode=FIFO | 0o600), new("Stat", path="d/gone", mode=SOCKET), new("Stat", path=long, mode=0o600))
    folder, file, hard, link, fifo, named = found
    assert folder.isdir() and folder.mode == stat.S_ISVTX | 0o755 and folder.mtime == 7
    assert (file.mode, file.uid, file.gid, file.mtime) == (stat.S_ISUID | 0o644, 1, 3_000_000, 0)
    assert file.pax_headers["SCHILY.xattr.user.a"].encode("utf-8", "surrogateescape") == b"\xff=1\n"
    assert hard.islnk() and hard.linkname == "d/f" and hard.size == 0 and link.issym() and link.linkname == long
    assert fifo.isfifo() and named.name == long


@pytest.mark.parametrize("fields", [{"size": -1}, {"uid": -1}, {"gid": -5}, {"devmajor": 1 << 40, "mode": 1 << 26}, {"devminor": -1}])
def test_numbers_that_are_none_are_refused(fields):
    with pytest.raises(InvalidArgument, match="invalid size, owner or device"):
        files._header(new("Stat", path="x", **fields))


class _Client:
    """A client with so many files of one byte: it answers what it is asked for, file by file."""

    def __init__(self, count):
        self.packets = [new("Packet", stat=new("Stat", path=f"f{number:05}", mode=0o644, size=1)) for number in range(count)]
        self.packets.append(new("Packet"))
        self.pieces = 0

    async def next(self):
        return self.packets.pop(0)

    async def asked(self, _stream, requests):
        self.pieces += 1
        for request in requests:
            self.packets += (new("Packet", type=files.DATA, ID=request.ID, data=b"x"), new("Packet", type=files.DATA, ID=request.ID))


def test_ten_thousand_files_are_asked_for_in_few_pieces(monkeypatch):
    client = _Client(10_000)
    monkeypatch.setattr(files, "Inbox", lambda stream, kind: client)
    monkeypatch.setattr(files, "send_many", client.asked)

    async def tar():
        transfer = files._Transfer(None)
        await transfer.read_list()
        return b"".join([piece async for piece in files.FolderListing(transfer).tar(None, ["d/gone"])])

    members = tarfile.open(fileobj=io.BytesIO(asyncio.run(tar()))).getmembers()
    assert len(members) == 10_001 and members[0].name == "d/.wh.gone" and members[-1].size == 1
    assert client.pieces < 20
