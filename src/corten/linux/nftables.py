"""nf_tables by nfnetlink: tables, chains, rules, sets and maps in transactions of our own; no nft, no library.

A `Transaction` is all or nothing in the kernel. What rules are made of is in nft_expressions.py.
Source: linux/netfilter/nf_tables.h, linux/netfilter/nfnetlink.h.
"""

import errno
import socket
import struct

from corten.linux.netlink import (
    NETLINK_NETFILTER,
    NLM_F_APPEND,
    NLM_F_CREATE,
    NLM_F_EXCL,
    NLM_F_REQUEST,
    SOL_NETLINK,
    Batch,
    Socket,
    attribute,
    attributes,
    nested,
    text,
)
from corten.linux.nft_expressions import ACCEPT, NFPROTO_INET, TYPE_IFNAME, be32, packed_value

BATCH_BEGIN, BATCH_END = 16, 17
_SUBSYSTEM_ID = 10
_SUBSYSTEM = _SUBSYSTEM_ID << 8
NEWTABLE, GETTABLE, DELTABLE, NEWCHAIN, GETCHAIN, NEWRULE, GETRULE, DELRULE = 0, 1, 2, 3, 4, 6, 7, 8
NEWSET, NEWSETELEM, GETSETELEM, DELSETELEM, NEWGEN = 9, 12, 13, 14, 15
SET_MAP, SET_INTERVAL, SET_CONCAT = 0x8, 0x4, 0x80
NETLINK_ADD_MEMBERSHIP, NFNLGRP_NFTABLES = 1, 7

_HEADER = struct.Struct("=IHHII")
DataType = tuple[int, int]  # nft's number of a data type (it prints a set by them), length in bytes

class Transaction(Batch):
    """Changes to the tables of one name, applied together or not at all."""

    __slots__ = ("_table", "family")

    atomic = True

    def __init__(self, table: str, family: int = NFPROTO_INET) -> None:
        """`family` may be changed between changes: two tables of one name, one transaction."""
        super().__init__()
        self.family = family
        self._table = table
        self.add(BATCH_BEGIN, 0, struct.pack(">BBH", socket.AF_UNSPEC, 0, _SUBSYSTEM_ID), "begin transaction")

    @property
    def changes(self) -> int:
        """How many changes it holds."""
        return len(self._parts) - 1

    def pack(self, first: int) -> bytes:
        """The bytes on the wire; the last change is acknowledged, after the commit."""
        body = super().pack(first)
        end = struct.pack(">BBH", socket.AF_UNSPEC, 0, _SUBSYSTEM_ID)
        last = first + len(self._parts) - 1
        return body + _HEADER.pack(16 + len(end), BATCH_END, NLM_F_REQUEST, last, 0) + end

    def _change(self, message: int, flags: int, what: str, *parts: bytes) -> None:
        head = struct.pack(">BBH", self.family, 0, 0)
        self.add(_SUBSYSTEM | message, flags, head + b"".join(parts), what)

    def table(self, *, new: bool = False) -> None:
        """Make the table; already there is fine, unless it has to be new (EEXIST)."""
        flags = NLM_F_CREATE | (NLM_F_EXCL if new else 0)
        self._change(NEWTABLE, flags, f"add table {self._table}", text(1, self._table), be32(2, 0))

    def delete_table(self) -> None:
        """Remove the table with all it holds."""
        self._change(DELTABLE, 0, f"delete table {self._table}", text(1, self._table))

    def chain(self, name: str, kind: str = "", hook: int = 0, priority: int = 0) -> None:
        """A chain, already there is fine; with `kind` (filter or nat) a base chain with policy accept."""
        where = nested(4, be32(1, hook), be32(2, priority))
        base = (where, be32(5, ACCEPT), text(7, kind)) if kind else ()
        self._change(NEWCHAIN, NLM_F_CREATE, f"add chain {name}", text(1, self._table), text(3, name), *base)

    def empty_chain(self, name: str) -> None:
        """Remove the rules of a chain."""
        self._change(DELRULE, 0, f"flush chain {name}", text(1, self._table), text(2, name))

    def rule(self, chain: str, expressions: bytes, userdata: bytes = b"") -> None:
        """Append a rule; `userdata` is kept with it (nft_expressions.comment)."""
        parts = (attribute(7, userdata),) if userdata else ()
        self._change(
            NEWRULE, NLM_F_CREATE | NLM_F_APPEND, f"add rule to {chain}",
            text(1, self._table), text(2, chain), nested(4, expressions), *parts,
        )

    def empty_set(self, name: str) -> None:
        """Remove the elements of a set."""
        self._change(DELSETELEM, 0, f"flush set {name}", text(1, self._table), text(2, name))

    def set(self, name: str, key: tuple[DataType, ...], value: tuple[DataType, ...] = ()) -> None:
        """A set, or with `value` a map, already there is fine; several components make a concatenation."""
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

    def ranges(self, name: str, key: tuple[DataType, ...]) -> None:
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
        entry = nested(1, packed_value(1, first), packed_value(10, last))
        self._change(
            NEWSETELEM, NLM_F_CREATE, f"add range to {name}", text(1, self._table), text(2, name), nested(3, entry),
        )

    def delete_range(self, name: str, first: bytes, last: bytes) -> None:
        """Take out what `range` added."""
        entry = nested(1, packed_value(1, first), packed_value(10, last))
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
            nested(1, packed_value(1, key), *((packed_value(2, value),) if value else ())) for key, value in entries
        )
        return text(1, self._table), text(2, name), nested(3, *packed)


def _joined(types: tuple[DataType, ...]) -> tuple[int, int]:
    """nft's number and the length of a concatenation."""
    kind = 0
    for number, _ in types:
        kind = kind << 6 | number
    if len(types) == 1:
        return kind, types[0][1]
    return kind, sum((size + 3) & ~3 for _, size in types)


class Rule:
    """A rule as the kernel holds it; `packets` is None when it does not count."""

    __slots__ = ("chain", "packets", "size", "userdata")

    def __init__(self, body: bytes) -> None:
        found = attributes(body, 4)
        self.chain = _string(found.get(2))
        self.userdata = found.get(7, b"")
        self.packets: int | None = None
        self.size = 0
        for expression in _list(found.get(4, b"")):
            parts = attributes(expression)
            if _string(parts.get(1)) == "counter":
                counter = attributes(parts.get(2, b""))
                self.size, self.packets = (int.from_bytes(counter.get(kind, b""), "big") for kind in (1, 2))


class Chain:
    """A chain as the kernel holds it; `hook` is -1 for one that is only jumped to."""

    __slots__ = ("family", "hook", "kind", "name", "policy", "priority", "table")

    def __init__(self, body: bytes) -> None:
        found = attributes(body, 4)
        where = attributes(found.get(4, b""))
        self.family = body[0]
        self.table = _string(found.get(1))
        self.name = _string(found.get(3))
        self.kind = _string(found.get(7))
        self.hook = int.from_bytes(where[1], "big") if 1 in where else -1
        self.priority = int.from_bytes(where.get(2, b""), "big", signed=True)
        self.policy = int.from_bytes(found.get(5, b"\1"), "big")


class Nftables(Socket):
    """A socket to the nf_tables of a network namespace: the caller's, or that of `netns_fd`."""

    __slots__ = ()

    def __init__(self, netns_fd: int = -1) -> None:
        super().__init__(netns_fd, NETLINK_NETFILTER)

    def __enter__(self) -> "Nftables":
        return self

    def commit(self, transaction: Transaction) -> None:
        """Apply it, or nothing of it. Raises NetlinkError for the first refused change."""
        if transaction.changes:
            self.run(transaction)

    def tables(self, family: int = NFPROTO_INET) -> list[str]:
        """The names of the tables there are."""
        answers = self.dump(_SUBSYSTEM | GETTABLE, struct.pack(">BBH", family, 0, 0))
        return [_string(attributes(body, 4).get(1)) for _, body in answers]

    def chains(self) -> list[Chain]:
        """Every chain of every table and family."""
        return [Chain(body) for _, body in self.dump(_SUBSYSTEM | GETCHAIN, bytes(4))]

    def rules(self, table: str, family: int = NFPROTO_INET, chain: str = "") -> list[Rule]:
        """The rules of a table (or of one chain), in order."""
        request = struct.pack(">BBH", family, 0, 0) + text(1, table) + (text(2, chain) if chain else b"")
        return [Rule(body) for _, body in self.dump(_SUBSYSTEM | GETRULE, request)]

    def elements(self, table: str, name: str, family: int = NFPROTO_INET) -> dict[bytes, bytes]:
        """key -> value (empty for a set) of a set; of a range the first. Raises NetlinkError (ENOENT) without one."""
        request = struct.pack(">BBH", family, 0, 0) + text(1, table) + text(2, name)
        found: dict[bytes, bytes] = {}
        for _, body in self.dump(_SUBSYSTEM | GETSETELEM, request):
            for entry in _list(attributes(body, 4).get(3, b"")):
                parts = attributes(entry)
                found[attributes(parts.get(1, b"")).get(1, b"")] = attributes(parts.get(2, b"")).get(1, b"")
        return found


class Monitor:
    """Tells of changes that others make to the tables of one name. Its descriptor is readable when there is one."""

    __slots__ = ("_socket", "_table")

    def __init__(self, table: str) -> None:
        self._table = table.encode() + b"\0"
        self._socket = socket.socket(
            socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC | socket.SOCK_NONBLOCK, NETLINK_NETFILTER,
        )
        self._socket.bind((0, 0))
        self._socket.setsockopt(SOL_NETLINK, NETLINK_ADD_MEMBERSHIP, NFNLGRP_NFTABLES)

    def fileno(self) -> int:
        return self._socket.fileno()

    def close(self) -> None:
        self._socket.close()

    def foreign(self, own: int) -> bool:
        """Read what there is: whether someone but the socket with port id `own` has changed our tables."""
        found = False
        while True:
            try:
                data = self._socket.recv(1 << 16)
            except BlockingIOError:
                return found
            except OSError as error:
                if error.errno != errno.ENOBUFS:  # more than could be kept: it may have been about us
                    raise
                found = True
                continue
            offset = 0
            while offset + 16 <= len(data):
                length, kind, _flags, _sequence, port = _HEADER.unpack_from(data, offset)
                if length < 16:
                    break
                if port != own and kind >> 8 == _SUBSYSTEM_ID and kind & 0xFF != NEWGEN:
                    found = found or attributes(data[offset + 16:offset + length], 4).get(1) == self._table
                offset += (length + 3) & ~3


def _string(value: bytes | None) -> str:
    return (value or b"").rstrip(b"\0").decode(errors="replace")


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
