"""COPY --link and ADD --link: a layer made on nothing, whatever it will lie on, and put on top of an image.

What is below is not looked at: its links are not followed, its passwd knows nobody here, its folders are replaced in
owner and mode. So the layer is the same when the base changes, and is not made again.
Source: Dockerfile reference, "COPY --link".
"""

from __future__ import annotations

from typing import Any

from corten.build.ops import Backend, Commit, Copy, Observer, Operation
from corten.build.stage import BuildImage, Layer, scratch


class OnTop(Operation):
    """The one layer of `made` goes on top of the image."""

    __slots__ = ("copied", "made")

    def __init__(self, copied: Copy, commit: Commit, made: BuildImage) -> None:
        super().__init__(copied.created_by, commit)
        self.copied, self.made = copied, made  # `copied`: what made it, for who tells of the build

    def key(self) -> str:
        """What the layer holds decides, not where it came from."""
        return f"{super().key()}\0{self.made.id}"

    def files_key(self) -> str:
        return "\0".join(["OnTop", *self.made.document["rootfs"]["diff_ids"]])

    async def execute(self, backend: Backend, image: BuildImage, observer: Observer) -> Layer | None:
        return await backend.put_on_top(image, self.made)


def alone(operation: Copy) -> BuildImage:
    """Have the operation make an image of its one layer and of nothing else; what it is to be done on."""
    empty = scratch()

    def commit(_created_by: str, layer: Layer | None) -> dict[str, Any]:
        diff_ids = [layer.diff_id] if layer else []
        return {**empty.document, "rootfs": {"type": "layers", "diff_ids": diff_ids}}

    operation.commit = commit
    return empty
