"""--cache-from and --cache-to of a client: kinds registry, local, inline; others are refused by name."""

import json
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

from grpclib.exceptions import GRPCError, StreamTerminatedError

from corten.api.buildkit.content import ClientStore
from corten.api.buildkit.progress import Progress, Vertex
from corten.api.buildkit.sessions import Session
from corten.base.errors import Error, InvalidArgument, Unsupported
from corten.base.files import parse_json
from corten.engine import build_cache_remote as remote
from corten.oci import reference
from corten.oci.image_spec import INDEXES, MANIFEST_LIMIT, OCI_MANIFEST, parse_index
from corten.registry.auth import credentials_from
from corten.registry.settings import registry_host

if TYPE_CHECKING:
    from corten.engine.engine import Engine

_TRUE = ("true", "1")
_IMAGES = 16  # of an index, whose inline caches are read


def check(exports: Iterable[Any]) -> None:
    """Refuse what cannot be written before anything is built. Raises Unsupported, InvalidArgument."""
    for one in exports:
        if one.Type not in ("inline", "registry", "local"):
            raise Unsupported(f"the cache exporter {one.Type} is not there: --cache-to type=inline, registry or local")
        if one.Attrs.get("mode", "min") not in ("min", "max"):
            raise InvalidArgument(f"invalid cache mode {one.Attrs['mode']}")
        for name, wanted in (("registry", "ref"), ("local", "dest")):
            if one.Type == name and not one.Attrs.get(wanted):
                raise InvalidArgument(f"{name} cache exporter requires {wanted}")


async def read(engine: "Engine", session: Session, progress: Progress, ref: str, text: str) -> list[remote.Imported]:
    """The caches that `cache-imports` names, a JSON list; one that cannot be read is told of and left out.

    Raises Unsupported, InvalidArgument.
    """
    entries = parse_json(text, limit_bytes=1 << 20) if text else []
    if not isinstance(entries, list) or not all(isinstance(entry, dict) for entry in entries):
        raise InvalidArgument("invalid cache-imports: not a list of objects")
    found = []
    for number, entry in enumerate(entries):
        kind, attributes = str(entry.get("Type")), entry.get("Attrs") or {}
        if kind not in ("registry", "local"):
            raise Unsupported(f"the cache importer {kind} is not there: --cache-from type=registry or local")
        name = str(attributes.get("ref" if kind == "registry" else "src", ""))
        vertex = Vertex(progress, f"importing cache manifest from {name}", f"{ref}import{number}")
        try:
            found += await _read(engine, session, kind, name, attributes)
        except (Error, OSError, GRPCError, StreamTerminatedError) as error:
            vertex.done(error=str(error))
            continue
        vertex.done()
    return found


async def _read(engine: "Engine", session: Session, kind: str, name: str,
                attributes: Mapping[str, Any]) -> list[remote.Imported]:
    if kind == "local":
        store = ClientStore(session, f"local:{name}")
        return [await remote.read(store, await store.read(str(attributes.get("digest")), MANIFEST_LIMIT))]
    parsed = reference.parse(name).with_default_tag()
    place = await _repository(engine, session, parsed, "pull")
    manifest, described = await place.client.manifest(parsed.digest or parsed.tag)
    if described.media_type not in INDEXES:
        return [await remote.read(place, manifest)]
    images = [entry for entry in parse_index(manifest) if "vnd.docker.reference.type" not in entry.annotations]
    return [await remote.read(place, (await place.client.manifest(entry.digest))[0]) for entry in images[:_IMAGES]]


async def _repository(engine: "Engine", session: Session, parsed: reference.Reference,
                      actions: str) -> remote.Repository:
    login = credentials_from(await session.credentials(parsed.domain) or {})
    registries = engine.distribution.registries
    return remote.Repository(await registries.client(registry_host(parsed.domain), parsed.path, login, actions))


def add_inline(engine: "Engine", image_id: str, steps: Mapping[str, str], exports: Iterable[Any]) -> str:
    """The image as it is exported: with its cache in it, when that is asked for."""
    if not any(one.Type == "inline" for one in exports):
        return image_id
    kept = remote.steps_of(engine, steps, image_id, everything=False)
    return remote.inline(engine, engine.images.find(image_id), kept).id


async def write(engine: "Engine", session: Session, progress: Progress, ref: str, image_ids: list[str],
                steps: Mapping[str, str], exports: Iterable[Any]) -> dict[str, str]:
    """Write the caches asked for; what the client is told. Raises Error kinds."""
    response: dict[str, str] = {}
    for number, one in enumerate(exports):
        if one.Type == "inline":
            continue
        vertex = Vertex(progress, f"exporting cache to {'registry' if one.Type == 'registry' else 'client directory'}",
                        f"{ref}cache{number}")
        try:
            kept: dict[str, Any] = {}
            for image_id in image_ids:
                kept |= remote.steps_of(engine, steps, image_id, one.Attrs.get("mode") == "max")
            response.update(await _write(engine, session, one, kept))
        except (Error, OSError, GRPCError, StreamTerminatedError) as error:
            vertex.done(error=str(error))
            if one.Attrs.get("ignore-error") not in _TRUE:
                raise Unsupported(f"error writing the build cache: {error}") from error
            continue
        vertex.done()
    return response


async def _write(engine: "Engine", session: Session, one: Any, kept: Mapping[str, Any]) -> dict[str, str]:
    if one.Type == "registry":
        parsed = reference.parse(one.Attrs["ref"]).with_default_tag()
        place = await _repository(engine, session, parsed, "pull,push")
        manifest, _ = await remote.write(engine, place, kept)
        await place.client.put_manifest(parsed.tag, OCI_MANIFEST, manifest)
        return {}
    store = ClientStore(session, f"local:{one.Attrs['dest']}")
    _, described = await remote.write(engine, store, kept)
    with engine.images.store.content.lease() as lease:
        await remote.send(engine, store, described.digest, lease)
    return {"cache.manifest": json.dumps(described.json())}
