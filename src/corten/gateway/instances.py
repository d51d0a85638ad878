"""A container's record as the gateway sees it: where it is reached from the host, which ports it has."""

from corten.engine.networks import Networks
from corten.engine.records import ContainerRecord
from corten.gateway.resolve import Instance


def instance_of(record: ContainerRecord, networks: Networks) -> Instance:
    """For a container whose network is there."""
    address, why = _address(record, networks)
    return Instance(record.id, record.name, record.config.labels or {}, address, exposed(record), why)


def exposed(record: ContainerRecord) -> list[int]:
    """The TCP ports it says it has."""
    return sorted({int(text.partition("/")[0]) for text in record.config.exposed_ports or {}
                   if text.partition("/")[2] in ("", "tcp") and text.partition("/")[0].isdigit()})


def _address(record: ContainerRecord, networks: Networks) -> tuple[str, str]:
    """(address, why there is none)."""
    mode = record.host_config.network_mode
    if mode == "host":
        return "127.0.0.1", ""
    if mode == "none":
        return "", "it has no network, so the gateway cannot reach it"
    if mode.startswith("container:"):
        return _address(networks.joined(record), networks)
    unreachable = ""
    for name, endpoint in record.networking.items():
        network = networks.named().get(name)
        address = endpoint.ip_address or endpoint.global_ipv6_address
        if network is None or not address:
            continue
        if network.bridged:
            return address, ""
        unreachable = f"the host does not reach network {name} ({network.record.driver})"
    return "", unreachable or "it has no address on a network"
