"""Sweeping: which layers, folders and blobs nothing needs any more. Marks are read from records, nothing is counted.

Runs on the loop without a pause, so it cannot come between a pull's look and its record; what an operation under way
needs, it holds by a lease, which threads too can only take while nothing is swept.
"""

import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from corten.image.store import ImageStore


class Swept:
    """What one sweep took away: chain ids of layers, and the bytes freed (blobs whole, layers by their files)."""

    __slots__ = ("bytes_freed", "layers")

    def __init__(self) -> None:
        self.layers: list[str] = []
        self.bytes_freed = 0


def collect(store: "ImageStore") -> Swept:
    """Remove layers no image names, folders no layer or container uses, blobs no image or layer names."""
    with store.content.sweeping:
        return _sweep(store, store.content.leased())


def _sweep(store: "ImageStore", leased: set[str]) -> Swept:
    swept = Swept()
    needed = {chain for image in store.images.values() for chain in image.record.chain_ids} | leased
    swept.layers = [chain for chain in store.layers if chain not in needed]
    swept.bytes_freed = sum(store.layers[chain].size for chain in swept.layers)
    if swept.layers:
        store.drop_layers(swept.layers)
    _folders(store, leased)
    swept.bytes_freed += _blobs(store, leased)
    return swept


def _folders(store: "ImageStore", leased: set[str]) -> None:
    used = {layer.snapshot for layer in store.layers.values()} | leased
    orphans = {name for name in store.snapshots.layers() if name not in used and not name.startswith("host-")}
    if orphans:
        for name in orphans - store.snapshots.used_by_containers():
            store.snapshots.remove_layer(name)


def _blobs(store: "ImageStore", leased: set[str]) -> int:
    kept = set(leased)
    for image in store.images.values():
        record = image.record
        kept.update((record.id, record.manifest, record.pushed, *record.kept))
        kept.update(blob.digest for blob in record.blobs)
    for layer in store.layers.values():
        kept.update((layer.blob, layer.gzip))
    return sum(store.content.remove(digest) for digest in store.content.all() if digest not in kept)


def forget_downloads(store: "ImageStore", older_than_s: float = 0.0) -> None:
    """Remove what unfinished downloads kept for a next try, unless that is under way."""
    leased = store.content.leased()
    oldest = time.time() - older_than_s
    old = [digest for digest, file in store.content.unfinished().items() if file.st_mtime <= oldest]
    store.content.settle(digest for digest in old if digest not in leased)


def layer_users(store: "ImageStore") -> dict[str, int]:
    """How many images use each layer, by chain id; for `system df`."""
    users: dict[str, int] = {}
    for image in store.images.values():
        for chain in image.record.chain_ids:
            users[chain] = users.get(chain, 0) + 1
    return users


def host_folders_unused(store: "ImageStore", current: str) -> list[str]:
    """Older skeletons of the host image that no container stands on."""
    found = {name for name in store.snapshots.layers() if name.startswith("host-") and name != current}
    return sorted(found - store.snapshots.used_by_containers()) if found else []

