"""What the database keeps of a network, what a request says of one, and docker's JSON of both. Data only."""

import hashlib
from collections.abc import Iterator, Mapping
from ipaddress import IPv4Interface, IPv6Interface, ip_address, ip_network
from typing import Any, Protocol

import msgspec

from corten.engine.records import ContainerRecord, EndpointConfig
from corten.engine.schema import Schema
from corten.network.driver import Options
from corten.network.ipam import ROUTER_NAMES, Address
from corten.network.ipam import Network as Subnet
from corten.network.ruleset import Rules


class Pool(Schema):
    """One entry of IPAM.Config; texts as given."""

    subnet: str = ""
    ip_range: str = msgspec.field(default="", name="IPRange")
    gateway: str = ""
    auxiliary_addresses: dict[str, str] = {}


class Ipam(Schema):
    """The address management asked for."""

    driver: str = "default"
    config: list[Pool] = []
    options: dict[str, str] | None = None


class CreateNetwork(Schema):
    """The body of POST /networks/create."""

    name: str = ""
    driver: str = ""
    scope: str = ""
    check_duplicate: bool = False
    internal: bool = False
    attachable: bool = False
    ingress: bool = False
    config_only: bool = False
    config_from: dict[str, str] | None = None
    ipam: Ipam | None = msgspec.field(default=None, name="IPAM")
    enable_ipv4: bool | None = msgspec.field(default=None, name="EnableIPv4")
    enable_ipv6: bool | None = msgspec.field(default=None, name="EnableIPv6")
    options: dict[str, str] = {}
    labels: dict[str, str] = {}


class ConnectRequest(Schema):
    """The body of POST /networks/{id}/connect and /disconnect."""

    container: str = ""
    endpoint_config: EndpointConfig | None = None
    force: bool = False


class NetworkRecord(Schema):
    """A network; `subnet` and `gateway` (IPv4's; with a 6 IPv6's) are empty for host and none.

    `bridge` is the device's name: the bridge, or the link below macvlan and ipvlan links; `made_parent`: by us.
    """

    id: str
    name: str
    created_ns: int
    driver: str
    subnet: str = ""
    ip_range: str = ""
    gateway: str = ""
    subnet6: str = ""
    ip_range6: str = ""
    gateway6: str = ""
    further: list[Pool] = []  # more subnets of either IP version, of macvlan and ipvlan
    bridge: str = ""
    made_parent: bool = False
    auxiliary: dict[str, str] = {}
    ipam_options: dict[str, str] | None = None
    given_subnet: bool = False  # by the user: only then may endpoints ask for an address
    given_subnet6: bool = False
    idle: list[Pool] = []  # subnets of an IP version that is off
    internal: bool = False
    attachable: bool = False
    options: dict[str, str] = {}
    labels: dict[str, str] = {}
    config: CreateNetwork | None = None  # of a configuration for others: what was asked for
    config_from: str = ""

    @property
    def config_only(self) -> bool:
        """Whether it is no network but the configuration of others."""
        return self.config is not None

    @property
    def default(self) -> bool:
        """Whether this is the network of containers that name none: no names are looked up in it."""
        return self.name == "bridge"

    @property
    def ipv6(self) -> bool:
        """Whether its endpoints get an IPv6 address."""
        return bool(self.subnet6)

    @property
    def ipv4(self) -> bool:
        """Whether its endpoints get an IPv4 address; host and none say so too, as docker has it."""
        return bool(self.subnet) or not self.subnet6


_network_decoder = msgspec.json.Decoder(NetworkRecord)


def decode_network(data: bytes) -> NetworkRecord:
    """A network from the database. Raises msgspec.MsgspecError when the row is damaged."""
    return _network_decoder.decode(data)


class AddressPool:
    """The addresses of one IP version of a network, parsed once; `gateway` is None where there is none.

    `router` is whom containers send to: the gateway, unless an auxiliary address has docker's name for another.
    """

    __slots__ = ("gateway", "last", "range", "reserved", "router", "subnet")

    def __init__(self, subnet: str, within: str, gateway: str, auxiliary: Mapping[str, str], *, bridged: bool) -> None:
        self.subnet: Subnet = ip_network(subnet)
        self.range: Subnet | None = ip_network(within) if within else None
        self.gateway: Address | None = ip_address(gateway) if gateway else None
        other = auxiliary.get(ROUTER_NAMES[self.subnet.version], "") if bridged else ""
        self.router = ip_address(other) if other else self.gateway
        taken = (ip_address(address) for address in (gateway, *auxiliary.values()) if address)
        self.reserved = frozenset(int(address) for address in taken if address.version == self.subnet.version)
        self.last: int | None = None  # the address given last, as a number; None: the database knows

    @property
    def gateway_interface(self) -> IPv4Interface | IPv6Interface | None:
        """The bridge's own address with its prefix."""
        if self.gateway is None:
            return None
        kind = IPv4Interface if self.subnet.version == 4 else IPv6Interface
        return kind((int(self.gateway), self.subnet.prefixlen))


class Network:
    """A network in memory: its record with the texts parsed, once. `pools` is by IP version; a bridge has one each."""

    __slots__ = ("options", "pools", "ready", "record")

    def __init__(self, record: NetworkRecord) -> None:
        self.record = record
        self.options = Options(record.options, record.driver)
        self.pools: dict[int, list[AddressPool]] = {}
        for pool in _pools(record):
            parsed = AddressPool(pool.subnet, pool.ip_range, pool.gateway, record.auxiliary, bridged=self.bridged)
            self.pools.setdefault(parsed.subnet.version, []).append(parsed)
        self.ready = False  # the device and the rules are there

    @property
    def subnets(self) -> list[Subnet]:
        """Of both IP versions."""
        return [pool.subnet for pools in self.pools.values() for pool in pools]

    def pool_of(self, address: Address) -> AddressPool | None:
        """The pool an address is of."""
        return next((pool for pool in self.pools.get(address.version, ()) if address in pool.subnet), None)

    @property
    def addressed(self) -> bool:
        """Whether containers get addresses of it."""
        return self.record.driver not in ("host", "null")

    @property
    def bridged(self) -> bool:
        """Whether it is a bridge: ports are published, rules made."""
        return self.record.driver == "bridge"

    @property
    def names(self) -> bool:
        """Whether containers on it find each other by name."""
        return self.addressed and not self.record.default

    @property
    def outward(self) -> list[int]:
        """The IP versions in which a container may have its default route here."""
        if self.record.internal:
            return []
        return [version for version, pools in self.pools.items() if any(pool.router for pool in pools)]

    @property
    def bridge_addresses(self) -> list[IPv4Interface | IPv6Interface]:
        """What the bridge itself has: nothing in an isolated network, no IPv4 address when that is inhibited."""
        found = []
        for version, pools in self.pools.items():
            pool, inhibited = pools[0], version == 4 and self.options.inhibit_ipv4
            if pool.gateway_interface and not inhibited and self.options.modes[version] != "isolated":
                found.append(pool.gateway_interface)
        return found

    @property
    def source_addresses(self) -> list[str]:
        """The addresses that stand for the host in this network (`host-gateway`), of both IP versions."""
        return [gateway for gateway in (self.record.gateway, self.record.gateway6) if gateway]


class ContainerTable(Protocol):
    """What networks need of the containers."""

    def get(self, ref: str) -> ContainerRecord:
        """By id, name or unique beginning. Raises NotFound."""

    def __iter__(self) -> Iterator[ContainerRecord]:
        """All of them."""

    def save(self, record: ContainerRecord) -> None:
        """Write a changed record."""


def bridge_name(exec_root: str, default_exec_root: str) -> str:
    """`corten0` for the daemon of this host; daemons beside it, with run roots of their own, get names of their own."""
    if exec_root == default_exec_root:
        return "corten0"
    return "corten" + hashlib.sha256(exec_root.encode()).hexdigest()[:8]


def table_name(bridge: str) -> str:
    """The nf_tables table of the daemon whose default bridge this is."""
    return "corten" if bridge == "corten0" else f"corten-{bridge}"


def host_end(endpoint_id: str) -> str:
    """The host end of an endpoint's veth pair."""
    return f"veth{endpoint_id[:7]}"


def ipam_json(record: NetworkRecord) -> dict[str, Any]:
    """The IPAM member of a network's JSON."""
    if not record.subnet and not record.subnet6:
        return {"Driver": "default", "Options": None, "Config": None}
    pools = [*({"Subnet": pool.subnet} for pool in record.idle), *(_pool_json(record, pool) for pool in _pools(record))]
    return {"Driver": "default", "Options": record.ipam_options, "Config": pools}


def _pools(record: NetworkRecord) -> list[Pool]:
    """The subnets of a network, those of IPv4 first; auxiliary addresses are the record's."""
    found = [
        Pool(subnet=record.subnet, ip_range=record.ip_range, gateway=record.gateway),
        *(pool for pool in record.further if ":" not in pool.subnet),
        Pool(subnet=record.subnet6, ip_range=record.ip_range6, gateway=record.gateway6),
        *(pool for pool in record.further if ":" in pool.subnet),
    ]
    return [pool for pool in found if pool.subnet]


def _pool_json(record: NetworkRecord, pool: Pool) -> dict[str, Any]:
    found: dict[str, Any] = {"Subnet": pool.subnet}
    if pool.ip_range:
        found["IPRange"] = pool.ip_range
    if pool.gateway:
        found["Gateway"] = pool.gateway
    subnet = ip_network(pool.subnet)
    extra = {name: text for name, text in record.auxiliary.items() if ip_address(text) in subnet}
    if extra:
        found["AuxiliaryAddresses"] = extra
    return found


def rules_of(network: Network) -> Rules:
    """What the firewall has to know of a bridge network."""
    options = network.options
    nat = [version for version in network.pools if options.modes[version].startswith("nat")]
    return Rules(
        network.record.bridge, network.subnets, internal=network.record.internal, icc=options.icc,
        masquerade=nat if options.masquerade else (), outward=options.outward, trusted=options.trusted,
        routed=[version for version in network.pools if options.modes[version] == "routed"],
        unprotected=[version for version in network.pools if options.modes[version] == "nat-unprotected"],
    )
