"""What `network create` asks for, checked and settled: which fields are honoured, which addresses the network gets."""

from __future__ import annotations

from ipaddress import ip_network
from typing import TYPE_CHECKING

import msgspec

from corten.base.errors import Forbidden, Internal, InvalidArgument, NotFound, Unsupported
from corten.base.ids import new_id
from corten.base.units import now_ns
from corten.engine.default_network import free_subnet6
from corten.engine.network_records import CreateNetwork, NetworkRecord, Pool
from corten.network import driver, ipam
from corten.network.driver import Options

if TYPE_CHECKING:
    from corten.engine.networks import Networks


def refuse(request: CreateNetwork) -> None:
    """What docker refuses, or knows and we do not do. Raises Forbidden, InvalidArgument, Unsupported."""
    if request.config_only:
        if request.internal or request.attachable or request.ingress or request.scope not in ("", "local"):
            raise Forbidden("configuration network can only contain network specific fields. Network operator fields "
                            "like [ ingress | internal | attachable | scope ] are not supported.")
        if source(request):
            raise Forbidden("a configuration network cannot depend on another configuration network")
    if request.ingress:
        raise Forbidden("Ingress network can only be global scope network")
    if request.scope == "swarm":
        raise Forbidden("cannot create a swarm scoped network when swarm is not active")
    if request.scope not in ("", "local"):
        raise Unsupported(f"network scope {request.scope} is not supported")
    if request.enable_ipv4 is False and not request.enable_ipv6:
        raise InvalidArgument("IPv4 or IPv6 must be enabled")


def source(request: CreateNetwork) -> str:
    """The name of the configuration it takes over, "" for none."""
    return (request.config_from or {}).get("Network", "")


def configuration(request: CreateNetwork) -> NetworkRecord:
    """A network that is none: what others are made from. Raises InvalidArgument, Unsupported."""
    record = NetworkRecord(
        id=new_id(), name=request.name, created_ns=now_ns(), driver="null", options=request.options,
        labels=request.labels, config=request,
    )
    for pool in _pools(request):
        _check_pool(pool, record)
    if request.ipam:
        record.ipam_options = request.ipam.options
    return record


def configured(networks: Networks, request: CreateNetwork) -> CreateNetwork:
    """The request with what its configuration says. Raises Forbidden, NotFound with docker's texts."""
    name = source(request)
    if driver.wants_ipv6(request.options):
        request = msgspec.structs.replace(request, enable_ipv6=True)
    if not name:
        return request
    found = networks.named().get(name)
    if found is None or found.record.config is None:
        raise NotFound(f'configuration network "{name}" does not exist')
    if request.labels or _pools(request) or request.enable_ipv6:
        raise Forbidden("user specified configurations are not supported if the network depends on a configuration "
                        "network")
    if request.options:
        raise Forbidden("network driver options are not supported if the network depends on a configuration network")
    config = found.record.config
    return msgspec.structs.replace(
        request, labels=config.labels, options=config.options, ipam=config.ipam, enable_ipv4=config.enable_ipv4,
        enable_ipv6=config.enable_ipv6,
    )


def _pools(request: CreateNetwork) -> list[Pool]:
    return [pool for pool in request.ipam.config if pool != Pool()] if request.ipam else []


def addresses(networks: Networks, record: NetworkRecord, request: CreateNetwork) -> None:
    """Subnet, range, gateway, reserved addresses of a new network. Raises InvalidArgument, Forbidden, Unsupported."""
    plan = request.ipam
    if plan and plan.driver not in ("", "default"):
        raise NotFound(f'plugin "{plan.driver}" not found')
    for option in sorted(plan.options or ()) if plan else ():  # names of other makers are labels, as with docker
        if "." not in option or option.startswith("com.docker.network."):
            raise Unsupported(f"IPAM options are not supported: {option}")
    record.ipam_options = plan.options if plan else None
    pools = _pools(request)
    wanted = {4: request.enable_ipv4 is not False, 6: bool(request.enable_ipv6)}
    for pool in pools:
        if ":" in pool.subnet and not wanted[6]:
            record.idle.append(pool)
        else:
            _check_pool(pool, record)
    for text in _subnets(record):
        ipam.check_overlap(ip_network(text), networks.subnets())
    record.given_subnet, record.given_subnet6 = bool(record.subnet), bool(record.subnet6)
    if wanted[4] and not record.subnet:
        _choose(networks, record)
    if wanted[6] and not record.subnet6:
        _choose6(networks, record)
    _gateways(record)


def _choose(networks: Networks, record: NetworkRecord) -> None:
    taken = [*networks.bridges.host_networks(networks.devices()), *networks.subnets()]
    record.subnet = str(ipam.user_subnet(taken, networks.pools or ipam.USER_POOLS))


def _choose6(networks: Networks, record: NetworkRecord) -> None:
    taken = [*networks.bridges.host_networks(networks.devices()), *networks.subnets()]
    record.subnet6 = str(free_subnet6(networks, taken))


def _gateways(record: NetworkRecord) -> None:
    """The gateway of each IP version that names none; that of macvlan and ipvlan is a router outside, if any."""
    if record.driver != "bridge":
        return
    if record.subnet and not record.gateway:
        record.gateway = str(ipam.gateway_of(ip_network(record.subnet)))
    if record.subnet6 and not record.gateway6:
        record.gateway6 = str(ipam.gateway_of(ip_network(record.subnet6)))


def _check_pool(pool: Pool, record: NetworkRecord) -> None:
    """Take a pool as given into the record. Raises InvalidArgument, Unsupported with docker's texts."""
    try:
        subnet = ipam.parse_subnet(pool.subnet)
        within = ipam.parse_subnet(pool.ip_range, "ip-range") if pool.ip_range else None
        if within and not ipam.contains(subnet, within):
            raise InvalidArgument(f"invalid ip-range {within}: parent subnet {subnet} doesn't contain ip-range")
        gateway = _inner_address(pool.gateway, f"gateway {pool.gateway}", subnet) if pool.gateway else None
        extra = {
            name: _inner_address(text, f"auxiliary address {name}", subnet)
            for name, text in pool.auxiliary_addresses.items()
        }
    except InvalidArgument as error:
        raise InvalidArgument(f"invalid network config:\n{error}") from None
    first, last = ipam.hosts(subnet)
    if gateway and not first <= int(gateway) <= last:
        raise Internal(f"failed to allocate gateway ({gateway}): Address already in use")
    before = [ip_network(text) for text in _subnets(record)]
    ipam.check_overlap(subnet, before)
    if record.driver == "bridge" and any(other.version == subnet.version for other in before):
        raise Forbidden("bridge driver doesn't support multiple subnets")
    texts = str(subnet), str(within or ""), str(gateway or "")
    if record.subnet if subnet.version == 4 else record.subnet6:
        record.further.append(Pool(subnet=texts[0], ip_range=texts[1], gateway=texts[2]))
    elif subnet.version == 4:
        record.subnet, record.ip_range, record.gateway = texts
    else:
        record.subnet6, record.ip_range6, record.gateway6 = texts
    record.auxiliary.update({name: str(address) for name, address in extra.items()})


def _subnets(record: NetworkRecord) -> list[str]:
    return [*filter(None, (record.subnet, record.subnet6)), *(pool.subnet for pool in record.further)]


def _inner_address(text: str, what: str, subnet: ipam.Network) -> ipam.Address:
    try:
        address = ipam.parse_address(text)
    except InvalidArgument:
        raise InvalidArgument(f"invalid {what}: invalid address") from None
    if address not in subnet:
        raise InvalidArgument(f"invalid {what}: parent subnet {subnet} doesn't contain this address")
    return address


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
