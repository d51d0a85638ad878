"""The common functions, each by a request that is let through and one that is not."""

import base64
import http.server
import json
import socket
import subprocess
import threading
import time
from collections import Counter

import pytest
from gateway_world import wait_until

# --- what the tests bring along: keys, tokens, small servers


def b64(data):
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


class Issuer:
    """An issuer of tokens: `jwks` is its key set, `token(**claims)` a signed one."""

    def __init__(self, name="https://id.example", kid="k1"):
        from cryptography.hazmat.primitives.asymmetric import ec

        self.name, self.kid, self.key = name, kid, ec.generate_private_key(ec.SECP256R1())
        numbers = self.key.public_key().public_numbers()
        self.jwks = {"keys": [{"kty": "EC", "crv": "P-256", "alg": "ES256", "use": "sig", "kid": kid,
                               "x": b64(numbers.x.to_bytes(32, "big")), "y": b64(numbers.y.to_bytes(32, "big"))}]}

    def token(self, **claims):
        from cryptography.hazmat.primitives import hashes
        from cryptography.hazmat.primitives.asymmetric import ec
        from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature

        head = {"alg": "ES256", "typ": "JWT", "kid": self.kid}
        body = {"iss": self.name, "exp": int(time.time()) + 600, **claims}
        text = ".".join(b64(json.dumps(part).encode()) for part in (head, body))
        r, s = decode_dss_signature(self.key.sign(text.encode(), ec.ECDSA(hashes.SHA256())))
        return f"{text}.{b64(r.to_bytes(32, 'big') + s.to_bytes(32, 'big'))}"


class Server:
    """A small web server on a port of its own; `answer(handler)` gives (status, headers, body)."""

    def __init__(self, answer):
        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self):
                body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
                status, headers, data = answer(self, body)
                self.send_response(status)
                for name, value in {**headers, "Content-Length": str(len(data))}.items():
                    self.send_header(name, value)
                self.end_headers()
                if self.command != "HEAD":
                    self.wfile.write(data)

            do_POST = do_PUT = do_DELETE = do_HEAD = do_GET

            def log_message(self, *words):
                pass

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True
        self.server.socket.setblocking(False)  # a caller that is gone again must not hold up the next, or the end
        self.port = self.server.server_address[1]
        self.address = f"127.0.0.1:{self.port}"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def close(self):
        self.server.shutdown()
        self.server.server_close()


@pytest.fixture
def serve():
    """Start small servers; they end with the test."""
    servers = []

    def start(answer):
        servers.append(Server(answer))
        return servers[-1]

    yield start
    for server in servers:
        server.close()


def told(handler, body=b""):
    """Answer with what came: method, path, headers, body."""
    lines = [f"{handler.command} {handler.path}", *(f"{k.lower()}: {v}" for k, v in handler.headers.items()), "", body.decode()]
    return 200, {"Content-Type": "text/plain"}, "\n".join(lines).encode()


@pytest.fixture
def echo(serve):
    """A backend outside the engine that tells what it was asked."""
    return serve(told)


def bearer(token):
    return "-H", f"Authorization: Bearer {token}"


def served(world, echo, policy, path="/x", name="x", **more):
    """An Api at `path` with a policy."""
    world.applied({"kind": "Api", "name": name, "routes": [{"path": path, "policy": policy}],
                   "backends": [{"address": echo.address}], **more})


# --- who is calling


def test_jwt_with_keys_given_roles_and_claims(world, echo):
    issuer, other = Issuer(), Issuer()
    served(world, echo, {
        "jwt": {"issuer": issuer.name, "audiences": ["shop"], "keys": json.dumps(issuer.jwks), "claims": {"sub": "X-User"}},
        "allow": [{"claims": {"role": ["admin"]}}, {"claims": {"groups": ["readers"]}, "methods": ["GET"], "paths": ["/x/open/*"]}],
    })
    good = issuer.token(sub="ann", aud="shop", role="admin")
    answer = world.until(200, "/x", *bearer(good), "-H", "X-User: root")
    assert "x-user: ann\n" in answer.text and "x-user: root" not in answer.text
    assert "authorization:" not in answer.text, "the token is not handed on unless asked"
    reader = issuer.token(sub="bob", aud="shop", groups=["a", "readers"])
    for status, words in (
        (401, ("/x",)), (401, ("/x", *bearer(other.token(aud="shop", role="admin")))), (401, ("/x", *bearer(good[:-2]))),
        (403, ("/x", *bearer(issuer.token(aud="other", role="admin")))), (401, ("/x", *bearer(issuer.token(aud="shop", role="admin", exp=5)))),
        (403, ("/x", *bearer(issuer.token(aud="shop", role="clerk")))), (200, ("/x/open/1", *bearer(reader))),
        (403, ("/x/open/1", "-XPOST", *bearer(reader))), (403, ("/x/shut", *bearer(reader))), (403, ("/x/open/../shut", *bearer(reader))),
    ):
        assert world.curl(*words).status == status, words
    def told():  # Envoy writes its lines every tenth of a second
        line = json.loads(world.cli("gateway", "audit", "--format", "json", "--tail", "1").stdout)
        return line["status"], line["subject"], line["why"]

    wait_until(lambda: told() == (403, "bob", "rbac_access_denied_matched_policy[none]"), 90)


def test_jwt_keys_from_a_file_and_from_a_url_are_rotated(world, echo, serve, tmp_path):
    first, second = Issuer(), Issuer(kid="k2")
    path = tmp_path / "jwks.json"
    path.write_text(json.dumps(first.jwks))
    served(world, echo, {"jwt": {"keysFile": str(path)}}, "/file", "file")
    assert world.until(200, "/file", *bearer(first.token())).status == 200
    assert world.curl("/file", *bearer(second.token())).status == 401
    (tmp_path / "new").write_text(json.dumps(second.jwks))
    (tmp_path / "new").rename(path)
    world.until(200, "/file", *bearer(second.token()))
    assert world.curl("/file", *bearer(first.token())).status == 401
    keys = serve(lambda handler, body: (200, {"Content-Type": "application/json"}, json.dumps(first.jwks).encode()))
    served(world, echo, {"jwt": {"keysUrl": f"http://{keys.address}/jwks"}}, "/url", "url")
    world.until(200, "/url", *bearer(first.token()))
    assert world.curl("/url", *bearer(second.token())).status == 401


def test_an_optional_token_does_not_let_a_claimed_name_through(world, echo):
    issuer = Issuer()
    served(world, echo, {"jwt": {"keys": json.dumps(issuer.jwks), "optional": True, "claims": {"sub": "X-User"}}})
    assert "x-user:" not in world.until(200, "/x", "-H", "X-User: root").text
    assert "x-user: ann" in world.curl("/x", *bearer(issuer.token(sub="ann"))).text
    assert world.curl("/x", *bearer("rubbish")).status == 401


def test_api_keys_never_reach_the_backend_and_have_names(world, echo):
    served(world, echo, {"apiKeys": {"keys": {"mobile": "mobile-key", "partner": "partner-key"}},
                         "allow": [{"keys": ["mobile"]}, {"keys": ["partner"], "methods": ["GET"]}]})
    answer = world.until(200, "/x", "-H", "X-Api-Key: mobile-key", "-H", "X-Corten-Client: partner")
    assert "mobile-key" not in answer.text and "x-corten-client: mobile" in answer.text and "partner" not in answer.text
    for status, words in ((401, ()), (401, ("-H", "X-Api-Key: wrong-key")), (200, ("-H", "X-Api-Key: partner-key")),
                          (403, ("-XPUT", "-H", "X-Api-Key: partner-key")), (401, ("-H", "X-Corten-Client: mobile"))):
        assert world.curl("/x", *words).status == status, words
    served(world, echo, {"apiKeys": {"keys": {"web": "secret-of-web"}, "query": "key"}}, "/query", "query")
    answer = world.until(200, "/query?a=1&key=secret-of-web")
    assert "secret-of-web" not in answer.text and "a=1" in answer.text
    served(world, echo, {}, "/open", "open")
    assert "x-corten-client" not in world.until(200, "/open", "-H", "X-Corten-Client: mobile").text
    assert "mobile-key" not in world.cli("gateway", "show", "x").stdout
    assert "secret-of-web" not in world.cli("gateway", "audit", "--format", "json").stdout


def test_an_authorizer_decides_and_adds_headers(world, echo, serve):
    dead = []

    def decide(handler, body):
        if dead:
            handler.connection.shutdown(socket.SHUT_RDWR)
        if handler.headers.get("X-Team") == "blue" and handler.path.startswith("/check/x"):
            return 200, {"X-Seat": "12"}, b""
        return 403, {}, b"not your team"

    judge = serve(decide)
    served(world, echo, {"authorizer": {"url": f"http://{judge.address}/check", "pass": ["X-Seat"]}})
    answer = world.until(200, "/x/1", "-H", "X-Team: blue", "-H", "X-Seat: 99")
    assert "x-seat: 12" in answer.text and "x-seat: 99" not in answer.text
    refused = world.curl("/x/1", "-H", "X-Team: red")
    assert (refused.status, refused.text) == (403, "not your team")
    served(world, echo, {"authorizer": {"url": f"http://{judge.address}/check/x"}}, "/bare", "bare")
    assert "x-seat" not in world.until(200, "/bare", "-H", "X-Team: blue").text  # nothing to pass on
    dead.append(True)
    assert world.curl("/x/1", "-H", "X-Team: blue").status == 403  # nobody to ask: nobody passes


def test_an_authorizer_by_grpc_decides_and_adds_headers(world, echo):
    """Envoy's own service, Authorization/Check: here in its wire format, field by field."""
    import asyncio

    from grpclib.const import Cardinality
    from grpclib.const import Handler as Handling
    from grpclib.server import Server as GrpcServer

    class Raw:
        __content_subtype__ = "proto"

        def encode(self, message, kind):
            return message

        def decode(self, data, kind):
            return data

    def field(number, data):
        return bytes([number << 3 | 2, len(data)]) + data

    seat = field(1, field(1, b"x-seat") + field(2, b"12"))  # HeaderValueOption.header
    asked = []

    class Judge:
        async def check(self, stream):
            request = await stream.recv_message()
            asked.append(request)
            if b"x-team\x12\x04blue" in request:
                await stream.send_message(field(1, b"") + field(3, field(2, seat)))  # OkHttpResponse.headers
            else:
                denied = field(1, bytes([1 << 3, 0xAD, 0x03])) + field(3, b"not your team")  # 429, body
                await stream.send_message(field(1, bytes([1 << 3, 7])) + field(2, denied))

        def __mapping__(self):
            return {"/envoy.service.auth.v3.Authorization/Check": Handling(self.check, Cardinality.UNARY_UNARY, None, None)}

    async def main():
        server = GrpcServer([Judge()], codec=Raw())
        await server.start("127.0.0.1", 0)
        port = server._server.sockets[0].getsockname()[1]
        try:
            await asyncio.to_thread(served, world, echo, {"authorizer": {"grpc": f"127.0.0.1:{port}"}})
            answer = await asyncio.to_thread(world.until, 200, "/x/1", "-H", "X-Team: blue", "-H", "X-Seat: 99")
            refused = await asyncio.to_thread(world.curl, "/x/1", "-H", "X-Team: red")
        finally:
            server.close()
            await server.wait_closed()
        return answer, refused

    answer, refused = asyncio.run(main())
    assert "x-seat: 12" in answer.text and "x-seat: 99" not in answer.text
    assert (refused.status, refused.text) == (429, "not your team")
    assert any(b"/x/1" in one and b"GET" in one for one in asked)
    assert world.curl("/x/1", "-H", "X-Team: blue").status == 403  # nobody to ask: nobody passes


# --- how much


def test_rates_per_route_client_and_key(world, echo):
    served(world, echo, {"rates": [{"limit": "5/h"}]}, "/route", "route")
    world.until(200, "/route")
    counts = Counter(world.curl("/route").status for _ in range(8))
    assert counts == {200: 4, 429: 4}
    assert world.curl("/route").headers["x-ratelimit-limit"].startswith("5")
    served(world, echo, {"rates": [{"limit": "3/h", "per": "client"}]}, "/client", "client")
    world.until(200, "/client")
    assert Counter(world.curl("/client").status for _ in range(5)) == {200: 2, 429: 3}
    assert world.curl("/client", "--interface", "127.0.0.2").status == 200  # another client has its own
    served(world, echo, {"rates": [{"limit": "2/h", "per": "key"}], "apiKeys": {"keys": {"a": "key-of-a", "b": "key-of-b"}}}, "/key", "key")
    world.until(200, "/key", "-H", "X-Api-Key: key-of-a")
    assert [world.curl("/key", "-H", f"X-Api-Key: key-of-{one}").status for one in "aaab"] == [200, 429, 429, 200]


def test_timeouts_and_circuit_breakers(world, serve):
    gate = threading.Event()

    def slow(handler, body):
        if "fast" not in handler.path:
            gate.wait(100)
        return told(handler)

    backend = serve(slow)
    served(world, backend, {"timeout": "300ms"}, "/slow", "slow")
    assert world.until(200, "/slow/fast") and world.curl("/slow").status == 504
    served(world, backend, {"circuit": {"requests": 2, "pending": 1, "connections": 2}}, "/small", "small")
    world.until(200, "/small/fast")
    asked = [subprocess.Popen(["curl", "-s", "-o", "/dev/null", "-w", "%{http_code}", f"http://127.0.0.1:{world.port}/small"],
                              stdout=subprocess.PIPE, text=True) for _ in range(8)]
    wait_until(lambda: sum(one.poll() is not None for one in asked) >= 5, 60)  # those above two and one waiting
    gate.set()
    counts = Counter(one.communicate()[0] for one in asked)
    assert counts["503"] >= 5 and counts["200"] >= 2, counts


def test_retries_and_outliers(world, serve):
    seen = []

    def shaky(handler, body):
        seen.append(handler.path)
        return (500, {}, b"no") if len(seen) % 2 else told(handler)

    backend = serve(shaky)
    served(world, backend, {"retry": {"attempts": 3, "on": ["5xx"]}}, "/retry", "retry")
    assert Counter(world.until(200, "/retry").status for _ in range(8)) == {200: 8}
    bad, good = serve(lambda handler, body: (500, {}, b"bad")), serve(told)
    world.applied({"kind": "Api", "name": "two", "backends": [{"address": bad.address}, {"address": good.address}],
                   "routes": [{"path": "/two"}], "policy": {"outlier": {"errors": 2, "eject": "5m", "interval": "200ms"}}})
    deadline = time.monotonic() + 90
    while time.monotonic() < deadline:
        if Counter(world.curl("/two").status for _ in range(8)) == {200: 8}:
            return
    raise AssertionError("the failing backend is not ejected")


def test_request_bodies_have_a_limit(world, echo):
    served(world, echo, {"maxBody": "1KiB"})
    assert world.until(200, "/x", "-d", "a" * 1000).text.endswith("a" * 1000)
    assert world.curl("/x", "-d", "a" * 1100).status == 413


# --- what is changed on the way


def test_headers_paths_and_hosts_are_rewritten(world, echo):
    change = {"request": {"set": {"X-Env": "100%"}, "add": {"X-Tag": "b"}, "remove": ["X-Debug"]},
              "response": {"set": {"X-Frame-Options": "DENY"}, "remove": ["Server"]}}
    served(world, echo, {"headers": change, "rewrite": {"path": "/v2", "host": "inner.example"}}, "/x-y.z", "x")
    answer = world.until(200, "/x-y.z/5?q=1", "-H", "X-Debug: 1", "-H", "X-Tag: a")
    lines = answer.text.split("\n")
    assert lines[0] == "GET /v2/5?q=1"
    assert {"host: inner.example", "x-env: 100%", "x-tag: a", "x-tag: b"} <= set(lines) and "x-debug: 1" not in lines
    assert answer.headers["x-frame-options"] == "DENY"
    served(world, echo, {"rewrite": {"path": "/"}}, "/root", "root")
    assert [world.until(200, path).text.split("\n")[0] for path in ("/root", "/root/", "/root/a/b", "/root?c=d")] == [
        "GET /", "GET /", "GET /a/b", "GET /?c=d"]
    served(world, echo, {"rewrite": {"regex": "^/re/(\\d+)/(.*)$", "to": "/\\2/\\1"}}, "/re", "re")
    assert world.until(200, "/re/7/items").text.startswith("GET /items/7\n")


def test_cors(world, echo):
    served(world, echo, {"cors": {"origins": ["https://shop.example", "https://*.partner.example"], "credentials": True, "maxAge": "60s"}},
           routes=[{"path": "/x", "methods": ["GET"], "policy": {
               "cors": {"origins": ["https://shop.example", "https://*.partner.example"], "credentials": True, "maxAge": "60s"}}}])
    ask = ("-XOPTIONS", "-H", "Access-Control-Request-Method: GET")
    allowed = world.until(200, "/x", *ask, "-H", "Origin: https://shop.example")
    assert allowed.headers["access-control-allow-origin"] == "https://shop.example"
    assert allowed.headers["access-control-allow-credentials"] == "true" and allowed.headers["access-control-max-age"] == "60"
    for origin, seen in (("https://a.b.partner.example", True), ("https://partner.example.evil", False), ("https://evilpartner.example", False),
                         ("https://shop.example.evil", False), ("null", False)):
        answer = world.curl("/x", "-H", f"Origin: {origin}")
        assert ("access-control-allow-origin" in answer.headers) is seen, origin


@pytest.mark.parametrize("name", ["gzip", "br", "zstd"])
def test_compression(world, serve, name):
    backend = serve(lambda handler, body: (200, {"Content-Type": "application/json"}, b'{"a":"' + b"b" * 5000 + b'"}'))
    served(world, backend, {"compress": [name]})
    answer = world.until(200, "/x", "-H", f"Accept-Encoding: {name}")
    assert answer.headers["content-encoding"] == name and len(answer.text) < 2000
    assert "content-encoding" not in world.curl("/x").headers


def test_error_pages(world, serve):
    backend = serve(lambda handler, body: (500 if "bad" in handler.path else 200, {}, b"stack trace of the backend"))
    served(world, backend, {"apiKeys": {"keys": {"a": "key-of-a"}}, "errors": {
        "500": {"body": "<h1>Sorry</h1>", "type": "text/html"}, "401": {"body": "{\"error\":\"who are you?\"}", "type": "application/json"}}})
    key = ("-H", "X-Api-Key: key-of-a")
    assert world.until(200, "/x", *key).text == "stack trace of the backend"
    answer = world.curl("/x/bad", *key)
    assert (answer.status, answer.text, answer.headers["content-type"]) == (500, "<h1>Sorry</h1>", "text/html")
    answer = world.curl("/x")
    assert (answer.status, answer.text, answer.headers["content-type"]) == (401, '{"error":"who are you?"}', "application/json")

    def reasons():
        lines = [json.loads(line) for line in world.cli("gateway", "audit", "--format", "json", "--tail", "2").stdout.splitlines()]
        return [(line["path"], line["status"], line["why"]) for line in lines]

    wait_until(lambda: reasons() == [("/x/bad", 500, "via_upstream"), ("/x", 401, "missing_api_key")], 30)


# --- TLS


def test_made_certificates_redirects_and_hosts(world, echo, tmp_path):
    served(world, echo, {}, tls={"mode": "only"}, hosts=["shop.example"])
    (tmp_path / "ca.pem").write_text(world.cli("gateway", "authority").stdout)
    answer = world.until(200, "/x", "--cacert", str(tmp_path / "ca.pem"), host="shop.example", tls=True)
    assert "x-forwarded-proto: https" in answer.text
    plain = world.curl("/x/1?a=b", host="shop.example")
    assert (plain.status, plain.headers["location"]) == (308, f"https://shop.example:{world.tls_port}/x/1?a=b")
    assert world.curl("/x", host="other.example", tls=True).code == 60  # curl does not know this certificate
    done = world.cli("gateway", "test", "https://shop.example/x")
    assert done.stdout.startswith("200\n"), done.stdout + done.stderr


def test_given_certificates_are_renewed_in_place(world, echo, tmp_path):
    def make(number):
        subprocess.run(["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "2",
                        "-set_serial", str(number), "-subj", "/CN=shop.example", "-addext", "subjectAltName=DNS:shop.example",
                        "-keyout", str(tmp_path / "key.new"), "-out", str(tmp_path / "cert.new")], check=True, capture_output=True)
        for name in ("key", "cert"):
            (tmp_path / f"{name}.new").rename(tmp_path / f"{name}.pem")

    make(1)
    served(world, echo, {}, hosts=["shop.example"], tls={"certificate": str(tmp_path / "cert.pem"), "key": str(tmp_path / "key.pem")})
    flags = ("--cacert", str(tmp_path / "cert.pem"))
    world.until(200, "/x", *flags, host="shop.example", tls=True)
    assert world.until(200, "/x", host="shop.example")  # plain HTTP too, unless mode is only
    make(2)
    world.until(200, "/x", *flags, host="shop.example", tls=True)


def test_clients_with_certificates(world, echo, tmp_path):
    def openssl(*words):
        subprocess.run(["openssl", *words], check=True, capture_output=True, cwd=tmp_path)

    for name in ("ca", "forged"):
        openssl("req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "2", "-subj", f"/CN={name}",
                "-keyout", f"{name}.key", "-out", f"{name}.pem")
    (tmp_path / "ext").write_text("subjectAltName=URI:spiffe://shop/partner\n")
    for name, authority in (("partner", "ca"), ("evil", "forged")):
        openssl("req", "-new", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-subj", f"/CN={name}",
                "-keyout", f"{name}.key", "-out", f"{name}.csr")
        openssl("x509", "-req", "-in", f"{name}.csr", "-CA", f"{authority}.pem", "-CAkey", f"{authority}.key", "-CAcreateserial",
                "-days", "2", "-extfile", "ext", "-out", f"{name}.pem")
    world.applied(
        {"kind": "Api", "name": "b2b", "hosts": ["b2b.example"], "tls": {"clients": str(tmp_path / "ca.pem")},
         "backends": [{"address": echo.address}], "routes": [
             {"path": "/", "policy": {"allow": [{"certificates": ["spiffe://shop/partner"]}]}},
             {"path": "/none", "policy": {"allow": [{"certificates": ["spiffe://shop/other"]}]}}]},
        {"kind": "Api", "name": "open", "hosts": ["open.example"], "tls": {}, "backends": [{"address": echo.address}], "routes": [{"path": "/"}]})
    mine = ("-k", "--cert", str(tmp_path / "partner.pem"), "--key", str(tmp_path / "partner.key"))
    forged = ("-k", "--cert", str(tmp_path / "evil.pem"), "--key", str(tmp_path / "evil.key"))
    answer = world.until(200, "/", *mine, "-H", "X-Forwarded-Client-Cert: Subject=root", host="b2b.example", tls=True)
    assert "URI=spiffe://shop/partner" in answer.text and "Subject=root" not in answer.text
    assert world.curl("/none", *mine, host="b2b.example", tls=True).status == 403
    for words in (("-k",), forged):
        assert world.curl("/", *words, host="b2b.example", tls=True).status == 0, words
    assert world.until(200, "/", "-k", host="open.example", tls=True)
    # one name in TLS and another in HTTP: the host that asks for certificates is not there
    assert world.curl("/", "-k", "-H", "Host: b2b.example", host="open.example", tls=True).status == 404
    assert world.curl("/", host="b2b.example").status == 308


# --- other protocols


def test_websocket_goes_through(world, serve):
    import hashlib

    listener = socket.create_server(("127.0.0.1", 0))

    def backend():
        peer, _ = listener.accept()
        head = b""
        while b"\r\n\r\n" not in head:
            head += peer.recv(4096)
        key = next(line.split(b": ")[1] for line in head.split(b"\r\n") if line.lower().startswith(b"sec-websocket-key"))
        accept = base64.b64encode(hashlib.sha1(key + b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11").digest())
        peer.sendall(b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: " + accept + b"\r\n\r\n")
        while data := peer.recv(4096):
            peer.sendall(data[::-1])
        peer.close()

    threading.Thread(target=backend, daemon=True).start()
    world.applied({"kind": "Api", "name": "ws", "routes": [{"path": "/ws"}], "backends": [{"address": f"127.0.0.1:{listener.getsockname()[1]}"}]})
    world.until(404, "/other")
    with socket.create_connection(("127.0.0.1", world.port), 60) as client:
        client.sendall(b"GET /ws HTTP/1.1\r\nHost: any\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
                       b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n")
        client.settimeout(60)
        head = b""
        while b"\r\n\r\n" not in head:
            head += client.recv(4096)
        assert head.startswith(b"HTTP/1.1 101")
        client.sendall(b"olleh")
        assert client.recv(5) == b"hello"
    listener.close()


def test_grpc_goes_through(world):
    import asyncio

    from grpclib.client import Channel, UnaryUnaryMethod
    from grpclib.const import Cardinality
    from grpclib.const import Handler as Handling
    from grpclib.server import Server as GrpcServer

    class Codec:
        __content_subtype__ = "json"

        def encode(self, message, kind):
            return json.dumps(message).encode()

        def decode(self, data, kind):
            return json.loads(data)

    class Orders:
        async def place(self, stream):
            await stream.send_message({"placed": (await stream.recv_message())["item"]})

        def __mapping__(self):
            return {"/shop.Orders/Place": Handling(self.place, Cardinality.UNARY_UNARY, None, None)}

    async def main():
        server = GrpcServer([Orders()], codec=Codec())
        await server.start("127.0.0.1", 0)
        port = server._server.sockets[0].getsockname()[1]
        document = {"kind": "Api", "name": "orders", "routes": [{"path": "/shop.Orders"}],
                    "backends": [{"address": f"127.0.0.1:{port}", "protocol": "http2"}]}
        await asyncio.to_thread(world.applied, document)
        channel = Channel("127.0.0.1", world.port, codec=Codec())
        try:
            return await UnaryUnaryMethod(channel, "/shop.Orders/Place", None, None)({"item": "tea"}, timeout=60)
        finally:
            channel.close()
            server.close()
            await server.wait_closed()

    assert asyncio.run(main()) == {"placed": "tea"}


def test_login_by_openid_connect(world, echo, serve, tmp_path):
    """The provider of this test gives a code to whoever comes, and a token for the code."""
    issued = []

    def provider(handler, body):
        if handler.path.startswith("/authorize"):
            from urllib.parse import parse_qs, urlencode, urlsplit

            asked = parse_qs(urlsplit(handler.path).query)
            assert asked["client_id"] == ["web"] and asked["response_type"] == ["code"]
            return 302, {"Location": asked["redirect_uri"][0] + "?" + urlencode({"code": "c0de", "state": asked["state"][0]})}, b""
        issued.append(body.decode())
        assert "c0de" in body.decode() and "s3cret" in body.decode() + (handler.headers.get("Authorization") or "")
        token = {"access_token": "access-token", "token_type": "Bearer", "expires_in": 3600, "id_token": Issuer().token(sub="ann")}
        return 200, {"Content-Type": "application/json"}, json.dumps(token).encode()

    idp = serve(provider)
    (tmp_path / "secret").write_text("s3cret\n")
    served(world, echo, {"login": {
        "clientId": "web", "clientSecret": f"file:{tmp_path}/secret", "cookieSecret": "a long secret for cookies",
        "authorization": f"http://{idp.address}/authorize", "token": f"http://{idp.address}/token"}})
    jar = str(tmp_path / "jar")
    first = world.until(302, "/x/page")
    assert first.headers["location"].startswith(f"http://{idp.address}/authorize?client_id=web")
    answer = world.curl("/x/page", "-L", "-c", jar, "-b", jar)
    assert issued and "GET /x/page" in answer.text and "authorization: Bearer access-token" in answer.text, answer.text
    forged = world.curl("/x/page", "-H", "Cookie: OauthHMAC=x; OauthExpires=99999999999; BearerToken=x")
    assert forged.status == 302
    assert "s3cret" not in world.cli("gateway", "show", "x").stdout
