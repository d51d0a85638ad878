"""The daemon's flags about networks, as a table; what dockerd has and we do not do is refused by its name."""

import argparse

from corten.base.errors import Unsupported
from corten.engine.settings import NetworkSettings

Flag = tuple[tuple[str, ...], str, dict[str, object]]

_TRUE, _FALSE = ("1", "t", "T", "TRUE", "true", "True"), ("0", "f", "F", "FALSE", "false", "False")


def truth(text: str) -> bool:
    """A switch as dockerd reads it: `--icc=false`."""
    if text not in _TRUE and text not in _FALSE:
        raise argparse.ArgumentTypeError(f'invalid boolean value "{text}"')
    return text in _TRUE


_SWITCH: dict[str, object] = {"nargs": "?", "const": True, "type": truth, "metavar": "BOOL"}
_LIST: dict[str, object] = {"action": "append"}

# flags, attribute of NetworkSettings, what argparse is told
FLAGS: tuple[Flag, ...] = (
    (("-b", "--bridge"), "bridge", {"help": "Name of the default network's bridge; none: there is no default network"}),
    (("--bip",), "bip", {"help": "Address of the bridge with its prefix, 172.17.0.1/16"}),
    (("--bip6",), "bip6", {"help": "IPv6 address of the bridge with its prefix"}),
    (("--fixed-cidr",), "fixed_cidr", {"help": "Range the default network's containers get their IPv4 addresses from"}),
    (("--fixed-cidr-v6",), "fixed_cidr_v6", {"help": "Likewise of IPv6; without --bip6 it is the whole subnet"}),
    (("--default-gateway",), "default_gateway", {"help": "Whom they send to instead of the bridge"}),
    (("--default-gateway-v6",), "default_gateway_v6", {"help": "Likewise with IPv6"}),
    (("--ipv6",), "ipv6", {**_SWITCH, "help": "The default network has IPv6 too"}),
    (("--icc",), "icc", {**_SWITCH, "help": "Its containers reach each other; true unless set to false"}),
    (("--ip",), "ip", {"help": "Host address where its ports are published that name none"}),
    (("--ip-masq",), "ip_masq", {**_SWITCH, "help": "Outside they are seen under the host's address; true by default"}),
    (("--mtu",), "mtu", {"type": int, "help": "Largest packet on its links"}),
    (("--ip-forward",), "ip_forward", {**_SWITCH, "help": "Switch the host's forwarding on; true by default"}),
    (("--default-address-pool",), "address_pools",
     {**_LIST, "help": "What automatic subnets are cut from: base=10.10.0.0/16,size=24; may be repeated"}),
    (("--default-network-opt",), "network_options",
     {**_LIST, "help": "Option of new networks of a driver: DRIVER=KEY=VALUE; may be repeated"}),
    (("--dns",), "dns", {**_LIST, "help": "Name server of containers that name none; may be repeated"}),
    (("--dns-search",), "dns_search", {**_LIST, "help": "Their search domain; may be repeated"}),
    (("--dns-opt",), "dns_options", {**_LIST, "help": "Their resolver option; may be repeated"}),
    (("--host-gateway-ip",), "host_gateways",
     {**_LIST, "help": "What host-gateway of --add-host stands for; once for each IP version"}),
)

# what dockerd has: flag, the only value we have too
_FIXED = (("--iptables", True), ("--ip6tables", True), ("--userland-proxy", False))


def add(parser: argparse.ArgumentParser) -> None:
    """Make the flags known."""
    for names, attribute, options in FLAGS:
        parser.add_argument(*names, dest=attribute, **options)  # type: ignore[arg-type]
    for name, only in _FIXED:
        parser.add_argument(name, dest=name, nargs="?", const=True, type=truth, metavar="BOOL",
                            help=f"Always {str(only).lower()}; taken for dockerd's sake")


def settings(given: argparse.Namespace) -> NetworkSettings:
    """What was given. Raises Unsupported: what dockerd can switch and we cannot."""
    found = NetworkSettings()
    for _, attribute, _options in FLAGS:
        value = getattr(given, attribute)
        if value is not None:
            setattr(found, attribute, value)
    for name, only in _FIXED:
        value = getattr(given, name)
        if value not in (None, only):
            raise Unsupported(f"{name}={str(value).lower()} is not supported: published ports and isolation are the "
                              "kernel's nf_tables, no program passes packets on")
    return found
