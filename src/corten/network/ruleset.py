"""What a daemon's two nf_tables tables hold: sets, chains, rules, and the elements a network or port stands for.

Pure. Rules are made once; networks, ports and containers are elements of sets and maps. `inet` decides who reaches
whom, `bridge` who may pass for whom. Each rule carries a comment with a digest of what it says, so that a rule changed
by hand is told from ours.

    guard    input filter     nothing from a container may pass for 127.0.0.0/8, or be sent there
    arrive   prerouting nat   host address and port -> container address and port
    local    output nat       the same for this host's own requests, 127.0.0.1 included
    leave    postrouting nat  masquerade: outbound, hairpin, and requests that began at 127.0.0.1
    forward  forward filter   the administrator's chain `user`, then: into a bridge of ours answers and published ports
    user     -                empty, kept: for the host's administrator
    source   bridge raw       frames of a container carry its own MAC and addresses; no router advertisements
"""

import hashlib
import socket
import struct
from collections.abc import Sequence
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network

from corten.linux import nft_expressions as nft
from corten.linux.netlink import hardware_address

PROTOCOLS = {"tcp": socket.IPPROTO_TCP, "udp": socket.IPPROTO_UDP, "sctp": 132}
ANY, ANY6 = IPv4Address(0), IPv6Address(0)
USER_CHAIN = "user"

Address = IPv4Address | IPv6Address
Element = tuple[str, bytes, bytes]  # set, key, value (empty for a set)

_V4, _V6 = nft.NFPROTO_IPV4, nft.NFPROTO_IPV6
_LOOPBACK6 = IPv6Address(1).packed
_ICMP, _ICMPV6 = socket.IPPROTO_ICMP, socket.IPPROTO_ICMPV6
_ECHO, _ECHO6, _ROUTER_ADVERTISEMENT, _NEIGHBOUR_ADVERTISEMENT, _REDIRECT = 8, 128, 134, 136, 137
_TARGET4, _TARGET6 = (nft.TYPE_IPV4, nft.TYPE_SERVICE), (nft.TYPE_IPV6, nft.TYPE_SERVICE)

Types = tuple[tuple[int, int], ...]
SETS: dict[str, tuple[Types, Types]] = {  # of `inet`: key, value
    "ports": ((nft.TYPE_PROTOCOL, nft.TYPE_IPV4, nft.TYPE_SERVICE), _TARGET4),
    "ports_any": ((nft.TYPE_PROTOCOL, nft.TYPE_SERVICE), _TARGET4),
    "ports6": ((nft.TYPE_PROTOCOL, nft.TYPE_IPV6, nft.TYPE_SERVICE), _TARGET6),
    "ports6_any": ((nft.TYPE_PROTOCOL, nft.TYPE_SERVICE), _TARGET6),
    "open": ((nft.TYPE_PROTOCOL, nft.TYPE_IPV4, nft.TYPE_SERVICE), ()),
    "open6": ((nft.TYPE_PROTOCOL, nft.TYPE_IPV6, nft.TYPE_SERVICE), ()),
    "direct": ((nft.TYPE_PROTOCOL, nft.TYPE_IPV4, nft.TYPE_SERVICE), ()),
    "direct6": ((nft.TYPE_PROTOCOL, nft.TYPE_IPV6, nft.TYPE_SERVICE), ()),
    "outward": ((nft.TYPE_IFNAME,), (nft.TYPE_IPV4,)),
    "outward6": ((nft.TYPE_IFNAME,), (nft.TYPE_IPV6,)),
    "own": ((nft.TYPE_IFNAME,), ()),
    "internal": ((nft.TYPE_IFNAME,), ()),
    "masquerade": ((nft.TYPE_IFNAME,), ()),
    "masquerade6": ((nft.TYPE_IFNAME,), ()),
    "routed": ((nft.TYPE_IFNAME,), ()),
    "routed6": ((nft.TYPE_IFNAME,), ()),
    "unprotected": ((nft.TYPE_IFNAME,), ()),
    "unprotected6": ((nft.TYPE_IFNAME,), ()),
    "same": ((nft.TYPE_IFNAME, nft.TYPE_IFNAME), ()),
    "trusted": ((nft.TYPE_IFNAME, nft.TYPE_IFNAME), ()),
    "apart": ((nft.TYPE_IFNAME, nft.TYPE_IFNAME), ()),
}
RANGES: dict[str, Types] = {
    "homes": (nft.TYPE_IPV4, nft.TYPE_IFNAME),
    "homes6": (nft.TYPE_IPV6, nft.TYPE_IFNAME),
}
BRIDGE_SETS: dict[str, tuple[Types, Types]] = {
    "ends": ((nft.TYPE_IFNAME,), ()),
    "macs": ((nft.TYPE_IFNAME, nft.TYPE_ETHER), ()),
    "sources": ((nft.TYPE_IFNAME, nft.TYPE_ETHER, nft.TYPE_IPV4), ()),
    "sources6": ((nft.TYPE_IFNAME, nft.TYPE_ETHER, nft.TYPE_IPV6), ()),
}
CHAINS = (  # of `inet`: name, kind, hook, priority
    ("guard", "filter", nft.HOOK_INPUT, nft.PRIORITY_FILTER),
    ("arrive", "nat", nft.HOOK_PREROUTING, nft.PRIORITY_DSTNAT),
    ("local", "nat", nft.HOOK_OUTPUT, nft.PRIORITY_DSTNAT),
    ("leave", "nat", nft.HOOK_POSTROUTING, nft.PRIORITY_SRCNAT),
    ("forward", "filter", nft.HOOK_FORWARD, nft.PRIORITY_FILTER),
)
BRIDGE_CHAINS = (("source", "filter", nft.HOOK_PREROUTING, nft.PRIORITY_RAW),)


# --- what is put into the sets


class Rules:
    """What the firewall has to know of a bridge. The sets of families (4, 6): `masquerade`, `routed`, `unprotected`.

    `outward`: the address, of a family that is masqueraded, that its containers are seen under instead of that of the
    link they leave by. `trusted`: links of the host by which published ports are open at the container's own address.
    """

    __slots__ = ("bridge", "icc", "internal", "masquerade", "outward", "routed", "subnets", "trusted", "unprotected")

    def __init__(
        self, bridge: str, subnets: Sequence[IPv4Network | IPv6Network], *, internal: bool = False, icc: bool = True,
        masquerade: Sequence[int] = (4, 6), routed: Sequence[int] = (), unprotected: Sequence[int] = (),
        outward: Sequence[Address] = (), trusted: Sequence[str] = (),
    ) -> None:
        self.bridge = bridge
        self.subnets = list(subnets)
        self.internal = internal
        self.icc = icc
        self.masquerade = () if internal else tuple(masquerade)
        self.routed = () if internal else tuple(routed)
        self.unprotected = () if internal else tuple(unprotected)
        self.outward = {address.version: address for address in outward if address.version in self.masquerade}
        self.trusted = () if internal else tuple(trusted)

    def homes(self) -> list[Element]:
        """The ranges (set, first, last): source addresses of this network, together with its bridge."""
        name = nft.ifname(self.bridge)
        return [
            ("homes" if net.version == 4 else "homes6", net.network_address.packed + name,
             net.broadcast_address.packed + name) for net in self.subnets
        ]

    def elements(self) -> list[Element]:
        """Every element but the ranges that this bridge stands for."""
        name = nft.ifname(self.bridge)
        found = [("own", name, b""), ("same", name + name, b"")]
        if self.internal:
            found.append(("internal", name, b""))
        if not self.icc:
            found.append(("apart", name + name, b""))
        for what, versions in (("masquerade", self.masquerade), ("routed", self.routed),
                               ("unprotected", self.unprotected)):
            found += [(what if version == 4 else f"{what}6", name, b"") for version in versions]
        found += [("outward" if version == 4 else "outward6", name, address.packed)
                  for version, address in self.outward.items()]
        found += [("trusted", nft.ifname(link) + name, b"") for link in self.trusted]
        return found


class Published:
    """One published port: `protocol` is tcp, udp or sctp; `host` 0.0.0.0 or :: is every address.

    `host_port` 0: nothing is translated, the container's own address and port are open (gateway mode routed).
    `direct`: they are open too to who comes by a link that the network trusts.
    """

    __slots__ = ("container", "container_port", "direct", "host", "host_port", "protocol")

    def __init__(
        self, protocol: str, host: Address, host_port: int, container: Address, container_port: int, *,
        direct: bool = False,
    ) -> None:
        self.protocol = protocol
        self.host = host
        self.host_port = host_port
        self.container = container
        self.container_port = container_port
        self.direct = direct and bool(host_port)

    def elements(self) -> list[Element]:
        """Its places in the sets and maps."""
        if not self.direct:
            return [self.element()]
        six = "6" if self.container.version == 6 else ""
        own = bytes([PROTOCOLS[self.protocol]]), self.container.packed, struct.pack(">H", self.container_port)
        return [self.element(), (f"direct{six}", nft.concatenated(*own), b"")]

    def element(self) -> Element:
        """Its place in one of the maps."""
        six = "6" if self.container.version == 6 else ""
        protocol = bytes([PROTOCOLS[self.protocol]])
        target = self.container.packed, struct.pack(">H", self.container_port)
        if not self.host_port:
            return f"open{six}", nft.concatenated(protocol, *target), b""
        port = struct.pack(">H", self.host_port)
        if self.host in (ANY, ANY6):
            return f"ports{six}_any", nft.concatenated(protocol, port), nft.concatenated(*target)
        return f"ports{six}", nft.concatenated(protocol, self.host.packed, port), nft.concatenated(*target)


class Guard:
    """Who the container behind the link `end` may pass for: its MAC and its addresses, the link-local one too."""

    __slots__ = ("addresses", "end", "mac")

    def __init__(self, end: str, mac: str, addresses: Sequence[Address]) -> None:
        self.end = end
        self.mac = mac
        self.addresses = list(addresses)

    def elements(self) -> list[Element]:
        """The elements that let it speak; `bar` is apart, since it has to outlive them."""
        link = nft.concatenated(nft.ifname(self.end), hardware_address(self.mac))
        found = [("macs", link, b"")]
        for address in self.addresses:
            found.append(("sources" if address.version == 4 else "sources6", link + address.packed, b""))
        if any(address.version == 6 for address in self.addresses):
            found.append(("sources6", link + link_local(self.mac).packed, b""))
        return found

    def bar(self) -> Element:
        """The element that makes everything else from this link be dropped."""
        return "ends", nft.ifname(self.end), b""


def link_local(mac: str) -> IPv6Address:
    """The address a link with this MAC gives itself. RFC 4291, appendix A."""
    raw = hardware_address(mac)
    return IPv6Address(bytes([0xFE, 0x80, *bytes(6), raw[0] ^ 2, *raw[1:3], 0xFF, 0xFE, *raw[3:]]))


# --- rules of `inet`


def _from(name: str, *, negate: bool = False) -> bytes:
    return nft.meta(nft.META_IIFNAME) + nft.lookup(name, negate=negate)


def _to(name: str) -> bytes:
    return nft.meta(nft.META_OIFNAME) + nft.lookup(name)


def _between(name: str) -> bytes:
    second = nft.REGISTER + 1
    return nft.meta(nft.META_IIFNAME) + nft.meta(nft.META_OIFNAME, second) + nft.lookup(name)


def _place(family: int, what: str) -> tuple[int, int]:
    """Offset and length of an address in the network header."""
    if family == _V4:
        return (12, 4) if what == "source" else (16, 4)
    return (8, 16) if what == "source" else (24, 16)


def _loopback(what: str, family: int = _V4) -> bytes:
    offset, length = _place(family, what)
    if family == _V6:
        return nft.is_family(family) + nft.payload(nft.BASE_NETWORK, offset, length) + nft.compare(_LOOPBACK6)
    return nft.is_family(family) + nft.payload(nft.BASE_NETWORK, offset, 1) + nft.compare(bytes([127]))  # 127.0.0.0/8


def _back_home(family: int) -> bytes:
    """From a container into its own network. By address: within a bridge (br_netfilter) there is no link of arrival."""
    offset, length = _place(family, "source")
    name = nft.meta(nft.META_OIFNAME, nft.REGISTER_WORD + length // 4)
    source = nft.payload(nft.BASE_NETWORK, offset, length)
    return nft.is_family(family) + source + name + nft.lookup("homes" if family == _V4 else "homes6")


def _target(family: int) -> bytes:
    """Load protocol, destination address and port: the key of `ports` and of `open`."""
    word = nft.REGISTER_WORD
    offset, length = _place(family, "destination")
    key = nft.is_family(family) + nft.meta(nft.META_L4PROTO)
    key += nft.payload(nft.BASE_NETWORK, offset, length, word + 1)
    return key + nft.payload(nft.BASE_TRANSPORT, 2, 2, word + 1 + length // 4)


def _translate(family: int, *, every_address: bool) -> bytes:
    """The registers of a map's key, the look-up, and DNAT to what it gives."""
    name = "ports" if family == _V4 else "ports6"
    if not every_address:
        return _target(family) + nft.lookup_map(name) + nft.dnat(family)
    key = nft.is_family(family) + nft.to_local_address() + nft.meta(nft.META_L4PROTO)
    key += nft.payload(nft.BASE_TRANSPORT, 2, 2, nft.REGISTER_WORD + 1)
    return key + nft.lookup_map(f"{name}_any") + nft.dnat(family)


def _type_is(protocol: int, kind: int) -> bytes:
    """An ICMP message of this type."""
    return nft.is_protocol(protocol) + nft.payload(nft.BASE_TRANSPORT, 0, 1) + nft.compare(bytes([kind]))


_DROP = nft.counter() + nft.verdict(nft.DROP)
_ACCEPT = nft.verdict(nft.ACCEPT)
_COUNTED = nft.counter() + _ACCEPT

Line = tuple[str, str, bytes]  # chain, what it is for, expressions


def _translation() -> list[Line]:
    found: list[Line] = [
        # a neighbour may send to 127.0.0.1; translated here it would slip past the kernel's own check
        ("arrive", "loopback is not for others", _loopback("destination") + nft.verdict(nft.RETURN)),
    ]
    for chain in ("arrive", "local"):
        for family in (_V4, _V6):
            for every in (False, True):
                what = f"published on {'every' if every else 'one'} address"
                found.append((chain, what, _translate(family, every_address=every)))
    return found


def _leaving() -> list[Line]:
    """What is cheap to rule out comes first: each new connection of the host passes here."""
    published = nft.conntrack_has(nft.CT_STATUS, nft.CT_STATUS_DNAT)
    masquerade = nft.counter() + nft.masquerade()
    found: list[Line] = []
    for family in (_V4, _V6):
        found += [
            ("leave", "from loopback to a published port",
             _loopback("source", family) + published + _to("own") + masquerade),
            ("leave", "from a container to a published port of its own network",
             published + _back_home(family) + masquerade),
        ]
    found.append(("leave", "else into a bridge as it is", _to("own") + _ACCEPT))
    for family, six in ((_V4, ""), (_V6, "6")):
        source = nft.is_family(family) + nft.meta(nft.META_IIFNAME)
        found += [
            ("leave", "outbound, under an address of its own",
             source + nft.lookup_map(f"outward{six}") + nft.counter() + nft.snat(family)),
            ("leave", "outbound", source + nft.lookup(f"masquerade{six}") + masquerade),
        ]
    return found


def _forwarding() -> list[Line]:
    published = nft.conntrack_has(nft.CT_STATUS, nft.CT_STATUS_DNAT)
    established, related = (
        nft.conntrack(nft.CT_STATE) + nft.compare(struct.pack("=I", state))
        for state in (nft.CT_ESTABLISHED, nft.CT_RELATED))
    found: list[Line] = [
        ("forward", "the administrator's rules first", nft.verdict(nft.JUMP, USER_CHAIN)),
        ("forward", "answers", established + _ACCEPT),
        ("forward", "errors about them", related + _ACCEPT),
        ("forward", "passing for loopback", _loopback("source") + _from("own") + _DROP),
        ("forward", "icc=false", _between("apart") + _DROP),
        ("forward", "within a network", _between("same") + _ACCEPT),
        ("forward", "out of an internal network", _from("internal") + _DROP),
        ("forward", "into an internal network", _to("internal") + _DROP),
        ("forward", "published", _to("own") + published + _COUNTED),
    ]
    for family, six, echo in ((_V4, "", _type_is(_ICMP, _ECHO)), (_V6, "6", _type_is(_ICMPV6, _ECHO6))):
        found += [
            ("forward", "open port of a routed network", _target(family) + nft.lookup(f"open{six}") + _COUNTED),
            ("forward", "published, by a link that is trusted",
             _between("trusted") + _target(family) + nft.lookup(f"direct{six}") + _COUNTED),
            ("forward", "echo to a routed network", nft.is_family(family) + _to(f"routed{six}") + echo + _COUNTED),
            ("forward", "gateway mode nat-unprotected",
             nft.is_family(family) + _to(f"unprotected{six}") + _COUNTED),
        ]
    return [*found, ("forward", "not published", _to("own") + _DROP)]


def _inet() -> list[Line]:
    reply = nft.conntrack(nft.CT_DIRECTION) + nft.compare(bytes([nft.CT_REPLY]))
    return [
        # route_localnet is on for our bridges: else a container could reach the host's 127.0.0.1 (CVE-2020-8558)
        # asked where packets reach this host, so that those that pass through pay nothing for it
        ("guard", "passing for loopback", _loopback("source") + _from("own") + _DROP),
        ("guard", "answers to 127.0.0.1", _loopback("destination") + _from("own") + reply + _ACCEPT),
        ("guard", "to loopback from a container", _loopback("destination") + _from("own") + _DROP),
        *_translation(), *_leaving(), *_forwarding(),
    ]


# --- rules of `bridge`


_MAC = (nft.BASE_LINK, 6, 6)  # source MAC: base, offset, length


def _with_link(name: str, *parts: tuple[int, int, int], negate: bool = False) -> bytes:
    """The link a frame came in by, together with parts of the frame, is (not) in a set."""
    load, word = nft.meta(nft.META_IIFNAME), nft.REGISTER_WORD + nft.IFNAMSIZ // 4
    for base, offset, length in parts:
        load += nft.payload(base, offset, length, word)
        word += (length + 3) // 4
    return load + nft.lookup(name, negate=negate)


def _bridge() -> list[Line]:
    """What is common is decided by the first rules, with one look-up a frame."""
    arp, ipv4, ipv6 = (nft.is_ethertype(kind) for kind in (nft.ETHER_ARP, nft.ETHER_IPV4, nft.ETHER_IPV6))
    network = nft.BASE_NETWORK
    own6 = _with_link("sources6", _MAC, (network, 8, 16))
    advertises = ipv6 + _type_is(_ICMPV6, _NEIGHBOUR_ADVERTISEMENT)
    return [
        ("source", "IPv4", ipv4 + _with_link("sources", _MAC, (network, 12, 4)) + _ACCEPT),
        ("source", "IPv6", ipv6 + nft.is_protocol(_ICMPV6, equal=False) + own6 + _ACCEPT),
        ("source", "not a container of ours", _from("ends", negate=True) + _ACCEPT),
        ("source", "foreign MAC", _with_link("macs", _MAC, negate=True) + _DROP),
        ("source", "ARP", arp + _with_link("sources", (network, 8, 6), (network, 14, 4)) + _ACCEPT),
        ("source", "ARP for a foreign MAC", arp + _with_link("macs", (network, 8, 6), negate=True) + _DROP),
        ("source", "ARP probe", arp + nft.payload(network, 14, 4) + nft.compare(bytes(4)) + _ACCEPT),
        ("source", "router advertisement", ipv6 + _type_is(_ICMPV6, _ROUTER_ADVERTISEMENT) + _DROP),
        ("source", "redirect", ipv6 + _type_is(_ICMPV6, _REDIRECT) + _DROP),
        ("source", "neighbour advertisement for a foreign address",
         advertises + _with_link("sources6", _MAC, (nft.BASE_TRANSPORT, 8, 16), negate=True) + _DROP),
        ("source", "IPv6 probe", ipv6 + nft.payload(network, 8, 16) + nft.compare(bytes(16)) + _ACCEPT),
        ("source", "ICMPv6", ipv6 + own6 + _ACCEPT),
        ("source", "foreign address or protocol", _DROP),
    ]


def _marked(lines: list[Line]) -> list[tuple[str, bytes, bytes]]:
    """(chain, expressions, comment as user data)."""
    return [
        (chain, expressions, nft.comment(f"{what} #{hashlib.sha256(expressions).hexdigest()[:8]}"))
        for chain, what, expressions in lines
    ]


RULES = {nft.NFPROTO_INET: _marked(_inet()), nft.NFPROTO_BRIDGE: _marked(_bridge())}
