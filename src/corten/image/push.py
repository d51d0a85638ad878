"""Pushing: an image here goes to a name at a registry. Which registry, with whose login, is told by the engine.

An image that was pulled goes out with the very manifest and blobs it came with; what is kept uncompressed (built,
committed, loaded) is compressed once and kept for the next push; a big layer that would not shrink goes as it is,
straight from its file. Blobs the registry has are not sent.
"""

import asyncio
import os
from collections.abc import Callable, Coroutine, Sequence
from typing import Any, TypeVar

import msgspec

from corten.base.ids import short_id
from corten.image.compressible import compressible
from corten.image.content import Lease, Writer
from corten.image.flights import Flights
from corten.image.index_push import Parcel, below, parcel
from corten.image.progress import Bar, Emit, plain
from corten.image.records import Blob, Image, LayerRecord
from corten.image.store import ImageStore
from corten.oci.image_spec import (
    DOCKER_CONFIG,
    DOCKER_LAYER,
    DOCKER_LAYER_GZIP,
    DOCKER_MANIFEST,
    LAYER_COMPRESSION,
    MANIFEST_LIMIT,
    OCI_CONFIG,
    OCI_LAYER,
    OCI_LAYER_GZIP,
    OCI_MANIFEST,
    Descriptor,
    Manifest,
    parse_manifest,
)
from corten.oci.platform import Platform
from corten.oci.reference import Reference, parse
from corten.registry import blobs
from corten.registry.client import Client
from corten.registry.errors import RegistryError

_LEVEL = 1  # of isal: 670 MB/s a core, a few per cent bigger than gzip's default
_PIECE_BYTES = 4 << 20
_STREAMED_BYTES = 32 << 20  # from here on a layer is sent while it is being compressed, as much at least at a time
_T = TypeVar("_T")
_OCI_NAMES = {DOCKER_LAYER: OCI_LAYER, DOCKER_LAYER_GZIP: OCI_LAYER_GZIP}


class Pusher:
    """Pushes out of one store; shared by all pushes of a daemon, so that equal uploads and compressions are one."""

    __slots__ = ("_flights", "_store")

    def __init__(self, store: ImageStore) -> None:
        self._store = store
        self._flights = Flights()

    async def push(self, client: Client, reference: Reference, image: Image, emit: Emit,
                   platform: Platform | None = None) -> tuple[str, int]:
        """(digest, size in bytes) of the manifest or index now at `reference`, which has a tag.

        Raises RegistryError kinds, Unreachable, NoCredentials, OSError, and as index_push.parcel.
        """
        with self._store.content.lease() as lease:
            for digest in image.record.kept:
                lease.add(digest)
            found = await asyncio.to_thread(parcel, self._store.content, image, reference.familiar(), platform)
            if found:
                return await self._parcel(client, reference, image, found, emit)
        return await self._alone(client, reference, image, emit)

    async def _parcel(self, client: Client, reference: Reference, image: Image, found: Parcel, emit: Emit,
                      ) -> tuple[str, int]:
        """Blobs and documents as they came; the last document gets the tag."""
        if found.instead_of:
            emit({"progressDetail": {}, "aux": found.note()})
        turn = asyncio.Semaphore(client.settings.parallel_uploads)

        async def one(blob: Blob) -> None:
            async with turn:
                await self._deliver(client, reference, blob, short_id(blob.digest), emit)

        await _all([one(blob) for blob in found.blobs])
        *inner, top = found.documents
        for document in (*inner, top):
            data = self._store.content.read(document.digest, MANIFEST_LIMIT)
            await client.put_manifest(reference.tag if document is top else document.digest, document.media_type, data)
        self._record(image, reference, data, pulled=True)
        return top.digest, top.size

    async def _alone(self, client: Client, reference: Reference, image: Image, emit: Emit) -> tuple[str, int]:
        with self._store.content.lease() as lease:
            for digest in (image.id, image.record.manifest, *image.record.chain_ids):
                lease.add(digest)
            names = [short_id(diff_id) for diff_id in image.diff_ids]
            for at, name in enumerate(reversed(names)):
                emit(plain("Preparing" if at < client.settings.parallel_uploads else "Waiting", name))
            kept = self._kept(image, lease)
            turn = asyncio.Semaphore(client.settings.parallel_uploads)
            sent = await _all([self._layer(client, reference, image, at, kept, lease, turn, emit)
                               for at in reversed(range(len(names)))])
            layers = sent[::-1]
            data, media_type = self._manifest(image, kept, layers)
            config = kept.config if kept else Descriptor(DOCKER_CONFIG, image.id, self._store.content.size(image.id))
            await self._send(client, Blob(config.media_type, config.digest, config.size), _silent)
            await client.put_manifest(reference.tag, media_type, data)
            digest = self._record(image, reference, data, pulled=kept is not None)
        return digest, len(data)

    async def push_content(self, client: Client, target: str, top: Descriptor, emit: Emit) -> None:
        """A manifest or an index and all below it, as they lie in the content store; `target`: a tag or its digest."""
        content = self._store.content
        with content.lease() as lease:
            found = await asyncio.to_thread(below, content, top.digest, top.media_type)
            for digest in found.digests():
                lease.add(digest)
            turn = asyncio.Semaphore(client.settings.parallel_uploads)

            async def one(blob: Blob) -> None:
                async with turn:
                    await self._send(client, blob, emit, short_id(blob.digest))

            await _all([one(blob) for blob in found.blobs])
            for document in found.documents:
                data = content.read(document.digest, MANIFEST_LIMIT)
                name = target if document.digest == top.digest else document.digest
                await client.put_manifest(name, document.media_type, data)

    def _kept(self, image: Image, lease: Lease) -> Manifest | None:
        """The manifest the image was pulled with, when all it names is here."""
        record, content = image.record, self._store.content
        if not record.manifest or not content.has(record.manifest):
            return None
        manifest = parse_manifest(content.read(record.manifest, MANIFEST_LIMIT))
        for layer in (manifest.config, *manifest.layers):
            lease.add(layer.digest)
            if not content.has(layer.digest):
                return None
        return manifest

    def _manifest(self, image: Image, kept: Manifest | None, layers: list[Blob]) -> tuple[bytes, str]:
        if kept:
            return self._store.content.read(image.record.manifest, MANIFEST_LIMIT), kept.media_type
        docker = all(blob.media_type in (DOCKER_LAYER, DOCKER_LAYER_GZIP) for blob in layers)
        media_type, config_type = (DOCKER_MANIFEST, DOCKER_CONFIG) if docker else (OCI_MANIFEST, OCI_CONFIG)
        config = Descriptor(config_type, image.id, self._store.content.size(image.id))
        names = {} if docker else _OCI_NAMES  # docker's schema has no word for zstd
        described = [Descriptor(names.get(b.media_type, b.media_type), b.digest, b.size) for b in layers]
        return msgspec.json.encode(Manifest(media_type, config, described).json()), media_type

    def _record(self, image: Image, reference: Reference, data: bytes, pulled: bool) -> str:
        """Remember the digest as one of the image's names."""
        digest = self._store.content.add(data)
        if not pulled and image.record.pushed != digest:
            image.record.pushed = digest
            self._store.put_image(image.record)
        full = Reference(reference.domain, reference.path, "", digest).full()
        if self._store.get(image.id) is image and self._store.names.get(full) != image.id:
            self._store.tag(image.id, full)
        return digest

    # --- layers

    async def _layer(
        self, client: Client, reference: Reference, image: Image, at: int, kept: Manifest | None, lease: Lease,
        turn: asyncio.Semaphore, emit: Emit,
    ) -> Blob:
        """One layer at the registry; returns the blob it is there."""
        name = short_id(image.diff_ids[at])
        async with turn:
            if kept:
                found = kept.layers[at]
                blob = Blob(found.media_type, found.digest, found.size)
            else:
                layer = self._store.layers[image.record.chain_ids[at]]
                blob, sent = await self._compressed(layer, lease, client, _named(emit, name))
                if sent:
                    emit(plain("Pushed", name))
                    return blob
            await self._deliver(client, reference, blob, name, emit)
        return blob

    async def _deliver(self, client: Client, reference: Reference, blob: Blob, name: str, emit: Emit) -> None:
        """A blob to the registry, mounted where it can be, with everyone else who sends it now."""
        sources = self._sources(reference, blob.digest)

        async def work(tell: Emit) -> None:
            await self._send(client, blob, _named(tell, name), name, sources)

        await self._flights.join(f"{client.base} {client.repository} {blob.digest}", work, _named(emit, name))

    async def _send(
        self, client: Client, blob: Blob, emit: Emit, name: str = "", sources: list[str] | None = None
    ) -> None:
        """A blob to the registry, unless it has it."""
        if await client.blob_size(blob.digest) is not None:
            emit(plain("Layer already exists", name))
            return
        location: str | None = None
        for source in sources or ():
            try:
                location = await blobs.mount(client, blob.digest, source)
            except RegistryError:
                continue  # not ours to read there: upload
            if location is None:
                emit(plain(f"Mounted from {_familiar_path(client, source)}", name))
                return
            break
        bar: Callable[[int], None] = Bar(emit, "Pushing", name, blob.size)
        descriptor = self._store.content.open(blob.digest)
        try:
            await blobs.upload(client, descriptor, blob.digest, blob.size, bar, location)
        finally:
            os.close(descriptor)
        emit(plain("Pushed", name))

    def _sources(self, reference: Reference, digest: str) -> list[str]:
        """Other repositories of the same registry that may have a blob, as far as the names here tell."""
        found: list[str] = []
        for full, image_id in self._store.names.items():
            image = self._store.images[image_id]
            if full.startswith(reference.domain + "/") and self._names_blob(image, digest):
                path = parse(full).path
                if path != reference.path and path not in found:
                    found.append(path)
        return found[:1]

    def _names_blob(self, image: Image, digest: str) -> bool:
        if digest in image.record.kept or any(blob.digest == digest for blob in image.record.blobs):
            return True
        return any(self._store.layers[chain].gzip == digest for chain in image.record.chain_ids)

    async def _compressed(
        self, layer: LayerRecord, lease: Lease, client: Client, emit: Emit
    ) -> tuple[Blob, bool]:
        """The layer as it is pushed: as it came when that was compressed or cannot be, else its gzip, kept or made now.

        And whether it has been sent on the way.
        """
        sent: list[bool] = []
        own = self._store.blob_of(layer)
        if LAYER_COMPRESSION.get(own.media_type):
            lease.add(own.digest)
            return own, False
        lease.add(layer.gzip)
        if not (layer.gzip and self._store.content.has(layer.gzip)):
            if own.size >= _STREAMED_BYTES and not await asyncio.to_thread(self._compressible, own):
                return own, False

            async def work(tell: Emit) -> None:
                sent.append(await self._compress(own, client if own.size >= _STREAMED_BYTES else None, tell))

            await self._flights.join(f"gzip {own.digest}", work, emit)
            layer = self._store.layers[layer.chain_id]
        lease.add(layer.gzip)
        return Blob(DOCKER_LAYER_GZIP, layer.gzip, self._store.content.size(layer.gzip)), any(sent)

    async def _compress(self, own: Blob, client: Client | None, emit: Emit) -> bool:
        """Gzip a blob into the store, and to the registry while it is being made; whether it arrived there."""
        growth = _Growth()
        with self._store.content.writer() as writer:
            making = asyncio.create_task(asyncio.to_thread(self._gzip, own.digest, writer, growth))
            making.add_done_callback(growth.end)
            sending: asyncio.Task[None] | None = None
            try:
                if client:
                    bar = Bar(emit, "Pushing", "", own.size)
                    sending = asyncio.create_task(blobs.upload_growing(client, writer.fileno(), growth.more, bar))
                await _finished(making)
                digest = writer.commit()
                for same in [record for record in self._store.layers.values() if record.blob == own.digest]:
                    same.gzip = digest  # no await since the commit: gc finds it named
                    self._store.put_layer(same)
                growth.whole(digest, writer.offset)
                if sending:
                    await asyncio.wait([sending])  # should it have failed, the next step sends the blob as any other
                return sending is not None and not sending.cancelled() and sending.exception() is None
            finally:
                growth.stopped = True
                if sending:
                    sending.cancel()
                    await asyncio.gather(sending, return_exceptions=True)
                await asyncio.wait([making])

    def _compressible(self, blob: Blob) -> bool:
        descriptor = self._store.content.open(blob.digest)
        try:
            return compressible(descriptor, blob.size)
        finally:
            os.close(descriptor)

    def _gzip(self, digest: str, writer: Writer, growth: "_Growth") -> None:
        """On a thread."""
        from isal import isal_zlib

        packer = isal_zlib.compressobj(level=_LEVEL, wbits=31)
        source = self._store.content.open(digest)
        try:
            while (piece := os.read(source, _PIECE_BYTES)) and not growth.stopped:
                writer.write(packer.compress(piece))
                growth.grown(writer.offset)
            writer.write(packer.flush())
        finally:
            os.close(source)


class _Growth:
    """How far a file has been written by a thread, for an upload that reads along."""

    __slots__ = ("_changed", "_digest", "_failed", "_loop", "_offset", "stopped")

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._changed = asyncio.Event()
        self._digest = ""
        self._offset = 0
        self._failed = False
        self.stopped = False

    def grown(self, offset: int) -> None:
        """Called on the thread."""
        self._loop.call_soon_threadsafe(self._set, offset)

    def _set(self, offset: int) -> None:
        self._offset = max(offset, self._offset)
        self._changed.set()

    def whole(self, digest: str, offset: int) -> None:
        self._digest = digest
        self._set(offset)

    def end(self, making: "asyncio.Task[None]") -> None:
        """The thread is done; when it failed, nobody need wait."""
        self._failed = making.cancelled() or making.exception() is not None
        self._changed.set()

    async def more(self, offset: int) -> tuple[int, str]:
        """See blobs.Growth."""
        while not self._digest and self._offset - offset < _STREAMED_BYTES:
            if self._failed:
                raise asyncio.CancelledError
            self._changed.clear()
            await self._changed.wait()
        return self._offset, self._digest


async def _all(works: Sequence[Coroutine[Any, Any, _T]]) -> list[_T]:
    """Their results in order; the first failure ends the others and is raised."""
    try:
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(work) for work in works]
    except BaseExceptionGroup as failures:
        raise failures.exceptions[0] from None
    return [task.result() for task in tasks]


async def _finished(task: "asyncio.Task[None]") -> None:
    """A thread cannot be cancelled: see it through."""
    try:
        await asyncio.shield(task)
    except asyncio.CancelledError:
        await asyncio.wait([task])
        raise


def _silent(_message: dict[str, Any]) -> None:
    """For what nobody is shown."""


def _named(tell: Emit, name: str) -> Emit:
    """Equal layers have one upload and each its own line."""
    return lambda message: tell({**message, "id": name})


def _familiar_path(client: Client, source: str) -> str:
    """`library/x` -> `x` on the hub."""
    return source.removeprefix("library/") if "docker.io" in client.base else source
