"""The platforms of one image: which of them is asked for, made ready to run, told of, taken away alone.

An image that came in an index (image.platforms) keeps the others as content. One that a container is made from is
unpacked then and has a record of its own, which says among which image it came (`ImageRecord.among`).
"""

import asyncio
from typing import TYPE_CHECKING, Any

from corten.base.errors import Conflict, NotFound
from corten.image import platforms
from corten.image.content import ContentStore
from corten.image.platforms import PlatformImage
from corten.image.records import Blob, Image, ImageRecord
from corten.oci.digest import is_digest
from corten.oci.image_spec import INDEXES, MANIFEST_LIMIT, MANIFESTS, OCI_INDEX, OCI_MANIFEST, chain_ids
from corten.oci.platform import Platform, parse_platform, platform_of

if TYPE_CHECKING:
    from corten.engine.images import Images

_ALIASES = {"x86_64": "amd64", "aarch64": "arm64"}
_ATTESTED = "vnd.docker.reference.digest"


def other_platform(image: Image, ref: str, wanted: Platform | str) -> NotFound:
    """Docker's text for an image that came alone and is not of the platform asked for."""
    return NotFound(f"image with reference {ref} was found but its platform ({platform_of(image.config)}) does not "
                    f"match the specified platform ({wanted})")


async def shown(images: "Images", ref: str, platform: str) -> Image:
    """The image of a name and a platform, "" for this machine's; one of several is for reading only.

    Raises NotFound with docker's texts, InvalidArgument.
    """
    image = images.find(ref)
    if not platform or platform_of(image.config) == parse_platform(platform):
        return image
    return _view(images, image, await _sibling(images, image, ref, parse_platform(platform)))


async def ready(images: "Images", ref: str, platform: str) -> Image:
    """The same with its layers unpacked, for a container. A wanted variant that is not stated counts as the same."""
    image = images.find(ref)
    if not platform:
        return image
    wanted = parse_platform(platform)
    if _fits(image, platform):
        return image
    if not image.record.kept:
        own = "/".join((image.config.get("os", "linux"), image.config.get("architecture", "")))
        raise NotFound(f"image with reference {ref} was found but its platform ({own}) does not match the "
                       f"specified platform ({platform})")
    with images.store.content.lease() as lease:
        for digest in image.record.kept:
            lease.add(digest)
        other = await _sibling(images, image, ref, wanted)
        known = images.store.get(other.manifest.config.digest)
        if known is not None:
            return known
        return await images.store.register_image(
            other.data, other.manifest.config.digest, other.manifest.layers, among=image.id)


def _fits(image: Image, platform: str) -> bool:
    system, architecture = image.config.get("os", "linux"), image.config.get("architecture", "")
    wanted = platform.lower().split("/")
    return wanted[0] == system and (len(wanted) == 1 or _ALIASES.get(wanted[1], wanted[1]) == architecture)


async def _sibling(images: "Images", image: Image, ref: str, wanted: Platform) -> PlatformImage:
    if not image.record.kept:
        raise other_platform(image, ref, wanted)
    found = await asyncio.to_thread(platforms.sibling, images.store.content, image, wanted)
    if found is None:
        raise platforms.not_provided(ref, wanted)
    return found


def _view(images: "Images", main: Image, other: PlatformImage) -> Image:
    """One of several as an image to be read, with their common names."""
    store, config = images.store, other.manifest.config.digest
    known = store.get(config)
    chain = chain_ids(other.config["rootfs"]["diff_ids"])
    blobs = [Blob(layer.media_type, layer.digest, layer.size) for layer in other.manifest.layers]
    record = ImageRecord(config, chain, blobs, other.digest, tagged_ns=main.record.tagged_ns, among=main.id)
    layers = known.layers if known else []
    size = known.size if known else sum(blob.size for blob in blobs)
    found = Image(record, other.config, layers, size)
    found.names, found.digests = main.names, main.digests
    return found


def siblings(images: "Images", image: Image) -> list[Image]:
    """Those with records of their own that came among an image."""
    return [other for other in images.store.images.values() if other.record.among == image.id]


def is_shown_by_another(images: "Images", image: Image) -> bool:
    """Whether an image without a name is one of the platforms of another that is here."""
    return bool(image.record.among and not image.names and not image.digests
                and images.store.get(image.record.among) is not None)


def shown_as(images: "Images", image_id: str) -> str:
    """The image that lists show for this one."""
    image = images.store.get(image_id)
    return image.record.among if image and is_shown_by_another(images, image) else image_id


# --- told of


def descriptor(images: "Images", image: Image) -> dict[str, Any] | None:
    """`Descriptor` of inspect: the index, or the manifest of one of several; None for an image that came alone."""
    content, record = images.store.content, image.record
    if record.kept:
        return _document(content, record.kept[0], OCI_INDEX)
    if not record.among or not record.manifest:
        return None
    own = platform_of(image.config)
    return {**_document(content, record.manifest, OCI_MANIFEST), **({"platform": own.json()} if own else {})}


def manifest_descriptor(images: "Images", image_id: str) -> dict[str, Any] | None:
    """`ImageManifestDescriptor` of a container: which of several platforms it was made from."""
    image = images.store.get(image_id)
    if image is None or not image.record.manifest or not (image.record.kept or image.record.among):
        return None
    own = platform_of(image.config)
    found = _document(images.store.content, image.record.manifest, OCI_MANIFEST)
    return {**found, **({"platform": own.json()} if own else {})}


def _document(content: ContentStore, digest: str, media_type: str) -> dict[str, Any]:
    own = platforms.stated_type(content.read(digest, MANIFEST_LIMIT))
    return {"mediaType": own or media_type, "digest": digest, "size": content.size(digest)}


def manifests(images: "Images", image: Image) -> list[dict[str, Any]]:
    """`Manifests` of inspect and list: each manifest of the index, or the one that the image came with."""
    content, record = images.store.content, image.record
    if not record.kept:
        own = platform_of(image.config)
        entry = _document(content, record.manifest, OCI_MANIFEST) if record.manifest else None
        return [_summary(images, {**entry, **({"platform": own.json()} if own else {})})] if entry else []
    found: dict[int, dict[str, Any]] = {}

    def walk(digest: str, depth: int) -> None:
        for entry in platforms.named_by(content, digest):
            if entry.get("mediaType") in list(MANIFESTS):
                found[len(found)] = _summary(images, entry)
            elif entry.get("mediaType") in list(INDEXES) and depth and content.has(entry["digest"]):
                walk(entry["digest"], depth - 1)

    walk(record.kept[0], platforms.DEPTH)
    return list(found.values())


def _summary(images: "Images", entry: dict[str, Any]) -> dict[str, Any]:
    """Source: Engine API 1.48, `ImageManifestSummary`."""
    content, digest = images.store.content, entry["digest"]
    here = content.has(digest)
    named = [one["digest"] for one in platforms.named_by(content, digest)] if here else []
    present = [name for name in dict.fromkeys([digest, *named]) if content.has(name)]
    size = sum(content.size(name) for name in present)
    found: dict[str, Any] = {
        "ID": digest, "Descriptor": entry, "Available": here and all(content.has(name) for name in named),
        "Size": {"Content": size, "Total": size}, "Kind": "unknown",
    }
    annotations = entry.get("annotations")
    if isinstance(annotations, dict) and "vnd.docker.reference.type" in annotations:
        if is_digest(annotations.get(_ATTESTED)):
            found |= {"Kind": "attestation", "AttestationData": {"For": annotations[_ATTESTED]}}
        return found
    unpacked, users = _unpacked(images, named)
    found["Size"]["Total"] += unpacked
    platform = entry.get("platform")
    return found | {"Kind": "image", "ImageData": {
        "Platform": platform, "Containers": users or None, "Size": {"Unpacked": unpacked}}}


def _unpacked(images: "Images", named: list[str]) -> tuple[int, list[str]]:
    """What the layers of an image take on the disk, and the containers made from it; `named`: by its manifest."""
    image = next((found for name in named if (found := images.store.get(name)) is not None), None)
    if image is None:
        return 0, []
    users = [record.id for record in images.engine.containers if record.image_id == image.id]
    return sum(images.store.layers[chain].disk for chain in image.record.chain_ids), users


# --- taken away alone


async def remove(images: "Images", ref: str, wanted: list[str], force: bool, prune: bool) -> list[dict[str, str]]:
    """DELETE /images/{name}?platforms=…: these platforms' content. Raises NotFound, Conflict, InvalidArgument."""
    image = images.find(ref)
    if not image.record.kept:
        for text in wanted:
            await shown(images, ref, text)
        return images.remove(ref, force, prune)
    others = [await _sibling(images, image, ref, parse_platform(text)) for text in wanted]
    if not force:
        raise Conflict("Content will be removed from all images referencing this variant. Use —-force to force delete.")
    for other in others:
        known = images.store.get(other.manifest.config.digest)
        if known is image:
            raise Conflict(f"{other.platform} is what {ref} means on this machine and cannot be removed alone")
        if known is not None and images.engine.containers.using_image(known.id):
            raise Conflict(f"conflict: unable to delete {ref} ({other.platform}) - a container is using it")
    for other in others:
        _drop(images, other)
    images.store.collect()
    return [{"Deleted": other.digest} for other in others]


def _drop(images: "Images", other: PlatformImage) -> None:
    """Let no image keep what only this one of an index needs."""
    content = images.store.content
    own = {other.digest, other.manifest.config.digest, *(layer.digest for layer in other.manifest.layers)}
    for image in images.store.images.values():
        if other.digest in image.record.kept:
            rest = [digest for digest in image.record.kept if digest not in own]
            still = {one["digest"] for digest in rest if digest != image.record.kept[0]
                     for one in platforms.named_by(content, digest)}
            images.store.keep(image, rest + [digest for digest in image.record.kept if digest in own & still])
    known = images.store.get(other.manifest.config.digest)
    if known is not None and is_shown_by_another(images, known):
        images.store.forget(known.id)
