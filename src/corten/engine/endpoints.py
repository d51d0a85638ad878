"""A container's part of the networks: what its start takes (addresses, host ports, links, rules), what its end returns.

`reserve` takes everything that can be refused, in one transaction, before anything is made. `attach` makes it.
`release` undoes both, in any state, any number of times.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Collection, Sequence
from ipaddress import IPv4Address, IPv4Interface
from typing import TYPE_CHECKING

from corten.base.errors import Conflict, Error, Internal, InvalidArgument, NotFound, Unsupported
from corten.base.ids import new_id
from corten.engine.db import NameTaken
from corten.engine.network_records import Network, host_end
from corten.engine.records import ContainerRecord, EndpointConfig, NetworkState, PortBinding
from corten.linux.netlink import hardware_address
from corten.network import ipam
from corten.network.bridge import Plug
from corten.network.etc_files import parse_extra_hosts
from corten.network.ports import Held, PortTaken, Request, exposed_ports, requests
from corten.network.ruleset import Guard, Published

if TYPE_CHECKING:
    from corten.engine.networks import Networks

SWEEP_DELAY_S = 2.0  # a namespace takes its links with it; only what outlives it by this long is removed by hand

_MAC = re.compile(r"[0-9a-fA-F]{2}(:[0-9a-fA-F]{2}){5}", re.ASCII)


# --- before create


def check_create(networks: Networks, record: ContainerRecord) -> list[str]:
    """Refuse what no start could do; warnings."""
    host, mode = record.host_config, record.host_config.network_mode
    if host.links:
        raise Unsupported("Links: container links are not supported; connect both to a user-defined network")
    parse_extra_hosts(host.extra_hosts or (), "0.0.0.0")  # noqa: S104 - any address will do to check the form
    ports = _port_requests(record, None)
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
    if endpoint.links:
        raise Unsupported("Links: container links are not supported; give the other container an alias")
    if endpoint.driver_opts:
        raise Unsupported(f"endpoint options are not supported: {', '.join(sorted(endpoint.driver_opts))}")
    asked = endpoint.ipam_config
    if asked is None:
        return
    if asked.ipv6_address or asked.link_local_ips:
        raise Unsupported("IPv6 and link-local addresses of endpoints are not supported yet")
    if not asked.ipv4_address or network is None:
        return
    wrong = []
    if network.record.default or not network.bridged:
        wrong.append("user specified IP address is supported on user defined networks only")
    try:
        address = ipam.parse_address(asked.ipv4_address)
    except InvalidArgument:
        wrong.append(f"invalid IPv4 address: {asked.ipv4_address}")
    if not network.record.given_subnet:
        wrong.append(
            "user specified IP address is supported only when connecting to networks with user configured subnets")
    what = f"invalid config for network {name}: invalid endpoint settings:\n"
    if wrong:
        raise InvalidArgument(what + (wrong[0] if len(wrong) == 1 else "\n".join(f"* {text}" for text in wrong)))
    if network.subnet is None or address not in network.subnet:
        raise InvalidArgument(what + f"no configured subnet or ip-range contain the IP address {address}")


# --- reserve


def reserve(networks: Networks, record: ContainerRecord) -> None:
    """Addresses, MACs and host ports of every network, into `record`; nothing is left when it raises."""
    mode = record.host_config.network_mode
    if mode.startswith("container:"):
        networks.joined(record)
        return
    release(networks, record)  # what an earlier start that was cut off may have left
    chosen: dict[str, Network] = {}
    for name, endpoint in record.networking.items():
        chosen[name] = _usable(networks, name, endpoint, len(record.networking))
    taken: dict[str, tuple[IPv4Address, str]] = {}
    held: list[Held] = []
    try:
        with networks.db.transaction():
            for name, network in chosen.items():
                if network.bridged:
                    taken[name] = lease(networks, network, record.networking[name], record.id), new_id()
            held = _reserve_ports(networks, record, chosen, taken)
    except BaseException:
        for each in held:
            each.close()
        raise
    for name, network in chosen.items():
        record.networking[name].network_id = network.record.id
        if name in taken:
            fill(record.networking[name], network, *taken[name])
    state = record.network_settings = NetworkState(sandbox_id=new_id())
    state.sandbox_key = f"{networks.layout.exec_root}/netns/{state.sandbox_id[:12]}"
    if any(network.bridged for network in chosen.values()):
        state.ports = _ports_of(record, held)
    networks.held[record.id] = held


def _usable(networks: Networks, name: str, endpoint: EndpointConfig, count: int) -> Network:
    try:
        network = networks.get(name)
        check_endpoint(name, endpoint, network)
    except NotFound as error:
        raise NotFound(f"failed to set up container networking: {error}") from None
    if not network.bridged and count > 1:
        raise InvalidArgument(f"container cannot be connected to multiple networks with one of the networks in "
                              f"private ({network.record.name}) mode")
    return network


def lease(networks: Networks, network: Network, endpoint: EndpointConfig, container_id: str) -> IPv4Address:
    """An address of the network, written to the database. Raises Conflict-like errors with docker's texts."""
    insert = "INSERT INTO lease (network_id, address, container_id) VALUES (?, ?, ?)"
    asked = endpoint.ipam_config.ipv4_address if endpoint.ipam_config else ""
    if asked:
        address = ipam.parse_address(asked)
        try:
            if int(address) in network.reserved:
                raise NameTaken(asked)
            networks.db.execute(insert, network.record.id, str(address), container_id)
        except NameTaken:
            raise Conflict("failed to set up container networking: Address already in use") from None
        return address
    if network.subnet is None:
        raise Internal(f"network {network.record.name} has no subnet")
    for address in ipam.candidates(network.subnet, network.range, network.last, network.reserved):
        try:
            networks.db.execute(insert, network.record.id, str(address), container_id)
        except NameTaken:
            continue
        network.last = int(address)
        return address
    raise Internal("failed to set up container networking: no available IPv4 addresses on this network's address "
                   f"pools: {network.record.name} ({network.record.id})")


def fill(endpoint: EndpointConfig, network: Network, address: IPv4Address, endpoint_id: str) -> None:
    """What an endpoint got, as inspect shows it."""
    endpoint.endpoint_id = endpoint_id
    endpoint.network_id = network.record.id
    endpoint.ip_address = str(address)
    endpoint.ip_prefix_len = network.subnet.prefixlen if network.subnet else 0
    endpoint.gateway = "" if network.record.internal else network.record.gateway
    endpoint.mac_address = endpoint.mac_address or ipam.mac_of(address)


def clear(endpoint: EndpointConfig) -> None:
    """What an endpoint got is gone; what was asked for stays. A MAC that follows from the address was not asked for."""
    if endpoint.ip_address and endpoint.mac_address == ipam.mac_of(IPv4Address(endpoint.ip_address)):
        endpoint.mac_address = ""
    endpoint.endpoint_id = endpoint.ip_address = endpoint.gateway = ""
    endpoint.ip_prefix_len = 0


def uplink(networks: Networks, record: ContainerRecord) -> str:
    """The network that carries the default route and the published ports; "" when there is none.

    The highest gateway priority wins, then the first name, as docker has it; internal networks never do.
    """
    fits = [
        (-endpoint.gw_priority, name) for name, endpoint in record.networking.items()
        if (network := networks.named().get(name)) and network.bridged and not network.record.internal
    ]
    return min(fits)[1] if fits else ""


def _port_requests(record: ContainerRecord, network: Network | None) -> list[Request]:
    host = record.host_config
    bindings = {
        port: [(one.host_ip, one.host_port) for one in given or [PortBinding()]]
        for port, given in host.port_bindings.items()
    }
    default = network.options.host_binding if network else IPv4Address(0)
    return requests(record.config.exposed_ports, bindings, host.publish_all_ports, default)


def _reserve_ports(
    networks: Networks, record: ContainerRecord, chosen: dict[str, Network],
    taken: dict[str, tuple[IPv4Address, str]],
) -> list[Held]:
    name = uplink(networks, record)
    if not name:
        return []
    wanted = _port_requests(record, chosen[name])
    if not wanted:
        return []
    address, endpoint_id = taken[name]
    try:
        held = networks.reserver.reserve(wanted, address)
    except PortTaken as error:
        raise Internal(
            "failed to set up container networking: driver failed programming external connectivity on endpoint "
            f"{record.name} ({endpoint_id}): {error}"
        ) from None
    for each in held:
        networks.db.execute(
            "INSERT INTO port (proto, host_ip, port, container_id, container_port) VALUES (?, ?, ?, ?, ?)",
            each.protocol, str(each.host), each.port, record.id, each.container_port,
        )
    return held


def _ports_of(record: ContainerRecord, held: Sequence[Held]) -> dict[str, list[PortBinding] | None]:
    found: dict[str, list[PortBinding] | None] = {}
    for port, protocol in exposed_ports(record.config.exposed_ports, record.host_config.port_bindings):
        found[f"{port}/{protocol}"] = None
    for each in held:
        key = f"{each.container_port}/{each.protocol}"
        found[key] = [*(found.get(key) or ()), PortBinding(host_ip=str(each.host), host_port=str(each.port))]
    return found


# --- attach


def plugs(
    networks: Networks, record: ContainerRecord, names: Sequence[str] | None = None, first: int = 0
) -> list[Plug]:
    """The links to be of a container that has its addresses; the device `eth<first>` and up."""
    route = uplink(networks, record)
    found: list[Plug] = []
    for name in names if names is not None else record.networking:
        endpoint = record.networking[name]
        network = networks.get(name)
        if not network.bridged or not endpoint.ip_address:
            continue
        networks.ensure(network)
        found.append(Plug(
            network.record.bridge, host_end(endpoint.endpoint_id), f"{network.options.prefix}{first + len(found)}",
            endpoint.mac_address, IPv4Interface((endpoint.ip_address, endpoint.ip_prefix_len)),
            gateway=network.gateway if name == route else None, mtu=network.options.mtu,
            isolated=not network.options.icc, published=name == route and bool(networks.held.get(record.id)),
        ))
    return found


def published(networks: Networks, record: ContainerRecord) -> list[Published]:
    """The ports of a container that has its addresses, as the firewall wants them."""
    name = uplink(networks, record)
    if not name or not record.networking[name].ip_address:
        return []
    address = IPv4Address(record.networking[name].ip_address)
    found = []
    for key, bindings in record.network_settings.ports.items():
        port, _, protocol = key.partition("/")
        for one in bindings or ():
            found.append(Published(protocol, IPv4Address(one.host_ip), int(one.host_port), address, int(port)))
    return found


def guards(networks: Networks, record: ContainerRecord) -> list[Guard]:
    """Who a container that has its addresses may pass for, on each of its links.

    A privileged one is trusted with the host as it is: it may route for others (kind, VPN gateways).
    """
    if record.host_config.privileged:
        return []
    found = []
    for name, endpoint in record.networking.items():
        network = networks.named().get(name)
        if network and network.bridged and endpoint.endpoint_id and endpoint.ip_address:
            addresses = [IPv4Address(endpoint.ip_address)]
            found.append(Guard(host_end(endpoint.endpoint_id), endpoint.mac_address, addresses))
    return found


def protect(networks: Networks, record: ContainerRecord) -> None:
    """Ports and guards as they follow from what `record` has now. Raises Internal."""
    networks.firewall.attach(record.id, published(networks, record), guards(networks, record))


def attach(networks: Networks, record: ContainerRecord, netns_fd: int) -> None:
    """Links, addresses, routes and published ports of a container's new namespace. Raises Internal."""
    mode = record.host_config.network_mode
    if mode == "host" or mode.startswith("container:"):
        return
    wanted = plugs(networks, record)
    protect(networks, record)  # first: a link is guarded from its first frame on
    try:
        networks.bridges.plug(wanted, netns_fd)
    except Internal:
        _refresh(networks, record)  # somebody may have removed the bridge under us
        networks.bridges.plug(plugs(networks, record), netns_fd)
    for name in record.networking:
        network = networks.get(name)
        networks.publish(network, "connect", container=record.id)


def _refresh(networks: Networks, record: ContainerRecord) -> None:
    for name in record.networking:
        network = networks.get(name)
        network.ready = False
        networks.bridges.forget(network.record.bridge)


# --- release


def release(networks: Networks, record: ContainerRecord) -> None:
    """Ports, leases and what `record` says of them; links go with their namespace, or a little later by hand."""
    mode = record.host_config.network_mode
    if mode.startswith("container:"):
        return
    for each in networks.held.pop(record.id, ()):
        each.close()
    ends = []
    for name, endpoint in record.networking.items():
        if not endpoint.endpoint_id:
            continue
        ends.append(host_end(endpoint.endpoint_id))
        network = networks.named().get(name)
        if network:
            networks.publish(network, "disconnect", container=record.id)
        clear(endpoint)
    record.network_settings = NetworkState()
    with networks.db.transaction():
        networks.db.execute("DELETE FROM lease WHERE container_id = ?", record.id)
        networks.db.execute("DELETE FROM port WHERE container_id = ?", record.id)
    networks.firewall.withdraw(record.id)
    if ends:
        _sweep_later(networks, ends)


def _sweep_later(networks: Networks, ends: list[str]) -> None:
    networks.leaving.update(ends)
    try:
        asyncio.get_running_loop().call_later(SWEEP_DELAY_S, sweep, networks, ends)
    except RuntimeError:
        sweep(networks, ends)


def sweep(networks: Networks, ends: Collection[str]) -> None:
    """Remove links whose namespace someone keeps (`container:X`, nsenter): their addresses are given to others."""
    gone = []
    for end in list(ends):
        try:
            networks.bridges.unplug(end)
        except Error:
            continue  # the next reconcile finds it
        networks.leaving.discard(end)
        gone.append(end)
    networks.firewall.unbar(gone)
