"""The build cache elsewhere: steps of a build written where others can read them, and read back step by step.

An image manifest whose layers are the steps' and whose config holds, for each step by its vertex's digest, the image it
yielded. BuildKit's kind of config with no record in its own words: it finds nothing in it, and takes no harm.
Source: docs.docker.com/build/cache/backends; moby/buildkit cache/remotecache/v1/spec.go.
"""

import base64
import binascii
import json
import os
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Protocol

import msgspec

from corten.base.errors import Error, InvalidArgument
from corten.base.files import parse_json
from corten.image.content import Lease, Writer
from corten.image.records import Image
from corten.oci.image_spec import OCI_MANIFEST, Descriptor, chain_ids, parse_config, parse_descriptor, parse_manifest
from corten.registry import blobs
from corten.registry.client import Client

if TYPE_CHECKING:
    from corten.engine.engine import Engine

CACHE_CONFIG = "application/vnd.buildkit.cacheconfig.v0"
INLINE = "moby.buildkit.cache.v0"  # the key of an image's config that holds its own build's cache
_LIMIT_BYTES = 64 << 20
_STEPS_LIMIT = 10_000


class Place(Protocol):
    """Where blobs are: a repository, a folder of the client's."""

    async def has(self, digest: str) -> bool: ...

    async def read(self, digest: str, limit_bytes: int) -> bytes: ...

    async def fetch(self, digest: str, size: int, writer: Writer) -> None: ...

    async def write(self, digest: str, size: int, descriptor: int) -> None: ...


class Repository:
    """A repository of a registry as such a place."""

    def __init__(self, client: Client) -> None:
        self.client = client

    async def has(self, digest: str) -> bool:
        return await self.client.blob_size(digest) is not None

    async def read(self, digest: str, limit_bytes: int) -> bytes:
        return await self.client.small_blob(Descriptor("", digest, 0), limit_bytes)

    async def fetch(self, digest: str, size: int, writer: Writer) -> None:
        await blobs.fetch(self.client, digest, size, writer, lambda _: None)

    async def write(self, digest: str, size: int, descriptor: int) -> None:
        await blobs.upload(self.client, descriptor, digest, size, lambda _: None)


def steps_of(engine: "Engine", steps: Mapping[str, str], image_id: str, everything: bool) -> dict[str, Image]:
    """The steps to write down, by vertex's digest: all of a build, or those its image is made of."""
    store = engine.images.store
    wanted, at = set(), image_id
    while at and at not in wanted and (image := store.get(at)) is not None:
        wanted.add(at)
        at = image.record.parent
    found = {key: store.get(one) for key, one in steps.items() if everything or one in wanted}
    return {key: image for key, image in found.items() if image is not None}


def config_of(engine: "Engine", steps: Mapping[str, Image]) -> bytes:
    """The config: {"layers": [], "records": [], "corten": {"steps", "layers": diff id -> descriptor}}.

    A step is its image's config as it is, to the byte: the steps after it are named by its digest.
    """
    content = engine.images.store.content
    layers: dict[str, Any] = {}
    for image in steps.values():
        for diff_id, blob in zip(image.diff_ids, image.record.blobs, strict=True):
            layers[diff_id] = blob.descriptor().json()
    own = {"steps": {key: content.read(image.id).decode() for key, image in sorted(steps.items())}, "layers": layers}
    return json.dumps({"layers": [], "records": [], "corten": own}, sort_keys=True).encode()


async def write(engine: "Engine", place: Place, steps: Mapping[str, Image]) -> tuple[bytes, Descriptor]:
    """Put the blobs there; the manifest, which is for the caller to put, and its descriptor. Raises registry errors."""
    content = engine.images.store.content
    config = config_of(engine, steps)
    with content.lease() as lease:
        wanted = {blob.digest: blob for image in steps.values() for blob in image.record.blobs}
        lease.add(config_digest := content.add(config))
        manifest = msgspec.json.encode({
            "schemaVersion": 2, "mediaType": OCI_MANIFEST,
            "config": Descriptor(CACHE_CONFIG, config_digest, len(config)).json(),
            "layers": [blob.descriptor().json() for blob in wanted.values()]})
        lease.add(digest := content.add(manifest))
        for one in (*wanted, config_digest):
            await send(engine, place, one, lease)
    return manifest, Descriptor(OCI_MANIFEST, digest, len(manifest))


async def send(engine: "Engine", place: Place, digest: str, lease: Lease) -> None:
    """One blob, unless it is there."""
    content = engine.images.store.content
    lease.add(digest)
    if await place.has(digest):
        return
    descriptor = content.open(digest)
    try:
        await place.write(digest, content.size(digest), descriptor)
    finally:
        os.close(descriptor)


def inline(engine: "Engine", image: Image, steps: Mapping[str, Image]) -> Image:
    """The image with its own cache in its config: another image."""
    document = {**image.config, INLINE: base64.b64encode(config_of(engine, steps)).decode()}
    return engine.images.store.register_document(msgspec.json.encode(document), (), image.record.parent)


class Imported:
    """A cache read from a place."""

    def __init__(self, place: Place, config: bytes) -> None:
        value = parse_json(config, _LIMIT_BYTES, limit_depth=64)
        own = value.get("corten") if isinstance(value, dict) else None
        own = own if isinstance(own, dict) else {}
        self._place = place
        self._steps: dict[str, Any] = own.get("steps") or {}
        self.layers: dict[str, Any] = own.get("layers") or {}
        if not isinstance(self._steps, dict) or not isinstance(self.layers, dict) or len(self._steps) > _STEPS_LIMIT:
            raise InvalidArgument("invalid build cache")

    async def image(self, engine: "Engine", key: str) -> Image | None:
        """The image a step yielded, its layers fetched; None when the cache does not know it, or not rightly."""
        if key not in self._steps:
            return None
        store = engine.images.store
        try:
            data = str(self._steps[key]).encode()
            diff_ids = parse_config(data)["rootfs"]["diff_ids"]
            described = [parse_descriptor(self.layers.get(diff_id), "layer") for diff_id in diff_ids]
            with store.content.lease() as lease:
                lease.add(digest := store.content.add(data))
                for layer, chain in zip(described, chain_ids(diff_ids), strict=True):
                    lease.add(chain)
                    await self._fetch(engine, layer, lease)
                return await store.register_image(b"", digest, described)
        except (Error, OSError, KeyError, ValueError) as error:
            engine.log.warning("a step of an imported build cache cannot be used: %s", error)
            return None

    async def _fetch(self, engine: "Engine", layer: Descriptor, lease: Lease) -> None:
        content = engine.images.store.content
        lease.add(layer.digest)
        if not content.has(layer.digest):
            with content.writer(layer.digest, layer.size) as writer:
                await self._place.fetch(layer.digest, layer.size, writer)
                writer.commit()


async def read(place: Place, manifest: bytes) -> Imported:
    """The cache a manifest names: one of its own, or that of an image built with it inline.

    Raises NotFound, InvalidArgument, registry errors.
    """
    value = parse_json(manifest, _LIMIT_BYTES)
    described = parse_descriptor(value.get("config") if isinstance(value, dict) else None, "config")
    config = await place.read(described.digest, _LIMIT_BYTES)
    if described.media_type == CACHE_CONFIG:
        return Imported(place, config)
    document = parse_config(config)
    text = document.get(INLINE, "")
    try:
        found = Imported(place, base64.b64decode(text, validate=True) if isinstance(text, str) and text else b"{}")
    except binascii.Error:
        raise InvalidArgument("invalid inline build cache") from None
    layers = parse_manifest(manifest).layers  # as they were pushed, which is other than they are kept
    diff_ids = document["rootfs"]["diff_ids"]
    found.layers = {diff_id: layer.json() for diff_id, layer in zip(diff_ids, layers, strict=False)}
    return found


