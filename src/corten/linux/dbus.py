"""D-Bus: method calls and one kind of signal over a Unix socket, without a bus in between. D-Bus Specification 0.41.

Writes every type that a call to systemd takes; of what comes it reads numbers and texts alone, little-endian messages
of at most a MiB.
"""

from __future__ import annotations

import _socket
import posix
import struct
import time

from corten.base.errors import Internal, Unavailable

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

_METHOD_CALL, _METHOD_RETURN, _ERROR, _SIGNAL = 1, 2, 3, 4
_PATH, _INTERFACE, _MEMBER, _ERROR_NAME, _REPLY_SERIAL, _DESTINATION, _SIGNATURE = 1, 2, 3, 4, 5, 6, 8
_NUMBERS = {"y": "<B", "b": "<I", "n": "<h", "q": "<H", "i": "<i", "u": "<I", "x": "<q", "t": "<Q", "d": "<d"}
_ALIGNMENT = {"y": 1, "g": 1, "v": 1, "n": 2, "q": 2, "x": 8, "t": 8, "d": 8, "(": 8}  # of all others: 4
_MESSAGE_LIMIT = 1 << 20
_LINE_LIMIT = 1 << 12
_KEPT_SIGNALS = 4096
_PATIENCE_S = 120  # a job of systemd may itself take 90 seconds, DefaultTimeoutStartSec


class CallFailed(Internal):
    """The peer answered a call with an error; `name` is D-Bus's name of it."""

    def __init__(self, name: str, text: str) -> None:
        super().__init__(text or name)
        self.name = name


class Malformed(Internal):
    """What came is no message that is read here."""


def split(signature: str) -> list[str]:
    """The complete types of a signature: `sa(sv)` is `s` and `a(sv)`. Raises ValueError."""
    found, at = [], 0
    while at < len(signature):
        end = at
        while signature[end:end + 1] == "a":
            end += 1
        depth = 0
        while True:
            letter = signature[end:end + 1]
            if not letter or (letter not in "()a" and letter not in "sogv" and letter not in _NUMBERS):
                raise ValueError(f"not a D-Bus signature: {signature!r}")
            depth += (letter == "(") - (letter == ")")
            end += 1
            if not depth:
                break
        found.append(signature[at:end])
        at = end
    return found


def append(out: bytearray, kind: str, value: Any) -> None:
    """One value of one complete type, aligned from the beginning of `out`; a variant is (type, value).

    Raises struct.error, TypeError, ValueError, AttributeError when the value is none of that type.
    """
    first = kind[0]
    if first in _NUMBERS:
        _align(out, first)
        out += struct.pack(_NUMBERS[first], value)
    elif first in "sog":
        data = value.encode()
        append(out, "y" if first == "g" else "u", len(data))
        out += data + b"\0"
    elif first == "v":
        append(out, "g", value[0])
        append(out, value[0], value[1])
    elif first == "a":
        append(out, "u", 0)
        size_at = len(out) - 4
        _align(out, kind[1])
        begin = len(out)
        for item in value:
            append(out, kind[1:], item)
        struct.pack_into("<I", out, size_at, len(out) - begin)
    else:
        _align(out, first)
        for part, item in zip(split(kind[1:-1]), value, strict=True):
            append(out, part, item)


def _align(out: bytearray, first: str) -> None:
    out += bytes(-len(out) % _ALIGNMENT.get(first, 4))


def call_message(serial: int, fields: dict[int, tuple[str, str]], signature: str, values: tuple[Any, ...]) -> bytes:
    """A method call with its header. `fields` maps a header field's code to its (type, value)."""
    body = bytearray()
    for kind, value in zip(split(signature), values, strict=True):
        append(body, kind, value)
    out = bytearray(struct.pack("<cBBBII", b"l", _METHOD_CALL, 0, 1, len(body), serial))
    append(out, "a(yv)", [*fields.items(), (_SIGNATURE, ("g", signature))])
    out += bytes(-len(out) % 8)
    return bytes(out + body)


class _Reader:
    """Numbers and texts from a message, in order. Raises Malformed."""

    def __init__(self, data: bytes) -> None:
        self.data = data
        self.at = 0

    def take(self, kind: str) -> Any:
        if kind in _NUMBERS:
            size = struct.calcsize(_NUMBERS[kind])
            self.skip_to(size)
            return struct.unpack(_NUMBERS[kind], self._bytes(size))[0]
        if kind not in ("s", "o", "g"):
            raise Malformed(f"D-Bus: a value of type {kind!r} is not read here")
        data = self._bytes(self.take("y" if kind == "g" else "u") + 1)
        return data[:-1].decode("utf-8", "replace")

    def skip_to(self, alignment: int) -> None:
        self.at += -self.at % alignment

    def _bytes(self, size: int) -> bytes:
        if self.at + size > len(self.data):
            raise Malformed("D-Bus: a value beyond the end of its message")
        self.at += size
        return self.data[self.at - size:self.at]


class Message:
    """One message that came: its type, its header fields by their codes, its body as yet unread."""

    __slots__ = ("body", "fields", "type")

    def __init__(self, type: int, fields: dict[int, Any], body: bytes) -> None:
        self.type = type
        self.fields = fields
        self.body = body

    def values(self) -> list[Any]:
        """The body. Raises Malformed when it holds more than numbers and texts."""
        reader = _Reader(self.body)
        try:
            return [reader.take(kind) for kind in split(self.fields.get(_SIGNATURE, ""))]
        except ValueError as error:
            raise Malformed(f"D-Bus: {error}") from None


def rest_of(start: bytes) -> int:
    """How much of a message follows its first 16 bytes. Raises Malformed."""
    order, _, _, version, body, _, fields = struct.unpack("<cBBBIII", start)
    if order != b"l" or version != 1:
        raise Malformed("D-Bus: not a little-endian message of protocol 1")
    size: int = fields + -fields % 8 + body
    if size > _MESSAGE_LIMIT:
        raise Malformed("D-Bus: too large a message")
    return size


def parse(data: bytes) -> Message:
    """A whole message. Raises Malformed."""
    type_, body, fields = data[1], *struct.unpack_from("<I4xI", data, 4)
    reader = _Reader(data[:16 + fields])
    reader.at = 16
    found = {}
    while reader.at < len(reader.data):
        reader.skip_to(8)
        code = reader.take("y")
        found[code] = reader.take(reader.take("g"))
    return Message(type_, found, data[len(data) - body:])


class Connection:
    """A connection to a service as the user that we are. Raises OSError, Unavailable when it does not answer in time.

    Signals with the member `signal` that come meanwhile are kept for `next_signal`.
    """

    def __init__(self, path: str, signal: str) -> None:
        self._signal = signal
        self._signals: list[Message] = []
        self._serial = 0
        self._deadline = time.monotonic() + _PATIENCE_S
        self._socket = _socket.socket(_socket.AF_UNIX, _socket.SOCK_STREAM | _socket.SOCK_CLOEXEC)
        try:
            patience = struct.pack("@ll", _PATIENCE_S, 0)
            for option in (_socket.SO_RCVTIMEO, _socket.SO_SNDTIMEO):
                self._socket.setsockopt(_socket.SOL_SOCKET, option, patience)
            self._socket.connect(path)
            self._authenticate()
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """Safe to repeat."""
        self._socket.close()

    def call(self, service: tuple[str, str, str], member: str, signature: str, *values: Any) -> list[Any]:
        """Call a method of `service` (name, object path, interface). Raises CallFailed, Malformed."""
        self._serial += 1
        name, path, interface = service
        fields = {_PATH: ("o", path), _DESTINATION: ("s", name), _INTERFACE: ("s", interface), _MEMBER: ("s", member)}
        self._send(call_message(self._serial, fields, signature, values))
        while True:
            message = self._receive()
            if message.fields.get(_REPLY_SERIAL) == self._serial:
                if message.type == _METHOD_RETURN:
                    return message.values()
                if message.type == _ERROR:
                    text = message.values()[0] if message.fields.get(_SIGNATURE, "").startswith("s") else ""
                    raise CallFailed(str(message.fields.get(_ERROR_NAME, "")), text)
            self._keep(message)

    def next_signal(self) -> list[Any]:
        """What the next one of the signals says, the oldest first; waits for it. Raises Unavailable, Malformed."""
        while not self._signals:
            self._keep(self._receive())
        return self._signals.pop(0).values()

    def _keep(self, message: Message) -> None:
        if message.type == _SIGNAL and message.fields.get(_MEMBER) == self._signal:
            self._signals.append(message)
            del self._signals[:-_KEPT_SIGNALS]

    def _authenticate(self) -> None:
        """The mechanism EXTERNAL: the kernel tells the peer who we are, we say the same.

        BEGIN goes along. Sent after the answer it could be read together with a short first call by a systemd that is
        slow to look, and what systemd has read before it begins lies there until more comes (sd-bus reads 256 bytes).
        """
        self._send(b"\0AUTH EXTERNAL %s\r\nBEGIN\r\n" % str(posix.geteuid()).encode().hex().encode())
        line = b""
        while not line.endswith(b"\r\n"):
            line += self._read(1)  # what follows the line is not ours to read yet
            if len(line) > _LINE_LIMIT:
                raise Malformed("D-Bus: too long a line")
        if not line.startswith(b"OK "):
            raise Malformed(f"D-Bus: not let in: {line.decode('ascii', 'replace').strip()}")

    def _receive(self) -> Message:
        start = self._read(16)
        return parse(start + self._read(rest_of(start)))

    def _send(self, data: bytes) -> None:
        try:
            self._socket.sendall(data)
        except BlockingIOError:
            raise Unavailable("D-Bus: no answer in time") from None

    def _read(self, size: int) -> bytes:
        found = bytearray()
        while len(found) < size:
            if time.monotonic() > self._deadline:
                raise Unavailable("D-Bus: no answer in time")
            try:
                part = self._socket.recv(size - len(found))
            except BlockingIOError:
                continue
            if not part:
                raise ConnectionResetError(104, "D-Bus: the connection was closed")
            found += part
        return bytes(found)
