"""cp both ways, export and diff of a real daemon: running and stopped containers, volumes, read-only roots, hostile tars."""

import base64
import io
import json
import os
import tarfile
import threading

import pytest

from corten.linux.topdir import set_topdir


def tar(*members):
    """Members are (name, data), (TarInfo, data) or TarInfo."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as archive:
        for member in members:
            info, data = member if isinstance(member, tuple) else (member, b"")
            if isinstance(info, str):
                info = tarfile.TarInfo(info)
                info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
    return out.getvalue()


def special(name, kind, link="", mode=0o644):
    info = tarfile.TarInfo(name)
    info.type, info.linkname, info.mode = kind, link, mode
    return info


def put(engine, ref, path, data, query=""):
    return engine.api("PUT", f"/containers/{ref}/archive?path={path}{query}", data,
                      headers={"Content-Type": "application/x-tar"})


def get(engine, ref, path):
    answer = engine.api("GET", f"/containers/{ref}/archive?path={path}")
    if answer.status != 200:
        return answer
    return tarfile.open(fileobj=io.BytesIO(answer.body))


def stat(engine, ref, path):
    import http.client  # the header is what is asked for here
    import socket

    class Unix(http.client.HTTPConnection):
        def connect(self):
            self.sock = socket.socket(socket.AF_UNIX)
            self.sock.connect(engine.socket)

    connection = Unix("d")
    connection.request("HEAD", f"/containers/{ref}/archive?path={path}")
    answer = connection.getresponse()
    connection.close()
    header = answer.getheader("X-Docker-Container-Path-Stat")
    return json.loads(base64.b64decode(header)) if header else answer.status


@pytest.fixture(params=["running", "stopped"])
def container(engine, request):
    return engine.run() if request.param == "running" else engine.create()


def test_put_and_get(engine, container, leaks):
    info = tarfile.TarInfo("owned")
    info.uid, info.gid, info.size, info.mtime = 1234, 4321, 2, 1_600_000_000
    assert put(engine, container, "/tmp", tar(("a/b/file", b"hello"), (info, b"hi"))).status == 200
    archive = get(engine, container, "/tmp/a")
    assert archive.getnames() == ["a", "a/b", "a/b/file"]
    assert archive.extractfile("a/b/file").read() == b"hello"
    member = get(engine, container, "/tmp/owned").getmembers()[0]
    assert (member.name, member.uid, member.gid, member.mtime) == ("owned", 1234, 4321, 1_600_000_000)


@pytest.mark.parametrize(("path", "names"), [
    ("/tmp/d", ["d", "d/f"]), ("/tmp/d/", ["d", "d/f"]), ("/tmp/d/.", [".", "./f"]), ("/tmp/link", ["link"]),
    ("/tmp/link/", ["link", "link/f"]), ("/tmp/link/f", ["f"]),
])
def test_names_in_the_archive(engine, container, path, names):
    put(engine, container, "/tmp", tar(("d/f", b"x"), special("link", tarfile.SYMTYPE, "d")))
    assert get(engine, container, path).getnames() == names


def test_stat(engine, container):
    put(engine, container, "/tmp", tar(("d/f", b"xyz"), special("link", tarfile.SYMTYPE, "../tmp/d"),
                                       special("sticky", tarfile.DIRTYPE, mode=0o1777)))
    assert stat(engine, container, "/tmp/d/f")["size"] == 3
    assert stat(engine, container, "/tmp/d/f")["mode"] == 0o644
    found = stat(engine, container, "/tmp/link")
    assert (found["name"], found["linkTarget"], found["mode"] & 1 << 27) == ("link", "/tmp/d", 1 << 27)
    assert stat(engine, container, "/tmp/sticky")["mode"] == 1 << 31 | 1 << 20 | 0o777
    assert stat(engine, container, "/")["name"] == "/"
    assert stat(engine, container, "/none") == 404


def test_texts_of_refusals(engine, container):
    for answer in (get(engine, container, "/none"), put(engine, container, "/none", tar())):
        assert answer.status == 404 and answer.message.startswith("Could not find the file /")
    answer = put(engine, container, "/bin/busybox", tar())
    assert (answer.status, answer.message) == (400, "extraction point is not a directory")
    assert engine.api("GET", f"/containers/{container}/archive").message == "bad parameter: pathcannot be empty"
    assert get(engine, "none", "/").message == "No such container: none"


def test_read_only_root_and_volume(engine, tmp_path):
    ref = engine.create(HostConfig={"ReadonlyRootfs": True, "Binds": [f"{tmp_path}:/ro:ro", "cpvol:/rw"]})
    answer = put(engine, ref, "/tmp", tar(("f", b"x")))
    assert (answer.status, answer.message) == (400, "container rootfs is marked read-only")
    answer = put(engine, ref, "/ro", tar(("f", b"x")))
    assert (answer.status, answer.message) == (400, "mounted volume is marked read-only")
    assert put(engine, ref, "/rw", tar(("f", b"x"))).status == 200
    assert get(engine, ref, "/rw/f").extractfile("f").read() == b"x"
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("data", [tar(special("d", tarfile.DIRTYPE, mode=0o755), ("d/f", b"1")), tar(("../f", b"1"))],
                         ids=["good", "refused"])
def test_a_folder_copied_into_keeps_its_flags(engine, container, data):
    """It has chattr +T only while the copy lasts."""
    put(engine, container, "/", tar(special("flagged", tarfile.DIRTYPE, mode=0o755)))
    layers = f"{engine.folder}/data/snapshots/{container[:12]}/fs"
    folder = os.open(f"{layers}/flagged", os.O_RDONLY)
    try:
        for before in (False, True):
            set_topdir(folder, before)
            assert put(engine, container, "/flagged", data).status in (200, 400)
            assert set_topdir(folder, before) is before
    finally:
        os.close(folder)


def test_kinds_are_kept_when_asked(engine, container):
    put(engine, container, "/tmp", tar(("d/f", b"x"), ("file", b"y")))
    answer = put(engine, container, "/tmp", tar(("d", b"now a file")), "&noOverwriteDirNonDir=1")
    assert answer.status == 400 and "cannot overwrite directory" in answer.message
    answer = put(engine, container, "/tmp", tar(special("file", tarfile.DIRTYPE)), "&noOverwriteDirNonDir=1")
    assert answer.status == 400 and "cannot overwrite non-directory" in answer.message
    assert put(engine, container, "/tmp", tar(("d", b"now a file"))).status == 200
    assert get(engine, container, "/tmp/d").getmembers()[0].isfile()


def test_owner_of_the_container_when_asked(engine):
    ref = engine.create(User="1000:1001")
    put(engine, ref, "/tmp", tar(("f", b"x")), "&copyUIDGID=1")
    member = get(engine, ref, "/tmp/f").getmembers()[0]
    assert (member.uid, member.gid) == (1000, 1001)


def test_compressed_archives(engine, container):
    import gzip

    assert put(engine, container, "/tmp", gzip.compress(tar(("z", b"unzipped")))).status == 200
    assert get(engine, container, "/tmp/z").extractfile("z").read() == b"unzipped"


@pytest.mark.parametrize("members", [
    [("../../../../canary", b"x")],
    [special("out", tarfile.SYMTYPE, "/../../../.."), ("out/canary", b"x")],
    [special("hard", tarfile.LNKTYPE, "../../../../etc/passwd")],
    [("/etc/../../canary", b"x")],
], ids=["dots", "symlink", "hardlink", "mixed"])
def test_hostile_archives_stay_inside(engine, container, members, tmp_path):
    before = sorted(os.listdir("/"))
    answer = put(engine, container, "/tmp", tar(*members))
    assert answer.status in (200, 400)
    assert sorted(os.listdir("/")) == before
    assert not os.path.exists("/canary")


def test_broken_archives_are_refused(engine, container, leaks):
    assert put(engine, container, "/tmp", b"this is no archive at all" * 100).status == 400
    assert put(engine, container, "/tmp", tar(("big", b"x" * 100_000))[:50_000]).status == 400
    assert put(engine, container, "/tmp", b"").status == 200


def test_links_that_are_swapped_meanwhile_lead_nowhere(engine):
    """CVE-2018-15664: a path that changes between look-up and use."""
    ref = engine.run("sh", "-c", "mkdir -p /w/d; while :; do ln -sfn / /w/l 2>/dev/null; rm -f /w/l; mkdir /w/l; rmdir /w/l; done")
    stop = threading.Event()
    canary = "/s4-canary-file"

    def hammer():
        while not stop.is_set():
            put(engine, ref, "/w/l", tar((canary.strip("/"), b"x")))

    threads = [threading.Thread(target=hammer) for _ in range(2)]
    for thread in threads:
        thread.start()
    for _ in range(15):
        get(engine, ref, "/w/l/etc/shadow")
    stop.set()
    for thread in threads:
        thread.join()
    assert not os.path.exists(canary)


def test_proc_of_a_running_container_is_not_shown(engine):
    ref = engine.run()
    assert get(engine, ref, "/proc").getnames() == ["proc"]
    assert get(engine, ref, "/etc").getnames()  # and what it needs is


def test_tmpfs_of_a_running_container_is_shown(engine):
    ref = engine.run("sh", "-c", "echo kept > /t/f; sleep 1000", HostConfig={"Tmpfs": {"/t": ""}})
    found = None
    for _ in range(3000):
        found = get(engine, ref, "/t/f")
        if isinstance(found, tarfile.TarFile):
            break
    assert found.extractfile("f").read() == b"kept\n"


def test_export(engine, container):
    put(engine, container, "/tmp", tar(("f", b"x")))
    answer = engine.api("GET", f"/containers/{container}/export")
    names = tarfile.open(fileobj=io.BytesIO(answer.body)).getnames()
    assert "bin/busybox" in names and "tmp/f" in names
    assert not [name for name in names if name.startswith("proc/")]


def test_changes(engine, container):
    assert engine.api("GET", f"/containers/{container}/changes").json is None
    put(engine, container, "/tmp", tar(("d/f", b"x")))
    assert engine.api("GET", f"/containers/{container}/changes").json == [
        {"Path": "/tmp", "Kind": 0}, {"Path": "/tmp/d", "Kind": 1}, {"Path": "/tmp/d/f", "Kind": 1}]


def test_changes_tell_deletions(engine):
    ref = engine.run("sh", "-c", "rm /bin/ls; echo > /etc/new", Healthcheck={"Test": ["NONE"]})
    engine.wait(ref)
    found = {entry["Path"]: entry["Kind"] for entry in engine.api("GET", f"/containers/{ref}/changes").json}
    assert found["/bin/ls"] == 2 and found["/bin"] == 0 and found["/etc/new"] == 1


def test_a_client_that_leaves_ends_the_worker(engine, leaks):
    import socket

    ref = engine.run("sh", "-c", "dd if=/dev/zero of=/big bs=1M count=64; sleep 1000")
    for _ in range(3000):
        if isinstance(get(engine, ref, "/big"), tarfile.TarFile):
            break
    client = socket.socket(socket.AF_UNIX)
    client.connect(engine.socket)
    client.sendall(f"GET /containers/{ref}/archive?path=/big HTTP/1.1\r\nHost: d\r\n\r\n".encode())
    client.recv(1000)
    client.close()
    engine.api("DELETE", f"/containers/{ref}?force=1")
