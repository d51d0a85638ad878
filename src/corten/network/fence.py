"""The fence around a container that is not trusted: nf_tables rules inside its network namespace.

TCP goes through the gateway's listeners and nothing else passes but loopback, ICMP, answers, and what is let out by
name; IPv6 and UDP end here. The gateway's own sockets carry MARK, which takes CAP_NET_ADMIN or CAP_NET_RAW to set; who
sets it anyway comes past this fence, not past that of the one who is called.
"""

import socket
import struct
from collections.abc import Sequence
from hashlib import sha256
from ipaddress import IPv4Address, IPv4Network

from corten.linux import nft_expressions as nft
from corten.linux.nftables import Nftables, Transaction

TABLE = "corten-trust"
MARK = 0x636F7274
OUT_PORT, IN_PORT, PUBLISHED_PORT, HOP_PORT = 15001, 15006, 15004, 15002

Line = tuple[str, bytes]  # chain, expressions
_LO = nft.ifname("lo")
_V4 = nft.is_family(nft.NFPROTO_IPV4)
_TCP = nft.is_protocol(socket.IPPROTO_TCP)
_ICMP = _V4 + nft.is_protocol(socket.IPPROTO_ICMP)
_REPLY = nft.conntrack(nft.CT_DIRECTION) + nft.compare(bytes([nft.CT_REPLY]))
_REDIRECTED = nft.conntrack_has(nft.CT_STATUS, nft.CT_STATUS_DNAT)
_ESTABLISHED = nft.conntrack_has(nft.CT_STATE, nft.CT_ESTABLISHED)
_ENDING = _REDIRECTED + _ESTABLISHED
_MARKED = nft.meta(nft.META_MARK) + nft.compare(struct.pack("=I", MARK))
_ACCEPT, _RETURN = nft.verdict(nft.ACCEPT), nft.verdict(nft.RETURN)
_SOURCE, _DESTINATION = 12, 16  # of addresses in the IPv4 header


class Fence:
    """What one container's fence lets through.

    `near`: subnets in which the mesh is reached. `out`: (network, port or 0) reached directly. `published`: ports
    open to who comes from outside `near`, or from a `gateway` of it. `hops`: (address, port) the gateway carries over
    by itself. `shut`: nothing begins any more; what the gateway has open it can still close.
    """

    __slots__ = ("gateways", "hops", "near", "out", "published", "shut")

    def __init__(
        self, near: Sequence[IPv4Network], *, out: Sequence[tuple[IPv4Network, int]] = (),
        published: Sequence[int] = (), gateways: Sequence[IPv4Address] = (),
        hops: Sequence[tuple[IPv4Address, int]] = (), shut: bool = False,
    ) -> None:
        self.near, self.out, self.published, self.gateways = list(near), list(out), list(published), list(gateways)
        self.hops, self.shut = list(hops), shut

    @property
    def key(self) -> tuple[object, ...]:
        """Two fences with the same key are the same."""
        return (tuple(self.near), tuple(self.out), tuple(self.published), tuple(self.gateways), tuple(self.hops),
                self.shut)


def build(netns_fd: int, fence: Fence) -> None:
    """Put the fence up in a namespace, or another in place of the one that is there: no moment without. Raises OSError.

    Blocking, about a millisecond; some 30 when another is there, so it is looked at first what is.
    """
    with Nftables(netns_fd) as nftables:
        there = {chain.name for chain in nftables.chains() if chain.table == TABLE}
        if _mark(fence) not in there:
            nftables.commit(_change(fence, fresh=not there))


def tear_down(netns_fd: int) -> None:
    """Take the fence away; absent is fine. Raises OSError."""
    with Nftables(netns_fd) as nftables:
        change = Transaction(TABLE)
        change.table()
        change.delete_table()
        nftables.commit(change)


def _change(fence: Fence, *, fresh: bool) -> Transaction:
    change = Transaction(TABLE)
    change.table(new=fresh)
    if not fresh:
        change.delete_table()
        change.table()
    change.chain("outbound", "nat", nft.HOOK_OUTPUT, nft.PRIORITY_DSTNAT)
    change.chain("inbound", "nat", nft.HOOK_PREROUTING, nft.PRIORITY_DSTNAT)
    change.chain("in", "filter", nft.HOOK_INPUT, nft.PRIORITY_FILTER)
    change.chain("out", "filter", nft.HOOK_OUTPUT, nft.PRIORITY_FILTER)
    change.chain(_mark(fence))
    for chain, expressions in rules(fence):
        change.rule(chain, expressions)
    return change


def _mark(fence: Fence) -> str:
    """The name of an empty chain that tells one fence from another: the kernel itself says which one is up."""
    said = b"".join(b"%b %d %b" % (chain.encode(), len(text), text) for chain, text in rules(fence))
    return f"is-{sha256(said).hexdigest()[:16]}"


def rules(fence: Fence) -> list[Line]:
    """All rules, in order. Pure."""
    local_in = nft.meta(nft.META_IIFNAME) + nft.compare(_LO)
    local_out = nft.meta(nft.META_OIFNAME) + nft.compare(_LO)
    found = [("inbound", local_in + _RETURN), ("outbound", local_out + _RETURN),
             ("in", local_in + _ACCEPT), ("out", local_out + _ACCEPT)]
    if fence.shut:
        found += [("out", _ENDING + _ACCEPT), ("in", _ENDING + _ACCEPT), ("out", _MARKED + _ESTABLISHED + _ACCEPT),
                  ("in", _REPLY + _ACCEPT), ("out", _REPLY + _ACCEPT),
                  ("in", _TCP + nft.counter() + nft.reject(reset=True))]
    else:
        found += _outward(fence) + _inward(fence)
    refuse = [_TCP + nft.counter() + nft.reject(reset=True), nft.counter() + nft.reject()]
    return [*found, ("in", nft.counter() + nft.verdict(nft.DROP)), *(("out", one) for one in refuse)]


def _outward(fence: Fence) -> list[Line]:
    let = [_within(_DESTINATION, network) + (_TCP + _port(port) if port else _TCP) for network, port in fence.out]
    near = [_within(_DESTINATION, network) for network in fence.near]
    node = [_within(_DESTINATION, IPv4Network(address)) for address in fence.gateways]
    hop = [_within(_DESTINATION, IPv4Network(address)) + _TCP + _port(port) for address, port in fence.hops]
    return [
        ("outbound", _MARKED + _RETURN),
        *(("outbound", one + _RETURN) for one in let),
        *(("outbound", one + _RETURN) for one in node),
        *(("outbound", one + nft.redirect(HOP_PORT)) for one in hop),
        *(("outbound", one + _TCP + nft.redirect(OUT_PORT)) for one in near),
        ("out", _REDIRECTED + _ACCEPT), ("out", _REPLY + _ACCEPT),
        *(("out", one + _ACCEPT) for one in let),
        *(("out", one + _TCP + nft.reject(reset=True)) for one in node),
        *(("out", _MARKED + _TCP + one + _ACCEPT) for one in near),
        ("out", _ICMP + _ACCEPT),
    ]


def _inward(fence: Fence) -> list[Line]:
    found: list[Line] = []
    for port in fence.published:
        from_gateway = [_within(_SOURCE, IPv4Network(one)) for one in fence.gateways]
        far = b"".join(_within(_SOURCE, network, equal=False) for network in fence.near)
        found += [("inbound", _V4 + one + _TCP + _port(port) + nft.redirect(PUBLISHED_PORT))
                  for one in (*from_gateway, far)]
    to_listener = _V4 + _TCP + _REDIRECTED
    return [*found, ("inbound", _V4 + _TCP + nft.redirect(IN_PORT)),
            ("in", _REPLY + _ACCEPT), ("in", _ICMP + _ACCEPT), ("in", to_listener + _ACCEPT)]


def _within(offset: int, network: IPv4Network, *, equal: bool = True) -> bytes:
    """An address of the IPv4 header is (not) in the network."""
    load = _V4 + nft.payload(nft.BASE_NETWORK, offset, 4)
    if network.prefixlen < 32:
        load += nft.mask(network.netmask.packed)
    return load + nft.compare(network.network_address.packed, equal=equal)


def _port(port: int) -> bytes:
    """The destination port of TCP."""
    return nft.payload(nft.BASE_TRANSPORT, 2, 2) + nft.compare(struct.pack(">H", port))
