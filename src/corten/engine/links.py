"""Links, docker's older way to name a neighbour: on the default network an entry in /etc/hosts and variables of the
environment; on a user-defined network a name of one container's own, which the resolver knows.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from corten.base.errors import Conflict, Internal, InvalidArgument, NotFound
from corten.network.driver import PREDEFINED
from corten.network.ports import exposed_ports

if TYPE_CHECKING:
    from corten.engine.containers import Containers
    from corten.engine.networks import Networks
    from corten.engine.records import ContainerRecord, EndpointConfig

CONFLICT = "conflicting options: {} type networking can't be used with links. This would result in undefined behavior"


def parse(text: str) -> tuple[str, str]:
    """`db`, `db:alias`, and what inspect shows, `/db:/web/alias` -> (container, alias). Raises Internal, as docker."""
    if not text:
        raise Internal("empty string specified for links")
    parts = text.split(":")
    if len(parts) > 2 or not all(parts):
        raise Internal(f"bad format for links: {text}")
    name, alias = parts[0], parts[-1]
    if name.startswith("/"):
        return name[1:], alias.rpartition("/")[2]
    return name, alias


def check(networks: Networks, record: ContainerRecord) -> None:
    """Refuse links that cannot be. Raises InvalidArgument with docker's texts."""
    host = record.host_config
    if host.links and host.network_mode == "host":
        raise InvalidArgument(CONFLICT.format("host"))
    if host.links and host.network_mode.startswith("container:"):
        raise InvalidArgument("conflicting options: container type network can't be used with links. "
                              "This would result in undefined behavior")
    for endpoint in record.networking.values():
        for link in endpoint.links or ():
            parse(link)
    for link in host.links or ():
        name, _ = parse(link)
        if not on_default(record):
            continue
        try:
            target = networks.containers.get(name)
        except NotFound as error:
            raise InvalidArgument(f"could not get container for {name}: {error}") from None
        if target.host_config.network_mode == "host":
            raise InvalidArgument(CONFLICT.format("host"))


def on_default(record: ContainerRecord) -> bool:
    """Whether links of the host configuration count: docker keeps to the endpoint's elsewhere."""
    return record.host_config.network_mode in ("", "default", *PREDEFINED)


def targets(networks: Networks, record: ContainerRecord) -> Iterator[tuple[str, ContainerRecord]]:
    """(alias, container) of each link over the default network. Raises NotFound."""
    for link in (record.host_config.links or ()) if on_default(record) else ():
        name, alias = parse(link)
        yield alias, networks.containers.get(name)


def prepare(networks: Networks, record: ContainerRecord) -> None:
    """At a start, with the addresses had: the variables. Raises Internal, NotFound with docker's texts."""
    own = record.networking.get("bridge")
    found: list[str] = []
    for alias, target in targets(networks, record):
        link = f"/{record.name}/{alias}"
        if not target.running:
            raise Internal(f"Cannot link to a non running container: /{target.name} AS {link}")
        endpoint = target.networking.get("bridge")
        if own is None or endpoint is None or not endpoint.ip_address:
            raise Internal(f"container {(target if own else record).id} not attached to default bridge network")
        ports = exposed_ports(target.config.exposed_ports, target.host_config.port_bindings)
        found += environment(link, endpoint.ip_address, ports, target.config.env or ())
    record.network_settings.link_env = found


def hosts_entries(networks: Networks, record: ContainerRecord) -> list[tuple[str, str]]:
    """(names, address) of each link over the default network, for /etc/hosts."""
    found = []
    for alias, target in targets(networks, record):
        endpoint = target.networking.get("bridge")
        if endpoint is None or not endpoint.ip_address:
            continue
        names = [alias, target.config.hostname] + ([target.name] if alias != target.name else [])
        found.append((" ".join(names), endpoint.ip_address))
    return found


def linking_to(networks: Networks, target: ContainerRecord) -> list[ContainerRecord]:
    """The running containers that have a link to `target` over the default network."""
    found = []
    for record in networks.containers:
        if record.host_config.links and record.running and on_default(record):
            names = [parse(link)[0] for link in record.host_config.links]
            if any(name == target.name or target.id.startswith(name) for name in names):
                found.append(record)
    return found


def endpoint_links(networks: Networks, endpoint: EndpointConfig) -> dict[str, str]:
    """alias -> name, of the links of a user-defined network, as the resolver looks them up."""
    found = {}
    for link in endpoint.links or ():
        name, alias = parse(link)
        try:
            found[alias] = networks.containers.get(name).name
        except NotFound:
            found[alias] = name
    return found


def names_of_targets(containers: Containers) -> dict[str, list[str]]:
    """By id, what linked containers are also called: `/web/db`."""
    found: dict[str, list[str]] = {}
    for record in containers:
        for link in record.host_config.links or ():
            name, alias = parse(link)
            target = containers.named(name) or containers.find(name)
            if target is not None and on_default(record):
                found.setdefault(target.id, []).append(f"/{record.name}/{alias}")
    return found


def remove(containers: Containers, path: str) -> ContainerRecord:
    """Take `parent/alias` out of the parent, which is returned, not saved. `docker rm --link`, daemon/delete.go.

    Raises Conflict for a container's own name, NotFound for what is no link.
    """
    parent, _, alias = path.strip("/").rpartition("/")
    if not parent:
        raise Conflict("Conflict, cannot remove the default link name of the container")
    missing = f"No such container: {path}"
    record = containers.named(parent)
    if record is None:
        raise NotFound(missing)
    kept = [link for link in record.host_config.links or () if parse(link)[1] != alias]
    if len(kept) == len(record.host_config.links or ()):
        raise NotFound(missing)
    record.host_config.links = kept
    return record


def shown(record: ContainerRecord) -> list[str] | None:
    """HostConfig.Links of inspect."""
    if not record.host_config.links or not on_default(record):
        return None
    return [f"/{name}:/{record.name}/{alias}" for name, alias in map(parse, record.host_config.links)]


def environment(link: str, address: str, ports: Sequence[tuple[int, str]], variables: Sequence[str]) -> list[str]:
    """The variables of one link `/web/db`: address and ports of the other end, and its own environment.

    `ports` are (number, protocol). docker's daemon/links; ranges of ports get START and END.
    """
    alias = link.rpartition("/")[2].upper().replace("-", "_")
    ordered = sorted(ports, key=lambda port: (port[1] != "tcp", port[1], port[0]))
    found = []
    for at, (number, protocol) in enumerate(ordered):
        url = f"{protocol}://{address}:{number}"
        prefix = f"{alias}_PORT_{number}_{protocol.upper()}"
        if not at:
            found.append(f"{alias}_PORT={url}")
        found += [f"{prefix}={url}", f"{prefix}_ADDR={address}", f"{prefix}_PORT={number}",
                  f"{prefix}_PROTO={protocol}"]
    for first, last, protocol in _ranges(ordered):
        prefix = f"{alias}_PORT_{first}_{protocol.upper()}"
        found += [
            f"{prefix}_START={protocol}://{address}:{first}", f"{prefix}_PORT_START={first}",
            f"{prefix}_END={protocol}://{address}:{last}", f"{prefix}_PORT_END={last}",
        ]
    found.append(f"{alias}_NAME={link}")
    for variable in variables:
        name, equals, value = variable.partition("=")
        if equals and name not in ("HOME", "PATH"):
            found.append(f"{alias}_ENV_{name}={value}")
    return found


def _ranges(ordered: Sequence[tuple[int, str]]) -> Iterator[tuple[int, int, str]]:
    """Runs of at least two neighbouring ports of one protocol."""
    at = 0
    while at < len(ordered):
        first, protocol = ordered[at]
        last = first
        while at + 1 < len(ordered) and ordered[at + 1] == (last + 1, protocol):
            at, last = at + 1, last + 1
        at += 1
        if last > first:
            yield first, last, protocol
