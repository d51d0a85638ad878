"""What a container changed, as a layer: a confined worker reads the overlay upper, the daemon hashes what it sends.

The tar goes straight into the content store; its digest is the layer's diff id, for it is not compressed.
"""

import asyncio
import os

from corten.image import unpack, worker
from corten.image.content import Lease, Writer
from corten.image.pack import Packer
from corten.image.records import LayerRecord
from corten.image.snapshot import disk_bytes
from corten.image.store import ImageStore
from corten.oci.image_spec import chain_ids

STUBS = (  # where the runtime mounts something of its own over: an empty file or folder there is no change
    ".dockerenv", "dev", "dev/console", "dev/mqueue", "dev/pts", "dev/shm", "etc/hostname", "etc/hosts",
    "etc/resolv.conf", "proc", "sys", "sys/fs/cgroup",
)
TIMEOUT_S = 3600.0
_PIPE = 1 << 20
_FEW, _LITTLE = 64, 1 << 20


class Packed:
    """A tree as a tar blob: its digest, the bytes of its files, the number of members."""

    __slots__ = ("digest", "entries", "size")

    def __init__(self, digest: str, size: int, entries: int) -> None:
        self.digest, self.size, self.entries = digest, size, entries


async def pack(store: ImageStore, root: str, lease: Lease, *, whiteouts: bool = True, stubs: tuple[str, ...] = STUBS,
               lowers: tuple[str, ...] = ()) -> Packed:
    """Make a tar of the tree at `root` (a folder of ours) and keep it as a blob under the lease.

    `lowers`: the folders that show what is below, topmost first; with whole trees (vfs) what differs from it is taken.
    A tree of a few small files is read right here: a process would cost ten times the work, and a build makes many
    such layers. Raises Unsupported (overlay features a layer cannot express), OSError, Internal.
    """
    whole = store.snapshots.copies and bool(lowers)
    below = [] if whole else [os.open(path, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC) for path in lowers]
    if not whole and _is_small(root):
        try:
            return _pack_here(store, root, lease, whiteouts, stubs, below)
        finally:
            for descriptor in below:
                os.close(descriptor)
    read_end, write_end = os.pipe2(os.O_CLOEXEC)
    question = {"root": root, "out": write_end, "whiteouts": whiteouts, "stubs": stubs, "lowers": below,
                "cpu_seconds": int(TIMEOUT_S), "memory_bytes": unpack.MEMORY_BYTES}
    if whole:
        home = store.snapshots.root
        question |= {"root": home, "tree": os.path.relpath(root, home), "base": os.path.relpath(lowers[0], home)}
    with store.content.writer() as writer:
        draining = asyncio.get_running_loop().run_in_executor(None, _drain, read_end, writer)
        try:
            asking = asyncio.ensure_future(
                worker.ask("corten.image.diff_worker", question, [write_end, *below], TIMEOUT_S))
            await asyncio.sleep(0)
            answer = await asking
        finally:
            for descriptor in (write_end, *below):
                os.close(descriptor)
            await draining
        lease.add(writer.digest)
        digest = writer.commit()
    return Packed(digest, int(answer["size"]), int(answer["entries"]))


def _is_small(root: str) -> bool:
    """Whether the tree has at most _FEW entries and _LITTLE bytes. By descriptors; links are not followed."""
    left, size = _FEW, 0
    waiting = [os.open(root, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)]
    try:
        while waiting:
            folder = waiting.pop()
            try:
                with os.scandir(folder) as found:
                    for item in found:
                        left -= 1
                        status = item.stat(follow_symlinks=False)
                        size += status.st_size
                        if left < 0 or size > _LITTLE:
                            return False
                        if item.is_dir(follow_symlinks=False):
                            flags = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
                            waiting.append(os.open(item.name, flags, dir_fd=folder))
            finally:
                os.close(folder)
    finally:
        for folder in waiting:
            os.close(folder)
    return True


def _pack_here(store: ImageStore, root: str, lease: Lease, whiteouts: bool, stubs: tuple[str, ...],
               below: list[int]) -> Packed:
    out = os.memfd_create("layer", os.MFD_CLOEXEC)
    tree = os.open(root, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        packer = Packer(out, whiteouts=whiteouts, lowers=below,
                        stubs=frozenset(stub.encode("latin-1") for stub in stubs))
        packer.run(tree)
        with store.content.writer() as writer:
            writer.write(os.pread(out, os.fstat(out).st_size, 0))
            lease.add(writer.digest)
            digest = writer.commit()
    finally:
        os.close(tree)
        os.close(out)
    return Packed(digest, packer.size, packer.entries)


def _drain(descriptor: int, writer: Writer) -> None:
    """Everything the worker writes, into the blob. In a thread: it hashes."""
    with open(descriptor, "rb", buffering=0) as stream:
        while piece := stream.read(_PIPE):
            writer.write(piece)


async def add_layer(store: ImageStore, upper: str, below: list[str], lease: Lease, *, move: bool = False,
                    keep_empty: bool = True, stubs: tuple[str, ...] = STUBS,
                    extra_stubs: tuple[str, ...] = ()) -> LayerRecord | None:
    """A layer of what an upper folder holds, on top of the chain `below` (diff ids, bottom first).

    `move`: the folder itself becomes the layer's (its container is done with it); else it is unpacked from the tar.
    `extra_stubs`: where this container has mounts of its own. Returns None when nothing changed and `keep_empty` is
    not set.
    """
    chain_below = chain_ids(below)
    lowers = tuple(store.snapshots.view([store.layers[chain].snapshot for chain in chain_below]))
    packed = await pack(store, upper, lease, stubs=(*stubs, *extra_stubs), lowers=lowers)
    if not packed.entries and not keep_empty:
        return None
    chain = chain_ids([*below, packed.digest])
    lease.add(chain[-1])
    if chain[-1] in store.layers:
        return store.layers[chain[-1]]
    if not move:
        await store.ensure_layers([*below, packed.digest], [*[""] * len(below), packed.digest], lease)
        return store.layers[chain[-1]]
    staging = store.snapshots.stage()
    try:
        os.mkdir(f"{staging}/0", 0o700)
        os.rename(upper, f"{staging}/0/fs")
        disk = await worker.in_thread(disk_bytes, f"{staging}/0/fs")
        record = LayerRecord(chain[-1], packed.digest, store.snapshots.adopt(f"{staging}/0"), packed.size,
                             packed.digest, disk)
        store.put_layer(record)
    finally:
        store.snapshots.discard(staging)
    return record
