"""What the suites pull from the hub, as data: (names, layers, config) of images with the programs they expect."""

import functools

from images import busybox_layer, entry, folder, layer, symlink
from machine_images import (
    bash_layers,
    nginx_layers,
    ping_layer,
    python_layers,
    registry_layers,
    socat_layers,
    text_layers,
)
from reaper import PROGRAM as REAPER

IMAGES = ("busybox:latest", "busybox:buildroot-2014.02", "alpine:latest", "alpine:3.10")
CONFIG = {"Env": ["PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"], "Cmd": ["sh"]}
_HELLO = b"#!/bin/sh\necho 'Hello from Docker!'\n"


@functools.cache
def shell_layers():
    """busybox and what the suites look for in alpine."""
    users = b"root:x:0:0:root:/root:/bin/sh\npostgres:x:70:70::/var/lib/postgresql:/bin/sh\nnobody:x:65534:65534::/:/\n"
    return [busybox_layer(), layer([folder("var/opt"), entry("etc/passwd", users)]), ping_layer()]


def common_images():
    """What every suite finds on the hub."""
    yield IMAGES, shell_layers(), CONFIG
    yield ("hello-world:latest",), text_layers("/hello", _HELLO), {**CONFIG, "Cmd": ["sh", "/hello"]}


def _registry():
    return ("registry:2",), registry_layers(), {
        **CONFIG, "Entrypoint": ["/bin/registry", "serve"], "Cmd": ["/etc/docker/registry/config.yml"],
        "ExposedPorts": {"5000/tcp": {}}, "Volumes": {"/var/lib/registry": {}}}


def python_images():
    """python and a registry."""
    python = python_layers()
    for names in (("python:3.13-alpine", "python:latest", "python:3.9"), ("python:3.14-alpine",)):
        yield names, python, {**CONFIG, "Cmd": ["python3"], "Labels": {"name": names[0]}}
    yield _registry()


def testcontainers_images():
    """A web server, a registry, socat, bash, the reaper, and programs that say what their official namesakes say."""
    yield _registry()
    web = [*nginx_layers(), ping_layer()]
    yield ("nginx:latest", "nginx:alpine", "nginx:alpine-slim", "nginx:1.25.4-alpine-slim"), web, {
        **CONFIG, "Cmd": ["nginx", "-g", "daemon off;"], "ExposedPorts": {"80/tcp": {}}}
    yield ("alpine/socat:latest", "alpine/socat:1.7.4.3-r0"), socat_layers(), {**CONFIG, "Entrypoint": ["socat"]}
    yield ("bash:latest",), bash_layers(), {**CONFIG, "Cmd": ["bash"]}
    yield ("ubuntu:latest",), bash_layers(), {**CONFIG, "Cmd": ["bash"]}
    yield ("alpine:3.12",), shell_layers(), CONFIG
    yield ("postgres:latest",), shell_layers(), CONFIG
    yield ("testcontainers/helloworld:1.2.0",), text_layers("/www/ping", b"PONG"), {
        **CONFIG, "Cmd": ["httpd", "-f", "-p", "8080", "-h", "/www"], "ExposedPorts": {"8080/tcp": {}}}
    yield ("testcontainers/ryuk:0.8.1",), text_layers("/reaper", REAPER, *python_layers()), {
        **CONFIG, "Cmd": ["python3", "/reaper"], "ExposedPorts": {"8080/tcp": {}}}


def compose_images():
    """busybox in the versions that docker-compose's projects name."""
    for names in (("busybox:1.31.0-uclibc",), ("busybox:1.27.2", "busybox:1.27.0.2"),
                  ("alpine:3.10.1", "alpine:3.12", "alpine:edge")):
        yield names, shell_layers(), {**CONFIG, "Labels": {"name": names[0]}}


_ADDUSER = b"""#!/bin/sh
uid=1000 group=
while getopts Du:G: flag; do case $flag in u) uid=$OPTARG ;; G) group=$OPTARG ;; esac; done
shift $((OPTIND - 1))
if [ "$group" ]; then gid=$(grep "^$group:" /etc/group | cut -d: -f3); else gid=$uid; echo "$1:x:$gid:" >>/etc/group; fi
echo "$1:x:$uid:$gid::/home/$1:/bin/sh" >>/etc/passwd
mkdir -p "/home/$1" && chown "$uid:$gid" "/home/$1"
"""
_ADDGROUP = b"""#!/bin/sh
gid=1000
[ "$1" = -g ] && gid=$2 && shift 2
echo "$1:x:$gid:" >>/etc/group
"""


def moby_images():
    """busybox under its other name, with what its official image has (groups, its own shell, adduser, addgroup), and
    Debian's programs.
    """
    known = ("root:0 daemon:1 bin:2 sys:3 adm:4 tty:5 disk:6 lp:7 mail:8 kmem:9 wheel:10 audio:29 operator:37 staff:50 "
             "users:100 nogroup:65534")
    names = [word.split(":") for word in known.split()]
    users = (b"root:x:0:0:root:/root:/bin/sh\ndaemon:x:1:1:daemon:/usr/sbin:/bin/false\n"
             b"operator:x:37:37:Operator:/var:/bin/false\nnobody:x:65534:65534:nobody:/home:/bin/false\n")
    groups = "".join(f"{name}:x:{number}:\n" for name, number in names).encode()
    full = layer([entry("etc/passwd", users), entry("etc/group", groups), entry("bin/adduser", _ADDUSER, 0o755),
                  entry("bin/addgroup", _ADDGROUP, 0o755), symlink("bin/sh", "busybox")])
    yield ("busybox:glibc",), [*shell_layers(), full], CONFIG
    yield ("debian:bookworm-slim",), bash_layers(), {**CONFIG, "Cmd": ["bash"]}


SETS = {"python": python_images, "testcontainers": testcontainers_images, "compose": compose_images, "moby": moby_images}
