"""`docker load`: images out of a docker-archive (manifest.json) or an OCI layout (index.json) in a tar.

The oldest form (`repositories` and `<id>/json`, docker before 1.10) is read by legacy.py.
"""

import asyncio
import json
from collections.abc import AsyncIterable, AsyncIterator
from typing import Any

from corten.base.errors import InvalidArgument, NotFound, Unsupported
from corten.base.files import parse_json
from corten.base.ids import short_id
from corten.image import legacy, platforms, unpack
from corten.image.ahead import Ahead
from corten.image.archive import Contents, inflate_into, ingest
from corten.image.content import Lease
from corten.image.progress import Emit, bar
from corten.image.records import Image
from corten.image.store import ImageStore
from corten.oci import reference
from corten.oci.digest import digest_of
from corten.oci.image_spec import (
    ANNOTATION_FULL_NAME,
    ANNOTATION_REF_NAME,
    DOCKER_LAYER,
    LAYERS_LIMIT,
    Descriptor,
    chain_ids,
    parse_config,
    parse_index,
    states_no_version,
)
from corten.oci.platform import Platform, host_platform, platform_of, runs_on

_IMAGES_LIMIT = 1000


class Loaded:
    """One image that came in: `names` it was given (full references), `replaced`: name -> id it meant before."""

    __slots__ = ("image", "names", "replaced")

    def __init__(self, image: Image, names: list[str], replaced: dict[str, str]) -> None:
        self.image, self.names, self.replaced = image, names, replaced


async def load(store: ImageStore, body: AsyncIterable[bytes], platform: Platform | None = None,
               emit: Emit | None = None) -> list[Loaded]:
    """Load every image of an archive (of `platform` only); all its blobs are dropped again when it proves bad.

    Without `platform` an index is kept whole, and its name means the image for this machine (platforms.py).

    `emit` is told of the layers that are unpacked.

    Raises InvalidArgument (malformed, hostile), Unsupported, NotFound (no such platform in it), OSError.
    """
    try:
        with store.content.lease() as lease:
            ahead = Ahead(store)
            staging = store.snapshots.stage()
            try:
                contents = await ingest(store.content, lease, body, staging, ahead)
                return await _Loading(store, contents, lease, ahead, platform, emit or _silent).run()
            finally:
                await ahead.close()
                store.snapshots.discard(staging)
    finally:
        store.collect()  # what the archive brought besides, or all of it


def _silent(_: dict[str, Any]) -> None:
    pass


class _Item:
    """One entry of a manifest.json."""

    __slots__ = ("config", "document", "layers", "names", "platform")

    def __init__(self, config: str, document: dict[str, Any], layers: list[Descriptor], names: list[str]) -> None:
        self.config, self.document, self.layers, self.names = config, document, layers, names
        self.platform = platform_of(document)


class _Loading:
    """One archive whose bytes are all here."""

    __slots__ = ("_ahead", "_contents", "_emit", "_images", "_lease", "_platform", "_store")

    def __init__(self, store: ImageStore, contents: Contents, lease: Lease, ahead: Ahead,
                 platform: Platform | None, emit: Emit) -> None:
        self._store, self._contents, self._lease, self._ahead = store, contents, lease, ahead
        self._platform, self._emit = platform, emit
        self._images: dict[str, list[platforms.PlatformImage]] = {}  # by the digest of what leads to them

    async def run(self) -> list[Loaded]:
        """Every image of it."""
        documents = self._contents.documents
        entries = parse_index(documents["index.json"]) if "index.json" in documents else []
        for entry in entries:
            if entry.digest not in self._images:  # on a thread: there may be megabytes of JSON
                self._images[entry.digest] = await asyncio.to_thread(platforms.images_of, self._store.content, entry)
        several = any(len(images) > 1 for images in self._images.values())  # more than a manifest.json can say
        if "manifest.json" in documents and not several:
            loaded = await self._docker_archive()
            if self._platform is None or loaded or not entries:
                return self._some(loaded)
        if "index.json" in documents:
            return self._some([found for entry in entries if (found := await self._entry(entry))])
        if "repositories" in documents:
            return self._some(await self._old_archive())
        raise InvalidArgument("invalid archive: does not contain a manifest.json")

    def _some(self, loaded: list[Loaded]) -> list[Loaded]:
        if self._platform is not None and not loaded:
            raise NotFound(f"no image in the archive provides the specified platform ({self._platform})")
        return loaded

    # --- OCI layouts

    async def _entry(self, entry: Descriptor) -> Loaded | None:
        """One entry of index.json: a manifest, or an index, which is kept whole. None for what is no image."""
        images = self._images[entry.digest]
        found: platforms.PlatformImage | None = None
        if images:
            found = platforms.choose(images, self._platform) if self._platform else platforms.main_of(images)
        if found is None:
            failure = self._refusal(entry)
            if failure:
                raise failure
            return None
        _check_system(found.config)
        kept: list[str] = []
        if len(images) > 1 and not self._platform:
            kept = await asyncio.to_thread(platforms.closure, self._store.content, entry.digest)
        exact = b"" if states_no_version(found.data) else found.data  # no registry takes such a one back
        return await self._register(exact, found.manifest.config.digest, found.manifest.layers,
                                    _annotated_names(entry.annotations), kept)

    def _refusal(self, entry: Descriptor) -> Exception | None:
        """Why there is nothing to load in an entry; None when it never was an image (an attestation)."""
        try:
            return platforms.missing(self._store.content, entry, self._platform or host_platform())
        except Unsupported:
            return None

    # --- docker-archives

    async def _docker_archive(self) -> list[Loaded]:
        """manifest.json: a list of {"Config", "RepoTags", "Layers"}, names of members."""
        items = parse_json(self._contents.documents["manifest.json"])
        if (not isinstance(items, list) or len(items) > _IMAGES_LIMIT
                or not all(isinstance(item, dict) for item in items)):
            raise InvalidArgument("invalid manifest.json: not a list of objects")
        read = [await self._item(item) for item in items]
        loaded = []
        for group in _groups(read):
            if self._platform is not None:
                group = [item for item in group if item.platform == self._platform]
            if len(group) > 1:
                loaded.append(await self._several(group))
            elif group:
                loaded.append(await self._register(b"", group[0].config, group[0].layers, group[0].names))
        return loaded

    async def _item(self, item: dict[str, Any]) -> _Item:
        config, layers = item.get("Config"), item.get("Layers") or []
        names = _names(item.get("RepoTags"))
        if not isinstance(config, str) or not isinstance(layers, list) or len(layers) > LAYERS_LIMIT:
            raise InvalidArgument("invalid manifest.json: bad Config or Layers")
        content = self._store.content
        digests = [await self._nameable(self._contents.digest(layer)) for layer in layers if isinstance(layer, str)]
        document = parse_config(content.read(self._contents.digest(config)))
        _check_system(document)
        described = [Descriptor(unpack.media_type_of(content, digest), digest, content.size(digest))
                     for digest in digests]
        return _Item(self._contents.digest(config), document, described, names)

    async def _several(self, group: list[_Item]) -> Loaded:
        """Images of one name, each of another platform: kept as an index of them, as if it were an OCI layout."""
        content = self._store.content
        entries = []
        for item in group:
            if len(item.document["rootfs"]["diff_ids"]) != len(item.layers):
                raise InvalidArgument("invalid image: it has not the layers that its config says")
            data = json.dumps(platforms.oci_manifest(content, item.config, item.layers).json()).encode()
            self._add(data)
            assert item.platform
            entries.append((data, item.platform))
        index = platforms.make_index(entries)
        kept = platforms.closure(content, self._add(index))
        fits = [item for wanted in runs_on(host_platform()) for item in group if item.platform == wanted]
        main = [*fits, group[0]][0]
        return await self._register(b"", main.config, main.layers, main.names, kept)

    def _add(self, data: bytes) -> str:
        self._lease.add(digest_of(data))
        return self._store.content.add(data)

    async def _old_archive(self) -> list[Loaded]:
        """What docker before 1.10 saved: its configs are made here, when the tars' own digests are known."""
        store, loaded = self._store, []
        for old in legacy.images_of(store.content, self._contents):
            layers = [await inflated(store, self._lease, digest) for digest in old.layers]
            config = old.config(layers)
            document = parse_config(config)
            _check_system(document)
            if self._platform is not None and platform_of(document) != self._platform:
                continue
            described = [Descriptor(DOCKER_LAYER, layer, store.content.size(layer)) for layer in layers]
            loaded.append(await self._register(b"", self._add(config), described, _names(old.names)))
        return loaded

    async def _nameable(self, digest: str) -> str:
        """The layer blob itself, or inflated when it is compressed in a way that no manifest has a name for."""
        if unpack.kind_of(self._store.content, digest) not in ("bzip2", "xz"):
            return digest
        return await inflated(self._store, self._lease, digest)

    # --- both

    async def _register(self, manifest: bytes, config: str, layers: list[Descriptor], names: list[str],
                        kept: list[str] | None = None) -> Loaded:
        """`kept`: the digest of an index of several platforms, and of all below it."""
        store = self._store
        before = {name: store.names[name] for name in names if name in store.names and store.names[name] != config}
        diff_ids = parse_config(store.content.read(config))["rootfs"]["diff_ids"]
        placed = zip(diff_ids, layers, chain_ids(diff_ids), strict=False)  # how many is register_image's affair
        new = [(short_id(diff_id), layer.size) for diff_id, layer, chain in placed if chain not in store.layers]
        for layer, size in new:
            self._emit(bar("Loading layer", layer, 0, size))
        image = await store.register_image(manifest, config, layers, names, ahead=self._ahead)
        if kept:
            store.keep(image, kept)
        for layer, size in new:
            self._emit(bar("Loading layer", layer, size, size))
        return Loaded(image, names, before)


def _groups(items: list[_Item]) -> list[list[_Item]]:
    """Items of the same names and of as many platforms together; every other one alone."""
    by_names: dict[tuple[str, ...], list[_Item]] = {}
    for number, item in enumerate(items):
        by_names.setdefault(tuple(item.names) or (str(number),), []).append(item)
    found: list[list[_Item]] = []
    for group in by_names.values():
        distinct = {item.platform for item in group}
        if len(distinct) == len(group) and None not in distinct:
            found.append(group)
        else:
            found += [[item] for item in group]
    return found


async def inflated(store: ImageStore, lease: Lease, digest: str) -> str:
    """The uncompressed blob of a layer's: itself, or made under the lease. Raises InvalidArgument."""
    if not unpack.kind_of(store.content, digest):
        return digest

    async def pieces() -> AsyncIterator[bytes]:
        with open(store.content.open(digest), "rb", buffering=0) as stream:
            while piece := stream.read(1 << 20):
                yield piece

    return await inflate_into(store.content, lease, pieces(), store.snapshots)


def _names(tags: object) -> list[str]:
    if tags is None:
        return []
    if not isinstance(tags, list) or not all(isinstance(tag, str) for tag in tags):
        raise InvalidArgument("invalid manifest.json: bad RepoTags")
    names = []
    for tag in tags:
        parsed = reference.parse(tag)
        if not parsed.tag or parsed.digest:
            raise InvalidArgument(f'invalid tag "{tag}"')
        names.append(parsed.full())
    return names


def _check_system(config: dict[str, Any]) -> None:
    if config.get("os", "linux") not in ("linux", ""):
        raise InvalidArgument(f"cannot load {config.get('os')} image on linux")


def _annotated_names(annotations: dict[str, str]) -> list[str]:
    """containerd writes the full name; skopeo the reference as typed; the spec a bare tag, which names nothing."""
    text = annotations.get(ANNOTATION_FULL_NAME) or annotations.get(ANNOTATION_REF_NAME, "")
    if ":" not in text and "/" not in text:
        return []
    try:
        parsed = reference.parse(text).with_default_tag()
    except InvalidArgument:
        return []
    return [parsed.full()] if not parsed.digest else []
