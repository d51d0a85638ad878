"""Where docker buildx build takes files from: contexts by name, tars, standard input, other targets, agents."""

import contextlib
import http.server
import json
import os
import shutil
import socket
import stat
import subprocess
import tarfile
import threading
from pathlib import Path

import pytest
from build_context import archive


def test_contexts_by_name(client, tmp_path):
    (tmp_path / "more").mkdir()
    (tmp_path / "more/file").write_text("more\n")
    (tmp_path / "more/left").write_text("out\n")
    (tmp_path / "more/.dockerignore").write_text("left\n")
    told = client.build("""FROM base
COPY --from=more . /more/
RUN --mount=type=bind,from=more,target=/m cat /m/file >/bound
COPY --from=busybox:never /bin/true /tool
""", "-t", "named", "--build-context", f"more={tmp_path}/more", "--build-context", "base=docker-image://busybox",
                        "--build-context", "busybox:never=docker-image://busybox:latest")
    assert "not found" not in told
    assert client.run("named", "sh", "-c", "cat /bound; ls /more; ls /tool") == "more\nfile\n/tool\n"


def test_a_stage_is_replaced_and_not_built(client):
    told = client.build("FROM busybox AS dear\nRUN exit 1\nFROM busybox\nCOPY --from=dear /bin/true /it\n",
                        "--build-context", "dear=docker-image://busybox")
    assert "exit 1" not in told


def test_a_folder_is_a_base_and_takes_a_stage_s_place(client, tmp_path):
    root = tmp_path / "root"
    (root / "bin").mkdir(parents=True)
    shutil.copy("/bin/busybox", root / "bin/busybox")
    for name in ("sh", "cat"):
        (root / "bin" / name).symlink_to("busybox")
    (root / "own").write_text("of the folder\n")
    flags = ("--build-context", f"rootfs={root}")
    client.build("FROM rootfs\nRUN cat /own >/copy\nCMD [\"cat\", \"/copy\"]\n", "-t", "own:1", *flags)
    assert client.run("own:1") == "of the folder\n"
    image = client.engine.api("GET", "/images/own:1/json").json
    assert len(image["RootFS"]["Layers"]) == 2 and image["Config"]["Cmd"] == ["cat", "/copy"]
    assert client.build("FROM rootfs\nRUN cat /own >/copy\nCMD [\"cat\", \"/copy\"]\n", *flags).count("CACHED") >= 1
    (root / "own").write_text("changed\n")
    client.build("FROM rootfs\nRUN cat /own >/copy\n", "-t", "own:2", *flags)
    assert client.run("own:2", "cat", "/copy") == "changed\n"
    client.build("FROM busybox AS base\nRUN false\nFROM base\nRUN cat /own >/copy\n", "-t", "own:3", "--build-context", f"base={root}")
    assert client.run("own:3", "cat", "/copy") == "changed\n"


def test_a_tar_on_standard_input(client, tmp_path):
    tar = archive({"Dockerfile": b"FROM busybox\nCOPY in /\n", "in": b"of the tar\n"}, "gz")
    subprocess.run([client.plugin, "build", "-t", "uploaded", "-"], env=client.environment, input=tar, check=True,
                   timeout=280)
    assert client.run("uploaded", "cat", "/in") == "of the tar\n"


def test_a_dockerfile_on_standard_input_with_a_context_and_without(client):
    client.write(data="from the context\n")
    for flags, text in ((("-f", "-", client.context), "FROM busybox\nCOPY data /\n"), (("-",), "FROM busybox\nRUN echo from nowhere >/data\n")):
        subprocess.run([client.plugin, "build", "-t", "typed", *flags], env=client.environment, input=text, text=True, check=True,
                       timeout=280)
        assert client.run("typed", "cat", "/data").startswith("from ")


def test_limits_and_hosts_of_steps(client):
    client.build("FROM busybox\nRUN ulimit -n >/n; df -k /dev/shm | tail -1 | awk '{print $2}' >/shm; grep elsewhere /etc/hosts >/h\n",
                 "-t", "limits", "--ulimit", "nofile=321:654", "--shm-size", "3m", "--add-host", "elsewhere=192.0.2.7")
    assert client.run("limits", "cat", "/n", "/shm", "/h").split() == ["321", "3072", "192.0.2.7", "elsewhere"]


def test_the_host_network_has_to_be_allowed(client):
    bake = {"target": {"default": {"dockerfile-inline": "FROM busybox\nRUN true\n", "network": "host"}}}
    client.write(**{"bake.json": json.dumps(bake)})
    assert client.bake("-f", "bake.json", "--allow=network.host")


def test_a_target_is_the_context_of_another(client):
    bake = {"group": {"default": {"targets": ["app"]}},
            "target": {"base": {"dockerfile-inline": "FROM busybox\nENV FROM_BASE=yes\nRUN echo base >/base\n"},
                       "app": {"dockerfile-inline": "FROM base\nRUN echo $FROM_BASE >/app\n", "contexts": {"base": "target:base"},
                               "tags": ["baked:1"]}}}
    client.write(**{"bake.json": json.dumps(bake)})
    client.bake("-f", "bake.json")
    assert client.run("baked:1", "cat", "/base", "/app") == "base\nyes\n"


def test_an_ssh_agent(client, tmp_path):
    path = tmp_path / "agent"
    server = socket.socket(socket.AF_UNIX)
    server.bind(str(path))
    server.listen()

    def serve():
        while True:
            try:
                connection = server.accept()[0]
            except OSError:
                return
            with connection:
                if connection.recv(5) == b"\0\0\0\1\x0b":  # SSH_AGENTC_REQUEST_IDENTITIES
                    connection.sendall(b"\0\0\0\5\x0c\0\0\0\0")  # none

    threading.Thread(target=serve, daemon=True).start()
    try:
        client.build(r"""FROM busybox
RUN --mount=type=ssh,mode=0666 test -S $SSH_AUTH_SOCK && printf '\0\0\0\1\13' | timeout 5 nc local:$SSH_AUTH_SOCK | od -An -tx1 >/answer || true
RUN --mount=type=ssh,id=absent test -z "$SSH_AUTH_SOCK"
RUN --mount=type=ssh echo $SSH_AUTH_SOCK >/where; stat -c '%a %u' $SSH_AUTH_SOCK >>/where
""", "-t", "keyed", "--ssh", f"default={path}")
    finally:
        server.close()
    assert client.run("keyed", "cat", "/where") == "/run/buildkit/ssh_agent.0\n600 0\n"
    assert 'unset ssh forward key "mine"' in client.build("FROM busybox\nRUN --mount=type=ssh,id=mine,required=true true\n", code=1)


def test_a_tar_behind_a_url(client, tmp_path):
    with serving({"/app.tar.gz": archive({"Dockerfile": b"FROM busybox\nCOPY in /\n", "in": b"fetched\n"}, "gz")}) as host:
        subprocess.run([client.plugin, "build", "-t", "fetched", f"http://{host}/app.tar.gz"], env=client.environment, check=True,
                       stdin=subprocess.DEVNULL, timeout=280)
    assert client.run("fetched", "cat", "/in") == "fetched\n"


def test_contexts_behind_urls_and_in_repositories(client, tmp_path):
    def git(*words, where=tmp_path / "work"):
        subprocess.run(["git", "-c", "user.name=n", "-c", "user.email=e@x", *words], cwd=where, check=True, stdin=subprocess.DEVNULL,
                       capture_output=True)

    (tmp_path / "work/sub").mkdir(parents=True)
    (tmp_path / "work/sub/in").write_text("committed\n")
    git("init", "-q", "-b", "main", ".")
    git("add", ".")
    git("commit", "-qm", "one")
    git("clone", "-q", "--bare", str(tmp_path / "work"), str(tmp_path / "repo.git"), where=tmp_path)
    git("update-server-info", where=tmp_path / "repo.git")
    files = {f"/{path.relative_to(tmp_path)}": path.read_bytes() for path in tmp_path.glob("repo.git/**/*") if path.is_file()}
    with serving({**files, "/more.tar": archive({"in": b"fetched\n"}), "/lone": b"text"}) as host:
        flags = ("--build-context", f"repo=http://{host}/repo.git#main:sub", "--build-context", f"more=http://{host}/more.tar")
        client.build("FROM busybox\nCOPY --from=repo in /a\nRUN --mount=from=more,target=/m cp /m/in /b\n", "-t", "elsewhere", *flags)
        assert client.run("elsewhere", "cat", "/a", "/b") == "committed\nfetched\n"
        told = client.build("FROM busybox\nCOPY --from=lone x /\n", "--build-context", f"lone=http://{host}/lone", code=1)
        assert "ERROR" in told


@pytest.mark.parametrize("kind", ["gha", "s3,region=x,bucket=y", "azblob,name=z"])
@pytest.mark.parametrize("flag", ["--cache-to", "--cache-from"])
def test_caches_of_other_kinds_are_refused_by_name(client, kind, flag):
    client.environment |= {"ACTIONS_CACHE_URL": "http://127.0.0.1:1/", "ACTIONS_RUNTIME_TOKEN": "t", "ACTIONS_RESULTS_URL": "http://127.0.0.1:1/"}
    told = client.build("FROM busybox\nRUN echo begun\n", flag, f"type={kind}", code=1)
    assert kind.partition(",")[0] in told and "is not there" in told and "echo begun" not in told


@contextlib.contextmanager
def serving(files):
    """host:port of a server of these paths."""

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            data = files.get(self.path.partition("?")[0])
            self.send_response(200 if data is not None else 404)
            self.send_header("Content-Length", str(len(data or b"")))
            self.send_header("Content-Type", "application/x-tar")
            self.end_headers()
            self.wfile.write(data or b"")

        def log_message(self, *_):
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()


def test_a_folder_is_fetched_once_and_then_what_changed(client):
    def contents():
        return client.run("kept", "sh", "-c", "cd /c && find . -type f -o -type l | sort | xargs tail -n +1")

    def built():
        client.build("FROM busybox\nCOPY . /c/\n", "-t", "kept")

    def places():
        return list(Path(client.engine.folder, "data/build/folders").glob("*/context"))

    client.write(one="1\n", two="2\n", three="3\n", **{".dockerignore": "Dockerfile\n.dockerignore\n"})
    (client.context / "d").mkdir()
    (client.context / "d/inner").write_text("in\n")
    before = places()
    built()
    [kept] = [place for place in places() if place not in before]
    numbers = {path.name: path.stat().st_ino for path in kept.rglob("*")}
    client.build("FROM busybox\nCOPY . /c/\nRUN true\n", "-t", "kept")
    assert {path.name: path.stat().st_ino for path in kept.rglob("*")} == numbers
    (client.context / "two").unlink()
    (client.context / "d/inner").unlink()
    (client.context / "d").rmdir()
    client.write(d="a file now\n", one="one\n")
    built()
    assert contents() == "==> ./d <==\na file now\n\n==> ./one <==\none\n\n==> ./three <==\n3\n"
    assert (kept / "three").stat().st_ino == numbers["three"]
    client.engine.api("POST", "/build/prune")
    assert places() == []


def tree_of(folder):
    found = {}
    for path in sorted(folder.rglob("*")):
        status = path.lstat()
        attributes = {} if path.is_symlink() else {name: os.getxattr(path, name) for name in os.listxattr(path) if name.startswith("user.")}
        content = os.readlink(path) if path.is_symlink() else path.read_bytes() if path.is_file() else None
        mode = 0 if path.is_symlink() else stat.S_IMODE(status.st_mode)
        found[str(path.relative_to(folder))] = (stat.S_IFMT(status.st_mode), mode, content, attributes)
    return found


def member_of(tar, member):
    kind = stat.S_IFLNK if member.issym() else stat.S_IFDIR if member.isdir() else stat.S_IFREG
    attributes = {name[13:]: value.encode() for name, value in member.pax_headers.items() if name.startswith("SCHILY.xattr.user.")}
    content = member.linkname if member.issym() else None if member.isdir() else tar.extractfile(member).read()
    return kind, 0 if member.issym() else member.mode & 0o7777, content, attributes


def test_whatever_files_have_become_is_what_is_copied(client, tmp_path):
    place = client.context

    def built():
        client.build("FROM scratch\nCOPY . /\n", "-o", f"type=tar,dest={tmp_path}/out.tar")
        with tarfile.open(tmp_path / "out.tar") as tar:
            return {member.name.strip("/"): member_of(tar, member) for member in tar if member.name.strip("/")}

    client.write(short="s\n", long="l" * 9000, empty="", bits="b\n", mine="m\n", link="not yet\n", named="n\n", **{".dockerignore": "Dockerfile\n"})
    (place / "large").write_bytes(os.urandom(5 << 20))
    (place / "folder").mkdir()
    (place / "folder/below").write_text("below\n")
    (place / "file").symlink_to("short")
    os.setxattr(place / "named", "user.colour", b"blue")

    def expected():
        return {name: one for name, one in tree_of(place).items() if name != "Dockerfile"}

    assert built() == expected()
    client.write(short="s" * 70_000, long="l\n", empty="filled\n", bits="")
    (place / "bits").chmod(0o4750)
    os.chown(place / "mine", 7, 7)
    (place / "mine").chmod(0o400)
    for name in ("link", "file", "folder/below"):
        (place / name).unlink()
    (place / "folder").rmdir()
    (place / "folder").write_text("a file\n")
    (place / "link").symlink_to("long")
    (place / "file").write_text("no link\n")
    (place / "large").write_bytes(os.urandom(3 << 20))
    os.removexattr(place / "named", "user.colour")
    assert built() == expected()
    os.link(place / "long", place / "other")
    client.write(long="both\n")
    assert built() == expected()
    (place / "other").unlink()
    (place / "other").write_text("one\n")
    assert built() == expected()
