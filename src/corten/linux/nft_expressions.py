"""Expressions of nf_tables rules: each function returns one; a rule is their concatenation.

They take numbers and packed bytes, never text from outside. Source: linux/netfilter/nf_tables.h.
"""

import struct

from corten.linux.netlink import attribute, nested, text

NFPROTO_INET, NFPROTO_IPV4, NFPROTO_BRIDGE, NFPROTO_IPV6 = 1, 2, 7, 10
HOOK_PREROUTING, HOOK_INPUT, HOOK_FORWARD, HOOK_OUTPUT, HOOK_POSTROUTING = 0, 1, 2, 3, 4
PRIORITY_RAW, PRIORITY_DSTNAT, PRIORITY_FILTER, PRIORITY_SRCNAT = -300, -100, 0, 100
DROP, ACCEPT, JUMP, RETURN = 0, 1, -3, -5
META_MARK = 3
META_PROTOCOL, META_IIFNAME, META_OIFNAME, META_NFPROTO, META_L4PROTO = 1, 6, 7, 15, 16
CT_STATE, CT_DIRECTION, CT_STATUS = 0, 1, 2
CT_REPLY = 1  # a direction
CT_ESTABLISHED, CT_RELATED, CT_STATUS_DNAT = 2, 4, 0x20
BASE_LINK, BASE_NETWORK, BASE_TRANSPORT = 0, 1, 2
ETHER_IPV4, ETHER_ARP, ETHER_IPV6 = 0x0800, 0x0806, 0x86DD
RTN_LOCAL = 2
REJECT_TCP_RST, REJECT_ICMPX_UNREACH, ICMPX_ADMIN_PROHIBITED = 1, 2, 3
IFNAMSIZ = 16

# nft's own numbers of data types (it prints a set by them), with the length in bytes
TYPE_IPV4, TYPE_IPV6, TYPE_ETHER, TYPE_PROTOCOL, TYPE_SERVICE = (7, 4), (8, 16), (9, 6), (12, 1), (13, 2)
TYPE_IFNAME = (41, 16)

REGISTER = 1  # first of the four 16-byte registers
REGISTER_WORD = 8  # first of their sixteen 4-byte words: word n is REGISTER_WORD + n


def be32(kind: int, value: int) -> bytes:
    """A 32-bit attribute in network byte order."""
    return attribute(kind, (value & 0xFFFFFFFF).to_bytes(4, "big"))


def ifname(name: str) -> bytes:
    """An interface name as the kernel compares it: 16 bytes, NUL padded. Raises ValueError."""
    raw = name.encode("ascii")
    if not 0 < len(raw) < IFNAMSIZ:
        raise ValueError(f"not an interface name: {name!r}")
    return raw.ljust(IFNAMSIZ, b"\0")


def concatenated(*parts: bytes) -> bytes:
    """A key or value of several components, each padded to four bytes."""
    return b"".join(part.ljust((len(part) + 3) & ~3, b"\0") for part in parts)


# --- expressions: each returns one; a rule is their list


def _expression(name: str, *parts: bytes) -> bytes:
    return nested(1, text(1, name), nested(2, *parts))  # NFTA_LIST_ELEM: NFTA_EXPR_NAME, NFTA_EXPR_DATA


def packed_value(kind: int, value: bytes) -> bytes:
    """Data as an attribute: of an expression, of a set's element."""
    return nested(kind, attribute(1, value))  # NFTA_DATA_VALUE


def meta(key: int, register: int = REGISTER) -> bytes:
    """Load a property of the packet."""
    return _expression("meta", be32(1, register), be32(2, key))


def payload(base: int, offset: int, length: int, register: int = REGISTER) -> bytes:
    """Load `length` bytes of a header."""
    return _expression("payload", be32(1, register), be32(2, base), be32(3, offset), be32(4, length))


def immediate(value: bytes, register: int = REGISTER) -> bytes:
    """Load a constant."""
    return _expression("immediate", be32(1, register), packed_value(2, value))


def payload_set(base: int, offset: int, length: int, checksum: int, register: int = REGISTER) -> bytes:
    """Write the register into a header; the Internet checksum at `checksum` of the same header is put right."""
    return _expression(
        "payload", be32(5, register), be32(2, base), be32(3, offset), be32(4, length), be32(6, 1), be32(7, checksum),
    )


def compare(value: bytes, register: int = REGISTER, *, equal: bool = True) -> bytes:
    """Go on only if the register holds `value` (or does not)."""
    return _expression("cmp", be32(1, register), be32(2, 0 if equal else 1), packed_value(3, value))


def mask(value: bytes, register: int = REGISTER) -> bytes:
    """register &= value."""
    size = len(value)
    return _expression(
        "bitwise", be32(1, register), be32(2, register), be32(3, size), packed_value(4, value),
        packed_value(5, bytes(size)),
    )


def conntrack(key: int, register: int = REGISTER) -> bytes:
    """Load a property of the connection."""
    return _expression("ct", be32(1, register), be32(2, key))


def conntrack_has(key: int, bits: int) -> bytes:
    """Go on only if the connection's property has one of `bits`."""
    return conntrack(key) + mask(struct.pack("=I", bits)) + compare(bytes(4), equal=False)


def to_local_address() -> bytes:
    """Go on only if the destination is an address of this host."""
    fib = _expression("fib", be32(1, REGISTER), be32(2, 3), be32(3, 2))  # result ADDRTYPE of DADDR
    return fib + compare(struct.pack("=I", RTN_LOCAL))


def is_family(family: int) -> bytes:
    """Go on only for NFPROTO_IPV4 or NFPROTO_IPV6; for tables of the family inet."""
    return meta(META_NFPROTO) + compare(bytes([family]))


def is_ethertype(ethertype: int) -> bytes:
    """Go on only for frames of a protocol; for tables of the family bridge."""
    return meta(META_PROTOCOL) + compare(struct.pack(">H", ethertype))


def is_protocol(protocol: int, *, equal: bool = True) -> bytes:
    """Go on only for a transport protocol (or for all others)."""
    return meta(META_L4PROTO) + compare(bytes([protocol]), equal=equal)


def lookup(name: str, *, negate: bool = False) -> bytes:
    """Go on only if the registers from the first are (not) in the set."""
    return _expression("lookup", text(1, name), be32(2, REGISTER), *((be32(5, 1),) if negate else ()))


def lookup_map(name: str) -> bytes:
    """Replace the registers by the map's value; no entry ends the rule."""
    return _expression("lookup", text(1, name), be32(2, REGISTER), be32(3, REGISTER))


def dnat(family: int) -> bytes:
    """Send the connection to the address and port that a map gave: they fill the registers from the first on."""
    port = REGISTER_WORD + (1 if family == NFPROTO_IPV4 else 4)
    return _expression("nat", be32(1, 1), be32(2, family), be32(3, REGISTER), be32(5, port))


def snat(family: int) -> bytes:
    """Give the connection the source address that a map gave: it fills the registers from the first on."""
    return _expression("nat", be32(1, 0), be32(2, family), be32(3, REGISTER))


def masquerade() -> bytes:
    """Give the connection the address of the link it leaves by."""
    return _expression("masq")


def redirect(port: int) -> bytes:
    """Send the connection to a port of this host."""
    return immediate(port.to_bytes(2, "big")) + _expression("redir", be32(1, REGISTER))


def reject(*, reset: bool = False) -> bytes:
    """Drop, and tell: a TCP reset, or that it is prohibited."""
    kind, code = (REJECT_TCP_RST, 0) if reset else (REJECT_ICMPX_UNREACH, ICMPX_ADMIN_PROHIBITED)
    return _expression("reject", be32(1, kind), attribute(2, bytes([code])))


def counter() -> bytes:
    """Count packets and bytes."""
    return _expression("counter")


def verdict(code: int, chain: str = "") -> bytes:
    """Decide: DROP, ACCEPT, RETURN, or JUMP with the chain's name."""
    parts = (be32(1, code), text(2, chain)) if chain else (be32(1, code),)
    return _expression("immediate", be32(1, 0), nested(2, nested(2, *parts)))


def comment(words: str) -> bytes:
    """A rule's user data as `nft list` shows it: comment "…". At most 127 ASCII characters. Raises ValueError."""
    raw = words.encode("ascii") + b"\0"
    if len(raw) > 128:
        raise ValueError(f"comment too long: {words!r}")
    return bytes([0, len(raw)]) + raw


def words_of(userdata: bytes) -> str:
    """The comment in a rule's user data; "" when there is none."""
    if len(userdata) < 2 or userdata[0] != 0:
        return ""
    return userdata[2:2 + userdata[1]].rstrip(b"\0").decode(errors="replace")
