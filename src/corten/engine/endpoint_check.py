"""What a container may ask of networks, refused before anything is made; texts are docker's."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from corten.base.errors import InvalidArgument
from corten.engine import links
from corten.engine.endpoint_ports import port_requests
from corten.engine.network_records import Network
from corten.engine.records import ContainerRecord, EndpointConfig, IPAMConfig
from corten.linux.netlink import hardware_address
from corten.network import ipam
from corten.network.driver import PREDEFINED, check_endpoint_options
from corten.network.etc_files import parse_extra_hosts

if TYPE_CHECKING:
    from corten.engine.networks import Networks

CONFIG = "invalid config for network {}: "
_MAC = re.compile(r"[0-9a-fA-F]{2}(:[0-9a-fA-F]{2}){5}", re.ASCII)


def check_create(networks: Networks, record: ContainerRecord) -> list[str]:
    """Refuse what no start could do; warnings."""
    host, mode = record.host_config, record.host_config.network_mode
    links.check(networks, record)
    parse_extra_hosts(host.extra_hosts or (), ["::"])  # any address will do to check the form
    ports = port_requests(record, None)
    if mode.startswith("container:"):
        _check_joining(record)
        return []
    for name, endpoint in record.networking.items():
        network = networks.named().get(name)
        check_endpoint(name, endpoint, network)
    if mode == "host" and ports:
        return ["Published ports are discarded when using host network mode"]
    return []


def _check_joining(record: ContainerRecord) -> None:
    """docker's list of what `container:X` excludes. That X is there is asked at each start. Raises InvalidArgument."""
    host = record.host_config
    if host.network_mode == "container:":
        raise InvalidArgument("invalid network mode: invalid container format container:<name|id>")
    for given, what in (
        (record.config.hostname, "hostname and the network mode"),
        (host.port_bindings or host.publish_all_ports, "port publishing and the container type network mode"),
        (record.config.exposed_ports, "port exposing and the container type network mode"),
        (host.dns, "dns and the network mode"),
        (host.extra_hosts, "custom host-to-IP mapping and the network mode"),
        (record.config.mac_address, "mac-address and the network mode"),
    ):
        if given:
            raise InvalidArgument(f"conflicting options: {what}")


def check_endpoint(name: str, endpoint: EndpointConfig, network: Network | None, what: str = CONFIG) -> None:
    """`what` begins the texts, which are docker's. Raises InvalidArgument, Unsupported."""
    what = what.format(name)
    if endpoint.mac_address:
        if not _MAC.fullmatch(endpoint.mac_address) or hardware_address(endpoint.mac_address)[0] & 1:
            raise InvalidArgument(f"{what}invalid MAC address {endpoint.mac_address}")
        endpoint.mac_address = endpoint.mac_address.lower()
    if endpoint.driver_opts:
        check_endpoint_options(endpoint.driver_opts)
    wrong: list[str] = []
    if endpoint.aliases and name in PREDEFINED:
        wrong.append("network-scoped alias is supported only for containers in user defined networks")
    asked = endpoint.ipam_config or IPAMConfig()
    for text in asked.link_local_ips or ():
        wrong += _link_local_faults(text)
    for version, text in ((4, asked.ipv4_address), (6, asked.ipv6_address)):
        if text and network is not None:
            wrong += _address_faults(network, version, text)
    if wrong:
        what += "invalid endpoint settings:\n"
        raise InvalidArgument(what + (wrong[0] if len(wrong) == 1 else "\n".join(f"* {text}" for text in wrong)))


def _link_local_faults(text: str) -> list[str]:
    """Stricter than docker, which lets a container take any address of others this way."""
    try:
        if ipam.parse_address(text).is_link_local:
            return []
    except InvalidArgument:
        pass
    return [f"invalid link-local IP address: {text}"]


def _address_faults(network: Network, version: int, text: str) -> list[str]:
    """What is wrong with an address that is asked for."""
    wrong = []
    if network.record.default or not network.addressed:
        wrong.append("user specified IP address is supported on user defined networks only")
    try:
        address = ipam.parse_address(text)
    except InvalidArgument:
        address = None
    if address is None or address.version != version:
        wrong.append(f"invalid IPv{version} address: {text}")
    if not (network.record.given_subnet if version == 4 else network.record.given_subnet6):
        wrong.append(
            "user specified IP address is supported only when connecting to networks with user configured subnets")
    elif address is None or network.pool_of(address) is None:
        wrong.append(f"no configured subnet or ip-range contain the IP address {text}")
    return wrong
