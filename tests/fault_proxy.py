"""A small HTTP proxy before a registry that misbehaves as a test tells it to.

    with fault_proxy(registry.host, rule) as proxy:
        pull from proxy.host ...
        proxy.seen          # [(method, path, headers), ...]

`rule(request) -> Fault | None` is asked for every request; None forwards it unharmed. It serves as HTTP proxy too (absolute
URLs, CONNECT): everything goes to the one target.
"""

import contextlib
import http.client
import select
import socket
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


class Fault:
    """What to do instead of forwarding, or with the answer.

    status/headers/body: answer this. cut_after: hang up after so many body bytes. drip_s: one byte each so many
    seconds. flip: change one byte of the body. no_range: forward without the Range header. cut_upload: hang up after so
    many bytes of the request's body.
    """

    def __init__(
        self, status=None, headers=None, body=b"", cut_after=None, drip_s=None, flip=False, no_range=False, cut_upload=None
    ):
        self.status, self.headers, self.body = status, headers or {}, body
        self.cut_after, self.drip_s, self.flip, self.no_range = cut_after, drip_s, flip, no_range
        self.cut_upload = cut_upload


class Proxy:
    def __init__(self, target, rule):
        self.target, self.rule = target, rule
        self.seen = []
        self.lock = threading.Lock()

    def blob_requests(self):
        return [(path, headers) for method, path, headers in self.seen if method == "GET" and "/blobs/" in path]


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    proxy: Proxy

    def log_message(self, *_arguments):
        pass

    def _any(self):
        headers = {name.lower(): value for name, value in self.headers.items()}
        with self.proxy.lock:
            self.proxy.seen.append((self.command, self.path, headers))
        fault = self.proxy.rule(self) or Fault()
        if fault.status is not None:
            return self._answer(fault.status, fault.headers, fault.body)
        body = self._body(fault)
        if body is None:
            return None
        if fault.no_range:
            headers.pop("range", None)
        connection = http.client.HTTPConnection(self.proxy.target, timeout=30)
        try:
            connection.request(self.command, self.path, body or None, {**headers, "host": self.headers["Host"]})
            answer = connection.getresponse()
            data = answer.read()
            kept = {name: value for name, value in answer.getheaders() if name.lower() not in ("connection", "date")}
            self._relay(answer.status, kept, data, fault)
        finally:
            connection.close()

    def do_CONNECT(self):
        """A tunnel to the target, whatever host was asked for."""
        with self.proxy.lock:
            self.proxy.seen.append((self.command, self.path, {name.lower(): value for name, value in self.headers.items()}))
        host, _, port = self.proxy.target.partition(":")
        with socket.create_connection((host, int(port)), timeout=30) as other:
            self.send_response(200)
            self.end_headers()
            pair = {self.connection: other, other: self.connection}
            while True:
                for ready in select.select(list(pair), [], [], 30)[0]:
                    data = ready.recv(65536)
                    if not data:
                        self.close_connection = True
                        return
                    pair[ready].sendall(data)

    do_GET = do_HEAD = do_POST = do_PUT = do_PATCH = do_DELETE = _any

    def _body(self, fault):
        if self.headers.get("Transfer-Encoding", "").lower() == "chunked":
            parts = []
            while size := int(self.rfile.readline(), 16):
                parts.append(self.rfile.read(size))
                self.rfile.readline()
            self.rfile.readline()
            return b"".join(parts)
        length = int(self.headers.get("Content-Length") or 0)
        if fault.cut_upload is not None:
            self.rfile.read(min(length, fault.cut_upload))
            self.close_connection = True
            return None
        return self.rfile.read(length)

    def _answer(self, status, headers, body):
        self.rfile.read(int(self.headers.get("Content-Length") or 0))
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def _relay(self, status, headers, data, fault):
        self.send_response(status)
        for name, value in headers.items():
            if name.lower() != "transfer-encoding":
                self.send_header(name, value)
        if not any(name.lower() == "content-length" for name in headers):
            self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        if self.command == "HEAD":
            return
        if fault.flip:
            data = data[:-1] + bytes([data[-1] ^ 1])
        if fault.drip_s is not None:
            with contextlib.suppress(OSError):
                for at in range(len(data)):
                    self.wfile.write(data[at:at + 1])
                    self.wfile.flush()
                    time.sleep(fault.drip_s)
        elif fault.cut_after is not None:
            self.wfile.write(data[:fault.cut_after])
            self.wfile.flush()
            self.close_connection = True
        else:
            self.wfile.write(data)


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, request, client_address):
        pass  # clients hang up here on purpose


@contextlib.contextmanager
def fault_proxy(target, rule=lambda _request: None):
    """A proxy before `target` (`host:port`) for the length of the block."""
    proxy = Proxy(target, rule)
    server = _Server(("127.0.0.1", 0), type("Handler", (_Handler,), {"proxy": proxy}))
    proxy.port = server.server_address[1]
    proxy.host = f"127.0.0.1:{proxy.port}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    try:
        yield proxy
    finally:
        server.shutdown()
        server.server_close()
