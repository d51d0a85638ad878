"""dockerd's daemon.json, and the bounds of the build cache as flag and file say them."""

import json

import pytest

from corten.base.errors import InvalidArgument
from corten.daemon.config import parse


@pytest.fixture
def written(tmp_path):
    """A function: an object as a configuration file -> the flags that name it."""
    def write(value):
        path = tmp_path / "daemon.json"
        path.write_text(value if isinstance(value, str) else json.dumps(value))
        return ["--config-file", str(path)]

    return write


def rules(config):
    return None if config.build_gc is None else [
        (rule.most, rule.reserved, rule.free, rule.everything, rule.filters, rule.unused_for_s) for rule in config.build_gc]


def test_settings_of_a_file(written):
    config = parse(written({
        "data-root": "/a", "exec-root": "/b", "hosts": ["unix:///c"], "debug": True, "log-driver": "local",
        "log-opts": {"max-size": "1m"}, "registry-mirrors": ["http://m"], "max-concurrent-downloads": 7, "bip": "10.9.0.1/24", "icc": False,
        "mtu": 1400, "userland-proxy": False, "default-network-opts": {"bridge": {"com.docker.network.driver.mtu": "1300"}},
        "default-address-pools": [{"base": "10.10.0.0/16", "size": 24}]}))
    assert (config.data_root, config.exec_root, config.hosts, config.log_level) == ("/a", "/b", ["unix:///c"], "debug")
    assert (config.log_driver, config.log_options, config.registry_mirrors) == ("local", {"max-size": "1m"}, ["http://m"])
    assert (config.max_concurrent_downloads, config.network.address_pools) == (7, ["base=10.10.0.0/16,size=24"])
    assert (config.network.bip, config.network.icc, config.network.mtu) == ("10.9.0.1/24", False, 1400)
    assert config.network.network_options == ["bridge=com.docker.network.driver.mtu=1300"]
    assert config.build_gc is None and parse(written("")).build_gc is None and parse([]).build_gc is None


def test_flags_beside_a_file(written):
    config = parse([*written({"debug": True}), "--data-root", "/x", "--max-concurrent-uploads", "2"])
    assert (config.data_root, config.max_concurrent_uploads, config.debug) == ("/x", 2, True)
    with pytest.raises(InvalidArgument, match=r"both as a flag and in the configuration file: data-root: \(from flag: /x, from file: /y\)"):
        parse([*written({"data-root": "/y"}), "--data-root", "/x"])


@pytest.mark.parametrize(("gc", "wanted"), [
    ({}, None), ({"enabled": True}, None), ({"enabled": False}, []),
    ({"defaultKeepStorage": "10GB"}, [(0, 10 << 30, 0, False, {}, 0)]),
    ({"defaultReservedSpace": "1g", "defaultMaxUsedSpace": "2g", "defaultMinFreeSpace": "3g"}, [(2 << 30, 1 << 30, 3 << 30, False, {}, 0)]),
    ({"policy": [{"keepStorage": "512MB", "filter": ["unused-for=48h", "type=exec.cachemount"]}, {"maxUsedSpace": 5, "all": True}]},
     [(0, 512 << 20, 0, False, {"type": ["exec.cachemount"]}, 172800), (5, 0, 0, True, {}, 0)]),
])
def test_bounds_of_the_build_cache(written, gc, wanted):
    assert rules(parse(written({"builder": {"gc": gc}}))) == wanted


@pytest.mark.parametrize(("text", "wanted"), [
    ("max-used-space=2GB", [(2 << 30, 0, 0, False, {}, 0)]), ("enabled=false", []),
    ("reserved-space=1m,min-free-space=2m", [(0, 1 << 20, 2 << 20, False, {}, 0)]),
])
def test_bounds_by_flag(text, wanted):
    assert rules(parse(["--builder-gc", text])) == wanted


@pytest.mark.parametrize(("value", "text"), [
    ("{", "unable to configure the daemon"), ("[]", "not an object"), ({"colour": 1, "taste": 2}, "don't match any configuration option: colour, taste"),
    ({"debug": "yes"}, "debug: not of the right kind"), ({"hosts": "unix:///c"}, "hosts: not of the right kind"),
    ({"max-concurrent-downloads": 0}, "must be positive"), ({"builder": {"entitlements": {}}}, "builder: not known: entitlements"),
    ({"builder": {"gc": {"defaultKeepStorage": "much"}}}, "invalid size defaultKeepStorage: 'much'"),
    ({"builder": {"gc": {"policy": [{"all": True}]}}}, "would leave nothing"), ({"builder": {"gc": {"policy": [{"x": 1}]}}}, "not known: x"),
    ({"builder": {"gc": {"speed": 1}}}, "builder.gc: not known: speed"),
])
def test_what_is_wrong_is_named(written, value, text):
    with pytest.raises(InvalidArgument, match="(?s).*" + text.replace(".", r"\.")):
        parse(written(value))


def test_what_is_wrong_on_the_command_line():
    for text in ("max-used-space", "colour=red", "max-used-space=much"):
        with pytest.raises(InvalidArgument):
            parse(["--builder-gc", text])
    with pytest.raises(InvalidArgument, match="No such file"):
        parse(["--config-file", "/nowhere/daemon.json"])
