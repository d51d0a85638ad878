"""Connecting containers to networks and taking them off: those that run at once, others at their next start."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from corten.base.errors import Conflict, Forbidden, Internal, InvalidArgument, NotFound
from corten.base.ids import new_id
from corten.engine import endpoints, network_etc
from corten.engine.endpoint_addresses import fill, gateway_of, lease
from corten.engine.endpoint_check import check_endpoint
from corten.engine.endpoint_ports import uplink
from corten.engine.network_records import Network, host_end
from corten.engine.network_views import dns_names
from corten.engine.records import ContainerRecord, EndpointConfig
from corten.network.plug import default_routes, remove_inside

if TYPE_CHECKING:
    from corten.engine.networks import Networks

PRIVATE = "container cannot be connected to multiple networks with one of the networks in private (none) mode"
SHARED = "container sharing network namespace with another container or host cannot be connected to any other network"


def connect(networks: Networks, ref: str, container: str, endpoint: EndpointConfig) -> None:
    """POST /networks/{id}/connect. Of a container that does not run the network need not even be there, as with docker.

    Raises Conflict, Forbidden, InvalidArgument, Internal, NotFound with docker's texts.
    """
    if not container:
        raise InvalidArgument('invalid name or ID supplied: ""')
    record = networks.containers.get(container)
    network = _network(networks, ref, record)
    name = network.record.name if network else ref
    mode = record.host_config.network_mode
    if (record.running and mode.startswith("container:")) or (mode == "host" and name != "host"):
        raise InvalidArgument(SHARED)
    if network is not None:
        _check_kind(network, record)
        check_endpoint(name, endpoint, network, "")
    if mode == "none" or name == "none":
        raise InvalidArgument(PRIVATE)
    if not record.running:
        if name not in record.networking:
            if name == mode and not endpoint.mac_address:  # one of the container's, as clients before 1.44 ask for it
                endpoint.mac_address = record.config.mac_address
            endpoint.dns_names = dns_names(endpoint, record) if network and network.names else None
            record.networking[name] = endpoint
            networks.containers.save(record)
        return
    assert network is not None
    if name in record.networking:
        raise Forbidden(f"endpoint with name {record.name} already exists in network {name}")
    _connect_running(networks, network, record, endpoint)
    networks.publish(network, "connect", container=record.id)


def _network(networks: Networks, ref: str, record: ContainerRecord) -> Network | None:
    try:
        return networks.get(ref)
    except NotFound:
        if record.running:
            raise
        return None


def _check_kind(network: Network, record: ContainerRecord) -> None:
    if network.record.driver == "host" and record.host_config.network_mode != "host":
        raise InvalidArgument(endpoints.HOST_ONLY)
    if network.record.config_only and record.running:
        raise Forbidden("cannot create endpoint on configuration-only network")


def _connect_running(networks: Networks, network: Network, record: ContainerRecord, endpoint: EndpointConfig) -> None:
    name = network.record.name
    with networks.db.transaction():
        addresses = lease(networks, network, endpoint, record.id)
    fill(endpoint, network, addresses, new_id())
    endpoint.dns_names = dns_names(endpoint, record) if network.names else None
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


def disconnect(networks: Networks, ref: str, container: str, force: bool) -> None:
    """POST /networks/{id}/disconnect. Raises Forbidden, Internal, InvalidArgument, NotFound with docker's texts."""
    try:
        record = networks.containers.get(container)
    except NotFound:
        if force:
            raise NotFound(f"endpoint {container} not found") from None
        raise
    network = _network(networks, ref, record)
    name = network.record.name if network else ref
    if record.running and name == "host" and record.host_config.network_mode == "host":
        raise InvalidArgument("cannot disconnect container from host network - "
                              "container was created in host network mode")
    if network is None:
        if record.networking.pop(name, None):
            networks.containers.save(record)
        return
    if name not in record.networking or (record.running and not record.networking[name].endpoint_id and not force):
        which = "network" if record.running else "the network"
        raise Internal(f"container {record.id} is not connected to {which} {name}")
    endpoint = record.networking.pop(name)
    if record.running and endpoint.endpoint_id:
        _disconnect_running(networks, network, record, endpoint)
    networks.containers.save(record)


def _disconnect_running(
    networks: Networks, network: Network, record: ContainerRecord, endpoint: EndpointConfig
) -> None:
    if network.addressed:
        _unplug(networks, network, record, endpoint)
        _drop_lease(networks, network, record)
        _new_route(networks, record)
        network_etc.update(networks, record, endpoint)
        networks.resolver.changed(record)
        endpoints.protect(networks, record)
        networks.firewall.unbar([host_end(endpoint.endpoint_id)])
    networks.publish(network, "disconnect", container=record.id)


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
            gateway = gateway_of(networks.get(name), record.networking[name], version)
            if gateway:
                default_routes(namespace, record.networking[name].mac_address, [gateway])
    finally:
        os.close(namespace)
