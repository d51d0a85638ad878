"""Archives as docker before 1.10 saved them: `repositories`, and for each layer `<id>/json` and `<id>/layer.tar`.

Their ids are random, so an image gets a config and an id as docker makes them of the old JSON. Nothing is opened by a
member's name: it is looked up in what `archive.ingest` has read. Source: docker image-spec v1.
"""

import json
from typing import Any

from corten.base.errors import InvalidArgument
from corten.base.files import parse_json
from corten.base.ids import is_id
from corten.image.archive import Contents
from corten.image.content import ContentStore
from corten.oci.image_spec import LAYERS_LIMIT

_DROPPED = ("id", "parent", "Size", "parent_id", "layer_id", "throwaway")  # moby image/v1: MakeConfigFromV1Config
_JSON_LIMIT = 1 << 20


class OldImage:
    """A tagged image: `names` (name:tag), the old JSON of each layer and the digest of its tar, base first."""

    __slots__ = ("documents", "layers", "names")

    def __init__(self, names: list[str], documents: list[dict[str, Any]], layers: list[str]) -> None:
        self.names, self.documents, self.layers = names, documents, layers

    def config(self, diff_ids: list[str]) -> bytes:
        """The image config. Keys are sorted and texts escaped as docker's encoder does, so ids are docker's."""
        config = {name: value for name, value in self.documents[-1].items() if name not in _DROPPED}
        config["rootfs"] = {"type": "layers", "diff_ids": diff_ids}
        config["history"] = [_history(document) for document in self.documents]
        text = json.dumps(dict(sorted(config.items())), separators=(",", ":"), ensure_ascii=False)
        for sign in "<>&":
            text = text.replace(sign, f"\\u{ord(sign):04x}")
        return text.encode()


def _history(document: dict[str, Any]) -> dict[str, Any]:
    old = document.get("container_config")
    command = old.get("Cmd") if isinstance(old, dict) else None
    found = {
        "created": document.get("created"),
        "created_by": " ".join(str(word) for word in command) if isinstance(command, list) else "",
        "author": document.get("author"), "comment": document.get("comment"),
    }
    return {name: value for name, value in found.items() if isinstance(value, str) and value}


def images_of(content: ContentStore, contents: Contents) -> list[OldImage]:
    """The images that `repositories` names. Raises InvalidArgument."""
    repositories = parse_json(contents.documents["repositories"])
    names: dict[str, list[str]] = {}
    if not isinstance(repositories, dict):
        raise InvalidArgument("invalid archive: repositories is not an object")
    for name, tags in repositories.items():
        for tag, top in (tags.items() if isinstance(tags, dict) else ()):
            if not is_id(top):
                raise InvalidArgument("invalid archive: bad id in repositories")
            names.setdefault(top, []).append(f"{name}:{tag}")
    return [_image(content, contents, top, found) for top, found in names.items()]


def _image(content: ContentStore, contents: Contents, top: str, names: list[str]) -> OldImage:
    documents: list[dict[str, Any]] = []
    layers: list[str] = []
    at: object = top
    while at:
        if not isinstance(at, str) or not is_id(at) or len(documents) >= LAYERS_LIMIT:
            raise InvalidArgument("invalid archive: bad parent")
        document = parse_json(content.read(contents.digest(f"{at}/json"), _JSON_LIMIT), _JSON_LIMIT)
        if not isinstance(document, dict):
            raise InvalidArgument(f"invalid archive: {at}/json is not an object")
        documents.append(document)
        layers.append(contents.digest(f"{at}/layer.tar"))
        at = document.get("parent")
    return OldImage(names, documents[::-1], layers[::-1])
