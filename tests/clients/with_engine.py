"""Run a command against an engine of its own: `with_engine.py [--socket /var/run/docker.sock] COMMAND ARGUMENT...`.

Starts a daemon in roots of its own, loads the busybox image under the names that suites expect to find on a hub, sets
DOCKER_HOST and runs the command; its exit code is ours. With ENGINE_SOCKET in the environment that engine is used as
it is, so that the same suite can be run against another one.
"""

import os
import subprocess
import sys

sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.abspath(__file__))))

from daemon_process import Daemon, call
from images import busybox_archive

IMAGES = ["busybox:latest", "busybox:buildroot-2014.02", "alpine:latest", "alpine:3.10", "hello-world:latest"]


class Foreign:
    """An engine that runs already."""

    def __init__(self, socket):
        self.socket = socket

    def api(self, method, url, body=None, headers=None):
        return call(self.socket, method, url, body, 60, headers)

    def start(self):
        return self

    def close(self):
        pass


def load_images(engine, archive):
    busybox_archive(archive, IMAGES)
    try:
        with open(archive, "rb") as file:
            answer = engine.api("POST", "/images/load", file.read(), headers={"Content-Type": "application/x-tar"})
    finally:
        os.unlink(archive)
    assert answer.status == 200, answer.body


def main(arguments):
    link = ""
    if arguments[:1] == ["--socket"]:
        link, arguments = arguments[1], arguments[2:]
    foreign = os.environ.get("ENGINE_SOCKET")
    engine = Foreign(foreign.removeprefix("unix://")) if foreign else Daemon()
    try:
        engine.start()
        load_images(engine, f"/var/tmp/corten-images-{os.getpid()}.tar")
        if link and not os.path.lexists(link):
            os.symlink(engine.socket, link)
        else:
            link = ""
        environment = {**os.environ, "DOCKER_HOST": f"unix://{engine.socket}"}
        return subprocess.run(arguments, env=environment).returncode
    finally:
        if link:
            os.unlink(link)
        if os.environ.get("KEEP_LOG") and not foreign:
            print(engine.output(), file=sys.stderr)
        engine.close()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
