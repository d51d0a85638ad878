"""What the database keeps of a network, what a request says of one, and docker's JSON of both. Data only."""

import hashlib
from collections.abc import Iterator
from ipaddress import IPv4Address, IPv4Interface, IPv4Network
from typing import Any, Protocol

import msgspec

from corten.engine.records import ContainerRecord, EndpointConfig, Schema
from corten.network.driver import BridgeOptions
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
    """A network; `subnet` and `gateway` are empty for host and none, `bridge` is the device's name."""

    id: str
    name: str
    created_ns: int
    driver: str
    subnet: str = ""
    ip_range: str = ""
    gateway: str = ""
    bridge: str = ""
    auxiliary: dict[str, str] = {}
    ipam_options: dict[str, str] | None = None
    given_subnet: bool = False  # by the user: only then may endpoints ask for an address
    internal: bool = False
    attachable: bool = False
    options: dict[str, str] = {}
    labels: dict[str, str] = {}

    @property
    def default(self) -> bool:
        """Whether this is the network of containers that name none: no names are looked up in it."""
        return self.name == "bridge"


_network_decoder = msgspec.json.Decoder(NetworkRecord)


def decode_network(data: bytes) -> NetworkRecord:
    """A network from the database. Raises msgspec.MsgspecError when the row is damaged."""
    return _network_decoder.decode(data)


class Network:
    """A network in memory: its record with the texts parsed, once."""

    __slots__ = ("gateway", "last", "options", "range", "ready", "record", "reserved", "subnet")

    def __init__(self, record: NetworkRecord) -> None:
        self.record = record
        self.options = BridgeOptions(record.options)
        self.subnet = IPv4Network(record.subnet) if record.subnet else None
        self.range = IPv4Network(record.ip_range) if record.ip_range else None
        self.gateway = IPv4Address(record.gateway) if record.gateway else None
        self.reserved = frozenset(
            int(IPv4Address(address)) for address in (record.gateway, *record.auxiliary.values()) if address
        )
        self.last = 0  # the address given last, as a number
        self.ready = False  # the device and the rules are there

    @property
    def bridged(self) -> bool:
        """Whether containers get an address of it."""
        return self.record.driver == "bridge"

    @property
    def gateway_interface(self) -> IPv4Interface:
        """The bridge's own address with its prefix."""
        if self.subnet is None or self.gateway is None:
            raise ValueError(f"network {self.record.name} has no subnet")
        return IPv4Interface((self.gateway, self.subnet.prefixlen))


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
    if not record.subnet:
        return {"Driver": "default", "Options": None, "Config": None}
    pool: dict[str, Any] = {"Subnet": record.subnet}
    if record.ip_range:
        pool["IPRange"] = record.ip_range
    if record.gateway:
        pool["Gateway"] = record.gateway
    if record.auxiliary:
        pool["AuxiliaryAddresses"] = record.auxiliary
    options = None if record.default else record.ipam_options or {}
    return {"Driver": "default", "Options": options, "Config": [pool]}


def rules_of(network: Network) -> Rules:
    """What the firewall has to know of a bridge network."""
    return Rules(
        network.record.bridge, [network.gateway_interface.network], internal=network.record.internal,
        icc=network.options.icc, masquerade=(4,) if network.options.masquerade else (),
    )
