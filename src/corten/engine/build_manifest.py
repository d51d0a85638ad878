"""Manifests of what a build made: one image's, or an index of several platforms and of what attests to them.

    made = await make(engine, lease, {platform: image id}, wanted)
    keep(engine, made, image)       # from now on the image goes out with it
"""

import json
import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from corten.base.errors import InvalidArgument
from corten.image.content import Lease
from corten.image.platforms import closure
from corten.image.recompress import Compression, recompress
from corten.image.records import Blob, Image
from corten.oci.digest import digest_of
from corten.oci.image_spec import (
    DOCKER_CONFIG,
    DOCKER_INDEX,
    DOCKER_MANIFEST,
    LAYER_COMPRESSION,
    OCI_CONFIG,
    OCI_INDEX,
    OCI_MANIFEST,
    Descriptor,
    Manifest,
)
from corten.oci.platform import Platform, host_platform, parse_platform

if TYPE_CHECKING:
    from corten.engine.engine import Engine

STATEMENT = "https://in-toto.io/Statement/v0.1"
_IN_TOTO = "application/vnd.in-toto+json"
_ANNOTATION = re.compile(
    r"annotation(?:-(manifest|manifest-descriptor|index|index-descriptor))?(?:\[([^\]]+)\])?\.(.+)", re.DOTALL)


class Annotations:
    """`annotation…` attributes of an exporter by the place they belong to, and by platform where they name one."""

    def __init__(self, attributes: Mapping[str, str]) -> None:
        """Raises InvalidArgument."""
        self._found: list[tuple[str, Platform | None, str, str]] = []
        for name, value in attributes.items():
            if match := _ANNOTATION.fullmatch(name):
                place, platform, key = match[1] or "manifest", match[2], match[3]
                self._found.append((place, parse_platform(platform) if platform else None, key, value))

    def of(self, place: str, platform: Platform | None = None) -> dict[str, str]:
        """Those of `manifest`, `manifest-descriptor`, `index` or `index-descriptor`, sorted."""
        return dict(sorted((key, value) for where, of, key, value in self._found
                           if where == place and (of is None or of == platform)))

    def check(self, platforms: list[Platform], index: bool, oci: bool) -> None:
        """Raises InvalidArgument with BuildKit's texts for what has no place."""
        for place, platform, _, _ in self._found:
            if platform is not None and platform not in platforms:
                raise InvalidArgument(f"invalid annotation: no platform {platform} found in source")
            if place != "manifest" and not oci:
                raise InvalidArgument('cannot export annotations with "oci-mediatypes=false"')
            if place.startswith("index") and not index:
                raise InvalidArgument("index annotations not supported for single platform export")


class Attestation:
    """A predicate about an image, and its type."""

    __slots__ = ("kind", "predicate")

    def __init__(self, kind: str, predicate: dict[str, Any]) -> None:
        self.kind, self.predicate = kind, predicate

    def statement(self, subjects: list[dict[str, Any]]) -> bytes:
        """The in-toto statement about these subjects."""
        return _encoded({"_type": STATEMENT, "predicateType": self.kind, "subject": subjects,
                         "predicate": self.predicate})


class Wanted:
    """How manifests shall be. `subjects`: names (package URLs by platform) that attestations are about."""

    def __init__(self, compression: Compression, annotations: Annotations) -> None:
        self.compression, self.annotations = compression, annotations
        self.attestations: dict[Platform, list[Attestation]] = {}
        self.subjects: dict[Platform, list[str]] = {}
        self.index = False  # even of one platform

    @property
    def oci(self) -> bool:
        return self.compression.oci


class Made:
    """`top`: the descriptor of the whole; `manifests` and `blobs` by platform; `index` whether `top` is one."""

    def __init__(self, index: bool) -> None:
        self.index = index
        self.manifests: dict[Platform, Descriptor] = {}
        self.blobs: dict[Platform, list[Blob]] = {}
        self.top = Descriptor("", "", 0)


async def make(engine: "Engine", lease: Lease, images: Mapping[Platform, str], wanted: Wanted) -> Made:
    """Put the documents, and layers where others are wanted than there are, into the store under the lease.

    Raises InvalidArgument with BuildKit's texts, OSError.
    """
    made = Made(wanted.index or len(images) > 1 or bool(wanted.attestations))
    if wanted.attestations and not wanted.oci:
        raise InvalidArgument('cannot export attestations with "oci-mediatypes=false"')
    wanted.annotations.check(list(images), made.index, wanted.oci)
    for platform, image_id in images.items():
        await _image(engine, lease, made, platform, image_id, wanted)
    if not made.index:
        made.top = next(iter(made.manifests.values()))
        return made
    entries = [*made.manifests.values(), *(
        _attest(engine, lease, made, platform, found, wanted) for platform, found in wanted.attestations.items())]
    kind = OCI_INDEX if wanted.oci else DOCKER_INDEX
    document: dict[str, Any] = {"schemaVersion": 2, "mediaType": kind, "manifests": [one.json() for one in entries]}
    if annotations := wanted.annotations.of("index"):
        document["annotations"] = annotations
    made.top = _put(engine, lease, kind, document)
    made.top.annotations = wanted.annotations.of("index-descriptor")
    return made


async def _image(engine: "Engine", lease: Lease, made: Made, platform: Platform, image_id: str,
                 wanted: Wanted) -> None:
    store = engine.images.store
    image = engine.images.find(image_id)
    lease.add(image.id)
    blobs = []
    for chain, blob in zip(image.record.chain_ids, image.record.blobs, strict=True):
        own = store.blob_of(store.layers[chain])  # what was made here is a plain tar, whatever it last went out as
        start = blob if LAYER_COMPRESSION.get(own.media_type) else own
        blobs.append(await recompress(store, lease, chain, start, wanted.compression))
    kind, config = (OCI_MANIFEST, OCI_CONFIG) if wanted.oci else (DOCKER_MANIFEST, DOCKER_CONFIG)
    described = Descriptor(config, image.id, store.content.size(image.id))
    document = Manifest(kind, described, [blob.descriptor() for blob in blobs]).json()
    if annotations := wanted.annotations.of("manifest", platform):
        document["annotations"] = annotations
    found = _put(engine, lease, kind, document)
    found.annotations = wanted.annotations.of("manifest-descriptor", platform)
    found.platform = platform.json()
    made.manifests[platform], made.blobs[platform] = found, blobs


def _attest(engine: "Engine", lease: Lease, made: Made, platform: Platform, attestations: list[Attestation],
            wanted: Wanted) -> Descriptor:
    """The manifest of what attests to one platform's image."""
    about = made.manifests[platform].digest
    digest = dict([about.split(":", 1)])
    subjects = [{"name": name, "digest": digest} for name in wanted.subjects.get(platform, [])]
    layers = []
    for one in attestations:
        layer = _put_bytes(engine, lease, _IN_TOTO, one.statement(subjects or [{"name": "_", "digest": digest}]))
        layer.annotations = {"in-toto.io/predicate-type": one.kind}
        layers.append(layer)
    config = _put(engine, lease, OCI_CONFIG, {
        "architecture": "unknown", "os": "unknown", "config": {},
        "rootfs": {"type": "layers", "diff_ids": [layer.digest for layer in layers]}})
    found = _put(engine, lease, OCI_MANIFEST, Manifest(OCI_MANIFEST, config, layers).json())
    found.annotations = {"vnd.docker.reference.digest": about, "vnd.docker.reference.type": "attestation-manifest"}
    found.platform = {"architecture": "unknown", "os": "unknown"}
    return found


def _encoded(document: Any) -> bytes:
    return json.dumps(document, indent=2, ensure_ascii=False).encode()


def _put(engine: "Engine", lease: Lease, kind: str, document: Any) -> Descriptor:
    return _put_bytes(engine, lease, kind, _encoded(document))


def _put_bytes(engine: "Engine", lease: Lease, kind: str, data: bytes) -> Descriptor:
    lease.add(digest_of(data))
    return Descriptor(kind, engine.images.store.content.add(data), len(data))


def main_of(images: Mapping[Platform, str]) -> Platform:
    """The platform whose image a name of all means here."""
    return host_platform() if host_platform() in images else next(iter(images))


def keep(engine: "Engine", made: Made, platform: Platform, image: Image) -> None:
    """Let the image (that of `platform`) go out with what was made. Its lease is the caller's until then."""
    store = engine.images.store
    image.record.manifest, image.record.blobs = made.manifests[platform].digest, made.blobs[platform]
    image.record.kept = closure(store.content, made.top.digest) if made.index else []
    store.put_image(image.record)
