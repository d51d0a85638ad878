"""A container's part of the networks: what its start takes (addresses, host ports, links, rules), what its end returns.

`reserve` takes everything that can be refused, in one transaction, before anything is made. `attach` makes it.
`release` undoes both, in any state, any number of times.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Collection, Sequence
from typing import TYPE_CHECKING

from corten.base.errors import Error, Forbidden, Internal, InvalidArgument, NotFound
from corten.base.ids import new_id
from corten.engine import links
from corten.engine.endpoint_addresses import addresses_of, clear, fill, gateway_of, lease, link_local
from corten.engine.endpoint_check import check_endpoint
from corten.engine.endpoint_ports import ports_of, published, reserve_ports, uplink
from corten.engine.network_records import Network, host_end
from corten.engine.network_views import dns_names
from corten.engine.records import ContainerRecord, EndpointConfig, NetworkState
from corten.network.driver import check_endpoint_options
from corten.network.ipam import Address
from corten.network.plug import BridgePort, Plug, SubLink
from corten.network.ports import Held
from corten.network.ruleset import Guard

if TYPE_CHECKING:
    from corten.engine.networks import Networks

log = logging.getLogger("corten.network")

HOST_ONLY = "cannot connect container to host network - container must be created in host network mode"
SWEEP_DELAY_S = 2.0  # a namespace takes its links with it; only what outlives it by this long is removed by hand


# --- reserve


def reserve(networks: Networks, record: ContainerRecord) -> None:
    """Addresses, MACs and host ports of every network, into `record`; nothing is left when it raises."""
    mode = record.host_config.network_mode
    if mode.startswith("container:"):
        networks.joined(record)
        return
    release(networks, record)  # what an earlier start that was cut off may have left
    chosen: dict[str, Network] = {}
    _by_name(networks, record)
    for name, endpoint in record.networking.items():
        if not _withheld(networks, name):
            chosen[name] = _usable(networks, name, endpoint, record)
    taken: dict[str, tuple[dict[int, Address], str]] = {}
    held: list[Held] = []
    try:
        with networks.db.transaction():
            for name, network in chosen.items():
                if network.addressed:
                    taken[name] = _lease(networks, network, record), new_id()
            held = reserve_ports(networks, record, taken)
    except BaseException:
        for each in held:
            each.close()
        raise
    for name, network in chosen.items():
        endpoint = record.networking[name]
        endpoint.network_id, endpoint.endpoint_id = network.record.id, new_id()
        if name in taken:
            fill(endpoint, network, *taken[name])
        endpoint.dns_names = dns_names(endpoint, record) if network.names else None
    state = record.network_settings = NetworkState(sandbox_id=new_id())
    state.sandbox_key = f"{networks.layout.exec_root}/netns/{state.sandbox_id[:12]}"
    if any(network.bridged for network in chosen.values()):
        state.ports = ports_of(record, held)
    networks.held[record.id] = held
    try:
        links.prepare(networks, record)
    except BaseException:
        release(networks, record)
        raise


def _lease(networks: Networks, network: Network, record: ContainerRecord) -> dict[int, Address]:
    try:
        return lease(networks, network, record.networking[network.record.name], record.id)
    except Error as error:
        raise type(error)(f"failed to set up container networking: {error}") from None


def _by_name(networks: Networks, record: ContainerRecord) -> None:
    """Networks that were given by id, or its beginning, are known by name from the first start on."""
    found = {}
    for ref, endpoint in record.networking.items():
        network = networks.find(ref)
        found[network.record.name if network else ref] = endpoint
    record.networking = found


def _withheld(networks: Networks, name: str) -> bool:
    """Whether it is the default network of a daemon without: who is on it has a loopback alone, as in docker."""
    return name == "bridge" and networks.plan.absent


def _usable(networks: Networks, name: str, endpoint: EndpointConfig, record: ContainerRecord) -> Network:
    try:
        network = networks.get(name)
        check_endpoint(name, endpoint, network)
    except NotFound:
        gone = endpoint.network_id or name
        raise NotFound(f"failed to set up container networking: network {gone} not found") from None
    if network.record.config_only:
        raise Forbidden("failed to set up container networking: cannot create endpoint on configuration-only network")
    if endpoint.network_id not in ("", network.record.id) and not network.record.default:  # that one is known by name
        raise NotFound(f"failed to set up container networking: network {endpoint.network_id} not found")
    if network.record.driver == "host" and record.host_config.network_mode != "host":
        raise InvalidArgument(f"failed to set up container networking: {HOST_ONLY}")
    if not network.addressed and len(record.networking) > 1:
        raise InvalidArgument(f"container cannot be connected to multiple networks with one of the networks in "
                              f"private ({network.record.name}) mode")
    return network


# --- attach


def members(networks: Networks, record: ContainerRecord, names: Sequence[str] | None = None) -> list[Network]:
    """The networks (those named, or all) that a container is on. Raises NotFound."""
    wanted = names if names is not None else record.networking
    return [networks.get(name) for name in wanted if not _withheld(networks, name)]


def plugs(
    networks: Networks, record: ContainerRecord, names: Sequence[str] | None = None, first: int = 0
) -> list[tuple[str, Plug]]:
    """(device, link to be) of a container that has its addresses; names count on from `first`: `eth<first>`."""
    routes = {version: uplink(networks, record, version) for version in (4, 6)}
    found: list[tuple[str, Plug]] = []
    for network in members(networks, record, names):
        name = network.record.name
        has = addresses_of(record.networking[name])
        if not network.addressed or not has:
            continue
        networks.ensure(network)
        gateways = [
            gateway for version in has
            if routes[version] == name and (gateway := gateway_of(network, record.networking[name], version))
        ]
        plug = _plug(networks, record, network, f"{network.options.prefix}{first + len(found)}", gateways)
        found.append((network.record.bridge, plug))
    return found


def _plug(
    networks: Networks, record: ContainerRecord, network: Network, default_name: str, gateways: Sequence[Address]
) -> Plug:
    endpoint, options = record.networking[network.record.name], network.options
    given, sysctls = check_endpoint_options(endpoint.driver_opts or {})
    name, mac = given or default_name, endpoint.mac_address
    interfaces = [*addresses_of(endpoint).values(), *link_local(endpoint)]
    if not network.bridged:
        return SubLink(network.record.driver, options.mode, options.flag, name, mac, interfaces, gateways=gateways,
                       mtu=options.mtu, sysctls=sysctls)
    return BridgePort(
        host_end(endpoint.endpoint_id), name, mac, interfaces, gateways=gateways, mtu=options.mtu, sysctls=sysctls,
        isolated=not options.icc, published=bool(gateways) and bool(networks.held.get(record.id)),
    )


def guards(networks: Networks, record: ContainerRecord) -> list[Guard]:
    """Who a container that has its addresses may pass for, on each of its links.

    A privileged one is trusted with the host as it is: it may route for others (kind, VPN gateways).
    """
    if record.host_config.privileged:
        return []
    found = []
    for name, endpoint in record.networking.items():
        network = networks.named().get(name)
        if network and network.bridged and network.options.guard and endpoint.endpoint_id:
            addresses = [interface.ip for interface in (*addresses_of(endpoint).values(), *link_local(endpoint))]
            found.append(Guard(host_end(endpoint.endpoint_id), endpoint.mac_address, addresses))
    return found


def protect(networks: Networks, record: ContainerRecord) -> None:
    """Ports and guards as they follow from what `record` has now. Raises Internal."""
    networks.firewall.attach(record.id, published(networks, record), guards(networks, record))


def prepare(networks: Networks, record: ContainerRecord) -> None:
    """The part of `attach` that needs no namespace: bridges, ports, guards. A failure is left to `attach` to tell."""
    if record.host_config.network_mode == "host" or not record.network_settings.sandbox_id:
        return
    try:
        for network in members(networks, record):
            if network.addressed:
                networks.ensure(network)
        protect(networks, record)
    except Error as error:
        log.debug("preparing the network of %s: %s", record.name, error)


def attach(networks: Networks, record: ContainerRecord, netns_fd: int) -> None:
    """Links, addresses, routes and published ports of a container's new namespace. Raises Internal."""
    mode = record.host_config.network_mode
    if mode.startswith("container:"):
        return
    if mode != "host":
        _connect(networks, record, netns_fd)
    for network in members(networks, record):
        networks.publish(network, "connect", container=record.id)


def _connect(networks: Networks, record: ContainerRecord, netns_fd: int) -> None:
    wanted = plugs(networks, record)
    protect(networks, record)  # first: a link is guarded from its first frame on
    try:
        networks.bridges.plug(wanted, netns_fd)
    except Internal:
        _refresh(networks, record)  # somebody may have removed the bridge under us
        networks.bridges.plug(plugs(networks, record), netns_fd)


def _refresh(networks: Networks, record: ContainerRecord) -> None:
    for network in members(networks, record):
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
        network = networks.named().get(name)
        if network is None or network.bridged:
            ends.append(host_end(endpoint.endpoint_id))
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
