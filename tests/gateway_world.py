"""A daemon with a gateway on ports of its own, containers that answer what they were asked, traffic that goes on."""

import http.client
import http.server
import socket
import subprocess
import threading
import time

from corten_command import corten
from daemon_process import Daemon

BASE = "/corten/v1/gateway"


def free_port():
    with socket.create_server(("127.0.0.1", 0)) as taken:
        return taken.getsockname()[1]


class World(Daemon):
    """A daemon whose gateway listens on `port` and `tls_port` of 127.0.0.1."""

    def __init__(self, *flags):
        self.port, self.tls_port = free_port(), free_port()
        super().__init__("--gateway-http", f"127.0.0.1:{self.port}", "--gateway-https", f"127.0.0.1:{self.tls_port}", *flags)

    def clear(self):
        super().clear()
        for one in self.api("GET", f"{BASE}/documents").json[::-1]:
            if one["kind"] != "Policy":
                self.forget(one)
        for one in self.api("GET", f"{BASE}/documents").json:
            self.forget(one)

    def forget(self, document):
        name = (f"{document['project']}." if document.get("project") and document["kind"] != "Trust" else "") + document["name"]
        answer = self.api("DELETE", f"{BASE}/documents/{document['kind']}/{name}")
        assert answer.status == 204, answer.body

    # --- registering

    def apply(self, *documents):
        """Register documents; the answer."""
        return self.api("POST", f"{BASE}/documents", list(documents))

    def applied(self, *documents):
        answer = self.apply(*documents)
        assert answer.status == 200, answer.body
        return answer.json

    def cli(self, *words, **more):
        return corten(self.socket, *words, **more)

    def echo(self, name, labels=None, text="", **body):
        """A container that answers each request with `text` (its name) and what it was asked."""
        return self.run("sh", "-c", ECHO, name=name, Labels=labels or {}, Env=[f"TEXT={text or name}"],
                        ExposedPorts={"8080/tcp": {}}, **body)

    # --- asking through the gateway

    def curl(self, path, *flags, host="", tls=False, timeout=60):
        """curl; an Answer."""
        url = f"https://{host or 'localhost'}:{self.tls_port}{path}" if tls else f"http://127.0.0.1:{self.port}{path}"
        more = ["-H", f"Host: {host}"] if host and not tls else []
        if tls and host:
            more = ["--resolve", f"{host}:{self.tls_port}:127.0.0.1"]
        done = subprocess.run(["curl", "-s", "-i", "--path-as-is", "--max-time", str(timeout), *more, *flags, url],
                              capture_output=True)
        return Answer(done.returncode, done.stdout.decode(errors="replace"))

    def until(self, status, path, *flags, timeout=90, **more):
        """Ask until the status is the one; the Answer."""
        deadline = time.monotonic() + timeout
        while (answer := self.curl(path, *flags, **more)).status != status:
            assert time.monotonic() < deadline, f"{path}: {answer.status} {answer.text}\n{self.envoy_log()}"
            time.sleep(0.02)
        return answer

    def status(self):
        return self.api("GET", BASE).json

    def envoy_log(self):
        try:
            with open(f"{self.folder}/run/gateway/envoy.log", errors="replace") as log:
                return log.read()[-3000:]
        except FileNotFoundError:
            return "no log"


class Answer:
    """What curl got: `status`, `headers` (lower case), `text`, and `echo`: what a backend says it was asked."""

    def __init__(self, code, output):
        self.code = code
        head, _, self.text = output.replace("\r\n", "\n").partition("\n\n")
        while head.startswith("HTTP/1.1 100"):
            head, _, self.text = self.text.partition("\n\n")
        lines = head.split("\n")
        self.status = int(lines[0].split()[1]) if len(lines[0].split()) > 1 else 0
        self.headers = {line.partition(":")[0].lower(): line.partition(":")[2].strip() for line in lines[1:]}

    @property
    def echo(self):
        """The backend's view: first line, headers."""
        lines = self.text.strip().split("\n")
        return {"name": lines[0], "line": lines[1],
                **{line.partition(":")[0].lower(): line.partition(":")[2].strip() for line in lines[2:] if ":" in line}}


# busybox: a web server for each connection, which tells its name, the request line and the headers
ECHO = r'''
cat >/tmp/answer <<'END'
#!/bin/sh
body="$TEXT
"
length=0
while IFS= read -r line; do
  line=$(printf '%s' "$line" | tr -d '\r')
  [ -z "$line" ] && break
  case "$line" in [Cc]ontent-[Ll]ength:*) length=${line#*: };; esac
  body="$body$line
"
done
[ "$length" -gt 0 ] && body="$body
$(head -c "$length")"
status="${STATUS:-200 OK}"
[ -f /tmp/status ] && status=$(cat /tmp/status)
printf 'HTTP/1.1 %s\r\nContent-Type: text/plain\r\nContent-Length: %s\r\nConnection: close\r\n\r\n%s' "$status" "${#body}" "$body"
END
chmod +x /tmp/answer
exec nc -ll -p 8080 -e /tmp/answer
'''


class Asked:
    """A request as a Backend got it: `line`, `headers` (lower case), `body`."""

    def __init__(self, handler):
        self.line = f"{handler.command} {handler.path}"
        self.headers = {name.lower(): value for name, value in handler.headers.items()}
        self.raw = handler.rfile.read(int(handler.headers.get("Content-Length") or 0))
        while self.headers.get("transfer-encoding") == "chunked" and (size := int(handler.rfile.readline(), 16)):
            self.raw += handler.rfile.read(size)
            handler.rfile.readline()
        self.body = self.raw.decode(errors="replace")


class Backend:
    """A small web server beside the engine; `answer(asked)` gives (status, headers, body)."""

    def __init__(self, answer):
        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self):
                status, headers, data = answer(Asked(self))
                self.send_response(status)
                for name, value in {**headers, "Content-Length": str(len(data))}.items():
                    self.send_header(name, value)
                self.end_headers()
                self.wfile.write(data)

            do_POST = do_PUT = do_DELETE = do_GET

            def log_message(self, *words):
                pass

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True
        self.address = f"127.0.0.1:{self.server.server_address[1]}"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.server.shutdown()
        self.server.server_close()


class Traffic:
    """Requests one after the other on connections kept open, until `stop`; what went wrong is in `wrong`."""

    def __init__(self, world, path):
        self.port, self.path = world.port, path
        self.good, self.wrong, self._over = 0, [], False
        self.thread = threading.Thread(target=self._run)
        self.thread.start()

    def _run(self):
        connection = None
        while not self._over:
            try:
                connection = connection or http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)
                connection.request("GET", self.path)
                answer = connection.getresponse()
                answer.read()
                if answer.status == 200:
                    self.good += 1
                else:
                    self.wrong.append((time.time(), answer.status))
            except (OSError, http.client.HTTPException) as error:
                self.wrong.append((time.time(), repr(error)))
                connection = None

    def stop(self):
        self._over = True
        self.thread.join()
        return self


def wait_until(true, seconds):
    """Wait until something holds."""
    deadline = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < deadline, "it never came to hold"
        time.sleep(0.02)
