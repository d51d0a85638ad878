"""The default network as the operator wants it: its addresses of both families as the host leaves them free."""

from __future__ import annotations

from ipaddress import IPv4Network, IPv6Network
from typing import TYPE_CHECKING

from corten.base.ids import new_id
from corten.base.units import now_ns
from corten.engine.network_records import AddressPool, NetworkRecord
from corten.network import ipam
from corten.network.ipam import ROUTER_NAMES
from corten.network.ipam import Network as Subnet

if TYPE_CHECKING:
    from corten.engine.networks import Networks


def default_record(networks: Networks) -> NetworkRecord:
    """The default network: it keeps its subnets unless flags say otherwise or the host now routes them elsewhere.

    Raises Forbidden (an overlap with another network), InvalidArgument.
    """
    plan, known = networks.plan, networks.named().get("bridge")
    record = known.record if known else NetworkRecord(
        id=new_id(), name="bridge", created_ns=now_ns(), driver="bridge",
    )
    before = {version: pools[0] for version, pools in known.pools.items()} if known else {}
    others = networks.subnets(but="bridge")
    taken = [*networks.bridges.host_networks(networks.devices()), *others]
    record.subnet, record.gateway = _addresses(networks, 4, before.get(4), taken)
    record.subnet6 = record.gateway6 = ""
    if plan.ipv6:
        record.subnet6, record.gateway6 = _addresses(networks, 6, before.get(6), taken)
    record.ip_range, record.ip_range6 = str(plan.within.get(4, "")), str(plan.within.get(6, "") if plan.ipv6 else "")
    record.auxiliary = {ROUTER_NAMES[version]: str(router) for version, router in plan.routers.items()
                        if version == 4 or plan.ipv6}
    record.bridge, record.options = networks.bridge, dict(plan.options)
    return record


def _addresses(networks: Networks, version: int, before: AddressPool | None, taken: list[Subnet]) -> tuple[str, str]:
    """Subnet and gateway of one IP version."""
    plan = networks.plan
    within = plan.within.get(version)
    there = plan.own.get(version) or (networks.bridges.address_of(networks.bridge) if version == 4 else None)
    if there and (version in plan.own or within is None or ipam.contains(there.network, within)):
        subnet, gateway = there.network, there.ip
    elif within is not None:
        subnet, gateway = within, ipam.gateway_of(within)
    elif before and before.gateway and not any(ipam.overlap(before.subnet, other) for other in taken):
        subnet, gateway = before.subnet, before.gateway
    else:
        subnet = _free(networks, version, taken)
        gateway = ipam.gateway_of(subnet)
    if version in plan.own or within is not None:
        ipam.check_overlap(subnet, networks.subnets(but="bridge"))
    plan.check(version, subnet)
    return str(subnet), str(gateway)


def _free(networks: Networks, version: int, taken: list[Subnet]) -> Subnet:
    if version == 4:
        return ipam.default_subnet([net for net in taken if isinstance(net, IPv4Network)], networks.pools)
    return free_subnet6(networks, taken)


def free_subnet6(networks: Networks, taken: list[Subnet]) -> Subnet:
    """Of the operator's pools, else of this daemon's own prefix. Raises PoolsExhausted."""
    if any(pool.base.version == 6 for pool in networks.pools):
        return ipam.user_subnet(taken, networks.pools, 6)
    return ipam.unique_local_subnet(networks.seed, [net for net in taken if isinstance(net, IPv6Network)])
