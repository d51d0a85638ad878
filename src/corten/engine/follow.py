"""Reading a container's log while it grows. The pump writes it (corten.zygote.log_format); nobody is asked to wait.

Only whole frames are ever handed out: the last entry of the index says where the last frame begins, so the end of the
whole ones costs two small reads however many frames there are. One inotify serves all followers; nothing polls.
"""

import asyncio
import os
from collections.abc import Callable, Iterator

from corten.linux.inotify import IN_MODIFY, IN_Q_OVERFLOW, Inotify
from corten.zygote.log_format import ENTRY, FRAME, INDEX_NAME, LOG_NAME

DRAIN_S = 2.0
_BLOCK_BYTES = 1 << 20
_INDEX_BLOCK = 4096  # entries


class LogWatch:
    """Wakes followers when their log grows."""

    def __init__(self) -> None:
        self._inotify: Inotify | None = None
        self._events: dict[int, set[asyncio.Event]] = {}

    def add(self, path: str) -> tuple[asyncio.Event, Callable[[], None]]:
        """An event set at each growth of `path` (the waiter clears it), and how to stop. Raises OSError."""
        if self._inotify is None:
            self._inotify = Inotify()
            asyncio.get_running_loop().add_reader(self._inotify.fd, self._ready)
        watch = self._inotify.add(path, IN_MODIFY)
        event = asyncio.Event()
        self._events.setdefault(watch, set()).add(event)

        def stop() -> None:
            waiting = self._events.get(watch, set())
            waiting.discard(event)
            if not waiting and self._events.pop(watch, None) is not None and self._inotify is not None:
                self._inotify.remove(watch)

        return event, stop

    def close(self) -> None:
        """At the daemon's end."""
        if self._inotify is not None:
            asyncio.get_running_loop().remove_reader(self._inotify.fd)
            self._inotify.close()
            self._inotify = None

    def _ready(self) -> None:
        assert self._inotify is not None
        for watch, mask in self._inotify.read():
            sets = self._events.values() if mask & IN_Q_OVERFLOW else (self._events.get(watch, set()),)
            for waiting in sets:
                for event in waiting:
                    event.set()


class LogFiles:
    """The log and its index, open for reading. `path` is the container's folder. Close it, or use `with`."""

    __slots__ = ("index", "log", "path")

    def __init__(self, path: str, create: bool = False) -> None:
        """`create`: a container that has not run yet gets an empty log. Raises FileNotFoundError."""
        flags = os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | (os.O_CREAT if create else 0)
        self.path = path
        self.index = os.open(f"{path}/{INDEX_NAME}", flags, 0o600)
        try:
            self.log = os.open(f"{path}/{LOG_NAME}", flags, 0o600)
        except BaseException:
            os.close(self.index)
            raise

    def __enter__(self) -> "LogFiles":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        if self.log >= 0:
            os.close(self.log)
            os.close(self.index)
            self.log = self.index = -1

    @property
    def log_path(self) -> str:
        return f"{self.path}/{LOG_NAME}"

    def count(self) -> int:
        """How many whole entries the index has."""
        return os.fstat(self.index).st_size // ENTRY.size

    def entries(self, first: int, last: int) -> list[tuple[int, int]]:
        """Entries [first, last): (time in ns, offset)."""
        data = os.pread(self.index, (last - first) * ENTRY.size, first * ENTRY.size)
        return list(ENTRY.iter_unpack(data[:len(data) - len(data) % ENTRY.size]))

    def whole_end(self) -> int:
        """Where the last whole frame ends; everything before is whole frames."""
        count = self.count()
        if not count:
            return 0
        entry = self.entries(count - 1, count)
        if not entry:
            return 0
        offset = entry[0][1]
        header = os.pread(self.log, FRAME.size, offset)
        if len(header) < FRAME.size:
            return min(offset, os.fstat(self.log).st_size)
        end: int = offset + FRAME.size + FRAME.unpack(header)[1]
        return end if os.fstat(self.log).st_size >= end else offset

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
        low, high = 0, self.count()
        while low < high:
            middle = (low + high) // 2
            entry = self.entries(middle, middle + 1)
            if entry and entry[0][0] < time_ns:
                low = middle + 1
            else:
                high = middle
        return low

    def first_from(self, offset: int) -> int:
        """The number of the first frame that begins at `offset` or behind it; the count when there is none."""
        low, high = 0, self.count()
        while low < high:
            middle = (low + high) // 2
            entry = self.entries(middle, middle + 1)
            if entry and entry[0][1] < offset:
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


class Follower:
    """Waits for a log to grow until its container has ended and the pump has written the last byte."""

    def __init__(self, watch: LogWatch, files: LogFiles, ended: "asyncio.Future[object]") -> None:
        """`ended` is done when no more frames will come (see `end_of_output`)."""
        self._files = files
        self._ended = ended
        self._grown, self._stop = watch.add(files.log_path)
        ended.add_done_callback(lambda _: self._grown.set())

    def close(self) -> None:
        """Stop watching."""
        self._stop()
        self._ended.cancel()

    async def beyond(self, position: int) -> int:
        """The end of the whole frames once it lies behind `position`; `position` itself when no more will come."""
        while True:
            over = self._ended.done()
            self._grown.clear()
            end = self._files.whole_end()
            if end > position:
                return end
            if over:
                return position
            await self._grown.wait()


async def end_of_output(exited: "asyncio.Future[int] | asyncio.Event", drained: Callable[[], asyncio.Event]) -> None:
    """Returns when the container has ended and its last byte is in the log, or 2 s after its end."""
    await (exited.wait() if isinstance(exited, asyncio.Event) else exited)
    try:
        async with asyncio.timeout(DRAIN_S):
            await drained().wait()
    except TimeoutError:
        pass
