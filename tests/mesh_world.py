"""Services on one network, their programs in the containers' network namespaces, and every way in that may be refused.

`ATTEMPTS` are ways to reach `orders` (HTTP on 8080, more on 9999, UDP on 5353): a name, who tries, and how. The outcome
is a status, `answer` or `refused`. With trust full everything passes: that is the control.
"""

import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time

SERVER = r'''
import http.server, socket, sys, threading
class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    def do_GET(self):
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        text = f"{self.command} {self.path}\n" + "".join(f"{k.lower()}: {v}\n" for k, v in self.headers.items())
        data = text.encode() + body
        self.send_response(200)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)
    do_POST = do_PUT = do_DELETE = do_GET
    def log_message(self, *words):
        pass
class Server(http.server.ThreadingHTTPServer):
    address_family = socket.AF_INET6
    daemon_threads = True
def udp():
    server = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    server.bind(("0.0.0.0", 5353))
    print("udp", flush=True)
    while True:
        data, peer = server.recvfrom(2000)
        server.sendto(data, peer)
for port in (8080, 9999):
    threading.Thread(target=Server(("::", port), Handler).serve_forever, daemon=True).start()
udp()
'''

MARKED = r'''
import socket, sys
client = socket.socket()
client.settimeout(30)
client.setsockopt(socket.SOL_SOCKET, 36, 0x636F7274)
client.connect((sys.argv[1], 8080))
client.sendall(b"GET /orders/1 HTTP/1.1\r\nHost: orders\r\nConnection: close\r\n\r\n")
print(client.recv(12).decode().split()[1])
'''

DATAGRAM = r'''
import socket, sys
client = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
client.settimeout(float(sys.argv[2]))
client.connect((sys.argv[1], 5353))
client.send(b"hello")
print(client.recv(100).decode())
'''


GREETER = r'''
import socket, sys, threading
server = socket.create_server(("0.0.0.0", 7000))
print("ready", flush=True)
def serve(peer):
    try:
        peer.sendall(b"220 hello\n")
        while data := peer.recv(4096):
            peer.sendall(data)
    except OSError:
        pass
while True:
    threading.Thread(target=serve, args=(server.accept()[0],), daemon=True).start()
'''

# one line in, one line out, until the other side closes: then `closed`
TALKER = r'''
import socket, sys
client = socket.create_connection((sys.argv[1], int(sys.argv[2])), 30)
client.settimeout(None)
if len(sys.argv) > 3:
    client.sendall(sys.argv[3].encode().decode("unicode_escape").encode())
try:
    while data := client.recv(4096):
        print(data.decode().replace("\n", " ").replace("\r", " "), flush=True)
except OSError:
    pass
print("closed", flush=True)
'''

# requests on a connection that is kept, every fifth on a new one; how many went well is in a file
ASKER = r'''
import http.client, json, os, sys, time
url, port, path, report = sys.argv[1], int(sys.argv[2]), sys.argv[3], sys.argv[4]
good, wrong, kept = 0, [], None
while not os.path.exists(report + ".end"):
    try:
        if kept is None or (good + len(wrong)) % 5 == 0:
            if kept: kept.close()
            kept = http.client.HTTPConnection(url, port, timeout=60)
        kept.request("GET", path)
        answer = kept.getresponse()
        answer.read()
        if answer.status == 200: good += 1
        else: wrong.append([time.time(), answer.status])
    except (OSError, http.client.HTTPException) as error:
        wrong.append([time.time(), repr(error)])
        kept = None
    with open(report + ".new", "w") as file:
        json.dump({"good": good, "wrong": wrong[:20]}, file)
    os.rename(report + ".new", report)
'''


class Asking:
    """Traffic from a container's namespace, as it goes."""

    def __init__(self, shop, name, address, path):
        self.report = f"{shop.folder}/asked-{name}-{time.monotonic_ns()}"
        self.program = subprocess.Popen(shop.inside(name, sys.executable, "-c", ASKER, address, "8080", path, self.report),
                                        stdout=subprocess.PIPE)
        shop.programs.append(self.program)
        self.more(5)

    @property
    def now(self):
        try:
            with open(self.report) as file:
                return json.load(file)
        except FileNotFoundError:
            return {"good": 0, "wrong": []}

    def more(self, count, seconds=60):
        """Wait for so many more good ones, or a wrong one."""
        enough, deadline = self.now["good"] + count, time.monotonic() + seconds
        while (found := self.now)["good"] < enough and not found["wrong"]:
            assert time.monotonic() < deadline, found
            time.sleep(0.02)

    def stop(self):
        """What went wrong."""
        with open(f"{self.report}.end", "w"):
            pass
        self.program.wait(60)
        return self.now["wrong"]


class Capture:
    """What a link of the host carries, by tcpdump, while the block runs; `data` are the bytes afterwards."""

    def __init__(self, shop, link):
        self.path, self.shop = f"{shop.folder}/wire-{time.monotonic_ns()}", shop
        self.program = subprocess.Popen(["tcpdump", "-i", link, "-w", self.path, "-U", "-s", "0", "--immediate-mode", "-Z", "root"],
                                        stderr=subprocess.PIPE, stdout=subprocess.DEVNULL)

    def __enter__(self):
        line = b""
        while b"listening on" not in line:
            line = self.program.stderr.readline()
            assert line, "tcpdump ended"
        return self

    def __exit__(self, *_):
        """A last datagram: once it is in the file, all before it is."""
        mark, deadline = f"end of {self.path}".encode(), time.monotonic() + 90
        self.data = b""
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client:
            while mark not in self.data and time.monotonic() < deadline:
                client.sendto(mark, (self.shop.address("orders"), 9))
                time.sleep(0.1)
                with open(self.path, "rb") as file:
                    self.data = file.read()
        self.program.send_signal(signal.SIGINT)
        self.program.stderr.read()
        self.program.wait(30)
        assert mark in self.data, "tcpdump sees nothing"


class Shop:
    """Containers on a network of their own; `close` ends programs and takes the network away."""

    def __init__(self, world):
        self.world = world
        self.network = f"shop-{os.path.basename(world.folder)[-8:]}-{time.monotonic_ns() % 10**9}"
        self.folder = tempfile.mkdtemp(prefix="corten-mesh-", dir="/var/tmp")
        answer = world.api("POST", "/networks/create", {"Name": self.network, "EnableIPv6": True})
        assert answer.status == 201, answer.body
        self.pids, self.programs = {}, []

    def close(self):
        for program in self.programs:
            program.kill()
            program.wait()
            program.stdout.close()
        self.programs.clear()
        self.world.clear()
        self.world.api("DELETE", f"/networks/{self.network}")
        for name in os.listdir(self.folder):
            os.unlink(f"{self.folder}/{name}")
        os.rmdir(self.folder)

    # --- services

    def run(self, name, level="full", allow="", host=None, labels=None, **body):
        """A container with the level and rules; the id. It sleeps: what serves is put into its namespace."""
        said = {**({"corten.trust": level} if level != "full" else {}), **({"corten.allow": allow} if allow else {}), **(labels or {})}
        body = {"ExposedPorts": {"8080/tcp": {}}, **body}
        made = self.world.run(name=name, Labels=said, HostConfig={"NetworkMode": self.network, **(host or {})}, **body)
        self.pids[name] = self.world.inspect(made)["State"]["Pid"]
        return made

    def serve(self, name, text=SERVER):
        """HTTP on 8080 and 9999, UDP on 5353 in the container's network namespace; or another program."""
        program = subprocess.Popen(self.inside(name, sys.executable, "-c", text), stdout=subprocess.PIPE)
        self.programs.append(program)
        assert program.stdout.readline()

    def talk(self, name, address, port, first=""):
        """An open connection from a container's namespace; its lines can be read."""
        program = subprocess.Popen(self.inside(name, sys.executable, "-c", TALKER, address, str(port), *([first] if first else [])),
                                   stdout=subprocess.PIPE, text=True)
        self.programs.append(program)
        return program

    @property
    def bridge(self):
        """The network's device on the host."""
        found = subprocess.run(["ip", "-o", "-4", "addr"], capture_output=True, text=True, check=True).stdout
        gateway = self.world.api("GET", f"/networks/{self.network}").json["IPAM"]["Config"][0]["Gateway"]
        return next(line.split()[1] for line in found.splitlines() if f" {gateway}/" in line)

    def service(self, name, level="full", allow="", **more):
        """A container that serves; its address."""
        self.run(name, level, allow, **more)
        self.serve(name)
        return self.address(name)

    def address(self, name, six=False):
        """Of a container on this network."""
        of = self.world.inspect(name)["NetworkSettings"]["Networks"][self.network]
        return f"[{of['GlobalIPv6Address']}]" if six else of["IPAddress"]

    def inside(self, name, *command):
        """A command in the container's network namespace (all else is the host's); on the host for ``."""
        return ["nsenter", "-t", str(self.pids[name]), "-n", *command] if name else list(command)

    # --- asking

    def curl(self, name, url, *flags):
        """(status as a text or `refused`, what came) of a request from the container's namespace."""
        done = subprocess.run(self.inside(name, "curl", "-s", "--path-as-is", "-m", "60", "-o", "-", "-w", "\n%{http_code}", *flags, url),
                              capture_output=True, text=True)
        text, _, status = done.stdout.rpartition("\n")
        return ("refused" if status == "000" else status), text

    def until(self, status, name, url, *flags, seconds=90):
        """Ask until that is the status; what came."""
        deadline = time.monotonic() + seconds
        while (found := self.curl(name, url, *flags))[0] != status:
            assert time.monotonic() < deadline, f"{name} {url}: {found}\n{self.world.envoy_log()}"
            time.sleep(0.02)
        return found[1]

    def script(self, name, text, *arguments):
        done = subprocess.run(self.inside(name, sys.executable, "-c", text, *arguments), capture_output=True, text=True)
        return done.stdout.strip() or "refused"

    def certificate(self, kind):
        """curl's flags with a certificate: `forged` authority, `other` trust domain, `old`, by the engine's own key."""
        from corten.gateway.certificates import Authority

        kept = f"{self.world.folder}/data/gateway/trust"
        folder = f"{self.folder}" if kind == "forged" or not os.path.exists(kept) else kept
        authority = Authority(folder, "corten.internal")
        domain = "elsewhere.example" if kind == "other" else "corten.internal"
        chain, key, _ = authority.identity(f"spiffe://{domain}/project/-/service/web", -60 if kind == "old" else 600)
        for end, text in (("pem", chain), ("key", key)):
            with open(f"{self.folder}/{kind}.{end}", "w") as file:
                file.write(text)
        return "-k", "--cert", f"{self.folder}/{kind}.pem", "--key", f"{self.folder}/{kind}.key"


def _http(who, path="/orders/1", *flags, port=8080, scheme="http", six=False):
    """What is dropped is waited for a little only; where all gets through it has its time."""
    return lambda shop: shop.curl(who, f"{scheme}://{shop.address('orders', six)}:{port}{path}", *flags,
                                  *(("-m", "2") if six and shop.level != "full" else ()))[0]


def _certified(kind):
    def ask(shop):
        scheme = "https" if shop.level != "full" else "http"
        return shop.curl("plain", f"{scheme}://{shop.address('orders')}:8080/orders/1", *shop.certificate(kind))[0]
    return ask


def _datagram(who):
    def ask(shop):
        return "answer" if shop.script(who, DATAGRAM, shop.address("orders"), "30" if shop.level == "full" else "0.5") == "hello" else "refused"
    return ask


# `web` may GET /orders/*, `other` may nothing, `plain` is of level full
ATTEMPTS = {
    "allowed": _http("web"),
    "other path": _http("web", "/admin"),
    "path with dots": _http("web", "/orders/../admin"),
    "other method": _http("web", "/orders/1", "-XPOST"),
    "identity without a rule": _http("other"),
    "no identity": _http("plain"),
    "from the node": _http(""),
    "TLS, no certificate": lambda shop: _http("plain", "/orders/1", "-k", scheme="https" if shop.level != "full" else "http")(shop),
    "forged authority": _certified("forged"),
    "other trust domain": _certified("other"),
    "certificate out of date": _certified("old"),
    "mark of the gateway": lambda shop: shop.script("web", MARKED, shop.address("orders")),
    "other port": _http("web", port=9999),
    "other port, no identity": _http("plain", port=9999),
    "IPv6": _http("web", six=True),
    "IPv6, no identity": _http("plain", six=True),
    "UDP": _datagram("web"),
    "UDP, no identity": _datagram("plain"),
    "to who has no identity": lambda shop: shop.curl("web", f"http://{shop.address('plain')}:8080/")[0],
    "to the node": lambda shop: shop.curl("web", f"http://{shop.gateway}:{shop.node_port}/")[0],
}

EXPECTED = {
    "full": dict.fromkeys(ATTEMPTS, "200") | {"UDP": "answer", "UDP, no identity": "answer"},
    "half": dict.fromkeys(ATTEMPTS, "refused") | {"allowed": "200"} | dict.fromkeys(
        ("other path", "path with dots", "other method", "identity without a rule"), "403"),
}
EXPECTED["zero"] = EXPECTED["half"]


def refusals(shop, level):
    """Outcome by attempt, with the three services at a level."""
    shop.level = level
    shop.service("orders", level, "web: GET /orders/*" if level != "full" else "")
    shop.run("web", level)
    shop.run("other", level)
    shop.service("plain")
    shop.gateway = shop.world.inspect("orders")["NetworkSettings"]["Networks"][shop.network]["Gateway"]
    node = subprocess.Popen([sys.executable, "-c", "import http.server\nclass H(http.server.SimpleHTTPRequestHandler):\n"
                             "    def do_GET(self): self.send_response(200); self.end_headers()\n"
                             "s = http.server.ThreadingHTTPServer(('0.0.0.0', 0), H); print(s.server_port, flush=True); s.serve_forever()"],
                            stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
    shop.programs.append(node)
    shop.node_port = int(node.stdout.readline())
    if level != "full":
        shop.until("200", "web", f"http://{shop.address('orders')}:8080/orders/1")
    return {name: attempt(shop) for name, attempt in ATTEMPTS.items()}
