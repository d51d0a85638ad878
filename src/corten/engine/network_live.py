"""Networks and what runs already: reconcile after a restart, teardown after the last."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import TYPE_CHECKING

from corten.base.errors import Error
from corten.engine import endpoints
from corten.engine.endpoint_ports import published
from corten.engine.network_records import Network, host_end, rules_of
from corten.engine.records import ContainerRecord
from corten.network.ports import Held, bind
from corten.network.ruleset import Guard, Published, Rules

if TYPE_CHECKING:
    from corten.engine.networks import Networks

log = logging.getLogger("corten.network")


def reconcile(networks: Networks, live: list[ContainerRecord]) -> None:
    """Leases of the dead go, bridges, rules and ports of the living are there, links of nobody are removed."""
    ids = {record.id for record in live}
    _drop_dead(networks, ids)
    _retire(networks)
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


def _retire(networks: Networks) -> None:
    """The default network that is not to be any more goes, even from containers that run, as with docker."""
    if networks.retired is not None:
        _quietly(networks.bridges.remove, networks.retired.bridge)
        networks.db.delete("network", networks.retired.id)
        networks.retired = None


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
