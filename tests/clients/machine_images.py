"""Images of programs this machine has, for suites that would pull them from a hub: python and a registry.

A program is put in a layer with the libraries it loads; below it lies the busybox layer.
"""

import os
import re
import subprocess

from images import busybox_layer, entry, folder, layer, symlink

PYTHON = "/usr/bin/python3"
REGISTRY = "/usr/bin/docker-registry"
_REGISTRY_CONFIG = b"""version: 0.1
storage: {filesystem: {rootdirectory: /var/lib/registry}, delete: {enabled: true}}
http: {addr: ":5000"}
"""


def _libraries(program):
    text = subprocess.run(["ldd", program], capture_output=True, text=True).stdout
    return re.findall(r"(/\S+) \(0x", text)


class Layer:
    """Files of the machine gathered for one layer, folders above them made once."""

    def __init__(self):
        self.entries = {}

    def _above(self, path):
        parts = path.strip("/").split("/")[:-1]
        for count in range(1, len(parts) + 1):
            name = "/".join(parts[:count])
            self.entries.setdefault(name, folder(name))

    def file(self, path, target=""):
        self._above(target or path)
        name = (target or path).strip("/")
        with open(os.path.realpath(path), "rb") as stream:
            self.entries[name] = entry(name, stream.read(), 0o755 if os.access(path, os.X_OK) else 0o644)

    def program(self, path, target=""):
        self.file(path, target)
        for library in _libraries(os.path.realpath(path)):
            self.file(library)

    def tree(self, path, without=()):
        for where, folders, names in os.walk(path):
            folders[:] = [name for name in folders if name not in without]
            for name in names:
                if os.path.isfile(f"{where}/{name}"):
                    self.file(f"{where}/{name}")

    def link(self, path, target):
        self._above(path)
        self.entries[path.strip("/")] = symlink(path.strip("/"), target)

    def text(self, path, data):
        self._above(path)
        self.entries[path.strip("/")] = entry(path.strip("/"), data)

    def tar(self):
        return layer(self.entries.values())


def python_layers():
    """busybox and the machine's own python as `python` and `python3`."""
    made, real = Layer(), os.path.realpath(PYTHON)
    version = os.path.basename(real)
    made.program(real)
    tree = f"/usr/lib/{version}"
    made.tree(tree, ("test", "__pycache__", "idlelib", "tkinter", "ensurepip", "lib2to3", "pydoc_data"))
    for name in os.listdir(f"{tree}/lib-dynload"):
        for library in _libraries(f"{tree}/lib-dynload/{name}"):
            made.file(library)
    for name in ("python", "python3"):
        made.link(f"/usr/local/bin/{name}", real)
    return [busybox_layer(), made.tar()]


def registry_layers():
    """busybox and Debian's registry, laid out as the official image of that name."""
    made = Layer()
    made.program(REGISTRY, "/bin/registry")
    made.text("/etc/docker/registry/config.yml", _REGISTRY_CONFIG)
    return [busybox_layer(), made.tar()]
