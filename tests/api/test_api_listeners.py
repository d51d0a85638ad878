"""Who may talk to the API and how: TLS with certificates on both sides, the read-only socket, no plain TCP."""

import json
import os
import re
import shlex
import socket
import ssl
import subprocess
import sys

import pytest
from certificates import authority, certificate
from corten_command import COMMAND
from daemon_process import DOCKER, Daemon, call


class Secure:
    def __init__(self, folder):
        self.ca = authority(folder, "ca")
        self.server = certificate(folder, "server", self.ca, "serverAuth")
        self.client = certificate(folder, "client", self.ca, "clientAuth")
        self.stranger = certificate(folder, "stranger", authority(folder, "other"), "clientAuth")
        self.read_only = f"{folder}/ro.sock"
        self.daemon = Daemon(
            "-H", "tcp://127.0.0.1:0", "--tlsverify", "--tlscacert", self.ca[0], "--tlscert", self.server[0], "--tlskey",
            self.server[1], "--read-only-host", f"unix://{self.read_only}").start()
        self.daemon.load_busybox()
        self.port = int(re.search(r"127\.0\.0\.1 port (\d+), with TLS", self.daemon.output())[1])

    def connect(self, pair=None):
        context = ssl.create_default_context(cafile=self.ca[0])
        if pair:
            context.load_cert_chain(*pair)
        raw = socket.create_connection(("127.0.0.1", self.port), timeout=30)
        return context.wrap_socket(raw, server_hostname="localhost")

    def docker(self, *arguments, stdin=""):
        return subprocess.run(
            [DOCKER, "-H", f"tcp://127.0.0.1:{self.port}", "--tlsverify", "--tlscacert", self.ca[0], "--tlscert",
             self.client[0], "--tlskey", self.client[1], *arguments], input=stdin, capture_output=True, text=True, timeout=180)


@pytest.fixture(scope="module")
def secure(tmp_path_factory):
    if os.geteuid() != 0:
        pytest.skip("needs root")
    made = Secure(str(tmp_path_factory.mktemp("tls")))
    yield made
    made.daemon.close()


def ask(connection):
    connection.sendall(b"GET /_ping HTTP/1.1\r\nHost: d\r\n\r\n")
    return connection.recv(4096)


def test_a_client_with_a_certificate_is_served(secure):
    with secure.connect(secure.client) as connection:
        assert ask(connection).startswith(b"HTTP/1.1 200") and ask(connection).endswith(b"OK")


@pytest.mark.parametrize("who", ["nobody", "stranger"])
def test_a_client_without_one_is_not(secure, who):
    with pytest.raises((ssl.SSLError, ConnectionError, BrokenPipeError)):
        with secure.connect(secure.stranger if who == "stranger" else None) as connection:
            if not ask(connection):  # TLS 1.3: the refusal comes after our side of the handshake
                raise ConnectionResetError


def test_what_is_no_handshake_harms_nobody(secure):
    for data in (b"GET /_ping HTTP/1.1\r\n\r\n", b"\x16\x03\x01" + b"\xff" * 500, b""):
        with socket.create_connection(("127.0.0.1", secure.port), timeout=30) as plain:
            plain.sendall(data)
            plain.shutdown(socket.SHUT_WR)
            while plain.recv(4096):
                pass
    test_a_client_with_a_certificate_is_served(secure)


def test_docker_over_tls(secure):
    done = secure.docker("run", "--rm", "-i", "busybox", "sh", "-c", "cat; echo err >&2; exit 3", stdin="to the end\n")
    assert (done.returncode, done.stdout, done.stderr) == (3, "to the end\n", "err\n")
    assert secure.docker("run", "-d", "--name", "far", "busybox", "sleep", "1000").returncode == 0
    done = secure.docker("exec", "-i", "far", "wc", "-c", stdin="x" * 300000)
    assert done.stdout == "300000\n"
    done = secure.docker("exec", "far", "sh", "-c", "head -c 3000000 /dev/zero | tr '\\0' y")
    assert done.stdout == "y" * 3000000
    assert secure.docker("rm", "-f", "far").stdout == "far\n"


def corten(*words, stdin="", **environment):
    """Our command line with nothing of this machine's settings."""
    inherited = {name: value for name, value in os.environ.items() if not name.startswith(("DOCKER_", "CORTEN_"))}
    return subprocess.run([*COMMAND, *words], input=stdin, capture_output=True, text=True, timeout=180,
                          env={**inherited, "HOME": "/nonexistent", **environment})


def test_our_command_line_over_tls(secure, tmp_path):
    flags = ["-H", f"tcp://127.0.0.1:{secure.port}", "--tlsverify", "--tlscacert", secure.ca[0], "--tlscert",
             secure.client[0], "--tlskey", secure.client[1]]
    done = corten(*flags, "run", "--rm", "-i", "busybox", "sh", "-c", "cat; echo err >&2; exit 3", stdin="to the end\n")
    assert (done.returncode, done.stdout, done.stderr) == (3, "to the end\n", "err\n")
    done = corten(*flags, "run", "--rm", "busybox", "sh", "-c", "head -c 3000000 /dev/zero | tr '\\0' y")
    assert done.stdout == "y" * 3000000
    done = corten(*flags, "run", "--rm", "-i", "busybox", "wc", "-c", stdin="x" * 300000)
    assert done.stdout == "300000\n"
    for name, path in (("ca", secure.ca[0]), ("cert", secure.client[0]), ("key", secure.client[1])):
        os.symlink(path, tmp_path / f"{name}.pem")
    named = {"DOCKER_HOST": f"tcp://localhost:{secure.port}", "DOCKER_TLS_VERIFY": "1", "DOCKER_CERT_PATH": str(tmp_path)}
    assert corten("version", "--format", "{{.Server.Os}}", **named).stdout == "linux\n"
    os.unlink(tmp_path / "ca.pem")
    assert "certificate verify failed" in corten("ps", **named).stderr
    assert corten("--tls", "version", "--format", "{{.Server.Os}}", **named | {"DOCKER_TLS_VERIFY": ""}).stdout == "linux\n"
    assert corten("-H", named["DOCKER_HOST"], "ps").returncode == 1


def test_our_command_line_in_a_context_of_dockers(secure, tmp_path):
    where = f"host=tcp://127.0.0.1:{secure.port},ca={secure.ca[0]},cert={secure.client[0]},key={secure.client[1]}"
    settings = {"DOCKER_CONFIG": str(tmp_path)}
    subprocess.run([DOCKER, "context", "create", "far", "--docker", where], check=True, capture_output=True,
                   env={**os.environ, **settings})
    assert corten("--context", "far", "version", "--format", "{{.Server.Os}}", **settings).stdout == "linux\n"
    assert corten("version", "--format", "{{.Server.Os}}", DOCKER_CONTEXT="far", **settings).stdout == "linux\n"
    assert "context not found" in corten("-c", "nowhere", "ps", **settings).stderr
    assert "both --host and --context" in corten("-c", "far", "-H", "unix:///x", "ps", **settings).stderr


def test_our_command_line_through_ssh(secure, tmp_path):
    """What ssh is told; a shell here stands for the one at the other end."""
    (tmp_path / "ssh").write_text('#!/bin/sh\necho "$@" >>"$0.log"\nfor last; do :; done\nexec sh -c "$last"\n')
    (tmp_path / "corten").write_text("#!/bin/sh\nexec " + " ".join(map(shlex.quote, COMMAND)) + ' "$@"\n')
    for name in ("ssh", "corten"):
        os.chmod(tmp_path / name, 0o755)
    path = {"PATH": f"{tmp_path}:{os.environ['PATH']}"}
    host = f"ssh://me@there:2222{secure.daemon.socket}"
    done = corten("-H", host, "run", "--rm", "-i", "busybox", "sh", "-c", "cat; exit 4", stdin="over ssh\n", **path)
    assert (done.returncode, done.stdout) == (4, "over ssh\n")
    said = (tmp_path / "ssh.log").read_text()
    assert said.startswith("-l me -p 2222 -o ConnectTimeout=30 -T -- there if command -v corten")
    assert "invalid ssh host" in corten("-H", "ssh://-oProxyCommand=x", "ps", **path).stderr


def test_a_client_that_goes_is_let_go(secure):
    with secure.connect(secure.client) as connection:
        connection.sendall(b"GET /events HTTP/1.1\r\nHost: d\r\n\r\n")
        assert connection.recv(4096).startswith(b"HTTP/1.1 200")
        assert secure.daemon.api("GET", "/info").json["NEventsListener"] == 1
    for _ in range(3000):
        if not secure.daemon.api("GET", "/info").json["NEventsListener"]:
            return
    pytest.fail("the stream of a client that has gone is kept")


def test_the_read_only_socket(secure):
    def look(method, url, body=None):
        return call(secure.read_only, method, url, body)

    ref = secure.daemon.run("sleep", "1000")
    assert os.stat(secure.read_only).st_mode & 0o777 == 0o600
    for url in ("/_ping", "/info", "/containers/json", f"/v1.40/containers/{ref}/json", f"/containers/{ref}/logs?stdout=1"):
        assert look("GET", url).status == 200
    for method, url in (
        ("POST", f"/containers/{ref}/stop"), ("DELETE", f"/containers/{ref}"), ("POST", "/containers/create"),
        ("POST", f"/containers/{ref}/exec"), ("GET", f"/containers/{ref}/attach/ws"), ("GET", f"/containers/{ref}/export"),
        ("GET", f"/v1.44/containers/{ref}/archive?path=/etc"), ("GET", "/images/busybox/get"), ("POST", "/build"),
    ):
        answer = look(method, url, b"" if method == "POST" else None)
        assert (answer.status, answer.message) == (403, "this socket is for looking only"), url
    assert secure.daemon.inspect(ref)["State"]["Running"]


@pytest.mark.parametrize(("flags", "text"), [
    (["-H", "tcp://127.0.0.1:0"], "tcp needs --tlsverify"),
    (["-H", "tcp://x:99999", "--tlsverify"], "not tcp://host:port"),
    (["-H", "fd://"], "unix:///path and tcp://host:port are supported"),
    (["-H", "tcp://127.0.0.1:0", "--tlsverify", "--tlscert", "/none", "--tlskey", "/none"], "could not load X509 key pair"),
])
def test_hosts_that_are_refused(tmp_path, flags, text):
    done = subprocess.run(
        [sys.executable, "-m", "corten.daemon.main", "--data-root", f"{tmp_path}/d", "--exec-root", f"{tmp_path}/r", *flags],
        capture_output=True, text=True, timeout=180, stdin=subprocess.DEVNULL)
    assert done.returncode == 1 and text in done.stderr, done.stderr
    assert json.dumps(sorted(os.listdir(tmp_path))) in ("[]", '["d", "r"]')
