"""Run a command against an engine of its own: `with_engine.py [--socket PATH] [--programs] COMMAND ARGUMENT...`.

`--socket`: a link to the engine's socket for as long as the command runs; `--programs`: images of python and a registry.

Starts a registry that stands in for the hub and a daemon in roots of its own, both with the images that suites expect
(made on the spot from busybox), sets DOCKER_HOST and runs the command; its exit code is ours. With ENGINE_SOCKET in
the environment that engine is used as it is, so that the same suite can be run against another one.
"""

import contextlib
import os
import subprocess
import sys

sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.abspath(__file__))))

from daemon_process import Daemon, call
from images import busybox_layer, docker_archive, entry, folder, layer
from machine_images import python_layers, registry_layers
from registry_server import running_registry

IMAGES = ("busybox:latest", "busybox:buildroot-2014.02", "alpine:latest", "alpine:3.10", "hello-world:latest")
CONFIG = {"Env": ["PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"], "Cmd": ["sh"]}


def layers():
    """busybox and what the suites look for in alpine."""
    users = b"root:x:0:0:root:/root:/bin/sh\npostgres:x:70:70::/var/lib/postgresql:/bin/sh\nnobody:x:65534:65534::/:/\n"
    return [busybox_layer(), layer([folder("var/opt"), entry("etc/passwd", users)])]


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
    docker_archive(archive, layers(), IMAGES, CONFIG)
    try:
        with open(archive, "rb") as file:
            answer = engine.api("POST", "/images/load", file.read(), headers={"Content-Type": "application/x-tar"})
    finally:
        os.unlink(archive)
    assert answer.status == 200, answer.body


def program_images():
    """(names, layers, config) of what suites run besides a shell."""
    python = python_layers()
    for names in (("python:3.13-alpine", "python:latest", "python:3.9"), ("python:3.14-alpine",)):
        yield names, python, {**CONFIG, "Cmd": ["python3"], "Labels": {"name": names[0]}}
    yield ("registry:2",), registry_layers(), {
        **CONFIG, "Entrypoint": ["/bin/registry", "serve"], "Cmd": ["/etc/docker/registry/config.yml"],
        "ExposedPorts": {"5000/tcp": {}}, "Volumes": {"/var/lib/registry": {}}}


def fill(registry, programs):
    """The hub's official images, by their full names."""
    images = [(IMAGES, layers(), CONFIG), *(program_images() if programs else ())]
    for names, content, config in images:
        for name in names:
            repository, _, tag = name.partition(":")
            registry.put_image(f"library/{repository}", tag, content, config)


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


def main(arguments):
    link, programs = "", False
    if arguments[:1] == ["--socket"]:
        link, arguments = arguments[1], arguments[2:]
    if arguments[:1] == ["--programs"]:
        programs, arguments = True, arguments[1:]
    foreign = os.environ.get("ENGINE_SOCKET")
    with contextlib.ExitStack() as stack:
        if foreign:
            engine = Foreign(foreign.removeprefix("unix://"))
        else:
            registry = stack.enter_context(running_registry())
            fill(registry, programs)
            engine = Daemon("--registry-mirror", f"http://{registry.host}", *os.environ.get("DAEMON_FLAGS", "").split())
        stack.callback(engine.close)
        engine.start()
        load_images(engine, f"/var/tmp/corten-images-{os.getpid()}.tar")
        if programs and not foreign:
            engine.docker("pull", "python:latest")
        stack.enter_context(linked(link, engine.socket))
        environment = {**os.environ, "DOCKER_HOST": f"unix://{engine.socket}"}
        code = subprocess.run(arguments, env=environment).returncode
        if os.environ.get("SHOW_LOG") and not foreign:
            print(engine.output(), file=sys.stderr)
        return code


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
