"""Engine and gateway judge one request alike: what explain says of a request is what Envoy does with it.

Requests are put together from the pieces that parsers are known to differ on: escapes, dots, slashes, semicolons,
hosts, absolute targets, headers that are long, twice there, or badly named. Always the same ones, by a seed.
"""

import random
import socket

from corten.gateway import render
from corten.gateway.explain import explain
from corten.gateway.model import to_document
from corten.gateway.resolve import resolve
from corten.gateway.xds_mesh import Site

COUNT = 4000

DOCUMENTS = [
    {"kind": "Api", "name": "a", "routes": [
        {"path": "/a", "respond": {"body": "0"}}, {"path": "/a/b", "methods": ["PUT"], "respond": {"body": "1"}},
        {"exact": "/a/b", "respond": {"body": "2"}}, {"regex": "/a/[0-9]+", "respond": {"body": "3"}},
        {"path": "/a", "headers": {"X-V": "2"}, "respond": {"body": "4"}}, {"path": "/a", "query": {"w": "*"}, "respond": {"body": "5"}},
        {"path": "/a/;x", "respond": {"body": "6"}}, {"path": "/a", "headers": {"X-W": "1,2"}, "respond": {"body": "7"}},
        {"path": "/a", "query": {"v": "2"}, "respond": {"body": "8"}}]},
    {"kind": "Api", "name": "h", "hosts": ["h.example", "*.h.example"], "routes": [{"path": "/", "respond": {"body": "h"}}]}]

PIECES = ("/", "//", "/a", "/a", "/a/b", "/b", "/7", "/.", "/..", "/.;x", "/..;x", "/./", "/../", "/%2e", "/%2E%2e/", "%2f", "%2F", "%5c", "\\", ";", "/;x",
          ";x=1", "%3b", "%61", "%41", "%zz", "%", "%7e", "~", "%23", "%3f", "*", "%20", "+", "@", ":", "A", "..", ".", "%00", "%0a",
          "%c3%a9", "%2561", "%252f", "&", "=", "!", "/a%2fb", "/a/../a", "x" * 300)
QUERIES = ("", "", "", "?", "?v", "?v=", "?v=2", "?v=1&v=2", "?%76=2", "?v=%32", "?x=/../", "?V=2", "?v;v=2", "?a&v=2", "?v=2#f", "?v=a+b", "?w", "?w=1", "?%77", "?W=1", "?w&v=2", "?v=2&v=1", "?v=2;", "?v=+2", "?v==2", "?&v=2", "?v=2&")
HOSTS = ("any.example", "any.example", "h.example", "H.Example", "h.example:80", "x.h.example", "h.example.", "xh.example", "h.example:8x",
         "[::1]", "[::1]:80", "1.2.3.4")
HEADERS = ((), (), ("X-V: 2",), ("x-v:2",), ("X-V:   2  ",), ("X-V: 1", "X-V: 2"), ("X-V: 2", "X-V: 3"), ("X-W: 1", "X-W: 2"), ("X-W: 1,2",), ("X-W: 1, 2",), ("X-V:",), ("X_V: 2",), ("X-V: 2", "Y_z: 1"),
           ("X-Long: " + "y" * 20_000, "X-V: 2"), ("X-Very-Long: " + "y" * 80_000,), tuple(f"X-{n}: 1" for n in range(150)))


def requests(seed):
    """(method, target, host, header lines, absolute) without end."""
    dice = random.Random(seed)
    while True:
        path = "".join(dice.choice(PIECES) for _ in range(dice.randint(1, 4)))
        if not path.startswith("/"):
            path = "/" + path
        yield (dice.choice(("GET", "GET", "PUT", "OPTIONS", "BREW")), path + dice.choice(QUERIES), dice.choice(HOSTS),
               dice.choice(HEADERS) if dice.random() < 0.3 else (), dice.random() < 0.1)


class Line:
    """One connection that is opened again when Envoy closes it."""

    def __init__(self, port):
        self.port, self.socket, self.rest = port, None, b""

    def ask(self, method, target, host, headers, absolute):
        """What became of it: the number of a route, `h`, or a status."""
        if self.socket is None:
            self.socket, self.rest = socket.create_connection(("127.0.0.1", self.port), 60), b""
        other = "elsewhere.example" if absolute else host
        first = f"http://{host}{target}" if absolute else target
        text = "".join(f"{line}\r\n" for line in (f"{method} {first} HTTP/1.1", f"Host: {other}", *headers)) + "\r\n"
        try:
            self.socket.sendall(text.encode("latin-1"))
        except OSError:
            pass  # refused while it was being sent: the answer is there
        try:
            while b"\r\n\r\n" not in self.rest:
                data = self.socket.recv(65536)
                if not data:
                    break
                self.rest += data
        except ConnectionResetError:
            pass
        head, _, self.rest = self.rest.partition(b"\r\n\r\n")
        words = head.decode("latin-1").lower()
        status = words.split()[1] if words else "closed"
        length = int(words.partition("content-length: ")[2].split("\r")[0] or 0) if "content-length: " in words else 0
        while len(self.rest) < length:
            self.rest += self.socket.recv(65536)
        body, self.rest = self.rest[:length].decode(), self.rest[length:]
        if not words or "connection: close" in words:
            self.socket.close()
            self.socket = None
        return body if status == "200" else status


def explained(served, place, method, target, host, headers):
    found = explain(served, {"Method": method, "Url": f"http://{host}{target}", "Headers": headers}, place)
    if found["Route"]:
        return "h" if found["Route"]["Api"] == "h" else found["Route"]["Name"].rpartition("#")[2]
    return found["Steps"][-1].rpartition(": ")[2]


def test_explain_and_envoy_judge_mutated_requests_alike(world):
    world.applied(*DOCUMENTS)
    world.until(200, "/a")
    served = resolve([to_document(one) for one in DOCUMENTS], [])
    place = render.Place(Site("/x", "/x", "x.example", "/x"), ("127.0.0.1", 80), ("127.0.0.1", 443), str, lambda hosts: ("", ""))
    line, wrong, seen = Line(world.port), {}, {}
    for number, (method, target, host, headers, absolute) in zip(range(COUNT), requests(28), strict=False):
        got = line.ask(method, target, host, headers, absolute)
        lines = [one.partition(":")[::2] for one in headers]
        said = explained(served, place, method, target, host if absolute else "elsewhere.example",
                         lines if absolute else [("Host", host), *lines])
        seen[got] = seen.get(got, 0) + 1
        if got != said:
            wrong[number] = (method, target[:80], host, [one[:40] for one in headers][:3], absolute, f"Envoy {got}, explain {said}")
    if line.socket:
        line.socket.close()
    assert not wrong, "\n".join(map(str, list(wrong.values())[:40])) + f"\n{len(wrong)} of {COUNT}"
    assert {"0", "1", "2", "3", "4", "5", "6", "7", "8", "h", "404", "400"} <= set(seen), seen
