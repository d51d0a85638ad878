"""`docker save`: images as one tar that is a docker-archive (manifest.json) and an OCI layout (index.json) at once.

Layers go out as they are kept, straight from their blobs; nothing is packed or compressed again.
"""

import json
from collections.abc import Iterator
from typing import Any

from corten.base.units import format_time, parse_time
from corten.image.content import ContentStore
from corten.image.records import Image
from corten.image.store import ImageStore
from corten.image.tar_reader import DIRECTORY, REGULAR
from corten.image.tar_writer import END, header, member, padding
from corten.oci import reference
from corten.oci.digest import digest_of
from corten.oci.image_spec import (
    ANNOTATION_FULL_NAME,
    ANNOTATION_REF_NAME,
    DOCKER_LAYER,
    DOCKER_LAYER_GZIP,
    LAYOUT_FILE,
    OCI_CONFIG,
    OCI_INDEX,
    OCI_LAYER,
    OCI_LAYER_GZIP,
    OCI_MANIFEST,
    Descriptor,
    Manifest,
)

_OCI_NAMES = {DOCKER_LAYER: OCI_LAYER, DOCKER_LAYER_GZIP: OCI_LAYER_GZIP}


class BlobPiece:
    """A whole blob to be sent: open it with `content.open(digest)`; `size` in bytes."""

    __slots__ = ("digest", "size")

    def __init__(self, digest: str, size: int) -> None:
        self.digest, self.size = digest, size


Piece = bytes | BlobPiece


def oci_manifest(content: ContentStore, image: Image) -> Manifest:
    """The OCI manifest of an image, from what is kept of it."""
    layers = [Descriptor(_OCI_NAMES.get(blob.media_type, blob.media_type), blob.digest, blob.size)
              for blob in image.record.blobs]
    return Manifest(OCI_MANIFEST, Descriptor(OCI_CONFIG, image.id, content.size(image.id)), layers)


def save(store: ImageStore, wanted: list[tuple[Image, list[str]]]) -> Iterator[Piece]:
    """The pieces of the archive, in order; `wanted`: images with the full references to save them under.

    Blobs are only named: the caller holds a lease until it has sent them.
    """
    manifests: list[tuple[bytes, str]] = []
    for image, _ in wanted:
        kept = image.record.manifest
        data = store.content.read(kept) if kept else json.dumps(oci_manifest(store.content, image).json()).encode()
        manifests.append((data, json.loads(data).get("mediaType", OCI_MANIFEST)))
    yield header(b"blobs", DIRECTORY, 0o755)
    yield header(b"blobs/sha256", DIRECTORY, 0o755)
    sent: set[str] = set()
    for (image, _), (manifest, _) in zip(wanted, manifests, strict=True):
        stamp = parse_time(str(image.config.get("created") or format_time(0)))
        for digest, size in ((blob.digest, blob.size) for blob in image.record.blobs):
            yield from _blob(sent, digest, size, stamp)
        yield from _blob(sent, image.id, store.content.size(image.id), stamp)
        if digest_of(manifest) not in sent:
            sent.add(digest_of(manifest))
            yield member(_path(digest_of(manifest)), manifest, mtime_ns=stamp)
    yield member("index.json", json.dumps(_index(wanted, manifests)).encode())
    yield member("manifest.json", json.dumps([_archive_entry(image, names) for image, names in wanted]).encode())
    yield member("oci-layout", LAYOUT_FILE)
    repositories = _repositories(wanted)
    if repositories:
        yield member("repositories", json.dumps(repositories).encode())
    yield END


def _path(digest: str) -> str:
    return f"blobs/sha256/{digest[7:]}"


def _blob(sent: set[str], digest: str, size: int, mtime_ns: int) -> Iterator[Piece]:
    if digest not in sent:
        sent.add(digest)
        yield header(_path(digest).encode(), REGULAR, 0o644, size=size, mtime_ns=max(mtime_ns, 0))
        yield BlobPiece(digest, size)
        yield padding(size)


def _archive_entry(image: Image, names: list[str]) -> dict[str, Any]:
    return {
        "Config": _path(image.id), "RepoTags": [reference.parse(name).familiar() for name in names] or None,
        "Layers": [_path(blob.digest) for blob in image.record.blobs],
        "LayerSources": {
            diff_id: {"mediaType": _OCI_NAMES.get(blob.media_type, blob.media_type), "size": blob.size,
                      "digest": blob.digest}
            for diff_id, blob in zip(image.diff_ids, image.record.blobs, strict=True)
        },
    }


def _index(wanted: list[tuple[Image, list[str]]], manifests: list[tuple[bytes, str]]) -> dict[str, Any]:
    entries = []
    for (_, names), (data, media_type) in zip(wanted, manifests, strict=True):
        for name in names or [""]:
            descriptor = Descriptor(media_type, digest_of(data), len(data))
            if name:
                descriptor.annotations = {ANNOTATION_FULL_NAME: name, ANNOTATION_REF_NAME: reference.parse(name).tag}
            entries.append(descriptor.json())
    return {"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": entries}


def _repositories(wanted: list[tuple[Image, list[str]]]) -> dict[str, dict[str, str]]:
    """The oldest format's names; its values (a top layer's id) mean nothing any more and docker still writes them."""
    found: dict[str, dict[str, str]] = {}
    for image, names in wanted:
        for name in names:
            parsed = reference.parse(name)
            if image.record.blobs:
                found.setdefault(parsed.familiar_name(), {})[parsed.tag] = image.record.blobs[-1].digest[7:]
    return found
