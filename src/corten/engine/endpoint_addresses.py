"""The addresses of a container's endpoints: leased from a network's pools, kept in the database and the record."""

from __future__ import annotations

from ipaddress import IPv4Interface, IPv6Interface, ip_address
from typing import TYPE_CHECKING

from corten.base.errors import Forbidden, Internal
from corten.engine.db import NameTaken
from corten.engine.network_records import AddressPool, Network
from corten.engine.records import EndpointConfig
from corten.network import ipam
from corten.network.ipam import Address

if TYPE_CHECKING:
    from corten.engine.networks import Networks

_INSERT = "INSERT INTO lease (network_id, address, container_id) VALUES (?, ?, ?)"
_TURN = "INSERT OR REPLACE INTO lease_turn (network_id, subnet, address) VALUES (?, ?, ?)"
_LAST = "SELECT address FROM lease_turn WHERE network_id = ? AND subnet = ?"
_NONE = "no available IPv{} addresses on this network's address pools: {} ({})"


def lease(networks: Networks, network: Network, endpoint: EndpointConfig, container_id: str) -> dict[int, Address]:
    """An address of each of the network's pools (by IP version), written to the database.

    Raises Forbidden, Internal with docker's texts.
    """
    asked = endpoint.ipam_config
    wanted = {4: asked.ipv4_address, 6: asked.ipv6_address} if asked else {}
    found: dict[int, Address] = {}
    for version, pools in network.pools.items():
        text = wanted.get(version)
        if text:
            found[version] = _fixed(networks, network, text, container_id)
        else:
            found[version] = _next(networks, network, pools, container_id)
    return found


def _fixed(networks: Networks, network: Network, text: str, container_id: str) -> Address:
    address = ipam.parse_address(text)
    pool = network.pool_of(address)
    try:
        if pool is None or int(address) in pool.reserved:
            raise NameTaken(text)
        networks.db.execute(_INSERT, network.record.id, str(address), container_id)
    except NameTaken:
        raise Forbidden("Address already in use") from None
    return address


def _next(networks: Networks, network: Network, pools: list[AddressPool], container_id: str) -> Address:
    """Of the first pool that has one left."""
    for pool in pools:
        for address in ipam.candidates(pool.subnet, pool.range, _given_last(networks, network, pool), pool.reserved):
            try:
                networks.db.execute(_INSERT, network.record.id, str(address), container_id)
            except NameTaken:
                continue
            pool.last = int(address)
            networks.db.execute(_TURN, network.record.id, str(pool.subnet), str(address))
            return address
    raise Internal(_NONE.format(pools[0].subnet.version, network.record.name, network.record.id))


def _given_last(networks: Networks, network: Network, pool: AddressPool) -> int:
    """The address given last, 0 before the first: the turn goes on where an earlier daemon left it."""
    if pool.last is None:
        rows = networks.db.execute(_LAST, network.record.id, str(pool.subnet))
        pool.last = int(ip_address(str(rows[0][0]))) if rows else 0
    return pool.last


def fill(endpoint: EndpointConfig, network: Network, addresses: dict[int, Address], endpoint_id: str) -> None:
    """What an endpoint got, as inspect shows it."""
    endpoint.endpoint_id = endpoint_id
    endpoint.network_id = network.record.id
    for version, address in addresses.items():
        pool = network.pool_of(address)
        prefix = pool.subnet.prefixlen if pool else address.max_prefixlen
        gateway = str(pool.router) if pool and pool.router and not network.record.internal else ""
        if version == 4:
            endpoint.ip_address, endpoint.ip_prefix_len, endpoint.gateway = str(address), prefix, gateway
        else:
            endpoint.global_ipv6_address, endpoint.global_ipv6_prefix_len = str(address), prefix
            endpoint.ipv6_gateway = gateway
    endpoint.mac_address = endpoint.mac_address or _mac(endpoint)


def _mac(endpoint: EndpointConfig) -> str:
    """The MAC that follows from the endpoint's address."""
    text = endpoint.ip_address or endpoint.global_ipv6_address
    return ipam.mac_of(ip_address(text)) if text else ""


def clear(endpoint: EndpointConfig) -> None:
    """What an endpoint got is gone; what was asked for stays. A MAC that follows from the address was not asked for."""
    if endpoint.mac_address == _mac(endpoint):
        endpoint.mac_address = ""
    endpoint.endpoint_id = endpoint.ip_address = endpoint.gateway = ""
    endpoint.global_ipv6_address = endpoint.ipv6_gateway = ""
    endpoint.ip_prefix_len = endpoint.global_ipv6_prefix_len = 0


def link_local(endpoint: EndpointConfig) -> list[IPv4Interface | IPv6Interface]:
    """The link-local addresses it asked for; they are its alone on its link, and leased from nobody."""
    found: list[IPv4Interface | IPv6Interface] = []
    for text in (endpoint.ipam_config.link_local_ips if endpoint.ipam_config else None) or ():
        found.append(IPv6Interface((text, 64)) if ":" in text else IPv4Interface((text, 16)))
    return found


def gateway_of(network: Network, endpoint: EndpointConfig, version: int) -> Address | None:
    """The router of the subnet an endpoint has its address of, None where there is none."""
    has = addresses_of(endpoint).get(version)
    pool = network.pool_of(has.ip) if has else None
    return pool.router if pool else None


def addresses_of(endpoint: EndpointConfig) -> dict[int, IPv4Interface | IPv6Interface]:
    """The addresses an endpoint has now, with their prefixes, by IP version."""
    found: dict[int, IPv4Interface | IPv6Interface] = {}
    if endpoint.ip_address:
        found[4] = IPv4Interface((endpoint.ip_address, endpoint.ip_prefix_len))
    if endpoint.global_ipv6_address:
        found[6] = IPv6Interface((endpoint.global_ipv6_address, endpoint.global_ipv6_prefix_len))
    return found
