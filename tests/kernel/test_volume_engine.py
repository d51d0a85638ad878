"""The rules of volumes: names, use, anonymous ones, prune, what survives a restart; docker's texts and JSON."""

import asyncio
import os
import re
import stat

import pytest

from corten.base.errors import Conflict, InvalidArgument, NotFound
from corten.base.paths import Layout
from corten.engine.db import Database
from corten.engine.events import Events
from corten.engine.records import Config, ContainerRecord, HostConfig, MountPoint
from corten.engine.volumes import Volumes

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="needs root")
run = asyncio.run


@pytest.fixture
def parts(tmp_path):
    layout = Layout(str(tmp_path / "data"), str(tmp_path / "run"))
    layout.make()
    database = Database(layout.database)
    yield layout, database, Events()
    database.close()


@pytest.fixture
def volumes(parts):
    return Volumes(*parts)


def test_created_listed_and_inspected_as_docker_shows_it(volumes, parts):
    made = run(volumes.create("data", labels={"a": "b"}))
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ", made.pop("CreatedAt"))
    assert made == {"Driver": "local", "Labels": {"a": "b"}, "Mountpoint": f"{parts[0].volumes}/data/_data",
                    "Name": "data", "Options": None, "Scope": "local"}
    assert volumes.inspect("data")["Name"] == "data"
    assert [v["Name"] for v in volumes.list()["Volumes"]] == ["data"]
    assert stat.S_IMODE(os.stat(f"{parts[0].volumes}/data").st_mode) == 0o701
    assert stat.S_IMODE(os.stat(made["Mountpoint"]).st_mode) == 0o755
    assert run(volumes.create("data", labels={"x": "y"}))["Labels"] == {"a": "b"}  # already there: as it is


def test_without_a_name_it_is_anonymous(volumes):
    made = run(volumes.create(""))
    assert re.fullmatch("[0-9a-f]{64}", made["Name"])
    assert made["Labels"] == {"com.docker.volume.anonymous": ""}


@pytest.mark.parametrize(("name", "message"), [
    ("a/b", "includes invalid characters for a local volume name"), ("x", "volume name is too short"),
    ("../etc", "includes invalid characters"), ("a b", "includes invalid characters"), ("-x", "invalid characters"),
    ("é1", "includes invalid characters"), ("ab\n", "includes invalid characters"),
])
def test_bad_names_are_refused(volumes, name, message):
    with pytest.raises(InvalidArgument, match=message):
        run(volumes.create(name))


def test_options_are_honoured_or_refused(volumes, tmp_path):
    folder = tmp_path / "bound"
    folder.mkdir()
    run(volumes.create("bound", options={"type": "none", "o": "bind", "device": str(folder)}))
    assert volumes.mountpoint("bound") == str(folder)
    assert volumes.inspect("bound")["Options"] == {"type": "none", "o": "bind", "device": str(folder)}
    for options, kind, message in (
        ({"foo": "x"}, InvalidArgument, 'create no: invalid option: "foo"'),
        ({"type": "tmpfs"}, InvalidArgument, 'missing required option: "device"'),
        ({"type": "tmpfs", "device": "a\0b"}, InvalidArgument, "NUL"),
        ({"type": "none", "device": "x", "o": "bind"}, InvalidArgument, "absolute"),
    ):
        with pytest.raises(kind, match=message):
            run(volumes.create("no", options=options))
    with pytest.raises(NotFound, match='create no: error looking up volume plugin nope: plugin "nope" not found'):
        run(volumes.create("no", "nope"))
    run(volumes.remove("bound"))
    assert folder.is_dir()


def test_a_volume_in_use_stays(volumes, parts):
    name = run(volumes.ensure("data", "c" * 64))
    with pytest.raises(Conflict, match=r"remove data: volume is in use - \[c{64}\]"):
        run(volumes.remove(name, force=True))
    assert run(volumes.prune({"all": ["1"]})) == ([], 0)
    assert volumes.release("c" * 64) == ["data"]
    run(volumes.remove(name))
    assert os.listdir(parts[0].volumes) == []
    with pytest.raises(NotFound, match="get data: no such volume"):
        run(volumes.remove(name))
    run(volumes.remove(name, force=True))


def test_prune_takes_anonymous_ones_only_unless_told(volumes):
    run(volumes.create("named"))
    anonymous = run(volumes.create(None))["Name"]
    with open(f"{volumes.mountpoint(anonymous)}/f", "wb") as file:
        file.write(b"x" * 1000)
    assert run(volumes.prune({})) == ([anonymous], 1000)
    run(volumes.create("kept", labels={"keep": "1"}))
    assert run(volumes.prune({"all": ["true"], "label!": ["keep"]})) == (["named"], 0)
    with pytest.raises(InvalidArgument, match="invalid filter 'x'"):
        run(volumes.prune({"x": ["1"]}))


def test_filters(volumes):
    run(volumes.create("used"))
    run(volumes.create("idle", labels={"a": "b"}))
    run(volumes.ensure("used", "c1"))

    def names(**filters):
        return [v["Name"] for v in volumes.list(filters)["Volumes"]]

    assert names(dangling=["true"]) == ["idle"]
    assert names(dangling=["false"]) == ["used"]
    assert names(label=["a=b"]) == names(label=["a"]) == ["idle"]
    assert names(label=["a=c"]) == []
    assert names(name=["us", "id"]) == ["idle", "used"]
    assert names(driver=["nfs"]) == []
    with pytest.raises(InvalidArgument, match="invalid filter 'foo'"):
        names(foo=["x"])


def test_everything_is_known_again_after_a_restart(volumes, parts):
    run(volumes.ensure("data", "c1"))
    record = ContainerRecord(
        id="c1", name="c", created_ns=1, image="x", image_id="x", config=Config(), host_config=HostConfig(),
        mounts=[MountPoint(type="volume", destination="/d", name="data")])
    again = Volumes(*parts)
    again.open([record])
    assert again.users("data") == ["c1"]
    with pytest.raises(Conflict):
        run(again.remove("data"))
    assert again.release("c1") == ["data"]


def test_copy_up_fills_a_folder_of_a_volume(volumes, tmp_path):
    layer = tmp_path / "layer"
    (layer / "srv").mkdir(parents=True)
    (layer / "srv" / "index").write_text("hello")
    run(volumes.ensure("web", "c1"))
    place = volumes.mountpoint("web")
    outside = tmp_path / "outside"
    for folder in (f"{place}/there", f"{place}/taken/by", outside):
        os.makedirs(folder)
    os.symlink("there", f"{place}/link")
    os.symlink(outside, f"{place}/away")
    assert run(volumes.copy_up("web", [str(layer)], "/srv", "link"))
    assert os.listdir(f"{place}/there") == ["index"]
    for subpath in ("taken", "absent", "away", "link/index"):
        assert not run(volumes.copy_up("web", [str(layer)], "/srv", subpath))
    assert os.listdir(f"{place}/taken") == ["by"] and os.listdir(outside) == [] and not os.path.exists(f"{place}/absent")


def test_copy_up_fills_an_empty_volume_once(volumes, tmp_path):
    layer = tmp_path / "layer"
    (layer / "srv").mkdir(parents=True)
    (layer / "srv" / "index").write_text("hello")
    run(volumes.ensure("web", "c1"))
    assert run(volumes.copy_up("web", [str(layer)], "/srv"))
    assert os.listdir(volumes.mountpoint("web")) == ["index"]
    (layer / "srv" / "more").write_text("")
    assert not run(volumes.copy_up("web", [str(layer)], "/srv"))
    assert os.listdir(volumes.mountpoint("web")) == ["index"]


def test_removal_does_not_follow_links_out_of_the_volume(volumes, tmp_path):
    canary = tmp_path / "canary"
    canary.mkdir()
    (canary / "f").write_text("x")
    run(volumes.create("trap"))
    os.symlink(canary, f"{volumes.mountpoint('trap')}/link")
    run(volumes.remove("trap"))
    assert (canary / "f").exists()
