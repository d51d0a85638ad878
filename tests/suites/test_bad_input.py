"""Bad input by the real docker CLI and by ours: docker's text and exit code, and nothing is left behind.

The table bad_input.txt holds what docker says. Where a dockerd runs, the table itself is checked against it.
"""

import os
import re
import sqlite3
import tarfile
from pathlib import Path

import pytest
from command_table import World, load
from corten_command import COMMAND
from daemon_process import DOCKER, Daemon
from engine_place import Place
from images import busybox_archive, busybox_layer, docker_archive
from leftovers import left_behind, owned

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="needs root")

DOCKERD = os.environ.get("DOCKERD_SOCKET", "")  # of a dockerd to hold the table itself against
CASES = load(Path(__file__).with_name("bad_input.txt"))
SLOW_DOCKERD = ("a volume of an unknown driver", "a network of an unknown driver", "an unknown log driver")  # it looks for a plugin for 15 s

# without --force-rm the classic builder keeps the container of a step that failed, to be looked at
KEPT_STEPS = ("build with a program that fails", "build with a program that is not there")


def fill(folder):
    """The files that the cases speak of."""
    (Path(folder) / "file").write_text("x\n")
    (Path(folder) / "dir").mkdir()
    script = Path(folder) / "script"
    script.write_text("no magic\n")
    script.chmod(0o755)
    with tarfile.open(f"{folder}/plain.tar", "w") as archive:
        archive.add(f"{folder}/file", "file")


class Side:
    """One engine made ready for the table: its files, ports and images."""

    def __init__(self, engine_socket, prefix):
        self.place = Place(engine_socket)
        folders = self.place.folder()
        for folder in folders:
            fill(folder)
        self.folder = folders[0]
        self.words = {
            "tmp": self.folder, "p": prefix, "img": f"{prefix}img", "noexec": f"{prefix}noexec",
            "registry": self.place.registry_port(), "busy": self.place.busy_port(), "port": self.place.free_port(),
            "closed": self.place.free_port(),
        }
        self.docker = World([DOCKER, "-H", f"unix://{engine_socket}"], **self.words)
        self.corten = World([*COMMAND, "-H", f"unix://{engine_socket}"], **self.words)
        archive = f"{self.folder}/img.tar"
        busybox_archive(archive, [f"{prefix}img:latest"])
        self._load(archive)
        docker_archive(archive, [busybox_layer()], [f"{prefix}noexec:latest"], {})
        self._load(archive)

    def _load(self, archive):
        done = self.docker.call(["load", "-i", archive])
        os.unlink(archive)
        assert done.returncode == 0, done.stderr

    def _names(self, *words):
        return self.docker.call([*words, "--filter", f"name={self.words['p']}"]).stdout.split()

    def clear(self):
        """Remove what a case has made."""
        for listed, remove in ((("ps", "-aq"), ("rm", "-fv")), (("volume", "ls", "-q"), ("volume", "rm", "-f")),
                               (("network", "ls", "-q"), ("network", "rm"))):
            names = self._names(*listed)
            if names:
                self.docker.call([*remove, *names])
        self.docker.call(["rmi", f"{self.words['p']}x"])

    def close(self):
        self.clear()
        self.docker.call(["rmi", "-f", self.words["img"], self.words["noexec"]])
        self.place.close()


@pytest.fixture(scope="module")
def ours():
    daemon = Daemon().start()
    side = None
    try:
        side = Side(daemon.socket, "tb")
        daemon.wait(daemon.run("true", Image="tbimg"))  # the first one makes the bridge, its rules, the cgroups
        daemon.clear()
        side.daemon, side.before = daemon, owned(daemon)
        yield side
        side.close()
        daemon.stop()
        nothing_in_tables(daemon)
    finally:
        if side:
            side.place.close()
        daemon.close()


def nothing_in_tables(daemon):
    """The daemon has ended; its database holds no record of a container, lease, port or volume."""
    database = sqlite3.connect(f"{daemon.folder}/data/corten.db")
    for table in ("container", "exec", "endpoint", "volume", "lease", "port"):
        assert database.execute(f"SELECT * FROM {table}").fetchall() == [], table
    database.close()


@pytest.fixture(scope="module")
def dockers():
    side = Side(DOCKERD, f"tb{os.getpid()}")
    yield side
    side.close()


def without_excerpt(lines):
    """What our own `build` says, but for the Dockerfile's lines above it, which docker's classic builder does not show."""
    if len(lines) < 3 or not re.fullmatch(r".*/Dockerfile:(\d+)", lines[0]):
        return lines
    number = lines[0].rpartition(":")[2]
    ends = [at for at, line in enumerate(lines) if line == "-" * 20]
    assert ends[0] == 1 and any(re.match(rf" *{number} \| >>> ", line) for line in lines[2:ends[1]]), lines
    return lines[ends[1] + 1:]


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
@pytest.mark.parametrize("client", ["docker", "corten"])
def test_bad_input(ours, client, case):
    world = ours.docker if client == "docker" else ours.corten
    try:
        answer = world.run(case)
    finally:
        ours.clear()
    if client == "corten":
        answer.err = without_excerpt([line.replace("corten", "docker") for line in answer.err])
    assert repr(answer) == repr(case.ours or case.docker)
    if case.name in KEPT_STEPS:
        step, = ours.docker.call(["ps", "-aq"]).stdout.split()
        ours.docker.call(["rm", step])
    assert not left_behind(ours.daemon, ours.before)


if os.path.exists(DOCKERD):
    @pytest.mark.parametrize("case", [case for case in CASES if case.name not in SLOW_DOCKERD], ids=lambda case: case.name)
    def test_the_table_is_what_docker_says(dockers, case):
        try:
            answer = dockers.docker.run(case)
        finally:
            dockers.clear()
        assert repr(answer) == repr(case.docker)


def test_a_difference_has_a_reason():
    for case in CASES:
        assert (case.ours is None) == (not case.accept), case.name
        assert repr(case.ours) != repr(case.docker), case.name
