"""Images of programs this machine has or Debian packages, for suites that would pull them from a hub.

A program is put in a layer with the libraries it loads; below it lies the busybox layer.
"""

import glob
import os
import re
import subprocess
import tempfile

from images import busybox_layer, entry, folder, layer, symlink

PYTHON = "/usr/bin/python3"
REGISTRY = "/usr/bin/docker-registry"
_REGISTRY_CONFIG = b"""version: 0.1
storage: {filesystem: {rootdirectory: /var/lib/registry}, delete: {enabled: true}}
http: {addr: ":5000"}
"""


def _libraries(program, **environment):
    text = subprocess.run(["ldd", program], capture_output=True, text=True, env={**os.environ, **environment}).stdout
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
        return path.strip("/")

    def tar(self):
        return layer(self.entries.values())


def unpacked(*packages):
    """A folder with the files of Debian packages, which are not installed; a TemporaryDirectory."""
    made = tempfile.TemporaryDirectory(prefix="corten-package-", dir="/var/tmp")
    subprocess.run(["apt-get", "-qq", "-o", "APT::Sandbox::User=root", "download", *packages], cwd=made.name, check=True)
    for name in os.listdir(made.name):
        if name.endswith(".deb"):
            subprocess.run(["dpkg", "-x", name, "."], cwd=made.name, check=True)
    return made


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


_NGINX = b"""user root;
error_log /dev/stderr notice;
pid /run/nginx.pid;
events {}
http {
    access_log /dev/stdout;
    include /etc/nginx/conf.d/*.conf;
}
"""
_SITE = b"server { listen 80; root /usr/share/nginx/html; }\n"
_WELCOME = b"<html><head><title>Welcome to nginx!</title></head><body><h1>Welcome to nginx!</h1></body></html>\n"


def nginx_layers():
    made = Layer()
    with unpacked("nginx") as root:
        made.program(f"{root}/usr/sbin/nginx", "/usr/sbin/nginx")
    made.text("/etc/nginx/nginx.conf", _NGINX)
    made.text("/etc/nginx/conf.d/default.conf", _SITE)
    made.text("/usr/share/nginx/html/index.html", _WELCOME)
    for name in ("var/log/nginx", "var/lib/nginx"):
        made._above(f"/{name}/x")
    return [busybox_layer(), made.tar()]


def ping_layer():
    """iputils' ping, which needs no capability, in the place of Debian's busybox's, which does; and a shell that runs it."""
    made = Layer()
    made.program("/bin/dash", "/bin/sh")
    with unpacked("iputils-ping") as root:
        made.program(f"{root}/bin/ping", "/usr/libexec/ping")
    path = made.text("/bin/ping", b'#!/bin/sh\n/usr/libexec/ping "$@" || exit 1\n')  # as busybox's ends
    made.entries[path][0].mode = 0o755
    return made.tar()


def socat_layers():
    made = Layer()
    with unpacked("socat", "libwrap0", "libnsl2", "libtirpc3") as root:
        made.file(f"{root}/usr/bin/socat", "/usr/bin/socat")
        more = ":".join(glob.glob(f"{root}/usr/lib/*-linux-gnu*") + glob.glob(f"{root}/lib/*-linux-gnu*"))
        for library in _libraries(f"{root}/usr/bin/socat", LD_LIBRARY_PATH=more):
            made.file(library, library.removeprefix(root))
    return [busybox_layer(), made.tar()]


def bash_layers():
    made = Layer()
    made.program("/bin/bash", "/usr/local/bin/bash")
    return [busybox_layer(), made.tar()]


def text_layers(path, data, *below):
    """One file more on top of layers (busybox alone unless given)."""
    made = Layer()
    made.text(path, data)
    return [*(below or (busybox_layer(),)), made.tar()]
