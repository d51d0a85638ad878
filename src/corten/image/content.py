"""The blobs on this machine: an OCI image layout below `<root>/content`, every file named by the digest of its bytes.

A blob comes in through a `Writer` (ingest file, hashed as it is written, renamed when the digest is right) and is
never changed afterwards. Ingest files that a killed daemon left are removed by `make`, except those of downloads: they
are kept for the next try, a finished one too (as a second name of the blob) until what it was fetched for is recorded.
What may be deleted is decided by gc.py; whoever is about to need a blob holds it by a `Lease` first.

    with content.lease() as lease:
        lease.add(digest)                       # before asking `has`: gc keeps it from now on
        if not content.has(digest):
            with content.writer(digest, size, resume=True) as writer:
                ... fetch from writer.offset on ...
                writer.write(chunk)             # about 1 GB/s: it hashes
                writer.commit()                 # InvalidArgument when digest or size differ
        ... store.register_image(...) ...       # records keep it from now on
        content.settle([digest])                # no next try is needed
"""

import fcntl
import hashlib
import os
import secrets
import threading
from collections.abc import Iterable
from contextlib import suppress
from types import TracebackType

from corten.base.errors import InvalidArgument, NotFound
from corten.base.files import atomic_write, read_bytes
from corten.oci.digest import PREFIX, hex_of, is_digest
from corten.oci.image_spec import LAYOUT_FILE


def on_disk(size: int) -> int:
    """The bytes a file of `size` bytes takes, in blocks of 4096."""
    return size + 4095 & -4096


_HOLE_BYTES = 1 << 12


class Writer:
    """One blob on its way in. `write` as often as needed, then `commit`; leaving the `with` without it throws it away.

    Opened with `resume` and a digest, what an earlier writer wrote stays: `offset` says how many bytes are there
    (already hashed), and leaving without commit keeps them for the next try. Two at once for one digest are refused
    (BlockingIOError): let the second wait for the first.
    """

    __slots__ = ("_descriptor", "_expected", "_hash", "_path", "_resume", "_size", "_store", "offset",
                 "restarts")

    def __init__(self, store: "ContentStore", expected: str | None, size: int | None, resume: bool) -> None:
        self._store, self._expected, self._size = store, expected, size
        self._resume = resume and expected is not None
        name = hex_of(expected) if expected is not None and self._resume else secrets.token_hex(16)
        self._path = f"{store.root}/ingest/{name}"
        flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW | (0 if self._resume else os.O_EXCL)
        self._descriptor = os.open(self._path, flags, 0o600)
        if self._resume:
            try:
                fcntl.flock(self._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                os.close(self._descriptor)
                raise
        self._hash = hashlib.sha256()
        self.offset = 0
        self.restarts = 0
        while self._resume and (part := os.read(self._descriptor, 1 << 20)):
            self._hash.update(part)
            self.offset += len(part)
        if size is not None and self.offset > size:
            self._restart()

    def _restart(self) -> None:
        os.ftruncate(self._descriptor, 0)
        self._hash, self.offset = hashlib.sha256(), 0

    def restart(self) -> None:
        """Forget what was written: the source cannot continue at `offset`. `restarts` counts."""
        self.restarts += 1
        self._restart()

    def write(self, data: bytes | memoryview) -> None:
        """Append; zeros take no room. Raises InvalidArgument when it grows past the size promised, OSError."""
        if self._size is not None and self.offset + len(data) > self._size:
            raise InvalidArgument(f"blob {self._expected or ''} is longer than the {self._size} bytes promised")
        self._hash.update(data)
        if len(data) >= _HOLE_BYTES and not data[0] and not data[-1] and data == bytes(len(data)):
            self.offset += len(data)
            os.ftruncate(self._descriptor, self.offset)
            return
        view = memoryview(data)
        while view:
            written = os.pwrite(self._descriptor, view, self.offset)
            self.offset += written
            view = view[written:]

    @property
    def digest(self) -> str:
        """The digest of what was written so far."""
        return PREFIX + self._hash.hexdigest()

    def fileno(self) -> int:
        """The file as it grows, for who reads along; gone with `close`."""
        return self._descriptor

    @property
    def path(self) -> str:
        """Where the file grows, until `commit`."""
        return self._path

    def commit(self) -> str:
        """Make it a blob; returns its digest. Raises InvalidArgument when size or digest are not the promised ones."""
        digest = self.digest
        if self._size is not None and self.offset != self._size:
            raise InvalidArgument(f"blob {self._expected or digest}: {self.offset} bytes instead of {self._size}")
        if self._expected is not None and digest != self._expected:
            self._resume = False
            raise InvalidArgument(f"content digest mismatch: expected {self._expected}, got {digest}")
        self._store._adopt(self._path, digest, keep=self._resume)
        self._path = ""
        return digest

    def close(self) -> None:
        """Throw away what was not committed (kept for the next try when opened with `resume`)."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1
        if self._path and not self._resume:
            try:
                os.unlink(self._path)
            except FileNotFoundError:
                pass
        self._path = ""

    def __enter__(self) -> "Writer":
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None,
                 traceback: TracebackType | None) -> None:
        self.close()


class Lease:
    """Keeps blobs and snapshots from being collected while an operation that will record them is under way."""

    __slots__ = ("_store", "names")

    def __init__(self, store: "ContentStore") -> None:
        self._store = store
        self.names: set[str] = set()

    def add(self, name: str) -> None:
        """Hold a digest (blob or chain id) or a snapshot's short id; it need not exist yet. From any thread.

        Waits for a sweep under way: what is there afterwards stays.
        """
        with self._store.sweeping:
            self.names.add(name)

    def __enter__(self) -> "Lease":
        self._store._leases.add(self)
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None,
                 traceback: TracebackType | None) -> None:
        self._store._leases.discard(self)


class ContentStore:
    """The layout below `root`. Synchronous; one daemon owns it."""

    __slots__ = ("_leases", "root", "sweeping")

    def __init__(self, root: str) -> None:
        self.root = root
        self._leases: set[Lease] = set()
        self.sweeping = threading.Lock()  # held by gc from its look at the leases to its last removal

    def make(self) -> None:
        """Make the folders at start, and clear away what a killed daemon left half-written (but for downloads)."""
        for name in ("blobs/sha256", "ingest"):
            os.makedirs(f"{self.root}/{name}", mode=0o700, exist_ok=True)
        for name in os.listdir(f"{self.root}/ingest"):
            if not is_digest(PREFIX + name):
                os.unlink(f"{self.root}/ingest/{name}")
        atomic_write(f"{self.root}/oci-layout", LAYOUT_FILE)

    def path(self, digest: str) -> str:
        """Where the blob is, or would be. Raises InvalidArgument for anything that is not a sha256 digest."""
        return f"{self.root}/blobs/sha256/{hex_of(digest)}"

    def has(self, digest: str) -> bool:
        """Whether the blob is here, whole."""
        return os.path.exists(self.path(digest))

    def size(self, digest: str) -> int:
        """In bytes. Raises NotFound."""
        try:
            return os.stat(self.path(digest)).st_size
        except FileNotFoundError:
            raise NotFound(f"content {digest} not found") from None

    def open(self, digest: str) -> int:
        """A descriptor to read the blob; the caller closes it. Raises NotFound."""
        try:
            return os.open(self.path(digest), os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
        except FileNotFoundError:
            raise NotFound(f"content {digest} not found") from None

    def read(self, digest: str, limit_bytes: int = 8 << 20) -> bytes:
        """The whole of a small blob (manifest, config). Raises NotFound, InvalidArgument when it is too long."""
        try:
            return read_bytes(self.path(digest), limit_bytes)
        except FileNotFoundError:
            raise NotFound(f"content {digest} not found") from None

    def writer(self, expected: str | None = None, size: int | None = None, resume: bool = False) -> Writer:
        """Begin a blob; `expected` digest and `size` in bytes are verified when given. See `Writer`."""
        return Writer(self, expected, size, resume)

    def add(self, data: bytes) -> str:
        """Store some bytes; returns their digest."""
        with self.writer() as writer:
            writer.write(data)
            return writer.commit()

    def lease(self) -> Lease:
        """Begin to hold things; use as a context manager."""
        return Lease(self)

    def leased(self) -> set[str]:
        """Everything held now."""
        return {name for lease in self._leases for name in tuple(lease.names)}

    def all(self) -> list[str]:
        """The digest of every blob here."""
        return [PREFIX + name for name in os.listdir(f"{self.root}/blobs/sha256")]

    def disk_bytes(self) -> int:
        """What all blobs, whole and half-fetched, take on the disk."""
        files = [*self._files("blobs/sha256").values(), *self._files("ingest").values()]
        return sum({file.st_ino: file.st_blocks for file in files}.values()) * 512

    def _files(self, folder: str) -> dict[str, os.stat_result]:
        """What is in one of our folders; threads rename and remove files meanwhile."""
        found = {}
        for name in os.listdir(f"{self.root}/{folder}"):
            with suppress(FileNotFoundError):
                found[name] = os.lstat(f"{self.root}/{folder}/{name}")
        return found

    def remove(self, digest: str) -> int:
        """Delete a blob; returns the bytes freed, 0 when it was not there. Only gc decides this."""
        path = self.path(digest)
        try:
            size = os.stat(path).st_size
            os.unlink(path)
        except FileNotFoundError:
            return 0
        return size

    def _adopt(self, ingested: str, digest: str, keep: bool) -> None:
        """Rename a finished ingest file to its blob; an equal blob already there is as good.

        `keep`: the ingest name stays too. Writers never open it while the blob is there, so the blob never changes.
        """
        os.chmod(ingested, 0o400)
        if not keep:
            os.rename(ingested, self.path(digest))
            return
        with suppress(FileExistsError):
            os.link(ingested, self.path(digest))

    # --- downloads for the next try

    def unfinished(self) -> dict[str, os.stat_result]:
        """Downloads that came to an end, or stopped on the way, without being recorded: their files by digest."""
        return {PREFIX + name: file for name, file in self._files("ingest").items() if is_digest(PREFIX + name)}

    def settle(self, digests: Iterable[str]) -> None:
        """Downloads that need no next try: recorded, or given up."""
        for digest in digests:
            with suppress(FileNotFoundError):
                os.unlink(f"{self.root}/ingest/{hex_of(digest)}")
