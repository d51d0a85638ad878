"""One container as the resolver sees it: its sockets, what it asks now, how fast it may ask, what was answered lately.

Everything is bounded here: a container that floods the resolver is read from more slowly, and nobody else is.
"""

import os
import socket
from collections import OrderedDict
from typing import Any

from corten.network.dns_message import Malformed, aged, lifetimes

RATE, BURST = 4000.0, 4000.0  # questions a second, and at once
FORWARDS = 128  # that one container may have under way
CONNECTIONS = 16
CACHE_ENTRIES, CACHE_BYTES, CACHE_TTL_S = 64, 1232, 300
Server = tuple[str, bool]  # address, whether it is reached from the host's network


class Cache:
    """Answers of servers by the question's bytes (less its id). A container's own: it could forge what it gets."""

    __slots__ = ("_kept",)

    def __init__(self) -> None:
        self._kept: OrderedDict[bytes, tuple[bytes, list[int], float, float]] = OrderedDict()

    def get(self, query: bytes, now: float) -> bytes | None:
        """The answer with `query`'s id and TTLs that have gone down, None when there is none."""
        found = self._kept.get(query[2:])
        if found is None:
            return None
        message, places, stored, end = found
        if now >= end:
            del self._kept[query[2:]]
            return None
        return query[:2] + aged(message, places, int(now - stored))[2:]

    def put(self, query: bytes, message: bytes, now: float) -> None:
        """Keep it as long as its TTLs allow; what is too large or says nothing of that is not kept."""
        if len(message) > CACHE_BYTES or len(query) > PLAIN_QUERY:
            return
        try:
            seconds, places = lifetimes(message)
        except Malformed:
            return
        if seconds:
            self._kept[query[2:]] = message, places, now, now + min(seconds, CACHE_TTL_S)
            if len(self._kept) > CACHE_ENTRIES:
                self._kept.popitem(last=False)

    def __len__(self) -> int:
        return len(self._kept)


PLAIN_QUERY = 512


class Place:
    """A network namespace with a resolver in it; `servers` are asked for what has no name of ours."""

    __slots__ = ("cache", "connections", "forwards", "id", "netns", "outside", "paused", "pidfd", "servers",
                 "single_labels", "stamp", "tcp", "tokens", "udp")

    def __init__(self, container: str, netns: int, pidfd: int, sockets: tuple[socket.socket, socket.socket]) -> None:
        self.id = container
        self.netns, self.pidfd = netns, pidfd
        self.udp, self.tcp = sockets
        self.cache = Cache()
        self.tokens, self.stamp = BURST, 0.0
        self.paused = False
        self.forwards = 0
        self.connections = 0
        self.servers: list[Server] = []
        self.outside = True  # servers may be reached from the host's network
        self.single_labels = True  # names without a dot go out

    def update(self, said: dict[str, Any]) -> None:
        """What the daemon says of its servers. Raises KeyError, ValueError."""
        servers = [(str(address), bool(from_host)) for address, from_host in said["servers"]]
        if servers != self.servers or bool(said["outside"]) != self.outside:
            self.cache = Cache()
        self.servers, self.outside = servers, bool(said["outside"])
        self.single_labels = not said["ndots"]

    def allowed(self, now: float) -> bool:
        """Take one from the bucket; False when it is empty."""
        self.tokens = min(BURST, self.tokens + (now - self.stamp) * RATE)
        self.stamp = now
        if self.tokens < 1:
            return False
        self.tokens -= 1
        return True

    def same_namespace(self, netns: int) -> bool:
        """Whether the descriptor is of the namespace it is in already."""
        here, there = os.fstat(self.netns), os.fstat(netns)
        return (here.st_dev, here.st_ino) == (there.st_dev, there.st_ino)

    def close(self) -> None:
        """Let go of everything."""
        self.udp.close()
        self.tcp.close()
        os.close(self.netns)
        os.close(self.pidfd)
