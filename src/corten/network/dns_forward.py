"""Questions sent on to the host's or the container's name servers: one after the other until one answers.

Each has a socket, and so a port, of its own and a random id; the answer must come from there with the same question.
As docker's: a server that fails or refuses is passed over; when none answers the asker hears SERVFAIL.
"""

import os
import select
import socket
from collections.abc import Callable

from corten.network.dns_message import REFUSED, SERVFAIL, Malformed, Query, answers, failure, rcode_of
from corten.network.resolver_place import FORWARDS, Place, Server
from corten.network.resolver_sockets import Inside

TIMEOUT_S, FIRST_TIMEOUT_S = 4.0, 2.0  # of the last server, and of each before it
TOTAL = 1024  # under way at once, of all containers
ANSWER_BYTES = 65535
Reply = Callable[[bytes], None]


class Exchange:
    """One question under way: to `servers[at]`, by UDP or TCP as it was asked."""

    __slots__ = ("at", "deadline", "heard", "place", "query", "reply", "sent", "servers", "socket", "stream", "wire")

    def __init__(self, place: Place, query: Query, stream: bool, servers: list[Server], reply: Reply) -> None:
        self.place, self.query, self.stream, self.servers, self.reply = place, query, stream, servers, reply
        self.at = -1
        self.deadline = 0.0
        self.wire = b""
        self.sent = 0
        self.heard = b""
        self.socket: socket.socket | None = None


class Forwarder:
    """All exchanges of the process. `watch` and `unwatch` are the loop's."""

    def __init__(
        self, inside: Inside, watch: Callable[[int, int, Callable[[int], None]], None], unwatch: Callable[[int], None],
        clock: Callable[[], float],
    ) -> None:
        self._inside, self._watch, self._unwatch, self._clock = inside, watch, unwatch, clock
        self._under_way: dict[Exchange, None] = {}

    def ask(self, place: Place, query: Query, stream: bool, reply: Reply) -> None:
        """Find the answer and give it to `reply`, now or later."""
        servers = [server for server in place.servers if place.outside or not server[1]]
        if not servers:
            reply(failure(query, SERVFAIL))
            return
        if place.forwards >= FORWARDS or len(self._under_way) >= TOTAL:
            reply(failure(query, REFUSED))
            return
        if not stream and (kept := place.cache.get(query.message, self._clock())):
            reply(kept)
            return
        place.forwards += 1
        exchange = Exchange(place, query, stream, servers, reply)
        self._under_way[exchange] = None
        self._next(exchange)

    def tick(self, now: float) -> float | None:
        """Give up what took too long; the next deadline."""
        for exchange in [one for one in self._under_way if one.deadline <= now]:
            self._next(exchange)
        return min((exchange.deadline for exchange in self._under_way), default=None)

    def drop(self, place: Place) -> None:
        """The asker is gone."""
        for exchange in [one for one in self._under_way if one.place is place]:
            self._let_go(exchange)
            del self._under_way[exchange]

    def _next(self, exchange: Exchange) -> None:
        """Send to the next server; the last has failed when there is none."""
        while True:
            self._let_go(exchange)
            exchange.at += 1
            if exchange.at == len(exchange.servers):
                self._end(exchange, failure(exchange.query, SERVFAIL))
                return
            try:
                self._send(exchange)
                return
            except OSError:
                continue

    def _send(self, exchange: Exchange) -> None:
        address, from_host = exchange.servers[exchange.at]
        family = socket.AF_INET6 if ":" in address else socket.AF_INET
        kind = (socket.SOCK_STREAM if exchange.stream else socket.SOCK_DGRAM) | socket.SOCK_NONBLOCK
        if from_host:
            exchange.socket = socket.socket(family, kind)
        else:
            with self._inside(exchange.place.netns):
                exchange.socket = socket.socket(family, kind)
        exchange.wire = os.urandom(2) + exchange.query.message[2:]
        exchange.sent, exchange.heard = 0, b""
        last = exchange.at == len(exchange.servers) - 1
        exchange.deadline = self._clock() + (TIMEOUT_S if last else FIRST_TIMEOUT_S)
        try:
            exchange.socket.connect((address, 53))
        except BlockingIOError:
            pass
        if exchange.stream:
            self._watch(exchange.socket.fileno(), select.EPOLLOUT, lambda events: self._stream(exchange, events))
        else:
            exchange.socket.send(exchange.wire)
            self._watch(exchange.socket.fileno(), select.EPOLLIN, lambda _events: self._datagram(exchange))

    def _let_go(self, exchange: Exchange) -> None:
        if exchange.socket is not None:
            self._unwatch(exchange.socket.fileno())
            exchange.socket.close()
            exchange.socket = None

    def _datagram(self, exchange: Exchange) -> None:
        assert exchange.socket is not None
        try:
            message = exchange.socket.recv(ANSWER_BYTES)
        except BlockingIOError:
            return
        except OSError:  # nobody listens there
            self._next(exchange)
            return
        self._heard(exchange, message)

    def _stream(self, exchange: Exchange, _events: int) -> None:
        assert exchange.socket is not None
        try:
            if exchange.sent < len(exchange.wire) + 2:
                framed = len(exchange.wire).to_bytes(2, "big") + exchange.wire
                exchange.sent += exchange.socket.send(framed[exchange.sent:])
                if exchange.sent == len(framed):
                    number = exchange.socket.fileno()
                    self._unwatch(number)
                    self._watch(number, select.EPOLLIN, lambda events: self._stream(exchange, events))
                return
            part = exchange.socket.recv(ANSWER_BYTES)
        except BlockingIOError:
            return
        except OSError:
            part = b""
        exchange.heard += part
        whole = exchange.heard[2:]
        if not part:
            self._next(exchange)
        elif len(exchange.heard) >= 2 and len(whole) >= (size := int.from_bytes(exchange.heard[:2], "big")):
            self._heard(exchange, whole[:size])

    def _heard(self, exchange: Exchange, message: bytes) -> None:
        """An answer: the asker's when it is one to the question and no failure."""
        try:
            if not answers(message, exchange.wire):
                if exchange.stream:
                    self._next(exchange)
                return  # by UDP anybody may have sent it: wait for the right one
        except Malformed:
            return
        if rcode_of(message) in (SERVFAIL, REFUSED):
            self._next(exchange)
            return
        if not exchange.stream:
            exchange.place.cache.put(exchange.query.message, message, self._clock())
        self._end(exchange, exchange.query.message[:2] + message[2:])

    def _end(self, exchange: Exchange, message: bytes) -> None:
        self._let_go(exchange)
        del self._under_way[exchange]
        exchange.place.forwards -= 1
        exchange.reply(message)
