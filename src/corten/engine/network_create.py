"""What `network create` asks for, checked and settled: which fields are honoured, which addresses the network gets."""

from __future__ import annotations

from ipaddress import IPv4Network, IPv6Network, ip_network
from typing import TYPE_CHECKING

from corten.base.errors import InvalidArgument, Unsupported
from corten.base.ids import new_id
from corten.base.units import now_ns
from corten.engine.network_records import CreateNetwork, NetworkRecord, Pool
from corten.network import driver, ipam
from corten.network.driver import Options
from corten.network.ruleset import ANY

if TYPE_CHECKING:
    from corten.engine.networks import Networks


def default_record(networks: Networks) -> NetworkRecord:
    """The default network: it keeps its subnet unless `--bip` says otherwise or the host now routes it elsewhere."""
    known = networks.named().get("bridge")
    record = known.record if known else NetworkRecord(
        id=new_id(), name="bridge", created_ns=now_ns(), driver="bridge",
    )
    around = [*networks.bridges.host_networks(networks.devices()), *networks.subnets(but="bridge")]
    taken = [net for net in around if isinstance(net, IPv4Network)]
    before = known.pools[4] if known and 4 in known.pools else None
    subnet: ipam.Network
    gateway: ipam.Address
    there = networks.bip or networks.bridges.address_of(networks.bridge)
    if there:
        subnet, gateway = there.network, there.ip
    elif before and before.gateway and not any(before.subnet.overlaps(other) for other in taken):
        subnet, gateway = before.subnet, before.gateway
    else:
        subnet = ipam.default_subnet(taken)
        gateway = ipam.gateway_of(subnet)
    record.subnet, record.gateway, record.bridge = str(subnet), str(gateway), networks.bridge
    record.options = {
        driver.DEFAULT_BRIDGE: "true", driver.ICC: "true", driver.MASQUERADE: "true",
        driver.HOST_BINDING: str(ANY), driver.NAME: networks.bridge, driver.MTU: "1500",
    }
    return record


def refuse(request: CreateNetwork) -> None:
    """What docker knows and we do not do. Raises Unsupported, InvalidArgument."""
    if request.scope not in ("", "local"):
        raise Unsupported(f"network scope {request.scope} is not supported")
    if request.ingress:
        raise Unsupported("ingress networks need a swarm, which is not supported")
    if request.config_only or (request.config_from or {}).get("Network"):
        raise Unsupported("config-only networks are not supported yet")
    if request.enable_ipv4 is False and not request.enable_ipv6:
        raise InvalidArgument("IPv4 or IPv6 must be enabled")


def addresses(networks: Networks, record: NetworkRecord, request: CreateNetwork) -> None:
    """Subnet, range, gateway, reserved addresses of a new network. Raises InvalidArgument, Forbidden, Unsupported."""
    plan = request.ipam
    if plan and plan.driver not in ("", "default"):
        raise Unsupported(f"IPAM driver {plan.driver} is not supported")
    if plan and plan.options:
        raise Unsupported(f"IPAM options are not supported: {', '.join(sorted(plan.options))}")
    pools = [pool for pool in plan.config if pool != Pool()] if plan else []
    wanted = {4: request.enable_ipv4 is not False, 6: bool(request.enable_ipv6)}
    for pool in pools:
        if not pool.subnet:
            raise InvalidArgument("invalid network config:\ninvalid subnet: no subnet given")
        version = _check_pool(pool, record)
        if version == 6 and not wanted[6]:
            raise InvalidArgument("invalid network config:\nIPv6 is not enabled for this network: "
                                  f"invalid subnet {pool.subnet}")
    for text in filter(None, (record.subnet, record.subnet6)):
        ipam.check_overlap(ip_network(text), networks.subnets())
    record.given_subnet, record.given_subnet6 = bool(record.subnet), bool(record.subnet6)
    if wanted[4] and not record.subnet:
        _choose(networks, record)
    if wanted[6] and not record.subnet6:
        _choose6(networks, record)
    _gateways(record)


def _choose(networks: Networks, record: NetworkRecord) -> None:
    taken = [*networks.bridges.host_networks(networks.devices()), *networks.subnets()]
    record.subnet = str(ipam.user_subnet([net for net in taken if isinstance(net, IPv4Network)]))


def _choose6(networks: Networks, record: NetworkRecord) -> None:
    taken = [*networks.bridges.host_networks(networks.devices()), *networks.subnets()]
    record.subnet6 = str(ipam.unique_local_subnet(
        networks.seed, [net for net in taken if isinstance(net, IPv6Network)]))


def _gateways(record: NetworkRecord) -> None:
    """The gateway of each IP version that names none; that of macvlan and ipvlan is a router outside, if any."""
    if record.driver != "bridge":
        return
    if record.subnet and not record.gateway:
        record.gateway = str(ipam.gateway_of(ip_network(record.subnet)))
    if record.subnet6 and not record.gateway6:
        record.gateway6 = str(ipam.gateway_of(ip_network(record.subnet6)))


def _check_pool(pool: Pool, record: NetworkRecord) -> int:
    """Take a pool as given into the record; its IP version. Raises InvalidArgument, Unsupported."""
    try:
        subnet = ipam.parse_subnet(pool.subnet)
        within = ipam.parse_subnet(pool.ip_range, "ip-range") if pool.ip_range else None
        gateway = ipam.parse_address(pool.gateway, "gateway") if pool.gateway else None
        extra = {name: ipam.parse_address(text, "auxiliary address") for name, text in pool.auxiliary_addresses.items()}
    except InvalidArgument as error:
        raise InvalidArgument(f"invalid network config:\n{error}") from None
    if within and not _within(within, subnet):
        raise InvalidArgument(f"invalid network config:\ninvalid ip-range {within}: it is not in subnet {subnet}")
    first, last = ipam.hosts(subnet)
    if gateway and not (gateway.version == subnet.version and first <= int(gateway) <= last):
        raise InvalidArgument(f"invalid network config:\nno matching subnet for gateway {gateway}")
    for name, address in extra.items():
        if address not in subnet:
            raise InvalidArgument(f"invalid network config:\nno matching subnet for aux-address {name}={address}")
    if record.subnet if subnet.version == 4 else record.subnet6:
        raise Unsupported(f"more than one IPv{subnet.version} subnet for a network is not supported yet")
    texts = str(subnet), str(within or ""), str(gateway or "")
    if subnet.version == 4:
        record.subnet, record.ip_range, record.gateway = texts
    else:
        record.subnet6, record.ip_range6, record.gateway6 = texts
    record.auxiliary.update({name: str(address) for name, address in extra.items()})
    return subnet.version


def _within(inner: ipam.Network, outer: ipam.Network) -> bool:
    return inner.version == outer.version and inner.network_address in outer and inner.broadcast_address in outer


def check_modes(options: Options, internal: bool) -> None:
    """Raises InvalidArgument with docker's text."""
    if "isolated" in options.modes.values() and not internal:
        raise InvalidArgument("gateway mode 'isolated' can only be used for an internal network")


def dummy_name(record: NetworkRecord) -> str:
    """The parent of a macvlan or ipvlan network that names none, as docker calls it."""
    return f"dm-{record.id[:12]}"


def parent(networks: Networks, record: NetworkRecord, options: Options) -> None:
    """The link a macvlan or ipvlan network sits on; without one it is an inner matter. Raises InvalidArgument."""
    record.bridge = options.parent or dummy_name(record)
    record.internal = record.internal or not options.parent
    for other in networks.all():
        if other.record.driver not in ("macvlan", "ipvlan") or other.record.bridge != record.bridge:
            continue
        if record.driver == "ipvlan" or other.record.driver == "ipvlan":
            raise InvalidArgument(f"network {other.record.id} is already using parent interface {record.bridge}")
        if options.mode == "passthru":
            raise InvalidArgument(f"cannot use mode passthru, macvlan network {other.record.id} is already using "
                                  f"parent interface {record.bridge}")
        if other.options.mode == "passthru":
            raise InvalidArgument(f"macvlan network {other.record.id} is already using parent interface "
                                  f"{record.bridge} in mode passthru")
        record.made_parent = record.made_parent or other.record.made_parent
