"""A small HTTP/1.1 client for the engine's socket: keep-alive, chunks both ways, streaming, hijacked connections.

Not a general client: no redirects, no proxies, no compression; corten.cli.remote speaks TLS and ssh beside it.
`_socket` and not `socket`: 5 ms of every start.
"""

import errno
import os
from _socket import AF_UNIX, SHUT_WR, SOCK_STREAM, getaddrinfo, socket
from collections.abc import Iterator

from corten.base import jsonio
from corten.cli.errors import ApiError, Failure, NotConnected

TYPE_CHECKING = False
if TYPE_CHECKING:
    from corten.cli.remote import Tls

DEFAULT_VERSION = (1, 51)
_LIMIT_HEAD = 1 << 18
_PIECE = 1 << 18

Body = bytes | Iterator[bytes] | dict[str, object] | list[object] | None
Query = list[tuple[str, str]]
Headers = dict[str, str] | list[tuple[str, str]]  # a list where a name may come more than once

_SAFE = frozenset(b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-._~")


def quote(text: str, keep: bytes = b"") -> str:
    """Percent-encode all but letters, digits, `-._~` and `keep`."""
    data = text.encode("utf-8", "surrogateescape")
    return "".join(chr(byte) if byte in _SAFE or byte in keep else f"%{byte:02X}" for byte in data)


def _no_daemon(endpoint: str) -> NotConnected:
    return NotConnected(f"Cannot connect to the corten daemon at {endpoint}. Is the corten daemon running?")


def connect(endpoint: str, tls: "Tls | None" = None) -> socket:
    """A connected socket to `unix:///path`, `tcp://host:port` or `ssh://host`. Raises NotConnected, Failure."""
    scheme, _, address = endpoint.partition("://")
    try:
        if scheme == "unix":
            connection = socket(AF_UNIX, SOCK_STREAM)
            connection.connect(address)
            return connection
        if scheme in ("tcp", "http"):
            host, _, port = address.rstrip("/").rpartition(":")
            family, kind, proto, _, target = getaddrinfo(host.strip("[]") or "127.0.0.1", port, 0, SOCK_STREAM)[0]
            connection = socket(family, kind, proto)
            connection.connect(target)
            if tls is not None:
                from corten.cli.remote import connect_tls

                return connect_tls(connection, host.strip("[]"), tls)
            return connection
        if scheme == "ssh":
            from corten.cli.remote import connect_ssh

            return connect_ssh(address)
    except OSError as error:
        if error.errno in (errno.EACCES, errno.EPERM):
            raise NotConnected(
                f"permission denied while trying to connect to the corten daemon socket at {endpoint}"
            ) from None
        raise _no_daemon(endpoint) from None
    raise Failure(f'unable to parse docker host "{endpoint}": only unix://, tcp:// and ssh:// are spoken here')


class Connection:
    """A socket and the bytes read ahead of it."""

    __slots__ = ("ahead", "sock")

    def __init__(self, sock: socket) -> None:
        self.sock = sock
        self.ahead = b""

    def recv(self, size: int = _PIECE) -> bytes:
        """The bytes read ahead, else what comes next; empty at the end."""
        if self.ahead:
            data, self.ahead = self.ahead[:size], self.ahead[size:]
            return data
        return self.sock.recv(size)

    def head(self) -> tuple[int, dict[str, str]]:
        """Status and headers (names in lower case) of the reply that comes. Raises Failure."""
        data = self.ahead
        while (end := data.find(b"\r\n\r\n")) < 0:
            more = self.sock.recv(65536)
            if not more or len(data) > _LIMIT_HEAD:
                raise Failure("error during connect: EOF" if not more else "the daemon's reply has no end of headers")
            data += more
        self.ahead = data[end + 4:]
        lines = data[:end].decode("latin-1").split("\r\n")
        headers = {}
        for line in lines[1:]:
            name, _, value = line.partition(":")
            headers[name.strip().lower()] = value.strip()
        return int(lines[0].split(" ", 2)[1]), headers

    def line(self) -> bytes:
        """One line of chunk framing, without its end."""
        while (end := self.ahead.find(b"\r\n")) < 0:
            more = self.sock.recv(_PIECE)
            if not more or len(self.ahead) > _LIMIT_HEAD:
                raise Failure("unexpected EOF")
            self.ahead += more
        line, self.ahead = self.ahead[:end], self.ahead[end + 2:]
        return line


class Response:
    """A reply; its body is read once, as it comes or whole."""

    def __init__(self, client: "Client", connection: Connection, status: int, headers: dict[str, str]) -> None:
        self.status = status
        self.headers = headers
        self.connection = connection
        self._client = client
        self._left: int | None = int(headers["content-length"]) if "content-length" in headers else None
        self._chunked = headers.get("transfer-encoding", "") == "chunked"

    def without_body(self) -> None:
        """The reply has none (HEAD, 204, 304)."""
        self._left, self._chunked = 0, False

    def pieces(self) -> Iterator[bytes]:
        """The body as it arrives. Raises Failure when it is cut off."""
        if self._chunked:
            yield from self._chunks()
        else:
            while self._left is None or self._left > 0:
                data = self.connection.recv(_PIECE if self._left is None else min(self._left, _PIECE))
                if not data:
                    if self._left is None:
                        return
                    raise Failure("unexpected EOF")
                if self._left is not None:
                    self._left -= len(data)
                yield data
        self._client.give_back(self)

    def _chunks(self) -> Iterator[bytes]:
        connection = self.connection
        while size := int(connection.line().split(b";")[0], 16):
            while size:
                data = connection.recv(min(size, _PIECE))
                if not data:
                    raise Failure("unexpected EOF")
                size -= len(data)
                yield data
            connection.line()
        while connection.line():
            pass

    def read(self) -> bytes:
        """The whole body."""
        return b"".join(self.pieces())

    def json(self) -> object:
        """The whole body as JSON; None when there is none."""
        data = self.read()
        return jsonio.loads(data) if data.strip() else None

    def objects(self) -> Iterator[dict[str, object]]:
        """A stream of JSON objects, one a line, as pull, push, build, events and stats send them."""
        rest = b""
        for piece in self.pieces():
            *lines, rest = (rest + piece).split(b"\n")
            for line in lines:
                if line.strip():
                    value = jsonio.loads(line)
                    if isinstance(value, dict):
                        yield value
        if rest.strip():
            value = jsonio.loads(rest)
            if isinstance(value, dict):
                yield value

    def close(self) -> None:
        """Drop the connection with whatever is still to come."""
        self.connection.sock.close()


class Client:
    """The daemon at `endpoint`. Asks for the newest version it knows and steps down when told to."""

    def __init__(self, endpoint: str, default: bool = False, tls: "Tls | None" = None) -> None:
        self.endpoint = endpoint
        self._tls = tls
        self._default = default  # nobody named it: the daemon may be started
        self._idle: list[Connection] = []
        pinned = os.environ.get("CORTEN_API_VERSION") or os.environ.get("DOCKER_API_VERSION", "")
        self.version = pinned or ".".join(map(str, DEFAULT_VERSION))
        self._settled = bool(pinned)

    def another(self) -> "Client":
        """A client of the same daemon, for another thread."""
        return Client(self.endpoint, tls=self._tls)

    def _connection(self) -> Connection:
        return self._idle.pop() if self._idle else self.dial()

    def dial(self) -> Connection:
        """A new connection; the daemon is started for it when nobody named another. Raises NotConnected, Failure."""
        try:
            return Connection(connect(self.endpoint, self._tls))
        except NotConnected as error:
            if not self._default or error.text.startswith("permission"):
                raise
            from corten.cli.autostart import start_daemon

            start_daemon(self.endpoint)
            return Connection(connect(self.endpoint))

    def give_back(self, response: Response) -> None:
        """The reply was read to its end: its connection may serve again."""
        if response.headers.get("connection", "").lower() != "close" and (
            "content-length" in response.headers or "transfer-encoding" in response.headers
            or response.status in (204, 304)
        ):
            self._idle.append(response.connection)
        else:
            response.connection.sock.close()

    def _send(self, connection: Connection, method: str, target: str, body: Body, headers: Headers) -> None:
        head = [f"{method} {target} HTTP/1.1", "Host: api.corten.localhost", "User-Agent: corten-cli"]
        payload = b""
        if isinstance(body, (dict, list)):
            payload = jsonio.dumps(body).encode("utf-8", "surrogateescape")
            head.append("Content-Type: application/json")
        elif isinstance(body, bytes):
            payload = body
        if body is not None and not isinstance(body, (dict, list, bytes)):
            head.append("Transfer-Encoding: chunked")
        elif payload or method in ("POST", "PUT"):
            head.append(f"Content-Length: {len(payload)}")
        given = headers.items() if isinstance(headers, dict) else headers
        head += [f"{name}: {value}" for name, value in given]
        connection.sock.sendall("\r\n".join((*head, "", "")).encode("utf-8", "surrogateescape") + payload)
        if body is not None and not isinstance(body, (dict, list, bytes)):
            self._send_chunks(connection, body)

    @staticmethod
    def _send_chunks(connection: Connection, body: Iterator[bytes]) -> None:
        try:
            for piece in body:
                if piece:
                    connection.sock.sendall(b"%x\r\n%b\r\n" % (len(piece), piece))
            connection.sock.sendall(b"0\r\n\r\n")
        except (BrokenPipeError, ConnectionResetError):
            pass  # the daemon answered before it had all: the reply says why

    def request(
        self, method: str, path: str, query: Query | None = None, body: Body = None,
        headers: Headers | None = None,
    ) -> Response:
        """One exchange; whatever the status. `path` begins with `/` and has no version. Raises Failure."""
        replayable = body is None or isinstance(body, (bytes, dict, list))
        if not replayable and not self._settled:
            self.negotiate()
        response = self._exchange(method, path, query, body, headers or {})
        if response.status == 400 and not self._settled and replayable and self._step_down(response):
            response = self._exchange(method, path, query, body, headers or {})
        self._settled = True
        return response

    def _exchange(self, method: str, path: str, query: Query | None, body: Body, headers: Headers) -> Response:
        target = path if path == "/_ping" else f"/v{self.version}{path}"
        if query:
            target += "?" + "&".join(f"{name}={quote(value)}" for name, value in query)
        reused = bool(self._idle)
        connection = self._connection()
        try:
            self._send(connection, method, target, body, headers)
            status, received = connection.head()
        except (OSError, Failure) as error:
            connection.sock.close()
            if reused and (body is None or isinstance(body, (bytes, dict, list))):
                return self._exchange(method, path, query, body, headers)  # the daemon had closed an idle connection
            if isinstance(error, OSError):
                raise Failure(f"error during connect: {error.strerror or error}") from None
            raise
        response = Response(self, connection, status, received)
        if method == "HEAD" or status in (204, 304):
            response.without_body()
        return response

    def _step_down(self, response: Response) -> bool:
        """Whether the refusal is about the version alone; then the daemon's own is taken from now on."""
        data = response.read()
        text = message_of(response.status, data)
        for marker in ("Maximum supported API version is ", "Minimum supported API version is "):
            _, found, rest = text.partition(marker)
            if found and "client version" in text:
                self.version = rest.split(",")[0].split(" ")[0].rstrip(".")
                return True
        raise ApiError(response.status, text)

    def negotiate(self) -> str:
        """Ask which version the daemon speaks and take the lower of the two; returns it."""
        response = self.request("HEAD", "/_ping") if self._settled else self._exchange("HEAD", "/_ping", None, None, {})
        response.read()
        theirs = response.headers.get("api-version", self.version)
        if not self._settled and tuple(map(int, theirs.split("."))) < DEFAULT_VERSION:
            self.version = theirs
        self._settled = True
        return self.version

    def open(
        self, method: str, path: str, query: Query | None = None, body: Body = None,
        headers: Headers | None = None,
    ) -> Response:
        """One exchange that must go well (below 400); the body is still to be read. Raises ApiError, Failure."""
        response = self.request(method, path, query, body, headers)
        if response.status >= 400:
            raise ApiError(response.status, message_of(response.status, response.read()))
        return response

    def call(
        self, method: str, path: str, query: Query | None = None, body: Body = None,
        headers: Headers | None = None,
    ) -> object:
        """One exchange that must go well, and its JSON. Raises ApiError, Failure."""
        return self.open(method, path, query, body, headers).json()

    def hijack(self, path: str, query: Query | None = None, body: Body = None, upgrade: str = "tcp",
               headers: Query | None = None) -> Connection:
        """A raw connection in both directions (attach, exec start; BuildKit's). Raises ApiError, Failure."""
        wanted = [("Connection", "Upgrade"), ("Upgrade", upgrade), *(headers or [])]
        response = self.open("POST", path, query, body, wanted)
        return response.connection


def message_of(status: int, data: bytes) -> str:
    """The text of an error reply."""
    try:
        value = jsonio.loads(data)
    except ValueError:
        value = None
    if isinstance(value, dict) and isinstance(value.get("message"), str):
        return str(value["message"]).strip()
    text = data.decode("utf-8", "replace").strip()
    return text or f"request returned {status}, check if the server supports the requested API version"


def half_close(connection: Connection) -> None:
    """Tell the other side that no more input comes; its output still does."""
    try:
        connection.sock.shutdown(SHUT_WR)
    except OSError:
        pass
