"""Removing images by docker's rules: what a name, an id and force each take away, and what keeps an image.

Source: moby daemon/images/image_delete.go and image_prune.go, as their users see them.
"""

from typing import TYPE_CHECKING, Any

from corten.base.errors import Conflict, InvalidArgument
from corten.base.ids import short_id
from corten.engine.image_platforms import siblings
from corten.engine.image_views import check_filters, created_ns, has_label, moment, truth
from corten.engine.records import ContainerRecord
from corten.image.gc import forget_downloads
from corten.image.host import refuse
from corten.image.records import Image
from corten.oci import reference

if TYPE_CHECKING:
    from corten.engine.images import Images

_PRUNE_FILTERS = frozenset(("dangling", "label", "label!", "until"))
_LIVE = ("running", "paused", "restarting")

Records = list[dict[str, str]]


class ImageInUse(Conflict):
    """Something needs the image. `hard`: force does not help; `used`: a container needs it."""

    def __init__(self, image: Image, message: str, hard: bool, used: bool) -> None:
        force = "cannot be forced" if hard else "must be forced"
        super().__init__(f"conflict: unable to delete {short_id(image.id)} ({force}) - {message}")
        self.used = used


def remove(images: "Images", ref: str, force: bool, prune: bool) -> Records:
    """DELETE /images/{name}."""
    image = images.find(ref)
    refuse(image, "removed")
    full = images.reference_of(ref)
    names = images.store.names_of(image.id)
    records: Records = []
    if full:
        if not force and _single(names):
            users = _users(images, image)
            if users:
                raise Conflict(
                    f'conflict: unable to remove repository reference "{ref}" (must force) - container '
                    f"{short_id(users[0].id)} is using its referenced image {short_id(image.id)}")
        _untag(images, image, full, records)
        _drop_lone_digests(images, image, full, records)
        if images.store.names_of(image.id):
            return records
        _delete(images, image, records, force, prune, quiet=True)
        return records
    if _single(names):
        _check(images, image, soft=not force, references=False)
        for name in names:
            _untag(images, image, name, records)
    _delete(images, image, records, force, prune, quiet=False)
    return records


def _single(names: list[str]) -> bool:
    """Whether at most one tag names it, and all names are of one repository."""
    if len(names) <= 1:
        return True
    parsed = [reference.parse(name) for name in names]
    return sum(not name.digest for name in parsed) <= 1 and len({name.name for name in parsed}) == 1


def _untag(images: "Images", image: Image, full: str, records: Records) -> None:
    images.store.untag(full)
    familiar = reference.parse(full).familiar()
    images.publish(image, "untag", image.id)
    records.append({"Untagged": familiar})


def _drop_lone_digests(images: "Images", image: Image, full: str, records: Records) -> None:
    """Digest names of a repository whose last tag has gone go with it."""
    gone = reference.parse(full)
    if gone.digest:
        return
    rest = [reference.parse(name) for name in images.store.names_of(image.id)]
    same = [name for name in rest if name.name == gone.name]
    if same and all(name.digest for name in same):
        for name in same:
            _untag(images, image, name.full(), records)


def _users(images: "Images", image: Image) -> list[ContainerRecord]:
    """The containers made from an image or from another platform of it."""
    found = images.engine.containers.using_image(image.id)
    for other in siblings(images, image):
        found = found + images.engine.containers.using_image(other.id)
    return found


def _check(images: "Images", image: Image, soft: bool, references: bool) -> None:
    """Raise ImageInUse when something keeps the image; `soft` things keep it only when nothing is forced."""
    if images.store.children(image.id):
        raise ImageInUse(image, "image has dependent child images", hard=True, used=False)
    users = _users(images, image)
    for user in users:
        if user.state.status in _LIVE:
            raise ImageInUse(image, f"image is being used by running container {short_id(user.id)}", True, True)
    if not soft:
        return
    if references and images.store.names_of(image.id):
        raise ImageInUse(image, "image is referenced in multiple repositories", hard=False, used=False)
    if users:
        raise ImageInUse(image, f"image is being used by stopped container {short_id(users[0].id)}", False, True)


def _delete(images: "Images", image: Image, records: Records, force: bool, prune: bool, quiet: bool) -> None:
    """The image itself, then (`prune`) the untagged parents nothing else needs."""
    try:
        _check(images, image, soft=not force, references=True)
    except ImageInUse as conflict:
        if quiet and (conflict.used or images.store.names_of(image.id) or images.store.children(image.id)):
            return
        raise
    for name in images.store.names_of(image.id):
        _untag(images, image, name, records)
    parent = images.store.get(image.record.parent) if image.record.parent else None
    chain = image.record.chain_ids
    for other in siblings(images, image):
        if not images.store.names_of(other.id) and not images.engine.containers.using_image(other.id):
            images.store.forget(other.id)
    images.store.forget(image.id)
    images.publish(image, "delete", image.id)
    records.append({"Deleted": image.id})
    swept = set(images.store.collect().layers)
    records.extend({"Deleted": chain_id} for chain_id in reversed(chain) if chain_id in swept)
    if prune and parent is not None and not parent.is_host and not images.store.names_of(parent.id):
        try:
            _delete(images, parent, records, False, True, quiet=True)
        except ImageInUse:
            return


def prune(images: "Images", filters: dict[str, list[str]]) -> dict[str, Any]:
    """POST /images/prune: what no container uses; unless dangling=false only what has no name and no child."""
    check_filters(filters, _PRUNE_FILTERS)
    dangling = truth(filters, "dangling", True)
    until = filters.get("until", [])
    if len(until) > 1:
        raise InvalidArgument("more than one until filter specified")
    oldest = moment(until[0]) if until else None
    before, leased = images.store.usage_bytes(), images.store.content.leased()
    records: Records = []
    for image in sorted(images.store.images.values(), key=created_ns, reverse=True):
        if image.is_host or images.store.get(image.id) is not image or image.id in leased:
            continue  # gone with another, or a build under way has just made it
        if (dangling and images.store.names_of(image.id)) or _users(images, image):
            continue
        if oldest is not None and created_ns(image) >= oldest:
            continue
        if not all(has_label(image, wanted) for wanted in filters.get("label", ())):
            continue
        if any(has_label(image, wanted) for wanted in filters.get("label!", ())):
            continue
        _prune_one(images, image, records)
    forget_downloads(images.store)
    images.store.collect()
    reclaimed = max(before - images.store.usage_bytes(), 0)
    images.engine.events.publish("image", "prune", "", {"reclaimed": str(reclaimed)})
    return {"ImagesDeleted": records or None, "SpaceReclaimed": reclaimed}


def _prune_one(images: "Images", image: Image, records: Records) -> None:
    try:
        _check(images, image, soft=True, references=False)
        for name in images.store.names_of(image.id):
            _untag(images, image, name, records)
        _delete(images, image, records, False, True, quiet=True)
    except ImageInUse:
        return
