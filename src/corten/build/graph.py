"""A build as a graph: vertices named by the digest of what they do and of what they do it to. Pure.

A vertex knows no Dockerfile. Equal work has an equal digest, in whatever build it stands: the cache's key, and what
lets two builds share a step. The graph grows step by step, since what a word expands to depends on the image before it.

What a step is done to is, for docker's classic builder, the image before it. For BuildKit's a step that makes files is
done to the files below it alone, whatever configuration and history lie beside them (`by_files`).
"""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

from corten.oci.image_spec import chain_ids
from corten.oci.platform import host_platform, platform_of

if TYPE_CHECKING:
    from corten.build.ops import Operation
    from corten.build.stage import BuildImage


class Vertex:
    """`operation` applied to the image that `parent` yields. A vertex without operation is an image that is there.

    `epoch`: the time in seconds that all it makes is given. `by_files`: named by files alone; asked for with `content`,
    and so where the operation makes files.
    """

    __slots__ = ("by_files", "digest", "image", "operation", "parent")

    def __init__(self, parent: Vertex | None, operation: Operation | None, image: BuildImage | None = None,
                 epoch: int | None = None, *, content: bool = False) -> None:
        self.parent, self.operation, self.image = parent, operation, image
        self.by_files = False
        if operation is None:
            assert image is not None
            self.digest = _name(image)
        else:
            assert parent is not None
            files = operation.files_key() if content and parent.image is not None else None
            if files is not None and parent.image is not None:
                self.by_files = True
                text = f"files {files_name(parent.image)}\0{files}"
            else:
                text = f"{parent.identity}\0{operation.key()}"
            text += "" if epoch is None else f"\0{epoch}"
            self.digest = "sha256:" + hashlib.sha256(text.encode("utf-8", "surrogateescape")).hexdigest()

    @property
    def identity(self) -> str:
        """What a child's digest is made of: the image once it is known (as docker's cache goes), else the digest."""
        return _name(self.image) if self.image is not None else self.digest


def _name(image: BuildImage) -> str:
    """An image's id; the empty one has none, and is another for each platform."""
    platform = platform_of(image.document)
    return image.id or ("scratch" if platform in (None, host_platform()) else f"scratch {platform}")


def files_name(image: BuildImage) -> str:
    """What an image's files are called: its chain id, and the platform that they are for."""
    chain = chain_ids(list((image.document.get("rootfs") or {}).get("diff_ids") or []))
    return f"{chain[-1] if chain else 'scratch'} {platform_of(image.document) or host_platform()}"


def source(image: BuildImage) -> Vertex:
    """The vertex of an image that exists."""
    return Vertex(None, None, image)
