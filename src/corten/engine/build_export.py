"""A built image made into what a client asked for: an archive, a tar of its files, their tree, a manifest of its own.

Nothing here speaks to clients; api/buildkit/export.py does.
"""

import asyncio
import contextlib
import json
import os
from collections.abc import AsyncGenerator, Iterator, Mapping
from typing import TYPE_CHECKING

from corten.base.files import remove_tree
from corten.base.ids import new_id
from corten.engine.image_transfer import save_images
from corten.image.pack import Packer
from corten.image.platforms import oci_manifest
from corten.image.records import Image
from corten.image.save import Saved, saved
from corten.linux.overlay import new_overlay

if TYPE_CHECKING:
    from corten.engine.engine import Engine

_PIECE_BYTES = 1 << 20


def annotate(engine: "Engine", image: Image, annotations: Mapping[str, str]) -> str:
    """Give the image a manifest with these annotations, kept for saving and pushing; the manifest's digest."""
    store = engine.images.store
    with store.content.lease() as lease:
        described = [blob.descriptor() for blob in image.record.blobs]
        manifest = oci_manifest(store.content, image.id, described).json()
        data = json.dumps({**manifest, "annotations": dict(sorted(annotations.items()))}).encode()
        lease.add(digest := store.content.add(data))
        image.record.manifest = digest
        store.put_image(image.record)
    return digest


def saved_image(engine: "Engine", image: Image, names: list[str]) -> Saved:
    """An image as it goes out, under these full references."""
    found = saved(engine.images.store.content, image, names, None)
    assert found is not None
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


async def tar(root: int) -> AsyncGenerator[bytes]:
    """A tar of the tree behind a descriptor. Leaving early ends the thread that writes it."""
    reader, writer = os.pipe2(os.O_CLOEXEC)

    def pack() -> None:
        folder = os.open(".", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC, dir_fd=root)
        try:
            Packer(writer, whiteouts=False).run(folder)
        except BrokenPipeError:
            return  # nobody reads any more
        finally:
            os.close(folder)
            os.close(writer)

    packing = asyncio.create_task(asyncio.to_thread(pack))
    try:
        while piece := await asyncio.to_thread(os.read, reader, _PIECE_BYTES):
            yield piece
    finally:
        os.close(reader)
        await packing
