"""Run a command against an engine of its own: `with_engine.py [--socket PATH] [--images SET] [--tcp] COMMAND ARGUMENT...`.

`--socket`: a link to the engine's socket for as long as the command runs; `--images`: a set of `hub_images.SETS` more;
`--tcp`: DOCKER_HOST is a port of loopback before the socket, for suites whose clients know no other way to websockets.

Starts a registry that stands in for the hub and a daemon in roots of its own, both with the images that suites expect
(made on the spot from busybox), sets DOCKER_HOST and runs the command; its exit code is ours. With ENGINE_SOCKET in
the environment that engine is used as it is, so that the same suite can be run against another one.
"""

import argparse
import contextlib
import os
import socket
import subprocess
import sys
import threading

sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.abspath(__file__))))

from daemon_process import Daemon, call
from hub_images import CONFIG, IMAGES, SETS, common_images, shell_layers
from images import docker_archive
from registry_server import running_registry


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
    docker_archive(archive, shell_layers(), IMAGES, CONFIG)
    try:
        with open(archive, "rb") as file:
            answer = engine.api("POST", "/images/load", file.read(), headers={"Content-Type": "application/x-tar"})
    finally:
        os.unlink(archive)
    assert answer.status == 200, answer.body


def fill(registry, images):
    """The hub's official images, by their full names."""
    for names, content, config in images:
        for name in names:
            repository, _, tag = name.partition(":")
            registry.put_image(repository if "/" in repository else f"library/{repository}", tag, content, config)


@contextlib.contextmanager
def linked(link, target):
    """A symbolic link for as long as it lasts, unless something is there."""
    made = bool(link) and not os.path.lexists(link)
    if made:
        os.symlink(target, link)
    try:
        yield
    finally:
        if made:
            os.unlink(link)


def _copy(source, target):
    with contextlib.suppress(OSError):
        while data := source.recv(65536):
            target.sendall(data)
    with contextlib.suppress(OSError):
        target.shutdown(socket.SHUT_WR)


def _accept(listener, path):
    with contextlib.suppress(OSError):
        while True:
            client, _ = listener.accept()
            server = socket.socket(socket.AF_UNIX)
            server.connect(path)
            for pair in ((client, server), (server, client)):
                threading.Thread(target=_copy, args=pair, daemon=True).start()


@contextlib.contextmanager
def loopback_port(path):
    """host:port that leads to a unix socket."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        threading.Thread(target=_accept, args=(listener, path), daemon=True).start()
        yield "{}:{}".format(*listener.getsockname())


def options(arguments):
    parser = argparse.ArgumentParser()
    parser.add_argument("--socket", default="")
    parser.add_argument("--images", choices=sorted(SETS))
    parser.add_argument("--tcp", action="store_true")
    parser.add_argument("command", nargs=argparse.REMAINDER)
    return parser.parse_args(arguments)


def main(arguments):
    given = options(arguments)
    foreign = os.environ.get("ENGINE_SOCKET")
    with contextlib.ExitStack() as stack:
        if foreign:
            engine = Foreign(foreign.removeprefix("unix://"))
        else:
            registry = stack.enter_context(running_registry())
            fill(registry, [*common_images(), *(SETS[given.images]() if given.images else ())])
            engine = Daemon("--registry-mirror", f"http://{registry.host}", *os.environ.get("DAEMON_FLAGS", "").split())
        stack.callback(engine.close)
        engine.start()
        load_images(engine, f"/var/tmp/corten-images-{os.getpid()}.tar")
        if given.images == "python" and not foreign:
            engine.docker("pull", "python:latest")
        stack.enter_context(linked(given.socket, engine.socket))
        host = f"unix://{engine.socket}"
        if given.tcp:
            host = f"tcp://{stack.enter_context(loopback_port(engine.socket))}"
        environment = {**os.environ, "DOCKER_HOST": host}
        code = subprocess.run(given.command, env=environment).returncode
        if os.environ.get("SHOW_LOG") and not foreign:
            print(engine.output(), file=sys.stderr)
        return code


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
