"""Our end of a build's session against the engine's, over a pair of sockets; and against an engine that lies."""

import asyncio
import io
import os
import socket
import stat
import tarfile

import pytest
from grpclib.const import Cardinality, Status
from grpclib.exceptions import GRPCError

from corten.api.buildkit.content import ClientStore
from corten.api.buildkit.files import read_file, receive
from corten.api.buildkit.send import send_file, send_tree
from corten.api.buildkit.sessions import Session
from corten.base.errors import Error, NotFound
from corten.build.buildkit.connection import dial, serve
from corten.build.buildkit.messages import MESSAGES, new
from corten.cli.buildkit.agents import Agents
from corten.cli.buildkit.asked import Asked, Output, Secret
from corten.cli.buildkit.session import Services
from corten.engine.build_export import Part
from corten.oci.digest import digest_of

STAT, REQ, DATA, FIN = range(4)
SEND = "/moby.filesync.v1.FileSend/DiffCopy"


class _Socket:
    def __init__(self, sock):
        self._sock = sock

    def detach(self):
        self._sock.setblocking(False)
        return self._sock, b""


def ask(asked, function, written=None):
    """Run `function(session)` as the engine, against our services."""
    async def both():
        ours, theirs = socket.socketpair()
        services = Services(asked, "/nowhere", Agents({}, ""), (written if written is not None else []).append)
        serving = asyncio.create_task(serve(_Socket(ours), services.methods))
        theirs.setblocking(False)
        channel = await dial(theirs, b"")
        try:
            async with asyncio.timeout(60):
                return await function(Session(channel, frozenset(services.methods), ""))
        finally:
            channel.close()
            serving.cancel()
            await asyncio.gather(serving, return_exceptions=True)

    return asyncio.run(both())


def folder_asked(path, **more):
    asked = Asked()
    asked.folders["context"] = str(path)
    for name, value in more.items():
        setattr(asked, name, value)
    return asked


def members(asked, exclude=()):
    async def take(session):
        return b"".join([piece async for piece in receive(session, "context", exclude=exclude)])

    with tarfile.open(fileobj=io.BytesIO(ask(asked, take))) as archive:
        return {one.name: (one, archive.extractfile(one).read() if one.isreg() else b"") for one in archive}


def test_a_folder_arrives_as_it_is(tmp_path):
    (tmp_path / "a").mkdir(mode=0o750)
    (tmp_path / "a/file").write_bytes(b"x" * 3_000_000)
    (tmp_path / "a/file").chmod(0o4755)
    (tmp_path / "a.b").write_text("sorted by folders, not by letters")
    (tmp_path / "empty").touch()
    os.symlink("/etc/passwd", tmp_path / "link")
    os.link(tmp_path / "a/file", tmp_path / "z")
    os.mkfifo(tmp_path / "fifo")
    sock = socket.socket(socket.AF_UNIX)
    sock.bind(str(tmp_path / "socket"))
    sock.close()
    os.utime(tmp_path / "empty", ns=(0, 1_500_000_000_000_000_000))
    found = members(folder_asked(tmp_path))
    assert list(found) == ["a", "a/file", "a.b", "empty", "fifo", "link", "z"]
    assert found["a"][0].mode == 0o750 and found["a/file"][0].mode == 0o4755 and found["a/file"][1] == b"x" * 3_000_000
    assert found["link"][0].linkname == "/etc/passwd" and found["z"][0].islnk() and found["z"][0].linkname == "a/file"
    assert found["fifo"][0].isfifo() and found["empty"][0].mtime == 1_500_000_000
    assert {one.uid for one, _ in found.values()} == {0}


def test_what_is_left_out_and_taken_back(tmp_path):
    for name in ("keep/in", "logs/a/one", "logs/a/two", "logs/b/one", "other"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(name)
    found = members(folder_asked(tmp_path), ["logs", "!logs/*/one", "other"])
    assert list(found) == ["keep", "keep/in", "logs", "logs/a", "logs/a/one", "logs/b", "logs/b/one"]


def test_many_small_files(tmp_path):
    for number in range(2500):
        (tmp_path / f"{number:04}").write_text(str(number) * (number % 7))
    found = members(folder_asked(tmp_path))
    assert {name: data.decode() for name, (_, data) in found.items()} == {
        f"{number:04}": str(number) * (number % 7) for number in range(2500)}


def test_one_file_by_its_links_and_none_outside(tmp_path):
    (tmp_path / "real").mkdir()
    (tmp_path / "real/Dockerfile").write_text("FROM scratch\n")
    os.symlink("real", tmp_path / "way")
    os.symlink("way/Dockerfile", tmp_path / "Dockerfile")
    os.symlink("/etc/hostname", tmp_path / "out")
    os.symlink("../../../../../../etc/hostname", tmp_path / "up")
    os.symlink("round", tmp_path / "round")
    asked = folder_asked(tmp_path)

    def read(name):
        return ask(asked, lambda session: read_file(session, "context", name))

    assert read("Dockerfile") == b"FROM scratch\n"
    assert read("out") is None and read("up") is None and read("round") is None and read("absent") is None


def test_nothing_but_the_folders_of_the_build_is_read(tmp_path):
    async def other(session):
        return await read_file(session, "/etc", "hostname")

    with pytest.raises(GRPCError) as caught:
        ask(folder_asked(tmp_path), other)
    assert caught.value.status is Status.NOT_FOUND


def test_a_file_that_was_not_listed_is_not_sent(tmp_path):
    (tmp_path / "one").touch()

    async def lie(session):
        kind = MESSAGES["Packet"]
        async with session.channel.request("/moby.filesync.v1.FileSync/DiffCopy", Cardinality.STREAM_STREAM, kind, kind,
                                           metadata=[("dir-name", "context")]) as stream:
            await stream.send_message(kind(type=REQ, ID=7))
            while await stream.recv_message() is not None:
                pass

    with pytest.raises(GRPCError, match="was not told of"):
        ask(folder_asked(tmp_path), lie)


def test_secrets_only_those_named(tmp_path, monkeypatch):
    (tmp_path / "s").write_bytes(b"\0secret")
    monkeypatch.setenv("WORD", "open")
    asked = folder_asked(tmp_path, secrets={"file": Secret(path=str(tmp_path / "s")), "word": Secret(variable="WORD")})
    assert ask(asked, lambda session: session.secret("file")) == b"\0secret"
    assert ask(asked, lambda session: session.secret("word")) == b"open"
    for name in ("HOME", str(tmp_path / "s"), ""):
        with pytest.raises(NotFound):
            ask(asked, lambda session, name=name: session.secret(name))


def test_a_store_gives_and_takes_blobs_by_digest_alone(tmp_path):
    asked = folder_asked(tmp_path, stores={"local:x": str(tmp_path / "store")})
    source = tmp_path / "source"
    source.write_bytes(b"blob" * 700_000)
    digest = digest_of(source.read_bytes())

    async def go(session):
        store = ClientStore(session, "local:x")
        assert not await store.has(digest)
        with open(source, "rb") as file:
            await store.write(digest, source.stat().st_size, file.fileno())
            assert await store.has(digest)
            await store.write(digest, source.stat().st_size, file.fileno())  # there already
        assert await store.read(digest, 1 << 30) == source.read_bytes()
        with pytest.raises(NotFound):
            await store.read(digest_of(b"other"), 100)
        with open(source, "rb") as file, pytest.raises(GRPCError, match="unexpected commit digest"):
            await store.write(digest_of(b"other"), source.stat().st_size, file.fileno())
        for name, wanted in (("local:x", "../../../source"), ("local:y", digest)):
            with pytest.raises(GRPCError):
                await ClientStore(session, name).has(wanted)

    ask(asked, go)
    assert [path.name for path in (tmp_path / "store/blobs/sha256").iterdir()] == [digest[7:]]
    assert [path.name for path in (tmp_path / "store").iterdir()] == ["blobs"]


def tree_output(tmp_path, delete=False):
    output = Output("local", {}, folder=str(tmp_path / "out"))
    output.delete = delete
    return folder_asked(tmp_path, outputs=[output])


def test_a_tree_becomes_a_folder(tmp_path):
    root = tmp_path / "root"
    (root / "d/e").mkdir(parents=True)
    (root / "d/file").write_bytes(b"y" * 2_500_000)
    (root / "d/file").chmod(0o640)
    (root / "d/empty").touch()
    os.link(root / "d/file", root / "same")
    os.symlink("d/file", root / "link")
    (root / "d").chmod(0o500)
    os.utime(root / "d", ns=(0, 1_400_000_000_000_000_000))
    out = tmp_path / "out"
    (out / "d").mkdir(parents=True)
    (out / "d/old").write_text("stays")
    (out / "same").mkdir()

    async def send(session):
        descriptor = os.open(root, os.O_RDONLY)
        try:
            await send_tree(session, 0, [Part(descriptor, "", {})], None)
        finally:
            os.close(descriptor)

    ask(tree_output(tmp_path), send)
    assert (out / "d/file").read_bytes() == b"y" * 2_500_000 and stat.S_IMODE((out / "d/file").stat().st_mode) == 0o640
    assert (out / "same").stat().st_ino == (out / "d/file").stat().st_ino and os.readlink(out / "link") == "d/file"
    assert stat.S_IMODE((out / "d").stat().st_mode) == 0o500 and int((out / "d").stat().st_mtime) == 1_400_000_000
    assert (out / "d/old").read_text() == "stays" and (out / "d/empty").read_bytes() == b""
    (root / "d").chmod(0o700)
    ask(tree_output(tmp_path, delete=True), send)
    assert sorted(os.listdir(out / "d")) == ["e", "empty", "file"]


async def packets(session, entries, contents=True):
    """Be an engine that sends these entries, and b'evil' for whatever is asked for."""
    kind = MESSAGES["Packet"]
    async with session.channel.request(SEND, Cardinality.STREAM_STREAM, kind, kind,
                                       metadata=[("buildkit-attachable-exporter-id", "0")]) as stream:
        await stream.send_request()
        for entry in entries:
            await stream.send_message(kind(type=STAT, stat=entry))
        await stream.send_message(kind(type=STAT))
        while (packet := await stream.recv_message()) is not None and packet.type == REQ:
            await stream.send_message(kind(type=DATA, ID=packet.ID if contents else 99, data=b"evil"))
            await stream.send_message(kind(type=DATA, ID=packet.ID))
        await stream.send_message(kind(type=FIN), end=True)
        while await stream.recv_message() is not None:
            pass


@pytest.mark.parametrize("entries", [
    [new("Stat", path="../escaped", mode=0o644)],
    [new("Stat", path="/escaped", mode=0o644)],
    [new("Stat", path="a/../../escaped", mode=0o644)],
    [new("Stat", path="l", mode=1 << 27 | 0o777, linkname=".."), new("Stat", path="l/escaped", mode=0o644)],
    [new("Stat", path="h", mode=0o644, linkname="../escaped")],
    [new("Stat", path="there/escaped", mode=0o644)],
])
def test_an_engine_that_lies_writes_nothing_outside(tmp_path, entries):
    (tmp_path / "out").mkdir()
    os.symlink("..", tmp_path / "out/there")
    with pytest.raises((GRPCError, Error)):
        ask(tree_output(tmp_path), lambda session: packets(session, entries))
    assert sorted(os.listdir(tmp_path)) == ["out"]


def test_content_that_was_not_asked_for_ends_it(tmp_path):
    with pytest.raises(GRPCError, match="not asked for"):
        ask(tree_output(tmp_path), lambda session: packets(session, [new("Stat", path="f", mode=0o644)], contents=False))


def test_an_archive_appears_whole_or_not_at_all(tmp_path):
    asked = folder_asked(tmp_path, outputs=[Output("tar", {}, file=str(tmp_path / "f")), Output("tar", {}, file="-")])
    written = []

    async def pieces(fails=False):
        yield b"one" * 1000
        if fails:
            raise InterruptedError
        yield b"two"

    with pytest.raises(InterruptedError):
        ask(asked, lambda session: send_file(session, 0, pieces(fails=True), {}))
    assert os.listdir(tmp_path) == []
    ask(asked, lambda session: send_file(session, 0, pieces(), {}))
    assert (tmp_path / "f").read_bytes() == b"one" * 1000 + b"two"
    ask(asked, lambda session: send_file(session, 1, pieces(), {}), written)
    assert b"".join(written) == b"one" * 1000 + b"two"
    with pytest.raises(GRPCError, match="no output"):
        ask(asked, lambda session: send_file(session, 2, pieces(), {}))


def test_an_upload_is_given_once(tmp_path):
    from corten.api.buildkit.contexts import upload

    asked = folder_asked(tmp_path, uploads={"/abc": lambda: iter([b"t", b"ar"])})

    async def take(session):
        return b"".join([piece async for piece in upload(session, "http://buildkit-session/abc")])

    assert ask(asked, take) == b"tar"
    with pytest.raises(GRPCError):
        ask(asked, take)
