"""`corten cp` against `docker cp` on the same engine: what lands where, both ways, and what is refused."""

import os
import shutil
import subprocess

import pytest
from corten_command import COMMAND, corten

DOCKER = shutil.which("docker")

INTO = [
    ["f", ":/new"], ["f", ":/nodir/"], ["f", ":/d"], ["f", ":/d/x"], ["dir", ":/new"], ["dir", ":/d"], ["dir/.", ":/d"],
    ["dir/", ":/new"], ["dir", ":/d/x"], ["link", ":/new"], ["-L", "link", ":/new"], ["flink", ":/new"], ["-L", "flink", ":/d"],
    ["link/", ":/new"], ["f", ":/nope/x"], ["f", ":/absolute"], ["f", ":/absolute/q"], ["dir/.", ":/new"], ["f", ":relative"],
    ["-a", "dir", ":/new"], ["nothing", ":/x"], ["hard", ":/new"],
]
OUT_OF = [
    [":/d", "a"], [":/d", "."], [":/d/.", "b"], [":/d/x", "x1"], [":/d/x", "nodir/"], [":/d/x", "nodir/y"], [":/d/l", "l1"],
    ["-L", ":/d/l", "l2"], ["-L", ":/d/fl", "fl2"], [":/d/in", "file"], [":/d/x", "here"], [":/d/x", "lnk"], [":d/x", "rel"],
    ["-a", ":/d", "arch"], [":/nope", "a"], [":/d/x/", "xx"], [":/d/l/", "ll"],
]
MAKE = "mkdir -p /d/in; echo x >/d/x; echo y >/d/in/y; ln -s in /d/l; ln -s x /d/fl; ln -s /d /absolute; chmod 700 /d/in; sleep 100"
LIST = "find / -xdev -path /proc -prune -o -path /sys -prune -o -path /dev -prune -o -path /bin -prune -o -type f -exec md5sum {} + ; find /d /new /relative 2>/dev/null | sort | while read f; do stat -c '%A %u %g %n' $f; done"


@pytest.fixture
def source(tmp_path):
    folder = tmp_path / "source"
    (folder / "dir" / "sub").mkdir(parents=True)
    (folder / "f").write_text("f\n")
    (folder / "dir" / "g").write_text("g\n")
    (folder / "dir" / "sub" / "h").write_text("h\n")
    (folder / "link").symlink_to("dir")
    (folder / "flink").symlink_to("f")
    os.link(folder / "f", folder / "hard")
    (folder / "dir").chmod(0o750)
    return folder


def _cp(program, socket, words, folder):
    done = subprocess.run([*program, "-H", f"unix://{socket}", "cp", *words], capture_output=True, text=True, cwd=folder, timeout=30)
    lines = [line for line in done.stderr.splitlines() if not line.startswith("time=")]
    return done.returncode, [line.replace("//", "/") for line in lines]


def _tree(folder):
    found = []
    for root, folders, files in os.walk(folder):
        for name in sorted((*folders, *files)):
            path = os.path.join(root, name)
            status = os.lstat(path)
            content = os.readlink(path) if os.path.islink(path) else open(path).read() if os.path.isfile(path) else ""
            found.append((os.path.relpath(path, folder), oct(status.st_mode), status.st_uid, status.st_gid, content))
    return sorted(found)


@pytest.mark.skipif(DOCKER is None, reason="needs the docker CLI")
@pytest.mark.parametrize("words", INTO, ids=" ".join)
def test_into_a_container_as_docker(engine, source, words):
    outcomes = []
    for program in (COMMAND, [DOCKER]):
        container = engine.run("sh", "-c", MAKE)
        engine.docker("exec", container, "sh", "-c", "until [ -e /absolute ]; do sleep 0.02; done")
        given = [container + word if word.startswith(":") else word for word in words]
        code, lines = _cp(program, engine.socket, given, source)
        listing = engine.docker("exec", container, "sh", "-c", LIST).stdout
        outcomes.append((code, [line.replace(container, "C") for line in lines], sorted(
            line for line in listing.splitlines() if "/etc/" not in line)))
    assert outcomes[0] == outcomes[1]


@pytest.mark.skipif(DOCKER is None, reason="needs the docker CLI")
@pytest.mark.parametrize("words", OUT_OF, ids=" ".join)
def test_out_of_a_container_as_docker(engine, tmp_path, words):
    container = engine.run("sh", "-c", MAKE)
    engine.docker("exec", container, "sh", "-c", "until [ -e /absolute ]; do sleep 0.02; done")
    outcomes = []
    for name, program in (("ours", COMMAND), ("theirs", [DOCKER])):
        folder = tmp_path / name
        (folder / "there").mkdir(parents=True)
        (folder / "file").write_text("old")
        (folder / "here").write_text("old")
        (folder / "lnk").symlink_to("there")
        given = [container + word if word.startswith(":") else word for word in words]
        code, lines = _cp(program, engine.socket, given, folder)
        outcomes.append((code, [line.replace(str(folder), "F") for line in lines], _tree(folder)))
    assert outcomes[0] == outcomes[1]


def test_streams(engine, tmp_path):
    container = engine.run("sh", "-c", MAKE)
    done = subprocess.run(["tar", "c", "-C", str(tmp_path), "."], capture_output=True, check=True)
    (tmp_path / "one").write_text("1")
    done = subprocess.run(["tar", "c", "-C", str(tmp_path), "one"], capture_output=True, check=True)
    assert corten(engine.socket, "cp", "-", f"{container}:/d", stdin=done.stdout, text=False).returncode == 0
    out = corten(engine.socket, "cp", f"{container}:/d/one", "-", text=False)
    assert subprocess.run(["tar", "xO"], input=out.stdout, capture_output=True).stdout == b"1"
    refused = corten(engine.socket, "cp", "-", f"{container}:/d/x", stdin=done.stdout, text=False)
    assert refused.returncode == 1 and b"must be a directory" in refused.stderr


def test_usage(engine):
    assert corten(engine.socket, "cp", "a", "b").stderr == "must specify at least one container source\n"
    assert corten(engine.socket, "cp", "a:b", "c:d").stderr == "copying between containers is not supported\n"
