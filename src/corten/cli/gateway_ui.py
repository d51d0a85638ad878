"""`corten gateway ui`: a page that shows the gateway at work, on a port of this machine, while the command runs.

The page can only look. A key that is made anew each time is in the address behind `#`: it reaches no log and no other
page; every question carries it in a header, so there is no cookie that another port of this machine could be sent.
"""

import ipaddress
import secrets
import threading
import time
from hmac import compare_digest
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from importlib.resources import files
from urllib.parse import parse_qs, urlsplit

from corten.base import jsonio
from corten.cli.args import Values
from corten.cli.client import Client
from corten.cli.errors import ApiError, Failure
from corten.cli.gateway import BASE
from corten.cli.gateway_calls import KEPT, Calls
from corten.cli.main import Cli

Json = dict[str, object]
TRUST = "/corten/v1/trust"
WINDOWS_S = (60, 300, 900, 3600)
MAX_AT_ONCE = 64
IDLE_S = 30
ASSETS = {"/": ("index.html", "text/html"), "/page.css": ("page.css", "text/css"),
          "/page.js": ("page.js", "text/javascript")}
GUARDS = {
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; "
                               "base-uri 'none'; form-action 'none'; frame-ancestors 'none'; "
                               "require-trusted-types-for 'script'; trusted-types 'none'",
    "X-Content-Type-Options": "nosniff", "Referrer-Policy": "no-referrer", "Cache-Control": "no-store",
    "Cross-Origin-Resource-Policy": "same-origin", "Cross-Origin-Opener-Policy": "same-origin",
    "X-Frame-Options": "DENY",
}


class Source:
    """What the page asks for, from the engine; one question at a time."""

    def __init__(self, client: Client) -> None:
        self._client = client
        self._calls = Calls()
        self._lock = threading.Lock()
        self._kept: dict[int, tuple[float, bytes]] = {}

    def follow(self) -> None:
        """Read the audit log as it grows, over restarts of the daemon; for a thread of its own."""
        while True:
            try:
                query = [("tail", str(KEPT)), ("follow", "1")]
                lines = self._client.another().open("GET", f"{BASE}/audit", query).objects()
                with self._lock:
                    self._calls = Calls(self._calls.containers)
                for line in lines:
                    with self._lock:
                        self._calls.add(line)
            except (OSError, ValueError, Failure):
                pass
            time.sleep(1)

    def now(self, seconds: int) -> bytes:
        """All that the page shows, as JSON; asked at most once a second. Raises Failure, OSError."""
        with self._lock:
            stamp, told = self._kept.get(seconds, (0.0, b""))
            if time.monotonic() - stamp > 1 or not told:
                told = jsonio.dumps(self._ask(seconds)).encode("utf-8", "surrogateescape")
                self._kept[seconds] = time.monotonic(), told
            return told

    def _ask(self, seconds: int) -> Json:
        self._calls.containers |= _addresses(self._client.call("GET", "/containers/json"))
        parts = ("routes", "versions", "backends")
        found: Json = {name: self._client.call("GET", f"{BASE}/{name}") for name in parts}
        found["routes_known"] = found.pop("routes")
        found["trust"] = self._client.call("GET", TRUST)
        return {"now": time.time(), "status": self._client.call("GET", BASE), **found,
                **self._calls.told(seconds, time.time())}

    def explain(self, query: dict[str, list[str]]) -> bytes:
        """Why a request would get what it gets. Raises Failure, OSError."""
        asked = [(name, text) for name in ("method", "url", "header") for text in query.get(name, [])]
        with self._lock:
            return jsonio.dumps(self._client.call("GET", f"{BASE}/explain", asked)).encode()


def _addresses(found: object) -> dict[str, str]:
    """Address -> name of the containers that run."""
    names: dict[str, str] = {}
    for one in found if isinstance(found, list) else []:
        name = one["Names"][0].lstrip("/") if one.get("Names") else one["Id"][:12]
        for end in (one.get("NetworkSettings", {}).get("Networks") or {}).values():
            names.update({end[kind]: name for kind in ("IPAddress", "GlobalIPv6Address") if end.get(kind)})
    return names


class Door(ThreadingHTTPServer):
    """The page's port. Whoever does not name it as this machine calls it, or has no key, is shown nothing."""

    daemon_threads = True
    request_queue_size = 16

    def __init__(self, address: tuple[str, int], source: Source, key: str) -> None:
        self.source, self.key = source, key
        self.room = threading.BoundedSemaphore(MAX_AT_ONCE)
        super().__init__(address, Visit)
        host, port = self.server_address[:2]
        self.origins = {f"{host!s}:{port}", f"localhost:{port}"}

    def process_request(self, request: object, client_address: object) -> None:
        """On a thread of its own, of which there are only so many."""
        if not self.room.acquire(blocking=False):
            self.shutdown_request(request)  # type: ignore[arg-type]
            return
        super().process_request(request, client_address)  # type: ignore[arg-type]

    def process_request_thread(self, request: object, client_address: object) -> None:
        """Give the thread back."""
        try:
            super().process_request_thread(request, client_address)  # type: ignore[arg-type]
        finally:
            self.room.release()

    def handle_error(self, request: object, client_address: object) -> None:
        """A browser that goes away is nothing to speak of."""


class Visit(BaseHTTPRequestHandler):
    """One connection."""

    server: Door
    protocol_version = "HTTP/1.1"
    timeout = IDLE_S
    server_version, sys_version = "corten", ""

    def do_GET(self) -> None:
        """A file of the page, or with the key what it shows."""
        parts = urlsplit(self.path)
        if self.headers.get("Host") not in self.server.origins:
            self._say(403, b"this page is for its own machine", "text/plain")
        elif self.headers.get("Sec-Fetch-Site", "none") not in ("none", "same-origin"):
            self._say(403, b"not for other pages", "text/plain")
        elif parts.path in ASSETS:
            name, kind = ASSETS[parts.path]
            self._say(200, (files("corten.cli") / "page" / name).read_bytes(), f"{kind}; charset=utf-8")
        elif not compare_digest(self.headers.get("X-Corten-Key", "").encode(), self.server.key.encode()):
            self._say(401, b"the key is missing: open the address that corten gateway ui printed", "text/plain")
        else:
            self._answer(parts.path, parse_qs(parts.query))

    def _answer(self, path: str, query: dict[str, list[str]]) -> None:
        try:
            if path == "/now":
                text = query.get("seconds", ["60"])[0]
                seconds = int(text) if text in map(str, WINDOWS_S) else WINDOWS_S[0]
                self._say(200, self.server.source.now(seconds), "application/json")
            elif path == "/explain":
                self._say(200, self.server.source.explain(query), "application/json")
            else:
                self._say(404, b"page not found", "text/plain")
        except ApiError as error:
            self._say(400, str(error).encode(), "text/plain; charset=utf-8")
        except (Failure, OSError) as error:
            self._say(502, f"the engine does not answer: {error}".encode(), "text/plain; charset=utf-8")

    def _say(self, status: int, body: bytes, kind: str) -> None:
        self.send_response(status)
        for name, value in {**GUARDS, "Content-Type": kind, "Content-Length": str(len(body))}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *words: object) -> None:
        """Nothing: the terminal holds the address."""


def ui(cli: Cli, values: Values) -> None:
    """`corten gateway ui`. Runs until it is interrupted."""
    host, port = _address(values.text("listen") or "127.0.0.1:0")
    cli.client.call("GET", BASE)  # no daemon, no page
    key = secrets.token_urlsafe(32)
    source = Source(cli.client)
    try:
        door = Door((host, port), source, key)
    except OSError as error:
        raise Failure(f"--listen {host}:{port}: {error.strerror}") from None
    threading.Thread(target=source.follow, daemon=True).start()
    cli.out(f"http://{host}:{door.server_address[1]}/#{key}")
    cli.error("The page is there until Ctrl-C. Whoever has the address may look; nothing can be changed there.")
    try:
        door.serve_forever()
    finally:
        door.server_close()


def _address(text: str) -> tuple[str, int]:
    """Raises Failure for anything but an IPv4 address of this machine alone."""
    host, _, port = text.rpartition(":")
    host = "127.0.0.1" if host in ("", "localhost") else host
    try:
        alone = ipaddress.IPv4Address(host).is_loopback
    except ValueError:
        alone = False
    if not alone or not (port.isascii() and port.isdigit() and int(port) < 65536):
        raise Failure(f"invalid --listen {text}: 127.0.0.1:PORT; from elsewhere go through ssh -L")
    return host, int(port)
