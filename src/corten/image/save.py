"""`docker save`: images as one tar that is a docker-archive (manifest.json) and an OCI layout (index.json) at once.

Layers go out as they are kept, straight from their blobs; nothing is packed or compressed again. An image that came
with other platforms goes out with them, as an index; manifest.json, which has no word for that, names it alone.
"""

import json
from collections.abc import Iterator
from typing import Any

from corten.base.units import format_time, parse_time
from corten.image import platforms
from corten.image.content import ContentStore
from corten.image.records import Blob, Image
from corten.image.tar_reader import DIRECTORY, REGULAR
from corten.image.tar_writer import END, header, member, padding
from corten.oci import reference
from corten.oci.digest import digest_of
from corten.oci.image_spec import (
    ANNOTATION_FULL_NAME,
    ANNOTATION_REF_NAME,
    LAYOUT_FILE,
    OCI_INDEX,
    OCI_MANIFEST,
    Descriptor,
)
from corten.oci.platform import Platform, platform_of


class BlobPiece:
    """A whole blob to be sent: open it with `content.open(digest)`; `size` in bytes."""

    __slots__ = ("digest", "size")

    def __init__(self, digest: str, size: int) -> None:
        self.digest, self.size = digest, size


Piece = bytes | BlobPiece


class Saved:
    """One image of an archive on its way out, under its full references `names`."""

    __slots__ = ("blobs", "config", "created", "diff_ids", "kept", "manifest", "names", "top")

    def __init__(self, names: list[str], config_digest: str, config: dict[str, Any], blobs: list[Blob],
                 manifest: bytes) -> None:
        self.names, self.config, self.blobs, self.manifest = names, config_digest, blobs, manifest
        self.created = max(parse_time(str(config.get("created") or format_time(0))), 0)
        self.diff_ids: list[str] = config["rootfs"]["diff_ids"]
        media_type = json.loads(manifest).get("mediaType", OCI_MANIFEST)
        self.top = Descriptor(media_type, digest_of(manifest), len(manifest))  # what index.json names
        self.kept: list[str] = []  # blobs of the index it goes out with, itself first

    def digests(self) -> list[str]:
        """Every blob that it takes from the store."""
        return [*(blob.digest for blob in self.blobs), self.config, *self.kept]


def saved(content: ContentStore, image: Image, names: list[str], platform: Platform | None) -> Saved | None:
    """An image as it is saved: with all its platforms, or the one asked for alone; None when that is not here."""
    index = image.record.kept[0] if image.record.kept else ""
    if platform is None or platform_of(image.config) == platform:
        kept = image.record.manifest
        data = content.read(kept) if kept else _made_manifest(content, image)
        found = Saved(names, image.id, image.config, image.record.blobs, data)
        if index and platform is None:
            data = content.read(index)
            found.kept = image.record.kept
            found.top = Descriptor(json.loads(data).get("mediaType", OCI_INDEX), index, len(data))
        return found
    other = platforms.sibling(content, image, platform)
    if other is None:
        return None
    blobs = [Blob(layer.media_type, layer.digest, layer.size) for layer in other.manifest.layers]
    return Saved(names, other.manifest.config.digest, other.config, blobs, other.data)


def _made_manifest(content: ContentStore, image: Image) -> bytes:
    described = [blob.descriptor() for blob in image.record.blobs]
    return json.dumps(platforms.oci_manifest(content, image.id, described).json()).encode()


def save(content: ContentStore, wanted: list[Saved]) -> Iterator[Piece]:
    """The pieces of the archive, in order. Blobs are only named: the caller holds a lease until it has sent them."""
    yield header(b"blobs", DIRECTORY, 0o755)
    yield header(b"blobs/sha256", DIRECTORY, 0o755)
    sent: set[str] = set()
    for image in wanted:
        for digest in image.digests():
            if digest not in sent:
                sent.add(digest)
                size = content.size(digest)
                yield header(_path(digest).encode(), REGULAR, 0o644, size=size, mtime_ns=image.created)
                yield BlobPiece(digest, size)
                yield padding(size)
        if (digest := digest_of(image.manifest)) not in sent:
            sent.add(digest)
            yield member(_path(digest), image.manifest, mtime_ns=image.created)
    yield member("index.json", json.dumps(_index(wanted)).encode())
    yield member("manifest.json", json.dumps([_archive_entry(image) for image in wanted]).encode())
    yield member("oci-layout", LAYOUT_FILE)
    repositories = _repositories(wanted)
    if repositories:
        yield member("repositories", json.dumps(repositories).encode())
    yield END


def _path(digest: str) -> str:
    return f"blobs/sha256/{digest[7:]}"


def _archive_entry(image: Saved) -> dict[str, Any]:
    return {
        "Config": _path(image.config), "RepoTags": [reference.parse(name).familiar() for name in image.names] or None,
        "Layers": [_path(blob.digest) for blob in image.blobs],
        "LayerSources": {
            diff_id: {"mediaType": platforms.OCI_NAMES.get(blob.media_type, blob.media_type), "size": blob.size,
                      "digest": blob.digest}
            for diff_id, blob in zip(image.diff_ids, image.blobs, strict=True)
        },
    }


def _index(wanted: list[Saved]) -> dict[str, Any]:
    entries = []
    for image in wanted:
        for name in image.names or [""]:
            descriptor = Descriptor(image.top.media_type, image.top.digest, image.top.size, dict(image.top.annotations))
            if name:
                descriptor.annotations |= {ANNOTATION_FULL_NAME: name, ANNOTATION_REF_NAME: reference.parse(name).tag}
            entries.append(descriptor.json())
    return {"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": entries}


def _repositories(wanted: list[Saved]) -> dict[str, dict[str, str]]:
    """The oldest format's names; its values (a top layer's id) mean nothing any more and docker still writes them."""
    found: dict[str, dict[str, str]] = {}
    for image in wanted:
        for name in image.names:
            parsed = reference.parse(name)
            if image.blobs:
                found.setdefault(parsed.familiar_name(), {})[parsed.tag] = image.blobs[-1].digest[7:]
    return found
