"""A layer that was made on nothing, put on top of an image (COPY --link): its folder is shared, nothing is copied.

Where that cannot be (the image has that very layer already, its root has an owner or mode of its own, whole trees are
kept) the layer is unpacked once more.
"""

import os
import stat

from corten.build.stage import BuildImage, Layer
from corten.image.content import Lease
from corten.image.records import LayerRecord
from corten.image.store import ImageStore
from corten.oci.image_spec import chain_ids


async def put_on_top(store: ImageStore, lease: Lease, image: BuildImage, made: BuildImage) -> Layer | None:
    """The layer of `made` (None when it has none) as the image's next. Raises InvalidArgument, OSError."""
    if not made.layers:
        return None
    (diff_id,) = made.document["rootfs"]["diff_ids"]
    below = list(image.document["rootfs"]["diff_ids"])
    chain = chain_ids([*below, diff_id])[-1]
    lease.add(chain)
    own = store.layers[chain_ids([diff_id])[0]]
    if chain not in store.layers and _can_share(store, image, own):
        store.put_layer(LayerRecord(chain, diff_id, own.snapshot, own.size, own.blob, 0, own.gzip))
    elif chain not in store.layers:
        await store.ensure_layers([*below, diff_id], [*[""] * len(below), own.blob], lease)
    return Layer(store.layers[chain].snapshot, diff_id)


def _can_share(store: ImageStore, image: BuildImage, own: LayerRecord) -> bool:
    if store.snapshots.copies or own.snapshot in image.layers:  # overlayfs takes no folder twice
        return False
    if not image.layers:
        return True
    roots = [os.stat(store.snapshots.view([name])[0]) for name in (image.layers[-1], own.snapshot)]
    looks = [(root.st_uid, root.st_gid, stat.S_IMODE(root.st_mode)) for root in roots]
    return looks[0] == looks[1]
