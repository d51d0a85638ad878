"""TLS for the API: a connection from outside is opened here and joined to a socket pair that the server speaks HTTP on.

So nothing behind it (take-over, half-closing, sendfile) knows of TLS. The protocol is OpenSSL's by way of memory
buffers: asyncio's transport ends a connection at the peer's close_notify, where docker means the end of its input.
Only clients with a certificate of the given authority get past the handshake.
"""

import asyncio
import socket
import ssl
from collections.abc import Callable

from corten.base.errors import InvalidArgument
from corten.engine.streams import CHUNK_BYTES

HANDSHAKE_S = 10.0


def server_context(ca_file: str, certificate_file: str, key_file: str) -> ssl.SSLContext:
    """TLS 1.2 and later, client certificates required. Raises InvalidArgument naming what cannot be read."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.verify_mode = ssl.CERT_REQUIRED
    context.options |= ssl.OP_NO_RENEGOTIATION | ssl.OP_NO_COMPRESSION
    try:
        context.load_cert_chain(certificate_file, key_file)
    except (OSError, ssl.SSLError) as error:
        raise InvalidArgument(
            f"could not load X509 key pair (cert: {certificate_file!r}, key: {key_file!r}): {error}") from None
    try:
        context.load_verify_locations(ca_file)
    except (OSError, ssl.SSLError) as error:
        raise InvalidArgument(f"could not read CA certificate {ca_file!r}: {error}") from None
    return context


class TlsBridge:
    """One connection from outside; `run` is its life. The plain end is given to `accept` once the handshake is done."""

    def __init__(self, outer: socket.socket, context: ssl.SSLContext, accept: Callable[[socket.socket], None]) -> None:
        self._loop = asyncio.get_running_loop()
        self._outer = outer
        self._accept = accept
        self._incoming, self._outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self._tls = context.wrap_bio(self._incoming, self._outgoing, server_side=True)
        self._turn = asyncio.Lock()

    async def run(self) -> None:
        """Until either side is gone. Never raises but for cancellation."""
        inner = None
        try:
            async with asyncio.timeout(HANDSHAKE_S):
                await self._handshake()
            inner, plain = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
            inner.setblocking(False)
            plain.setblocking(False)
            self._accept(plain)
            await self._join(inner)
        except (OSError, ssl.SSLError, TimeoutError):
            pass  # a stranger, or a client that has gone
        finally:
            if inner is not None:
                inner.close()
            self._outer.close()

    async def _handshake(self) -> None:
        while True:
            try:
                self._tls.do_handshake()
            except ssl.SSLWantReadError:
                await self._flush()
                if not await self._fill():
                    raise ConnectionResetError("the client has gone") from None
                continue
            except ssl.SSLError:
                await self._flush()  # the alert says why
                raise
            await self._flush()
            return

    async def _join(self, inner: socket.socket) -> None:
        up, down = (asyncio.ensure_future(part) for part in (self._up(inner), self._down(inner)))
        try:
            await asyncio.wait({up, down}, return_when=asyncio.FIRST_COMPLETED)
            if up.done() and not up.exception() and not up.result():
                await down  # its input has ended, it listens on
        finally:
            for task in (up, down):
                task.cancel()
            await asyncio.gather(up, down, return_exceptions=True)

    async def _up(self, inner: socket.socket) -> bool:
        """From the client to the server; whether the client is gone altogether, not only its input at its end."""
        ended = False
        while True:
            try:
                data = b"" if ended else self._tls.read(CHUNK_BYTES)
            except ssl.SSLWantReadError:
                await self._flush()
                if not await self._fill():
                    return True
                continue
            except ssl.SSLZeroReturnError:
                data = b""
            if data:
                await self._loop.sock_sendall(inner, data)
                continue
            if not ended:
                ended = True
                inner.shutdown(socket.SHUT_WR)
            if not await self._loop.sock_recv(self._outer, CHUNK_BYTES):
                return True

    async def _down(self, inner: socket.socket) -> None:
        while data := await self._loop.sock_recv(inner, CHUNK_BYTES):
            self._tls.write(data)
            await self._flush()
        try:
            self._tls.unwrap()
        except ssl.SSLError:
            pass  # our goodbye is written, the client's need not be waited for
        await self._flush()
        self._outer.shutdown(socket.SHUT_WR)

    async def _fill(self) -> bool:
        data = await self._loop.sock_recv(self._outer, CHUNK_BYTES)
        self._incoming.write(data)
        return bool(data)

    async def _flush(self) -> None:
        async with self._turn:
            if self._outgoing.pending:
                await self._loop.sock_sendall(self._outer, self._outgoing.read())
