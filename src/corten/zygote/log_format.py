"""The log of a container as bytes: what the pump writes and what the engine reads. Pure; does no I/O.

`log` holds frames exactly as the Engine API sends them on a multiplexed stream (so reading back is a copy):

    stream (1 byte: 1 stdout, 2 stderr) | 0 0 0 | size (4 bytes, big endian) | size bytes

A container with a terminal has stream 1 only. `log.idx` holds, for each frame, 16 bytes written just before it:

    time of the write (8 bytes, little endian, ns since 1970) | offset of the frame in `log` (8 bytes, little endian)

A container whose log has a limit writes segments, oldest first: `log`, `log.1`, `log.2` … each with its own index
(`log.1.idx`) and offsets. A segment is never written again once the next one is there. Old ones may be compressed
(`log.gz`, `log.1.gz`; the index stays), the oldest are removed. Nothing is renamed, so a pump killed at any point
leaves nothing to mend. `log.conf` holds the limits as three numbers: bytes of a segment, segments kept, compress.

The last frame may be unfinished: the pump announces what waits in the pipe, then moves it; whoever comes after a
killed pump finishes that frame from the same pipe. `repair` says how.
"""

import re
import struct

LOG_NAME = "log"
INDEX_NAME = "log.idx"

CONFIG_NAME = "log.conf"
PACKED = ".gz"

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

FRAME = struct.Struct(">BxxxL")
ENTRY = struct.Struct("<QQ")

STDOUT = 1
STDERR = 2


_SEGMENT = re.compile(r"log(?:\.([1-9][0-9]{0,8}))?(?:\.gz)?", re.ASCII)


def segment_names(number: int) -> tuple[str, str]:
    """The names of a segment's log and index."""
    name = f"{LOG_NAME}.{number}" if number else LOG_NAME
    return name, f"{name}.idx"


def segment_numbers(names: "Iterable[str]") -> list[int]:
    """The segments that a folder with these names has, oldest first."""
    return sorted({int(found[1] or 0) for name in names if (found := _SEGMENT.fullmatch(name))})


class Limits:
    """How much of a log is kept: `segment_bytes` 0 is no limit."""

    __slots__ = ("compress", "files", "segment_bytes")

    def __init__(self, segment_bytes: int = 0, files: int = 1, compress: bool = False) -> None:
        self.segment_bytes = segment_bytes
        self.files = files
        self.compress = compress

    def to_bytes(self) -> bytes:
        """What `log.conf` holds."""
        return b"%d %d %d\n" % (self.segment_bytes, self.files, self.compress)

    @classmethod
    def from_bytes(cls, data: bytes) -> "Limits":
        """No limit when the text is none of ours: to keep too much harms less than to keep too little."""
        words = data.split()
        if len(words) != 3 or not all(word.isdigit() for word in words):
            return cls()
        return cls(int(words[0]), max(1, int(words[1])), words[2] != b"0")


class Tail:
    """The state of a log's end: cut both files to these sizes, then move `missing_bytes` of `stream` into the log."""

    __slots__ = ("index_bytes", "log_bytes", "missing_bytes", "stream")

    def __init__(self, log_bytes: int, index_bytes: int, stream: int, missing_bytes: int) -> None:
        self.log_bytes = log_bytes
        self.index_bytes = index_bytes
        self.stream = stream
        self.missing_bytes = missing_bytes


def repair(log_bytes: int, index_bytes: int, last_offset: int, header: bytes) -> Tail:
    """What a new pump has to do with a log it takes over.

    `last_offset` is the frame named by the last whole index entry, `header` the up to 8 bytes at that place.
    """
    index_bytes -= index_bytes % ENTRY.size
    if index_bytes == 0:
        return Tail(0, 0, STDOUT, 0)
    if last_offset >= log_bytes or len(header) < FRAME.size:
        return Tail(min(last_offset, log_bytes), index_bytes - ENTRY.size, STDOUT, 0)
    stream, size = FRAME.unpack(header)
    there = log_bytes - last_offset - FRAME.size
    return Tail(log_bytes, index_bytes, stream, max(0, size - there))
