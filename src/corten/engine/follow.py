"""Reading a container's log while it grows. The pump writes it (corten.zygote.log_format); nobody is asked to wait.

One inotify serves all followers; nothing polls.
"""

import asyncio
from collections.abc import Callable

from corten.engine.log_files import LogFiles
from corten.linux.inotify import IN_MODIFY, IN_Q_OVERFLOW, Inotify

DRAIN_S = 30.0  # a busy machine or a slow disk lets the pump wait


class LogWatch:
    """Wakes followers when their log grows."""

    def __init__(self) -> None:
        self._inotify: Inotify | None = None
        self._events: dict[int, set[asyncio.Event]] = {}

    def add(self, path: str) -> tuple[asyncio.Event, Callable[[], None]]:
        """An event set at each growth of `path` (the waiter clears it), and how to stop. Raises OSError."""
        event = asyncio.Event()
        return event, self.watch(path, event)

    def watch(self, path: str, event: asyncio.Event) -> Callable[[], None]:
        """Set `event` at each growth of `path`; how to stop. Raises OSError."""
        if self._inotify is None:
            self._inotify = Inotify()
            asyncio.get_running_loop().add_reader(self._inotify.fd, self._ready)
        watch = self._inotify.add(path, IN_MODIFY)
        self._events.setdefault(watch, set()).add(event)

        def stop() -> None:
            waiting = self._events.get(watch, set())
            waiting.discard(event)
            if not waiting and self._events.pop(watch, None) is not None and self._inotify is not None:
                self._inotify.remove(watch)

        return stop

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


class Follower:
    """Waits for a log to grow until its container has ended and the pump has written the last byte."""

    def __init__(self, watch: LogWatch, files: LogFiles, ended: "asyncio.Future[object]") -> None:
        """`ended` is done when no more frames will come (see `end_of_output`)."""
        self._files = files
        self._ended = ended
        self._watch = watch
        self._segment = files.segments
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
            if self._files.segments > self._segment:
                self._turn_over()
                continue  # what came between opening it and watching it must not be waited for
            if end > position:
                return end
            if over:
                return position
            await self._grown.wait()

    def _turn_over(self) -> None:
        """Watch the newest segment; the event stays the one that the end of the container sets."""
        self._stop()
        self._segment = self._files.segments
        self._stop = self._watch.watch(self._files.log_path, self._grown)


async def end_of_output(exited: "asyncio.Future[int] | asyncio.Event", drained: Callable[[], asyncio.Event]) -> None:
    """Returns when the container has ended and its last byte is in the log, or half a minute after its end."""
    await (exited.wait() if isinstance(exited, asyncio.Event) else exited)
    try:
        async with asyncio.timeout(DRAIN_S):
            await drained().wait()
    except TimeoutError:
        pass
