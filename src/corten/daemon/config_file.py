"""`--config-file`: dockerd's daemon.json, as far as this daemon has its settings; what is not known is named.

A setting stands in the file or on the command line, not in both. Source: docs.docker.com/reference/cli/dockerd,
"Daemon configuration file".
"""

import argparse
from collections.abc import Mapping

from corten.base.errors import InvalidArgument
from corten.base.files import parse_json
from corten.engine.build_gc import GcRule, read_rules

_LIMIT_BYTES = 1 << 20
_LISTS = {
    "dns": "dns", "dns-opts": "dns_options", "dns-search": "dns_search", "host-gateway-ips": "host_gateways",
    "hosts": "hosts", "insecure-registries": "insecure_registries", "registry-mirrors": "registry_mirrors",
}
_TEXTS = {
    "data-root": "data_root", "exec-root": "exec_root", "group": "group", "ip": "ip", "log-driver": "log_driver",
    "log-level": "log_level", "pidfile": "pidfile", "storage-driver": "storage_driver", "tlscacert": "tls_ca",
    "tlscert": "tls_certificate", "tlskey": "tls_key",
    **{name: name.replace("-", "_") for name in (
        "bip", "bip6", "bridge", "default-gateway", "default-gateway-v6", "fixed-cidr", "fixed-cidr-v6")},
}
_NUMBERS = {name: name.replace("-", "_")
            for name in ("max-concurrent-downloads", "max-concurrent-uploads", "max-download-attempts", "mtu")}
_SWITCHES = {
    "debug": "debug", "icc": "icc", "ip-forward": "ip_forward", "ip-masq": "ip_masq", "ipv6": "ipv6",
    "tlsverify": "tlsverify", **{name: f"--{name}" for name in ("iptables", "ip6tables", "userland-proxy")},
}


def read(path: str) -> dict[str, object]:
    """Values by attribute, as the command line would give them. Raises InvalidArgument."""
    try:
        with open(path, "rb") as file:
            data = file.read(_LIMIT_BYTES + 1)
    except OSError as error:
        raise InvalidArgument(f"unable to configure the daemon with file {path}: {error.strerror}") from None
    try:
        value = parse_json(data, _LIMIT_BYTES) if data.strip() else {}
        if not isinstance(value, dict):
            raise InvalidArgument("not an object")
        return _values(value)
    except InvalidArgument as error:
        raise InvalidArgument(f"unable to configure the daemon with file {path}: {error}") from None


def _values(value: Mapping[str, object]) -> dict[str, object]:
    found: dict[str, object] = {}
    unknown = []
    for name, given in value.items():
        if name in _LISTS:
            found[_LISTS[name]] = _texts(name, given)
        elif name in _TEXTS:
            found[_TEXTS[name]] = _one(name, given, str)
        elif name in _NUMBERS:
            found[_NUMBERS[name]] = _one(name, given, int)
        elif name in _SWITCHES:
            found[_SWITCHES[name]] = _one(name, given, bool)
        elif name == "log-opts":
            found["log_options"] = [f"{key}={text}" for key, text in _object(name, given).items()]
        elif name == "default-address-pools":
            found["address_pools"] = [_pool(one) for one in given] if isinstance(given, list) else _wrong(name)
        elif name == "default-network-opts":
            found["network_options"] = [f"{kind}={key}={text}" for kind, options in _object(name, given).items()
                                        for key, text in _object(name, options).items()]
        elif name == "builder":
            found["build_gc"] = _builder(_object(name, given))
        else:
            unknown.append(name)
    if unknown:
        raise InvalidArgument("the following directives don't match any configuration option: "
                              + ", ".join(sorted(unknown)))
    return found


def _wrong(name: str) -> object:
    raise InvalidArgument(f"{name}: not of the right kind")


def _one(name: str, given: object, kind: type) -> object:
    return given if type(given) is kind else _wrong(name)


def _texts(name: str, given: object) -> object:
    return given if isinstance(given, list) and all(isinstance(one, str) for one in given) else _wrong(name)


def _object(name: str, given: object) -> dict[str, object]:
    if not isinstance(given, dict):
        _wrong(name)
    assert isinstance(given, dict)
    return given


def _pool(given: object) -> str:
    pool = _object("default-address-pools", given)
    return f"base={pool.get('base')},size={pool.get('size')}"


def _builder(given: dict[str, object]) -> list[GcRule] | None:
    unknown = sorted(given.keys() - {"gc"})
    if unknown:
        raise InvalidArgument(f"builder: not known: {', '.join(unknown)}")
    return read_rules(given.get("gc") or {})


def merge(given: argparse.Namespace, file: Mapping[str, object]) -> None:
    """Put the file's values beside those of flags. Raises InvalidArgument for what both say, with dockerd's text."""
    have = vars(given)
    twice = [f"{name.replace('_', '-')}: (from flag: {have[name]}, from file: {file[name]})"
             for name in file if have.get(name) not in (None, False)]
    if twice:
        raise InvalidArgument("the following directives are specified both as a flag and in the configuration file: "
                              + ", ".join(twice))
    have.update(file)
