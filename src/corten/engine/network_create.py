"""What `network create` asks for, checked and settled: which fields are honoured, which addresses the network gets."""

from __future__ import annotations

from ipaddress import IPv4Network
from typing import TYPE_CHECKING

from corten.base.errors import InvalidArgument, Unsupported
from corten.engine.network_records import CreateNetwork, NetworkRecord, Pool
from corten.network import ipam

if TYPE_CHECKING:
    from corten.engine.networks import Networks


def refuse(request: CreateNetwork) -> None:
    """What docker knows and we do not do. Raises Unsupported, InvalidArgument."""
    if request.scope not in ("", "local"):
        raise Unsupported(f"network scope {request.scope} is not supported")
    if request.ingress:
        raise Unsupported("ingress networks need a swarm, which is not supported")
    if request.config_only or (request.config_from or {}).get("Network"):
        raise Unsupported("config-only networks are not supported yet")
    if request.enable_ipv6:
        raise Unsupported("IPv6 networks are not supported yet (EnableIPv6)")
    if request.enable_ipv4 is False:
        raise Unsupported("networks without IPv4 are not supported yet (EnableIPv4)")


def addresses(networks: Networks, record: NetworkRecord, request: CreateNetwork) -> None:
    """Subnet, range, gateway, reserved addresses of a new network. Raises InvalidArgument, Forbidden, Unsupported."""
    plan = request.ipam
    if plan and plan.driver not in ("", "default"):
        raise Unsupported(f"IPAM driver {plan.driver} is not supported")
    if plan and plan.options:
        raise Unsupported(f"IPAM options are not supported: {', '.join(sorted(plan.options))}")
    pools = [pool for pool in plan.config if pool != Pool()] if plan else []
    if len(pools) > 1:
        raise Unsupported("more than one subnet for a network is not supported yet")
    if not pools or not pools[0].subnet:
        if pools:
            raise InvalidArgument("invalid network config:\ninvalid subnet: no subnet given")
        taken = [*networks.bridges.host_networks(networks.devices()), *networks.subnets()]
        subnet = ipam.user_subnet(taken)
        record.subnet, record.gateway = str(subnet), str(ipam.gateway_of(subnet))
        return
    _check_pool(pools[0], record)
    ipam.check_overlap(IPv4Network(record.subnet), networks.subnets())
    record.given_subnet = True


def _check_pool(pool: Pool, record: NetworkRecord) -> None:
    """Take a pool as given into the record. Raises InvalidArgument, Unsupported."""
    try:
        subnet = ipam.parse_subnet(pool.subnet)
        within = ipam.parse_subnet(pool.ip_range, "ip-range") if pool.ip_range else None
        gateway = ipam.parse_address(pool.gateway, "gateway") if pool.gateway else ipam.gateway_of(subnet)
        extra = {name: ipam.parse_address(text, "auxiliary address") for name, text in pool.auxiliary_addresses.items()}
    except InvalidArgument as error:
        raise InvalidArgument(f"invalid network config:\n{error}") from None
    if within and not within.subnet_of(subnet):
        raise InvalidArgument(f"invalid network config:\ninvalid ip-range {within}: it is not in subnet {subnet}")
    first, last = ipam.hosts(subnet)
    if not first <= int(gateway) <= last:
        raise InvalidArgument(f"invalid network config:\nno matching subnet for gateway {gateway}")
    for name, address in extra.items():
        if address not in subnet:
            raise InvalidArgument(f"invalid network config:\nno matching subnet for aux-address {name}={address}")
    record.subnet, record.gateway = str(subnet), str(gateway)
    record.ip_range = str(within) if within else ""
    record.auxiliary = {name: str(address) for name, address in extra.items()}
