"""`docker load`: images out of a docker-archive (manifest.json) or an OCI layout (index.json) in a tar.

The oldest form (`repositories` and `<id>/json`, docker before 1.10) is read by legacy.py.
"""

from collections.abc import AsyncIterable, AsyncIterator
from typing import Any

from corten.base.errors import InvalidArgument, NotFound, Unsupported
from corten.base.files import parse_json
from corten.base.ids import short_id
from corten.image import legacy, unpack
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
    INDEXES,
    LAYERS_LIMIT,
    Descriptor,
    chain_ids,
    parse_config,
    parse_index,
    parse_manifest,
)
from corten.oci.platform import Platform, host_platform, platform_of, select

_IMAGES_LIMIT = 1000


class Loaded:
    """One image that came in: `names` it was given (full references), `replaced`: name -> id it meant before."""

    __slots__ = ("image", "names", "replaced")

    def __init__(self, image: Image, names: list[str], replaced: dict[str, str]) -> None:
        self.image, self.names, self.replaced = image, names, replaced


async def load(store: ImageStore, body: AsyncIterable[bytes], platform: Platform | None = None,
               emit: Emit | None = None) -> list[Loaded]:
    """Load every image of an archive (of `platform` only); all its blobs are dropped again when it proves bad.

    `emit` is told of the layers that are unpacked.

    Raises InvalidArgument (malformed, hostile), Unsupported, NotFound (no such platform in it), OSError.
    """
    try:
        with store.content.lease() as lease:
            staging = store.snapshots.stage()
            try:
                contents = await ingest(store.content, lease, body, staging)
            finally:
                store.snapshots.discard(staging)
            return await _load(store, contents, lease, platform, emit or _silent)
    finally:
        store.collect()  # what the archive brought besides, or all of it


def _silent(_: dict[str, Any]) -> None:
    pass


async def _load(store: ImageStore, contents: Contents, lease: Lease, platform: Platform | None,
                emit: Emit) -> list[Loaded]:
    if "manifest.json" in contents.documents:
        loaded = await _docker_archive(store, contents, lease, platform, emit)
        if platform is None or loaded or "index.json" not in contents.documents:
            return _some(loaded, platform)
    if "index.json" in contents.documents:
        return _some(await _layout(store, contents, lease, platform or host_platform(), emit), platform)
    if "repositories" in contents.documents:
        return _some(await _old_archive(store, contents, lease, platform, emit), platform)
    raise InvalidArgument("invalid archive: does not contain a manifest.json")


def _some(loaded: list[Loaded], platform: Platform | None) -> list[Loaded]:
    if platform is not None and not loaded:
        raise NotFound(f"no image in the archive provides the specified platform ({platform})")
    return loaded


async def _docker_archive(store: ImageStore, contents: Contents, lease: Lease, platform: Platform | None,
                          emit: Emit) -> list[Loaded]:
    """manifest.json: a list of {"Config", "RepoTags", "Layers"}, names of members."""
    items = parse_json(contents.documents["manifest.json"])
    if not isinstance(items, list) or len(items) > _IMAGES_LIMIT or not all(isinstance(item, dict) for item in items):
        raise InvalidArgument("invalid manifest.json: not a list of objects")
    loaded = []
    for item in items:
        config, names = item.get("Config"), _names(item.get("RepoTags"))
        layers = item.get("Layers") or []
        if not isinstance(config, str) or not isinstance(layers, list) or len(layers) > LAYERS_LIMIT:
            raise InvalidArgument("invalid manifest.json: bad Config or Layers")
        digests = [await _nameable(store, lease, contents.digest(layer)) for layer in layers if isinstance(layer, str)]
        document = parse_config(store.content.read(contents.digest(config)))
        _check_system(document)
        if platform is not None and platform_of(document) != platform:
            continue
        descriptors = [
            Descriptor(unpack.media_type_of(store.content, digest), digest, store.content.size(digest))
            for digest in digests
        ]
        loaded.append(await _register(store, b"", contents.digest(config), descriptors, names, emit))
    return loaded


async def _old_archive(store: ImageStore, contents: Contents, lease: Lease, platform: Platform | None,
                       emit: Emit) -> list[Loaded]:
    """What docker before 1.10 saved: its configs are made here, when the tars' own digests are known."""
    loaded = []
    for old in legacy.images_of(store.content, contents):
        layers = [await inflated(store, lease, digest) for digest in old.layers]
        config = old.config(layers)
        document = parse_config(config)
        _check_system(document)
        if platform is not None and platform_of(document) != platform:
            continue
        lease.add(digest_of(config))
        descriptors = [Descriptor(DOCKER_LAYER, layer, store.content.size(layer)) for layer in layers]
        loaded.append(await _register(store, b"", store.content.add(config), descriptors, _names(old.names), emit))
    return loaded


async def _nameable(store: ImageStore, lease: Lease, digest: str) -> str:
    """The layer blob itself, or inflated when it is compressed in a way that no manifest has a name for."""
    return await inflated(store, lease, digest) if unpack.kind_of(store.content, digest) in ("bzip2", "xz") else digest


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


async def _layout(store: ImageStore, contents: Contents, lease: Lease, platform: Platform,
                  emit: Emit) -> list[Loaded]:
    """index.json of an OCI layout: every manifest in it, of indexes the one for this platform."""
    loaded = []
    for entry in parse_index(contents.documents["index.json"]):
        names = _annotated_names(entry.annotations)
        manifest = _manifest_of(store, entry, platform)
        if manifest is None:
            continue
        parsed = parse_manifest(manifest)
        for digest in (parsed.config.digest, *(layer.digest for layer in parsed.layers)):
            lease.add(digest)
            if not store.content.has(digest):
                raise InvalidArgument(f"invalid archive: blob {digest} is not in it")
        loaded.append(await _register(store, manifest, parsed.config.digest, parsed.layers, names, emit))
    return loaded


def _manifest_of(store: ImageStore, entry: Descriptor, platform: Platform) -> bytes | None:
    """The bytes of an entry's manifest; None for what is no image (an attestation)."""
    for _ in range(4):
        if not store.content.has(entry.digest):
            raise NotFound(f"invalid archive: blob {entry.digest} is not in it")
        data = store.content.read(entry.digest)
        value = parse_json(data)
        if entry.media_type not in INDEXES and not (isinstance(value, dict) and "manifests" in value):
            try:
                parse_manifest(data)
            except Unsupported:
                return None
            return data
        entry = select(parse_index(data), platform)
    raise InvalidArgument("invalid archive: indexes nested too deep")


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


async def _register(store: ImageStore, manifest: bytes, config: str, layers: list[Descriptor],
                    names: list[str], emit: Emit) -> Loaded:
    before = {name: store.names[name] for name in names if name in store.names and store.names[name] != config}
    diff_ids = parse_config(store.content.read(config))["rootfs"]["diff_ids"]
    placed = zip(diff_ids, layers, chain_ids(diff_ids), strict=False)  # how many there are is register_image's affair
    new = [(short_id(diff_id), layer.size) for diff_id, layer, chain in placed if chain not in store.layers]
    for layer, size in new:
        emit(bar("Loading layer", layer, 0, size))
    image = await store.register_image(manifest, config, layers, names)
    for layer, size in new:
        emit(bar("Loading layer", layer, size, size))
    return Loaded(image, names, before)
