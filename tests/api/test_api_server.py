"""The HTTP server over real unix sockets: framing, hostile requests, slow clients, streams, the hijack."""

import asyncio
import json
import os
import socket
import stat
import tempfile

import msgspec
import pytest
from daemon_process import until
from server_fixture import ServerThread, read_all, read_until

from corten.api.response import empty, hijacked, json_response, streaming, text
from corten.api.router import Route
from corten.base.errors import Conflict, NotFound, NotModified
from corten.engine.streams import FileSpan

STATE = {}


class Body(msgspec.Struct):
    Name: str = "none"
    Count: int = 0


async def ok(request, engine):
    return text("OK")


async def missing(request, engine):
    raise NotFound(f"No such container: {request.params['id']}")


async def taken(request, engine):
    raise Conflict("taken")


async def same(request, engine):
    raise NotModified("")


async def broken(request, engine):
    raise ValueError("secret detail")


async def echo_json(request, engine):
    return json_response(await request.json(Body))


async def length(request, engine):
    size = 0
    async for piece in request.stream():
        size += len(piece)
    return json_response({"size": size})


async def name(request, engine):
    return json_response({"name": request.params["name"], "filters": request.query.filters()})


async def endless(request, engine):
    async def pieces():
        STATE["open"] = True
        try:
            while True:
                yield b"tick\n"
                await asyncio.sleep(0.01)
        finally:
            STATE["open"] = False
    return streaming(pieces(), "text/plain")


async def slow_change(request, engine):
    STATE["changing"] = True
    await asyncio.sleep(0.3)
    STATE["changed"] = True
    return empty()


async def slow_read(request, engine):
    STATE["reading"] = True
    try:
        await asyncio.sleep(200)
    except asyncio.CancelledError:
        STATE["cancelled"] = True
        raise
    return empty()


async def span(request, engine):
    async def pieces():
        with tempfile.TemporaryFile() as file:
            file.write(b"x" * 3_000_000)
            file.flush()
            yield FileSpan(file.fileno(), 0, 3_000_000)
            yield b"end"
    return streaming(pieces(), "application/octet-stream")


async def raw(request, engine):
    connection = await request.hijack()
    await connection.write(b"hello ")
    while data := await connection.read():
        await connection.write(data.upper())
    await connection.write(b" bye")
    connection.write_eof()
    return hijacked()


ROUTES = [
    Route("GET", "/_ping", ok), Route("GET", "/containers/{id}/json", missing), Route("POST", "/taken", taken),
    Route("POST", "/same", same), Route("GET", "/broken", broken), Route("POST", "/json", echo_json),
    Route("PUT", "/length", length), Route("GET", "/images/{name:path}/json", name), Route("GET", "/endless", endless),
    Route("POST", "/change", slow_change), Route("GET", "/slow", slow_read), Route("GET", "/span", span),
    Route("POST", "/raw", raw),
]


@pytest.fixture(scope="module")
def server():
    with ServerThread(ROUTES, header_timeout_s=0.8) as started:
        yield started


def split(answer):
    head, _, body = answer.partition(b"\r\n\r\n")
    return head.decode(), body


def test_headers_are_dockers(server):
    head, body = split(server.ask(b"GET /v1.43/_ping HTTP/1.1\r\nHost: d\r\n\r\n"))
    assert head.startswith("HTTP/1.1 200 OK\r\n") and body == b"OK"
    for line in ("Api-Version: 1.51", "Ostype: linux", "Docker-Experimental: false", "Content-Length: 2"):
        assert line in head


@pytest.mark.parametrize(("path", "message"), [
    ("/v1.60/_ping", "client version 1.60 is too new. Maximum supported API version is 1.51"),
    ("/nonesuch", "page not found"),
    ("/v1.51/containers/a/b/c", "page not found"),
    ("//_ping", "page not found"),
])
def test_docker_texts(server, path, message):
    head, body = split(server.ask(f"GET {path} HTTP/1.1\r\nHost: d\r\n\r\n".encode()))
    assert json.loads(body) == {"message": message}
    assert "application/json" in head


def test_too_old_is_plain_text(server):
    head, body = split(server.ask(b"GET /v1.12/_ping HTTP/1.1\r\nHost: d\r\n\r\n"))
    assert "400 Bad Request" in head and "text/plain" in head
    assert body == (b"client version 1.12 is too old. Minimum supported API version is 1.24, "
                    b"please upgrade your client to a newer version\n")


@pytest.mark.parametrize(("request_line", "status"), [
    ("GET /containers/x/json", 404), ("POST /taken", 409), ("POST /same", 304), ("GET /broken", 500),
])
def test_error_kinds(server, request_line, status):
    head, body = split(server.ask(f"{request_line} HTTP/1.1\r\nHost: d\r\n\r\n".encode()))
    assert head.split()[1] == str(status)
    assert (body == b"") == (status == 304)


def test_pipelined_requests_answer_in_order(server):
    answer = server.ask(b"GET /containers/a/json HTTP/1.1\r\nHost: d\r\n\r\n" * 3
                        + b"GET /_ping HTTP/1.1\r\nHost: d\r\n\r\n")
    assert answer.count(b"No such container: a") == 3
    assert answer.endswith(b"OK")


def test_json_null_means_absent_and_duplicates_are_refused(server):
    def post(body):
        return split(server.ask(b"POST /json HTTP/1.1\r\nHost: d\r\nContent-Type: application/json\r\n"
                                b"Content-Length: %d\r\n\r\n%s" % (len(body), body)))

    assert json.loads(post(b'{"Name":null,"Count":3,"Other":[1]}')[1]) == {"Name": "none", "Count": 3}
    for bad in (b'{"Name":"a","Name":"b"}', b'{"Count":"x"}', b'{"Count":1} {}', b"[" * 5000, b'{"Count":NaN}'):
        head, body = post(bad)
        assert " 400 " in head, bad
        assert "invalid JSON" in json.loads(body)["message"]


def test_wrong_content_type(server):
    __head, body = split(server.ask(b"POST /json HTTP/1.1\r\nHost: d\r\nContent-Type: text/plain\r\n"
                                  b"Content-Length: 2\r\n\r\n{}"))
    assert json.loads(body)["message"] == "unsupported Content-Type header (text/plain): must be 'application/json'"


def test_chunked_body_and_expect(server):
    with server.connect() as client:
        client.sendall(b"PUT /length HTTP/1.1\r\nHost: d\r\nTransfer-Encoding: chunked\r\n"
                       b"Expect: 100-continue\r\n\r\n")
        assert read_until(client, b"\r\n\r\n").startswith(b"HTTP/1.1 100")
        for _ in range(100):
            client.sendall(b"8000\r\n" + b"z" * 0x8000 + b"\r\n")
        client.sendall(b"0\r\n\r\n")
        assert b'{"size":3276800}' in read_until(client, b"}\n")


def test_image_names_and_filters(server):
    __head, body = split(server.ask(
        b"GET /images/localhost:5000%2Fcncamp/httpserver:v1.0/json?filters=%7B%22a%22%3A%7B%22b%22%3Atrue%7D%7D"
        b" HTTP/1.1\r\nHost: d\r\n\r\n"))
    assert json.loads(body) == {"name": "localhost:5000/cncamp/httpserver:v1.0", "filters": {"a": ["b"]}}
    _head, body = split(server.ask(b"GET /images/x/json?filters=zzz HTTP/1.1\r\nHost: d\r\n\r\n"))
    assert json.loads(body) == {"message": "invalid filter"}


@pytest.mark.parametrize("request_bytes", [
    b"POST /json HTTP/1.1\r\nHost: d\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\nhello!",
    b"POST /json HTTP/1.1\r\nHost: d\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    b"POST /json HTTP/1.1\r\nHost: d\r\nTransfer-Encoding: chunked, identity\r\n\r\n0\r\n\r\n",
    b"POST /json HTTP/1.1\r\nHost: d\r\nContent-Length: +5\r\n\r\nhello",
    b"GET /_ping HTTP/1.1\r\nHost : d\r\n\r\n",
    b"GET /_ping HTTP/1.1\r\n Host: d\r\n\r\n",
    b"GET /_ping HTTP/1.1\r\n\r\n",
    b"GET /_ping\xff HTTP/1.1\r\nHost: d\r\n\r\n",
    b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n",
])
def test_ambiguous_requests_are_refused_and_nothing_behind_them_runs(server, request_bytes):
    answer = server.ask(request_bytes + b"GET /smuggled HTTP/1.1\r\nHost: d\r\n\r\n")
    assert b"page not found" not in answer
    assert answer[9:12] in (b"400", b"501")


def test_oversize_header(server):
    answer = server.ask(b"GET /_ping HTTP/1.1\r\nHost: d\r\nX-A: " + b"a" * 300_000)
    assert answer.startswith(b"HTTP/1.1 431")


def test_slow_header_is_given_up_and_idle_is_not(server):
    with server.connect() as idle, server.connect() as slow:
        slow.sendall(b"GET /_ping HTTP/1.1\r\nHo")
        assert read_until(slow, b"\r\n\r\n").startswith(b"HTTP/1.1 408")
        idle.sendall(b"GET /_ping HTTP/1.1\r\nHost: d\r\n\r\n")
        assert read_until(idle, b"OK").endswith(b"OK")


def test_unread_body_keeps_the_connection_or_closes_it(server):
    small = b"POST /taken HTTP/1.1\r\nHost: d\r\nContent-Length: 4\r\n\r\nabcd"
    assert server.ask(small + small).count(b"409 Conflict") == 2
    with server.connect() as client:
        client.sendall(b"POST /taken HTTP/1.1\r\nHost: d\r\nContent-Length: 9000000\r\n\r\n" + b"a" * 100_000)
        assert b"409 Conflict" in read_until(client, b"409 Conflict")


def test_leaving_client_ends_streams_and_reads(server):
    client = server.connect()
    client.sendall(b"GET /endless HTTP/1.1\r\nHost: d\r\n\r\n")
    assert b"tick" in read_until(client, b"tick")
    client.close()
    until(lambda: STATE["open"] is False)
    client = server.connect()
    client.sendall(b"GET /slow HTTP/1.1\r\nHost: d\r\n\r\n")
    until(lambda: STATE.get("reading"))
    client.close()
    until(lambda: STATE.get("cancelled"))


def test_leaving_client_does_not_stop_a_change(server):
    STATE.clear()
    client = server.connect()
    client.sendall(b"POST /change HTTP/1.1\r\nHost: d\r\n\r\n")
    until(lambda: STATE.get("changing"))
    client.close()
    until(lambda: STATE.get("changed"))


def test_half_closed_client_still_gets_its_answer(server):
    with server.connect() as client:
        client.sendall(b"POST /change HTTP/1.1\r\nHost: d\r\n\r\n")
        assert b"204 No Content" in read_all(client)


def test_file_spans_go_out_as_chunks(server):
    body = server.ask(b"GET /span HTTP/1.1\r\nHost: d\r\n\r\n").partition(b"\r\n\r\n")[2]
    assert body.startswith(b"2dc6c0\r\n") and body.count(b"x") == 3_000_000
    assert body.endswith(b"\r\n3\r\nend\r\n0\r\n\r\n")


@pytest.mark.parametrize("upgrade", [True, False])
def test_hijack_is_raw_and_half_closes(server, upgrade):
    extra = b"Connection: Upgrade\r\nUpgrade: tcp\r\n" if upgrade else b""
    with server.connect() as client:
        client.sendall(b"POST /v1.45/raw HTTP/1.1\r\nHost: d\r\n" + extra + b"\r\nearly ")
        head, body = split(read_until(client, b"EARLY "))
        assert head.startswith("HTTP/1.1 101 UPGRADED" if upgrade else "HTTP/1.1 200 OK")
        assert ("Upgrade: tcp" in head) == upgrade
        client.sendall(b"late")
        assert body + read_all(client) == b"hello EARLY LATE bye"


def test_socket_mode_and_stale_file(server):
    assert stat.S_IMODE(os.stat(server.path).st_mode) == 0o600
    with tempfile.TemporaryDirectory() as folder:
        stale = os.path.join(folder, "x.sock")
        with socket.socket(socket.AF_UNIX) as dead:
            dead.bind(stale)

        async def listen_twice():
            from corten.api.router import Router
            from corten.api.server import Server

            first, second = Server(Router(), None), Server(Router(), None)
            first.listen_unix(stale)
            with pytest.raises(OSError, match="somebody listens"):
                second.listen_unix(stale)
            await first.close()
            await second.close()

        asyncio.run(listen_twice())
        assert not os.path.exists(stale)


def test_connections_leave_nothing_behind(server):
    before = len(os.listdir("/proc/self/fd"))
    clients = [server.connect() for _ in range(200)]
    for client in clients:
        client.sendall(b"GET /_ping HTTP/1.1\r\nHost: d\r\n\r\n")
    for client in clients:
        assert read_until(client, b"OK").endswith(b"OK")
        client.close()
    until(lambda: not server.server.connections)
    until(lambda: len(os.listdir("/proc/self/fd")) <= before, "the end of their descriptors")
