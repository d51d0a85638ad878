"""Writing tar: one header at a time, ustar where it fits, PAX records for what does not. Pure; standard library only.

What docker's layers look like: PAX, whole seconds, no owner names. Walking a tree is pack.py's.
"""

from corten.image.tar_reader import BLOCK, CHAR, DIRECTORY, REGULAR, SYMLINK

END = bytes(2 * BLOCK)
_OCTAL_7 = 0o7777777
_OCTAL_11 = 0o77777777777


def padding(size: int) -> bytes:
    """The zeros after `size` bytes of data."""
    return bytes(-size % BLOCK)


def _pax_record(key: bytes, value: bytes) -> bytes:
    body = len(key) + len(value) + 3  # space, equal sign, newline
    length = body + len(str(body))
    if len(str(length)) != len(str(body)):
        length += 1
    return b"%d %s=%s\n" % (length, key, value)


def _block(name: bytes, kind: bytes, mode: int, uid: int, gid: int, size: int, mtime: int, link: bytes,
           major: int, minor: int, prefix: bytes) -> bytes:
    device = b"%07o\0%07o\0" % (major, minor) if kind in (CHAR, b"4") else bytes(16)
    head = b"%s%07o\0%07o\0%07o\0%011o\0%011o\0" % (name.ljust(100, b"\0"), mode, uid, gid, size, mtime)
    tail = b"%s%sustar\x0000%s%s%s" % (kind, link.ljust(100, b"\0"), bytes(64), device, prefix.ljust(155, b"\0"))
    checksum = sum(head) + sum(tail) + 256
    return b"%s%06o\0 %s%s" % (head, checksum, tail, bytes(12))


def _split(name: bytes) -> tuple[bytes, bytes] | None:
    """ustar's prefix and name, or None when the name fits neither."""
    if len(name) <= 100:
        return b"", name
    cut = name.rfind(b"/", 0, 156)
    if cut <= 0 or not 0 < len(name) - cut - 1 <= 100:
        return None
    return name[:cut], name[cut + 1:]


def header(name: bytes, kind: bytes, mode: int = 0o644, uid: int = 0, gid: int = 0, size: int = 0, mtime_ns: int = 0,
           link: bytes = b"", major: int = 0, minor: int = 0, xattrs: dict[bytes, bytes] | None = None) -> bytes:
    """The header blocks of one member; its data and `padding(size)` follow. A folder's name ends with a slash here.

    `kind` is one of tar_reader's; times are cut to whole seconds, as docker does.
    """
    if kind == DIRECTORY and not name.endswith(b"/"):
        name += b"/"
    mtime = max(mtime_ns // 1_000_000_000, 0)
    records: list[bytes] = []
    split = _split(name) if name.isascii() else None
    if split is None:
        records.append(_pax_record(b"path", name))
        split = b"", name[:100]
    if len(link) > 100 or not link.isascii():
        records.append(_pax_record(b"linkpath", link))
        link = link[:100]
    for key, value, limit in ((b"size", size, _OCTAL_11), (b"uid", uid, _OCTAL_7), (b"gid", gid, _OCTAL_7),
                              (b"mtime", mtime, _OCTAL_11)):
        if value > limit:
            records.append(_pax_record(key, b"%d" % value))
    for xattr in sorted(xattrs or ()):
        records.append(_pax_record(b"SCHILY.xattr." + xattr, (xattrs or {})[xattr]))
    block = _block(split[1], kind, mode, uid if uid <= _OCTAL_7 else 0, gid if gid <= _OCTAL_7 else 0,
                   size if size <= _OCTAL_11 else 0, mtime if mtime <= _OCTAL_11 else 0, link, major, minor, split[0])
    if not records:
        return block
    data = b"".join(records)
    base = name.rstrip(b"/").rpartition(b"/")[2]
    pax_name = b"PaxHeaders.0/" + (base if base.isascii() else b"entry")[:80]
    return _block(pax_name, b"x", 0, 0, 0, len(data), 0, b"", 0, 0, b"") + data + padding(len(data)) + block


def member(name: str, data: bytes, mode: int = 0o644, mtime_ns: int = 0) -> bytes:
    """A whole small file as a member."""
    return header(name.encode(), REGULAR, mode, size=len(data), mtime_ns=mtime_ns) + data + padding(len(data))


def symlink_member(name: str, target: str) -> bytes:
    """A symbolic link as a member."""
    return header(name.encode(), SYMLINK, 0o777, link=target.encode())
