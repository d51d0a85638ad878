"""The log of a container opened for reading: its segments as one run of frames, whoever rotates it meanwhile.

Offsets and frame numbers count from the oldest segment that was there at opening. Only whole frames are ever handed
out: the last entry of an index says where the last frame begins, so the end of the whole ones costs two small reads
however many frames there are. See corten.zygote.log_format for the layout.
"""

import os
from collections.abc import Iterator

from corten.engine.log_segment import Segment, note
from corten.engine.streams import FileSpan
from corten.zygote.log_format import segment_numbers


class LogFiles:
    """All segments of one log. `path` is the container's folder. Close it, or use `with`."""

    __slots__ = ("_segments", "path")

    def __init__(self, path: str, create: bool = False) -> None:
        """`create`: a container that has not run yet gets an empty log. Raises FileNotFoundError."""
        self.path = path
        self._segments: list[Segment] = []
        numbers = segment_numbers(os.listdir(path))
        for number in numbers[:-1]:
            self._add(number)
        if not self._add(numbers[-1] if numbers else 0, create or bool(numbers)) and not self._segments:
            raise FileNotFoundError(2, "no log", path)

    def __enter__(self) -> "LogFiles":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        for segment in self._segments:
            segment.close()
        self._segments.clear()

    def _add(self, number: int, create: bool = False) -> bool:
        segment = Segment.open(self.path, number, create)
        if segment is not None:
            self._place(segment)
        return segment is not None

    def _place(self, segment: Segment) -> None:
        if self._segments:
            last = self._segments[-1]
            segment.base = last.base + last.whole_end()
            segment.first = last.first + last.count()
        self._segments.append(segment)

    def _turn_over(self) -> None:
        """Open the segments begun since; a segment that is gone already is said in the stream."""
        last = self._segments[-1].number
        try:
            later = [number for number in segment_numbers(os.listdir(self.path)) if number > last]
        except FileNotFoundError:  # the container is being removed
            return
        for number in later:
            if number > self._segments[-1].number + 1:
                missing = number - self._segments[-1].number - 1
                self._place(note(number - 1, f"[corten: {missing} segments of the log were rotated away unread]\n"))
            self._add(number)

    @property
    def segments(self) -> int:
        """The number of the newest segment that is open."""
        return self._segments[-1].number

    @property
    def log_path(self) -> str:
        """The file that grows."""
        return self._segments[-1].path

    def count(self) -> int:
        """How many whole entries the index has."""
        last = self._segments[-1]
        return last.first + last.count()

    def whole_end(self) -> int:
        """Where the last whole frame ends; everything before is whole frames."""
        if self._segments[-1].has_next(self.path):
            self._turn_over()
        last = self._segments[-1]
        return last.base + last.whole_end()

    def next_start(self) -> int:
        """Where the next frame to begin will begin: the end, or past a frame that is being written."""
        last = self._segments[-1]
        return last.base + last.next_start()

    def place_of(self, offset: int) -> tuple[int, int]:
        """(number of the segment, offset in it): what an offset is called for as long as the log is there."""
        segment = next(part for part in reversed(self._segments) if part.base <= offset or part is self._segments[0])
        return segment.number, offset - segment.base

    def position_of(self, number: int, offset: int) -> int:
        """The offset of a place; of the first segment behind it when its own is gone."""
        for segment in self._segments:
            if segment.number >= number:
                return segment.base + (offset if segment.number == number else 0)
        return self.whole_end()

    def _upto(self, start: int, end: int) -> Iterator[tuple[Segment, int, int]]:
        """The parts of [start, end) by segment: (segment, offset in it, end in it)."""
        for place, segment in enumerate(self._segments):
            limit = self._segments[place + 1].base if place + 1 < len(self._segments) else end
            if start < limit and segment.base < end:
                upto = min(limit, end)
                yield segment, max(start, segment.base) - segment.base, upto - segment.base

    def spans(self, start: int, end: int, size: int) -> Iterator[FileSpan]:
        """[start, end) as parts of files, each at most `size` bytes."""
        for segment, at, upto in self._upto(start, end):
            while at < upto:
                part = min(size, upto - at)
                yield FileSpan(segment.log, at, part)
                at += part

    def frames(self, start: int, end: int) -> Iterator[tuple[int, memoryview]]:
        """The frames in [start, end) as (stream, bytes); both are frame boundaries. Stops early at damage."""
        for segment, at, upto in self._upto(start, end):
            yield from segment.frames(at, upto)

    def first_at(self, time_ns: int) -> int:
        """The number of the first entry not before `time_ns`; the count when there is none."""
        for segment in self._segments:
            found = segment.first_at(time_ns)
            if found < segment.count():
                return segment.first + found
        return self.count()

    def first_from(self, offset: int) -> int:
        """The number of the first frame that begins at `offset` or behind it; the count when there is none."""
        for segment in self._segments:
            found = segment.first_from(offset - segment.base)
            if found < segment.count():
                return segment.first + found
        return self.count()

    def offset_of(self, number: int) -> int:
        """Where frame `number` begins; the end of the whole frames when there is none."""
        for segment in self._segments:
            if segment.first <= number < segment.first + segment.count():
                return segment.base + segment.offset_of(number - segment.first)
        return self.whole_end()

    def timed(self, first: int, end: int) -> Iterator[tuple[int, int, memoryview]]:
        """Frames from number `first` that lie before offset `end`: (time in ns, stream, bytes)."""
        for segment in list(self._segments):
            if segment.base >= end:
                return
            yield from segment.timed(max(0, first - segment.first), end - segment.base)
