"""What a create request may say: limits, names, mounts, merging with the image. Texts are Docker's."""

import pytest

from corten.base.errors import InvalidArgument
from corten.engine import validate
from corten.engine.create import merge_image_config
from corten.engine.mounts import parse_bind, parse_mount, plan_mounts, tmpfs_options
from corten.engine.records import Config, HostConfig, Mount, RestartPolicy, Ulimit


@pytest.mark.parametrize(("host", "text"), [
    (HostConfig(memory=1 << 20), "Minimum memory limit allowed is 6MB"),
    (HostConfig(memory=64 << 20, memory_swap=32 << 20), "Minimum memoryswap limit should be larger than memory limit"),
    (HostConfig(memory_swap=64 << 20), "You should always set the Memory limit when using Memoryswap limit"),
    (HostConfig(memory=16 << 20, memory_reservation=32 << 20), "can not be less than memory reservation limit"),
    (HostConfig(nano_cpus=99_000_000_000_000), "range of CPUs is from 0.01 to"),
    (HostConfig(nano_cpus=10, cpu_quota=2000), "Conflicting options: Nano CPUs and CPU Quota"),
    (HostConfig(cpuset_cpus="4000"), "Requested CPUs are not available"),
    (HostConfig(cpuset_cpus="1-"), "Invalid value 1- for cpuset cpus"),
    (HostConfig(cpu_period=10), "CPU cfs period can not be less than 1ms"),
    (HostConfig(oom_score_adj=2000), "range for oom score adj"),
    (HostConfig(restart_policy=RestartPolicy(name="foo")), "unknown policy 'foo'"),
    (HostConfig(restart_policy=RestartPolicy(name="always"), auto_remove=True), "can't create 'AutoRemove'"),
    (HostConfig(restart_policy=RestartPolicy(name="no", maximum_retry_count=3)), "maximum retry count"),
    (HostConfig(ulimits=[Ulimit(name="nofile", soft=10, hard=5)]), "soft limit must be less than or equal"),
    (HostConfig(sysctls={"kernel.core_pattern": "|/x"}), "separate kernel namespace"),
    (HostConfig(sysctls={"net.../../kernel/core_pattern": "|/x"}), "net"),
])
def test_impossible_limits(host, text):
    with pytest.raises(InvalidArgument, match=text):
        validate.check_host_config(host)


@pytest.mark.parametrize("name", ["", "a", "/", "!x", "a b", "-x", "../x", "a/b", "x\n", "ü1"])
def test_bad_names(name):
    with pytest.raises(InvalidArgument, match=r"only .* are allowed"):
        validate.check_name(name)


@pytest.mark.parametrize(("text", "number"), [
    ("TERM", 15), ("SIGTERM", 15), ("sigkill", 9), ("9", 9), ("SIGRTMIN+3", 37), ("RTMAX-1", 63), ("RTMIN", 34)])
def test_signals(text, number):
    assert validate.signal_number(text) == number


@pytest.mark.parametrize("text", ["foo", "0", "65", "-9", "9 ", "١", "SIG", "RTMIN+99", "SIG_DFL"])
def test_bad_signals(text):
    with pytest.raises(InvalidArgument, match="invalid signal"):
        validate.signal_number(text)


def test_binds():
    point = parse_bind("/tmp:/x:ro")
    assert (point.type, point.source, point.destination, point.rw, point.propagation) == (
        "bind", "/tmp", "/x", False, "rprivate")
    point = parse_bind("data:/x/../y/")
    assert (point.type, point.name, point.destination, point.mode) == ("volume", "data", "/y", "z")
    assert parse_bind("/only").anonymous
    assert parse_bind("/a:/b:rslave,rw").propagation == "rslave"


@pytest.mark.parametrize(("bind", "text"), [
    ("/tmp:x", "mount path must be absolute"), ("/tmp:/", "destination can't be '/'"), ("/a:/b:foo", "invalid mode: foo"),
    ("/tmp:/x/..", "destination can't be '/'"), ("a!:/x", "includes invalid characters for a local volume name"),
    ("/a:/b:ro:rw", "invalid volume specification"), ("/a:/b:ro,rw", "invalid mode"), ("", "invalid volume specification"),
])
def test_bad_binds(bind, text):
    with pytest.raises(InvalidArgument, match=text):
        parse_bind(bind)


@pytest.mark.parametrize(("mount", "text"), [
    (Mount(type="bind", source="/a"), "Target must not be empty"),
    (Mount(type="bind", target="/a"), "Source must not be empty"),
    (Mount(type="tmpfs", source="/a", target="/b"), "Source must not be specified"),
    (Mount(type="what", target="/b"), "mount type unknown"),
])
def test_bad_mounts(mount, text):
    with pytest.raises(InvalidArgument, match=text):
        parse_mount(mount)


def test_a_mount_point_is_used_once_and_hides_the_images_volume():
    host = HostConfig(binds=["/tmp:/data"])
    points = plan_mounts(Config(volumes={"/data": {}, "/other": {}}), host, {})
    assert [(p.destination, p.type) for p in points] == [("/data", "bind"), ("/other", "volume")]
    host.binds.append("v:/data")
    with pytest.raises(InvalidArgument, match="Duplicate mount point: /data"):
        plan_mounts(Config(), host, {})


def test_tmpfs_words():
    assert tmpfs_options("size=64m,mode=1777,exec") == ["size=64m", "mode=1777", "exec"]
    with pytest.raises(InvalidArgument, match='invalid tmpfs option "foo"'):
        tmpfs_options("rw,foo")


def test_image_defaults_fill_what_is_open():
    config = Config(env=["A=mine"], labels={"a": "1"}, cmd=["x"])
    merge_image_config(config, {
        "Env": ["A=image", "PATH=/bin"], "Cmd": ["sh"], "Entrypoint": ["/init"], "User": "www", "Labels": {"a": "0", "b": "2"},
        "ExposedPorts": {"80/tcp": {}}, "WorkingDir": "/w", "StopSignal": "SIGINT"})
    assert config.env == ["A=mine", "PATH=/bin"] and config.entrypoint == ["/init"] and config.cmd == ["x"]
    assert config.labels == {"a": "1", "b": "2"} and config.user == "www" and config.working_dir == "/w"


def test_an_entrypoint_of_ones_own_drops_the_images_command():
    config = Config(entrypoint=["/mine"])
    merge_image_config(config, {"Cmd": ["sh"], "Entrypoint": ["/init"]})
    assert config.entrypoint == ["/mine"] and config.cmd is None
    config = Config(entrypoint=[""], cmd=["y"])
    merge_image_config(config, {"Cmd": ["sh"], "Entrypoint": ["/init"]})
    assert config.entrypoint is None and config.cmd == ["y"]
