"""Blobs on their way in, for who reads along: unpacking begins before the last byte is here.

A follower gets the file to read and a bell: a byte `.` when it has grown, `!` when it is whole and its digest right;
the end of the bell without `!` means that it never will be (inflate.py has the follower's half). What is made out of
unproven bytes becomes a layer after the `!` alone.
"""

import asyncio
import os
from contextlib import suppress

from corten.image.content import Writer

FOLLOWED_BYTES = 4 << 20  # a smaller blob is here before a worker has started
_GROWN, _WHOLE = b".", b"!"
_RING_BYTES = 1 << 20
_RINGS_LIMIT = 32768  # half of what a pipe takes, so that the last byte always fits


class Arrival:
    """One download through a writer; `size` bytes when whole."""

    __slots__ = ("_bells", "_rung", "_step", "_writer", "ended", "failed", "size")

    def __init__(self, writer: Writer, size: int) -> None:
        self._writer = writer
        self.size = size
        self.ended = False
        self.failed = False  # followers read something that is not the blob, or not all of it
        self._bells: list[int] = []
        self._rung = 0
        self._step = max(_RING_BYTES, size // _RINGS_LIMIT)

    @property
    def begun(self) -> bool:
        """Whether there is something to read."""
        return self._rung > 0

    def follow(self) -> tuple[int, int]:
        """(the file, its bell), both the caller's to close. Not once it has `ended`."""
        file = os.open(self._writer.path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
        bell, rope = os.pipe2(os.O_CLOEXEC)
        os.set_blocking(rope, False)
        self._bells.append(rope)
        return file, bell

    def grown(self) -> None:
        """The writer has written."""
        self.failed = self._writer.restarts > 0
        if self._writer.offset - self._rung >= self._step:
            self._rung = self._writer.offset
            self._ring(_GROWN)

    def end(self, *, whole: bool) -> None:
        """Nothing more comes: all is well, or not."""
        self.ended = True
        self.failed = not whole or self._writer.restarts > 0
        if not self.failed:
            self._ring(_WHOLE)
        while self._bells:
            os.close(self._bells.pop())

    def _ring(self, sign: bytes) -> None:
        for rope in self._bells:
            with suppress(BrokenPipeError):
                os.write(rope, sign)


class Arrivals:
    """The downloads of one daemon, by digest; there is one at most of each."""

    __slots__ = ("_held", "_news")

    def __init__(self) -> None:
        self._held: dict[str, Arrival] = {}
        self._news = asyncio.Event()

    def begin(self, digest: str, writer: Writer, size: int) -> Arrival:
        """A download begins; tell it by `grown` and end it by `end`."""
        arrival = self._held[digest] = Arrival(writer, size)
        self.grown(arrival)
        return arrival

    def grown(self, arrival: Arrival) -> None:
        """Its writer has written."""
        before = arrival.begun
        arrival.grown()
        if arrival.begun and not before:
            self._news.set()
            self._news = asyncio.Event()

    def end(self, digest: str, *, whole: bool) -> None:
        """It is over; followers are told."""
        self._held.pop(digest).end(whole=whole)

    async def followable(self, digest: str) -> Arrival:
        """The download of this digest, once there is something to read."""
        while (found := self._held.get(digest)) is None or not found.begun:
            await self._news.wait()
        return found
