"""HTTP/1.1 over unix sockets and TLS: accepting, who may connect, and the life of the server.

exchange.py parses for all of them. What a request means is the router's and the handlers' business; what happens on one
connection is http.py's.
"""

import asyncio
import contextlib
import os
import socket
import ssl
import stat
import struct
from collections.abc import Callable
from typing import Any

from corten.api.errors import error_response
from corten.api.http import HttpConnection
from corten.api.request import Request
from corten.api.response import Response
from corten.api.router import Route, Router
from corten.api.stream import HangupWatch
from corten.api.tls import TlsBridge
from corten.api.versions import check_version
from corten.base.errors import Forbidden, NotFound

BACKLOG = 1024
MAX_CONNECTIONS = 8192
HEADER_TIMEOUT_S = 10.0
_SO_PEERGROUPS = 59  # asm-generic/socket.h
_DRAIN_S = 5.0


class ServerSettings:
    """What a test or an operator may change."""

    __slots__ = ("group_id", "header_timeout_s", "max_connections")

    def __init__(
        self, group_id: int | None = None, header_timeout_s: float = HEADER_TIMEOUT_S,
        max_connections: int = MAX_CONNECTIONS,
    ) -> None:
        self.group_id = group_id
        self.header_timeout_s = header_timeout_s
        self.max_connections = max_connections


class Server:
    """All listening sockets and connections of one daemon."""

    __slots__ = ("_bridges", "_listeners", "_sweep", "connections", "engine", "loop", "router", "settings", "slow",
                 "watch")

    def __init__(self, router: Router, engine: Any, settings: ServerSettings | None = None) -> None:
        self.router = router
        self.engine = engine
        self.settings = settings or ServerSettings()
        self.loop = asyncio.get_running_loop()
        self.watch = HangupWatch(self.loop)
        self.connections: set[HttpConnection] = set()
        self.slow: dict[HttpConnection, float] = {}  # with half a request header -> when to give up
        self._listeners: list[tuple[socket.socket, str]] = []
        self._bridges: set[asyncio.Task[None]] = set()
        self._sweep: asyncio.TimerHandle | None = None

    # --- listening

    def listen_unix(self, path: str, read_only: bool = False) -> None:
        """Listen on `path`, mode 0600, or 0660 with the settings' group. A stale socket there is replaced.

        `read_only`: what comes in there may look and change nothing, for dashboards.

        Raises OSError; EADDRINUSE when somebody answers on it.
        """
        _remove_stale(path)
        listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC)
        group = self.settings.group_id
        old = os.umask(0o177)  # never wider, not for a moment
        try:
            listener.bind(path)
        finally:
            os.umask(old)
        if group is not None:
            os.chown(path, -1, group)
            os.chmod(path, 0o660)
        self.adopt(listener, path, read_only)

    def adopt(self, listener: socket.socket, path: str = "", read_only: bool = False) -> None:
        """Listen on a socket that is bound already (handed over by a supervisor)."""
        self._listen(listener, path, lambda peer: self._serve(peer, read_only))

    def listen_tls(self, host: str, port: int, context: ssl.SSLContext) -> tuple[str, int]:
        """Listen on a TCP port, to clients with a certificate only; the address had. Raises OSError."""
        family, _, _, _, address = socket.getaddrinfo(host or "::", port, type=socket.SOCK_STREAM)[0]
        listener = socket.socket(family, socket.SOCK_STREAM | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            listener.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
        listener.bind(address)
        self._listen(listener, "", lambda peer: self._bridge(peer, context))
        found = listener.getsockname()
        return found[0], found[1]

    def _listen(self, listener: socket.socket, path: str, take: Callable[[socket.socket], None]) -> None:
        listener.setblocking(False)
        listener.listen(BACKLOG)
        self._listeners.append((listener, path))
        self.loop.add_reader(listener.fileno(), self._accept, listener, take)

    def _serve(self, peer: socket.socket, read_only: bool = False) -> None:
        connection = HttpConnection(self, peer, read_only)
        self.connections.add(connection)
        connection.open()

    def _bridge(self, peer: socket.socket, context: ssl.SSLContext) -> None:
        if len(self._bridges) >= self.settings.max_connections:
            peer.close()
            return
        peer.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        peer.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        task = self.loop.create_task(TlsBridge(peer, context, self._serve).run())
        self._bridges.add(task)
        task.add_done_callback(self._bridges.discard)

    def _accept(self, listener: socket.socket, take: Callable[[socket.socket], None]) -> None:
        for _ in range(64):
            try:
                peer, _address = listener.accept()
            except (BlockingIOError, InterruptedError, ConnectionAbortedError):
                return
            except OSError:  # no descriptors left: those waiting stay in the backlog a moment longer
                self.loop.remove_reader(listener.fileno())
                self.loop.call_later(0.1, self.loop.add_reader, listener.fileno(), self._accept, listener, take)
                return
            if len(self.connections) >= self.settings.max_connections or not self._may_connect(peer):
                peer.close()
                continue
            peer.setblocking(False)
            take(peer)

    def _may_connect(self, peer: socket.socket) -> bool:
        """Root, ourselves, and members of the socket's group. unix(7) SO_PEERCRED, SO_PEERGROUPS."""
        if peer.family != socket.AF_UNIX:
            return True
        raw = peer.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12)
        _pid, uid, gid = struct.unpack("iII", raw)
        if uid in (0, os.geteuid()):
            return True
        group = self.settings.group_id
        if group is None:
            return False
        if gid == group:
            return True
        try:
            groups = peer.getsockopt(socket.SOL_SOCKET, _SO_PEERGROUPS, 1 << 16)
        except OSError:
            return False
        return group in struct.unpack(f"{len(groups) // 4}I", groups)

    # --- requests

    def route(self, request: Request, version: tuple[int, int] | None, read_only: bool = False) -> Route:
        """Which handler; fills in the request's version and parameters. Raises NotFound, InvalidArgument, Forbidden."""
        found = self.router.match(request.method, request.path)
        if found is None:
            raise NotFound("page not found")
        if version is not None:
            request.version = version
            check_version(version)
        route, request.params = found
        if read_only and not route.only_looks:
            raise Forbidden("this socket is for looking only")
        return route

    async def answer(self, request: Request, route: Route) -> Response:
        """The handler's response, or that of its failure. Cancellation passes through."""
        try:
            return await route.handler(request, self.engine)
        except asyncio.CancelledError:
            raise
        except Exception as error:
            return error_response(error, request.version)

    # --- slow clients

    def wait_for_header(self, connection: HttpConnection) -> None:
        """A request header has begun and is not complete: it has `header_timeout_s` from now."""
        self.slow.setdefault(connection, self.loop.time() + self.settings.header_timeout_s)
        if self._sweep is None:
            self._sweep = self.loop.call_later(self.settings.header_timeout_s / 4, self._drop_slow)

    def _drop_slow(self) -> None:
        self._sweep = None
        now = self.loop.time()
        for connection, deadline in list(self.slow.items()):
            if deadline <= now:
                connection.give_up_waiting()
        if self.slow:
            self._sweep = self.loop.call_later(self.settings.header_timeout_s / 4, self._drop_slow)

    # --- end

    def stop_listening(self) -> None:
        """No new connections; the socket files go away."""
        for listener, path in self._listeners:
            self.loop.remove_reader(listener.fileno())
            listener.close()
            if path:
                with contextlib.suppress(FileNotFoundError):
                    os.unlink(path)
        self._listeners.clear()

    async def close(self, drain_s: float = _DRAIN_S) -> None:
        """Stop listening, let state-changing requests end (at most `drain_s`), end the rest."""
        self.stop_listening()
        if self._sweep is not None:
            self._sweep.cancel()
        tasks = []
        for connection in list(self.connections):
            task = connection.retire()
            if task is not None:
                tasks.append(task)
        if tasks:
            _done, late = await asyncio.wait(tasks, timeout=drain_s)
            for task in late:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
        for connection in list(self.connections):
            connection.close()
        for bridge in self._bridges:
            bridge.cancel()
        await asyncio.gather(*self._bridges, return_exceptions=True)
        self.watch.close()


def _remove_stale(path: str) -> None:
    try:
        mode = os.lstat(path).st_mode
    except FileNotFoundError:
        return
    if not stat.S_ISSOCK(mode):
        raise FileExistsError(17, "not a socket", path)
    probe = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC)
    try:
        probe.connect(path)
    except BlockingIOError:
        pass
    except OSError:
        os.unlink(path)
        return
    finally:
        probe.close()
    raise OSError(98, "somebody listens on this socket already", path)
