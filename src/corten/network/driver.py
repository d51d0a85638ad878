"""What `network create` may ask of each driver, checked before anything is made. Pure; texts are docker's.

bridge, macvlan, ipvlan, host and null (none) are done; overlay needs a swarm, other drivers are unknown plugins.
An option that is known and not honoured is Unsupported, an unknown one too: nothing is passed over in silence.
"""

import re
from collections.abc import Collection, Mapping

from corten.base.errors import Forbidden, InvalidArgument, NotFound, Unsupported
from corten.base.units import parse_number
from corten.network.ipam import Address, parse_address

NAME = "com.docker.network.bridge.name"
ICC = "com.docker.network.bridge.enable_icc"
MASQUERADE = "com.docker.network.bridge.enable_ip_masquerade"
HOST_BINDING = "com.docker.network.bridge.host_binding_ipv4"
DEFAULT_BRIDGE = "com.docker.network.bridge.default_bridge"
GATEWAY_MODE = "com.docker.network.bridge.gateway_mode_ipv4"
GATEWAY_MODE6 = "com.docker.network.bridge.gateway_mode_ipv6"
HOST_IPV4 = "com.docker.network.host_ipv4"
HOST_IPV6 = "com.docker.network.host_ipv6"
TRUSTED = "com.docker.network.bridge.trusted_host_interfaces"
INHIBIT_IPV4 = "com.docker.network.bridge.inhibit_ipv4"
MTU = "com.docker.network.driver.mtu"
INTERFACE_PREFIX = "com.docker.network.container_iface_prefix"
ENABLE_IPV6 = "com.docker.network.enable_ipv6"
GUARD = "corten.network.source_guard"
SYSCTLS = "com.docker.network.endpoint.sysctls"
INTERFACE_NAME = "com.docker.network.endpoint.ifname"

_SHARED = frozenset((MTU, INTERFACE_PREFIX, ENABLE_IPV6))
_BRIDGE = _SHARED | {
    NAME, ICC, MASQUERADE, HOST_BINDING, DEFAULT_BRIDGE, GATEWAY_MODE, GATEWAY_MODE6, INHIBIT_IPV4, HOST_IPV4,
    HOST_IPV6, TRUSTED, GUARD,
}
_PARENT = {
    "macvlan": _SHARED | {"parent", "macvlan_mode"},
    "ipvlan": _SHARED | {"parent", "ipvlan_mode", "ipvlan_flag"},
}
_MODES = {
    "macvlan_mode": ("bridge", "private", "vepa", "passthru"), "ipvlan_mode": ("l2", "l3", "l3s"),
    "ipvlan_flag": ("bridge", "private", "vepa"),
}
GATEWAY_MODES = ("nat", "routed", "nat-unprotected", "isolated")
_LINK_NAME = re.compile(r"[a-zA-Z0-9_.-]{1,15}", re.ASCII)
_SYSCTL = re.compile(r"net\.[a-z0-9_]+\.[a-z0-9_]+\.IFNAME\.[a-z0-9_.-]+", re.ASCII)
_TRUE, _FALSE = ("1", "t", "T", "TRUE", "true", "True"), ("0", "f", "F", "FALSE", "false", "False")

PREDEFINED = ("bridge", "host", "none")


class Options:
    """The options of a network, decoded. Those of another driver have their defaults.

    `bridge` is the device's name, empty for one of our choosing; `parent` likewise the link below a macvlan or ipvlan.
    `modes` is the gateway mode by IP version. `mode` and `flag` are those of macvlan and ipvlan. `outward` are the
    addresses of the host that containers are seen under outside; `trusted` the links of the host by which published
    ports may be asked for at the container's own address.
    """

    __slots__ = ("bridge", "flag", "guard", "host_binding", "icc", "inhibit_ipv4", "masquerade", "mode", "modes", "mtu",
                 "outward", "parent", "prefix", "trusted")

    def __init__(self, options: Mapping[str, str], driver: str = "bridge") -> None:
        """Raises InvalidArgument, Unsupported naming the option."""
        _refuse_unknown(options, _PARENT.get(driver, _BRIDGE))
        self.bridge = options.get(NAME, "")
        if self.bridge:
            check_link_name(self.bridge)
        self.icc = _flag(options, ICC, True)
        self.masquerade = _flag(options, MASQUERADE, True)
        self.inhibit_ipv4 = _flag(options, INHIBIT_IPV4, False)
        self.guard = _flag(options, GUARD, True)
        self.modes = {4: _gateway_mode(options, GATEWAY_MODE), 6: _gateway_mode(options, GATEWAY_MODE6)}
        self.prefix = options.get(INTERFACE_PREFIX, "eth")
        if not re.fullmatch(r"[a-zA-Z][a-zA-Z0-9_.-]{0,11}", self.prefix, re.ASCII):
            raise InvalidArgument(f"invalid value for {INTERFACE_PREFIX}: {self.prefix!r}")
        self.mtu = _mtu(options.get(MTU) or "1500")
        self.host_binding = _address(options, HOST_BINDING, "0.0.0.0")  # noqa: S104 - docker's default
        self.outward = [_own_address(options, key, version) for key, version in ((HOST_IPV4, 4), (HOST_IPV6, 6))
                        if options.get(key)]
        self.trusted = [name for name in options.get(TRUSTED, "").split(":") if name]
        for name in self.trusted:
            if not _LINK_NAME.fullmatch(name):
                raise InvalidArgument(f"failed to parse {TRUSTED} value: {options[TRUSTED]} (invalid interface name)")
        self.parent = options.get("parent", "")
        if self.parent:
            _check_parent(self.parent, driver)
        self.mode = _mode(options, driver, "mode")
        self.flag = _mode(options, driver, "flag")


def _address(options: Mapping[str, str], key: str, default: str = "") -> Address:
    text = options.get(key) or default
    try:
        return parse_address(text)
    except InvalidArgument:
        raise InvalidArgument(f"failed to parse {key} value: {text} (nil ip)") from None


def _own_address(options: Mapping[str, str], key: str, version: int) -> Address:
    """An address of the host, of the family the option is for; docker is less strict."""
    found = _address(options, key)
    if found.version != version or found.is_unspecified or found.is_multicast:
        raise InvalidArgument(f"failed to parse {key} value: {found} (not an IPv{version} address of a host)")
    return found


def wants_ipv6(options: Mapping[str, str]) -> bool:
    """What EnableIPv6 is called among the options. Raises InvalidArgument."""
    return _flag(options, ENABLE_IPV6, False)


def _mtu(text: str) -> int:
    try:
        return parse_number(text, MTU, 68, 65535)
    except InvalidArgument:
        if text.removeprefix("-").isdecimal():
            raise InvalidArgument(f"invalid MTU number: {text}") from None
        raise InvalidArgument(
            f'failed to parse {MTU} value: {text} (strconv.Atoi: parsing "{text}": invalid syntax)') from None


def _refuse_unknown(options: Mapping[str, str], known: Collection[str]) -> None:
    """Names of other makers' drivers are labels to ours, as with docker: kept and shown."""
    for key in options:
        if key not in known and ("." not in key or key.startswith("com.docker.network.")):
            raise Unsupported(f"network option {key} is not supported")


def _flag(options: Mapping[str, str], key: str, default: bool) -> bool:
    text = options.get(key, "")
    if not text:
        return default
    if text not in _TRUE and text not in _FALSE:
        raise InvalidArgument(
            f'failed to parse {key} value: {text} (strconv.ParseBool: parsing "{text}": invalid syntax)'
        )
    return text in _TRUE


def _gateway_mode(options: Mapping[str, str], key: str) -> str:
    mode = options.get(key) or "nat"
    if mode not in GATEWAY_MODES:
        raise InvalidArgument(f"failed to parse {key} value: {mode} (unknown gateway mode {mode})")
    return mode


def _mode(options: Mapping[str, str], driver: str, what: str) -> str:
    """`macvlan_mode`, `ipvlan_mode`, `ipvlan_flag`; the first is the default."""
    allowed = _MODES.get(f"{driver}_{what}", ("",))
    value = options.get(f"{driver}_{what}") or allowed[0]
    if value not in allowed:
        default = f"'{allowed[0]}' mode" if what == "mode" else f"'{allowed[0]}'"
        raise InvalidArgument(
            f"requested {driver} {what} '{value}' is not valid, {default} is the {driver} driver default")
    return value


def _check_parent(name: str, driver: str) -> None:
    if name == "lo":
        raise InvalidArgument(f"loopback interface is not a valid {driver} parent link")
    if not _LINK_NAME.fullmatch(name) or name in (".", "..", "all", "default"):
        raise InvalidArgument(f"invalid parent interface name {name!r}")


def vlan_of(name: str) -> tuple[str, int]:
    """`eth0.10` -> ("eth0", 10): a parent to be made. Raises InvalidArgument with docker's texts."""
    link, _, number = name.rpartition(".")
    if not link or not number:
        raise InvalidArgument(f"invalid subinterface vlan name {name}, example formatting is eth0.10")
    try:
        return link, parse_number(number, "vlan id", 1, 4094)
    except InvalidArgument:
        raise InvalidArgument(f"vlan id must be between 1-4094, received: {number}") from None


def check_link_name(name: str) -> None:
    """A device name that may go to the kernel and into a path below /proc/sys. Raises InvalidArgument."""
    if not _LINK_NAME.fullmatch(name) or name in (".", "..", "all", "default", "lo"):
        raise InvalidArgument(f"invalid bridge name {name!r}")


def check_endpoint_options(options: Mapping[str, str]) -> tuple[str, list[tuple[str, str]]]:
    """(interface name or "", sysctls as (name with IFNAME in it, value)) of `--driver-opt`.

    Raises InvalidArgument, Unsupported naming the option.
    """
    for key in options:
        if key.startswith("com.docker.network.") and key not in (SYSCTLS, INTERFACE_NAME):
            raise Unsupported(f"network option {key} is not supported")
    name = options.get(INTERFACE_NAME, "")
    if name and (not _LINK_NAME.fullmatch(name) or name in (".", "..", "all", "default", "lo")):
        raise InvalidArgument(f"invalid interface name {name!r}")
    found = []
    for setting in filter(None, options.get(SYSCTLS, "").split(",")):
        key, equals, value = setting.partition("=")
        if not equals or not _SYSCTL.fullmatch(key) or ".." in key:
            raise InvalidArgument(f"expected sysctl '{key}' to have format net.X.Y.IFNAME.Z")
        if not value.isprintable() or not value.isascii() or len(value) > 64:
            raise InvalidArgument(f"invalid value for sysctl {key}: {value!r}")
        found.append((key, value))
    return name, found


def check_driver(driver: str) -> str:
    """The driver to use, bridge when none is named. Raises NotFound (unknown), Unsupported, Forbidden."""
    if driver in ("", "default", "bridge"):
        return "bridge"
    if driver in _PARENT:
        return driver
    if driver in ("host", "null"):
        raise Forbidden(f'only one instance of "{driver}" network is allowed')
    if driver == "overlay":
        raise Unsupported("network driver overlay needs a swarm, which is not supported")
    raise NotFound(f'plugin "{driver}" not found')


def check_name(name: str) -> None:
    """A name for a new network. Raises InvalidArgument with docker's text."""
    if not name.strip():
        raise InvalidArgument("invalid name: name is empty")
    if not name.isprintable() or name.startswith("container:") or len(name) > 255:
        raise InvalidArgument(f"invalid network name: {name!r}")
