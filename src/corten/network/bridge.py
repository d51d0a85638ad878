"""Bridges and what is plugged into them: devices, veth pairs, the inside of a container's network namespace.

Policy comes from above (which bridge, which address). Everything of one container is two netlink batches: one in the
host's namespace, one in its own. Calls block for about a millisecond.
"""

import errno
import os
import time
from collections.abc import Collection, Sequence
from ipaddress import IPv4Address, IPv4Interface, IPv4Network

from corten.base.errors import Internal
from corten.linux.netlink import Batch, NetlinkError, Socket
from corten.network.ipam import mac_of

_SETTLE_ATTEMPTS, _SETTLE_PAUSE_S = 40, 0.0005
LOOPBACK_INDEX = 1  # the first link of every network namespace


class Plug:
    """One end to be: `host_name` on bridge `bridge`, inside `name` with `mac` and `interface`.

    `gateway` is set on the one plug that carries the default route, `published` on the one that carries ports.
    """

    __slots__ = ("bridge", "gateway", "host_name", "interface", "isolated", "mac", "mtu", "name",
                 "published")

    def __init__(
        self, bridge: str, host_name: str, name: str, mac: str, interface: IPv4Interface,
        *, gateway: IPv4Address | None = None, mtu: int = 1500, isolated: bool = False, published: bool = False,
    ) -> None:
        self.bridge = bridge
        self.host_name = host_name
        self.name = name
        self.mac = mac
        self.interface = interface
        self.gateway = gateway
        self.mtu = mtu
        self.isolated = isolated
        self.published = published


class Bridges:
    """The bridges of the caller's network namespace; one netlink socket, kept open."""

    def __init__(self) -> None:
        self._socket: Socket | None = None
        self._index: dict[str, int] = {}

    def close(self) -> None:
        """Let go of the socket; devices stay."""
        if self._socket:
            self._socket.close()
            self._socket = None

    @property
    def socket(self) -> Socket:
        """The socket, opened on first use."""
        if self._socket is None:
            self._socket = Socket()
        return self._socket

    def host_networks(self, but: Collection[str] = ()) -> list[IPv4Network]:
        """Every IPv4 network the host has an address in or a route to, those over the links named in `but` left out."""
        skipped = {link.index for link in self.socket.links() if link.name in but}
        found = [network for index, network in self.socket.routes() if index not in skipped]
        found += [interface.network for index, interface in self.socket.addresses() if index not in skipped]
        return [network for network in found if isinstance(network, IPv4Network) and network.prefixlen]

    def address_of(self, name: str) -> IPv4Interface | None:
        """The first IPv4 address of a link, None when it has none or is not there."""
        link = self.socket.link(name)
        for index, interface in self.socket.addresses() if link else ():
            if link and index == link.index and isinstance(interface, IPv4Interface):
                return interface
        return None

    def ensure(self, name: str, gateway: IPv4Interface, mtu: int) -> None:
        """Make the bridge, or set right the one that is there: address, up, forwarding. Raises Internal."""
        try:
            link = self.socket.link(name)
            if link is None:
                batch = Batch()
                batch.bridge(name, mac_of(gateway.ip), mtu)
                self.socket.run(batch)
                link = self.socket.link(name)
            if link is None or link.kind != "bridge":
                raise Internal(f"{name} is not a bridge device")
            batch = Batch()
            for index, interface in self.socket.addresses():
                if index == link.index and isinstance(interface, IPv4Interface) and interface != gateway:
                    batch.delete_address(index, interface)
            batch.address(link.index, gateway, replace=True)
            batch.up(link.index, mtu=mtu)
            self.socket.run(batch)
        except NetlinkError as error:
            raise Internal(f"bridge {name}: {error.strerror}") from None
        self._index[name] = link.index
        _sysctl(f"net/ipv4/conf/{name}/route_localnet", "1")  # 127.0.0.1:port of the host leads to a container
        _sysctl("net/ipv4/ip_forward", "1")

    def remove(self, name: str) -> None:
        """Remove a bridge; absent is fine. Raises Internal."""
        self._index.pop(name, None)
        self._delete(name)

    def forget(self, name: str) -> None:
        """Look the bridge up anew next time (someone may have removed it)."""
        self._index.pop(name, None)

    def ports(self, names: Collection[str]) -> dict[str, str]:
        """Host end of every veth on these bridges -> its bridge."""
        links = self.socket.links()
        masters = {link.index: link.name for link in links if link.name in names and link.kind == "bridge"}
        return {link.name: masters[link.master] for link in links if link.master in masters and link.kind == "veth"}

    def plug(self, plugs: Sequence[Plug], netns_fd: int) -> None:
        """Connect a namespace: pairs, addresses, default route, loopback up. All or nothing. Raises Internal."""
        made: list[str] = []
        try:
            if plugs:
                batch = Batch()
                for plug in plugs:
                    index = self._bridge_index(plug.bridge)
                    batch.veth(plug.host_name, index, plug.name, netns_fd, plug.mac, plug.mtu)
                    hairpin = plug.published and self._filters_bridged()
                    if plug.isolated or hairpin:
                        batch.bridge_port(plug.host_name, isolated=plug.isolated, hairpin=hairpin)
                    batch.up(plug.host_name, link_local=False)
                    made.append(plug.host_name)
                self.socket.run(batch)
            _inside(plugs, netns_fd)
            for plug in plugs:
                self._settle(plug.host_name)
                self._settle(plug.bridge)  # it had no carrier before its first port
        except OSError as error:
            for name in made:
                self.unplug(name)
            raise Internal(f"network: {error.strerror}") from None

    def _settle(self, name: str) -> None:
        """Wait until the bridge forwards what comes from a new link: the kernel notices it in a work queue, and an ARP
        request lost before that costs a second. Linux 6.8 catches up when asked for the link; others are waited for.
        """
        for _ in range(_SETTLE_ATTEMPTS):
            link = self.socket.link(name)
            if link is None or link.works:
                return
            time.sleep(_SETTLE_PAUSE_S)

    def unplug(self, host_name: str) -> None:
        """Remove the pair by its host end; absent is fine. Raises Internal."""
        self._delete(host_name)

    def _delete(self, name: str) -> None:
        batch = Batch()
        batch.delete_link(name)
        try:
            self.socket.run(batch)
        except NetlinkError as error:
            if error.errno != errno.ENODEV:
                raise Internal(f"link {name}: {error.strerror}") from None

    def _filters_bridged(self) -> bool:
        """Whether br_netfilter lets nf_tables see, and translate, frames within a bridge: from a container by a host
        port to itself they then have to leave by the port they came in by."""
        try:
            with open("/proc/sys/net/bridge/bridge-nf-call-iptables", "rb") as file:
                return file.read(1) == b"1"
        except OSError:
            return False

    def _bridge_index(self, name: str) -> int:
        index = self._index.get(name)
        if index is None:
            link = self.socket.link(name)
            if link is None:
                raise Internal(f"bridge {name} is gone")
            index = self._index[name] = link.index
        return index


def _inside(plugs: Sequence[Plug], netns_fd: int) -> None:
    """Loopback, addresses and the default route, by a socket of that namespace."""
    with Socket(netns_fd) as inside:
        batch = Batch()
        batch.up(LOOPBACK_INDEX)
        for plug in plugs:
            link = inside.link(plug.name)
            if link is None:
                raise NetlinkError(errno.ENODEV, f"{plug.name} did not arrive")
            batch.address(link.index, plug.interface)
            batch.up(link.index, link_local=False)
            if plug.gateway:
                batch.route(link.index, plug.gateway)
        inside.run(batch)


def default_route(netns_fd: int, mac: str, gateway: IPv4Address) -> None:
    """Let the default route of a namespace go over the link with `mac` from now on. Raises Internal."""
    try:
        with Socket(netns_fd) as inside:
            batch = Batch()
            for link in inside.links():
                if link.mac == mac:
                    batch.route(link.index, gateway)
            inside.run(batch)
    except OSError as error:
        raise Internal(f"network: {error.strerror}") from None


def _sysctl(name: str, value: str) -> None:
    """Write a kernel setting of the caller's network namespace unless it is so already. Raises Internal."""
    path = f"/proc/sys/{name}"
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        try:
            if os.read(descriptor, 64).strip() == value.encode():
                return
        finally:
            os.close(descriptor)
        descriptor = os.open(path, os.O_WRONLY | os.O_CLOEXEC)
        try:
            os.write(descriptor, value.encode())
        finally:
            os.close(descriptor)
    except OSError as error:
        raise Internal(f"{path}: {error.strerror}") from None
