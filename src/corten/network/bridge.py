"""Devices of the host's network namespace: bridges, parents of macvlan and ipvlan links, and what is plugged into them.

Policy comes from above (which bridge, which address). Everything of one container is two netlink batches: one in the
host's namespace, one in its own (plug.py). Calls block for about a millisecond.
"""

import errno
import os
import time
from collections.abc import Collection, Sequence
from ipaddress import IPv4Interface, IPv6Address, IPv6Interface

from corten.base.errors import Internal, InvalidArgument
from corten.linux import links, sysctl
from corten.linux.netlink import Batch, Interface, NetlinkError, Network, Socket
from corten.linux.routes import routes
from corten.network.driver import vlan_of
from corten.network.ipam import mac_of
from corten.network.plug import BridgePort, Plug, furnish, give, remove_inside
from corten.network.ruleset import link_local

_SETTLE_ATTEMPTS, _SETTLE_PAUSE_S = 40, 0.0005


class Bridges:
    """The devices of the caller's network namespace; one netlink socket, kept open."""

    def __init__(self, *, forward: bool = True) -> None:
        """`forward`: switch the host's forwarding on with the first bridge."""
        self._forward = forward
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

    def host_networks(self, but: Collection[str] = ()) -> list[Network]:
        """Every network the host has an address in or a route to, those over the links named in `but` left out."""
        skipped = {link.index for link in self.socket.links() if link.name in but}
        found = [route.destination for route in routes(self.socket) if route.index not in skipped]
        found += [interface.network for index, interface in self.socket.addresses() if index not in skipped]
        return [network for network in found if network.prefixlen]

    def address_of(self, name: str) -> IPv4Interface | None:
        """The first IPv4 address of a link, None when it has none or is not there."""
        link = self.socket.link(name)
        for index, interface in self.socket.addresses() if link else ():
            if link and index == link.index and isinstance(interface, IPv4Interface):
                return interface
        return None

    def ensure(self, name: str, addresses: Sequence[Interface], mtu: int) -> None:
        """Make the bridge, or set right the one that is there: addresses, up, forwarding. Raises Internal."""
        try:
            link = self.socket.link(name)
            if link is None:
                batch = Batch()
                batch.bridge(name, mac_of(addresses[0].ip) if addresses else "", mtu)
                self.socket.run(batch)
                link = self.socket.link(name)
            if link is None or link.kind != "bridge":
                raise Internal(f"{name} is not a bridge device")
            batch = Batch()
            for index, interface in self.socket.addresses():
                if index == link.index and not interface.is_link_local and interface not in addresses:
                    batch.delete_address(index, interface)
            batch.up(link.index, mtu=mtu, link_local=False)
            for interface in (*addresses, *_link_local(addresses, link.mac)):
                give(batch, link.index, interface, replace=True)
            if any(interface.version == 6 for interface in addresses):
                links.local_route(batch, link.index, IPv6Address(1))  # [::1]:port of the host, likewise
            self.socket.run(batch)
        except NetlinkError as error:
            raise Internal(f"bridge {name}: {error.strerror}") from None
        self._index[name] = link.index
        _set(f"net/ipv4/conf/{name}/route_localnet", "1")  # 127.0.0.1:port of the host leads to a container
        six = any(interface.version == 6 for interface in addresses)
        if self._forward:
            _set("net/ipv4/ip_forward", "1")
            if six:
                _forward_ipv6()
        if six:
            _set(f"net/ipv6/conf/{name}/accept_ra", "0")

    def ensure_parent(self, name: str, kind: str, made_name: str) -> bool:
        """The link below macvlan or ipvlan (`kind`) links is there and up; whether it had to be made: as a dummy when
        it is `made_name`, else as the VLAN its name says. Raises InvalidArgument, Internal.
        """
        try:
            link = self.socket.link(name)
            made = link is None
            if link is None:
                self._make_parent(name, kind, made_name)
                link = self.socket.link(name)
            if link is None:
                raise Internal(f"{name} is gone")
            if not link.up:
                batch = Batch()
                batch.up(link.index)
                self.socket.run(batch)
        except NetlinkError as error:
            raise Internal(f"{kind} parent {name}: {error.strerror}") from None
        self._index[name] = link.index
        return made

    def _make_parent(self, name: str, kind: str, made_name: str) -> None:
        batch = Batch()
        if name == made_name:
            links.dummy(batch, name)
        else:
            below, number = vlan_of(name)
            parent = self.socket.link(below)
            if parent is None:
                raise InvalidArgument(f"-o parent interface was not found on the host: {below}")
            links.vlan(batch, name, parent.index, number)
        try:
            self.socket.run(batch)
        except NetlinkError as error:
            if error.errno in (errno.EOPNOTSUPP, errno.ENODEV):
                what = "dummy links (give -o parent=)" if name == made_name else "VLANs"
                raise InvalidArgument(f"failed to create the {kind} parent {name}: this kernel has no {what}") from None
            raise

    def remove(self, name: str) -> None:
        """Remove a device; absent is fine. Raises Internal."""
        self._index.pop(name, None)
        self._delete(name)

    def forget(self, name: str) -> None:
        """Look the device up anew next time (someone may have removed it)."""
        self._index.pop(name, None)

    def ports(self, names: Collection[str]) -> dict[str, str]:
        """Host end of every veth on these bridges -> its bridge."""
        found = self.socket.links()
        masters = {link.index: link.name for link in found if link.name in names and link.kind == "bridge"}
        return {link.name: masters[link.master] for link in found if link.master in masters and link.kind == "veth"}

    def plug(self, plugs: Sequence[tuple[str, Plug]], netns_fd: int) -> None:
        """Connect a namespace, each plug to a device by name: links, addresses, routes. All or nothing.

        Raises Internal, InvalidArgument (a kernel without this kind of link).
        """
        made: list[Plug] = []
        try:
            if plugs:
                batch = Batch()
                for device, plug in plugs:
                    plug.create(batch, netns_fd, self._device_index(device))
                    made.append(plug)
                self.socket.run(batch)
            furnish([plug for _, plug in plugs], netns_fd)
            for device, plug in plugs:
                if isinstance(plug, BridgePort):
                    self._settle(plug.host_name)
                    self._settle(device)  # it had no carrier before its first port
        except (OSError, Internal) as error:
            for plug in made:
                if plug.host_name:
                    self.unplug(plug.host_name)
                else:
                    remove_inside(netns_fd, plug.mac)
            if isinstance(error, Internal):
                raise
            if error.errno == errno.EOPNOTSUPP:
                raise InvalidArgument(f"network: {error.strerror}: this kernel has no such links") from None
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

    def _device_index(self, name: str) -> int:
        index = self._index.get(name)
        if index is None:
            link = self.socket.link(name)
            if link is None:
                raise Internal(f"link {name} is gone")
            index = self._index[name] = link.index
        return index


def _link_local(addresses: Sequence[Interface], mac: str) -> list[Interface]:
    """Given by us, it is there at once: without one the host cannot ask for a container's MAC when it forwards."""
    return [IPv6Interface((link_local(mac), 64))] if any(one.version == 6 for one in addresses) else []


def _forward_ipv6() -> None:
    """Forwarding on; the host goes on learning routes from its routers (accept_ra 2)."""
    if sysctl.read("net/ipv6/conf/all/forwarding") == "0":
        for name in os.listdir("/proc/sys/net/ipv6/conf"):
            if name != "all" and sysctl.read(f"net/ipv6/conf/{name}/accept_ra") == "1":
                _set(f"net/ipv6/conf/{name}/accept_ra", "2")
        _set("net/ipv6/conf/all/forwarding", "1")


def _set(name: str, value: str) -> None:
    """Write a kernel setting unless it is so already. Raises Internal."""
    if sysctl.read(name) == value:
        return
    try:
        sysctl.write(name, value)
    except OSError as error:
        raise Internal(f"/proc/sys/{name}: {error.strerror}") from None
