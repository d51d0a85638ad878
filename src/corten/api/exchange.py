"""The protocol of one connection: which bytes are a request's head, which its body, and how an answer begins.

h11 keeps the rules of HTTP/1.1. Most requests are of one plain form, though, about which there is nothing to decide:
one line, headers each once and in ASCII, a body by its length. Those are read here; a head that differs in anything at
all goes to h11 from its first byte. What is read here h11 reads the same, which a test holds to be so.
"""

import re
from http import HTTPStatus

import h11

from corten.base.errors import InvalidArgument

HEADER_LIMIT_BYTES = 128 << 10
_PLAIN_LIMIT_BYTES = 8 << 10
_TOKEN = rb"[-!#$%&'*+.^_`|~0-9A-Za-z]++"
_PLAIN = re.compile(  # possessive: no byte is looked at twice
    rb"(GET|HEAD|POST|PUT|DELETE) (/[!-~]*+) HTTP/1\.1\r\n"
    rb"((?:" + _TOKEN + rb": ?(?:[!-~]++(?: [!-~]++)*+)?\r\n)++)\r\n"
)
_NOT_PLAIN = frozenset(("transfer-encoding", "expect", "trailer", "te"))
_LENGTH = re.compile(r"[0-9]{1,12}")
_KEPT_OPEN = frozenset(("", "keep-alive", "upgrade"))
NO_BODY = frozenset((204, 304))
REASON = {status.value: status.phrase.encode() for status in HTTPStatus}


class Head:
    """What a request begins with; `headers` have lower-case names, those given more than once are joined."""

    __slots__ = ("headers", "method", "target", "version")

    def __init__(self, method: str, target: bytes, version: bytes, headers: dict[str, str]) -> None:
        self.method = method
        self.target = target
        self.version = version
        self.headers = headers


class Exchange:
    """Bytes in, requests out, and back. One request at a time: `begin`, `read` to its end, an answer, `finish`."""

    __slots__ = ("_data", "_ended", "_h11", "_head", "_left", "_writer", "body_ended")

    def __init__(self) -> None:
        self._data = bytearray()  # not looked at yet
        self._ended = False  # the client has ended its direction
        self._h11: h11.Connection | None = None  # reads this request, if it is not plain
        self._writer: h11.Connection | None = None  # writes an answer, if that is not plain
        self._head: Head | None = None
        self._left = 0  # of a plain request's body
        self.body_ended = True

    def receive(self, data: bytes) -> None:
        """What has come; b"" is the end."""
        if self._h11 is not None:
            self._h11.receive_data(data)
        elif data:
            self._data += data
        else:
            self._ended = True

    # --- requests

    def begin(self) -> Head | None:
        """The next request's head; None until it is complete.

        Raises EOFError when there will be none, h11.RemoteProtocolError for what is not HTTP.
        """
        head = self._plain() if self._h11 is None and self._data else None
        if head is None:
            if self._h11 is None and not self._data and not self._ended:
                return None
            head = self._by_h11()
        self._head = head
        return head

    def _plain(self) -> Head | None:
        data = self._data
        if len(data) > _PLAIN_LIMIT_BYTES:
            return None
        found = _PLAIN.match(data)
        if found is None:
            return None
        headers: dict[str, str] = {}
        for line in found[3].decode("ascii").split("\r\n")[:-1]:
            name, _, value = line.partition(":")
            name = name.lower()
            if name in headers:
                return None
            headers[name] = value.lstrip(" ")
        length = headers.get("content-length", "0")
        if (
            "host" not in headers or not _LENGTH.fullmatch(length) or not _NOT_PLAIN.isdisjoint(headers)
            or headers.get("connection", "").lower() not in _KEPT_OPEN
        ):
            return None
        self._left = int(length)
        self.body_ended = False
        head = Head(found[1].decode("ascii"), bytes(found[2]), b"1.1", headers)
        del data[:found.end()]
        return head

    def _by_h11(self) -> Head | None:
        if self._h11 is None:
            self._h11 = h11.Connection(h11.SERVER, max_incomplete_event_size=HEADER_LIMIT_BYTES)
            if self._data:
                self._h11.receive_data(bytes(self._data))
                self._data.clear()
            if self._ended:
                self._h11.receive_data(b"")
        event = self._h11.next_event()
        if event is h11.NEED_DATA:
            return None
        if not isinstance(event, h11.Request):
            raise EOFError
        self.body_ended = False
        headers: dict[str, str] = {}
        for raw_name, raw_value in event.headers:
            name, value = raw_name.decode("latin-1"), raw_value.decode("latin-1")
            headers[name] = f"{headers[name]}, {value}" if name in headers else value
        return Head(event.method.decode("ascii"), event.target, event.http_version, headers)

    @property
    def half_a_head(self) -> bool:
        """Whether a request has begun whose head is not complete."""
        return self._h11 is not None and bool(self._h11.trailing_data[0])

    def read(self) -> bytes | None:
        """The next piece of the request's body, b"" at its end, None until there is one.

        Raises InvalidArgument: bad framing, or cut off.
        """
        if self.body_ended:
            return b""
        if self._h11 is not None:
            return self._read_by_h11(self._h11)
        if not self._left:
            self.body_ended = True
            return b""
        if not self._data:
            if self._ended:
                raise InvalidArgument("the request body was cut off")
            return None
        piece = bytes(self._data[:self._left])
        del self._data[:self._left]
        self._left -= len(piece)
        return piece

    def _read_by_h11(self, connection: h11.Connection) -> bytes | None:
        try:
            event = connection.next_event()
        except h11.RemoteProtocolError as error:
            raise InvalidArgument(f"malformed request body: {error}") from None
        if isinstance(event, h11.Data):
            return bytes(event.data)
        if isinstance(event, h11.EndOfMessage):
            self.body_ended = True
            return b""
        if event is h11.NEED_DATA:
            return None
        raise InvalidArgument("the request body was cut off")

    @property
    def waits_for_word(self) -> bool:
        """Whether the client sends its body only once it has been told to. RFC 9110 section 10.1.1."""
        return self._h11 is not None and self._h11.they_are_waiting_for_100_continue

    def word(self) -> bytes:
        """What tells it to."""
        assert self._h11 is not None
        return self._h11.send(h11.InformationalResponse(status_code=100, headers=[])) or b""

    # --- answers

    def whole(self, status: int, headers: bytes, body: bytes) -> bytes | None:
        """An answer with its length, `headers` being lines known to be sound; None where `writer` has to say it."""
        if self._head is None or self._h11 is not None or self._writer is not None:
            return None
        if status in NO_BODY:
            return b"HTTP/1.1 %d %b\r\n%b\r\n" % (status, REASON[status], headers)
        head = b"HTTP/1.1 %d %b\r\n%bContent-Length: %d\r\n\r\n" % (status, REASON[status], headers, len(body))
        return head if self._head.method == "HEAD" else head + body

    @property
    def writer(self) -> h11.Connection:
        """Who knows how any answer to this request is written."""
        if self._h11 is not None:
            return self._h11
        if self._writer is None:
            method = self._head.method if self._head is not None else "GET"
            self._writer = h11.Connection(h11.SERVER)
            self._writer.receive_data(f"{method} / HTTP/1.1\r\nHost: -\r\n\r\n".encode())
            self._writer.next_event()
            self._writer.next_event()
        return self._writer

    @property
    def goes_on(self) -> bool:
        """Whether there may be another request after the answer."""
        writer = self._h11 or self._writer
        return writer is None or writer.our_state is not h11.MUST_CLOSE

    def finish(self) -> bool:
        """The answer has been given: make ready for the next request. False: the body or it are not at their end."""
        if not self.body_ended:
            return False
        if self._h11 is not None:
            if self._h11.their_state is not h11.DONE or self._h11.our_state is not h11.DONE:
                return False
            self._h11.start_next_cycle()
            rest, ended = self._h11.trailing_data
            self._data += rest
            self._ended = self._ended or ended
        self._h11 = self._writer = self._head = None
        return True

    def take_rest(self) -> bytes:
        """What has come behind the request, for whoever takes the connection over."""
        if self._h11 is not None:
            return self._h11.trailing_data[0]
        rest = bytes(self._data)
        self._data.clear()
        return rest
