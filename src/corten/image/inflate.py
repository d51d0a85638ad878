"""Where a tar reader's bytes come from: a mapped file, or a stream inflated on the way and hashed. For workers only.

Decoders run in confined processes; each call's output is bounded, and so is the whole (a bomb ends as an error).
"""

import errno
import hashlib
import mmap
import os
from collections.abc import Iterator

from corten.base.errors import InvalidArgument

CHUNK = 1 << 20
_INPUT = 1 << 17
_ZSTD_WINDOW = 128 << 20  # bytes a frame may ask us to keep


def compression_of(head: bytes) -> str:
    """`gzip`, `zstd`, `bzip2`, `xz` or `` from the first bytes of a file."""
    for magic, name in ((b"\x1f\x8b", "gzip"), (b"\x28\xb5\x2f\xfd", "zstd"), (b"BZh", "bzip2"), (b"\xfd7zXZ\0", "xz")):
        if head.startswith(magic):
            return name
    return ""


class MapSource:
    """An uncompressed archive in a file nobody changes meanwhile. Big members are copied inside the kernel."""

    __slots__ = ("_at", "_descriptor", "_map", "_size")

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self._size = os.fstat(descriptor).st_size
        self._map: mmap.mmap | bytes = mmap.mmap(descriptor, 0, access=mmap.ACCESS_READ) if self._size else b""
        self._at = 0

    def take(self, size: int) -> bytes:
        """Exactly `size` bytes, or fewer at the end."""
        at = self._at
        data = self._map[at:at + size]
        self._at = at + len(data)
        return data

    def skip(self, size: int) -> int:
        """Pass over bytes; returns how many there were."""
        skipped = min(size, self._size - self._at)
        self._at += skipped
        return skipped

    def copy_to(self, descriptor: int, size: int) -> int:
        """Write the next `size` bytes to a file; returns how many there were."""
        left = min(size, self._size - self._at)
        done = 0
        while done < left:
            try:
                copied = os.copy_file_range(self._descriptor, descriptor, left - done, self._at + done)
            except OSError as error:
                if error.errno not in (errno.EXDEV, errno.EINVAL, errno.ENOSYS, errno.EOPNOTSUPP):
                    raise
                copied = os.sendfile(descriptor, self._descriptor, self._at + done, left - done)
            if copied == 0:
                break
            done += copied
        self._at += done
        return done

    def finish(self) -> str:
        """The digest is known already: whoever stored the file hashed these bytes."""
        return ""


class StreamSource:
    """A stream of chunks, counted against `limit_bytes` and hashed when asked."""

    __slots__ = ("_at", "_buffer", "_chunks", "_hash", "_left")

    def __init__(self, chunks: Iterator[bytes], limit_bytes: int, hashed: bool = True) -> None:
        self._chunks = chunks
        self._buffer = b""
        self._at = 0
        self._left = limit_bytes
        self._hash = hashlib.sha256() if hashed else None

    def _next(self) -> bytes:
        chunk = next(self._chunks, b"")
        self._left -= len(chunk)
        if self._left < 0:
            raise InvalidArgument("the archive inflates to more than the limit")
        if self._hash is not None:
            self._hash.update(chunk)
        return chunk

    def take(self, size: int) -> bytes:
        """Exactly `size` bytes, or fewer at the end."""
        end = self._at + size
        if end <= len(self._buffer):
            data = self._buffer[self._at:end]
            self._at = end
            return data
        parts = [self._buffer[self._at:]]
        have = len(parts[0])
        while have < size:
            chunk = self._next()
            if not chunk:
                break
            parts.append(chunk)
            have += len(chunk)
        joined = b"".join(parts)
        self._buffer, self._at = joined, min(size, have)
        return joined[:size]

    def some(self, size: int) -> memoryview:
        """At least one and at most `size` bytes, without copying; none at the end."""
        if self._at >= len(self._buffer):
            self._buffer, self._at = self._next(), 0
        view = memoryview(self._buffer)[self._at:self._at + size]
        self._at += len(view)
        return view

    def skip(self, size: int) -> int:
        """Pass over bytes; returns how many there were."""
        have = len(self._buffer) - self._at
        if have >= size:
            self._at += size
            return size
        while have < size:
            chunk = self._next()
            if not chunk:
                self._buffer, self._at = b"", 0
                return have
            self._buffer = chunk
            self._at = min(len(chunk), size - have)
            have += self._at
        return size

    def copy_to(self, descriptor: int, size: int) -> int:
        """Write the next `size` bytes to a file; returns how many there were."""
        done = 0
        while done < size:
            view = memoryview(self._buffer)[self._at:self._at + size - done]
            if not view:
                self._buffer, self._at = self._next(), 0
                if not self._buffer:
                    break
                continue
            written = os.write(descriptor, view)
            self._at += written
            done += written
        return done

    def finish(self) -> str:
        """Read to the very end; the sha256 of every byte, in hexadecimal ("" when not hashed)."""
        while self._next():
            pass
        return self._hash.hexdigest() if self._hash is not None else ""


class WholeFile:
    """A file or pipe read to its end."""

    __slots__ = ("_descriptor",)

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor

    def read(self, size: int) -> bytes:
        """Up to `size` bytes, none at the end."""
        return os.read(self._descriptor, size)


class GrowingFile:
    """A file that is still being downloaded: read as far as it is, told by its bell (arrival.py) when there is more.

    Raises InvalidArgument when the download ends before it is whole.
    """

    __slots__ = ("_at", "_bell", "_descriptor", "_size", "_whole")

    def __init__(self, descriptor: int, bell: int) -> None:
        self._descriptor, self._bell = descriptor, bell
        self._at = self._size = 0
        self._whole = False

    def read(self, size: int) -> bytes:
        """Up to `size` bytes, none when all have been read and the file is whole."""
        while self._at >= self._size and not self._whole:
            self._size = os.fstat(self._descriptor).st_size
            if self._at >= self._size:
                self._listen()
        data = os.pread(self._descriptor, size, self._at)
        self._at += len(data)
        return data

    def await_whole(self) -> None:
        """Return when nothing is missing."""
        while not self._whole:
            self._listen()

    def _listen(self) -> None:
        rung = os.read(self._bell, 4096)
        if not rung:
            raise InvalidArgument("the download ended before all was here")
        self._whole = rung.endswith(b"!")


Source = WholeFile | GrowingFile


def _plain(source: Source) -> Iterator[bytes]:
    while chunk := source.read(CHUNK):
        yield chunk


def _gunzip(source: Source) -> Iterator[bytes]:
    from isal import igzip_lib  # only in the worker that needs it, and before it is confined

    decoder = igzip_lib.IgzipDecompressor(flag=igzip_lib.DECOMP_GZIP)
    rest = b""
    started = False
    while True:
        if decoder.eof:
            rest = decoder.unused_data or source.read(_INPUT)
            if not rest:
                return
            decoder = igzip_lib.IgzipDecompressor(flag=igzip_lib.DECOMP_GZIP)
        elif decoder.needs_input or not started:
            rest = rest or source.read(_INPUT)
            started = True
            if not rest:
                raise InvalidArgument("unexpected end of a gzip stream")
        try:
            chunk = decoder.decompress(rest, CHUNK)
        except (igzip_lib.error, EOFError) as error:  # type: ignore[misc]
            raise InvalidArgument(f"invalid gzip data: {error}") from None
        rest = b""
        if chunk:
            yield chunk


def _unzstd(source: Source) -> Iterator[bytes]:
    import zstandard

    decoder = zstandard.ZstdDecompressor(max_window_size=_ZSTD_WINDOW)  # it calls `read` alone
    reader = decoder.stream_reader(source, read_across_frames=True)  # type: ignore[arg-type]
    try:
        while chunk := reader.read(CHUNK):
            yield chunk
    except zstandard.ZstdError as error:
        raise InvalidArgument(f"invalid zstd data: {error}") from None


def _standard(descriptor: int, kind: str) -> Iterator[bytes]:
    if kind == "bzip2":
        import bz2

        with open(descriptor, "rb", closefd=False) as raw, bz2.BZ2File(raw) as stream:
            yield from _whole(stream, OSError)
    else:
        import lzma

        with open(descriptor, "rb", closefd=False) as raw, lzma.LZMAFile(raw) as stream:
            yield from _whole(stream, lzma.LZMAError)


TYPE_CHECKING = False
if TYPE_CHECKING:
    import bz2
    import lzma


def _whole(stream: "bz2.BZ2File | lzma.LZMAFile", own_error: type[Exception]) -> Iterator[bytes]:
    try:
        while chunk := stream.read(CHUNK):
            yield chunk
    except (own_error, OSError, EOFError, ValueError) as error:
        raise InvalidArgument(f"invalid compressed data: {error}") from None


def preload(kinds: set[str]) -> None:
    """Import the decoders now: a confined process finds no modules any more."""
    if "gzip" in kinds:
        import isal.igzip_lib  # noqa: F401
    if "zstd" in kinds:
        import zstandard  # noqa: F401
    if "bzip2" in kinds:
        import bz2  # noqa: F401
    if "xz" in kinds:
        import lzma  # noqa: F401


def chunks_of(descriptor: int, kind: str, bell: int = -1) -> Iterator[bytes]:
    """The inflated bytes of an open file or pipe; `kind` as `compression_of` says, `bell` of a file still growing.

    Raises InvalidArgument.
    """
    source = WholeFile(descriptor) if bell < 0 else GrowingFile(descriptor, bell)
    if kind == "gzip":
        return _gunzip(source)
    if kind == "zstd":
        return _unzstd(source)
    if kind:
        if isinstance(source, GrowingFile):
            source.await_whole()
        return _standard(descriptor, kind)
    return _plain(source)
