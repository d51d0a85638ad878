"""What a container has written: GET /containers/{id}/logs.

Without timestamps and tail the answer is the log file itself, sent by sendfile. Lines are split only where a line is
what was asked for. A log cut short in the middle of a frame is shown up to its last whole frame.
"""

import asyncio
from collections.abc import AsyncIterator, Iterator
from typing import NamedTuple

from corten.base.units import format_time, now_ns
from corten.engine.follow import Follower
from corten.engine.log_files import LogFiles
from corten.engine.streams import FileSpan, frame_header
from corten.zygote.log_format import STDOUT

Piece = bytes | FileSpan
Block = tuple[int, int, bytes]  # time in ns, stream, one line or more

SPAN_BYTES = 8 << 20  # a client that leaves is noticed between two spans
LINE_LIMIT_BYTES = 1 << 20  # a longer line is shown in parts
BY_LINE_BYTES = 256 << 10
_PIECE_BYTES = 256 << 10
_TAIL_BLOCK = 256
_NEWLINE = 10


class LogRequest(NamedTuple):
    """What is asked for. `tail` -1: all; times in ns since 1970, 0: no bound."""

    stdout: bool = True
    stderr: bool = True
    tail: int = -1
    since_ns: int = 0
    until_ns: int = 0
    timestamps: bool = False
    details: bool = False
    attributes: bytes = b""

    def wants(self, stream: int) -> bool:
        return self.stdout if stream == STDOUT else self.stderr

    @property
    def by_line(self) -> bool:
        return self.timestamps or self.details


class LineSplitter:
    """Joins the frames of each stream into blocks of whole lines; a line has the time of the frame that ends it."""

    __slots__ = ("_begun", "_request")

    def __init__(self, request: LogRequest) -> None:
        self._request = request
        self._begun: dict[int, tuple[int, bytes]] = {}

    def blocks(self, time_ns: int, stream: int, data: memoryview | bytes) -> Iterator[Block]:
        """The lines this frame ends, as one block."""
        if not self._request.wants(stream):
            return
        text = bytes(data)
        begun = self._begun.pop(stream, None)
        if begun is not None:
            text = begun[1] + text
        cut = text.rfind(b"\n") + 1
        if len(text) - cut > LINE_LIMIT_BYTES:
            cut = len(text)
        if cut:
            yield time_ns, stream, text[:cut]
        if cut < len(text):
            self._begun[stream] = (time_ns, text[cut:])

    def rest(self) -> list[Block]:
        """The unfinished lines, oldest first."""
        begun, self._begun = self._begun, {}
        return sorted((time_ns, stream, data) for stream, (time_ns, data) in begun.items())


def tail_start(files: LogFiles, lowest: int, end: int, request: LogRequest) -> tuple[int, int]:
    """(number of a frame, lines to leave out from there): what is left are the last `request.tail` before `end`."""
    upper = first = files.first_from(end)
    step, newlines = 1, 0
    open_ends: dict[int, int] = {}  # stream -> whether its last line is unfinished
    while first > lowest and newlines < request.tail + 2:  # two: a line may begin before what is read
        upto, first = first, max(lowest, first - step)
        step = min(step * 2, _TAIL_BLOCK)
        stop = files.offset_of(upto) if upto < upper else end
        ends: dict[int, int] = {}
        for stream, data in files.frames(files.offset_of(first), stop):
            if request.wants(stream) and data:
                newlines += bytes(data).count(b"\n")
                ends[stream] = int(data[-1] != _NEWLINE)
        open_ends = {**ends, **open_ends}
    return first, max(0, newlines + sum(open_ends.values()) - request.tail)


def without_first(blocks: Iterator[Block], skip: int) -> Iterator[Block]:
    """The blocks less their first `skip` lines."""
    for time_ns, stream, text in blocks:
        if skip:
            lines = text.count(b"\n") or 1
            if lines <= skip:
                skip -= lines
                continue
            text = text.split(b"\n", skip)[skip]
            skip = 0
        yield time_ns, stream, text


def _stamp(block: Block, request: LogRequest) -> bytes:
    """docker's `time attributes line`."""
    mark = b""
    if request.timestamps:
        mark = format_time(block[0], trim=False).encode() + b" "
    if request.details:
        mark += request.attributes + b" "
    text = block[2]
    return mark + text[:-1].replace(b"\n", b"\n" + mark) + text[-1:]


def _render(blocks: Iterator[Block] | list[Block], request: LogRequest, tty: bool) -> Iterator[bytes]:
    out = bytearray()
    for block in blocks:
        text = _stamp(block, request) if request.by_line else block[2]
        if not tty:
            out += frame_header(block[1], len(text))
        out += text
        if len(out) >= _PIECE_BYTES:
            yield bytes(out)
            out.clear()
    if out:
        yield bytes(out)


def _lines(data: bytes) -> list[bytes]:
    """Split after each newline, and at nothing else."""
    parts = data.split(b"\n")
    last = parts.pop()
    return [*(part + b"\n" for part in parts), *([last] if last else ())]


def frames_of(
    files: LogFiles, start: int, end: int, request: LogRequest, tty: bool, lines: bool = False
) -> Iterator[Piece]:
    """Whole frames in [start, end) as they go to a client: file spans when all is wanted, else chosen pieces.

    `lines`: where there is not much, each line in a frame of its own, as Docker sends logs and clients show them.
    """
    lines = lines and end - start <= BY_LINE_BYTES
    if not tty and not lines and request.stdout and request.stderr:
        yield from files.spans(start, end, SPAN_BYTES)
        return
    out = bytearray()
    for stream, data in files.frames(start, end):
        if not request.wants(stream):
            continue
        for text in _lines(bytes(data)) if lines and not tty else (data,):
            if not tty:
                out += frame_header(stream, len(text))
            out += text
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
        first = self.files.first_at(request.since_ns) if request.since_ns else 0
        if request.until_ns:
            end = min(end, self.files.offset_of(self.files.first_at(request.until_ns + 1)))
        skip = 0
        if request.tail >= 0:
            first, skip = tail_start(self.files, first, end, request)
        if request.by_line or skip:
            yield from _render(without_first(self._blocks(first, end), skip), request, self.tty)
            if not (follows and request.by_line):  # else the end of an unfinished line is still to come
                rest = self._splitter.rest()
                yield from _render(rest[max(0, len(rest) - request.tail):] if request.tail >= 0 else rest,
                                   request, self.tty)
        elif request.tail:
            yield from frames_of(self.files, self.files.offset_of(first), end, request, self.tty, lines=True)

    def _blocks(self, first: int, end: int) -> Iterator[Block]:
        for time_ns, stream, data in self.files.timed(first, end):
            yield from self._splitter.blocks(time_ns, stream, data)

    def _from(self, start: int, end: int) -> Iterator[Piece]:
        if not self.request.by_line:
            return frames_of(self.files, start, end, self.request, self.tty, lines=True)
        return _render(self._blocks(self.files.first_from(start), end), self.request, self.tty)

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
