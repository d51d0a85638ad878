"""Layers from blobs to snapshots: confined workers side by side, then what needs more privilege than they have.

Layers are unpacked independently of one another, so they run in parallel. Two things depend on the layers below or on
CAP_SYS_ADMIN and are done here afterwards: a folder the archive only implied takes owner and mode from the layer below
(the bare default would hide them), and opaque folders get overlayfs' mark.
"""

import asyncio
import errno
import os
import stat
from collections.abc import Iterator

from corten.base.errors import InvalidArgument, Unsupported
from corten.image import worker
from corten.image.arrival import Arrival
from corten.image.beneath import open_exact, open_root
from corten.image.content import ContentStore
from corten.image.inflate import compression_of
from corten.image.snapshot import copy_folder, disk_bytes
from corten.image.worker import in_thread
from corten.oci.digest import PREFIX
from corten.oci.image_spec import DOCKER_LAYER, DOCKER_LAYER_GZIP, OCI_LAYER_ZSTD

WORKERS = max(1, min(4, os.cpu_count() or 1))
LIMIT_BYTES = 256 << 30
LIMIT_ENTRIES = 5_000_000
TIMEOUT_S = 3600.0
MEMORY_BYTES = 1 << 30
_ENLARGE = 1200  # no honest gzip or zstd layer inflates more than this; a bomb ends at it
_FLOOR = 1 << 30
_MEDIA_TYPES = {"": DOCKER_LAYER, "gzip": DOCKER_LAYER_GZIP, "zstd": OCI_LAYER_ZSTD}


class Unpacked:
    """One layer on the disk, still in its staging folder `staged`; sizes in bytes.

    `diff_id` is "" when its tar came uncompressed and its blob's digest is not known yet.
    """

    __slots__ = ("diff_id", "disk", "entries", "implicit", "opaque", "removed", "size", "staged")

    def __init__(self, staged: str, diff_id: str, answer: dict[str, object]) -> None:
        self.staged = staged
        self.diff_id = diff_id
        self.size = int(str(answer["size"]))
        self.disk = int(str(answer["disk"]))
        self.entries = int(str(answer["entries"]))
        self.implicit = _names(answer["implicit"])
        self.opaque = _names(answer["opaque"])
        self.removed = _names(answer["removed"])


def _names(value: object) -> list[bytes]:
    return [str(name).encode("latin-1") for name in value] if isinstance(value, list) else []


def kind_of(content: ContentStore, digest: str) -> str:
    """How a blob is compressed, as `compression_of` says."""
    descriptor = content.open(digest)
    try:
        return compression_of(os.pread(descriptor, 6, 0))
    finally:
        os.close(descriptor)


def media_type_of(content: ContentStore, digest: str) -> str:
    """The media type of a layer blob, told from its first bytes. Raises Unsupported for what no manifest can name."""
    kind = kind_of(content, digest)
    if kind not in _MEDIA_TYPES:
        raise Unsupported(f"layers compressed by {kind} are not supported")
    return _MEDIA_TYPES[kind]


class Job:
    """A blob to unpack; `arrival` when it is not in the content yet, but on its way."""

    __slots__ = ("_pair", "arrival", "diff_id", "digest", "size")

    def __init__(self, content: ContentStore, digest: str, diff_id: str, arrival: Arrival | None) -> None:
        self.digest, self.diff_id, self.arrival = digest, diff_id, arrival
        self.size = arrival.size if arrival else content.size(digest)
        self._pair: tuple[int, ...] = ()

    @classmethod
    def followed(cls, content: ContentStore, arrival: Arrival, pair: tuple[int, int]) -> "Job":
        """A blob on its way whose digest nobody knows yet; `pair` as `arrival.follow` gave it, the job's to close."""
        job = cls(content, "", "", arrival)
        job._pair = pair
        return job

    def close(self) -> None:
        """For a job that is not done."""
        while self._pair:
            os.close(self._pair[0])
            self._pair = self._pair[1:]

    def open(self, content: ContentStore, descriptors: list[int]) -> dict[str, int]:
        """The worker's words for it; what it opens is added to `descriptors`."""
        if self._pair:
            (descriptor, bell), self._pair = self._pair, ()
            descriptors += (descriptor, bell)
            return {"descriptor": descriptor, "bell": bell}
        if self.arrival is None or self.arrival.ended:
            descriptors.append(content.open(self.digest))
            return {"descriptor": descriptors[-1]}
        descriptors += (pair := self.arrival.follow())
        return {"descriptor": pair[0], "bell": pair[1]}


async def unpack(content: ContentStore, staging: str, wanted: list[Job]) -> list[Unpacked]:
    """Unpack blobs into `<staging>/<n>/fs`, n their place in `wanted`.

    Raises InvalidArgument when a layer is malformed, hostile, too big, or not what its diff id says.
    """
    order = sorted(range(len(wanted)), key=lambda at: wanted[at].size, reverse=True)
    shares: list[list[int]] = [[] for _ in range(min(WORKERS, len(wanted)))]
    weights = [0] * len(shares)
    for at in order:
        lightest = weights.index(min(weights))
        shares[lightest].append(at)
        weights[lightest] += wanted[at].size + 4096
    done: dict[int, Unpacked] = {}
    try:
        async with asyncio.TaskGroup() as group:
            for share in shares:
                group.create_task(_run_share(content, staging, wanted, share, done))
    except BaseExceptionGroup as failures:
        raise failures.exceptions[0] from None
    return [done[at] for at in range(len(wanted))]


async def unpack_onto(content: ContentStore, staging: str, wanted: list[Job],
                      below: str) -> list[Unpacked]:
    """As `unpack`, each layer on a copy of the one before; the first on a copy of the tree `below`."""
    done: dict[int, Unpacked] = {}
    for at in range(len(wanted)):
        os.mkdir(f"{staging}/{at}", 0o700)
        await in_thread(copy_folder, below, f"{staging}/{at}/fs")
        await _run_share(content, staging, wanted, [at], done, apply=True)
        done[at].disk = await in_thread(disk_bytes, f"{staging}/{at}/fs")
        below = f"{staging}/{at}/fs"
    return [done[at] for at in range(len(wanted))]


async def _run_share(content: ContentStore, staging: str, wanted: list[Job], share: list[int],
                     done: dict[int, Unpacked], apply: bool = False) -> None:
    descriptors: list[int] = []
    try:
        jobs = []
        for at in share:
            if not apply:
                os.makedirs(f"{staging}/{at}/fs")
                os.chmod(f"{staging}/{at}/fs", 0o755)  # noqa: S103  whatever the umask: it is the image's root folder
            bound = min(LIMIT_BYTES, wanted[at].size * _ENLARGE + _FLOOR)
            jobs.append({"folder": f"{at}/fs", "limit_bytes": bound, "limit_entries": LIMIT_ENTRIES, "apply": apply,
                         **wanted[at].open(content, descriptors)})
        question = {"root": staging, "jobs": jobs, "cpu_seconds": int(TIMEOUT_S), "memory_bytes": MEMORY_BYTES}
        waits = any(wanted[at].arrival for at in share)  # as long as its download, which has bounds of its own
        answer = await worker.ask("corten.image.unpack_worker", question, descriptors, None if waits else TIMEOUT_S)
    finally:
        for descriptor in descriptors:
            os.close(descriptor)
    for at, layer in zip(share, answer["layers"], strict=True):
        found = PREFIX + layer["sha256"] if layer["sha256"] else ""
        done[at] = prove(Unpacked(f"{staging}/{at}", found, layer), wanted[at].digest, wanted[at].diff_id)


def prove(layer: Unpacked, digest: str, diff_id: str) -> Unpacked:
    """The layer made of the blob `digest`, when it is what its config promises; "" is not known yet.

    Raises InvalidArgument.
    """
    layer.diff_id = layer.diff_id or digest
    if diff_id and layer.diff_id != diff_id:
        raise InvalidArgument(
            f"layer {digest} has not the diff id its config promises: {layer.diff_id}, not {diff_id}")
    return layer


def finish(layer: Unpacked, lowers: list[str]) -> None:
    """Do what the worker could not: inherit implied folders from `lowers` (topmost first), mark opaque ones.

    Whiteouts in a folder that only this layer has go: there is nothing to hide, and overlay would list them.
    """
    if not layer.implicit and not layer.opaque and not layer.removed:
        return
    root = open_root(f"{layer.staged}/fs")
    below = [open_root(path) for path in lowers]
    try:
        _inherit(root, layer, below)
        _drop_idle_whiteouts(root, layer, below)
        for path in layer.opaque:
            try:
                descriptor = open_exact(root, path, os.O_RDONLY | os.O_DIRECTORY)
            except OSError as error:
                if error.errno not in (errno.ENOENT, errno.ENOTDIR, errno.ELOOP):
                    raise
                continue  # replaced by a later member, or reached through a link of the layer's own
            try:
                os.setxattr(descriptor, "trusted.overlay.opaque", b"y")
            finally:
                os.close(descriptor)
    finally:
        for descriptor in (root, *below):
            os.close(descriptor)


def _inherit(root: int, layer: Unpacked, below: list[int]) -> None:
    hidden = set(layer.opaque)
    for path in layer.implicit:
        found = None if any(above in hidden for above in _upwards(path)) else _folder_below(below, path)
        if found is None:
            continue
        try:
            descriptor = open_exact(root, path, os.O_RDONLY | os.O_DIRECTORY)
        except OSError:
            continue  # reached through a link of the layer's own
        try:
            os.fchown(descriptor, found.st_uid, found.st_gid)
            os.fchmod(descriptor, stat.S_IMODE(found.st_mode))
            os.utime(descriptor, ns=(found.st_mtime_ns, found.st_mtime_ns))
        finally:
            os.close(descriptor)


def _drop_idle_whiteouts(root: int, layer: Unpacked, below: list[int]) -> None:
    hidden = set(layer.opaque)
    merged: dict[bytes, bool] = {b"": b"" not in hidden}
    for path in layer.removed:
        parent, _, name = path.rpartition(b"/")
        if parent not in merged:
            merged[parent] = not any(above in hidden for above in _upwards(parent)) and (
                _folder_below(below, parent) is not None)
        if merged[parent]:
            continue
        try:
            folder = open_exact(root, parent, os.O_PATH | os.O_DIRECTORY)
        except OSError:
            continue
        try:
            found = os.lstat(name, dir_fd=folder)
            if stat.S_ISCHR(found.st_mode) and found.st_rdev == 0:
                os.unlink(name, dir_fd=folder)
        except FileNotFoundError:
            pass
        finally:
            os.close(folder)


def _upwards(path: bytes) -> Iterator[bytes]:
    """`a/b/c`, `a/b`, `a`."""
    while path:
        yield path
        path = path.rpartition(b"/")[0]


def _hides(layer: int, path: bytes) -> bool:
    """Whether a layer that lacks `path` has an opaque folder above it."""
    for above in _upwards(path.rpartition(b"/")[0]):
        try:
            folder = open_exact(layer, above, os.O_RDONLY | os.O_DIRECTORY)
        except OSError:
            continue
        try:
            if os.getxattr(folder, "trusted.overlay.opaque") == b"y":
                return True
        except OSError:
            continue  # it has no such mark
        finally:
            os.close(folder)
    return False


def _folder_below(below: list[int], path: bytes) -> os.stat_result | None:
    """The topmost layer's own idea of `path`; None when it is no folder there."""
    for descriptor in below:
        try:
            inner = open_exact(descriptor, path, os.O_PATH)
        except FileNotFoundError:
            if _hides(descriptor, path):
                return None
            continue
        except OSError:
            return None
        try:
            found = os.fstat(inner)
        finally:
            os.close(inner)
        return found if stat.S_ISDIR(found.st_mode) else None
    return None
