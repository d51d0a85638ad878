"""One HTTP/1.1 connection: requests in turn, bodies as they are asked for, answers, and the hijack.

exchange.py parses and keeps the rules of the protocol; this file moves bytes and decides when to read. One request at a
time: what a client sends ahead waits in the socket.
"""

import asyncio
import socket
import time
from contextlib import aclosing
from http import HTTPStatus
from typing import TYPE_CHECKING, Any

import h11

from corten.api.errors import error_response
from corten.api.exchange import NO_BODY, REASON, Exchange, Head
from corten.api.request import Headers, Request
from corten.api.response import JSON, RAW_STREAM, TEXT, Response, encode
from corten.api.router import Route
from corten.api.stream import Connection, close_gently, grow_send_buffer, is_hung_up
from corten.api.versions import COMMON_HEADERS, NEWEST, for_version, split_version
from corten.base.errors import Error, InvalidArgument
from corten.engine.streams import FileSpan, PipeSpan

if TYPE_CHECKING:
    from corten.api.server import Server

RECEIVE_BYTES = 256 << 10
_DRAIN_LIMIT_BYTES = 256 << 10
_DRAIN_S = 1.0
_COMMON = [(name.encode(), value.encode()) for name, value in COMMON_HEADERS]
_SOUND = {  # content type -> the lines that begin most answers
    kind: b"".join(b"%b: %b\r\n" % pair for pair in (*_COMMON, *([(b"Content-Type", kind.encode())] if kind else [])))
    for kind in ("", JSON, TEXT)
}


class HttpConnection:
    """A client's connection from accept to close. Made by the server; lives by the loop's callbacks."""

    __slots__ = (
        "_ended", "_gone", "_http", "_out", "_raw", "_read_only", "_reading", "_route", "_server",
        "_socket", "_task", "_waiter",
    )

    def __init__(self, server: "Server", sock: socket.socket, read_only: bool = False) -> None:
        self._server = server
        self._read_only = read_only
        self._socket = sock
        self._http = Exchange()
        self._out = Connection(server.loop, sock, server.watch)
        self._raw = False
        self._reading = False
        self._ended = False  # the client has ended its direction
        self._gone = False  # the client has closed both
        self._route: Route | None = None
        self._task: asyncio.Task[None] | None = None
        self._waiter: asyncio.Future[None] | None = None

    # --- reading

    def open(self) -> None:
        """Begin to serve; most clients have sent their first request by now."""
        self._resume()
        self._on_readable()

    def _resume(self) -> None:
        if not self._reading and not self._ended:
            self._reading = True
            self._server.loop.add_reader(self._socket.fileno(), self._on_readable)

    def _pause(self) -> None:
        if self._reading:
            self._reading = False
            self._server.loop.remove_reader(self._socket.fileno())

    def _on_readable(self) -> None:
        try:
            data = self._socket.recv(RECEIVE_BYTES)
        except (BlockingIOError, InterruptedError):
            return
        except OSError:
            data = b""
        self._http.receive(data)
        if not data:
            self._ended = True
        if self._task is None:
            if not data:
                self._pause()
            self._next_request()
            return
        self._pause()  # a body goes on when the handler asks; a next request waits for this one
        if self._waiter is not None:
            if not self._waiter.done():
                self._waiter.set_result(None)
        else:
            self._watch_hangup()

    def _watch_hangup(self) -> None:
        fd = self._socket.fileno()
        if is_hung_up(fd):
            self._on_hangup()
        else:
            self._server.watch.watch(fd).add_done_callback(self._on_hangup)

    def _on_hangup(self, _future: object = None) -> None:
        self._gone = True
        if self._task is not None and not self._raw and self._route is not None and self._route.ends_with_client:
            self._task.cancel()

    def _next_request(self) -> None:
        try:
            head = self._http.begin()
        except h11.RemoteProtocolError as error:
            self._refuse(error)
        except EOFError:
            self.close()
        else:
            if head is not None:
                if self._server.slow:
                    self._server.slow.pop(self, None)
                self._begin(head)
                return
            if self._http.half_a_head:
                self._server.wait_for_header(self)
            self._resume()

    def give_up_waiting(self) -> None:
        """The header has not come in time."""
        self._server.slow.pop(self, None)
        self._say_and_close(408, "the request header did not arrive in time")

    def _refuse(self, error: h11.RemoteProtocolError) -> None:
        self._say_and_close(error.error_status_hint or 400, f"malformed HTTP request: {error}")

    def _say_and_close(self, status: int, message: str) -> None:
        body = encode({"message": message})
        head = (
            f"HTTP/1.1 {status} {HTTPStatus(status).phrase}\r\nContent-Type: application/json\r\n"
            f"Connection: close\r\nContent-Length: {len(body)}\r\n\r\n"
        )
        try:
            self._socket.send(head.encode() + body)
        except OSError:
            pass
        self.close(linger=True)

    # --- one request

    def _begin(self, head: Head) -> None:
        headers = head.headers
        if "content-length" in headers and "transfer-encoding" in headers:
            self._say_and_close(400, "malformed HTTP request: both Content-Length and Transfer-Encoding")
            return
        if head.version not in (b"1.1", b"1.0"):
            self._say_and_close(505, "HTTP Version Not Supported")
            return
        has_body = "transfer-encoding" in headers or headers.get("content-length", "0") != "0"
        if not has_body:
            self._http.read()  # the end of the message is there already
            self._resume()
        self._task = self._server.loop.create_task(self._serve(head, has_body))

    async def _serve(self, head: Head, has_body: bool) -> None:
        version, route = NEWEST, None
        method = head.method
        try:
            try:
                asked, path, query = parse_target(head.target)
                version = asked or NEWEST
                request = Request(method, path, query, head.headers, self, version, has_body)
                self._route = route = self._server.route(request, asked, self._read_only)
                response = await self._server.answer(request, route)
            except Error as error:
                response = error_response(error, version)
            if self._raw:
                self._release()
                return
            await self._send(method, response, route, version)
            await self._finish()
        except (OSError, EOFError, h11.LocalProtocolError):
            self.close()
        except BaseException:  # a client never waits for an answer that does not come
            self.close()
            raise

    async def read_body(self) -> bytes:
        """The next piece of the request's body; b"" at its end. Raises InvalidArgument: bad framing, or cut off."""
        if self._http.body_ended:
            return b""
        while (piece := self._http.read()) is None:
            await self._more()
        if not piece:
            self._resume()
        return piece

    async def _more(self) -> None:
        if self._http.waits_for_word:
            await self._out.write(self._http.word())
        self._waiter = self._server.loop.create_future()
        self._resume()
        try:
            await self._waiter
        finally:
            self._waiter = None

    # --- the answer

    async def _send(self, method: str, response: Response, route: Route | None, version: tuple[int, int]) -> None:
        body = response.body
        if response.value is not None:
            value = response.value
            if route is not None and version < NEWEST and response.status < 400:
                value = for_version(route.key, version, value)
            body = encode(value)
        if version <= NEWEST and route is not None and (data := self._whole(response, body)):
            await self._out.write(data)
            return
        headers = list(_COMMON) if route is not None or version > NEWEST else []
        if response.content_type:
            headers.append((b"Content-Type", response.content_type.encode()))
        headers += [(name.encode(), value.encode()) for name, value in response.headers]
        headers.append((b"Date", _date()))
        if response.stream is None and response.status not in NO_BODY:
            headers.append((b"Content-Length", b"%d" % len(body)))
        if self._http.waits_for_word:
            headers.append((b"Connection", b"close"))
        reason = REASON.get(response.status, b"")
        writer = self._http.writer
        data = writer.send(h11.Response(status_code=response.status, headers=headers, reason=reason)) or b""
        if response.stream is not None and method != "HEAD":
            grow_send_buffer(self._socket)
            await self._out.write(data)
            await self._send_stream(response)
        elif body and method != "HEAD":
            data += writer.send(h11.Data(data=body)) or b""
        data = (b"" if response.stream is not None else data) + (writer.send(h11.EndOfMessage()) or b"")
        if data:
            await self._out.write(data)

    def _whole(self, response: Response, body: bytes) -> bytes | None:
        """An answer of the usual kind as bytes, None for any other."""
        lines = _SOUND.get(response.content_type)
        if lines is None or response.stream is not None or response.headers or response.status not in REASON:
            return None
        return self._http.whole(response.status, b"%bDate: %b\r\n" % (lines, _date()), body)

    async def _send_stream(self, response: Response) -> None:
        """Each piece as it comes. When the client goes, an operation that must end goes on unheard."""
        listening = True
        stream: Any = response.stream
        async with aclosing(stream):
            async for piece in stream:
                if not listening:
                    continue
                try:
                    await self._send_piece(piece)
                except ConnectionError:
                    if self._route is None or self._route.ends_with_client:
                        raise
                    listening = False
        if not listening:
            raise ConnectionAbortedError

    async def _send_piece(self, piece: bytes | FileSpan | PipeSpan) -> None:
        if isinstance(piece, (FileSpan, PipeSpan)):
            for part in self._http.writer.send_with_data_passthrough(h11.Data(data=_Span(piece))) or ():  # type: ignore[arg-type]
                if not isinstance(part, _Span):
                    await self._out.write(part)
                elif isinstance(piece, FileSpan):
                    await self._out.sendfile(*piece)
                else:
                    await self._out.splice_from(*piece)
        elif len(piece) > 16384:
            for part in self._http.writer.send_with_data_passthrough(h11.Data(data=piece)) or ():
                await self._out.write(part)
        elif piece:
            await self._out.write(self._http.writer.send(h11.Data(data=piece)) or b"")

    async def _finish(self) -> None:
        if not self._http.goes_on or self._gone or not await self._drained() or not self._http.finish():
            self.close()
            return
        self._task = self._route = None
        self._server.watch.unwatch(self._socket.fileno())
        self._next_request()

    async def _drained(self) -> bool:
        """Whether the rest of a body nobody read could be thrown away, so that the next request can be found."""
        left = _DRAIN_LIMIT_BYTES
        if not self._http.body_ended:
            try:
                async with asyncio.timeout(_DRAIN_S):
                    while left > 0 and (piece := await self.read_body()):
                        left -= len(piece)
            except (TimeoutError, InvalidArgument):
                return False
        return self._http.body_ended

    # --- taking over and ending

    async def hijack(
        self, request: Request, content_type: str | None, upgrade: str | None, headers: Headers,
    ) -> Connection:
        """See Request.hijack. What the client has sent ahead is what the connection reads first."""
        while await self.read_body():
            pass
        self._pause()
        self._server.watch.unwatch(self._socket.fileno())
        lines = [f"{name}: {value}" for name, value in headers] or [f"Content-Type: {content_type or RAW_STREAM}"]
        if "upgrade" in request.headers:
            lines = ["HTTP/1.1 101 UPGRADED", *lines, "Connection: Upgrade", f"Upgrade: {upgrade or 'tcp'}"]
        else:
            lines = ["HTTP/1.1 200 OK", *lines]
        self._raw = True
        grow_send_buffer(self._socket)
        self._out.leftover = self._http.take_rest()
        await self._out.write_head(("\r\n".join(lines) + "\r\n\r\n").encode())
        return self._out

    def _release(self) -> None:
        self._server.connections.discard(self)
        self._task = None
        self._out.close()

    def retire(self) -> "asyncio.Task[None] | None":
        """For the server's end: close when idle; else the task to wait for, cancelled if it only serves the client."""
        if self._task is None:
            self.close()
        elif self._raw or (self._route is not None and self._route.ends_with_client):
            self._task.cancel()
        return self._task

    def close(self, linger: bool = False) -> None:
        """Close the connection; what is sent already still arrives. `linger`: the client may still be sending."""
        self._server.connections.discard(self)
        self._server.slow.pop(self, None)
        if self._raw:
            self._out.close()
        elif not self._out.closed:
            self._pause()
            self._out.closed = True
            self._server.watch.unwatch(self._socket.fileno())
            close_gently(self._server.loop, self._socket, linger or not self._http.body_ended)


class _Span:
    """A span of a file or pipe as h11 wants to see data: something with a length, passed through."""

    __slots__ = ("span",)

    def __init__(self, span: FileSpan | PipeSpan) -> None:
        self.span = span

    def __len__(self) -> int:
        return self.span.size


def parse_target(target: bytes) -> tuple[tuple[int, int] | None, str, str]:
    """A request target -> (version or None, path without it, query). Raises InvalidArgument.

    Origin form, and `http://host/…` as proxies send it; ASCII only.
    """
    try:
        text = target.decode("ascii")
    except UnicodeDecodeError:
        raise InvalidArgument("the request target is not ASCII") from None
    if text.startswith("http://"):
        text = "/" + text[7:].partition("/")[2]
    path, _, query = text.partition("?")
    version, path = split_version(path)
    return version, path, query


_date_cache = (0, b"")


def _date() -> bytes:
    global _date_cache
    now = int(time.time())
    if _date_cache[0] != now:
        _date_cache = (now, time.strftime("%a, %d %b %Y %H:%M:%S GMT", time.gmtime(now)).encode())
    return _date_cache[1]
