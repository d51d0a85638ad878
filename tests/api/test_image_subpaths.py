"""--mount type=image with a subpath: one folder or file of an image, as its layers make it up."""

import os
import subprocess

import pytest
from build_context import build

from corten.base.errors import InvalidArgument
from corten.engine.mount_sources import layers_beneath

DOCKERFILE = """FROM busybox
RUN mkdir -p /a/b && echo low >/a/b/low && echo low >/a/b/gone && echo low >/a/b/changed && ln -s b /a/link
RUN rm /a/b/gone && echo high >/a/b/changed && echo high >/a/b/high
RUN rm -r /a/b && mkdir /a/b && echo new >/a/b/new && mkdir /a/c && echo file >/a/c/file
"""


@pytest.fixture
def layered(engine):
    return build(engine, DOCKERFILE, t="layered")


def read(engine, subpath, *command):
    mount = {"Type": "image", "Source": "layered", "Target": "/m", "ImageOptions": {"Subpath": subpath}}
    container = engine.create(*command, HostConfig={"Mounts": [mount]})
    answer = engine.api("POST", f"/containers/{container}/start")
    if answer.status != 204:
        return answer.message
    engine.wait(container)
    return engine.logs(container)


def test_a_folder_and_a_file(engine, layered):
    assert read(engine, "a/b", "ls", "/m") == "new\n"
    assert read(engine, "a", "sh", "-c", "cd /m; ls; cat c/file; touch x") == "b\nc\nlink\nfile\ntouch: x: Read-only file system\n"
    assert read(engine, "a/c/file", "cat", "/m") == "file\n"


def test_what_cannot_be_had(engine, layered):
    assert "no such file or directory" in read(engine, "a/absent", "true")
    assert "link is a symbolic link" in read(engine, "a/link", "true")
    mount = {"Type": "image", "Source": "layered", "Target": "/m", "ImageOptions": {"Subpath": "../x"}}
    answer = engine.api("POST", "/containers/create", {"Image": "busybox", "HostConfig": {"Mounts": [mount]}})
    assert answer.status == 400 and "subpath must be a relative path" in answer.message


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root")
def test_layers_are_merged_as_overlayfs_does(tmp_path):
    def layer(name, *commands):
        folder = tmp_path / name
        folder.mkdir()
        for command in commands:
            subprocess.run(["sh", "-c", command], cwd=folder, check=True)
        return str(folder)

    low = layer("low", "mkdir -p a/b d; touch a/b/x f")
    hiding = layer("hiding", "mkdir a; mknod a/b c 0 0; mkdir d")
    high = layer("high", "mkdir -p a/b; mkdir f")
    os.setxattr(f"{hiding}/d", "trusted.overlay.opaque", b"y")
    assert layers_beneath([high, low], "a/b") == [f"{high}/a/b", f"{low}/a/b"]
    assert layers_beneath([high, hiding, low], "a/b") == [f"{high}/a/b"]
    assert layers_beneath([hiding, low], "d") == [f"{hiding}/d"]
    assert layers_beneath([high, low], "f") == [f"{high}/f"]
    assert layers_beneath([low], "f") == [f"{low}/f"]
    with pytest.raises(InvalidArgument):
        layers_beneath([hiding, low], "a/b")
