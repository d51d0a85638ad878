"""Images in and out without a registry: load, save, import, and a container's changes made an image (commit)."""

import asyncio
import contextlib
import json
import os
from collections.abc import AsyncIterator, Iterator
from typing import TYPE_CHECKING, Any

from corten.base.errors import Conflict, Forbidden, InvalidArgument, NotFound
from corten.base.units import format_time, now_ns
from corten.build.arguments import BuildArguments
from corten.build.changes import CHANGES, working_directory
from corten.build.dockerfile import parse as parse_dockerfile
from corten.build.instructions import read_plan
from corten.build.stage import BuildImage, StageState
from corten.engine.messages import Stream
from corten.engine.records import ContainerRecord, encode
from corten.engine.remote import pieces_of
from corten.engine.streams import FileSpan
from corten.image.archive import inflate_into
from corten.image.diff import add_layer
from corten.image.host import NAME as HOST_NAME
from corten.image.host import refuse
from corten.image.load import load as load_images
from corten.image.progress import Bar, Emit, plain
from corten.image.records import Blob, Image
from corten.image.save import BlobPiece, Saved, saved
from corten.image.save import save as save_pieces
from corten.oci import reference
from corten.oci.image_spec import DOCKER_LAYER, machine_architecture
from corten.oci.platform import parse_platform
from corten.registry.auth import Credentials, credentials_from

if TYPE_CHECKING:
    from corten.engine.images import Images

_CHANGEABLE = frozenset((
    "CMD", "ENTRYPOINT", "ENV", "EXPOSE", "HEALTHCHECK", "LABEL", "ONBUILD", "STOPSIGNAL", "USER", "VOLUME", "WORKDIR",
))
_INHERITED = (  # of a container's config, what an image has too
    "Cmd", "Entrypoint", "Env", "ExposedPorts", "Healthcheck", "Labels", "OnBuild", "Shell", "StopSignal", "User",
    "Volumes", "WorkingDir",
)


class ImportRequest:
    """POST /images/create?fromSrc: `name` a full reference or "", `changes` Dockerfile lines, `platform` or ""."""

    __slots__ = ("changes", "message", "name", "platform", "source")

    def __init__(self, source: str, name: str, message: str, changes: list[str], platform: str) -> None:
        self.source, self.name, self.message, self.changes, self.platform = source, name, message, changes, platform


class CommitRequest:
    """POST /commit. `config`: fields of the body that replace the container's (docker's JSON names)."""

    __slots__ = ("author", "changes", "comment", "config", "name", "pause")

    def __init__(self, name: str, comment: str, author: str, changes: list[str], pause: bool,
                 config: dict[str, Any]) -> None:
        self.name, self.comment, self.author, self.changes = name, comment, author, changes
        self.pause, self.config = pause, config


def credentials_for(domain: str, auths: dict[str, dict[str, str]]) -> Credentials | None:
    """The login of `auths` (X-Registry-Config: by registry address) for one registry's domain."""
    hub = ("https://index.docker.io/v1/", "index.docker.io")
    for address, fields in auths.items():
        bare = address.removeprefix("https://").removeprefix("http://").partition("/")[0]
        if bare == domain or (domain == "docker.io" and (address in hub or bare in hub)):
            return credentials_from(fields)
    return None


# --- load and save


async def load(images: "Images", body: AsyncIterator[bytes], platform: str,
               emit: Emit | None = None) -> list[dict[str, Any]]:
    """Docker's last messages of a load; those of the layers on the way go to `emit`."""
    wanted = parse_platform(platform) if platform else None
    messages: list[dict[str, Any]] = []
    for loaded in await load_images(images.store, body, wanted, emit):
        for name, old in loaded.replaced.items():
            familiar = reference.parse(name).familiar()
            text = f"The image {familiar} already exists, renaming the old one with ID {old} to empty string\n"
            messages.append({"stream": text})
        if loaded.names:
            messages += [{"stream": f"Loaded image: {reference.parse(name).familiar()}\n"} for name in loaded.names]
        else:
            messages.append({"stream": f"Loaded image ID: {loaded.image.id}\n"})
        images.publish(loaded.image, "load", loaded.image.id)
    return messages


def save(images: "Images", refs: list[str], platform: str) -> Iterator[bytes | FileSpan]:
    """The archive's pieces; everything is looked up now, blobs are held until the iterator is done or dropped."""
    wanted: dict[str, tuple[Image, Saved]] = {}
    asked = parse_platform(platform) if platform else None
    for ref in refs:
        for image, names in _chosen(images, ref):
            refuse(image, "saved")
            if image.id not in wanted:
                found = saved(images.store.content, image, [], asked)
                if found is None:
                    raise NotFound(f"no suitable export target found for platform {asked}")
                wanted[image.id] = image, found
            known = wanted[image.id][1].names
            known += [name for name in names if name not in known]
    return save_images(images, list(wanted.values()))


def _chosen(images: "Images", ref: str) -> list[tuple[Image, list[str]]]:
    """A name with a tag, an id (saved without names), or a bare name: every tag of it here, as docker takes it."""
    full = images.reference_of(ref) if _found(images, ref) else ""
    if full and (":" in ref.rpartition("/")[2] or "@" in ref):
        image = images.store.images[images.store.names[full]]
        return [(image, [full] if "@" not in full else [])]
    if not full and _found(images, ref):
        return [(images.find(ref), [])]
    bare = reference.parse(ref)
    found = [
        (images.store.images[image_id], [name]) for name, image_id in sorted(images.store.names.items())
        if "@" not in name and reference.parse(name).name == bare.name
    ] if not bare.tag and not bare.digest else []
    if not found:
        raise NotFound(f"No such image: {ref}")
    return found


def _found(images: "Images", ref: str) -> bool:
    try:
        images.find(ref)
    except NotFound:
        return False
    return True


def save_images(images: "Images", wanted: list[tuple[Image, Saved]]) -> Iterator[bytes | FileSpan]:
    """The pieces of an archive of images as they are saved; blobs are held until its end."""
    store = images.store
    lease = store.content.lease()
    for _, found in wanted:
        for digest in found.digests():
            lease.add(digest)

    def pieces() -> Iterator[bytes | FileSpan]:
        with lease, contextlib.ExitStack() as opened:
            for piece in save_pieces(store.content, [found for _, found in wanted]):
                if isinstance(piece, BlobPiece):
                    descriptor = store.content.open(piece.digest)
                    opened.callback(os.close, descriptor)
                    yield FileSpan(descriptor, 0, piece.size)
                    opened.close()
                elif piece:
                    yield piece
        for image, _ in wanted:
            images.publish(image, "save", image.id)

    lease.__enter__()  # from now, not from the first piece
    return pieces()


# --- configs


def apply_changes(config: dict[str, Any], lines: list[str]) -> dict[str, Any]:
    """A config after `--change` lines of Dockerfile. Raises InvalidArgument naming what is not allowed there."""
    if not lines:
        return config
    document = {"config": config, "rootfs": {"type": "layers", "diff_ids": []}}
    state = StageState("", BuildImage("", document, []), BuildArguments({}), "\\")
    if not config.get("Env"):
        state.config.pop("Env", None)
        state.config["Env"] = []
    for line in lines:
        for word in line.split()[:1]:
            if word.upper() not in _CHANGEABLE:
                raise InvalidArgument(f"{word} is not a valid change command")
    plan = read_plan(parse_dockerfile("FROM scratch\n" + "\n".join(lines) + "\n"))
    for command in plan.stages[-1].commands:
        if command.name not in _CHANGEABLE:  # of a second line within one
            raise InvalidArgument(f"{command.name} is not a valid change command")
        if command.name == "WORKDIR":
            state.config["WorkingDir"] = working_directory(state, command)
        else:
            CHANGES[command.name](state, command)
    return {name: value for name, value in state.config.items() if value not in (None, [], {}, "")}


# --- import


def import_url(images: "Images", request: ImportRequest) -> Stream:
    """Messages of an import of what an http or https address answers; without a scheme it is http."""
    url = request.source if "://" in request.source else f"http://{request.source}"

    async def work(emit: Emit) -> None:
        async def told() -> AsyncIterator[bytes]:
            progress, size = Bar(emit, "Importing", "", 0), 0
            async with contextlib.aclosing(pieces_of(url)) as pieces:
                async for piece in pieces:
                    if not size:
                        emit(plain(f"Downloading from {url}"))
                    size += len(piece)
                    progress(size)
                    yield piece

        emit(plain(await import_archive(images, told(), request)))

    return Stream(work)


async def import_archive(images: "Images", body: AsyncIterator[bytes], request: ImportRequest) -> str:
    """One layer out of a tar (compressed or not), and an image on it."""
    store = images.store
    if request.name == HOST_NAME:
        raise Forbidden("the name host:latest is this machine's own /usr and cannot be given to another image")
    config = apply_changes({}, request.changes)
    platform = parse_platform(request.platform).json() if request.platform else {
        "architecture": machine_architecture(os.uname().machine), "os": "linux"}
    if platform["os"] != "linux":
        raise InvalidArgument("operating system is not supported")
    try:
        image = await _import(images, body, request, config, platform)
    finally:
        store.collect()
    images.publish(image, "import", image.id)
    return image.id


async def _import(images: "Images", body: AsyncIterator[bytes], request: ImportRequest, config: dict[str, Any],
                  platform: dict[str, str]) -> Image:
    store = images.store
    with store.content.lease() as lease:
        digest = await inflate_into(store.content, lease, body, store.snapshots)
        await store.ensure_layers([digest], [digest], lease)
        created = format_time(now_ns())
        comment = request.message or f"Imported from {request.source}"
        document = {
            **platform, "created": created, "config": config, "comment": comment,
            "history": [{"created": created, "comment": comment}],
            "rootfs": {"type": "layers", "diff_ids": [digest]},
        }
        image = store.register_document(json.dumps(document).encode())
        if request.name:
            images.give_name(image, request.name)
    return image


# --- commit


async def commit(images: "Images", container: str, request: CommitRequest) -> str:
    """A container's changes as a new image on its own."""
    record = images.engine.containers.get(container)
    if request.name == HOST_NAME:
        raise Forbidden("the name host:latest is this machine's own /usr and cannot be given to another image")
    if images.container_mounts(record.id):
        raise Forbidden("a container of the image host stands on this machine's own /usr and cannot be committed")
    base = images.store.get(record.image_id)
    if base is None:
        raise NotFound(f"No such image: {record.image_id}")
    paused = request.pause and record.state.status == "running"
    if paused:
        try:
            await images.engine.containers.pause(record.id)
        except Conflict:  # it has ended meanwhile, or somebody else has paused it
            paused = False
    try:
        image = await asyncio.shield(asyncio.ensure_future(_commit(images, record, base, request)))
    finally:
        if paused:
            try:
                await images.engine.containers.unpause(record.id)
            except Conflict:  # killed, or let go on by somebody else
                pass
        images.store.collect()
    images.publish(image, "create", image.id)
    name = reference.parse(request.name).familiar() if request.name else ""
    images.engine.containers.publish(record, "commit", comment=request.comment, imageID=image.id, imageRef=name)
    return image.id


async def _commit(images: "Images", record: ContainerRecord, base: Image, request: CommitRequest) -> Image:
    store = images.store
    own = json.loads(encode(record.config))
    config = {name: own[name] for name in _INHERITED if own.get(name)}
    config.update({name: request.config[name] for name in _INHERITED if request.config.get(name)})
    config = apply_changes(config, request.changes)
    with store.content.lease() as lease:
        for name in (base.id, *base.record.chain_ids):
            lease.add(name)
        layer = await add_layer(store, store.snapshots.upper_dir(record.id), base.diff_ids, lease,
                                extra_stubs=tuple(point.destination.strip("/") for point in record.mounts))
        assert layer is not None
        created = format_time(now_ns())
        step = {"created": created, "created_by": " ".join(_words(own.get("Cmd"))), "author": request.author,
                "comment": request.comment}
        document = {
            **{name: base.config[name] for name in ("architecture", "os", "variant") if base.config.get(name)},
            "created": created, "author": request.author, "comment": request.comment, "config": config,
            "history": [*(base.config.get("history") or []), {key: value for key, value in step.items() if value}],
            "rootfs": {"type": "layers", "diff_ids": [*base.diff_ids, layer.diff_id]},
        }
        document = {name: value for name, value in document.items() if value not in ("", None)}
        data = json.dumps(document).encode()
        blobs = [*base.record.blobs, Blob(DOCKER_LAYER, layer.blob, store.content.size(layer.blob))]
        names = [request.name] if request.name else []
        image = store.register(store.content.add(data), document, blobs, names, parent=base.id)
    if request.name:
        images.publish(image, "tag", reference.parse(request.name).familiar())
    return image


def _words(value: object) -> list[str]:
    return [value] if isinstance(value, str) else [str(word) for word in value] if isinstance(value, list) else []
