"""One link of a container: what it is to be, and the inside of a network namespace that gets it.

A plug says how its link comes to be (`create`) and goes (`remove`); addresses, routes and settings inside are the same
for all kinds. Calls block for about a millisecond.
"""

import errno
import os
from abc import ABC, abstractmethod
from collections.abc import Sequence
from ipaddress import IPv4Network, IPv6Interface, IPv6Network

from corten.base.errors import Internal
from corten.linux import links, sysctl
from corten.linux.libc import libc, raise_errno
from corten.linux.netlink import CLONE_NEWNET, Address, Batch, Interface, NetlinkError, Network, Socket
from corten.network.ruleset import link_local

LOOPBACK_INDEX = 1  # the first link of every network namespace


class Plug(ABC):
    """A link to be: `name` inside, with `mac` and `interfaces`.

    `gateways` are set on the one plug that carries the default routes; `sysctls` name it IFNAME.
    """

    __slots__ = ("gateways", "interfaces", "mac", "mtu", "name", "sysctls")

    host_name = ""  # its end on the host, if it has one

    def __init__(
        self, name: str, mac: str, interfaces: Sequence[Interface], *, gateways: Sequence[Address] = (),
        mtu: int = 1500, sysctls: Sequence[tuple[str, str]] = (),
    ) -> None:
        self.name = name
        self.mac = mac
        self.interfaces = list(interfaces)
        self.gateways = list(gateways)
        self.mtu = mtu
        self.sysctls = list(sysctls)

    @abstractmethod
    def create(self, batch: Batch, netns_fd: int, index: int) -> None:
        """Add the making of the link to a batch; `index` is that of the bridge or parent."""


class BridgePort(Plug):
    """One end of a veth pair, the other end `host_name` on a bridge; `published`: it carries published ports."""

    __slots__ = ("host_name", "isolated", "published")

    def __init__(
        self, host_name: str, name: str, mac: str, interfaces: Sequence[Interface], *, gateways: Sequence[Address] = (),
        mtu: int = 1500, sysctls: Sequence[tuple[str, str]] = (), isolated: bool = False, published: bool = False,
    ) -> None:
        super().__init__(name, mac, interfaces, gateways=gateways, mtu=mtu, sysctls=sysctls)
        self.host_name = host_name
        self.isolated = isolated
        self.published = published

    def create(self, batch: Batch, netns_fd: int, index: int) -> None:
        batch.veth(self.host_name, index, self.name, netns_fd, self.mac, self.mtu)
        hairpin = self.published and _filters_bridged()
        if self.isolated or hairpin:
            batch.bridge_port(self.host_name, isolated=self.isolated, hairpin=hairpin)
        batch.up(self.host_name, link_local=False, mtu=self.mtu)


class SubLink(Plug):
    """A macvlan or ipvlan (`kind`) of a link of the host: it goes with its namespace, nothing is left on the host."""

    __slots__ = ("flag", "kind", "mode")

    def __init__(
        self, kind: str, mode: str, flag: str, name: str, mac: str, interfaces: Sequence[Interface], *,
        gateways: Sequence[Address] = (), mtu: int = 1500, sysctls: Sequence[tuple[str, str]] = (),
    ) -> None:
        super().__init__(name, mac, interfaces, gateways=gateways, mtu=mtu, sysctls=sysctls)
        self.kind = kind
        self.mode = mode
        self.flag = flag

    def create(self, batch: Batch, netns_fd: int, index: int) -> None:
        if self.kind == "macvlan":
            links.macvlan(batch, self.name, index, self.mode, netns_fd, self.mac, self.mtu)
        else:
            links.ipvlan(batch, self.name, index, self.mode, self.flag, netns_fd, self.mtu)


def _filters_bridged() -> bool:
    """Whether br_netfilter lets nf_tables see, and translate, frames within a bridge: from a container by a host
    port to itself they then have to leave by the port they came in by."""
    return sysctl.read("net/bridge/bridge-nf-call-iptables") == "1"


# --- inside


def furnish(plugs: Sequence[Plug], netns_fd: int) -> None:
    """Loopback up; of each link in the namespace its addresses, default routes and settings. Raises OSError."""
    with Socket(netns_fd) as inside:
        batch = Batch()
        batch.up(LOOPBACK_INDEX)
        for plug in plugs:
            link = inside.link(plug.name)
            if link is None:
                raise NetlinkError(errno.ENODEV, f"{plug.name} did not arrive")
            _addresses(batch, link.index, plug)
        inside.run(batch)
    if any(plug.sysctls for plug in plugs):
        _settings(plugs, netns_fd)


def _addresses(batch: Batch, index: int, plug: Plug) -> None:
    """Without an IPv6 address the link gives itself none; with one, its link-local address is there at once."""
    batch.up(index, link_local=False, mtu=plug.mtu)
    for interface in plug.interfaces:
        give(batch, index, interface)
        if interface.version == 6:
            give(batch, index, IPv6Interface((link_local(plug.mac), 64)), replace=True)
    for gateway in plug.gateways:
        same = [one.network for one in plug.interfaces if one.version == gateway.version]
        if not any(gateway in network for network in same):
            batch.route(index, None, _host_route(gateway))
        batch.route(index, gateway)


def give(batch: Batch, index: int, interface: Interface, *, replace: bool = False) -> None:
    """An address for link `index` that works as soon as the batch is through."""
    batch.address(index, interface, replace=replace)
    if isinstance(interface, IPv6Interface):
        links.local_route(batch, index, interface.ip)


def _host_route(gateway: Address) -> Network:
    return IPv6Network((int(gateway), 128)) if gateway.version == 6 else IPv4Network((int(gateway), 32))


def _settings(plugs: Sequence[Plug], netns_fd: int) -> None:
    """Write sysctls as the namespace sees them. The names have been checked: no dots or slashes lead elsewhere."""
    home = os.open("/proc/thread-self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
    try:
        if libc.setns(netns_fd, CLONE_NEWNET):
            raise_errno("setns")
        try:
            for plug in plugs:
                for key, value in plug.sysctls:
                    _set(plug.name, key, value)
        finally:
            if libc.setns(home, CLONE_NEWNET):
                os.abort()
    finally:
        os.close(home)


def _set(link: str, key: str, value: str) -> None:
    try:
        sysctl.write("/".join(link if part == "IFNAME" else part for part in key.split(".")), value)
    except OSError as error:
        raise Internal(f"unable to set sysctl {key}={value}: {(error.strerror or '').lower()}") from None


def default_routes(netns_fd: int, mac: str, gateways: Sequence[Address]) -> None:
    """Let the default routes of a namespace go over the link with `mac` from now on. Raises Internal."""
    try:
        with Socket(netns_fd) as inside:
            batch = Batch()
            for link in inside.links():
                if link.mac == mac:
                    for gateway in gateways:
                        batch.route(link.index, gateway)
            inside.run(batch)
    except OSError as error:
        raise Internal(f"network: {error.strerror}") from None


def remove_inside(netns_fd: int, mac: str) -> None:
    """Remove the link with `mac` from a namespace; absent is fine. Raises Internal."""
    try:
        with Socket(netns_fd) as inside:
            batch = Batch()
            for link in inside.links():
                if link.mac == mac and link.index != LOOPBACK_INDEX:
                    batch.delete_link(link.index)
            inside.run(batch)
    except OSError as error:
        raise Internal(f"network: {error.strerror}") from None
