"""Pulling: a name at a registry becomes an image here. Which registry, with whose login, is told by the engine.

Blobs come in parallel, each once however many pulls want it, and are unpacked while the rest is still coming; nothing
is an image before all of it is here and every digest was right. Manifests are judged by oci.image_spec alone.
"""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import Any

from corten.base.errors import Error, InvalidArgument, NotFound, Unsupported
from corten.base.ids import short_id
from corten.image.arrival import FOLLOWED_BYTES, Arrival, Arrivals
from corten.image.content import Lease, Writer
from corten.image.flights import Flights
from corten.image.progress import Bar, Emit, bar, headed, plain
from corten.image.records import Image
from corten.image.store import ImageStore
from corten.oci.distribution_spec import SCHEMA1_TYPES
from corten.oci.image_spec import (
    CONFIG_LIMIT,
    INDEXES,
    LAYER_COMPRESSION,
    MANIFEST_LIMIT,
    Descriptor,
    Manifest,
    chain_ids,
    parse_config,
    parse_index,
    parse_manifest,
)
from corten.oci.platform import Platform, host_platform, platform_of, runs_on, select
from corten.oci.reference import Reference
from corten.registry import blobs
from corten.registry.client import Client
from corten.registry.errors import RegistryError, Unreachable

_INDEX_DEPTH = 3


class PullAccessDenied(NotFound):
    """The registry does not say whether the repository exists."""


def translate(error: Error, reference: Reference) -> Error:
    """A registry's refusal in the words of `docker pull`."""
    if isinstance(error, RegistryError):
        if error.code == "DENIED":
            return PullAccessDenied(
                f"pull access denied for {reference.familiar_name()}, repository does not exist or may require "
                f"'docker login': {error}"
            )
        if error.code == "MANIFEST_UNKNOWN":
            return NotFound(f"manifest for {reference.familiar()} not found: {error}")
        if error.code == "NAME_UNKNOWN":
            return NotFound(f"repository {reference.familiar_name()} not found: {error}")
    return error


class Puller:
    """Pulls into one store; shared by all pulls of a daemon, so that they find each other's downloads."""

    __slots__ = ("_arrivals", "_flights", "_store")

    def __init__(self, store: ImageStore) -> None:
        self._store = store
        self._arrivals = Arrivals()
        self._flights = Flights()

    async def pull(
        self, client: Client, reference: Reference, platform: Platform | None, emit: Emit, *, named: bool = True
    ) -> tuple[Image, bool]:
        """(the image, whether anything was new). `reference` has a tag or a digest; both: the digest counts.

        `named` False: what names mean here stays as it is, and the image has none.

        Raises NotFound (no such manifest), Unauthorized, InvalidArgument (hostile or broken content), Unsupported
        (schema 1, artifacts), Unreachable, OSError (the disk). Cancelled, what came so far stays for the next try.
        """
        wanted = reference.digest or reference.tag
        top = await client.head_manifest(wanted)
        data = b""
        if top is None or not self._store.content.has(top.digest):
            data, top = await client.manifest(wanted)
        emit(headed(f"Pulling from {reference.path}", reference.familiar() if reference.digest else reference.tag))
        with self._store.content.lease() as lease:
            lease.add(top.digest)
            data = data or self._store.content.read(top.digest, MANIFEST_LIMIT)
            manifest, data = await self._resolve(client, data, top, platform or host_platform())
            names = [Reference(reference.domain, reference.path, "", top.digest).full()]
            if not reference.digest:
                names.append(reference.full())
            names = names if named else []
            known = self._store.get(manifest.config.digest)
            fresh = known is None or (named and self._store.by_name(names[-1]) is not known)
            if known is None:
                await self._fetch(client, manifest, lease, emit)
            image = await self._store.register_image(data, manifest.config.digest, manifest.layers, names)
            self._store.content.settle([manifest.config.digest, *(layer.digest for layer in manifest.layers)])
        emit(plain(f"Digest: {top.digest}"))
        return image, fresh

    async def _resolve(
        self, client: Client, data: bytes, described: Descriptor, platform: Platform
    ) -> tuple[Manifest, bytes]:
        """The image manifest and its bytes, through the index when there is one."""
        for _ in range(_INDEX_DEPTH):
            if described.media_type in SCHEMA1_TYPES:
                raise Unsupported("schema 1 image manifests are no longer supported: re-push the image as schema 2")
            if not _is_index(data, described.media_type):
                manifest = parse_manifest(data, described.media_type)
                _check_layers(manifest)
                return manifest, data
            described = select(parse_index(data, described.media_type), platform)
            if self._store.content.has(described.digest):
                return parse_manifest(data := self._store.content.read(described.digest, MANIFEST_LIMIT)), data
            data, served = await client.manifest(described.digest)
            if len(data) != described.size:
                raise InvalidArgument(f"manifest {described.digest} has {len(data)} bytes, not {described.size}")
            described = Descriptor(served.media_type or described.media_type, described.digest, described.size)
        raise InvalidArgument("image index nested too deep")

    async def _fetch(self, client: Client, manifest: Manifest, lease: Lease, emit: Emit) -> None:
        """Config and layers into the store, layers unpacked as they come."""
        lease.add(manifest.config.digest)
        await self._blob(client, manifest.config, _silent, CONFIG_LIMIT)
        config = parse_config(self._store.content.read(manifest.config.digest, CONFIG_LIMIT))
        _check_config(config, manifest)
        diff_ids: list[str] = config["rootfs"]["diff_ids"]
        chain = chain_ids(diff_ids)
        have = 0
        while have < len(chain) and chain[have] in self._store.layers:
            have += 1
        for chain_id in chain[:have]:
            lease.add(chain_id)
        for at, layer in enumerate(manifest.layers):
            lease.add(layer.digest)
            emit(plain("Already exists" if at < have else "Pulling fs layer", short_id(layer.digest)))
        async with self._downloads(client, manifest.layers[have:], emit) as tasks:
            await self._unpack(manifest.layers, diff_ids, have, tasks, lease, emit)
        for layer in manifest.layers[:have]:  # unpacked long ago from another blob: kept so that a push has its bytes
            if not self._store.content.has(layer.digest):
                await self._blob(client, layer, _silent)

    @asynccontextmanager
    async def _downloads(
        self, client: Client, layers: list[Descriptor], emit: Emit
    ) -> AsyncIterator[list[asyncio.Task[None]]]:
        """A task a layer, a few at a time; none outlives the block."""
        turn = asyncio.Semaphore(client.settings.parallel_downloads)

        async def one(layer: Descriptor) -> None:
            async with turn:
                await self._blob(client, layer, emit)

        tasks = [asyncio.create_task(one(layer)) for layer in layers]
        try:
            yield tasks
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def _unpack(
        self, layers: list[Descriptor], diff_ids: list[str], have: int, tasks: list[asyncio.Task[None]],
        lease: Lease, emit: Emit,
    ) -> None:
        """Unpack the lower part that is here, again and again, until all is; a failed download ends it at once.

        A big layer that is next is unpacked while it comes; should that fail with its download, once more afterwards.
        """
        digests = [layer.digest for layer in layers]
        done = followed = have
        while done < len(layers):
            arriving = await self._next(layers[done], tasks, done - have, followable=followed <= done)
            ready = done + 1
            while not arriving and ready < len(layers) and tasks[ready - have].done():
                ready += 1
            followed = done + 1
            if not arriving:
                _extracting(layers[done:ready], emit)
            try:
                await self._store.ensure_layers(diff_ids[:ready], digests[:ready], lease, arriving)
            except InvalidArgument:
                if not arriving or not arriving.failed:
                    raise
                continue
            if arriving:  # told when its download has been: people read these lines in order
                _extracting(layers[done:ready], emit)
            for layer in layers[done:ready]:
                emit(plain("Pull complete", short_id(layer.digest)))
            done = ready
        await asyncio.gather(*tasks)

    async def _next(
        self, layer: Descriptor, tasks: list[asyncio.Task[None]], at: int, followable: bool
    ) -> Arrival | None:
        """Wait until the layer of `tasks[at]` can be unpacked: None when it is here, else its download.

        Raises what any of the downloads raised.
        """
        following: asyncio.Task[Arrival] | None = None
        if followable and layer.size >= FOLLOWED_BYTES:
            following = asyncio.create_task(self._arrivals.followable(layer.digest))
        try:
            while True:
                for task in tasks:
                    if task.done():
                        task.result()
                if tasks[at].done():
                    return None
                if following and following.done():
                    return following.result()
                running: list[asyncio.Task[Any]] = [task for task in tasks if not task.done()]  # any may fail first
                if following:
                    running.append(following)
                await asyncio.wait(running, return_when=asyncio.FIRST_COMPLETED)
        finally:
            if following:
                following.cancel()

    async def _blob(self, client: Client, layer: Descriptor, emit: Emit, limit_bytes: int = 1 << 44) -> None:
        """One blob into the store, with everyone else who wants it now."""
        if layer.size > limit_bytes:
            raise InvalidArgument(f"blob {layer.digest} of {layer.size} bytes is longer than {limit_bytes}")

        async def work(tell: Emit) -> None:
            await self._download(client, layer, tell)

        for _ in range(2):
            if self._store.content.has(layer.digest):
                break
            joined: list[bool] = []
            try:
                await self._flights.join(f"{layer.digest} {layer.size}", _noting(work, joined), emit)
                break
            except (RegistryError, Unreachable):
                if joined:  # our own registry or login failed, not another's
                    raise
        emit(plain("Download complete", short_id(layer.digest)))

    async def _download(self, client: Client, layer: Descriptor, emit: Emit) -> None:
        for last in (False, True):
            writer = await self._writer(layer)
            with writer:
                if last:
                    writer.restart()
                continued = writer.offset > 0
                if await self._arrive(client, layer, writer, emit):
                    return
                if last or not continued:  # a bad beginning from an earlier try gets one more
                    raise InvalidArgument(f"filesystem layer verification failed for digest {layer.digest}")

    async def _arrive(self, client: Client, layer: Descriptor, writer: Writer, emit: Emit) -> bool:
        """Fill the writer, for all to follow; whether it became the blob."""
        name = short_id(layer.digest)
        shown = Bar(emit, "Downloading", name, layer.size)
        arrival = self._arrivals.begin(layer.digest, writer, layer.size)

        def moved(offset: int) -> None:
            shown(offset)
            self._arrivals.grown(arrival)

        whole = False
        try:
            await blobs.fetch(client, layer.digest, layer.size, writer, moved)
            emit(plain("Verifying Checksum", name))
            with suppress(InvalidArgument):  # another digest
                writer.commit()
                whole = True
        finally:
            self._arrivals.end(layer.digest, whole=whole)
        return whole

    async def _writer(self, layer: Descriptor) -> Writer:
        """Opened on a thread: what an earlier try left is hashed again."""
        opening = asyncio.create_task(asyncio.to_thread(self._store.content.writer, layer.digest, layer.size, True))
        try:
            return await asyncio.shield(opening)
        except asyncio.CancelledError:
            opening.add_done_callback(_close)
            raise


def _close(opening: "asyncio.Task[Writer]") -> None:
    """A writer nobody waits for any more."""
    if not opening.cancelled() and opening.exception() is None:
        opening.result().close()


def _extracting(layers: list[Descriptor], emit: Emit) -> None:
    for layer in layers:
        emit(bar("Extracting", short_id(layer.digest), layer.size, layer.size))


def _silent(_message: dict[str, Any]) -> None:
    """For blobs nobody is shown."""


def _noting(work: Any, began: list[bool]) -> Any:
    async def noted(emit: Emit) -> None:
        began.append(True)
        await work(emit)

    return noted


def _is_index(data: bytes, media_type: str) -> bool:
    """Whether to read it as an index: by what it was served as, else by trying (the readers refuse the other kind)."""
    if media_type:
        return media_type in INDEXES
    try:
        parse_index(data)
    except InvalidArgument:
        return False
    return True


def _check_layers(manifest: Manifest) -> None:
    for layer in manifest.layers:
        if layer.media_type not in LAYER_COMPRESSION:
            raise Unsupported(f"unsupported layer media type {layer.media_type!r}")


def _check_config(config: dict[str, Any], manifest: Manifest) -> None:
    """What can be known to be wrong before a layer is fetched."""
    if len(config["rootfs"]["diff_ids"]) != len(manifest.layers):
        raise InvalidArgument(
            f"invalid image: {len(manifest.layers)} layers, its config says {len(config['rootfs']['diff_ids'])}"
        )
    os_name = config.get("os") or "linux"
    if os_name != "linux":
        raise Unsupported(f'image operating system "{os_name}" cannot be used on this platform')


def mismatch(image: Image, reference: Reference, platform: Platform) -> str:
    """Docker's warning when an image is not of the platform asked for, "" when it is."""
    own = platform_of(image.config)
    if own is None or own in runs_on(platform):
        return ""
    return (
        f"image with reference {reference.familiar()} was found but its platform ({own}) does not match the "
        f"specified platform ({platform})"
    )
