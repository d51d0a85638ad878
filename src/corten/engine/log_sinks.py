"""Where log lines are sent: a syslog server, the machine's syslog socket, the journal."""

import asyncio
import os
import socket
import ssl
from collections.abc import Mapping
from typing import NamedTuple, Protocol

from corten.base.errors import Unavailable
from corten.engine import syslog

JOURNAL_SOCKET = "/run/systemd/journal/socket"
CONNECT_TIMEOUT_S = 10.0
_LOCAL = ("/dev/log", "/var/run/syslog", "/var/run/log")
_DATAGRAM_BYTES = 100 << 10  # what certainly fits a datagram of the journal; more goes through a sealed file


class Line(NamedTuple):
    """`text` is without its newline; `partial`: the line goes on in the next one."""

    time_ns: int
    error: bool
    text: bytes
    partial: bool = False


class Sink(Protocol):
    """`open` (again after an OSError of `send`), `send` lines in order, `close`."""

    async def open(self) -> None: ...

    async def send(self, lines: list[Line]) -> None: ...

    def close(self) -> None: ...


class SyslogSink:
    """One connection to a syslog server."""

    def __init__(self, options: Mapping[str, str], tag: str) -> None:
        self._options = options
        self._formatter = syslog.Formatter(options, tag, socket.gethostname())
        self._datagrams: socket.socket | None = None
        self._reader: asyncio.StreamReader | None = None
        self._writer: asyncio.StreamWriter | None = None

    async def open(self) -> None:
        """Raises OSError, TimeoutError."""
        self.close()
        scheme, host, port = syslog.address(self._options)
        async with asyncio.timeout(CONNECT_TIMEOUT_S):
            if not scheme:
                await self._open_local()
            elif scheme == "unixgram":
                self._datagrams = _datagram_socket(host)
            elif scheme == "unix":
                self._reader, self._writer = await asyncio.open_unix_connection(host)
            elif scheme == "udp":
                await self._open_udp(host, port)
            else:
                context = _tls(self._options) if scheme == syslog.TLS else None
                self._reader, self._writer = await asyncio.open_connection(host, port, ssl=context)

    async def _open_udp(self, host: str, port: int) -> None:
        found = await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_DGRAM)
        family, kind, protocol, _, target = found[0]
        self._datagrams = socket.socket(family, kind | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC, protocol)
        self._datagrams.connect(target)

    async def _open_local(self) -> None:
        for path in _LOCAL:
            try:
                self._datagrams = _datagram_socket(path)
                return
            except OSError:
                pass
            try:
                self._reader, self._writer = await asyncio.open_unix_connection(path)
                return
            except OSError:
                continue
        raise OSError("Unix syslog delivery error")

    async def send(self, lines: list[Line]) -> None:
        """Raises OSError."""
        messages = [self._formatter.message(line.time_ns, line.error, line.text) for line in lines]
        if self._writer is not None and self._reader is not None:
            if self._reader.at_eof():  # the server has gone: what is written now would be lost
                raise ConnectionResetError("closed by the server")
            self._writer.write(b"".join(messages))
            await self._writer.drain()
        elif self._datagrams is not None:
            for message in messages:
                await _send_datagram(self._datagrams, message)
        else:
            raise OSError("not connected")

    def close(self) -> None:
        if self._writer is not None:
            self._writer.close()
        if self._datagrams is not None:
            self._datagrams.close()
        self._writer = self._datagrams = None


class JournaldSink:
    """The journal's native protocol. https://systemd.io/JOURNAL_NATIVE_PROTOCOL"""

    def __init__(self, fields: Mapping[str, str]) -> None:
        """`fields` go with each line."""
        self._fields = b"".join(_field(name, value.encode()) for name, value in fields.items())
        self._socket: socket.socket | None = None

    async def open(self) -> None:
        """Raises Unavailable where there is no journal, OSError."""
        self.close()
        if not os.path.exists(JOURNAL_SOCKET):
            raise Unavailable("journald is not enabled on this host")
        self._socket = _datagram_socket(JOURNAL_SOCKET)

    async def send(self, lines: list[Line]) -> None:
        """Raises OSError."""
        if self._socket is None:
            raise OSError("not connected")
        for line in lines:
            data = self._entry(line)
            if len(data) <= _DATAGRAM_BYTES:
                await _send_datagram(self._socket, data)
            else:
                _send_file(self._socket, data)

    def _entry(self, line: Line) -> bytes:
        priority = syslog.ERROR if line.error else syslog.INFO
        data = _field("MESSAGE", line.text) + b"PRIORITY=%d\n" % priority + self._fields
        return data + b"CONTAINER_PARTIAL_MESSAGE=true\n" if line.partial else data

    def close(self) -> None:
        if self._socket is not None:
            self._socket.close()
        self._socket = None


def _field(name: str, value: bytes) -> bytes:
    if b"\n" in value:
        return name.encode() + b"\n" + len(value).to_bytes(8, "little") + value + b"\n"
    return name.encode() + b"=" + value + b"\n"


def _datagram_socket(path: str) -> socket.socket:
    made = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC)
    try:
        made.connect(path)
    except OSError:
        made.close()
        raise
    return made


async def _send_datagram(target: socket.socket, data: bytes) -> None:
    await asyncio.get_running_loop().sock_sendall(target, data)


def _send_file(target: socket.socket, data: bytes) -> None:
    import fcntl

    fd = os.memfd_create("journal", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    try:
        os.write(fd, data)
        seals = fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_WRITE | fcntl.F_SEAL_SEAL
        fcntl.fcntl(fd, fcntl.F_ADD_SEALS, seals)
        socket.send_fds(target, [b""], [fd])
    finally:
        os.close(fd)


def _tls(options: Mapping[str, str]) -> ssl.SSLContext:
    """Raises OSError (ssl.SSLError is one)."""
    context = ssl.create_default_context(cafile=options.get("syslog-tls-ca-cert") or None)
    if options.get("syslog-tls-cert"):
        context.load_cert_chain(options["syslog-tls-cert"], options.get("syslog-tls-key"))
    if options.get("syslog-tls-skip-verify"):
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    return context
