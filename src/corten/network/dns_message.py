"""DNS messages as bytes: the question read strictly, answers written, lifetimes found. Pure; input is hostile.

Only what a resolver between containers and the host's servers needs: RFC 1035 section 4, EDNS(0) of RFC 6891.
Whatever cannot be read raises Malformed; nothing here reads past the bytes it was given or loops on a pointer.
"""

import struct
from collections.abc import Sequence

A, PTR, MX, AAAA, SRV, OPT = 1, 12, 15, 28, 33, 41
IN = 1
NOERROR, FORMERR, SERVFAIL, NXDOMAIN, NOTIMP, REFUSED = 0, 1, 2, 3, 4, 5
QR, TC, RD, RA, CD = 0x8000, 0x0200, 0x0100, 0x0080, 0x0010
PLAIN_BYTES = 512  # of an answer by UDP to someone who says nothing of EDNS
OUR_UDP_BYTES = 1232  # what we say we take by UDP: never fragmented
_OPCODE = 0x7800
_HEADER = struct.Struct(">6H")
_RECORD = struct.Struct(">HHIH")
_LABELS = 128  # a name has 255 bytes


class Malformed(ValueError):
    """Not a message we can read; `rcode` is what to answer, None for nothing at all."""

    def __init__(self, rcode: int | None) -> None:
        super().__init__(f"malformed DNS message ({rcode})")
        self.rcode = rcode


class Query:
    """One question. `name` is lower case without the last dot, "" when it has bytes no name of ours has."""

    __slots__ = ("edns", "end", "flags", "id", "kind", "message", "name")

    def __init__(self, message: bytes) -> None:
        """Raises Malformed."""
        if len(message) < 12:
            raise Malformed(None)
        self.message = message
        self.id, self.flags, questions, _answers, _authority, extra = _HEADER.unpack_from(message)
        if self.flags & QR:
            raise Malformed(None)  # an answer: whoever answers it starts a game of ping-pong
        if self.flags & _OPCODE:
            raise Malformed(NOTIMP)
        if questions != 1:
            raise Malformed(FORMERR)
        self.name, offset = _question_name(message)
        if offset + 4 > len(message):
            raise Malformed(FORMERR)
        self.kind, kind_class = struct.unpack_from(">HH", message, offset)
        self.end = offset + 4
        self.edns = _udp_bytes(message, self.end, extra)
        if kind_class != IN:
            self.name = ""

    @property
    def room(self) -> int:
        """How many bytes an answer by UDP may have."""
        return max(self.edns, PLAIN_BYTES)


def _question_name(message: bytes) -> tuple[str, int]:
    """(name, where it ends). A pointer has nothing to point at in a question."""
    labels, offset, ours = [], 12, True
    while True:
        if offset >= len(message) or offset > 12 + 255:
            raise Malformed(FORMERR)
        size = message[offset]
        offset += 1
        if not size:
            break
        if size > 63 or offset + size > len(message):
            raise Malformed(FORMERR)
        label = message[offset:offset + size]
        ours = ours and label.isascii() and b"." not in label
        labels.append(label)
        offset += size
    return (b".".join(labels).decode().lower() if ours else ""), offset


def _udp_bytes(message: bytes, offset: int, records: int) -> int:
    """The size in the OPT record after the question, 0 without one."""
    for _ in range(min(records, 8)):
        try:
            name_end = skip_name(message, offset)
            kind, size, _ttl, length = _RECORD.unpack_from(message, name_end)
        except (Malformed, struct.error):
            raise Malformed(FORMERR) from None
        offset = name_end + 10 + length
        if offset > len(message):
            raise Malformed(FORMERR)
        if kind == OPT:
            return max(int(size), PLAIN_BYTES)
    return 0


def skip_name(message: bytes, offset: int) -> int:
    """Where the name at `offset` ends; a pointer ends it and is not followed. Raises Malformed."""
    for _ in range(_LABELS):
        if offset >= len(message):
            raise Malformed(None)
        size = message[offset]
        if size >= 0xC0:
            return offset + 2
        if size > 63:
            raise Malformed(None)
        offset += 1 + size
        if not size:
            return offset
    raise Malformed(None)


# --- answers


def encode_name(name: str) -> bytes:
    """`web.shop` on the wire. Raises ValueError when a label is empty or too long, or the whole is."""
    wire = b""
    for label in name.split("."):
        raw = label.encode("ascii")
        if not 0 < len(raw) < 64:
            raise ValueError(f"not a DNS name: {name!r}")
        wire += bytes([len(raw)]) + raw
    if len(wire) > 254:
        raise ValueError(f"not a DNS name: {name!r}")
    return wire + b"\0"


def answer(query: Query, records: Sequence[bytes], ttl_s: int, room: int) -> bytes:
    """The answer with these data of the type asked for, no more than `room` bytes: the rest cut off and TC set."""
    tail = _opt() if query.edns else b""
    body, count, flags = [], 0, 0
    left = room - query.end - len(tail)
    for data in records:
        record = b"\xc0\x0c" + _RECORD.pack(query.kind, IN, ttl_s, len(data)) + data
        if len(record) > left:
            flags = TC
            break
        left -= len(record)
        count += 1
        body.append(record)
    head = _HEADER.pack(query.id, QR | RA | flags | query.flags & (RD | CD), 1, count, 0, 1 if tail else 0)
    return head + query.message[12:query.end] + b"".join(body) + tail


def failure(query: Query, rcode: int) -> bytes:
    """An answer that says no more than `rcode`."""
    head = _HEADER.pack(query.id, QR | RA | rcode | query.flags & (RD | CD), 1, 0, 0, 1 if query.edns else 0)
    return head + query.message[12:query.end] + (_opt() if query.edns else b"")


def refusal(message: bytes, rcode: int) -> bytes:
    """The answer to a message that could not be read: its header alone."""
    number, flags = struct.unpack_from(">HH", message)
    return _HEADER.pack(number, QR | flags & (_OPCODE | RD) | rcode, 0, 0, 0, 0)


def _opt() -> bytes:
    return b"\0" + _RECORD.pack(OPT, OUR_UDP_BYTES, 0, 0)


def answers(message: bytes, query: bytes) -> bool:
    """Whether `message`, from a server, is an answer to the bytes `query` (one question): same id, same question."""
    if len(message) < 12 or message[:2] != query[:2] or not message[2] & 0x80:
        return False
    if message[4:6] != b"\0\1":
        return message[4:6] == b"\0\0" and bool(message[3] & 0xF)  # a refusal may leave the question out
    end = skip_name(query, 12) + 4
    return message[12:end].lower() == query[12:end].lower()


def rcode_of(message: bytes) -> int:
    """NOERROR, NXDOMAIN …"""
    return message[3] & 0xF


# --- lifetimes


def lifetimes(message: bytes) -> tuple[int, list[int]]:
    """(seconds it may be kept, where its TTLs are); 0 for what is not kept: cut off, failed, or without any TTL.

    A name or type that does not exist is kept for what its SOA says (RFC 2308). Raises Malformed.
    """
    _id, flags, questions, *sections = _HEADER.unpack_from(message)
    offset = 12
    for _ in range(questions):
        offset = skip_name(message, offset) + 4
    least, places = 1 << 31, []
    for number in range(sum(sections)):
        offset = skip_name(message, offset)
        try:
            kind, _class, ttl, length = _RECORD.unpack_from(message, offset)
        except struct.error:
            raise Malformed(None) from None
        if offset + 10 + length > len(message):
            raise Malformed(None)
        if kind != OPT:
            places.append(offset + 4)
            least = min(least, ttl if ttl < 1 << 31 else 0)
        if kind == 6 and number >= sections[0] and length >= 20:  # SOA: its last word is the negative TTL
            least = min(least, struct.unpack_from(">I", message, offset + 6 + length)[0])
        offset += 10 + length
    keeps = not flags & TC and flags & 0xF in (NOERROR, NXDOMAIN) and places
    return (least if keeps else 0), places


def aged(message: bytes, places: Sequence[int], age_s: int) -> bytes:
    """The message with every TTL `age_s` seconds less."""
    fresh = bytearray(message)
    for offset in places:
        left = max(struct.unpack_from(">I", fresh, offset)[0] - age_s, 0)
        struct.pack_into(">I", fresh, offset, left)
    return bytes(fresh)
