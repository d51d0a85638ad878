"""Reading tar archives nobody vouches for: ustar, PAX, GNU long names, base-256 numbers. Standard library only.

Bounded in header sizes and in everything it keeps; names are bytes, as the kernel's. It judges as Go's archive/tar does
where images depend on it (a link's size is nothing, a trailing slash makes a folder, global headers are passed over).
Sparse members, volume labels and multi-volume archives are refused. It opens nothing and writes nothing: see unpack.py.
"""

import zlib
from collections.abc import Iterator

from corten.base.errors import InvalidArgument, Unsupported

BLOCK = 512
HEADER_LIMIT = 1 << 20  # bytes of extended headers before one member
REGULAR, HARDLINK, SYMLINK, CHAR, BLOCK_DEVICE, DIRECTORY, FIFO = b"0", b"1", b"2", b"3", b"4", b"5", b"6"

_ZERO = bytes(BLOCK)
_MAX = 1 << 62
_TIME_MAX = 1 << 40
XATTR = b"SCHILY.xattr."


class BadArchive(InvalidArgument):
    """The archive breaks the format; the text says where."""


TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Protocol

    class Source(Protocol):
        """Where the bytes come from."""

        def take(self, size: int) -> bytes | memoryview:
            """Exactly `size` bytes, or fewer at the end of the archive (none: the end)."""

        def skip(self, size: int) -> int:
            """Pass over bytes; returns how many there were."""


class Entry:
    """One member. Sizes in bytes, time in nanoseconds; `xattrs` is None when it has none."""

    __slots__ = ("gid", "kind", "link", "major", "minor", "mode", "mtime_ns", "name", "size", "uid", "xattrs")

    name: bytes
    kind: bytes
    link: bytes
    mode: int
    uid: int
    gid: int
    size: int
    mtime_ns: int
    major: int
    minor: int
    xattrs: dict[bytes, bytes] | None


def _number(field: bytes) -> int:
    """A header's number: octal text, or base-256 when the top bit is set."""
    if field and field[0] & 0x80:
        value = int.from_bytes(field, "big")
        bits = len(field) * 8
        value = value - (1 << bits) if field[0] & 0x40 else value & ((1 << (bits - 1)) - 1)
    else:
        text = field.strip(b" \0")
        if not text:
            return 0
        if text.strip(b"01234567"):
            raise BadArchive(f"invalid tar header: bad number {text[:12]!r}")
        value = int(text, 8)
    if not -_MAX < value < _MAX:
        raise BadArchive("invalid tar header: a number is out of range")
    return value


def _decimal(text: bytes) -> int:
    if not text or len(text) > 20 or text.strip(b"0123456789"):
        raise BadArchive(f"invalid PAX header: bad number {text[:20]!r}")
    return int(text)


def _seconds(text: bytes) -> int:
    """`-12.345` -> nanoseconds."""
    body = text[1:] if text[:1] == b"-" else text
    whole, _, fraction = body.partition(b".")
    if len(body) > 64:
        raise BadArchive("invalid PAX header: bad time")
    value = _decimal(whole or b"0") * 1_000_000_000
    if fraction:
        value += _decimal(fraction[:9].ljust(9, b"0"))
    return -value if text[:1] == b"-" else value


def parse_pax(data: bytes) -> dict[bytes, bytes]:
    """The records of one PAX header, `b"30 mtime=1350244992.023960108\\n"` and so on. pax(1). Raises BadArchive."""
    records: dict[bytes, bytes] = {}
    at = 0
    while at < len(data):
        space = data.find(b" ", at, at + 12)
        length = data[at:space] if space > at else b""
        if not length or length.strip(b"0123456789"):
            raise BadArchive("invalid PAX header: bad record length")
        end = at + int(length)
        key, equal, value = data[space + 1:end - 1].partition(b"=")
        if end > len(data) or end <= space + 1 or data[end - 1:end] != b"\n" or not equal or not key or b"\0" in key:
            raise BadArchive("invalid PAX header: bad record")
        if b"\0" in value and not key.startswith(XATTR):
            raise BadArchive(f"invalid PAX header: NUL in {key[:40]!r}")
        records[key] = value
        at = end
    return records


class Reader:
    """The members of one archive in order. Between two members the caller may `read` or `skip` its data, or neither.

        for entry in Reader(source):
            if entry.kind == REGULAR:
                data = reader.read(entry.size)
    """

    __slots__ = ("_numbers", "_padding", "left", "source")

    def __init__(self, source: "Source") -> None:
        self.source = source
        self.left = 0  # bytes of the current member's data not yet taken
        self._padding = 0
        self._numbers: dict[bytes, int] = {}

    def read(self, size: int) -> bytes | memoryview:
        """The next `size` bytes of the member's data (fewer never). Raises BadArchive when the archive ends before."""
        data = self.source.take(size)
        if len(data) != size or size > self.left:
            raise BadArchive("unexpected end of the archive: a member is shorter than its header says")
        self.left -= size
        return data

    def taken(self, size: int) -> None:
        """The caller took `size` bytes of the data from the source itself (copied inside the kernel)."""
        self.left -= size

    def _finish_member(self) -> None:
        rest = self.left + self._padding
        if rest and self.source.skip(rest) < self.left:
            raise BadArchive("unexpected end of the archive: a member is shorter than its header says")
        self.left = self._padding = 0

    def __iter__(self) -> Iterator[Entry]:
        while True:
            self._finish_member()
            entry = self._next()
            if entry is None:
                return
            yield entry

    def _block(self) -> bytes | None:
        block = bytes(self.source.take(BLOCK))
        if not block:
            return None
        if len(block) != BLOCK:
            raise BadArchive("unexpected EOF")
        if block[0] == 0 and block == _ZERO:
            second = bytes(self.source.take(BLOCK))
            if second and second != _ZERO[:len(second)]:
                raise BadArchive("invalid tar header: data after the end mark")
            return None
        return block

    def _next(self) -> Entry | None:
        """The next member, its extended headers folded in; None at the end."""
        pax: dict[bytes, bytes] | None = None
        long_name = long_link = None
        spent = 0
        while True:
            block = self._block()
            if block is None:
                if pax or long_name or long_link:
                    raise BadArchive("unexpected end of the archive: an extended header without its member")
                return None
            _check_sum(block)
            kind = block[156:157]
            if kind not in b"xgLK":
                break
            data = self._extended(block, spent)
            spent += len(data) + BLOCK
            if kind == b"x":
                pax = parse_pax(data)
            elif kind == b"L":
                long_name = data.split(b"\0", 1)[0]
            elif kind == b"K":
                long_link = data.split(b"\0", 1)[0]
        entry = self._member(block, kind)
        if long_name:
            entry.name = long_name
        if long_link:
            entry.link = long_link
        if pax:
            self._apply(entry, pax)
        return self._checked(entry)

    def _extended(self, block: bytes, spent: int) -> bytes:
        size = _number(block[124:136])
        if not 0 <= size <= HEADER_LIMIT - spent:
            raise BadArchive(f"invalid tar header: extended headers above {HEADER_LIMIT} bytes")
        data = bytes(self.source.take(size))
        if len(data) != size:
            raise BadArchive("unexpected end of the archive: half an extended header")
        self.source.skip(-size % BLOCK)
        return data

    def _cached(self, field: bytes) -> int:
        value = self._numbers.get(field)
        if value is None:
            value = _number(field)
            if len(self._numbers) < 4096:
                self._numbers[field] = value
        return value

    def _member(self, block: bytes, kind: bytes) -> Entry:
        entry = Entry()
        name = block[:100].split(b"\0", 1)[0]
        if block[257:263] == b"ustar\0" and block[345]:
            name = block[345:500].split(b"\0", 1)[0] + b"/" + name
        entry.name = name
        entry.kind = kind
        entry.mode = self._cached(block[100:108]) & 0o7777
        entry.uid = self._cached(block[108:116])
        entry.gid = self._cached(block[116:124])
        entry.size = _number(block[124:136])
        entry.mtime_ns = self._cached(block[136:148]) * 1_000_000_000
        entry.link = block[157:257].split(b"\0", 1)[0] if block[157] else b""
        entry.major = entry.minor = 0
        if kind in b"34":
            entry.major, entry.minor = _number(block[329:337]), _number(block[337:345])
        entry.xattrs = None
        return entry

    def _apply(self, entry: Entry, pax: dict[bytes, bytes]) -> None:
        for key, value in pax.items():
            if key == b"path":
                entry.name = value
            elif key == b"linkpath":
                entry.link = value
            elif key == b"size":
                entry.size = _decimal(value)
            elif key == b"uid":
                entry.uid = _decimal(value)
            elif key == b"gid":
                entry.gid = _decimal(value)
            elif key == b"mtime":
                entry.mtime_ns = _seconds(value)
            elif key.startswith(XATTR):
                entry.xattrs = entry.xattrs or {}
                entry.xattrs[key[len(XATTR):]] = value
            elif key.startswith(b"GNU.sparse."):
                raise Unsupported("sparse tar members are not supported")

    def _checked(self, entry: Entry) -> Entry:
        kind = entry.kind
        if kind in (b"\0", b"7"):
            kind = REGULAR
        if kind == REGULAR and entry.name.endswith(b"/"):
            kind = DIRECTORY
        if kind == b"S":
            raise Unsupported("sparse tar members are not supported")
        if kind not in b"0123456":
            raise Unsupported(f"unhandled tar header type {kind[0]}")
        entry.kind = kind
        if not (0 <= entry.uid < 0xFFFFFFFF and 0 <= entry.gid < 0xFFFFFFFF):
            raise BadArchive("invalid tar header: bad owner")
        if not 0 <= entry.size < _MAX:
            raise BadArchive("invalid tar header: bad size")
        if not -_TIME_MAX < entry.mtime_ns // 1_000_000_000 < _TIME_MAX or entry.major < 0 or entry.minor < 0:
            raise BadArchive("invalid tar header: a number is out of range")
        if not entry.name or b"\0" in entry.name or b"\0" in entry.link:
            raise BadArchive("invalid tar header: bad name")
        self.left = entry.size if kind == REGULAR else 0
        self._padding = -self.left % BLOCK
        if kind != REGULAR:
            entry.size = 0
        return entry


def _check_sum(block: bytes) -> None:
    """The header's own sum of its bytes, the sum field taken as spaces.

    adler32's low half is that sum plus one, modulo 65521, and costs a tenth of summing in Python.
    """
    field = block[148:156]
    expected = _number(field)
    plain = expected - 256 + sum(field)
    if (plain + 1) % 65521 == zlib.adler32(block) & 0xFFFF:
        return
    signed = sum(byte - 256 if byte > 127 else byte for byte in block[:148] + block[156:]) + 256
    if signed != expected:
        raise BadArchive("invalid tar header: wrong checksum")
