"""A build as a graph: vertices named by the digest of what they do and of what they do it to. Pure.

A vertex knows no Dockerfile. Equal work has an equal digest, in whatever build it stands: the cache's key, and what
lets two builds share a step. The classic front end grows the graph step by step, since what a word expands to
depends on the image before it.
"""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

from corten.oci.platform import host_platform, platform_of

if TYPE_CHECKING:
    from corten.build.ops import Operation
    from corten.build.stage import BuildImage


class Vertex:
    """`operation` applied to the image that `parent` yields. A vertex without operation is an image that is there.

    `epoch`: the time in seconds that all it makes is given.
    """

    __slots__ = ("digest", "image", "operation", "parent")

    def __init__(self, parent: Vertex | None, operation: Operation | None, image: BuildImage | None = None,
                 epoch: int | None = None) -> None:
        self.parent, self.operation, self.image = parent, operation, image
        if operation is None:
            assert image is not None
            self.digest = _name(image)
        else:
            assert parent is not None
            text = f"{parent.identity}\0{operation.key()}" + ("" if epoch is None else f"\0{epoch}")
            self.digest = "sha256:" + hashlib.sha256(text.encode("utf-8", "surrogateescape")).hexdigest()

    @property
    def identity(self) -> str:
        """What a child's digest is made of: the image once it is known (as docker's cache goes), else the digest."""
        return _name(self.image) if self.image is not None else self.digest


def _name(image: BuildImage) -> str:
    """An image's id; the empty one has none, and is another for each platform."""
    platform = platform_of(image.document)
    return image.id or ("scratch" if platform in (None, host_platform()) else f"scratch {platform}")


def source(image: BuildImage) -> Vertex:
    """The vertex of an image that exists."""
    return Vertex(None, None, image)
