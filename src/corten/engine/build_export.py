"""A built image made into what a client asked for: an archive, a tar of its files, their tree, a manifest of its own.

Nothing here speaks to clients; api/buildkit/export.py does.
"""

import asyncio
import contextlib
import os
from collections.abc import AsyncGenerator, Iterator
from typing import TYPE_CHECKING

from corten.base.files import remove_tree
from corten.base.ids import new_id
from corten.engine.build_manifest import Made
from corten.engine.image_transfer import save_images
from corten.image.pack import Packer
from corten.image.platforms import closure
from corten.image.records import Image
from corten.image.save import Saved
from corten.image.tar_reader import DIRECTORY
from corten.image.tar_writer import END, header, member
from corten.linux.overlay import new_overlay
from corten.oci.platform import Platform

if TYPE_CHECKING:
    from corten.engine.engine import Engine

_PIECE_BYTES = 1 << 20


def saved_image(engine: "Engine", image: Image, names: list[str], made: Made, platform: Platform) -> Saved:
    """What was made as it goes out, under these full references; `image` is that of `platform`."""
    content = engine.images.store.content
    manifest = content.read(made.manifests[platform].digest)
    found = Saved(names, image.id, image.config, made.blobs[platform], manifest)
    found.top = made.top
    found.kept = closure(content, made.top.digest) if made.index else []
    return found


async def archive(engine: "Engine", image: Image, found: Saved) -> AsyncGenerator[bytes]:
    """The archive `docker save` makes, which is an OCI layout too, of one image."""
    for piece in save_images(engine.images, [(image, found)]):
        if isinstance(piece, bytes):
            yield piece
            continue
        at, end = piece.offset, piece.offset + piece.size
        while at < end:
            data = await asyncio.to_thread(os.pread, piece.fd, min(_PIECE_BYTES, end - at), at)
            if not data:
                raise OSError(f"{image.id}: a blob ended early")
            yield data
            at += len(data)


class Part:
    """A tree on its way out: `root` a descriptor, `folder` where the client finds it ("": at the top).

    `files`: what is beside the tree's own at its top, by name.
    """

    __slots__ = ("files", "folder", "root")

    def __init__(self, root: int, folder: str, files: dict[str, bytes]) -> None:
        self.root, self.folder, self.files = root, folder, files


@contextlib.contextmanager
def tree(engine: "Engine", image: Image) -> Iterator[int]:
    """A descriptor of the image's files, as a read-only tree that is mounted nowhere."""
    lowers = engine.images.store.snapshots.view(image.layers) if image.layers else []
    empty = ""
    if not lowers:
        empty = f"{engine.layout.build}/{new_id()[:12]}"
        os.mkdir(empty, 0o755)
    try:
        if len(lowers) > 1:
            root = new_overlay(lowers, "", "")
        else:
            root = os.open(lowers[0] if lowers else empty, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            yield root
        finally:
            os.close(root)
    finally:
        if empty:
            remove_tree(empty)


async def tar(parts: list[Part]) -> AsyncGenerator[bytes]:
    """A tar of the parts. Leaving early ends the thread that writes it."""
    reader, writer = os.pipe2(os.O_CLOEXEC)

    def pack() -> None:
        try:
            for part in parts:
                _pack(part, writer)
            os.write(writer, END)
        except BrokenPipeError:
            return  # nobody reads any more
        finally:
            os.close(writer)

    packing = asyncio.create_task(asyncio.to_thread(pack))
    try:
        while piece := await asyncio.to_thread(os.read, reader, _PIECE_BYTES):
            yield piece
    finally:
        os.close(reader)
        await packing


def _pack(part: Part, out: int) -> None:
    """The members of one part, without an end mark."""
    prefix = part.folder.encode()
    if prefix:
        os.write(out, header(prefix, DIRECTORY, 0o755))
    for name, data in sorted(part.files.items()):
        _write(out, member(f"{part.folder}/{name}" if prefix else name, data))
    folder = os.open(".", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC, dir_fd=part.root)
    try:
        Packer(out, whiteouts=False).add(folder, prefix)
    finally:
        os.close(folder)


def _write(out: int, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(out, view):]
