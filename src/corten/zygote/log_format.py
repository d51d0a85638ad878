"""The log of a container as bytes: what the pump writes and what the engine reads. Pure; does no I/O.

`log` holds frames exactly as the Engine API sends them on a multiplexed stream (so reading back is a copy):

    stream (1 byte: 1 stdout, 2 stderr) | 0 0 0 | size (4 bytes, big endian) | size bytes

A container with a terminal has stream 1 only. `log.idx` holds, for each frame, 16 bytes written just before it:

    time of the write (8 bytes, little endian, ns since 1970) | offset of the frame in `log` (8 bytes, little endian)

The last frame may be unfinished: the pump announces what waits in the pipe, then moves it; whoever comes after a
killed pump finishes that frame from the same pipe. `repair` says how.
"""

import struct

LOG_NAME = "log"
INDEX_NAME = "log.idx"

FRAME = struct.Struct(">BxxxL")
ENTRY = struct.Struct("<QQ")

STDOUT = 1
STDERR = 2


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
