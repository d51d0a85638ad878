"""What a stage has built so far: an image's configuration document, and the working copy the next step changes. Pure.

An image here is (id, document, layers): the document is the OCI image configuration, the id its digest.
"""

from __future__ import annotations

import copy
from typing import Any

from corten.base.units import format_time, now_ns
from corten.build.arguments import ARCHITECTURE, BuildArguments
from corten.oci.platform import Platform, host_platform

DEFAULT_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
DEFAULT_SHELL = ["/bin/sh", "-c"]


class BuildImage:
    """An image on the way: `id` "sha256:…", or "" for scratch; `layers`: the store's own names, bottom first."""

    __slots__ = ("document", "id", "layers")

    def __init__(self, image_id: str, document: dict[str, Any], layers: list[str]) -> None:
        self.id, self.document, self.layers = image_id, document, layers


class Layer:
    """A new layer of the store: its own name there, and the digest of its uncompressed tar."""

    __slots__ = ("diff_id", "name")

    def __init__(self, name: str, diff_id: str) -> None:
        self.name, self.diff_id = name, diff_id


def scratch(platform: Platform | None = None) -> BuildImage:
    """The empty image of a platform (None: this machine's): no layers, no configuration."""
    document = {**(platform or host_platform()).json(), "config": {}, "history": [],
                "rootfs": {"type": "layers", "diff_ids": []}}
    return BuildImage("", document, [])


class StageState:
    """A stage under way. `config` is changed by instructions and becomes part of the image at the next commit."""

    __slots__ = ("arguments", "author", "buildkit", "cmd_given", "config", "epoch", "escape", "image", "name")

    def __init__(self, name: str, image: BuildImage, arguments: BuildArguments, escape: str) -> None:
        self.name, self.arguments, self.escape = name, arguments, escape
        self.cmd_given = self.buildkit = False
        self.epoch: int | None = None  # the time all steps are given, in seconds
        self.author = str(image.document.get("author") or "")
        self.image = image
        self.config: dict[str, Any] = {}
        self.adopt(image)
        environment = self.config.setdefault("Env", [])
        if not any(item.startswith("PATH=") for item in environment):
            environment.append(f"PATH={DEFAULT_PATH}")

    def adopt(self, image: BuildImage) -> None:
        """Go on from `image`."""
        self.image = image
        self.config = copy.deepcopy(image.document.get("config") or {})
        self.config["Env"] = list(self.config.get("Env") or [])

    @property
    def shell(self) -> list[str]:
        return list(self.config.get("Shell") or DEFAULT_SHELL)

    def variables(self) -> dict[str, str]:
        """What instructions expand: the build arguments, and over them the environment."""
        found = self.arguments.values()
        for item in self.config["Env"]:
            name, _, value = item.partition("=")
            found[name] = value
        return found

    def no_op(self, comment: str, spaced: bool = True) -> str:
        """The history line of a step that runs nothing, as docker writes it."""
        return " ".join([*self.shell, "#(nop) ", comment] if spaced else [*self.shell, f"#(nop) {comment}"])

    def document(self, created_by: str, layer: Layer | None, comment: str = "") -> dict[str, Any]:
        """The configuration document after a step; "" for what made it leaves the history as it was."""
        previous = self.image.document
        created = format_time(now_ns() if self.epoch is None else self.epoch * 1_000_000_000)
        entry: dict[str, Any] = {"created": created, "created_by": created_by}
        if comment:
            entry["comment"] = comment
        if layer is None:
            entry["empty_layer"] = True
        config = {key: value for key, value in self.config.items() if value not in (None, "", [], {})}
        diff_ids = list((previous.get("rootfs") or {}).get("diff_ids") or [])
        document = {
            "architecture": previous.get("architecture", ARCHITECTURE), "os": previous.get("os", "linux"),
            "created": created, "config": config,
            "history": [*(previous.get("history") or []), *([entry] if created_by else [])],
            "rootfs": {"type": "layers", "diff_ids": diff_ids + ([layer.diff_id] if layer else [])},
        }
        if previous.get("variant"):
            document["variant"] = previous["variant"]
        if self.author:
            document["author"] = self.author
        return document
