"""What a container may ask of networks, refused before anything is made; texts are docker's."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from corten.base.errors import InvalidArgument, NotFound, Unsupported
from corten.engine import links
from corten.engine.endpoint_ports import port_requests
from corten.engine.network_records import Network
from corten.engine.records import ContainerRecord, EndpointConfig
from corten.linux.netlink import hardware_address
from corten.network import ipam
from corten.network.driver import check_endpoint_options
from corten.network.etc_files import parse_extra_hosts

if TYPE_CHECKING:
    from corten.engine.networks import Networks

_MAC = re.compile(r"[0-9a-fA-F]{2}(:[0-9a-fA-F]{2}){5}", re.ASCII)


def check_create(networks: Networks, record: ContainerRecord) -> list[str]:
    """Refuse what no start could do; warnings."""
    host, mode = record.host_config, record.host_config.network_mode
    links.check(networks, record)
    parse_extra_hosts(host.extra_hosts or (), "0.0.0.0")  # noqa: S104 - any address will do to check the form
    ports = port_requests(record, None)
    if mode.startswith("container:"):
        _check_joining(networks, record)
        return []
    for name, endpoint in record.networking.items():
        network = networks.named().get(name)
        check_endpoint(name, endpoint, network)
    if mode == "host" and ports:
        return ["Published ports are discarded when using host network mode"]
    return []


def _check_joining(networks: Networks, record: ContainerRecord) -> None:
    """docker's list of what `container:X` excludes. Raises InvalidArgument: 404 would make a client pull the image."""
    host = record.host_config
    for given, what in (
        (host.port_bindings, "conflicting options: port publishing and the container type network mode"),
        (record.config.exposed_ports, "conflicting options: port exposing and the container type network mode"),
        (host.dns, "conflicting options: dns and the network mode"),
        (host.extra_hosts, "conflicting options: custom host-to-IP mapping and the network mode"),
        (record.config.mac_address, "conflicting options: mac-address and the network mode"),
    ):
        if given:
            raise InvalidArgument(what)
    try:
        networks.containers.get(host.network_mode.removeprefix("container:"))
    except NotFound as error:
        raise InvalidArgument(f"joining network namespace of container: {error}") from None


def check_endpoint(name: str, endpoint: EndpointConfig, network: Network | None) -> None:
    """Raises InvalidArgument with docker's texts, Unsupported."""
    if endpoint.mac_address:
        if not _MAC.fullmatch(endpoint.mac_address) or hardware_address(endpoint.mac_address)[0] & 1:
            raise InvalidArgument(f"invalid MAC address: {endpoint.mac_address}")
        endpoint.mac_address = endpoint.mac_address.lower()
    if endpoint.driver_opts:
        check_endpoint_options(endpoint.driver_opts)
    asked = endpoint.ipam_config
    if asked is None:
        return
    if asked.link_local_ips:
        raise Unsupported("link-local addresses of endpoints are not supported yet")
    if network is None:
        return
    wrong: list[str] = []
    for version, text in ((4, asked.ipv4_address), (6, asked.ipv6_address)):
        if text:
            wrong += _address_faults(network, version, text)
    if wrong:
        what = f"invalid config for network {name}: invalid endpoint settings:\n"
        raise InvalidArgument(what + (wrong[0] if len(wrong) == 1 else "\n".join(f"* {text}" for text in wrong)))


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
        return wrong
    if not (network.record.given_subnet if version == 4 else network.record.given_subnet6):
        wrong.append(
            "user specified IP address is supported only when connecting to networks with user configured subnets")
    if wrong:
        return wrong
    pool = network.pools.get(version)
    if pool is None or address not in pool.subnet:
        wrong.append(f"no configured subnet or ip-range contain the IP address {address}")
    return wrong
