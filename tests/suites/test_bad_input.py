"""Bad input by the real docker CLI and by ours: docker's text and exit code, and nothing is left behind.

The table bad_input.txt holds what docker says. Where a dockerd runs, the table itself is checked against it.
"""

import os
import subprocess
import tarfile
from pathlib import Path

import pytest
from command_table import World, load
from corten_command import COMMAND
from daemon_process import DOCKER
from engine_place import Place
from images import busybox_archive, busybox_layer, docker_archive
from leftovers import left_behind

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="needs root")

DOCKERD = os.environ.get("CORTEN_TEST_DOCKERD", "/var/tmp/dockerd/sock/docker.sock")
CASES = load(Path(__file__).with_name("bad_input.txt"))
SLOW_DOCKERD = ("a volume of an unknown driver", "a network of an unknown driver")  # it looks for a plugin for 15 s


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
        self.docker.call(["rmi", f"{self.words['p']}img:latest" if False else f"{self.words['p']}x"])

    def close(self):
        self.clear()
        self.docker.call(["rmi", "-f", self.words["img"], self.words["noexec"]])
        self.place.close()
