"""One segment of a container's log, opened for reading: the frames, the index, and what is compressed unpacked.

A segment that has a successor never changes again. See corten.zygote.log_format for the layout.
"""

import os
from collections.abc import Iterator

from corten.base.units import now_ns
from corten.zygote.log_format import ENTRY, FRAME, PACKED, STDERR, segment_names

_BLOCK_BYTES = 1 << 20
_INDEX_BLOCK = 4096  # entries


class Segment:
    """`base` and `first` are the offset and the frame number at which it begins in the whole log."""

    __slots__ = ("_packed", "base", "first", "index", "number", "path", "plain")

    def __init__(self, number: int, path: str, index: int, log: int, packed: bool) -> None:
        self.number = number
        self.path = path
        self.index = index
        self.plain = log
        self._packed = packed
        self.base = self.first = 0

    @classmethod
    def open(cls, folder: str, number: int, create: bool = False) -> "Segment | None":
        """None when it is not there (any more)."""
        log_name, index_name = segment_names(number)
        flags = os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW
        if create:
            flags |= os.O_CREAT
        try:
            index = os.open(f"{folder}/{index_name}", flags, 0o600)
        except FileNotFoundError:
            return None
        for name in (log_name, log_name + PACKED) if not create else (log_name,):
            try:
                log = os.open(f"{folder}/{name}", flags, 0o600)
            except FileNotFoundError:
                continue
            return cls(number, f"{folder}/{log_name}", index, log, name.endswith(PACKED))
        os.close(index)
        return None

    def close(self) -> None:
        os.close(self.plain)
        os.close(self.index)

    @property
    def log(self) -> int:
        """A descriptor of the frames; a compressed segment is unpacked at the first use."""
        if self._packed:
            unpacked = _unpack(self.plain)
            os.close(self.plain)
            self.plain, self._packed = unpacked, False
        return self.plain

    def has_next(self, folder: str) -> bool:
        """Whether a later segment has been begun, so that nothing is added here any more."""
        if not os.fstat(self.plain).st_nlink:  # removed, compressed, or ours alone
            return True
        return any(os.path.lexists(f"{folder}/{segment_names(self.number + 1)[0]}{end}") for end in ("", PACKED))

    def _size(self) -> int:
        if self._packed:  # gzip says the size at its end; RFC 1952
            end = os.fstat(self.plain).st_size
            return int.from_bytes(os.pread(self.plain, 4, end - 4), "little")
        return os.fstat(self.plain).st_size

    def count(self) -> int:
        """How many whole entries the index has."""
        return os.fstat(self.index).st_size // ENTRY.size

    def entries(self, first: int, last: int) -> list[tuple[int, int]]:
        """Entries [first, last): (time in ns, offset)."""
        data = os.pread(self.index, (last - first) * ENTRY.size, first * ENTRY.size)
        return list(ENTRY.iter_unpack(data[:len(data) - len(data) % ENTRY.size]))

    def whole_end(self) -> int:
        """Where the last whole frame ends."""
        if self._packed:
            return self._size()
        count = self.count()
        if not count:
            return 0
        entry = self.entries(count - 1, count)
        if not entry:
            return 0
        offset = entry[0][1]
        header = os.pread(self.plain, FRAME.size, offset)
        if len(header) < FRAME.size:
            return min(offset, self._size())
        end: int = offset + FRAME.size + FRAME.unpack(header)[1]
        return end if self._size() >= end else offset

    def next_start(self) -> int:
        """Where the next frame to begin will begin: the end, or past a frame that is being written."""
        count = self.count()
        entry = self.entries(count - 1, count) if count else []
        if not entry:
            return 0
        offset = entry[0][1]
        header = os.pread(self.log, FRAME.size, offset)
        size: int = FRAME.unpack(header)[1] if len(header) == FRAME.size else 0
        return offset + FRAME.size + size if size else offset

    def frames(self, start: int, end: int) -> Iterator[tuple[int, memoryview]]:
        """The frames in [start, end) as (stream, bytes); both are frame boundaries. Stops early at damage."""
        at = start
        while at < end:
            block = memoryview(os.pread(self.log, min(_BLOCK_BYTES, end - at), at))
            used = 0
            while used + FRAME.size <= len(block):
                stream, size = FRAME.unpack_from(block, used)
                if stream > 2 or size > end - at:
                    return
                if used + FRAME.size + size > len(block):
                    break
                yield stream, block[used + FRAME.size:used + FRAME.size + size]
                used += FRAME.size + size
            if not used:
                block = memoryview(os.pread(self.log, FRAME.size + _frame_size(block), at))
                if len(block) <= FRAME.size or len(block) < FRAME.size + _frame_size(block):
                    return
                yield block[0], block[FRAME.size:]
                used = len(block)
            at += used

    def first_at(self, time_ns: int) -> int:
        """The number of the first entry not before `time_ns`; the count when there is none."""
        return self._search(0, time_ns)

    def first_from(self, offset: int) -> int:
        """The number of the first frame that begins at `offset` or behind it; the count when there is none."""
        return self._search(1, offset)

    def _search(self, member: int, value: int) -> int:
        low, high = 0, self.count()
        while low < high:
            middle = (low + high) // 2
            entry = self.entries(middle, middle + 1)
            if entry and entry[0][member] < value:
                low = middle + 1
            else:
                high = middle
        return low

    def offset_of(self, number: int) -> int:
        """Where frame `number` begins; the end of the whole frames when there is none."""
        entry = self.entries(number, number + 1)
        return entry[0][1] if entry else self.whole_end()

    def timed(self, first: int, end: int) -> Iterator[tuple[int, int, memoryview]]:
        """Frames from number `first` that lie before offset `end`: (time in ns, stream, bytes)."""
        frames = self.frames(self.offset_of(first), end)
        number = first
        while True:
            times = self.entries(number, number + _INDEX_BLOCK)
            if not times:
                return
            for time_ns, _offset in times:
                frame = next(frames, None)
                if frame is None:
                    return
                yield time_ns, *frame
            number += len(times)


def _frame_size(block: memoryview) -> int:
    return int.from_bytes(block[4:8], "big") if len(block) >= FRAME.size else 0


def _unpack(packed: int) -> int:
    """The content of a gzip file in memory. Its size is bounded by the limit it was rotated at."""
    import zlib

    target = os.memfd_create("log", os.MFD_CLOEXEC)
    unpacker = zlib.decompressobj(wbits=31)
    offset = 0
    while data := os.pread(packed, _BLOCK_BYTES, offset):
        offset += len(data)
        os.write(target, unpacker.decompress(data))
    return target


def note(number: int, text: str) -> Segment:
    """A segment that only says something, on standard error."""
    data = text.encode()
    log, index = (os.memfd_create(name, os.MFD_CLOEXEC) for name in ("log", "index"))
    os.write(log, FRAME.pack(STDERR, len(data)) + data)
    os.write(index, ENTRY.pack(now_ns(), 0))
    return Segment(number, "", index, log, packed=False)
