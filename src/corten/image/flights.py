"""The same work asked for many times at once is done once; everyone who waits sees its messages and its outcome.

Work goes on as long as one waits; when the last one has left it is cancelled. Results are not kept.
"""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

from corten.image.progress import Emit

Work = Callable[[Emit], Awaitable[None]]


class _Flight:
    __slots__ = ("last", "listeners", "task")

    def __init__(self) -> None:
        self.listeners: list[Emit] = []
        self.last: dict[str, Any] | None = None
        self.task: asyncio.Task[None] | None = None

    def emit(self, message: dict[str, Any]) -> None:
        self.last = message
        for listener in self.listeners:
            listener(message)


class Flights:
    """Work under way, by key."""

    __slots__ = ("_flights",)

    def __init__(self) -> None:
        self._flights: dict[str, _Flight] = {}

    async def join(self, key: str, work: Work, emit: Emit) -> bool:
        """Wait for `key`; begin it with `work` if nobody has. Returns whether this caller began it.

        Raises what the work raises; a caller who did not begin it may rightly try again with its own.
        """
        flight = self._flights.get(key)
        began = flight is None
        if flight is None:
            flight = _Flight()
            flight.task = asyncio.create_task(self._run(key, flight, work))
            self._flights[key] = flight
        elif flight.last is not None:
            emit(flight.last)
        assert flight.task
        flight.listeners.append(emit)
        try:
            await asyncio.shield(flight.task)
        finally:
            flight.listeners.remove(emit)
            if not flight.listeners and not flight.task.done():
                self._forget(key, flight)
                flight.task.cancel()
                await asyncio.wait([flight.task])
        return began

    async def _run(self, key: str, flight: _Flight, work: Work) -> None:
        try:
            await work(flight.emit)
        finally:
            self._forget(key, flight)

    def _forget(self, key: str, flight: _Flight) -> None:
        if self._flights.get(key) is flight:
            del self._flights[key]
