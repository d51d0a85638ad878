"""--mount type=image with a subpath: one folder or file of an image, as its layers make it up."""

import os
import subprocess

import pytest
from build_context import build

from corten.base.errors import InvalidArgument, NotFound
from corten.engine.image_subpath import layers_beneath

DOCKERFILE = """FROM busybox
RUN mkdir -p /a/b && echo low >/a/b/low && echo low >/a/b/gone && echo low >/a/b/changed && ln -s b /a/link && ln -s ../../../etc /a/out && ln -s /a/b /a/absolute
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
    assert read(engine, "a", "sh", "-c", "cd /m; ls; cat c/file; touch x") == "absolute\nb\nc\nlink\nout\nfile\ntouch: x: Read-only file system\n"
    assert read(engine, "a/c/file", "cat", "/m") == "file\n"


def test_links_are_followed_inside_the_image_and_never_out_of_it(engine, layered):
    assert read(engine, "a/link", "ls", "/m") == "new\n"
    assert read(engine, "a/link/new", "cat", "/m") == "new\n"
    told = read(engine, "a/out", "true")
    assert "path concatenation escapes the base directory" in told and "/etc" not in told
    assert "path concatenation escapes the base directory" in read(engine, "a/absolute", "true")


def test_what_cannot_be_had(engine, layered):
    assert "no such file or directory" in read(engine, "a/absent", "true")
    mount = {"Type": "image", "Source": "layered", "Target": "/m", "ImageOptions": {"Subpath": "../x"}}
    answer = engine.api("POST", "/containers/create", {"Image": "busybox", "HostConfig": {"Mounts": [mount]}})
    assert answer.status == 400 and "subpath must be a relative path" in answer.message


def test_what_is_mounted_stays_though_the_image_goes(engine, layered):
    def start():
        assert engine.api("POST", f"/containers/{container}/start").status == 204
        engine.wait(container)

    mount = {"Type": "image", "Source": "layered", "Target": "/m", "ImageOptions": {"Subpath": "a/c"}}
    container = engine.create("cat", "/m/file", HostConfig={"Mounts": [mount]})
    start()
    build(engine, "FROM busybox\n", t="layered")  # the name moves on
    assert engine.api("DELETE", f"/images/{layered.image}").status == 409, "the container still uses it"
    assert engine.api("DELETE", f"/images/{layered.image}?force=1").status == 200
    engine.api("POST", "/build/prune?all=1")
    engine.api("POST", '/images/prune?filters={"dangling":["false"]}')
    start()
    assert engine.logs(container) == "file\nfile\n"
    engine.api("DELETE", f"/containers/{container}")


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
    with pytest.raises(NotFound):
        layers_beneath([hiding, low], "a/b")
    links = layer("links", "mkdir -p a l; ln -s ../f l/file; ln -s . l/here; ln -s .. l/root; ln -s /d l/away; ln -s l/x x",
                  "ln -s ../../outside l/out; ln -s a/absent dangling; ln -s loop loop; ln -s /proc/self/root l/magic")
    assert layers_beneath([links, low], "l/file") == [f"{low}/f"]
    assert layers_beneath([links, low], "l/here/here/root/a/b") == [f"{low}/a/b"]
    assert layers_beneath([links, low], "l/root") == [links, low]
    for path in ("l/away", "l/out", "l/magic", "l/root/l/out"):
        with pytest.raises(InvalidArgument, match="path concatenation escapes the base directory"):
            layers_beneath([links, low], path)
    for path in ("dangling", "loop", "x", "f/x"):
        with pytest.raises(NotFound, match="cannot access path"):
            layers_beneath([links, low], path)
