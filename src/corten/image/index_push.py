"""What goes to a registry of an image that came with others of other platforms: the whole index, or one of them.

Decides and lists; sending is push.py's. As dockerd with containerd's store: all of it when all is here, else the one
for this machine.
"""

from typing import Any

from corten.base.errors import Conflict
from corten.image import platforms
from corten.image.content import ContentStore
from corten.image.records import Blob, Image
from corten.oci.image_spec import INDEXES, MANIFEST_LIMIT, MANIFESTS, OCI_INDEX, OCI_MANIFEST
from corten.oci.platform import Platform, host_platform, platform_of, runs_on


class Parcel:
    """What one push sends: `blobs` first, then `documents` (manifests, indexes) in order; the last gets the tag."""

    __slots__ = ("blobs", "documents", "instead_of")

    def __init__(self, blobs: list[Blob], documents: list[Blob], instead_of: Blob | None = None) -> None:
        self.blobs, self.documents = blobs, documents
        self.instead_of = instead_of  # the index that is not sent, since parts of it are not here

    def digests(self) -> list[str]:
        """All of it."""
        return [blob.digest for blob in (*self.blobs, *self.documents)]

    def note(self) -> dict[str, Any]:
        """What the API's stream says of an index that is not sent. Only when there is one."""
        assert self.instead_of
        return {"manifestPushedInsteadOfIndex": True, "originalIndex": self.instead_of.descriptor().json(),
                "selectedManifest": self.documents[-1].descriptor().json()}


def parcel(content: ContentStore, image: Image, shown: str, platform: Platform | None) -> Parcel | None:
    """What to push of an image named `shown`; None: the image itself, as one that came alone.

    Raises NotFound (no such platform), Conflict (parts are missing and none is for this machine).
    """
    kept = image.record.kept
    own = platform_of(image.config)
    if not kept or (platform is not None and own in runs_on(platform)):
        return None
    if platform is not None:
        other = platforms.sibling(content, image, platform)
        if other is None:
            raise platforms.not_provided(shown, platform)
        return below(content, other.digest, OCI_MANIFEST)
    if platforms.complete(content, kept):
        return below(content, kept[0], OCI_INDEX)
    if own not in runs_on(host_platform()):
        raise Conflict("multiple matching manifests found but no specific platform requested")
    mine = [one.digest for one in platforms.kept_images(content, image) if one.manifest.config.digest == image.id]
    if not mine:  # the index is known, the manifest below it is gone: pushed as any image that has none
        return None
    found = below(content, mine[0], OCI_MANIFEST)
    return Parcel(found.blobs, found.documents, _described(content, kept[0], OCI_INDEX))


def below(content: ContentStore, digest: str, media_type: str) -> Parcel:
    """A document and all that it leads to. Raises NotFound for what is not here."""
    blobs: dict[str, Blob] = {}
    documents: dict[str, Blob] = {}

    def walk(digest: str, media_type: str, depth: int) -> None:
        for entry in platforms.named_by(content, digest):
            name, kind = entry["digest"], str(entry.get("mediaType") or "")
            if kind in INDEXES | MANIFESTS and depth:
                if name not in documents:
                    walk(name, kind, depth - 1)
            else:
                blobs.setdefault(name, Blob(kind, name, content.size(name)))
        documents[digest] = _described(content, digest, media_type)

    walk(digest, media_type, platforms.DEPTH)
    return Parcel(list(blobs.values()), list(documents.values()))


def _described(content: ContentStore, digest: str, media_type: str) -> Blob:
    """A document as a descriptor names it: by its own word what it is, else by that of who named it."""
    data = content.read(digest, MANIFEST_LIMIT)
    return Blob(platforms.stated_type(data) or media_type, digest, len(data))
