"""Standard input of a build: a tar, packed or not, or the text of a Dockerfile."""

import os
from collections.abc import Iterator

_TAR_MAGIC = 257
_PACKED = (b"\x1f\x8b", b"BZh", b"\xfd7zXZ", b"\x28\xb5\x2f\xfd")


def is_archive(head: bytes) -> bool:
    """Whether this is how a tar begins."""
    return head.startswith(_PACKED) or head[_TAR_MAGIC:_TAR_MAGIC + 5] == b"ustar"


def stdin_head() -> bytes:
    """As much as `is_archive` needs, less where the input is shorter."""
    head = b""
    while len(head) < 512 and (piece := os.read(0, 65536)):
        head += piece
    return head


def stdin_pieces(head: bytes) -> Iterator[bytes]:
    """`head`, which was read already, and all the rest."""
    if head:
        yield head
    while piece := os.read(0, 1 << 20):
        yield piece
