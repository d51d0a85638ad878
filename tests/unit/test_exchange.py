"""The short way through plain requests: what it reads h11 reads the same, and what it writes a client reads."""

import itertools

import h11
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from corten.api.exchange import Exchange

LINES = (
    "POST /v1.44/exec/ab/start HTTP/1.1", "GET /_ping?a=b%20c HTTP/1.1", "HEAD /x HTTP/1.1", "GET / HTTP/1.0",
    "GET  / HTTP/1.1", "get / HTTP/1.1", "PATCH / HTTP/1.1", "GET http://d/ HTTP/1.1", "GET /\x7f HTTP/1.1", "GET / HTTP/2.0",
)
HEADERS = (
    "Host: d", "Host: d", "Host: d", "host:d", "Host : d", "Host: e", " folded", "Content-Length: 3", "Content-Length: 3",
    "Content-Length: 03", "Content-Length: +3", "Content-Length: 3, 3", "Content-Length: 3 ", "Content-Length: 0",
    "Content-Length:\t3", "content-length: 4", "Content-Length: ", "Content-Length: 1234567890123456789012",
    "Transfer-Encoding: chunked", "Transfer-Encoding: identity", "Transfer-Encoding : chunked", "Expect: 100-continue",
    "Connection: close", "Connection: Upgrade", "Connection: keep-alive, close", "Upgrade: tcp", "Accept: a", "Accept: b",
    "X: \x00", "X: a\rb", "X: a\nb", "X:", "X: \x80", "X: a  b", "X: a\tb", "X\x0b: a", ": a", "X", "X: a:b ",
)
BODIES = ("", "abc", "abcGET /behind HTTP/1.1\r\nHost: d\r\n\r\n", "3\r\nabc\r\n0\r\n\r\n", "a")
REQUESTS = st.builds(
    lambda line, headers, end, body: f"{end.join([line, *headers, '', ''])}{body}".encode("latin-1"),
    st.sampled_from(LINES), st.lists(st.sampled_from(HEADERS), max_size=5),
    st.sampled_from(("\r\n", "\r\n", "\r\n", "\n")), st.sampled_from(BODIES),
)


def by_h11(data):
    """(method, target, version, headers, body or None when it does not end, what is behind), or the refusal."""
    connection = h11.Connection(h11.SERVER, max_incomplete_event_size=128 << 10)
    connection.receive_data(data)
    try:
        request = connection.next_event()
        if not isinstance(request, h11.Request):
            return "none"
        headers = {}
        for name, value in request.headers:
            headers.setdefault(name.decode("latin-1"), []).append(value.decode("latin-1"))
        found = [request.method.decode(), request.target, request.http_version, headers]
    except h11.RemoteProtocolError:
        return "refused"
    body = b""
    try:
        while isinstance(event := connection.next_event(), h11.Data):
            body += event.data
    except h11.RemoteProtocolError:
        return [*found, "refused"]
    return [*found, body, isinstance(event, h11.EndOfMessage), connection.trailing_data[0]]


def by_exchange(pieces):
    exchange, pieces, head = Exchange(), list(pieces), None
    try:
        while head is None and pieces:
            exchange.receive(pieces.pop(0))
            head = exchange.begin()
    except h11.RemoteProtocolError:
        return "refused"
    if head is None:
        return "none"
    found = [head.method, head.target, head.version, head.headers]
    body = b""
    try:
        while piece := exchange.read() or (pieces and not exchange.body_ended):
            if isinstance(piece, bytes):
                body += piece
            else:
                exchange.receive(pieces.pop(0))
    except ValueError:
        return [*found, "refused"]
    except Exception as error:
        assert "malformed request body" in str(error), error
        return [*found, "refused"]
    return [*found, body, exchange.body_ended, exchange.take_rest() + b"".join(pieces)]


@given(REQUESTS, st.lists(st.integers(0, 200), max_size=3))
@example(b"GET / HTTP/1.1\r\nHost: d\r\nContent-Length: 3\r\nContent-Length: 4\r\n\r\nabcd", [])
@example(b"POST / HTTP/1.1\r\nHost: d\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", [])
@example(b"\r\nGET / HTTP/1.1\r\nHost: d\r\n\r\n", [])
def test_what_is_read_here_h11_reads_the_same(data, cuts):
    """However the bytes come in: head, body, where the body ends, and what is refused."""
    places = sorted({min(cut, len(data)) for cut in cuts} | {0, len(data)})
    pieces = [data[a:b] for a, b in itertools.pairwise(places) if a < b]
    expected, found = by_h11(data), by_exchange(pieces)
    if isinstance(expected, list) and isinstance(found, list):
        expected[3] = {name: ", ".join(values) for name, values in expected[3].items()}
    assert found == expected


def plain(headers="", line="POST /x HTTP/1.1"):
    exchange = Exchange()
    exchange.receive(f"{line}\r\nHost: d\r\n{headers}\r\n".encode())
    exchange.begin()
    return exchange


@pytest.mark.parametrize(("line", "status", "body"), [
    ("GET / HTTP/1.1", 200, b"{}\n"), ("HEAD / HTTP/1.1", 200, b"{}\n"), ("DELETE / HTTP/1.1", 204, b""),
    ("POST / HTTP/1.1", 304, b""), ("GET / HTTP/1.1", 404, b"gone"),
])
def test_a_client_reads_the_answer(line, status, body):
    """As h11 on the other side does: status, the body but for HEAD, and that the connection goes on."""
    exchange = plain(line=line)
    assert exchange.read() == b""
    client = h11.Connection(h11.CLIENT)
    client.send(h11.Request(method=line.split()[0], target="/", headers=[("Host", "d")]))
    client.send(h11.EndOfMessage())
    client.receive_data(exchange.whole(status, b"Server: x\r\n", body))
    assert client.next_event().status_code == status
    came = b""
    while isinstance(event := client.next_event(), h11.Data):
        came += event.data
    assert came == (b"" if line.startswith("HEAD") else body)
    assert isinstance(event, h11.EndOfMessage)
    assert client.their_state is h11.DONE
    assert exchange.finish()


def test_a_body_cut_off_is_not_taken_for_whole():
    """And there is no next request on that connection."""
    exchange = plain("Content-Length: 5\r\n")
    exchange.receive(b"abc")
    exchange.receive(b"")
    assert exchange.read() == b"abc"
    with pytest.raises(Exception, match="cut off"):
        exchange.read()
    assert not exchange.finish()


def test_after_an_unusual_request_comes_a_plain_one():
    """What was sent ahead is not lost between the two readers."""
    exchange = Exchange()
    exchange.receive(b"POST / HTTP/1.1\r\nHost: d\r\nTransfer-Encoding: chunked\r\n\r\n1\r\na\r\n0\r\n\r\nGET /b HTTP/1.1\r\nHost: d\r\n\r\n")
    assert exchange.begin().target == b"/"
    assert [exchange.read(), exchange.read()] == [b"a", b""]
    for event in (h11.Response(status_code=200, headers=[("Content-Length", "0")]), h11.EndOfMessage()):
        exchange.writer.send(event)
    assert exchange.finish()
    assert exchange.begin().target == b"/b"
    assert exchange.whole(200, b"", b"") == b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"


@pytest.mark.parametrize("headers", ["Connection: close\r\n", "Connection: keep-alive, close\r\n"])
def test_who_asks_for_the_end_of_the_connection_gets_it(headers):
    """The answer says so, and no request follows."""
    exchange = plain(headers)
    assert exchange.read() == b""
    assert exchange.whole(200, b"", b"") is None
    exchange.writer.send(h11.Response(status_code=200, headers=[("Content-Length", "0")]))
    exchange.writer.send(h11.EndOfMessage())
    assert not exchange.goes_on
