"""Networks and what runs already: connect and disconnect, reconcile after a restart, teardown after the last."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable
from typing import TYPE_CHECKING

from corten.base.errors import Conflict, Error, Forbidden, InvalidArgument
from corten.base.ids import new_id
from corten.engine import endpoints, network_etc
from corten.engine.endpoint_addresses import fill, lease
from corten.engine.endpoint_check import check_endpoint
from corten.engine.endpoint_ports import published, uplink
from corten.engine.network_records import Network, host_end, rules_of
from corten.engine.records import ContainerRecord, EndpointConfig
from corten.network.plug import default_routes, remove_inside
from corten.network.ports import Held, bind
from corten.network.ruleset import Guard, Published, Rules

if TYPE_CHECKING:
    from corten.engine.networks import Networks

log = logging.getLogger("corten.network")


# --- connect and disconnect


def connect(networks: Networks, network: Network, record: ContainerRecord, endpoint: EndpointConfig) -> None:
    """Add a network to a container, at once if it runs. Raises Conflict, Forbidden, InvalidArgument, Internal."""
    name = network.record.name
    if not network.addressed:
        what = "cannot connect container to host network - container must be created in host network mode"
        if network.record.driver == "host":
            raise InvalidArgument(what)
        raise Forbidden("container cannot be connected to network 'none': it would have no others")
    mode = record.host_config.network_mode
    if mode == "host" or mode.startswith("container:"):
        raise InvalidArgument("container sharing network namespace with another container or host cannot be connected "
                              "to any other network")
    if mode == "none" and record.running:
        raise InvalidArgument("container cannot be connected to multiple networks with one of the networks in private "
                              "(none) mode")
    if name in record.networking:
        raise Forbidden(f"endpoint with name {record.name} already exists in network {name}")
    check_endpoint(name, endpoint, network)
    record.networking.pop("none", None)
    if not record.running:
        endpoint.network_id = network.record.id
        record.networking[name] = endpoint
        networks.containers.save(record)
        return
    _connect_running(networks, network, record, endpoint)
    networks.publish(network, "connect", container=record.id)


def _connect_running(networks: Networks, network: Network, record: ContainerRecord, endpoint: EndpointConfig) -> None:
    name = network.record.name
    with networks.db.transaction():
        addresses = lease(networks, network, endpoint, record.id)
    fill(endpoint, network, addresses, new_id())
    record.networking[name] = endpoint
    namespace = _namespace(record)
    try:
        endpoints.protect(networks, record)
        networks.bridges.plug(endpoints.plugs(networks, record, [name], _free_index(record, name)), namespace)
    except BaseException:
        del record.networking[name]
        _drop_lease(networks, network, record)
        endpoints.protect(networks, record)
        raise
    finally:
        os.close(namespace)
    network_etc.update(networks, record)
    networks.resolver.changed(record)
    networks.containers.save(record)


def _free_index(record: ContainerRecord, name: str) -> int:
    """The number of the container's next interface."""
    return sum(1 for other, endpoint in record.networking.items() if other != name and endpoint.endpoint_id)


def disconnect(networks: Networks, network: Network, record: ContainerRecord, force: bool) -> None:
    """Take a network from a container, at once if it runs. Raises Forbidden, Conflict."""
    name = network.record.name
    if name not in record.networking or (record.running and not record.networking[name].endpoint_id and not force):
        which = "network" if record.running else "the network"
        raise Forbidden(f"container {record.id} is not connected to {which} {name}")
    if network.record.driver == "host" or record.host_config.network_mode.startswith("container:"):
        raise Conflict("container cannot be disconnected from host network - "
                       "container was created in host network mode")
    endpoint = record.networking.pop(name)
    if record.running and endpoint.endpoint_id:
        _unplug(networks, network, record, endpoint)
        _drop_lease(networks, network, record)
        _new_route(networks, record)
        network_etc.update(networks, record, endpoint)
        networks.resolver.changed(record)
        endpoints.protect(networks, record)
        networks.firewall.unbar([host_end(endpoint.endpoint_id)])
        networks.publish(network, "disconnect", container=record.id)
    networks.containers.save(record)


def _unplug(networks: Networks, network: Network, record: ContainerRecord, endpoint: EndpointConfig) -> None:
    if network.bridged:
        networks.bridges.unplug(host_end(endpoint.endpoint_id))
        return
    namespace = _namespace(record)
    try:
        remove_inside(namespace, endpoint.mac_address)
    finally:
        os.close(namespace)


def _drop_lease(networks: Networks, network: Network, record: ContainerRecord) -> None:
    networks.db.execute(
        "DELETE FROM lease WHERE network_id = ? AND container_id = ?", network.record.id, record.id,
    )


def _namespace(record: ContainerRecord) -> int:
    """The network namespace of a running container; the caller closes it. Raises Conflict when it ended meanwhile."""
    try:
        return os.open(f"/proc/{record.state.pid}/ns/net", os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        raise Conflict(f"container {record.id} is not running") from None


def _new_route(networks: Networks, record: ContainerRecord) -> None:
    """The default routes over the networks that carry them now."""
    namespace = _namespace(record)
    try:
        for version in (4, 6):
            name = uplink(networks, record, version)
            if not name or not record.networking[name].endpoint_id:
                continue
            gateway = networks.get(name).pools[version].gateway
            if gateway:
                default_routes(namespace, record.networking[name].mac_address, [gateway])
    finally:
        os.close(namespace)


# --- the whole


def reconcile(networks: Networks, live: list[ContainerRecord]) -> None:
    """Leases of the dead go, bridges, rules and ports of the living are there, links of nobody are removed."""
    ids = {record.id for record in live}
    _drop_dead(networks, ids)
    used: dict[str, Network] = {}
    ports: dict[str, list[Published]] = {}
    guards: dict[str, list[Guard]] = {}
    expected: set[str] = set()
    for record in live:
        for name, endpoint in record.networking.items():
            network = networks.named().get(name)
            if network and network.addressed and endpoint.endpoint_id:
                used[name] = network
                expected.add(host_end(endpoint.endpoint_id))
        guarded = endpoints.guards(networks, record)
        if guarded:
            guards[record.id] = guarded
        found = published(networks, record)
        if found:
            ports[record.id] = found
            networks.held[record.id] = [_hold(port) for port in found if port.host_port]
    if not used:
        teardown(networks)
        return
    rules = _devices(networks, used)
    networks.firewall.know(rules, ports, guards)
    networks.firewall.adopt()
    for end in networks.bridges.ports({network.record.bridge for network in used.values()}):
        if end.startswith("veth") and end not in expected:
            endpoints.sweep(networks, [end])


def _drop_dead(networks: Networks, alive: set[str]) -> None:
    with networks.db.transaction():
        for table in ("lease", "port"):
            for (container_id,) in networks.db.execute(f"SELECT DISTINCT container_id FROM {table}"):  # noqa: S608
                if container_id not in alive:
                    networks.db.execute(f"DELETE FROM {table} WHERE container_id = ?", container_id)  # noqa: S608


def _devices(networks: Networks, used: dict[str, Network]) -> list[Rules]:
    """The bridges of the networks in use are there after this; what the table has to know of them."""
    rules: list[Rules] = []
    for network in used.values():
        networks.ensure_device(network)
        network.ready = True
        if network.bridged:
            rules.append(rules_of(network))
    return rules


def _hold(port: Published) -> Held:
    """Bind a port again that the kernel goes on serving; who took its number meanwhile gets nothing, and we say so."""
    holder = None
    try:
        holder = bind(port.protocol, port.host, port.host_port)
    except OSError as error:
        log.warning("port %s:%d/%s is published, yet a process of the host has it too: %s",
                    port.host, port.host_port, port.protocol, error.strerror)
    return Held(port.protocol, port.container_port, port.host, port.host_port, holder)


def teardown(networks: Networks) -> None:
    """Remove the bridges and the table; goes on past failures, raises none."""
    endpoints.sweep(networks, networks.leaving)
    for network in networks.all():
        network.ready = False
        if network.bridged or network.record.made_parent:
            _quietly(networks.bridges.remove, network.record.bridge)
    _quietly(networks.firewall.remove)


def _quietly(function: Callable[..., None], *arguments: object) -> None:
    try:
        function(*arguments)
    except (Error, OSError) as error:
        log.warning("network teardown: %s", error)

