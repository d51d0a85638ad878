"""Log drivers that send logs elsewhere: what a syslog server hears, through restarts of the server and of the daemon."""

import asyncio
import os
import re
import socket
import ssl
import threading
import time

import pytest
from certificates import authority, certificate

from corten.engine import log_sinks
from corten.engine.log_sinks import JournaldSink, Line

PATIENCE_S = 60


class Server:
    """A syslog server of one kind; `lines` are the messages so far."""

    def __init__(self, kind, address, context=None):
        self.kind, self.lines, self.context = kind, [], context
        if kind == "udp":
            self.socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        elif kind == "unixgram":
            self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        else:
            self.socket = socket.socket(socket.AF_INET if kind == "tcp" else socket.AF_UNIX)
            self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self.socket.bind(address)
        if kind in ("tcp", "unix"):
            self.socket.listen()
        self.clients = []
        threading.Thread(target=self._serve, daemon=True).start()
        name = self.socket.getsockname()
        self.url = f"{kind}://{name if isinstance(name, str) else f'{name[0]}:{name[1]}'}"

    def _serve(self):
        try:
            while True:
                if self.kind in ("udp", "unixgram"):
                    self.lines.append(self.socket.recv(65536))
                else:
                    client, _ = self.socket.accept()
                    if self.context is not None and (client := self._secured(client)) is None:
                        continue
                    self.clients.append(client)
                    threading.Thread(target=self._read, args=(client,), daemon=True).start()
        except OSError:
            pass

    def _secured(self, client):
        client.settimeout(PATIENCE_S)
        try:
            return self.context.wrap_socket(client, server_side=True)
        except OSError:  # ssl.SSLError is one: a client that does not trust us, or that we do not
            client.close()

    def _read(self, client):
        try:
            self.lines.extend(client.makefile("rb"))
        except (OSError, ValueError):
            pass

    def close(self):
        for part in (self.socket, *self.clients):
            try:
                part.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass
            part.close()

    def heard(self, count):
        deadline = time.monotonic() + PATIENCE_S
        while len(self.lines) < count:
            assert time.monotonic() < deadline, self.lines
            time.sleep(0.01)
        return [line.decode() for line in self.lines]


@pytest.fixture
def server(tmp_path):
    made = []

    def make(kind, address=None, context=None):
        address = address or (("127.0.0.1", 0) if kind in ("udp", "tcp") else str(tmp_path / kind))
        made.append(Server(kind, address, context))
        return made[-1]

    yield make
    for each in made:
        each.close()


def logged(url, **options):
    return {"LogConfig": {"Type": "syslog", "Config": {"syslog-address": url, **options}}}


PROGRAM = ("sh", "-c", "echo said; echo; echo wrong >&2; printf unfinished")
UNIX = r"<{}>\w{{3}} [ \d]\d \d\d:\d\d:\d\d {}\[\d+\]: {}\n"


@pytest.mark.parametrize("kind", ["udp", "tcp", "unix", "unixgram"])
def test_lines_come_by_every_road(engine, server, kind):
    syslog = server(kind)
    container = engine.run(*PROGRAM, HostConfig=logged(syslog.url))
    engine.wait(container)
    heard = sorted(syslog.heard(3))
    short = container[:12]
    for line, (priority, text) in zip(heard, [(27, "wrong"), (30, "said"), (30, "unfinished")], strict=True):
        assert re.fullmatch(UNIX.format(priority, short, text), line), line
    assert sorted(engine.logs(container)) == sorted("said\n\nwrong\nunfinished")  # it is kept here too


@pytest.fixture
def secure(server, tmp_path):
    """A syslog server by TLS that wants certificates: (its URL, what it heard, the options that get in)."""
    trusted = authority(tmp_path, "ca")
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH, cafile=trusted[0])
    context.maximum_version = ssl.TLSVersion.TLSv1_2  # a refused certificate fails the handshake on both sides
    context.load_cert_chain(*certificate(tmp_path, "server", trusted, "serverAuth"))
    context.verify_mode = ssl.CERT_REQUIRED
    mine = certificate(tmp_path, "client", trusted, "clientAuth")
    syslog = server("tcp", context=context)
    options = {"syslog-tls-ca-cert": trusted[0], "syslog-tls-cert": mine[0], "syslog-tls-key": mine[1]}
    return syslog.url.replace("tcp:", "tcp+tls:"), syslog, options


def test_lines_come_by_tls(engine, secure):
    url, syslog, options = secure
    engine.wait(engine.run("echo", "said", name="tls", HostConfig=logged(url, **options, **{"syslog-format": "rfc5424"})))
    line, = syslog.heard(1)
    length, _, message = line.partition(" ")
    assert int(length) == len(message) and message.endswith(" - said\n"), line  # RFC 5425, 4.3


def test_a_syslog_server_nobody_vouches_for_is_not_told(engine, secure, tmp_path):
    url, syslog, options = secure

    def start(**changed):
        container = engine.create("echo", "x", HostConfig=logged(url, **{**options, **changed}))
        return container, engine.api("POST", f"/containers/{container}/start")

    other = authority(tmp_path, "other")[0]
    container, answer = start(**{"syslog-tls-ca-cert": other})
    assert answer.status == 500 and answer.message.endswith(
        "logging driver: tls: failed to verify certificate: x509: certificate signed by unknown authority")
    assert engine.inspect(container)["State"]["Status"] == "created"
    stranger = certificate(tmp_path, "stranger", authority(tmp_path, "foreign"), "clientAuth")
    _, answer = start(**{"syslog-tls-cert": stranger[0], "syslog-tls-key": stranger[1]})
    assert answer.status == 500 and not syslog.lines and "tls: " in answer.message
    _, answer = start(**{"syslog-tls-ca-cert": other, "syslog-tls-skip-verify": "true"})
    assert answer.status == 204 and syslog.heard(1)


@pytest.mark.parametrize(("style", "pattern"), [
    ("rfc3164", r"<134>\w{3} [ \d]\d [\d:]{8} HOST me/busybox\[\d+\]: said\n"),
    ("rfc5424", r"<134>1 \d{4}-\d\d-\d\dT[\d:]{8}(Z|[+-]\d\d:\d\d) HOST me/busybox \d+ me/busybox - said\n"),
    ("rfc5424micro", r"<134>1 \d{4}-\d\d-\d\dT[\d:]{8}\.\d{6}(Z|[+-]\d\d:\d\d) HOST me/busybox \d+ me/busybox - said\n"),
])
def test_formats_facility_and_tag(engine, server, style, pattern):
    syslog = server("udp")
    options = {"syslog-format": style, "syslog-facility": "local0", "tag": "{{.Name}}/{{ .ImageName }}"}
    engine.run("echo", "said", name="me", HostConfig=logged(syslog.url, **options))
    line, = syslog.heard(1)
    assert re.fullmatch(pattern.replace("HOST", re.escape(socket.gethostname())), line), line


def test_a_server_that_was_away_misses_nothing(engine, server, tmp_path):
    syslog = server("tcp")
    address = syslog.socket.getsockname()
    (tmp_path / "go").mkdir()
    host = {**logged(syslog.url), "Binds": [f"{tmp_path}/go:/go"]}
    container = engine.run("sh", "-c", "echo 1; while [ ! -e /go/2 ]; do sleep 0.05; done; seq 2 400", HostConfig=host)
    syslog.heard(1)
    syslog.close()
    (tmp_path / "go/2").touch()
    engine.wait(container)
    again = server("tcp", address)
    deadline = time.monotonic() + PATIENCE_S
    while not again.lines or not again.lines[-1].endswith(b": 400\n"):
        assert time.monotonic() < deadline, again.lines
        time.sleep(0.01)
    engine.api("POST", f"/containers/{container}/start")
    while sum(line.endswith(b": 400\n") for line in again.lines) < 2:  # the next run's lines come too
        assert time.monotonic() < deadline, again.lines
        time.sleep(0.01)


def test_the_next_daemon_goes_on(own_engine, server, tmp_path):
    syslog = server("udp")
    host = {**logged(syslog.url), "Binds": [f"{tmp_path}:/go"]}
    container = own_engine.run(
        "sh", "-c", "echo first; while [ ! -e /go/on ]; do sleep 0.05; done; echo meanwhile", HostConfig=host)
    syslog.heard(1)
    own_engine.kill()
    (tmp_path / "on").touch()
    own_engine.start()
    own_engine.wait(container)
    heard = syslog.heard(2)
    assert heard[-1].endswith(": meanwhile\n")


@pytest.mark.parametrize(("options", "text"), [
    ({"syslog-address": "http://x"}, "unsupported scheme: 'http'"),
    ({"syslog-address": "unix:///nowhere"}, "stat /nowhere: no such file or directory"),
    ({"syslog-address": "udp://x:99999"}, "not host:port"),
    ({"syslog-facility": "local9"}, "invalid syslog facility"), ({"syslog-format": "x"}, "Invalid syslog format"),
    ({"max-size": "1m"}, "unknown log opt 'max-size' for syslog log driver"),
    ({"tag": "{{.Nonsense}}"}, "log tag {{.Nonsense}}"), ({"cache-max-size": "x"}, "invalid size: 'x'"),
])
def test_options_are_checked_at_creation(engine, options, text):
    body = {"Image": "busybox", "HostConfig": {"LogConfig": {"Type": "syslog", "Config": options}}}
    answer = engine.api("POST", "/containers/create", body)
    assert answer.status == 400 and text in answer.message


def test_nobody_listening_fails_the_start(engine):
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    container = engine.create("true", HostConfig=logged(f"tcp://127.0.0.1:{port}"))
    answer = engine.api("POST", f"/containers/{container}/start")
    assert answer.status == 500
    assert answer.message == ("failed to create task for container: failed to initialize logging driver: "
                              "connection refused")
    assert engine.inspect(container)["State"]["Status"] == "created"


def test_a_log_without_cache_is_not_shown(engine, server):
    container = engine.run("true", HostConfig=logged(server("udp").url, **{"cache-disabled": "true"}))
    answer = engine.api("GET", f"/containers/{container}/logs?stdout=1")
    assert answer.status == 501 and answer.message == "configured logging driver does not support reading"


@pytest.mark.skipif(os.path.exists(log_sinks.JOURNAL_SOCKET), reason="machine: has a journal")
def test_where_no_journal_is_the_start_says_so(engine):
    container = engine.create("true", HostConfig={"LogConfig": {"Type": "journald"}})
    answer = engine.api("POST", f"/containers/{container}/start")
    assert answer.status == 500 and answer.message.endswith("journald is not enabled on this host")


def test_the_journals_protocol(tmp_path, monkeypatch):
    journal = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    journal.bind(str(tmp_path / "socket"))
    monkeypatch.setattr(log_sinks, "JOURNAL_SOCKET", str(tmp_path / "socket"))

    async def send():
        sink = JournaldSink({"CONTAINER_NAME": "me", "NOTE": "two\nlines"})
        await sink.open()
        await sink.send([Line(0, True, b"wrong"), Line(0, False, b"x" * 200_000)])
        sink.close()

    asyncio.run(send())
    assert journal.recv(65536) == (b"MESSAGE=wrong\nPRIORITY=3\nCONTAINER_NAME=me\nNOTE\n"
                                   + (9).to_bytes(8, "little") + b"two\nlines\n")
    data, (fd,), _, _ = socket.recv_fds(journal, 10, 1)
    with open(fd, "rb") as entry:
        entry.seek(0)
        assert entry.read().startswith(b"MESSAGE=xxx") and data == b""
    journal.close()
