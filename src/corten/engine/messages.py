"""docker's progress messages of one operation on their way to one reader, who may be slow, or leave."""

import asyncio
from collections import deque
from collections.abc import AsyncGenerator, Awaitable, Callable
from typing import Any

from corten.image.progress import Emit

Messages = AsyncGenerator[dict[str, Any], None]

_BEHIND_LIMIT = 256  # messages a reader may be behind before bars are left out


class Stream:
    """Messages of one operation on their way to one reader."""

    __slots__ = ("_arrived", "_queue", "_task")

    def __init__(self, work: Callable[[Emit], Awaitable[None]]) -> None:
        self._queue: deque[dict[str, Any]] = deque()
        self._arrived = asyncio.Event()
        self._task = asyncio.ensure_future(work(self.emit))
        self._task.add_done_callback(lambda _: self._arrived.set())

    def emit(self, message: dict[str, Any]) -> None:
        if len(self._queue) >= _BEHIND_LIMIT and "progress" in message:
            return
        self._queue.append(message)
        self._arrived.set()

    def messages(self) -> Messages:
        """The messages; what the work raises, the iterator raises at its end."""
        return self._messages()

    async def begin(self) -> Messages:
        """The messages, once there is one. Raises what the work raises before."""
        try:
            await self._arrived.wait()
            if not self._queue:
                await self._task
        except BaseException:
            await self._end()
            raise
        return self._messages()

    async def _messages(self) -> Messages:
        try:
            while True:
                while self._queue:
                    yield self._queue.popleft()
                if self._task.done():
                    break
                self._arrived.clear()
                if not self._queue and not self._task.done():
                    await self._arrived.wait()
            await self._task
        finally:
            await self._end()

    async def _end(self) -> None:
        """The reader has gone or all is told: nothing goes on behind its back."""
        if not self._task.done():
            self._task.cancel()
            await asyncio.wait([self._task])
