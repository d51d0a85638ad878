"""What becomes of a build's images, one exporter of the client after another.

    image, moby   names here, a push           docker, oci   an archive (both at once, as of `docker save`), sent
    local         the files, sent as a folder  tar           the files, sent as a tar

Source: docs.docker.com/build/exporters; attributes: export_attributes.py.
"""

import base64
import contextlib
import json
from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Any

from grpclib.exceptions import GRPCError, StreamTerminatedError

from corten.api.buildkit import export_attributes
from corten.api.buildkit.content import ClientStore
from corten.api.buildkit.progress import Vertex
from corten.api.buildkit.send import send_file, send_tree
from corten.api.buildkit.sessions import Session
from corten.base.errors import Error, InvalidArgument, Unsupported
from corten.engine import build_attest, build_cache_remote, build_export, build_manifest
from corten.engine.build_export import Part
from corten.engine.build_manifest import Annotations, Attestation, Made, Wanted
from corten.engine.builds import tag_name
from corten.oci import reference
from corten.oci.image_spec import Descriptor, parse_manifest
from corten.oci.platform import Platform
from corten.registry.auth import credentials_from

if TYPE_CHECKING:
    from corten.engine.engine import Engine
    from corten.image.content import Lease


class Result:
    """What is exported: image ids by platform, what attests to them, and whether that is wanted only inline.

    `several`: the client asked for an index. `epoch`: the time of all that is made, in seconds.
    """

    def __init__(self, images: Mapping[Platform, str]) -> None:
        self.images = images
        self.attestations: dict[Platform, list[Attestation]] = {}
        self.inline_only = True
        self.several = len(images) > 1
        self.epoch: int | None = None


class Export:
    """One result on its way out: the engine, the client's session, and who tells the client of it."""

    def __init__(self, engine: "Engine", session: Session, result: Result, vertex: Vertex, number: int,
                 exporter: Any) -> None:
        self.engine, self.session, self.result, self.vertex, self.number = engine, session, result, vertex, number
        self.kind, self.attributes = export_attributes.kind_of(exporter), dict(exporter.Attrs)
        self.platform = build_manifest.main_of(result.images)
        self.image = engine.images.find(result.images[self.platform])
        self.names = [tag_name(name) for name in self.attributes.get("name", "").split(",") if name]
        self.response: dict[str, str] = {}
        self.is_index = False  # what went out

    def flag(self, name: str, default: bool = False) -> bool:
        """A boolean attribute. Raises InvalidArgument."""
        return export_attributes.flag(self.attributes, name, default)

    def told(self, text: str) -> None:
        self.vertex.log(2, f"{text}\n".encode())

    def describe(self, manifest: Descriptor) -> None:
        """The manifest the client is told of."""
        self.response["containerimage.digest"] = manifest.digest
        described = json.dumps(manifest.json()).encode()
        self.response["containerimage.descriptor"] = base64.b64encode(described).decode()

    def attestations(self, inline: bool) -> dict[Platform, list[Attestation]]:
        """What goes out with the images; `inline`: also what is wanted only where it costs nothing."""
        return dict(self.result.attestations) if inline or not self.result.inline_only else {}

    async def make(self, lease: "Lease", *, inline: bool) -> Made:
        """The manifests. Raises InvalidArgument."""
        oci = self.flag("oci-mediatypes", True)
        wanted = Wanted(export_attributes.compression(self.kind, self.attributes, oci), Annotations(self.attributes))
        wanted.index = self.result.several
        wanted.attestations = self.attestations(inline and oci)
        wanted.subjects = build_attest.subjects(self.names, self.result.images)
        if self.kind == "docker" and wanted.attestations:
            raise InvalidArgument("docker exporter does not support exporting manifest lists, use the oci exporter "
                                  "instead")
        made = await build_manifest.make(self.engine, lease, self.result.images, wanted)
        for platform, one in made.manifests.items():
            self.told(f"exporting manifest {one.digest} done" + (f" ({platform})" if made.index else ""))
        if made.index:
            self.told(f"exporting manifest list {made.top.digest} done")
        return made


async def export(engine: "Engine", session: Session, progress: Any, ref: str, result: Result,
                 exporters: Iterable[Any]) -> dict[str, str]:
    """Do what the exporters ask; ExporterResponse. Raises Error kinds with what the client is shown."""
    image_id = result.images[build_manifest.main_of(result.images)]
    response = {"containerimage.digest": image_id, "containerimage.config.digest": image_id}
    for number, exporter in enumerate(exporters):
        what, work = _EXPORTERS[export_attributes.kind_of(exporter)]
        vertex = Vertex(progress, what, f"{ref}export{number}")
        try:
            one = Export(engine, session, result, vertex, number, exporter)
            await work(one)
        except (Error, OSError, GRPCError, StreamTerminatedError) as error:
            text = str(error.message or error.status.name) if isinstance(error, GRPCError) else str(error)
            vertex.done(error=text)
            raise Unsupported(text) from error
        vertex.done()
        response.update(one.response)
        if one.is_index:  # of no single config
            response.pop("containerimage.config.digest", None)
    return response


# --- image


async def _image(one: Export) -> None:
    push = one.flag("push") or one.flag("push-by-digest")
    if push and not one.names:
        raise InvalidArgument("tag is needed when pushing to registry")
    inline = push or one.flag("attestation-inline")
    if not one.result.several and not one.attestations(inline) and _is_plain(one.attributes):
        _name(one)
        for full in one.names if push else ():
            await _push(one, full)
        return
    with one.engine.images.store.content.lease() as lease:
        made = await one.make(lease, inline=inline)
        if one.flag("store", True):
            build_manifest.keep(one.engine, made, one.platform, one.image)
            _name(one)
            _name_by_digest(one, made)
        for full in one.names if push else ():
            await _push_made(one, full, made)
        if push:
            one.describe(made.top)
        one.is_index = made.index


def _is_plain(attributes: Mapping[str, str]) -> bool:
    """Whether nothing is asked that decides how manifests look, or what of them has a name."""
    decides = ("compression", "compression-level", "force-compression", "oci-mediatypes", "name-canonical",
               "push-by-digest", "dangling-name-prefix")
    named = any(name in decides or name.startswith("annotation") for name in attributes)
    return not named and export_attributes.flag(attributes, "store", True)


def _name(one: Export) -> None:
    """It stays here: told, and given its names."""
    one.engine.images.publish(one.image, "create", one.image.id)
    for full in () if one.flag("push-by-digest") else one.names:
        one.engine.images.give_name(one.image, full)
        one.told(f"naming to {full} done")
    if one.names:
        one.response["image.name"] = ",".join(one.names)


def _name_by_digest(one: Export, made: Made) -> None:
    """Names with the manifest's digest, where the client asks for such."""
    names = list(one.names) if one.flag("name-canonical") or one.flag("push-by-digest") else []
    prefix = one.attributes.get("dangling-name-prefix", "")
    if prefix and not (one.names and one.flag("danging-name-empty-only")):
        names.append(tag_name(prefix))
    for full in names:
        canonical = reference.parse(full).without_tag().with_digest(made.top.digest).full()
        one.engine.images.store.tag(one.image.id, canonical)
        one.told(f"naming to {canonical} done")


async def _push(one: Export, full: str) -> None:
    parsed = reference.parse(full)
    login = await one.session.credentials(parsed.domain)
    one.told(f"pushing {full}")
    async for message in await one.engine.distribution.push(parsed.name, parsed.tag, credentials_from(login or {})):
        if "error" in message:
            raise Unsupported(message["error"])
        if digest := (message.get("aux") or {}).get("Digest"):
            data = one.engine.images.store.content.read(digest)
            one.describe(Descriptor(parse_manifest(data).media_type, digest, len(data)))


async def _push_made(one: Export, full: str, made: Made) -> None:
    parsed = reference.parse(full)
    if one.flag("push-by-digest"):
        parsed = parsed.without_tag()
    login = await one.session.credentials(parsed.domain)
    one.told(f"pushing {parsed.full()}@{made.top.digest}")
    push = one.engine.distribution.push_content(parsed, made.top, credentials_from(login or {}))
    async for message in await push:
        if "error" in message:
            raise Unsupported(message["error"])


# --- archives


async def _archive(one: Export) -> None:
    engine = one.engine
    with engine.images.store.content.lease() as lease:
        made = await one.make(lease, inline=one.flag("attestation-inline"))
        found = build_export.saved_image(engine, one.image, one.names, made, one.platform)
        if one.flag("tar", True):
            pieces = build_export.archive(engine, one.image, found)
            async with contextlib.aclosing(pieces):
                await send_file(one.session, one.number, pieces, one.response)
        else:  # blobs into a folder of the client's, an OCI layout; the client writes its index
            store = ClientStore(one.session, "export")
            for digest in (*found.digests(), *(entry.digest for entry in made.manifests.values())):
                await build_cache_remote.send(engine, store, digest, lease)
        one.is_index = made.index
    one.describe(found.top)
    if one.names:
        one.response["image.name"] = ",".join(one.names)


# --- files


@contextlib.contextmanager
def _parts(one: Export) -> Iterator[list[Part]]:
    """The trees that go out, one a platform, each in a folder of its own when there are several."""
    attested = one.attestations(inline=False)
    with contextlib.ExitStack() as opened:
        found = []
        for platform, image_id in sorted(one.result.images.items(), key=lambda item: _folder_name(item[0])):
            root = opened.enter_context(build_export.tree(one.engine, one.engine.images.find(image_id)))
            told = attested.get(platform, [])
            files = {"provenance.json": json.dumps(told[0].predicate, indent=2).encode()} if told else {}
            found.append(Part(root, _folder_name(platform) if one.result.several else "", files))
        yield found


def _folder_name(platform: Platform) -> str:
    return str(platform).replace("/", "_")


async def _local(one: Export) -> None:
    epoch = one.result.epoch
    with _parts(one) as parts:
        await send_tree(one.session, one.number, parts, None if epoch is None else epoch * 1_000_000_000)


async def _tar(one: Export) -> None:
    with _parts(one) as parts:
        pieces = build_export.tar(parts)
        async with contextlib.aclosing(pieces):
            await send_file(one.session, one.number, pieces, {})


_EXPORTERS: dict[str, tuple[str, Callable[[Export], Awaitable[None]]]] = {
    "image": ("exporting to image", _image),
    "docker": ("exporting to docker image format", _archive),
    "oci": ("exporting to oci image format", _archive),
    "local": ("exporting to client directory", _local),
    "tar": ("exporting to client tarball", _tar),
}
