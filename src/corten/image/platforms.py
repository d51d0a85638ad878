"""An index kept whole: the platforms of one name. One of them is unpacked and is the image; the others are content.

`load` brings such an index, `save` writes it again, whole or one platform of it. The image's record names the index and
every blob below it (`kept`), so that they go with the image.
"""

import json
from typing import Any

from corten.base.errors import InvalidArgument, NotFound, Unsupported
from corten.base.files import parse_json
from corten.image.content import ContentStore
from corten.image.records import Image
from corten.oci.digest import digest_of, is_digest
from corten.oci.image_spec import (
    DOCKER_LAYER,
    DOCKER_LAYER_GZIP,
    INDEXES,
    MANIFEST_LIMIT,
    MANIFESTS,
    OCI_CONFIG,
    OCI_INDEX,
    OCI_LAYER,
    OCI_LAYER_GZIP,
    OCI_MANIFEST,
    Descriptor,
    Manifest,
    is_unversioned,
    parse_config,
    parse_index,
    parse_manifest,
)
from corten.oci.platform import Platform, host_platform, platform_of, runs_on, select

OCI_NAMES = {DOCKER_LAYER: OCI_LAYER, DOCKER_LAYER_GZIP: OCI_LAYER_GZIP}
_KINDS = MANIFESTS | INDEXES | {""}  # of descriptors worth reading
DEPTH = 4  # of indexes in one another
_DOCUMENTS_LIMIT = 500  # manifests and indexes below one name
_CLOSURE_LIMIT = 10_000


class PlatformImage:
    """One image of an index, all of it here: `data` is its manifest's bytes, `config` the parsed image config."""

    __slots__ = ("config", "data", "digest", "manifest", "platform")

    def __init__(self, digest: str, data: bytes, manifest: Manifest, config: dict[str, Any],
                 platform: Platform | None) -> None:
        self.digest, self.data, self.manifest, self.config, self.platform = digest, data, manifest, config, platform


def images_of(content: ContentStore, top: Descriptor) -> list[PlatformImage]:
    """The images that a manifest or an index leads to and whose blobs are all here, in its order, each once.

    Attestations, artifacts and what is not here are passed over. Raises InvalidArgument for what is malformed,
    nested too deep, or takes too many documents.
    """
    found: list[PlatformImage] = []
    seen: set[str] = set()

    def walk(entry: Descriptor, depth: int) -> None:
        if entry.media_type not in _KINDS or entry.digest in seen or not content.has(entry.digest):
            return
        seen.add(entry.digest)
        if depth == 0 or len(seen) > _DOCUMENTS_LIMIT:
            raise InvalidArgument(
                f"invalid archive: indexes nested too deep, or more than {_DOCUMENTS_LIMIT} manifests")
        data = content.read(entry.digest, MANIFEST_LIMIT)
        if not is_index(data, entry.media_type):
            found.extend(_image(content, entry, data))
            return
        for inner in parse_index(data):
            if "vnd.docker.reference.type" not in inner.annotations:
                walk(inner, depth - 1)

    walk(top, DEPTH)
    return found


def _image(content: ContentStore, top: Descriptor, data: bytes) -> list[PlatformImage]:
    """The image of a manifest, when it is one and whole."""
    try:
        manifest = parse_manifest(data, unversioned=True)
    except Unsupported:
        return []
    if not all(content.has(blob.digest) for blob in (manifest.config, *manifest.layers)):
        return []
    config = parse_config(content.read(manifest.config.digest))
    platform = platform_of(top.platform) or platform_of(config)
    return [PlatformImage(top.digest, data, manifest, config, platform)]


def is_index(data: bytes, media_type: str) -> bool:
    """Whether these bytes are to be read as an index."""
    value = parse_json(data, MANIFEST_LIMIT)
    return media_type in INDEXES or (isinstance(value, dict) and "manifests" in value)


def stated_type(data: bytes) -> str:
    """The media type that a manifest or index states of itself, "" for none. Raises InvalidArgument."""
    value = parse_json(data, MANIFEST_LIMIT)
    own = value.get("mediaType") if isinstance(value, dict) else None
    return own if isinstance(own, str) else ""


def choose(images: list[PlatformImage], wanted: Platform) -> PlatformImage | None:
    """The one that runs best where `wanted` was asked for."""
    for candidate in runs_on(wanted):
        for image in images:
            if image.platform == candidate:
                return image
    return images[0] if len(images) == 1 and images[0].platform is None else None


def kept_images(content: ContentStore, image: Image) -> list[PlatformImage]:
    """The images of the index that an image came in, itself among them; [] when it came alone."""
    kept = image.record.kept
    return images_of(content, Descriptor("", kept[0], 0)) if kept else []


def sibling(content: ContentStore, image: Image, wanted: Platform) -> PlatformImage | None:
    """The image of another platform that came in the same index, when it is wanted and here."""
    return choose(kept_images(content, image), wanted)


def not_provided(shown: str, wanted: Platform) -> NotFound:
    """Docker's text when an image of several platforms lacks one; `shown` is its name as it was asked for."""
    return NotFound(f"image with reference {shown} was found but does not provide the specified platform ({wanted})")


def main_of(images: list[PlatformImage]) -> PlatformImage:
    """The one a name of all of them means on this machine: its own platform's, else the first."""
    return choose(images, host_platform()) or images[0]


def missing(content: ContentStore, top: Descriptor, wanted: Platform) -> Exception:
    """Why nothing of `top` suits `wanted`, told by the first thing that is not here."""
    for _ in range(DEPTH):
        if not content.has(top.digest):
            return NotFound(f"invalid archive: blob {top.digest} is not in it")
        data = content.read(top.digest, MANIFEST_LIMIT)
        if is_index(data, top.media_type):
            try:
                top = select(parse_index(data), wanted)
            except NotFound as error:
                return error
            continue
        manifest = parse_manifest(data, unversioned=True)
        for blob in (manifest.config, *manifest.layers):
            if not content.has(blob.digest):
                return InvalidArgument(f"invalid archive: blob {blob.digest} is not in it")
        break
    return NotFound(f"no matching manifest for {wanted} in the manifest list entries")


def closure(content: ContentStore, index: str) -> list[str]:
    """The digests of all that an index leads to and that is here, attestations too; itself first.

    Raises InvalidArgument when they are too many.
    """
    found: dict[str, None] = {}
    level = [index]
    for _ in range(DEPTH + 1):
        level = [digest for digest in level if digest not in found and content.has(digest)]
        found.update(dict.fromkeys(level))
        if len(found) > _CLOSURE_LIMIT:
            raise InvalidArgument(f"invalid archive: an index of more than {_CLOSURE_LIMIT} blobs")
        level = list(dict.fromkeys(inner for digest in level for inner in _named(content, digest)))
    return list(found)


def complete(content: ContentStore, kept: list[str]) -> bool:
    """Whether all that the documents among these blobs name is here."""
    return all(content.has(named) for digest in kept for named in _named(content, digest))


def _named(content: ContentStore, digest: str) -> list[str]:
    return [entry["digest"] for entry in named_by(content, digest)]


def named_by(content: ContentStore, digest: str) -> list[dict[str, Any]]:
    """The raw descriptors in a document, each with a digest; none for a blob that is no document."""
    if content.size(digest) > MANIFEST_LIMIT:
        return []
    data = content.read(digest, MANIFEST_LIMIT)
    try:
        value = parse_json(data, MANIFEST_LIMIT) if data.startswith(b"{") else None
    except InvalidArgument:
        return []
    if not isinstance(value, dict) or not (value.get("schemaVersion") == 2 or is_unversioned(value)):
        return []
    entries: list[object] = [value.get("config")]
    for name in ("layers", "manifests"):
        entries += inner if isinstance(inner := value.get(name), list) else []
    return [entry for entry in entries if isinstance(entry, dict) and is_digest(entry.get("digest"))]


def oci_manifest(content: ContentStore, config: str, layers: list[Descriptor]) -> Manifest:
    """The OCI manifest of an image from its config's digest and its layers' descriptors."""
    named = [Descriptor(OCI_NAMES.get(layer.media_type, layer.media_type), layer.digest, layer.size)
             for layer in layers]
    return Manifest(OCI_MANIFEST, Descriptor(OCI_CONFIG, config, content.size(config)), named)


def make_index(entries: list[tuple[bytes, Platform]]) -> bytes:
    """An index of image manifests (exact bytes) and their platforms."""
    manifests = [Descriptor(OCI_MANIFEST, digest_of(data), len(data), platform=platform.json()).json()
                 for data, platform in entries]
    return json.dumps({"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": manifests}).encode()
