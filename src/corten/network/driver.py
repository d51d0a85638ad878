"""What `network create` may ask of each driver, checked before anything is made. Pure; texts are docker's.

bridge, host and null (none) are done; other drivers are unknown plugins, macvlan, ipvlan and overlay are Unsupported.
An option that is known and not honoured is Unsupported, an unknown one too: nothing is passed over in silence.
"""

import re
from collections.abc import Mapping
from ipaddress import IPv4Address

from corten.base.errors import Forbidden, InvalidArgument, NotFound, Unsupported
from corten.base.units import parse_number

NAME = "com.docker.network.bridge.name"
ICC = "com.docker.network.bridge.enable_icc"
MASQUERADE = "com.docker.network.bridge.enable_ip_masquerade"
HOST_BINDING = "com.docker.network.bridge.host_binding_ipv4"
DEFAULT_BRIDGE = "com.docker.network.bridge.default_bridge"
MTU = "com.docker.network.driver.mtu"
INTERFACE_PREFIX = "com.docker.network.container_iface_prefix"

_KNOWN = frozenset((NAME, ICC, MASQUERADE, HOST_BINDING, MTU, INTERFACE_PREFIX))
_LATER = ("macvlan", "ipvlan", "overlay")
_LINK_NAME = re.compile(r"[a-zA-Z0-9_.-]{1,15}", re.ASCII)
_TRUE, _FALSE = ("1", "t", "T", "TRUE", "true", "True"), ("0", "f", "F", "FALSE", "false", "False")

PREDEFINED = ("bridge", "host", "none")


class BridgeOptions:
    """The options of a bridge network, decoded; `bridge` is the device's name, empty for one of our choosing."""

    __slots__ = ("bridge", "host_binding", "icc", "masquerade", "mtu", "prefix")

    def __init__(self, options: Mapping[str, str]) -> None:
        """Raises InvalidArgument, Unsupported naming the option."""
        for key in options:
            if key not in _KNOWN and key != DEFAULT_BRIDGE:
                raise Unsupported(f"network option {key} is not supported")
        self.bridge = options.get(NAME, "")
        if self.bridge:
            check_link_name(self.bridge)
        self.icc = _flag(options, ICC, True)
        self.masquerade = _flag(options, MASQUERADE, True)
        self.prefix = options.get(INTERFACE_PREFIX, "eth")
        if not re.fullmatch(r"[a-zA-Z][a-zA-Z0-9_.-]{0,11}", self.prefix, re.ASCII):
            raise InvalidArgument(f"invalid value for {INTERFACE_PREFIX}: {self.prefix!r}")
        self.mtu = parse_number(options.get(MTU) or "1500", MTU, 68, 65535)
        binding = options.get(HOST_BINDING) or "0.0.0.0"  # noqa: S104 - docker's default for published ports
        try:
            self.host_binding = IPv4Address(binding)
        except ValueError:
            raise InvalidArgument(f"invalid value for {HOST_BINDING}: {binding!r}") from None


def _flag(options: Mapping[str, str], key: str, default: bool) -> bool:
    text = options.get(key, "")
    if not text:
        return default
    if text not in _TRUE and text not in _FALSE:
        raise InvalidArgument(
            f'failed to parse {key} value: {text} (strconv.ParseBool: parsing "{text}": invalid syntax)'
        )
    return text in _TRUE


def check_link_name(name: str) -> None:
    """A device name that may go to the kernel and into a path below /proc/sys. Raises InvalidArgument."""
    if not _LINK_NAME.fullmatch(name) or name in (".", "..", "all", "default", "lo"):
        raise InvalidArgument(f"invalid bridge name {name!r}")


def check_driver(driver: str) -> str:
    """The driver to use, bridge when none is named. Raises NotFound (unknown), Unsupported, Forbidden."""
    if driver in ("", "default", "bridge"):
        return "bridge"
    if driver in ("host", "null"):
        raise Forbidden(f'only one instance of "{driver}" network is allowed')
    if driver in _LATER:
        raise Unsupported(f"network driver {driver} is not supported yet")
    raise NotFound(f'plugin "{driver}" not found')


def check_name(name: str) -> None:
    """A name for a new network. Raises InvalidArgument with docker's text."""
    if not name.strip():
        raise InvalidArgument("invalid name: name is empty")
    if not name.isprintable() or name.startswith("container:") or len(name) > 255:
        raise InvalidArgument(f"invalid network name: {name!r}")
