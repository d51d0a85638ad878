"""attach/ws of a real daemon: frames both ways, the end on either side, and what is no handshake."""

import socket

import pytest
from wsproto import ConnectionType, WSConnection
from wsproto.events import (
    AcceptConnection,
    BytesMessage,
    CloseConnection,
    Message,
    Ping,
    Pong,
    RejectConnection,
    Request,
)


class Client:
    def __init__(self, engine, path):
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(30)
        self.sock.connect(engine.socket)
        self.ws = WSConnection(ConnectionType.CLIENT)
        self.pending = []
        self.send(Request(host="localhost", target=path))
        self.first = self.event()

    def send(self, event):
        self.sock.sendall(self.ws.send(event))

    def event(self):
        while not self.pending:
            data = self.sock.recv(1 << 16)
            self.ws.receive_data(data or None)
            self.pending = list(self.ws.events())
        return self.pending.pop(0)

    def until(self, text):
        got = b""
        while text not in got:
            event = self.event()
            assert isinstance(event, Message), event
            got += bytes(event.data)
        return got


def attach(engine, ref, query="stream=1&stdin=1&stdout=1&stderr=1"):
    client = Client(engine, f"/containers/{ref}/attach/ws?{query}")
    assert isinstance(client.first, AcceptConnection), client.first
    return client


def test_input_goes_in_and_output_comes_unframed(engine):
    ref = engine.run("sh", "-c", "echo begin; while read line; do echo got $line; echo err >&2; done", OpenStdin=True)
    client = attach(engine, ref, "stream=1&stdin=1&stdout=1&logs=1")
    assert client.until(b"begin\n") == b"begin\n"
    client.send(BytesMessage(data=b"one\ntwo\n"))
    assert client.until(b"got two\n") == b"got one\ngot two\n"
    client.send(Ping(payload=b"?"))
    assert client.event() == Pong(payload=b"?")
    client.send(CloseConnection(code=1000))
    assert isinstance(client.event(), CloseConnection)
    assert client.sock.recv(1) == b""
    assert engine.inspect(ref)["State"]["Running"]


def test_the_end_of_the_container_closes_it(engine):
    ref = engine.create("sh", "-c", "head -c 300000 /dev/zero | tr '\\0' x; echo; echo end")
    client = attach(engine, ref)
    assert engine.api("POST", f"/containers/{ref}/start").status == 204
    assert client.until(b"end\n") == b"x" * 300000 + b"\nend\n"
    assert client.event() == CloseConnection(code=1000, reason="")


def test_old_output_only(engine):
    ref = engine.run("echo", "old")
    engine.wait(ref)
    client = attach(engine, ref, "logs=1&stdout=1")
    assert client.until(b"old\n") == b"old\n"
    assert isinstance(client.event(), CloseConnection)


def test_a_client_that_goes_leaves_nothing(engine):
    ref = engine.run("sleep", "1000", OpenStdin=True)
    before = len(engine.api("GET", "/info").body)
    for _ in range(20):
        attach(engine, ref).sock.close()
    assert abs(len(engine.api("GET", "/info").body) - before) < 50
    assert engine.inspect(ref)["State"]["Running"]


@pytest.mark.parametrize("headers", [
    {}, {"Upgrade": "websocket", "Connection": "Upgrade"},
    {"Upgrade": "tcp", "Connection": "Upgrade", "Sec-WebSocket-Key": "dGhlIHNhbXBsZSBub25jZQ==", "Sec-WebSocket-Version": "13"},
    {"Upgrade": "websocket", "Connection": "Upgrade", "Sec-WebSocket-Key": "x", "Sec-WebSocket-Version": "8"},
])
def test_what_is_no_handshake_is_refused(engine, headers):
    ref = engine.create()
    answer = engine.api("GET", f"/containers/{ref}/attach/ws", headers=headers)
    assert (answer.status, answer.message) == (400, "bad websocket handshake")


def test_an_unknown_container_is_told_before_the_upgrade(engine):
    client = Client(engine, "/containers/none/attach/ws?stream=1")
    assert isinstance(client.first, RejectConnection) and client.first.status_code == 404
