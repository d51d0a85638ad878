"""The images of one daemon as the API speaks of them: which one is meant, what it is called, what may go.

The store (image.store) keeps them; reading them out is image_views.py, removal image_remove.py, files in and out
image_transfer.py, registries distribution.py. Texts and events are docker's.
"""

from collections.abc import AsyncIterator, Iterator
from typing import TYPE_CHECKING, Any

from corten.base.errors import Forbidden, InvalidArgument, NotFound
from corten.base.ids import is_id, is_id_prefix
from corten.engine import image_platforms, image_remove, image_transfer, image_views
from corten.engine.messages import Messages, Stream
from corten.image.host import NAME as HOST_NAME
from corten.image.host import add_host_image, mounts, refuse
from corten.image.progress import Emit
from corten.image.records import Image
from corten.image.store import ImageStore
from corten.oci import reference
from corten.oci.reference import Reference
from corten.registry.auth import Credentials

if TYPE_CHECKING:
    from corten.engine.engine import Engine

__all__ = ["Image", "Images"]

Items = list[dict[str, Any]]
Texts = list[str]
Deletions = list[dict[str, str]]


class NoSuchImage(NotFound):
    """`No such image: busybox:latest`"""

    def __init__(self, name: str) -> None:
        super().__init__(f"No such image: {name}")


class Images:
    """All images; one object a daemon. `store` for who needs layers and blobs."""

    def __init__(self, engine: "Engine", storage_driver: str = "") -> None:
        """Raises as corten.image.driver.choose."""
        self.engine = engine
        self.store = ImageStore(engine.layout, engine.db, storage_driver)

    def open(self) -> None:
        """Read the records, clear leftovers, make the host image. Once at start, before containers are looked at."""
        self.store.start()
        add_host_image(self.store)

    # --- which one is meant

    async def resolve(self, ref: str, platform: str = "") -> Image:
        """As `find`, of one of several platforms; its layers are unpacked. Raises NotFound, InvalidArgument."""
        return await image_platforms.ready(self, ref, platform)

    def find(self, ref: str) -> Image:
        """By name, name@digest, id or unique beginning of an id. Raises NoSuchImage, InvalidArgument."""
        found = self._by_full_id(ref)
        if found is not None:
            return found
        named = self._by_reference(ref)
        if named is not None:
            return named[1]
        digits = ref.removeprefix("sha256:")
        if is_id_prefix(digits):
            fits = self.store.by_prefix(digits)
            if len(fits) == 1:
                return fits[0]
            if fits:
                raise InvalidArgument(f"ambiguous reference: {ref}")
        raise NoSuchImage(_shown(ref))

    def _by_full_id(self, ref: str) -> Image | None:
        digits = ref.removeprefix("sha256:")
        if not is_id(digits):
            return None
        found = self.store.get(f"sha256:{digits}")
        if found is None and (ref != digits or not self.store.by_prefix(digits)):
            raise NoSuchImage(ref)
        return found

    def _by_reference(self, ref: str) -> tuple[str, Image] | None:
        """(full reference, image) of a name that is here."""
        try:
            parsed = reference.parse(ref)
        except InvalidArgument:
            if is_id_prefix(ref.removeprefix("sha256:")):
                return None
            raise
        candidates = [parsed.with_default_tag().full()]
        if parsed.tag and parsed.digest:  # both: the digest counts
            candidates = [Reference(parsed.domain, parsed.path, "", parsed.digest).full()]
        for full in candidates:
            image = self.store.by_name(full)
            if image is not None:
                return full, image
        if parsed.digest:  # an image this repository is a name of, by its manifest or its id
            for image in self.store.images.values():
                if parsed.digest in (image.id, image.record.manifest) and any(
                    name.startswith((f"{parsed.name}:", f"{parsed.name}@")) for name in self.store.names_of(image.id)
                ):
                    return candidates[0], image
        return None

    def reference_of(self, ref: str) -> str:
        """The full reference `ref` names, "" when it names an image by id. Raises as `find`."""
        image = self.find(ref)
        if image.id.removeprefix("sha256:").startswith(ref.removeprefix("sha256:")):
            return ""
        named = self._by_reference(ref)
        return named[0] if named is not None and named[0] in self.store.names else ""

    def size_of(self, image_id: str) -> int:
        """Bytes of an image's files; 0 when it is gone."""
        image = self.store.get(image_id)
        return image.size if image else 0

    def descendants(self, ref: str) -> set[str]:
        """The ids of an image and of all built on its layers: what `ps --filter ancestor=` means."""
        chain = self.find(ref)
        found = {chain.id}
        top = chain.record.chain_ids[-1:]
        for image in self.store.images.values():
            own = image.record
            if own.parent in found or own.among in found or (top and top[0] in own.chain_ids):
                found.add(image.id)
        return found

    def container_mounts(self, container_id: str) -> Items:
        """OCI mounts a container needs because of its image. Raises FileNotFoundError when it has no root here."""
        host = self.store.by_name(HOST_NAME)
        below = self.store.snapshots.layers_of(container_id)
        return mounts(host) if host and any(name.startswith("host-") for name in below) else []

    # --- reading

    def list(self, all: bool = False, filters: dict[str, Texts] | None = None, *, shared_size: bool = False,
             digests: bool = False, manifests: bool = False) -> Items:
        """Docker's list, newest first. GET /images/json."""
        return image_views.list_images(self, all, filters or {}, shared_size, manifests)

    def usage(self) -> tuple[Items, int]:
        """The list with what each image takes on the disk as its size, and what all take together. GET /system/df."""
        return image_views.usage(self)

    async def of_platform(self, ref: str, platform: str) -> Image:
        """One of several platforms, to be read; "" for this machine's. Raises as `find`, NotFound."""
        return await image_platforms.shown(self, ref, platform)

    def inspect(self, ref: str | Image, *, manifests: bool = False) -> dict[str, Any]:
        """Docker's inspect. GET /images/{name}/json."""
        return image_views.inspect(self, ref if isinstance(ref, Image) else self.find(ref), manifests)

    def made_by(self, image: Image) -> "Texts | None":
        """The command of the container that its last step was run in, as the classic builder tells it."""
        return image_views.made_by(image)

    def history(self, ref: str | Image) -> Items:
        """Docker's history, newest first. GET /images/{name}/history."""
        return image_views.history(self, ref if isinstance(ref, Image) else self.find(ref))

    # --- names

    def tag(self, ref: str, repo: str, tag: str) -> None:
        """Give an image one more name. POST /images/{name}/tag. Raises NoSuchImage, InvalidArgument, Forbidden."""
        image = self.find(ref)
        self.give_name(image, new_name(repo, tag))

    def give_name(self, image: Image, full: str) -> None:
        """Let `full` mean this image from now on, and tell so."""
        refuse(image, "given another name")
        if full == HOST_NAME:
            raise Forbidden("the name host:latest is this machine's own /usr and cannot be given to another image")
        self.store.tag(image.id, full)
        self.publish(image, "tag", reference.parse(full).familiar())

    def publish(self, image: Image, action: str, name: str, actor: str = "") -> None:
        """Tell an event of this image, its labels and name as attributes."""
        labels = image.container_config.get("Labels") or {}
        self.engine.events.publish("image", action, actor or image.id, {**labels, "name": name})

    # --- going away

    def remove(self, ref: str, force: bool = False, prune: bool = True) -> Deletions:
        """Docker's rmi; the list of Untagged and Deleted. DELETE /images/{name}. Raises NoSuchImage, Conflict."""
        return image_remove.remove(self, ref, force, prune)

    async def remove_platforms(self, ref: str, platforms: Texts, force: bool = False, prune: bool = True) -> Deletions:
        """Take single platforms of an image away. DELETE /images/{name}?platforms=…"""
        return await image_platforms.remove(self, ref, platforms, force, prune)

    def prune(self, filters: dict[str, Texts]) -> dict[str, Any]:
        """POST /images/prune."""
        return image_remove.prune(self, filters)

    # --- files and containers in and out

    async def load_archive(self, body: AsyncIterator[bytes], platform: str = "", emit: Emit | None = None) -> Items:
        """Docker's last messages of a load; those of the layers on the way go to `emit`."""
        return await image_transfer.load(self, body, platform, emit)

    def load_messages(self, body: AsyncIterator[bytes], platform: str = "", quiet: bool = False) -> Messages:
        """All messages of a load as they come. POST /images/load."""
        async def work(emit: Emit) -> None:
            for message in await self.load_archive(body, platform, None if quiet else emit):
                emit(message)

        return Stream(work).messages()

    def save(self, refs: Texts, platform: str = "") -> Iterator[Any]:
        """The pieces of GET /images/get: bytes, and FileSpans the server sends. Raises before the first piece."""
        return image_transfer.save(self, refs, platform)

    async def import_url(self, request: image_transfer.ImportRequest) -> Messages:
        """POST /images/create with fromSrc=URL; what fails before the first byte is raised."""
        return await image_transfer.import_url(self, request).begin()

    async def import_archive(self, body: AsyncIterator[bytes], request: image_transfer.ImportRequest) -> str:
        """POST /images/create with fromSrc; the new image's id."""
        return await image_transfer.import_archive(self, body, request)

    async def commit(self, container: str, request: image_transfer.CommitRequest) -> str:
        """POST /commit; the new image's id."""
        return await image_transfer.commit(self, container, request)

    async def pull(self, ref: str, auths: dict[str, dict[str, str]] | None = None) -> Image:
        """Pull by name, wait for the end; the logins are by registry host. For builds."""
        parsed = reference.parse(ref).with_default_tag()
        credentials = image_transfer.credentials_for(parsed.domain, auths or {})
        messages = await self.engine.distribution.pull(
            parsed.familiar_name(), parsed.digest or parsed.tag, "", credentials or Credentials())
        async for _ in messages:
            pass
        return self.find(ref)


def new_name(repo: str, tag: str) -> str:
    """The full reference of an image's new name. Raises InvalidArgument with docker's texts."""
    parsed = reference.parse(repo)
    if parsed.path == "library/sha256" and parsed.domain == "docker.io":
        raise InvalidArgument("refusing to create an ambiguous tag using digest algorithm as name")
    if parsed.digest:
        raise InvalidArgument("cannot import digest reference")
    return (parsed.with_tag(tag) if tag else parsed.with_default_tag()).full()


def _shown(ref: str) -> str:
    """How docker names what it did not find."""
    try:
        return reference.parse(ref).with_default_tag().familiar()
    except InvalidArgument:
        return ref

