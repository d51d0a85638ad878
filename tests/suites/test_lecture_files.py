"""Files of containers from outside: cp both ways, diff, export, commit; and volumes."""

import io
import json
import os
import re
import tarfile

import pytest


@pytest.fixture(params=["running", "stopped", "created"])
def box(request, client):
    """A container named box in each state; cp does not mind which."""
    if request.param == "created":
        client("create", "--name", "box", "busybox", "true")
    else:
        client("run", "-d", "--name", "box", "busybox", "sleep", "100")
        if request.param == "stopped":
            client("stop", "-t", "0", "box")
    return client


def tree(folder):
    return {str(path.relative_to(folder)): path.read_text() if path.is_file() else None for path in sorted(folder.rglob("*"))}


def test_cp_a_file_in_and_out(box, tmp_path):
    source = tmp_path / "source"
    source.write_text("across\n")
    os.chmod(source, 0o750)
    box("cp", source, "box:/root/target")
    box("cp", "box:/root/target", tmp_path / "back")
    assert (tmp_path / "back").read_text() == "across\n" and (tmp_path / "back").stat().st_mode & 0o777 == 0o750
    box("cp", source, "box:/tmp/")  # into a folder, under its own name
    box("cp", "box:/tmp/source", tmp_path / "again")
    assert (tmp_path / "again").read_text() == "across\n"


def test_cp_folders_in_and_out(box, tmp_path):
    site = tmp_path / "site"
    (site / "deep" / "er").mkdir(parents=True)
    (site / "deep" / "er" / "file").write_text("x" * 100_000)
    (site / "index").write_text("hello")
    box("cp", site, "box:/www")            # /www is not there: site becomes it
    box("cp", site, "box:/www")            # it is there: site goes into it
    box("cp", "box:/www", tmp_path / "back")
    assert (tmp_path / "back" / "deep" / "er" / "file").read_text() == "x" * 100_000
    assert tree(tmp_path / "back" / "site") == tree(site)
    (tmp_path / "contents").mkdir()
    box("cp", "box:/www/site/.", tmp_path / "contents")  # only what is in it
    assert tree(tmp_path / "contents") == tree(site)


def test_cp_as_tar_through_pipes(box):
    data = io.BytesIO()
    with tarfile.open(fileobj=data, mode="w") as archive:
        info = tarfile.TarInfo("sub/from-tar")
        info.size, info.uid = 5, 33
        archive.addfile(info, io.BytesIO(b"piped"))
    box("cp", "-a", "-", "box:/tmp", stdin=data.getvalue(), text=False)
    found = tarfile.open(fileobj=io.BytesIO(box("cp", "box:/tmp/sub", "-", text=False)))
    assert [(member.name, member.uid) for member in found if member.isfile()] == [("sub/from-tar", 33)]
    assert found.extractfile("sub/from-tar").read() == b"piped"


def test_cp_says_what_is_wrong(box, tmp_path):
    box("cp", "box:/no/such", "-", fails="Could not find the file /no/such in container box")
    box("cp", f"{tmp_path}/none", "box:/tmp", fails="(?s)no such file or directory")
    box("cp", "box:/etc/passwd", f"{tmp_path}/no/folder/file", fails="(?s)(no such file or directory|invalid output path)")
    box("cp", "here", "there", fails="must specify at least one container source")
    box("cp", "box:/a", "box:/b", fails="copying between containers is not supported")


def test_cp_sees_what_the_program_sees(client, tmp_path):
    client("run", "-d", "--name", "box", "-v", "data:/data", "--tmpfs", "/scratch", "busybox", "sh", "-c",
           "echo in volume >/data/v; echo in memory >/scratch/t; ln -s /etc/passwd /link; touch /up; exec sleep 100")
    client("exec", "box", "sh", "-c", "while [ ! -e /up ]; do sleep 0.02; done")
    client("cp", "box:/data/v", tmp_path)
    client("cp", "box:/scratch/t", tmp_path)
    client("cp", "-L", "box:/link", tmp_path / "followed")
    client("cp", "box:/link", tmp_path / "kept")
    assert (tmp_path / "v").read_text() + (tmp_path / "t").read_text() == "in volume\nin memory\n"
    assert "root:x:0:0" in (tmp_path / "followed").read_text()
    assert os.readlink(tmp_path / "kept") == "/etc/passwd"


def test_a_link_in_the_container_does_not_lead_out(client, tmp_path):
    client("run", "--name", "box", "busybox", "ln", "-s", f"/../../../../{tmp_path}", "/exit")
    (tmp_path / "note").write_text("of the host")
    client("cp", tmp_path / "note", "box:/exit/note2", fails="(?i)(could not find|no such)")
    client("cp", "box:/exit/note", "-", fails="Could not find the file")
    assert not (tmp_path / "note2").exists()


def test_diff_export_commit(client):
    client("run", "--name", "made", "busybox", "sh", "-c", "echo new >/root/new; rm /etc/group; echo more >>/etc/passwd")
    assert set(client("diff", "made").splitlines()) >= {"A /root/new", "D /etc/group", "C /etc/passwd", "C /root", "C /etc"}
    with tarfile.open(fileobj=io.BytesIO(client("export", "made", text=False))) as archive:
        names = archive.getnames()
        assert "root/new" in names and "etc/group" not in names and archive.extractfile("root/new").read() == b"new\n"
    image = client("commit", "-m", "by hand", "-c", 'CMD ["cat","/root/new"]', "made", "lecture/committed:1")
    try:
        assert re.fullmatch("sha256:[0-9a-f]{64}", image)
        assert client("run", "--rm", "lecture/committed:1") == "new"
        assert client("history", "lecture/committed:1", "--format", "{{.Comment}}").splitlines()[0] == "by hand"
    finally:
        client("rm", "-f", *client("ps", "-aq").split())
        client("rmi", "lecture/committed:1")


def test_volumes(client):
    assert client("volume", "create", "--label", "a=b", "data") == "data"
    assert client("volume", "create", "data") == "data"  # again is the same one
    anonymous = client("volume", "create")
    assert re.fullmatch("[0-9a-f]{64}", anonymous)
    assert client("volume", "ls", "-q").split() == sorted(["data", anonymous])
    assert client("volume", "ls").splitlines()[0].split() == ["DRIVER", "VOLUME", "NAME"]
    assert client("volume", "ls", "--filter", "label=a", "--format", "{{.Name}} {{.Driver}}") == "data local"
    found, = json.loads(client("volume", "inspect", "data"))
    assert found["Driver"] == "local" and found["Labels"] == {"a": "b"} and found["Scope"] == "local"
    client("run", "--rm", "-v", "data:/d", "busybox", "sh", "-c", "echo kept >/d/file")
    with open(f"{found['Mountpoint']}/file") as file:  # as in docker, root finds it here
        assert file.read() == "kept\n"
    assert client("volume", "inspect", "-f", "{{.Mountpoint}}", "data") == found["Mountpoint"]
    client("create", "--name", "user", "-v", "data:/d", "busybox", "true")
    client("volume", "rm", "data", fails=r"volume is in use - \[[0-9a-f]{64}\]")
    client("rm", "user")
    assert client("volume", "prune", "-f").splitlines()[:2] == ["Deleted Volumes:", anonymous]
    assert client("volume", "ls", "-q") == "data"
    assert client("volume", "prune", "-a", "-f").splitlines()[1] == "data"
    client("volume", "rm", "data", fails="get data: no such volume")
    client("volume", "inspect", "data", fails="no such volume")
    client("volume", "create", "../bad", fails="includes invalid characters for a local volume name")


def test_one_volume_in_two_containers(client):
    client("run", "-d", "--name", "writer", "-v", "shared:/out", "busybox", "sh", "-c", "echo $HOSTNAME >/out/who; exec sleep 100")
    assert client("run", "--rm", "--volumes-from", "writer:ro", "busybox", "sh", "-c",
                  "while [ ! -s /out/who ]; do sleep 0.02; done; cat /out/who") == client("inspect", "-f", "{{.Config.Hostname}}", "writer")
    client("run", "--rm", "--volumes-from", "writer:ro", "busybox", "touch", "/out/no", fails="Read-only file system")
