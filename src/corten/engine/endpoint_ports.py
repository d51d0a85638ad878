"""A container's published ports: what it asks for, the host ports it holds, and what the firewall is told of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from ipaddress import ip_address
from typing import TYPE_CHECKING

from corten.base.errors import Internal, InvalidArgument
from corten.engine.endpoint_addresses import addresses_of
from corten.engine.network_records import Network
from corten.engine.records import ContainerRecord, PortBinding
from corten.network.ipam import Address
from corten.network.ports import Held, PortTaken, Request, exposed_ports, requests
from corten.network.ruleset import ANY, ANY6, Published

if TYPE_CHECKING:
    from corten.engine.networks import Networks


def uplink(networks: Networks, record: ContainerRecord, version: int = 0) -> str:
    """The network that carries the default route and the published ports (of an IP version); "" when there is none.

    The highest gateway priority wins, then the first name, as docker has it; internal networks never do.
    """
    fits = [
        (-endpoint.gw_priority, name) for name, endpoint in record.networking.items()
        if (network := networks.named().get(name)) and network.addressed
        and (version in network.outward if version else network.outward)
    ]
    return min(fits)[1] if fits else ""


def _publisher(networks: Networks, record: ContainerRecord, version: int) -> Network | None:
    """The network by which ports of an IP version are published: a bridge, none in isolated mode."""
    network = networks.named().get(uplink(networks, record, version))
    if network is None or not network.bridged or network.options.modes[version] == "isolated":
        return None
    return network


def port_requests(record: ContainerRecord, default_hosts: Sequence[Address] | None) -> list[Request]:
    """What a container asks to publish. Raises InvalidArgument."""
    host = record.host_config
    bindings = {
        port: [(one.host_ip, one.host_port) for one in given or [PortBinding()]]
        for port, given in host.port_bindings.items()
    }
    hosts = (ANY,) if default_hosts is None else default_hosts
    return requests(record.config.exposed_ports, bindings, host.publish_all_ports, hosts)


def _default_hosts(publishers: Mapping[int, Network]) -> list[Address]:
    """The host addresses of a port that names none: all of them, or the one that the network binds to (which a
    container without a network of that family is refused, rather than published elsewhere)."""
    found: list[Address] = []
    for version, every in ((4, ANY), (6, ANY6)):
        if version in publishers:
            binding = publishers[version].options.host_binding
            found.append(every if binding in (ANY, ANY6) else binding)
    return [one for one in dict.fromkeys(found) if one.version in publishers] or found


def reserve_ports(
    networks: Networks, record: ContainerRecord, taken: Mapping[str, tuple[dict[int, Address], str]],
) -> list[Held]:
    """Hold the host ports a container asks for, written to the database. Raises Internal with docker's text."""
    publishers = {version: found for version in (4, 6) if (found := _publisher(networks, record, version))}
    wanted = port_requests(record, _default_hosts(publishers))
    if not publishers or not wanted:
        return []
    endpoint_id = taken[next(iter(publishers.values())).record.name][1]
    addresses = {version: taken[network.record.name][0][version] for version, network in publishers.items()}
    try:
        held = _reserve(networks, wanted, publishers, addresses)
    except (PortTaken, InvalidArgument) as error:
        raise Internal(
            "failed to set up container networking: driver failed programming external connectivity on endpoint "
            f"{record.name} ({endpoint_id}): {error}"
        ) from None
    for each in held:
        if each.port:
            networks.db.execute(
                "INSERT INTO port (proto, host_ip, port, container_id, container_port) VALUES (?, ?, ?, ?, ?)",
                each.protocol, str(each.host), each.port, record.id, each.container_port,
            )
    return held


def _reserve(
    networks: Networks, wanted: Sequence[Request], publishers: Mapping[int, Network], addresses: Mapping[int, Address],
) -> list[Held]:
    """In a routed network no host port is taken (port 0): the container's own is opened."""
    translated: list[Request] = []
    routed: list[Held] = []
    for request in wanted:
        hosts = []
        for host in request.hosts:
            network = publishers.get(host.version)
            if network is None:
                raise InvalidArgument(f"cannot publish on {host}: the container has no IPv{host.version} network to be "
                                      "reached by")
            if network.options.modes[host.version] == "routed":
                routed.append(Held(request.protocol, request.container_port, host, 0, None))
            else:
                hosts.append(host)
        if hosts:
            translated.append(Request(request.protocol, request.container_port, hosts, request.first, request.last))
    return networks.reserver.reserve(translated, addresses) + routed


def ports_of(record: ContainerRecord, held: Sequence[Held]) -> dict[str, list[PortBinding] | None]:
    """The Ports of inspect: null for what is exposed and not published."""
    found: dict[str, list[PortBinding] | None] = {}
    for port, protocol in exposed_ports(record.config.exposed_ports, record.host_config.port_bindings):
        found[f"{port}/{protocol}"] = None
    for each in held:
        key = f"{each.container_port}/{each.protocol}"
        shown = PortBinding(host_ip=str(each.host), host_port=str(each.port or ""))
        found[key] = [*(found.get(key) or ()), shown]
    return found


def published(networks: Networks, record: ContainerRecord) -> list[Published]:
    """The ports of a container that has its addresses, as the firewall wants them."""
    targets: dict[int, tuple[Address, bool]] = {}
    for version in (4, 6):
        network = _publisher(networks, record, version)
        has = addresses_of(record.networking[network.record.name]).get(version) if network else None
        if network and has:
            targets[version] = has.ip, bool(network.options.trusted)
    found = []
    for key, bindings in record.network_settings.ports.items():
        port, _, protocol = key.partition("/")
        for one in bindings or ():
            host = ip_address(one.host_ip)
            if host.version in targets:
                number = int(one.host_port or 0)
                address, direct = targets[host.version]
                found.append(Published(protocol, host, number, address, int(port), direct=direct))
    return found
