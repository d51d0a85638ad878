"""What is done with networks as a whole: made, listed, shown, removed, pruned. POST, GET, DELETE /networks."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from corten.base.errors import Conflict, Forbidden, InvalidArgument, NotFound
from corten.base.ids import new_id
from corten.base.units import now_ns, parse_time
from corten.engine import network_create
from corten.engine.network_records import CreateNetwork, Network, NetworkRecord
from corten.engine.network_views import check_filters, has_label, matches, network_json, scope_is
from corten.network import driver

if TYPE_CHECKING:
    from corten.engine.networks import Networks

Filters = dict[str, list[str]]


def create(networks: Networks, request: CreateNetwork) -> Network:
    """Raises Conflict, Forbidden, InvalidArgument, NotFound, Unsupported with docker's texts."""
    driver.check_name(request.name)
    if request.name in (*driver.PREDEFINED, "default"):
        raise Forbidden(f"operation is not permitted on predefined {request.name} network ")
    network_create.refuse(request)
    if request.name in networks.named():
        raise Conflict(f"network with name {request.name} already exists")
    if request.config_only:
        network = networks.store(network_create.configuration(request))
        networks.publish(network, "create")
        return network
    request = network_create.configured(networks, request)
    kind = driver.check_driver(request.driver)
    request.options = {**networks.default_options.get(kind, {}), **request.options}
    options = driver.Options(request.options, kind)
    network_create.check_modes(options, request.internal)
    record = NetworkRecord(
        id=new_id(), name=request.name, created_ns=now_ns(), driver=kind, internal=request.internal,
        attachable=request.attachable, options=request.options, labels=request.labels,
        config_from=network_create.source(request),
    )
    record.bridge = options.bridge or f"br-{record.id[:12]}"
    if kind != "bridge":
        network_create.parent(networks, record, options)
    elif record.bridge in networks.devices():
        raise Forbidden(f"network {record.name}: bridge {record.bridge} already belongs to another network")
    network_create.addresses(networks, record, request)
    network = networks.store(record)
    try:
        networks.ensure(network)
    except BaseException:
        networks.forget(network)
        raise
    networks.publish(network, "create")
    if network.names:
        networks.resolver.wanted()
    return network


def listing(networks: Networks, filters: Filters) -> list[dict[str, Any]]:
    """GET /networks. Raises InvalidArgument."""
    check_filters(filters)
    return [
        network_json(network, ()) for network in networks.all()
        if matches(network, filters, bool(networks.connected(network)) if "dangling" in filters else False)
    ]


def inspect(networks: Networks, ref: str, scope: str = "") -> dict[str, Any]:
    """GET /networks/{id}. Raises NotFound: also when there is none of that scope."""
    network = networks.get(ref)
    if scope and not scope_is(scope):
        raise NotFound(f"network {ref} not found")
    return network_json(network, networks.connected(network))


def remove(networks: Networks, ref: str) -> None:
    """DELETE /networks/{id}. Raises Forbidden while a container is connected, and for the predefined ones."""
    network = networks.get(ref)
    name = network.record.name
    if name in driver.PREDEFINED:
        raise Forbidden(f"{name} is a pre-defined network and cannot be removed")
    if any(other.record.config_from == name for other in networks.all()):
        raise Forbidden(f'error while removing network: configuration network "{name}" is in use')
    active = networks.connected(network)
    if active:
        ends = ", ".join(f'name:"{r.name}" id:"{r.networking[name].endpoint_id[:12]}"' for r in active)
        raise Forbidden(f"error while removing network: network {name} has active endpoints ({ends})")
    if network.bridged:  # devices first: when we are killed in between, the network is there still and makes them anew
        networks.firewall.remove_bridge(network.record.bridge)
        networks.bridges.remove(network.record.bridge)
    elif network.record.made_parent and not _parent_shared(networks, network):
        networks.bridges.remove(network.record.bridge)
    networks.forget(network)
    networks.publish(network, "destroy")
    if not any(other.names for other in networks.all()):
        networks.resolver.rest()


def _parent_shared(networks: Networks, network: Network) -> bool:
    """Whether another network sits on the same link."""
    return any(other is not network and other.record.bridge == network.record.bridge for other in networks.all())


def prune(networks: Networks, filters: Filters) -> list[str]:
    """Remove the user's networks on which no container runs; their names. POST /networks/prune."""
    check_filters(filters, ("label", "label!", "until"))
    until = min(map(_moment, filters.get("until", ())), default=0)
    removed = []
    for network in networks.all():
        record = network.record
        if record.name in driver.PREDEFINED or record.config_only or networks.connected(network):
            continue
        if until and record.created_ns > until:
            continue
        if not all(has_label(record.labels, value) for value in filters.get("label", ())):
            continue
        if any(has_label(record.labels, value) for value in filters.get("label!", ())):
            continue
        remove(networks, record.id)
        removed.append(record.name)
    networks.events.publish("network", "prune", "", {"reclaimed": "0"})
    return removed


def _moment(text: str) -> int:
    """Nanoseconds since 1970. Raises InvalidArgument with docker's text."""
    try:
        return parse_time(text)
    except InvalidArgument:
        raise InvalidArgument(f'failed to parse value as time or duration: "{text}"') from None
