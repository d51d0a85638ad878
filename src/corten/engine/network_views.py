"""Networks as docker's JSON: list, inspect, the filters of both, and the NetworkSettings of a container. Pure."""

from collections.abc import Callable, Iterable
from typing import Any

from corten.base.errors import Internal, InvalidArgument
from corten.base.units import format_time
from corten.engine.endpoint_addresses import addresses_of
from corten.engine.network_records import Network, ipam_json
from corten.engine.records import ContainerRecord, EndpointConfig, PortBinding
from corten.network.driver import PREDEFINED

_FILTERS = frozenset(("dangling", "driver", "id", "label", "name", "scope", "type"))


def network_json(network: Network, connected: Iterable[ContainerRecord]) -> dict[str, Any]:
    """GET /networks/{id}; `connected` are the containers that run on it."""
    record = network.record
    return {
        "Name": record.name, "Id": record.id, "Created": format_time(record.created_ns), "Scope": "local",
        "Driver": record.driver, "EnableIPv4": record.ipv4, "EnableIPv6": record.ipv6, "IPAM": ipam_json(record),
        "Internal": record.internal, "Attachable": record.attachable, "Ingress": False,
        "ConfigFrom": {"Network": record.config_from}, "ConfigOnly": record.config_only,
        "Containers": {one.id: _member(one, record.name) for one in connected},
        "Options": record.options, "Labels": record.labels,
    }


def _member(record: ContainerRecord, name: str) -> dict[str, Any]:
    endpoint = record.networking[name]
    has = addresses_of(endpoint)
    return {
        "Name": record.name, "EndpointID": endpoint.endpoint_id, "MacAddress": endpoint.mac_address,
        "IPv4Address": str(has.get(4, "")), "IPv6Address": str(has.get(6, "")),
    }


def check_filters(filters: dict[str, list[str]], allowed: Iterable[str] = _FILTERS) -> None:
    """Raises InvalidArgument for an unknown filter or value, with docker's text."""
    for name, values in filters.items():
        if name not in allowed:
            raise InvalidArgument(f"invalid filter '{name}'")
        if name == "dangling":
            truth_of(values)
        if name == "type" and any(value not in ("builtin", "custom") for value in values):
            raise Internal(f"invalid filter: 'type'='{values[0]}'")  # docker's status too


def truth_of(values: list[str], name: str = "dangling") -> bool:
    """A boolean filter. Raises InvalidArgument with docker's texts."""
    if len(values) > 1:
        raise InvalidArgument(f'got more than one value for filter key "{name}"')
    for found, words in ((True, ("1", "true")), (False, ("0", "false"))):
        if values[0] in words:
            return found
    raise InvalidArgument(
        f"invalid value for filter '{name}', must be \"true\" (or \"1\"), or \"false\" (or \"0\")")


def scope_is(scope: str) -> bool:
    """Whether networks of ours have the scope: no other is without a swarm."""
    return scope == "local"


def matches(network: Network, filters: dict[str, list[str]], used: bool) -> bool:
    """Whether a network passes all filters; `used`: a container is on it."""
    record = network.record
    builtin = record.name in PREDEFINED
    tests: dict[str, Callable[[str], bool]] = {
        "driver": lambda value: record.driver == value,
        "id": lambda value: record.id.startswith(value),
        "name": lambda value: value in record.name,
        "scope": scope_is,
        "type": lambda value: (value == "builtin") == builtin,
    }
    for name, values in filters.items():
        if name == "dangling":
            if not builtin and truth_of(values) == used:
                return False
            if builtin and truth_of(values):
                return False
        elif name == "label":
            if not all(has_label(record.labels, value) for value in values):
                return False
        elif values and not any(tests[name](value) for value in values):
            return False
    return True


def has_label(labels: dict[str, str] | None, wanted: str) -> bool:
    """`key` or `key=value`."""
    key, equals, value = wanted.partition("=")
    return key in (labels or {}) and (not equals or (labels or {})[key] == value)


# --- a container's own


def dns_names(endpoint: EndpointConfig, container: ContainerRecord) -> list[str]:
    """By what names a container is found on a user-defined network; the first is its own."""
    hostname = [container.config.hostname] if container.config.hostname else []
    return list(dict.fromkeys([container.name, *(endpoint.aliases or ()), container.id[:12], *hostname]))


def endpoint_json(endpoint: EndpointConfig, container: ContainerRecord, network: Network | None) -> dict[str, Any]:
    """Docker's EndpointSettings."""
    config: dict[str, Any] | None = None
    if endpoint.ipam_config is not None:
        config = {}
        if endpoint.ipam_config.ipv4_address:
            config["IPv4Address"] = endpoint.ipam_config.ipv4_address
        if endpoint.ipam_config.ipv6_address:
            config["IPv6Address"] = endpoint.ipam_config.ipv6_address
        if endpoint.ipam_config.link_local_ips:
            config["LinkLocalIPs"] = endpoint.ipam_config.link_local_ips
    return {
        "IPAMConfig": config, "Links": endpoint.links, "Aliases": endpoint.aliases,
        "MacAddress": endpoint.mac_address, "DriverOpts": endpoint.driver_opts, "GwPriority": endpoint.gw_priority,
        "NetworkID": endpoint.network_id, "EndpointID": endpoint.endpoint_id, "Gateway": endpoint.gateway,
        "IPAddress": endpoint.ip_address, "IPPrefixLen": endpoint.ip_prefix_len, "IPv6Gateway": endpoint.ipv6_gateway,
        "GlobalIPv6Address": endpoint.global_ipv6_address, "GlobalIPv6PrefixLen": endpoint.global_ipv6_prefix_len,
        "DNSNames": endpoint.dns_names,
    }


def settings_json(record: ContainerRecord, networks: dict[str, Network]) -> dict[str, Any]:
    """NetworkSettings of a container's inspect (API 1.51: with the default network's endpoint at the top as well)."""
    state = record.network_settings
    top = EndpointConfig()
    if "bridge" in record.networking and not record.host_config.network_mode.startswith("container:"):
        top = record.networking["bridge"]
    return {
        "Bridge": "", "SandboxID": state.sandbox_id, "SandboxKey": state.sandbox_key, "Ports": ports_json(state.ports),
        "HairpinMode": False, "LinkLocalIPv6Address": "", "LinkLocalIPv6PrefixLen": 0,
        "SecondaryIPAddresses": None, "SecondaryIPv6Addresses": None,
        "EndpointID": top.endpoint_id, "Gateway": top.gateway,
        "GlobalIPv6Address": top.global_ipv6_address, "GlobalIPv6PrefixLen": top.global_ipv6_prefix_len,
        "IPAddress": top.ip_address, "IPPrefixLen": top.ip_prefix_len, "IPv6Gateway": top.ipv6_gateway,
        "MacAddress": top.mac_address if top.endpoint_id else "",
        "Networks": {
            name: endpoint_json(endpoint, record, networks.get(name)) for name, endpoint in record.networking.items()
        },
    }


def ports_json(ports: dict[str, list[PortBinding] | None]) -> dict[str, list[dict[str, str]] | None]:
    """`{"80/tcp": [{"HostIp": …, "HostPort": …}]}`; exposed and not published: null."""
    return {
        port: None if bindings is None else [
            {"HostIp": binding.host_ip, "HostPort": binding.host_port} for binding in bindings
        ]
        for port, bindings in sorted(ports.items())
    }
