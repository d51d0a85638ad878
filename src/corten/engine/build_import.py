"""Images out of somebody's content store, blob by blob: what a build names as `oci-layout://`.

The blobs are checked against their digests on the way in, and unpacked like any other image's.
"""

from collections.abc import AsyncIterator
from typing import TYPE_CHECKING, Protocol

from corten.base.files import parse_json
from corten.image.content import Lease
from corten.oci.image_spec import (
    CONFIG_LIMIT,
    MANIFEST_LIMIT,
    Descriptor,
    parse_config,
    parse_index,
    parse_manifest,
)
from corten.oci.platform import host_platform, select

if TYPE_CHECKING:
    from corten.engine.engine import Engine


class Source(Protocol):
    """Where blobs come from."""

    async def read(self, digest: str, limit_bytes: int) -> bytes: ...

    def pieces(self, digest: str, limit_bytes: int) -> AsyncIterator[bytes]: ...


async def import_layout(engine: "Engine", source: Source, digest: str) -> str:
    """The id of the image whose manifest (or index) is `digest`. Raises NotFound, InvalidArgument, Unsupported."""
    store = engine.images.store
    data = await source.read(digest, MANIFEST_LIMIT)
    value = parse_json(data, MANIFEST_LIMIT)
    if isinstance(value, dict) and "manifests" in value:
        chosen = select(parse_index(data), host_platform())
        data = await source.read(chosen.digest, MANIFEST_LIMIT)
    manifest = parse_manifest(data)
    with store.content.lease() as lease:
        config = await source.read(manifest.config.digest, CONFIG_LIMIT)
        parse_config(config)
        lease.add(store.content.add(config))
        for layer in manifest.layers:
            await _fetch(engine, source, layer, lease)
        image = await store.register_image(data, manifest.config.digest, manifest.layers, [])
    return image.id


async def _fetch(engine: "Engine", source: Source, layer: Descriptor, lease: Lease) -> None:
    content = engine.images.store.content
    lease.add(layer.digest)
    if content.has(layer.digest):
        return
    with content.writer(layer.digest, layer.size) as writer:
        async for piece in source.pieces(layer.digest, layer.size):
            writer.write(piece)
        writer.commit()
