"""The images on this machine: names, records, layers, and how they come to be.

    store = ImageStore(layout, database); store.start()
    with store.content.lease() as lease:
        ... blobs into store.content, each digest added to the lease before it is asked for ...
        await store.ensure_layers(diff_ids[:n], digests[:n], lease)     # optional: unpack while more is downloaded
        image = await store.register_image(manifest_bytes, config_digest, layers, ["docker.io/library/busybox:latest"])

`register_image` unpacks what is missing and writes everything down in one transaction: an image is here whole, or not.
Everything but unpacking is synchronous on the loop, so nothing comes between a look and a change. Which names and
images may go is decided by engine/images.py; what then is swept from the disk, by gc.py.
"""

import asyncio
from collections.abc import Iterable, Sequence
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Any, Protocol

import msgspec

from corten.base.errors import InvalidArgument, NotFound
from corten.base.paths import Layout
from corten.base.units import now_ns
from corten.image import gc, unpack
from corten.image.arrival import Arrival
from corten.image.content import ContentStore, Lease, on_disk
from corten.image.driver import choose
from corten.image.records import Blob, Image, ImageRecord, LayerRecord, NameRecord
from corten.image.snapshot import Snapshots
from corten.oci import reference
from corten.oci.image_spec import Descriptor, chain_ids, parse_config

if TYPE_CHECKING:
    from corten.image.ahead import Ahead

_DOWNLOADS_KEPT_S = 7 * 86400.0
_encode = msgspec.json.encode


class Table(Protocol):
    """The part of engine/db.py the store needs; it is given one."""

    def transaction(self) -> AbstractContextManager[None]: ...

    def put(self, table: str, key: str, record_json: bytes, name: str | None = None) -> None: ...

    def delete(self, table: str, *keys: str) -> None: ...

    def all(self, table: str) -> list[tuple[str, bytes]]: ...


def _blobs_of(image: Image) -> set[str]:
    record = image.record
    found = {record.id, record.manifest, record.pushed, *(blob.digest for blob in record.blobs), *record.kept}
    return {digest for digest in found if digest}


class ImageStore:
    """One daemon's images. `images` by id, `names` (full reference -> id), `layers` by chain id: read, do not write."""

    def __init__(self, layout: Layout, table: Table, storage_driver: str = "") -> None:
        """`storage_driver`: what the operator asks for, "" for what works. Raises as driver.choose."""
        self.content = ContentStore(layout.content)
        self.snapshots = Snapshots(layout, choose(layout.data_root, layout.snapshots, storage_driver))
        self.images: dict[str, Image] = {}
        self.names: dict[str, str] = {}
        self.layers: dict[str, LayerRecord] = {}
        self._table = table
        self._unpacking: dict[str, asyncio.Future[None]] = {}

    def start(self) -> None:
        """Make the folders, read the records, clear away what a killed daemon left. Once, before anything else."""
        self.content.make()
        self.snapshots.make()
        for key, data in self._table.all("layer"):
            self.layers[key] = msgspec.json.decode(data, type=LayerRecord)
        for _, data in self._table.all("image_record"):
            record = msgspec.json.decode(data, type=ImageRecord)
            try:
                config = parse_config(self.content.read(record.id))
                self._keep(record, config)
            except (NotFound, InvalidArgument, KeyError):
                self._table.delete("image_record", record.id)  # somebody took its blobs away: it is no image any more
        for name, data in self._table.all("image"):
            image_id = msgspec.json.decode(data, type=NameRecord).id
            if image_id in self.images:
                self.names[name] = image_id
            else:
                self._table.delete("image", name)
        for image in self.images.values():
            self._refresh(image)
        gc.forget_downloads(self, _DOWNLOADS_KEPT_S)
        self.collect()
        self.content.settle([digest for digest in self.content.unfinished() if self.content.has(digest)])

    def _keep(self, record: ImageRecord, config: dict[str, Any]) -> Image:
        layers = [self.layers[chain] for chain in record.chain_ids]
        image = Image(record, config, [layer.snapshot for layer in layers], sum(layer.size for layer in layers))
        self.images[record.id] = image
        return image

    # --- looking up

    def get(self, image_id: str) -> Image | None:
        """By full id."""
        return self.images.get(image_id)

    def by_name(self, full: str) -> Image | None:
        """By full reference with tag or digest (`docker.io/library/busybox:latest`)."""
        image_id = self.names.get(full)
        return self.images.get(image_id) if image_id else None

    def by_prefix(self, digits: str) -> list[Image]:
        """Those whose id begins with these hexadecimal digits."""
        return [image for image_id, image in self.images.items() if image_id.startswith(digits, 7)]

    def names_of(self, image_id: str) -> list[str]:
        """The full references of an image, sorted."""
        return sorted(name for name, owner in self.names.items() if owner == image_id)

    def children(self, image_id: str) -> list[Image]:
        """Images built on this one, here."""
        return [image for image in self.images.values() if image.record.parent == image_id]

    # --- coming to be

    async def register_image(self, manifest: bytes, config_digest: str, layers: Sequence[Descriptor],
                             names: Iterable[str] = (), among: str = "", ahead: "Ahead | None" = None) -> Image:
        """An image whose blobs are all in `content`: unpack what is missing, write it down, give it its names.

        `manifest`: the exact bytes it was pulled with (b"" when there are none); `layers` as its manifest names them,
        bottom first; `names`: full references; `among`: see ImageRecord; `ahead`: layers that are unpacked already.

        Raises InvalidArgument (config, layers, diff ids), OSError (the disk).
        """
        with self.content.lease() as lease:
            for digest in (config_digest, *(layer.digest for layer in layers)):
                lease.add(digest)
            config = parse_config(self.content.read(config_digest))
            diff_ids = config["rootfs"]["diff_ids"]
            if len(diff_ids) != len(layers):
                raise InvalidArgument(f"invalid image: {len(layers)} layers, its config says {len(diff_ids)}")
            await self.ensure_layers(diff_ids, [layer.digest for layer in layers], lease, ahead=ahead)
            blobs = [Blob(layer.media_type, layer.digest, layer.size) for layer in layers]
            manifest_digest = self.content.add(manifest) if manifest else ""
            return self.register(config_digest, config, blobs, names, manifest_digest, among=among)

    def register(self, config_digest: str, config: dict[str, Any], blobs: list[Blob], names: Iterable[str] = (),
                 manifest: str = "", parent: str = "", among: str = "") -> Image:
        """Write down an image whose config blob and unpacked layers are here (under the caller's lease)."""
        chain = chain_ids(config["rootfs"]["diff_ids"])
        old = self.images.get(config_digest)
        record = ImageRecord(config_digest, chain, blobs, manifest, parent=parent, added_ns=now_ns(), among=among)
        if old is not None:
            record = old.record
            record.manifest = record.manifest or manifest
            if manifest and record.manifest == manifest:
                record.blobs = blobs
            record.parent = record.parent or parent
        with self._table.transaction():
            self._table.put("image_record", record.id, _encode(record))
            for name in names:
                self._table.put("image", name, _encode(NameRecord(record.id)))
        image = old or self._keep(record, config)
        for name in names:
            self._point(name, record.id)
        self._refresh(image)
        return image

    def register_document(self, document: bytes, names: Iterable[str] = (), parent: str = "") -> Image:
        """An image from a new config document whose layers are all here (a build's or a commit's; hold a lease).

        Raises InvalidArgument when one of its layers is not.
        """
        config = parse_config(document)
        blobs = []
        for chain in chain_ids(config["rootfs"]["diff_ids"]):
            layer = self.layers.get(chain)
            if layer is None:
                raise InvalidArgument(f"layer {chain} is not here")
            blobs.append(self.blob_of(layer))
        return self.register(self.content.add(document), config, blobs, names, parent=parent)

    def blob_of(self, layer: LayerRecord) -> Blob:
        """A layer's tar as it came in, with the media type its bytes have."""
        return Blob(unpack.media_type_of(self.content, layer.blob), layer.blob, self.content.size(layer.blob))

    async def ensure_layers(self, diff_ids: Sequence[str], digests: Sequence[str], lease: Lease,
                            arriving: Arrival | None = None, ahead: "Ahead | None" = None) -> None:
        """Unpack the layers of a chain (or of its lower part) that are not here yet, each once whoever asks.

        `digests`: their blobs, in `content`; the last may be `arriving` still. Raises InvalidArgument, OSError; what
        was fine stays leased.
        """
        chain = chain_ids(list(diff_ids))
        for chain_id in chain:
            lease.add(chain_id)
        while missing := [at for at, chain_id in enumerate(chain) if chain_id not in self.layers]:
            others = [self._unpacking[chain[at]] for at in missing if chain[at] in self._unpacking]
            if others:
                await asyncio.wait(others)
                continue
            done = asyncio.get_running_loop().create_future()
            self._unpacking.update((chain[at], done) for at in missing)
            try:
                await self._unpack(chain, diff_ids, digests, missing, arriving, ahead)
            finally:
                for at in missing:
                    del self._unpacking[chain[at]]
                done.set_result(None)

    async def _unpack(self, chain: list[str], diff_ids: Sequence[str], digests: Sequence[str],
                      missing: list[int], arriving: Arrival | None, ahead: "Ahead | None") -> None:
        last = len(chain) - 1
        staging = self.snapshots.stage()
        made = {at: task for at in missing if ahead and (task := ahead.take(digests[at]))}
        try:
            wanted = [at for at in missing if at not in made]
            jobs = [unpack.Job(self.content, digests[at], diff_ids[at], arriving if at == last else None)
                    for at in wanted]
            if self.snapshots.copies:
                below = [self.layers[chain_id].snapshot for chain_id in chain[:missing[0]]]
                found = await unpack.unpack_onto(self.content, staging, jobs, self.snapshots.whole(below))
            else:
                found = await unpack.unpack(self.content, staging, jobs)
            layers = dict(zip(wanted, found, strict=True))
            for at, task in made.items():
                layers[at] = unpack.prove(await task, digests[at], diff_ids[at])
            for at in missing:
                self.adopt_layer(chain, at, layers[at], digests[at])
        finally:
            self.snapshots.discard(staging)

    def adopt_layer(self, chain: list[str], at: int, layer: unpack.Unpacked, blob: str) -> LayerRecord:
        """Make an unpacked layer the `at`-th of a chain whose lower ones are here."""
        lowers = [self.snapshots.path(self.layers[below].snapshot) for below in reversed(chain[:at])]
        unpack.finish(layer, lowers)
        record = LayerRecord(chain[at], layer.diff_id, self.snapshots.adopt(layer.staged), layer.size, blob,
                             layer.disk)
        self.put_layer(record)
        return record

    def put_layer(self, record: LayerRecord) -> None:
        """Write a layer down."""
        self._table.put("layer", record.chain_id, _encode(record))
        self.layers[record.chain_id] = record

    def put_image(self, record: ImageRecord) -> None:
        """Write an image's changed record down."""
        self._table.put("image_record", record.id, _encode(record))

    def keep(self, image: Image, digests: list[str]) -> None:
        """Let an image have these blobs besides its own: an index of several platforms and all below it."""
        image.record.kept = digests
        self.put_image(image.record)

    # --- names

    def tag(self, image_id: str, full: str) -> None:
        """Let a full reference mean this image, whatever it meant before."""
        image = self.images[image_id]
        if "@" not in full:
            image.record.tagged_ns = now_ns()
        with self._table.transaction():
            self._table.put("image", full, _encode(NameRecord(image_id)))
            self.put_image(image.record)
        self._point(full, image_id)
        self._refresh(image)

    def untag(self, full: str) -> None:
        """Forget a name."""
        image_id = self.names.pop(full)
        self._table.delete("image", full)
        self._refresh(self.images[image_id])

    def _point(self, full: str, image_id: str) -> None:
        before = self.names.get(full)
        self.names[full] = image_id
        if before is not None and before != image_id:
            self._refresh(self.images[before])

    def _refresh(self, image: Image) -> None:
        parsed = [reference.parse(name) for name in self.names_of(image.id)]
        image.names = [name.familiar() for name in parsed if not name.digest]
        image.digests = [name.familiar() for name in parsed if name.digest]

    # --- going away

    def forget(self, image_id: str) -> None:
        """Drop an image's record and all its names; `collect` then frees what only it used."""
        with self._table.transaction():
            for name in self.names_of(image_id):
                self._table.delete("image", name)
                del self.names[name]
            self._table.delete("image_record", image_id)
        self.images.pop(image_id, None)

    def drop_layers(self, chain_ids: list[str]) -> None:
        """Forget the records of layers; their folders are gc's affair."""
        self._table.delete("layer", *chain_ids)
        for chain_id in chain_ids:
            del self.layers[chain_id]

    def usage_bytes(self) -> int:
        """What all layers and all blobs take on the disk, half-fetched ones too."""
        return self.content.disk_bytes() + sum(layer.disk for layer in self.layers.values())

    def disk_bytes(self, image: Image, shared: bool = False) -> int:
        """What an image's layers and blobs take on the disk, those of its other platforms too.

        `shared`: only what other images have as well.
        """
        own = [image, *(other for other in self.images.values() if other.record.among == image.id and not other.names)]
        chains, blobs = {chain for one in own for chain in one.record.chain_ids}, _blobs_of(image)
        if shared:
            others = [other for other in self.images.values() if other not in own]
            chains &= {chain for other in others for chain in other.record.chain_ids}
            blobs &= {digest for other in others for digest in _blobs_of(other)}
        return (sum(self.layers[chain].disk for chain in chains)
                + sum(on_disk(self.content.size(digest)) for digest in blobs if self.content.has(digest)))

    def collect(self) -> gc.Swept:
        """Free what no image, container or lease needs. Cheap; call it after anything was forgotten."""
        return gc.collect(self)
