"""`--cache-from` and `--cache-to`: kinds registry, local, inline; what else is named goes to the engine, which answers.

Source: docs.docker.com/build/cache/backends.
"""

import os

from corten.base import jsonio
from corten.base.files import atomic_write
from corten.cli.buildkit.asked import Asked, CacheEnd
from corten.cli.buildkit.fields import fields, has_fields
from corten.cli.errors import Failure

_INDEX_LIMIT = 4 << 20
Index = dict[str, object]


def read_caches(cache_from: list[str], cache_to: list[str], asked: Asked) -> None:
    """Fill in both. A cache of kind local that is not there yet is told of by the engine. Raises Failure."""
    for text in cache_from:
        kind, found = _entry(text, "--cache-from")
        folder = ""
        if kind == "local":
            folder = _folder(found, "src")
            found.setdefault("digest", _digest(folder, found.get("tag", "latest")))
        asked.cache_from.append(CacheEnd(kind, found, folder))
    for text in cache_to:
        kind, found = _entry(text, "--cache-to")
        asked.cache_to.append(CacheEnd(kind, found, _folder(found, "dest") if kind == "local" else ""))
    for end in (*asked.cache_from, *asked.cache_to):
        if end.folder:
            asked.stores[f"local:{end.folder}"] = end.folder
    if asked.cache_from:
        entries = [{"Type": end.kind, "Attrs": end.attributes} for end in asked.cache_from]
        asked.attributes["cache-imports"] = jsonio.dumps(entries)


def _entry(text: str, flag: str) -> tuple[str, dict[str, str]]:
    if not has_fields(text):
        return "registry", {"ref": text}
    found = fields(text, flag)
    kind = found.pop("type", "")
    if not kind:
        raise Failure(f'ERROR: type required form> "{text}"')
    return kind, found


def _folder(found: dict[str, str], name: str) -> str:
    """The folder a field names; the field then has its whole path, by which the engine calls it."""
    if not found.get(name):
        raise Failure(f"ERROR: local cache {'importer' if name == 'src' else 'exporter'} requires {name}")
    found[name] = os.path.realpath(found[name])
    return found[name]


def read_index(folder: str) -> Index:
    """The index of an OCI layout; an empty one when there is none. Raises Failure when it is broken."""
    try:
        with open(f"{folder}/index.json", encoding="utf-8") as file:
            found = jsonio.loads(file.read(_INDEX_LIMIT))
    except OSError:
        return {}
    except ValueError as error:
        raise Failure(f"ERROR: {folder}/index.json: {error}") from None
    return found if isinstance(found, dict) else {}


def manifests(index: Index) -> list[Index]:
    """The descriptors an index lists."""
    listed = index.get("manifests")
    return [one for one in listed if isinstance(one, dict)] if isinstance(listed, list) else []


def name_of(descriptor: Index) -> str:
    """The name a descriptor has in its index."""
    annotations = descriptor.get("annotations")
    return str(annotations.get("org.opencontainers.image.ref.name", "")) if isinstance(annotations, dict) else ""


def _digest(folder: str, tag: str) -> str:
    listed = manifests(read_index(folder))
    named = [one for one in listed if name_of(one) == tag]
    chosen = named or (listed if len(listed) == 1 else [])
    return str(chosen[0].get("digest", "")) if chosen else ""


def add_to_index(folder: str, descriptor: Index, tags: list[str]) -> None:
    """List a manifest in a layout's index under these names, in place of what had them."""
    kept = [one for one in manifests(read_index(folder)) if name_of(one) not in tags]
    for tag in tags:
        given = descriptor.get("annotations")
        annotations = {**(given if isinstance(given, dict) else {}), "org.opencontainers.image.ref.name": tag}
        kept.append({**descriptor, "annotations": annotations})
    os.makedirs(folder, exist_ok=True)
    whole = {"schemaVersion": 2, "mediaType": "application/vnd.oci.image.index.v1+json", "manifests": kept}
    for name, text in (("oci-layout", '{"imageLayoutVersion": "1.0.0"}'), ("index.json", jsonio.dumps(whole))):
        atomic_write(f"{folder}/{name}", text.encode(), 0o644)
