"""What a container has written: GET /containers/{id}/logs.

Without timestamps and tail the answer is the log file itself, sent by sendfile. Lines are split only where a line is
what was asked for. A log cut short in the middle of a frame is shown up to its last whole frame.
"""

import asyncio
from collections.abc import AsyncIterator, Iterator
from typing import NamedTuple

from corten.base.units import format_time, now_ns
from corten.engine.follow import Follower, LogFiles
from corten.engine.streams import FileSpan, frame_header
from corten.zygote.log_format import STDOUT

Piece = bytes | FileSpan
Line = tuple[int, int, bytes]  # time in ns, stream, bytes with the newline

SPAN_BYTES = 8 << 20  # a client that leaves is noticed between two spans
LINE_LIMIT_BYTES = 1 << 20  # a longer line is shown in parts
_PIECE_BYTES = 256 << 10
_TAIL_BLOCK = 256


class LogRequest(NamedTuple):
    """What is asked for. `tail` -1: all; times in ns since 1970, 0: no bound."""

    stdout: bool = True
    stderr: bool = True
    tail: int = -1
    since_ns: int = 0
    until_ns: int = 0
    timestamps: bool = False
    details: bool = False

    def wants(self, stream: int) -> bool:
        return self.stdout if stream == STDOUT else self.stderr

    @property
    def by_line(self) -> bool:
        return self.timestamps or self.details


class LineSplitter:
    """Joins the frames of each stream into lines; a line has the time of the frame that ends it."""

    __slots__ = ("_begun", "_request")

    def __init__(self, request: LogRequest) -> None:
        self._request = request
        self._begun: dict[int, tuple[int, bytes]] = {}

    def lines(self, time_ns: int, stream: int, data: memoryview | bytes) -> Iterator[Line]:
        """The lines this frame ends."""
        if not self._request.wants(stream):
            return
        parts = bytes(data).split(b"\n")
        begun = self._begun.pop(stream, None)
        if begun is not None:
            parts[0] = begun[1] + parts[0]
        last = parts.pop()
        for part in parts:
            yield time_ns, stream, part + b"\n"
        if len(last) > LINE_LIMIT_BYTES:
            yield time_ns, stream, last
        elif last:
            self._begun[stream] = (time_ns, last)

    def rest(self) -> list[Line]:
        """The unfinished lines, oldest first."""
        begun, self._begun = self._begun, {}
        return sorted((time_ns, stream, data) for stream, (time_ns, data) in begun.items())


def tail_lines(files: LogFiles, end: int, request: LogRequest) -> list[Line]:
    """The last `request.tail` lines before offset `end`, unfinished ones too."""
    if request.tail == 0:
        return []
    upper = files.count()
    wanted = request.tail + 2  # the first line of each stream may begin before what is read
    first = upper
    newlines = 0
    lowest = files.first_at(request.since_ns) if request.since_ns else 0
    while first > lowest and newlines < wanted:
        upto, first = first, max(lowest, first - _TAIL_BLOCK)
        stop = files.offset_of(upto) if upto < upper else end
        for stream, data in files.frames(files.offset_of(first), min(stop, end)):
            if request.wants(stream):
                newlines += bytes(data).count(b"\n")
    splitter = LineSplitter(request)
    found: list[Line] = []
    for time_ns, stream, data in files.timed(first, end):
        if request.until_ns and time_ns > request.until_ns:
            break
        found += splitter.lines(time_ns, stream, data)
    found += splitter.rest()
    return found[-request.tail:]


def _stamp(line: Line, request: LogRequest) -> bytes:
    text = line[2]
    if request.details:
        text = b" " + text
    if request.timestamps:
        text = format_time(line[0], trim=False).encode() + b" " + text
    return text


def _render(lines: Iterator[Line] | list[Line], request: LogRequest, tty: bool) -> Iterator[bytes]:
    out = bytearray()
    for line in lines:
        text = _stamp(line, request) if request.by_line else line[2]
        if not tty:
            out += frame_header(line[1], len(text))
        out += text
        if len(out) >= _PIECE_BYTES:
            yield bytes(out)
            out.clear()
    if out:
        yield bytes(out)


def frames_of(files: LogFiles, start: int, end: int, request: LogRequest, tty: bool) -> Iterator[Piece]:
    """Whole frames in [start, end) as they go to a client: file spans when all is wanted, else chosen pieces."""
    if not tty and request.stdout and request.stderr:
        while start < end:
            size = min(SPAN_BYTES, end - start)
            yield FileSpan(files.log, start, size)
            start += size
        return
    out = bytearray()
    for stream, data in files.frames(start, end):
        if not request.wants(stream):
            continue
        if not tty:
            out += frame_header(stream, len(data))
        out += data
        if len(out) >= _PIECE_BYTES:
            yield bytes(out)
            out.clear()
    if out:
        yield bytes(out)


class LogReading:
    """One request's way through the log: what is there, then (follow) what comes."""

    def __init__(self, files: LogFiles, request: LogRequest, tty: bool) -> None:
        self.files = files
        self.request = request
        self.tty = tty
        self._splitter = LineSplitter(request)

    async def pieces(self, follower: Follower | None = None) -> AsyncIterator[Piece]:
        """Everything asked for, in order."""
        position = self.files.whole_end()
        for piece in self._history(position, follower is not None):
            yield piece
            await asyncio.sleep(0)
        while follower is not None:
            end = await self._next_end(follower, position)
            if end == position:
                break
            for piece in self._from(position, end):
                yield piece
            position = end
        for piece in _render(self._splitter.rest(), self.request, self.tty):
            yield piece

    def _history(self, end: int, follows: bool) -> Iterator[Piece]:
        request = self.request
        if request.tail >= 0:
            lines = tail_lines(self.files, end, request)
            if follows and request.by_line and lines and not lines[-1][2].endswith(b"\n"):
                last = lines.pop()  # its end is still to come
                list(self._splitter.lines(*last))
            yield from _render(lines, request, self.tty)
            return
        first = self.files.first_at(request.since_ns) if request.since_ns else 0
        if request.until_ns:
            end = min(end, self.files.offset_of(self.files.first_at(request.until_ns + 1)))
        if request.by_line:
            yield from _render(self._lines(first, end), request, self.tty)
        else:
            yield from frames_of(self.files, self.files.offset_of(first), end, request, self.tty)

    def _lines(self, first: int, end: int) -> Iterator[Line]:
        for time_ns, stream, data in self.files.timed(first, end):
            yield from self._splitter.lines(time_ns, stream, data)

    def _from(self, start: int, end: int) -> Iterator[Piece]:
        if not self.request.by_line:
            return frames_of(self.files, start, end, self.request, self.tty)
        return _render(self._lines(self._number_of(start), end), self.request, self.tty)

    def _number_of(self, offset: int) -> int:
        low, high = 0, self.files.count()
        while low < high:
            middle = (low + high) // 2
            if self.files.entries(middle, middle + 1)[0][1] < offset:
                low = middle + 1
            else:
                high = middle
        return low

    async def _next_end(self, follower: Follower, position: int) -> int:
        if not self.request.until_ns:
            return await follower.beyond(position)
        left = (self.request.until_ns - now_ns()) / 1e9
        if left <= 0:
            return position
        try:
            async with asyncio.timeout(left):
                return await follower.beyond(position)
        except TimeoutError:
            return position
