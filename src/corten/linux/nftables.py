"""nf_tables by nfnetlink: tables, chains, rules, sets and maps in transactions of our own; no nft, no library.

A `Transaction` is all or nothing in the kernel. Rules are lists of expressions, the functions of this module; they take
numbers and packed bytes, never text from outside. Source: linux/netfilter/nf_tables.h, linux/netfilter/nfnetlink.h.
"""

import socket
import struct

from corten.linux.netlink import (
    NETLINK_NETFILTER,
    NLM_F_APPEND,
    NLM_F_CREATE,
    NLM_F_REQUEST,
    Batch,
    Socket,
    attribute,
    attributes,
    nested,
    text,
)

NFPROTO_INET, NFPROTO_IPV4, NFPROTO_IPV6 = 1, 2, 10
BATCH_BEGIN, BATCH_END = 16, 17
_SUBSYSTEM = 10 << 8
NEWTABLE, GETTABLE, DELTABLE, NEWCHAIN, NEWRULE, GETRULE, NEWSET = 0, 1, 2, 3, 6, 7, 9
NEWSETELEM, GETSETELEM, DELSETELEM = 12, 13, 14

HOOK_PREROUTING, HOOK_INPUT, HOOK_FORWARD, HOOK_OUTPUT, HOOK_POSTROUTING = 0, 1, 2, 3, 4
PRIORITY_RAW, PRIORITY_DSTNAT, PRIORITY_FILTER, PRIORITY_SRCNAT = -300, -100, 0, 100
DROP, ACCEPT, JUMP, RETURN = 0, 1, -3, -5
META_IIFNAME, META_OIFNAME, META_NFPROTO, META_L4PROTO = 6, 7, 15, 16
CT_STATE, CT_STATUS = 0, 2
CT_ESTABLISHED, CT_RELATED, CT_STATUS_DNAT = 2, 4, 0x20
BASE_NETWORK, BASE_TRANSPORT = 1, 2
RTN_LOCAL = 2
IFNAMSIZ = 16

# nft's own numbers of data types (it prints a set by them), with the length in bytes
TYPE_IPV4, TYPE_IPV6, TYPE_PROTOCOL, TYPE_SERVICE, TYPE_IFNAME = (7, 4), (8, 16), (12, 1), (13, 2), (41, 16)
SET_MAP, SET_INTERVAL, SET_CONCAT = 0x8, 0x4, 0x80

REGISTER = 1  # first of the four 16-byte registers
REGISTER_WORD = 8  # first of their sixteen 4-byte words: word n is REGISTER_WORD + n

_HEADER = struct.Struct("=IHHII")


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


def _value(kind: int, value: bytes) -> bytes:
    return nested(kind, attribute(1, value))  # NFTA_DATA_VALUE


def meta(key: int, register: int = REGISTER) -> bytes:
    """Load a property of the packet."""
    return _expression("meta", be32(1, register), be32(2, key))


def payload(base: int, offset: int, length: int, register: int = REGISTER) -> bytes:
    """Load `length` bytes of a header."""
    return _expression("payload", be32(1, register), be32(2, base), be32(3, offset), be32(4, length))


def compare(value: bytes, register: int = REGISTER, *, equal: bool = True) -> bytes:
    """Go on only if the register holds `value` (or does not)."""
    return _expression("cmp", be32(1, register), be32(2, 0 if equal else 1), _value(3, value))


def mask(value: bytes, register: int = REGISTER) -> bytes:
    """register &= value."""
    size = len(value)
    return _expression(
        "bitwise", be32(1, register), be32(2, register), be32(3, size), _value(4, value), _value(5, bytes(size)),
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


def is_ipv4() -> bytes:
    """Go on only for IPv4."""
    return meta(META_NFPROTO) + compare(bytes([NFPROTO_IPV4]))


def lookup(name: str, *, negate: bool = False) -> bytes:
    """Go on only if the registers from the first are (not) in the set."""
    return _expression("lookup", text(1, name), be32(2, REGISTER), *((be32(5, 1),) if negate else ()))


def lookup_map(name: str) -> bytes:
    """Replace the registers by the map's value; no entry ends the rule."""
    return _expression("lookup", text(1, name), be32(2, REGISTER), be32(3, REGISTER))


def dnat_ipv4() -> bytes:
    """Send the connection to the address and port in the first two words."""
    return _expression("nat", be32(1, 1), be32(2, NFPROTO_IPV4), be32(3, REGISTER), be32(5, REGISTER_WORD + 1))


def masquerade() -> bytes:
    """Give the connection the address of the link it leaves by."""
    return _expression("masq")


def counter() -> bytes:
    """Count packets and bytes."""
    return _expression("counter")


def verdict(code: int, chain: str = "") -> bytes:
    """Decide: DROP, ACCEPT, RETURN, or JUMP with the chain's name."""
    parts = (be32(1, code), text(2, chain)) if chain else (be32(1, code),)
    return _expression("immediate", be32(1, 0), nested(2, nested(2, *parts)))


class Transaction(Batch):
    """Changes to one table, applied together or not at all."""

    __slots__ = ("_family", "_table")

    atomic = True

    def __init__(self, table: str, family: int = NFPROTO_INET) -> None:
        super().__init__()
        self._family = family
        self._table = table
        self.add(BATCH_BEGIN, 0, struct.pack(">BBH", socket.AF_UNSPEC, 0, _SUBSYSTEM >> 8), "begin transaction")

    @property
    def changes(self) -> int:
        """How many changes it holds."""
        return len(self._parts) - 1

    def pack(self, first: int) -> bytes:
        """The bytes on the wire; the last change is acknowledged, after the commit."""
        body = super().pack(first)
        end = struct.pack(">BBH", socket.AF_UNSPEC, 0, _SUBSYSTEM >> 8)
        last = first + len(self._parts) - 1
        return body + _HEADER.pack(16 + len(end), BATCH_END, NLM_F_REQUEST, last, 0) + end

    def _change(self, message: int, flags: int, what: str, *parts: bytes) -> None:
        head = struct.pack(">BBH", self._family, 0, 0)
        self.add(_SUBSYSTEM | message, flags, head + b"".join(parts), what)

    def table(self) -> None:
        """Make the table; already there is fine."""
        self._change(NEWTABLE, NLM_F_CREATE, f"add table {self._table}", text(1, self._table), be32(2, 0))

    def delete_table(self) -> None:
        """Remove the table with all it holds."""
        self._change(DELTABLE, 0, f"delete table {self._table}", text(1, self._table))

    def chain(self, name: str, kind: str, hook: int, priority: int) -> None:
        """A base chain with policy accept; `kind` is filter or nat."""
        where = nested(4, be32(1, hook), be32(2, priority))
        self._change(
            NEWCHAIN, NLM_F_CREATE, f"add chain {name}",
            text(1, self._table), text(3, name), where, be32(5, ACCEPT), text(7, kind),
        )

    def rule(self, chain: str, *expressions: bytes) -> None:
        """Append a rule."""
        self._change(
            NEWRULE, NLM_F_CREATE | NLM_F_APPEND, f"add rule to {chain}",
            text(1, self._table), text(2, chain), nested(4, *expressions),
        )

    def set(self, name: str, key: tuple[tuple[int, int], ...], value: tuple[tuple[int, int], ...] = ()) -> None:
        """A set, or with `value` a map; several components make a concatenation."""
        kind, length = _joined(key)
        parts = [text(1, self._table), text(2, name), be32(4, kind), be32(5, length), be32(10, len(self._parts))]
        flags = 0
        if key == (TYPE_IFNAME,):  # nft prints names right only if told that they are not in network byte order
            parts.append(attribute(13, bytes([0, 4]) + struct.pack("=I", 1)))
        if value:
            flags |= SET_MAP
            kind, length = _joined(value)
            parts += [be32(6, kind), be32(7, length)]
        self._change(NEWSET, NLM_F_CREATE, f"add set {name}", *parts, be32(3, flags))

    def ranges(self, name: str, key: tuple[tuple[int, int], ...]) -> None:
        """A set of ranges in several components at once (nft's `flags interval` on a concatenation)."""
        kind, length = _joined(key)
        fields = (nested(1, be32(1, size)) for _, size in key)  # NFTA_LIST_ELEM: NFTA_SET_FIELD_LEN
        self._change(
            NEWSET, NLM_F_CREATE, f"add set {name}", text(1, self._table), text(2, name), be32(4, kind),
            be32(5, length), be32(10, len(self._parts)), be32(3, SET_INTERVAL | SET_CONCAT),
            nested(9, nested(2, *fields)),
        )

    def range(self, name: str, first: bytes, last: bytes) -> None:
        """Add everything from `first` to `last`, both included."""
        entry = nested(1, _value(1, first), _value(10, last))
        self._change(
            NEWSETELEM, NLM_F_CREATE, f"add range to {name}", text(1, self._table), text(2, name), nested(3, entry),
        )

    def delete_range(self, name: str, first: bytes, last: bytes) -> None:
        """Take out what `range` added."""
        entry = nested(1, _value(1, first), _value(10, last))
        self._change(
            DELSETELEM, 0, f"delete range of {name}", text(1, self._table), text(2, name), nested(3, entry),
        )

    def elements(self, name: str, entries: list[tuple[bytes, bytes]]) -> None:
        """Add (key, value) entries, value empty for a set; the same entry already there is fine, another is EEXIST."""
        for at in range(0, len(entries), 400):  # an attribute's length has 16 bits
            packed = self._entries(name, entries[at:at + 400])
            self._change(NEWSETELEM, NLM_F_CREATE, f"add elements to {name}", *packed)

    def delete_elements(self, name: str, keys: list[bytes]) -> None:
        """Take entries out; one that is not there fails the transaction with ENOENT."""
        for at in range(0, len(keys), 400):
            entries = [(key, b"") for key in keys[at:at + 400]]
            self._change(DELSETELEM, 0, f"delete elements of {name}", *self._entries(name, entries))

    def _entries(self, name: str, entries: list[tuple[bytes, bytes]]) -> tuple[bytes, ...]:
        packed = (
            nested(1, _value(1, key), *((_value(2, value),) if value else ())) for key, value in entries
        )
        return text(1, self._table), text(2, name), nested(3, *packed)


def _joined(types: tuple[tuple[int, int], ...]) -> tuple[int, int]:
    """nft's number and the length of a concatenation."""
    kind = 0
    for number, _ in types:
        kind = kind << 6 | number
    if len(types) == 1:
        return kind, types[0][1]
    return kind, sum((size + 3) & ~3 for _, size in types)


class Nftables(Socket):
    """A socket to the nf_tables of the caller's network namespace."""

    __slots__ = ()

    def __init__(self) -> None:
        super().__init__(protocol=NETLINK_NETFILTER)

    def commit(self, transaction: Transaction) -> None:
        """Apply it, or nothing of it. Raises NetlinkError for the first refused change."""
        if transaction.changes:
            self.run(transaction)

    def tables(self, family: int = NFPROTO_INET) -> list[str]:
        """The names of the tables there are."""
        answers = self.dump(_SUBSYSTEM | GETTABLE, struct.pack(">BBH", family, 0, 0))
        return [attributes(body, 4).get(1, b"").rstrip(b"\0").decode(errors="replace") for _, body in answers]

    def rules(self, table: str, family: int = NFPROTO_INET) -> list[str]:
        """The chain of each rule of a table, in order."""
        answers = self.dump(_SUBSYSTEM | GETRULE, struct.pack(">BBH", family, 0, 0) + text(1, table))
        return [attributes(body, 4).get(2, b"").rstrip(b"\0").decode(errors="replace") for _, body in answers]

    def elements(self, table: str, name: str, family: int = NFPROTO_INET) -> dict[bytes, bytes]:
        """key -> value (empty for a set) of a set. Raises NetlinkError (ENOENT) when there is none."""
        request = struct.pack(">BBH", family, 0, 0) + text(1, table) + text(2, name)
        found: dict[bytes, bytes] = {}
        for _, body in self.dump(_SUBSYSTEM | GETSETELEM, request):
            for entry in _list(attributes(body, 4).get(3, b"")):
                parts = attributes(entry)
                found[attributes(parts.get(1, b"")).get(1, b"")] = attributes(parts.get(2, b"")).get(1, b"")
        return found


def _list(data: bytes) -> list[bytes]:
    """The values of attributes that repeat one kind."""
    found = []
    offset = 0
    while offset + 4 <= len(data):
        length = struct.unpack_from("=H", data, offset)[0]
        if length < 4:
            break
        found.append(data[offset + 4:offset + length])
        offset += (length + 3) & ~3
    return found
