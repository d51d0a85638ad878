"""What becomes of a built image, one exporter of the client after another.

    image, moby   names here, a push           docker, oci   an archive (both at once, as of `docker save`), sent
    local         the files, sent as a folder  tar           the files, sent as a tar

Source: docs.docker.com/build/exporters; attributes: moby/buildkit exporter/containerimage/exptypes, exporter/local.
"""

import base64
import contextlib
import json
from collections.abc import Awaitable, Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Any

from grpclib.exceptions import GRPCError, StreamTerminatedError

from corten.api.buildkit.content import ClientStore
from corten.api.buildkit.progress import Vertex
from corten.api.buildkit.send import send_file, send_tree
from corten.api.buildkit.sessions import Session
from corten.base.errors import Error, InvalidArgument, Unsupported
from corten.engine import build_cache_remote, build_export
from corten.engine.builds import tag_name
from corten.oci import reference
from corten.oci.image_spec import Descriptor, parse_manifest
from corten.registry.auth import credentials_from

if TYPE_CHECKING:
    from corten.engine.engine import Engine
    from corten.image.records import Image

# of no effect on what is made here, or done by the client itself
_IDLE = frozenset(("name", "dest", "context", "prefer-image-digest", "buildinfo-attrs", "buildinfo", "oci-artifact",
                   "unpack", "prefer-nondist-layers", "source-date-epoch", "rewrite-timestamp"))
# what is done here one way only
_ALWAYS = {
    "image": {"store": True, "oci-mediatypes": False, "force-compression": False, "name-canonical": False},
    "docker": {"force-compression": False}, "oci": {"oci-mediatypes": True, "force-compression": False},
}
_KNOWN = {
    "image": {"push", "registry.insecure", "compression", "dangling-name-prefix", "danging-name-empty-only"},
    "docker": {"tar", "compression"}, "oci": {"tar", "compression"},
    "local": {"platform-split", "mode"}, "tar": {"platform-split"},
}
_TRUE, _FALSE = ("true", "1"), ("", "false", "0")


class Export:
    """One image on its way out: the engine, the client's session, and who tells the client of it."""

    def __init__(self, engine: "Engine", session: Session, image: "Image", vertex: Vertex, number: int,
                 attributes: Mapping[str, str], epoch: int | None) -> None:
        self.engine, self.session, self.image, self.vertex = engine, session, image, vertex
        self.number, self.attributes, self.epoch = number, attributes, epoch
        self.names = [tag_name(name) for name in attributes.get("name", "").split(",") if name]
        self.response: dict[str, str] = {}

    def flag(self, name: str, default: bool = False) -> bool:
        """A boolean attribute. Raises InvalidArgument."""
        text = self.attributes.get(name, str(default).lower()).lower()
        if text not in (*_TRUE, *_FALSE):
            raise InvalidArgument(f"non-bool value specified for {name}: {text}")
        return text in _TRUE

    def told(self, text: str) -> None:
        self.vertex.log(2, f"{text}\n".encode())

    def describe(self, manifest: Descriptor) -> None:
        """The manifest the client is told of."""
        self.response["containerimage.digest"] = manifest.digest
        described = json.dumps(manifest.json()).encode()
        self.response["containerimage.descriptor"] = base64.b64encode(described).decode()


def check(exporters: Iterable[Any]) -> None:
    """Refuse what cannot be done before anything is built. Raises Unsupported, InvalidArgument."""
    for exporter in exporters:
        kind = "image" if exporter.Type == "moby" else exporter.Type
        if kind not in _EXPORTERS:
            raise Unsupported(f"the exporter {exporter.Type} is not there: --output type={exporter.Type}")
        for name, value in exporter.Attrs.items():
            if name in _IDLE or name.startswith(("annotation.", "annotation-manifest.")):
                continue
            always = _ALWAYS.get(kind, {}).get(name)
            if always is not None:
                if value.lower() not in (_TRUE if always else _FALSE):
                    raise Unsupported(f"the attribute {name}={value} of the exporter {kind} is not done yet")
                continue
            if name.startswith("annotation-"):
                raise InvalidArgument("index annotations not supported for single platform export")
            if name not in _KNOWN[kind] and value.lower() not in _FALSE:
                raise Unsupported(f"the attribute {name}={value} of the exporter {kind} is not done yet")
            if name == "compression" and value not in ("", "gzip" if kind == "image" else "uncompressed"):
                raise Unsupported(f"compression={value} is not done yet by the exporter {kind}")
            if name == "mode" and value not in ("", "copy"):
                raise Unsupported(f"mode={value} is not done yet by the exporter local")


async def export(engine: "Engine", session: Session, progress: Any, ref: str, image_id: str, exporters: Iterable[Any],
                 epoch: int | None) -> dict[str, str]:
    """Do what the exporters ask; ExporterResponse. Raises Error kinds with what the client is shown."""
    image = engine.images.find(image_id)
    response = {"containerimage.digest": image_id, "containerimage.config.digest": image_id}
    for number, exporter in enumerate(exporters):
        what, work = _EXPORTERS["image" if exporter.Type == "moby" else exporter.Type]
        vertex = Vertex(progress, what, f"{ref}export{number}")
        try:
            one = Export(engine, session, image, vertex, number, dict(exporter.Attrs), epoch)
            _annotate(one)
            await work(one)
        except (Error, OSError, GRPCError, StreamTerminatedError) as error:
            text = str(error.message or error.status.name) if isinstance(error, GRPCError) else str(error)
            vertex.done(error=text)
            raise Unsupported(text) from error
        vertex.done()
        response.update(one.response)
    return response


def _annotate(one: Export) -> None:
    annotations = {}
    for name, value in one.attributes.items():
        kind, _, key = name.partition(".")
        if kind in ("annotation", "annotation-manifest"):
            annotations[key] = value
    if annotations:
        build_export.annotate(one.engine, one.image, annotations)


async def _image(one: Export) -> None:
    images = one.engine.images
    for full in one.names:
        images.give_name(one.image, full)
        one.told(f"naming to {full} done")
    if one.names:
        one.response["image.name"] = ",".join(one.names)
    if one.flag("push"):
        if not one.names:
            raise InvalidArgument("tag is needed when pushing to registry")
        for full in one.names:
            await _push(one, full)


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


async def _archive(one: Export) -> None:
    if not one.flag("tar", True):
        await _store(one)
        return
    found = build_export.saved_image(one.engine, one.image, one.names)
    pieces = build_export.archive(one.engine, one.image, found)
    async with contextlib.aclosing(pieces):
        await send_file(one.session, one.number, pieces, one.response)
    one.describe(found.top)
    if one.names:
        one.response["image.name"] = ",".join(one.names)


async def _store(one: Export) -> None:
    """Blobs into a folder of the client's, an OCI layout; the client writes its index."""
    store, content = ClientStore(one.session, "export"), one.engine.images.store.content
    with content.lease() as lease:
        found = build_export.saved_image(one.engine, one.image, one.names)
        for digest in (*found.digests(), content.add(found.manifest)):
            await build_cache_remote.send(one.engine, store, digest, lease)
    one.describe(found.top)
    if one.names:
        one.response["image.name"] = ",".join(one.names)


async def _local(one: Export) -> None:
    with build_export.tree(one.engine, one.image) as root:
        await send_tree(one.session, one.number, root, None if one.epoch is None else one.epoch * 1_000_000_000)


async def _tar(one: Export) -> None:
    with build_export.tree(one.engine, one.image) as root:
        pieces = build_export.tar(root)
        async with contextlib.aclosing(pieces):
            await send_file(one.session, one.number, pieces, {})


_EXPORTERS: dict[str, tuple[str, Callable[[Export], Awaitable[None]]]] = {
    "image": ("exporting to image", _image),
    "docker": ("exporting to docker image format", _archive),
    "oci": ("exporting to oci image format", _archive),
    "local": ("exporting to client directory", _local),
    "tar": ("exporting to client tarball", _tar),
}
