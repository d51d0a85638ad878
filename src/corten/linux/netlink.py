"""rtnetlink: links, addresses, routes and bridges by messages of our own, many in one system call.

A `Batch` collects requests; `Socket.run` sends them together and reads until the last one is acknowledged. Knows the
kernel's words only: which bridge, which address and why is decided elsewhere. Nothing here runs a program.
Sources: netlink(7), rtnetlink(7), linux/{netlink,rtnetlink,if_link,if_addr,if_bridge,veth}.h.
"""

import errno
import os
import socket
import struct
from collections.abc import Iterator
from ipaddress import IPv4Address, IPv4Interface, IPv4Network, IPv6Address, IPv6Interface, IPv6Network

from corten.linux.libc import libc, raise_errno

CLONE_NEWNET = 0x40000000

NLM_F_REQUEST, NLM_F_ACK, NLM_F_DUMP = 0x1, 0x4, 0x300
NLM_F_REPLACE, NLM_F_EXCL, NLM_F_CREATE, NLM_F_APPEND = 0x100, 0x200, 0x400, 0x800
NLMSG_ERROR, NLMSG_DONE = 2, 3
NLA_F_NESTED, NLA_TYPE_MASK = 0x8000, 0x3FFF
SOL_NETLINK, NETLINK_CAP_ACK, NETLINK_EXT_ACK, NETLINK_GET_STRICT_CHK = 270, 10, 11, 12
NETLINK_NETFILTER = 12
SO_SNDBUFFORCE = 32

RTM_NEWLINK, RTM_DELLINK, RTM_GETLINK = 16, 17, 18
RTM_NEWADDR, RTM_DELADDR, RTM_GETADDR = 20, 21, 22
RTM_NEWROUTE, RTM_DELROUTE, RTM_GETROUTE = 24, 25, 26

IFLA_ADDRESS, IFLA_IFNAME, IFLA_MTU, IFLA_LINK, IFLA_MASTER, IFLA_OPERSTATE, IFLA_LINKINFO = 1, 3, 4, 5, 10, 16, 18
IFLA_IFALIAS, IFLA_AF_SPEC, IFLA_NET_NS_FD, IFLA_EXT_MASK, IFLA_LINK_NETNSID = 20, 26, 28, 29, 37
IFLA_INFO_KIND, IFLA_INFO_DATA, IFLA_INFO_SLAVE_DATA = 1, 2, 5
IFLA_INFO_SLAVE_KIND = 4
VETH_INFO_PEER = 1
IFLA_INET6_ADDR_GEN_MODE, ADDR_GEN_MODE_NONE = 8, 1
IFLA_BRPORT_MODE, IFLA_BRPORT_ISOLATED = 4, 33
IFF_UP = 1
IF_OPER_UP = 6

IFA_ADDRESS, IFA_LOCAL, IFA_BROADCAST, IFA_FLAGS = 1, 2, 4, 8
IFA_F_NODAD = 0x02
RTA_DST, RTA_OIF, RTA_GATEWAY, RTA_PRIORITY, RTA_TABLE = 1, 4, 5, 6, 15
RT_TABLE_MAIN, RTPROT_BOOT, RTN_UNICAST, RTN_LOCAL, RT_SCOPE_UNIVERSE, RT_SCOPE_LINK = 254, 3, 1, 2, 0, 253

_HEADER = struct.Struct("=IHHII")
LINK = struct.Struct("=BxHiII")
_ADDRESS = struct.Struct("=BBBBi")
ROUTE = struct.Struct("=BBBBBBBBI")
_ATTRIBUTE = struct.Struct("=HH")
_PADDING = (b"", b"\0\0\0", b"\0\0", b"\0")

Address = IPv4Address | IPv6Address
Interface = IPv4Interface | IPv6Interface
Network = IPv4Network | IPv6Network


class NetlinkError(OSError):
    """The kernel refused a request; `errno` is its reason, the text says what was asked."""


def attribute(kind: int, value: bytes) -> bytes:
    """One attribute, padded to four bytes."""
    return _ATTRIBUTE.pack(4 + len(value), kind) + value + _PADDING[len(value) & 3]


def nested(kind: int, *parts: bytes) -> bytes:
    """An attribute that holds attributes."""
    return attribute(kind | NLA_F_NESTED, b"".join(parts))


def number(kind: int, value: int) -> bytes:
    """A 32-bit attribute in the machine's byte order (rtnetlink; nfnetlink wants the network's)."""
    return _ATTRIBUTE.pack(8, kind) + value.to_bytes(4, "little" if _LITTLE else "big")


IPV6_LEAST_MTU, _IPV6 = 1280, "/proc/net/if_inet6"

_PATIENCE = struct.pack("=qq", 30, 0)  # struct timeval
_LITTLE = struct.pack("=H", 1) == b"\1\0"


def text(kind: int, value: str) -> bytes:
    """A NUL-terminated string attribute."""
    return attribute(kind, value.encode() + b"\0")


def attributes(data: bytes, offset: int = 0) -> dict[int, bytes]:
    """The attributes of a message by kind; the last of a kind wins. A malformed tail ends the walk."""
    found: dict[int, bytes] = {}
    end = len(data)
    while offset + 4 <= end:
        length, kind = _ATTRIBUTE.unpack_from(data, offset)
        if length < 4 or offset + length > end:
            break
        found[kind & NLA_TYPE_MASK] = data[offset + 4:offset + length]
        offset += (length + 3) & ~3
    return found


def hardware_address(mac: str) -> bytes:
    """`02:42:ac:11:00:02` -> six bytes. Raises ValueError."""
    raw = bytes.fromhex(mac.replace(":", ""))
    if len(raw) != 6 or mac.count(":") != 5:
        raise ValueError(f"not a MAC address: {mac!r}")
    return raw


class Batch:
    """Requests that go to the kernel in one system call, in order; the kernel goes on past a refused one."""

    __slots__ = ("_parts", "what")

    atomic = False  # an atomic batch opens with a message of its own; when that one is refused no other is answered

    def __init__(self) -> None:
        self._parts: list[tuple[int, int, bytes]] = []
        self.what: list[str] = []

    def __len__(self) -> int:
        return len(self._parts)

    def add(self, kind: int, flags: int, body: bytes, what: str) -> None:
        """A request; `what` is for the error's text."""
        self._parts.append((kind, flags | NLM_F_REQUEST, body))
        self.what.append(what)

    def pack(self, first: int) -> bytes:
        """The bytes on the wire, numbered from `first`; only the last asks for an acknowledgement."""
        last = len(self._parts) - 1
        return b"".join(
            _HEADER.pack(16 + len(body), kind, flags | (NLM_F_ACK if at == last else 0), first + at, 0) + body
            for at, (kind, flags, body) in enumerate(self._parts)
        )

    # --- links

    def bridge(self, name: str, mac: str, mtu: int) -> None:
        """A new bridge device, down; without `mac` the kernel makes one up."""
        body = LINK.pack(0, 0, 0, 0, 0) + text(IFLA_IFNAME, name)
        body += attribute(IFLA_ADDRESS, hardware_address(mac)) if mac else b""
        body += number(IFLA_MTU, mtu) + nested(IFLA_LINKINFO, text(IFLA_INFO_KIND, "bridge"))
        self.add(RTM_NEWLINK, NLM_F_CREATE | NLM_F_EXCL, body, f"create bridge {name}")

    def veth(self, name: str, master: int, peer: str, netns_fd: int, mac: str, mtu: int) -> None:
        """A veth pair: this end on bridge `master` (an index), the other named `peer` inside `netns_fd`; both down."""
        inside = LINK.pack(0, 0, 0, 0, 0) + text(IFLA_IFNAME, peer) + number(IFLA_NET_NS_FD, netns_fd)
        inside += attribute(IFLA_ADDRESS, hardware_address(mac)) + number(IFLA_MTU, mtu)
        body = LINK.pack(0, 0, 0, 0, 0) + text(IFLA_IFNAME, name) + number(IFLA_MASTER, master)
        body += number(IFLA_MTU, mtu) + nested(
            IFLA_LINKINFO, text(IFLA_INFO_KIND, "veth"), nested(IFLA_INFO_DATA, attribute(VETH_INFO_PEER, inside)),
        )
        self.add(RTM_NEWLINK, NLM_F_CREATE | NLM_F_EXCL, body, f"create veth {name}")

    def up(self, link: int | str, *, link_local: bool = True, mtu: int = 0) -> None:
        """Bring a link (index or name) up; without `link_local` it gives itself no IPv6 address.

        The kernel has no IPv6 on a link with an MTU below 1280, or where it was started without.
        """
        body = LINK.pack(0, 0, link if isinstance(link, int) else 0, IFF_UP, IFF_UP)
        if isinstance(link, str):
            body += text(IFLA_IFNAME, link)
        if mtu:
            body += number(IFLA_MTU, mtu)
        if not link_local and (mtu or IPV6_LEAST_MTU) >= IPV6_LEAST_MTU and os.path.exists(_IPV6):
            mode = attribute(IFLA_INET6_ADDR_GEN_MODE, bytes([ADDR_GEN_MODE_NONE]))
            body += nested(IFLA_AF_SPEC, nested(socket.AF_INET6, mode))
        self.add(RTM_NEWLINK, 0, body, f"set {link} up")

    def bridge_port(self, name: str, *, isolated: bool = False, hairpin: bool = False) -> None:
        """Settings of a bridge port: not to talk to other isolated ports, to send back what came in by it."""
        settings = attribute(IFLA_BRPORT_ISOLATED, bytes([isolated])) + attribute(IFLA_BRPORT_MODE, bytes([hairpin]))
        body = LINK.pack(0, 0, 0, 0, 0) + text(IFLA_IFNAME, name) + nested(
            IFLA_LINKINFO, text(IFLA_INFO_SLAVE_KIND, "bridge"),
            nested(IFLA_INFO_SLAVE_DATA, settings),
        )
        self.add(RTM_NEWLINK, 0, body, f"set bridge port {name}")

    def rename(self, index: int, name: str) -> None:
        """Give a link that is down another name."""
        self.add(RTM_NEWLINK, 0, LINK.pack(0, 0, index, 0, 0) + text(IFLA_IFNAME, name), f"rename {index} to {name}")

    def delete_link(self, link: int | str) -> None:
        """Remove a link by index or name; a veth takes its peer with it."""
        body = LINK.pack(0, 0, link if isinstance(link, int) else 0, 0, 0)
        if isinstance(link, str):
            body += text(IFLA_IFNAME, link)
        self.add(RTM_DELLINK, 0, body, f"delete link {link}")

    # --- addresses and routes

    def address(self, index: int, interface: Interface, *, replace: bool = False) -> None:
        """Give link `index` an address with its prefix."""
        family = socket.AF_INET if interface.version == 4 else socket.AF_INET6
        body = _ADDRESS.pack(family, interface.network.prefixlen, 0, RT_SCOPE_UNIVERSE, index)
        body += attribute(IFA_LOCAL, interface.ip.packed) + attribute(IFA_ADDRESS, interface.ip.packed)
        if interface.version == 4 and interface.network.prefixlen < 31:
            body += attribute(IFA_BROADCAST, interface.network.broadcast_address.packed)
        if interface.version == 6:
            body += number(IFA_FLAGS, IFA_F_NODAD)
        flags = NLM_F_CREATE | (NLM_F_REPLACE if replace else NLM_F_EXCL)
        self.add(RTM_NEWADDR, flags, body, f"add address {interface}")

    def delete_address(self, index: int, interface: Interface) -> None:
        """Take an address from link `index`."""
        family = socket.AF_INET if interface.version == 4 else socket.AF_INET6
        body = _ADDRESS.pack(family, interface.network.prefixlen, 0, 0, index)
        self.add(RTM_DELADDR, 0, body + attribute(IFA_LOCAL, interface.ip.packed), f"delete address {interface}")

    def route(self, index: int, gateway: Address | None, destination: Network | None = None, metric: int = 0) -> None:
        """A route over link `index`; no destination is the default route, no gateway a route on the link itself."""
        version = (gateway or destination or IPv4Address(0)).version
        family = socket.AF_INET if version == 4 else socket.AF_INET6
        scope = RT_SCOPE_UNIVERSE if gateway else RT_SCOPE_LINK
        prefix = destination.prefixlen if destination else 0
        body = ROUTE.pack(family, prefix, 0, 0, RT_TABLE_MAIN, RTPROT_BOOT, scope, RTN_UNICAST, 0)
        if destination:
            body += attribute(RTA_DST, destination.network_address.packed)
        if gateway:
            body += attribute(RTA_GATEWAY, gateway.packed)
        body += number(RTA_OIF, index) + (number(RTA_PRIORITY, metric) if metric else b"")
        self.add(RTM_NEWROUTE, NLM_F_CREATE | NLM_F_REPLACE, body, f"add route {destination or 'default'}")


class Link:
    """A link as the kernel tells it: `master` and `peer_index` are 0 when there is none.

    `up` is what was asked for, `works` whether packets pass (operational state, RFC 2863).
    """

    __slots__ = ("alias", "index", "kind", "mac", "master", "mtu", "name", "peer_index", "up", "works")

    def __init__(self, body: bytes) -> None:
        _family, _type, self.index, flags, _change = LINK.unpack_from(body)
        found = attributes(body, LINK.size)
        self.up = bool(flags & IFF_UP)
        self.name = found.get(IFLA_IFNAME, b"").rstrip(b"\0").decode(errors="replace")
        self.alias = found.get(IFLA_IFALIAS, b"").rstrip(b"\0").decode(errors="replace")
        self.mac = found.get(IFLA_ADDRESS, b"").hex(":")
        self.mtu, self.master, self.peer_index = (
            int.from_bytes(found.get(kind, b""), "little" if _LITTLE else "big")
            for kind in (IFLA_MTU, IFLA_MASTER, IFLA_LINK)
        )
        self.works = found.get(IFLA_OPERSTATE) == bytes([IF_OPER_UP])
        info = attributes(found.get(IFLA_LINKINFO, b""))
        self.kind = info.get(IFLA_INFO_KIND, b"").rstrip(b"\0").decode(errors="replace")


class Socket:
    """A NETLINK_ROUTE socket of one network namespace: that of the caller, or of `netns_fd`. Blocking; close it."""

    __slots__ = ("_sequence", "_socket")

    def __init__(self, netns_fd: int = -1, protocol: int = socket.NETLINK_ROUTE) -> None:
        self._sequence = 0
        if netns_fd >= 0:
            self._socket = socket_inside(netns_fd, socket.AF_NETLINK, socket.SOCK_RAW, protocol)
        else:
            self._socket = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, protocol)
        self._socket.setsockopt(SOL_NETLINK, NETLINK_CAP_ACK, 1)
        self._socket.setsockopt(SOL_NETLINK, NETLINK_EXT_ACK, 1)
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, _PATIENCE)
        self._socket.setsockopt(socket.SOL_SOCKET, SO_SNDBUFFORCE, 1 << 22)

    def close(self) -> None:
        self._socket.close()

    @property
    def port(self) -> int:
        """The kernel's number for this socket: changes made by it are told to others under it."""
        if not self._socket.getsockname()[0]:
            self._socket.bind((0, 0))
        return int(self._socket.getsockname()[0])

    def __enter__(self) -> "Socket":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def run(self, batch: Batch) -> None:
        """Send all, wait for the last. Raises NetlinkError for the first refusal, after the others were tried."""
        if not batch:
            return
        first = self._sequence + 1
        self._sequence += len(batch)
        self._socket.send(batch.pack(first))
        failure: NetlinkError | None = None
        while True:
            for kind, sequence, body in self._receive():
                if kind != NLMSG_ERROR or not first <= sequence <= self._sequence:
                    continue
                code = -int.from_bytes(body[:4], "little" if _LITTLE else "big", signed=True)
                if code and failure is None:
                    failure = NetlinkError(code, f"{batch.what[sequence - first]}: {_reason(code, body)}")
                if sequence == self._sequence or (batch.atomic and code and sequence == first):
                    if failure:
                        raise failure
                    return

    def _receive(self) -> Iterator[tuple[int, int, bytes]]:
        try:
            data = self._socket.recv(1 << 18)
        except BlockingIOError:
            raise NetlinkError(errno.ETIMEDOUT, "netlink: no answer from the kernel") from None
        offset = 0
        while offset + 16 <= len(data):
            length, kind, _flags, sequence, _pid = _HEADER.unpack_from(data, offset)
            if length < 16:
                break
            yield kind, sequence, data[offset + 16:offset + length]
            offset += (length + 3) & ~3

    def dump(self, kind: int, body: bytes) -> list[tuple[int, bytes]]:
        """Every answer to a dump request as (kind, body). Raises NetlinkError."""
        self._sequence += 1
        header = _HEADER.pack(16 + len(body), kind, NLM_F_REQUEST | NLM_F_DUMP, self._sequence, 0)
        self._socket.send(header + body)
        found: list[tuple[int, bytes]] = []
        while True:
            for answer, sequence, payload in self._receive():
                if sequence != self._sequence:
                    continue
                if answer == NLMSG_DONE:
                    return found
                if answer == NLMSG_ERROR:
                    code = -int.from_bytes(payload[:4], "little" if _LITTLE else "big", signed=True)
                    raise NetlinkError(code, f"dump {kind}: {os.strerror(code)}")
                found.append((answer, payload))

    # --- what there is

    def links(self) -> list[Link]:
        """Every link of the namespace."""
        return [Link(body) for _, body in self.dump(RTM_GETLINK, LINK.pack(0, 0, 0, 0, 0))]

    def link(self, name: str) -> Link | None:
        """The link of that name, None when there is none. Raises NetlinkError."""
        self._sequence += 1
        body = LINK.pack(0, 0, 0, 0, 0) + text(IFLA_IFNAME, name)
        self._socket.send(_HEADER.pack(16 + len(body), RTM_GETLINK, NLM_F_REQUEST, self._sequence, 0) + body)
        for kind, sequence, payload in self._receive():
            if sequence == self._sequence and kind == RTM_NEWLINK:
                return Link(payload)
            if sequence == self._sequence and kind == NLMSG_ERROR:
                code = -int.from_bytes(payload[:4], "little" if _LITTLE else "big", signed=True)
                if code == errno.ENODEV:
                    return None
                raise NetlinkError(code, f"link {name}: {os.strerror(code)}")
        raise NetlinkError(errno.EPROTO, f"link {name}: no answer")

    def addresses(self) -> list[tuple[int, Interface]]:
        """(link index, address with prefix) of every address of the namespace."""
        found: list[tuple[int, Interface]] = []
        for _, body in self.dump(RTM_GETADDR, _ADDRESS.pack(0, 0, 0, 0, 0)):
            _family, prefix, _flags, _scope, index = _ADDRESS.unpack_from(body)
            parts = attributes(body, _ADDRESS.size)
            raw = parts.get(IFA_LOCAL) or parts.get(IFA_ADDRESS) or b""
            if len(raw) == 4:
                found.append((index, IPv4Interface((raw, prefix))))
            elif len(raw) == 16:
                found.append((index, IPv6Interface((raw, prefix))))
        return found


def _reason(code: int, body: bytes) -> str:
    """errno's text and, where the kernel gives one, its own sentence (extended acknowledgement, NLMSGERR_ATTR_MSG)."""
    said = attributes(body, 20).get(1, b"").rstrip(b"\0").decode(errors="replace")
    return f"{os.strerror(code)} ({said})" if said else os.strerror(code)


def socket_inside(netns_fd: int, family: int, kind: int, protocol: int = 0) -> socket.socket:
    """A socket of another network namespace: the calling thread enters it for two system calls and comes back.

    A network namespace belongs to a thread; a socket keeps the one it was made in. setns(2). Raises OSError.
    When the way back fails the process ends: nothing may go on in a container's namespace.
    """
    home = os.open("/proc/thread-self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
    try:
        if libc.setns(netns_fd, CLONE_NEWNET):
            raise_errno("setns")
        try:
            return socket.socket(family, kind | socket.SOCK_CLOEXEC, protocol)
        finally:
            if libc.setns(home, CLONE_NEWNET):
                os.abort()
    finally:
        os.close(home)
