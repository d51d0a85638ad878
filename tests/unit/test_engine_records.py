"""Records: Docker's spelling, nulls, what is refused by name; and the database under them."""

import msgspec
import pytest

from corten.base.errors import InvalidArgument, Unsupported
from corten.engine import records
from corten.engine.db import Database, NameTaken
from corten.engine.honoured import HOST_CONFIG, refuse_unsupported
from corten.engine.records import Config, ContainerRecord, CreateRequest, HostConfig, decode, encode
from corten.engine.schema import docker_name


def record(**more):
    return ContainerRecord(
        id="a" * 64, name="x", created_ns=1, image="busybox", image_id="sha256:0", config=Config(),
        host_config=HostConfig(), **more)


def test_spelling_is_dockers():
    names = set(HostConfig.__struct_encode_fields__)
    assert len(names - {"KernelMemory", "KernelMemoryTCP"}) == 69  # two are of older versions
    assert {"CpuShares", "NanoCpus", "IpcMode", "UTSMode", "BlkioDeviceReadIOps", "KernelMemoryTCP", "ShmSize",
            "ContainerIDFile", "IOMaximumIOps", "OomKillDisable", "CgroupnsMode"} <= names
    assert len(Config.__struct_encode_fields__) == 25


def test_nulls_mean_not_given():
    asked = decode(b'{"Image":"x","Cmd":null,"HostConfig":{"Memory":null,"Binds":null,"Init":null},"Tty":null}', CreateRequest)
    assert asked.host_config.memory == 0 and asked.host_config.init is None and asked.tty is False


@pytest.mark.parametrize("body", [b"{", b"[]", b'{"HostConfig":{"Memory":"1g"}}', b'{"Env":{"a":1}}', b"[" * 100000])
def test_bad_json_is_an_invalid_argument(body):
    with pytest.raises(InvalidArgument):
        decode(body, CreateRequest)


def test_record_survives_the_database(tmp_path):
    db = Database(str(tmp_path / "db"))
    kept = record(mounts=[records.MountPoint(type="bind", destination="/x", source="/y")])
    kept.networking["bridge"] = records.EndpointConfig(ip_address="10.0.0.2")
    db.put("container", kept.id, encode(kept), kept.name)
    assert records.decode_container(db.get("container", kept.id)) == kept
    assert [key for key, _ in db.all("container")] == [kept.id]
    db.close()


def test_a_name_is_taken_once_and_a_failed_transaction_leaves_nothing(tmp_path):
    db = Database(str(tmp_path / "db"))
    db.put("container", "1", b"{}", "web")
    with pytest.raises(NameTaken), db.transaction():
        db.put("volume", "v", b"{}")
        db.put("container", "2", b"{}", "web")
    assert db.all("volume") == [] and len(db.all("container")) == 1
    db.put("container", "1", b"{}", "other")
    db.put("container", "2", b"{}", "web")
    db.close()


def test_two_daemons_cannot_share_a_database(tmp_path):
    first = Database(str(tmp_path / "db"))
    with pytest.raises(Exception, match="another daemon"):
        Database(str(tmp_path / "db"))
    first.close()
    Database(str(tmp_path / "db")).close()


@pytest.mark.parametrize("attribute", sorted(HOST_CONFIG))
def test_a_field_not_done_yet_is_named(attribute):
    hints = {"volume_driver": "nfs", "isolation": "hyperv", "runtime": "kata", "userns_mode": "other"}
    kind = {field.name: field.type for field in msgspec.structs.fields(HostConfig)}[attribute]
    value = hints.get(attribute, 5 if "int" in str(kind) else "x" if kind is str else [{"a": "b"}])
    with pytest.raises(Unsupported, match=rf"HostConfig\.{docker_name(attribute)} is not supported yet"):
        refuse_unsupported(Config(), HostConfig(**{attribute: value}))


@pytest.mark.parametrize("option", ["apparmor=mine", "label=type:x", "seccomp=/file"])
def test_security_options_not_done_yet(option):
    with pytest.raises(Unsupported):
        refuse_unsupported(Config(), HostConfig(security_opt=[option]))


def test_neutral_values_pass():
    host = HostConfig(runtime="runc", isolation="default", memory_swappiness=-1, userns_mode="host",
                      security_opt=["no-new-privileges", "seccomp=unconfined"], ipc_mode="private")
    refuse_unsupported(Config(), host)
