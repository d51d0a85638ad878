"""Questions by TCP: length, message, and again. A client that is slow, silent or one too many is let go."""

from __future__ import annotations

import select
import socket
from typing import TYPE_CHECKING

from corten.network.resolver_place import CONNECTIONS, Place

if TYPE_CHECKING:
    from corten.network.resolver import Resolver

IDLE_S = 10.0
PIPELINED = 16  # questions of one connection that may wait for answers
QUESTION_BYTES = 4096


class Stream:
    """One connection of a container."""

    __slots__ = ("deadline", "heard", "open", "out", "place", "socket", "waiting")

    def __init__(self, place: Place, connection: socket.socket, deadline: float) -> None:
        self.place, self.socket, self.deadline = place, connection, deadline
        self.heard = self.out = b""
        self.waiting = 0
        self.open = True


class Streams:
    """All of them."""

    def __init__(self, resolver: Resolver) -> None:
        self._resolver = resolver
        self._open: dict[Stream, None] = {}

    def accept(self, place: Place) -> None:
        """A container connects."""
        try:
            connection, _ = place.tcp.accept()
        except OSError:
            return
        if place.connections >= CONNECTIONS:
            connection.close()
            return
        connection.setblocking(False)
        place.connections += 1
        stream = Stream(place, connection, self._resolver.now() + IDLE_S)
        self._open[stream] = None
        self._watch(stream)

    def tick(self, now: float) -> float | None:
        """Let go of the silent; the next deadline."""
        for stream in [one for one in self._open if one.deadline <= now]:
            self._close(stream)
        return min((stream.deadline for stream in self._open), default=None)

    def drop(self, place: Place) -> None:
        """The container is gone."""
        for stream in [one for one in self._open if one.place is place]:
            self._close(stream)

    def _watch(self, stream: Stream) -> None:
        number = stream.socket.fileno()
        self._resolver.unwatch(number)
        events = select.EPOLLOUT if stream.out else select.EPOLLIN if stream.waiting < PIPELINED else 0
        self._resolver.watch(number, events, lambda _events: self._ready(stream))

    def _ready(self, stream: Stream) -> None:
        try:
            if stream.out:
                stream.out = stream.out[stream.socket.send(stream.out):]
            else:
                part = stream.socket.recv(QUESTION_BYTES)
                if not part:
                    self._close(stream)
                    return
                stream.heard += part
        except BlockingIOError:
            return
        except OSError:
            self._close(stream)
            return
        stream.deadline = self._resolver.now() + IDLE_S
        self._take(stream)

    def _take(self, stream: Stream) -> None:
        """Answer what has arrived whole."""
        while stream.open and not stream.out and stream.waiting < PIPELINED and len(stream.heard) >= 2:
            size = int.from_bytes(stream.heard[:2], "big")
            if size > QUESTION_BYTES:
                self._close(stream)
                return
            if len(stream.heard) < 2 + size:
                break
            message, stream.heard = stream.heard[2:2 + size], stream.heard[2 + size:]
            if not stream.place.allowed(self._resolver.now()):
                self._close(stream)
                return
            stream.waiting += 1
            self._resolver.answer(stream.place, message, True, lambda reply: self._reply(stream, reply))
        if stream.open:
            self._watch(stream)

    def _reply(self, stream: Stream, message: bytes) -> None:
        stream.waiting -= 1
        if stream.open:
            stream.out += len(message).to_bytes(2, "big") + message
            self._watch(stream)

    def _close(self, stream: Stream) -> None:
        if stream.open:
            stream.open = False
            self._resolver.unwatch(stream.socket.fileno())
            stream.socket.close()
            stream.place.connections -= 1
            del self._open[stream]
