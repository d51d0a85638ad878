#!/usr/bin/env python3
"""A small HTTP service: `service.py users` is one service, `service.py users catalogue orders` are all in one process.

A module of this folder says with `@route` what it answers, and asks others by `call` alone, never by import. So who
starts them decides whether two of them are one program or two containers: a call goes to a function, or to the host of
that name on port 8080.
"""

import http.client
import importlib
import json
import os
import re
import signal
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

ROUTES = []  # (service, method, pattern, function)
HERE = []  # the services of this process
PASSED_ON = ("traceparent", "x-request-id", "x-user", "x-role")  # who asks, and the trace, go along


class Problem(Exception):
    """Ends a request: status and text."""

    def __init__(self, status, text):
        super().__init__(text)
        self.status, self.text = status, text


class Asked:
    """A request: `user` and `role` are what the gateway found in the token, `body` is JSON or None."""

    def __init__(self, headers, body, found=()):
        self.headers, self.body, self.found = headers, body, found
        self.user, self.role = headers.get("x-user", ""), headers.get("x-role", "")


def route(method, pattern):
    """The function answers requests whose whole path fits: it gets an Asked, and gives (status, value)."""
    def take(function):
        ROUTES.append((function.__module__, method, re.compile(pattern), function))
        return function
    return take


def answer(method, path, headers, body, service=""):
    """What the services of this process say to a request. Raises Problem."""
    for owner, of, pattern, function in ROUTES:
        found = pattern.fullmatch(path)
        if found and of == method and service in ("", owner):
            return function(Asked(headers, body, found.groups()))
    raise Problem(404, f"nothing here answers {method} {path}")


def call(service, method, path, asked, body=None):
    """Ask another service, for the one who asks us. The value it gives; raises Problem."""
    headers = {name: asked.headers[name] for name in PASSED_ON if name in asked.headers}
    if service in HERE:
        return answer(method, path, headers, body, service)[1]
    connection = http.client.HTTPConnection(service, 8080, timeout=5)
    try:
        connection.request(method, path, json.dumps(body) if body is not None else None, headers)
        reply = connection.getresponse()
        text = reply.read().decode()
    except OSError as error:
        raise Problem(502, f"{service} is not reached: {error}") from None
    finally:
        connection.close()
    if reply.status >= 400:
        raise Problem(502, f"{service} says {reply.status}: {text.strip()}")
    return json.loads(text)


class Handler(BaseHTTPRequestHandler):
    """One connection."""

    protocol_version = "HTTP/1.1"
    timeout = 60

    def do_GET(self):
        """Any method."""
        headers = {name.lower(): value for name, value in self.headers.items()}
        text = self.rfile.read(int(headers.get("content-length") or 0))
        try:
            body = json.loads(text) if text else None
            status, value = answer(self.command, self.path.partition("?")[0], headers, body)
        except Problem as problem:
            status, value = problem.status, {"error": problem.text}
        except (ValueError, KeyError, TypeError) as error:
            status, value = 400, {"error": f"that makes no sense: {error}"}
        drawn = isinstance(value, str)
        data = value.encode() if drawn else json.dumps(value).encode() + b"\n"
        self.send_response(status)
        self.send_header("Content-Type", "image/svg+xml" if drawn else "application/json")
        self.send_header("Content-Length", str(len(data)))
        self.send_header("Served-By", HERE[0] if len(HERE) == 1 else "monolith")
        self.end_headers()
        self.wfile.write(data)

    do_POST = do_PUT = do_DELETE = do_GET

    def log_message(self, format, *words):
        """One line a request on stdout."""
        print(self.command, self.path, words[1] if len(words) > 1 else "", flush=True)


class Server(ThreadingHTTPServer):
    """On all addresses; a connection is no reason to stay."""

    daemon_threads = True
    request_queue_size = 128


def main(names):
    """Serve these services until SIGTERM."""
    sys.modules["service"] = sys.modules["__main__"]
    for name in names:
        importlib.import_module(name)
        HERE.append(name)
    server = Server(("", int(os.environ.get("PORT", "8080"))), Handler)
    signal.signal(signal.SIGTERM, lambda *_: threading.Thread(target=server.shutdown).start())
    server.serve_forever()


if __name__ == "__main__":
    main(sys.argv[1:])
