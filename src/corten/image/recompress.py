"""Layers as an exporter is asked for them: gzip, zstd or plain tars, at a level of its own. Blobs into blobs.

What is made lies in the content store under the caller's lease; gzip of the usual level is remembered with its layer.
"""

import asyncio
import os
import zlib
from collections.abc import AsyncIterator
from typing import Any

from corten.base.errors import InvalidArgument, Unsupported
from corten.image.archive import inflate_into
from corten.image.content import ContentStore, Lease, Writer
from corten.image.records import Blob
from corten.image.store import ImageStore
from corten.oci.image_spec import (
    DOCKER_LAYER,
    DOCKER_LAYER_GZIP,
    LAYER_COMPRESSION,
    OCI_LAYER,
    OCI_LAYER_GZIP,
    OCI_LAYER_ZSTD,
)

KINDS = ("uncompressed", "gzip", "zstd")
_PIECE_BYTES = 4 << 20
_LEVELS = {"gzip": 9, "zstd": 22}
_USUAL_GZIP = 1  # of isal, as pushes have it
_OCI = {"uncompressed": OCI_LAYER, "gzip": OCI_LAYER_GZIP, "zstd": OCI_LAYER_ZSTD}
_DOCKER = {"uncompressed": DOCKER_LAYER, "gzip": DOCKER_LAYER_GZIP}


class Compression:
    """What layers shall be. kind "": as they are kept; force: also those that are compressed already, by others too.

    level None: the usual one. Raises InvalidArgument, Unsupported.
    """

    __slots__ = ("force", "kind", "level", "oci")

    def __init__(self, kind: str = "", level: str = "", *, force: bool = False, oci: bool = True) -> None:
        if kind == "estargz":
            raise Unsupported("compression=estargz is not done: uncompressed, gzip and zstd are")
        if kind and kind not in KINDS:
            raise InvalidArgument(f"unsupported compression type {kind}")
        if kind == "zstd" and not oci:
            raise InvalidArgument('exporter option "compression=zstd" conflicts with "oci-mediatypes=false"')
        self.kind, self.force, self.oci = kind, force, oci
        self.level = _level(kind, level)

    def media_type(self, kind: str) -> str:
        """Of a layer of a kind; docker's own words have none for zstd."""
        return _OCI[kind] if self.oci or kind == "zstd" else _DOCKER[kind]


def _level(kind: str, text: str) -> int | None:
    if not text:
        return None
    most = _LEVELS.get(kind or "gzip", 0)
    if not text.isascii() or not text.isdigit() or len(text) > 3 or int(text) > most:
        raise InvalidArgument(f"invalid compression-level {text}: {kind or 'gzip'} knows 0 to {most}")
    return int(text)


async def recompress(store: ImageStore, lease: Lease, chain: str, blob: Blob, wanted: Compression) -> Blob:
    """A layer (its chain id, its blob as the image has it) as it is wanted. Raises InvalidArgument, OSError."""
    kind = LAYER_COMPRESSION.get(blob.media_type, "") or "uncompressed"
    goal = wanted.kind or kind
    kept = kind != "uncompressed" and not wanted.force
    if kept or (kind == goal and (kind == "uncompressed" or wanted.level is None)):
        lease.add(blob.digest)
        return Blob(wanted.media_type(kind), blob.digest, blob.size)
    plain = blob.digest if kind == "uncompressed" else await _plain(store, lease, blob)
    if goal == "uncompressed":
        return Blob(wanted.media_type(goal), plain, store.content.size(plain))
    layer = store.layers[chain]
    usual = goal == "gzip" and wanted.level is None
    if usual and layer.gzip and store.content.has(layer.gzip):
        lease.add(layer.gzip)
        return Blob(wanted.media_type(goal), layer.gzip, store.content.size(layer.gzip))
    with store.content.writer() as writer:
        await asyncio.to_thread(_pack, store.content, plain, writer, _packer(goal, wanted.level))
        lease.add(writer.digest)
        digest = writer.commit()
    if usual:
        layer.gzip = digest
        store.put_layer(layer)
    return Blob(wanted.media_type(goal), digest, store.content.size(digest))


async def _plain(store: ImageStore, lease: Lease, blob: Blob) -> str:
    """The digest of the tar in a compressed blob, inflated by a confined worker."""
    async def pieces() -> AsyncIterator[bytes]:
        descriptor = store.content.open(blob.digest)
        try:
            while piece := await asyncio.to_thread(os.read, descriptor, _PIECE_BYTES):
                yield piece
        finally:
            os.close(descriptor)

    return await inflate_into(store.content, lease, pieces(), store.snapshots)


def _packer(kind: str, level: int | None) -> Any:
    """Something with `compress` and `flush`."""
    if kind == "zstd":
        import zstandard

        return zstandard.ZstdCompressor(level=level or 3).compressobj()
    if level is None:
        from isal import isal_zlib

        return isal_zlib.compressobj(level=_USUAL_GZIP, wbits=31)
    return zlib.compressobj(level, wbits=31)


def _pack(content: ContentStore, digest: str, writer: Writer, packer: Any) -> None:
    """On a thread."""
    source = content.open(digest)
    try:
        while piece := os.read(source, _PIECE_BYTES):
            writer.write(packer.compress(piece))
        writer.write(packer.flush())
    finally:
        os.close(source)
