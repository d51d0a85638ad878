"""A real daemon in roots of its own, as tests use it: started, asked over HTTP or by the docker CLI, killed, ended."""

import http.client
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.parse

from images import busybox_archive

REPOSITORY = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
DOCKER = shutil.which("docker")


PATIENCE_S = 90


def until(condition, what="it"):
    """What `condition()` gives once that is true; on a slow machine that may take its time."""
    deadline = time.monotonic() + PATIENCE_S
    while not (found := condition()):
        assert time.monotonic() < deadline, f"{what() if callable(what) else what} does not come"
        time.sleep(0.02)
    return found


def settled(look):
    """What `look()` gives once it stays so for half a second: what was on its way has come."""
    def quiet():
        seen = look()
        time.sleep(0.5)
        return seen == look() and [seen]

    return until(quiet, "quiet")[0]


class Reply:
    """Status and body of an answer; `json` decodes it."""

    def __init__(self, status, body):
        self.status, self.body = status, body

    @property
    def json(self):
        return json.loads(self.body)

    @property
    def message(self):
        return self.json["message"]


class _UnixConnection(http.client.HTTPConnection):
    def __init__(self, path, timeout):
        super().__init__("localhost", timeout=timeout)
        self.unix_path = path

    def connect(self):
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(self.timeout)
        self.sock.connect(self.unix_path)


def call(path, method, url, body=None, timeout=180, headers=None):
    """One request over the unix socket `path`; `body` may be bytes or something for JSON."""
    connection = _UnixConnection(path, timeout)
    headers = dict(headers or {})
    if body is not None and not isinstance(body, bytes):
        body = json.dumps(body).encode()
        headers["Content-Type"] = "application/json"
    try:
        connection.request(method, url, body, headers)
        answer = connection.getresponse()
        return Reply(answer.status, answer.read())
    finally:
        connection.close()


class Daemon:
    """`start`, `stop` (SIGTERM), `kill` (SIGKILL); `api`, `docker`, `run` ask it."""

    _number = 0

    def __init__(self, *flags):
        Daemon._number += 1
        self.folder = tempfile.mkdtemp(prefix="corten-test-", dir="/var/tmp")
        number = (os.getpid() * 7 + Daemon._number) % 200
        self.bridge = f"ct{os.getpid() % 100000}x{Daemon._number}"
        self.flags = [
            "--data-root", f"{self.folder}/data", "--exec-root", f"{self.folder}/run", "--bridge", self.bridge,
            "--bip", f"10.{200 + Daemon._number % 50}.{number}.1/24", *flags,
        ]
        self.socket = f"{self.folder}/run/corten.sock"
        self.log = f"{self.folder}/daemon.log"
        self.process = None

    # --- life

    def start(self):
        with open(self.log, "ab") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "corten.daemon.main", "-H", f"unix://{self.socket}", *self.flags],
                stdin=subprocess.DEVNULL, stdout=log, stderr=log, cwd=REPOSITORY)
        deadline = time.monotonic() + PATIENCE_S
        while time.monotonic() < deadline:
            if self.process.poll() is not None:
                raise AssertionError(f"the daemon ended:\n{self.output()}")
            try:
                if self.api("GET", "/_ping", timeout=30).status == 200:
                    return self
            except OSError:
                time.sleep(0.01)
        raise AssertionError(f"the daemon does not answer:\n{self.output()}")

    def stop(self):
        if self.process and self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
            self.process.wait(PATIENCE_S)
        self.process = None

    def kill(self):
        self.process.kill()
        self.process.wait(PATIENCE_S)
        self.process = None

    def close(self):
        """Remove all containers, end the daemon, delete its roots."""
        try:
            if self.process is None:
                self.start()
            self.clear()
            self.stop()
        finally:
            if self.process and self.process.poll() is None:
                self.process.kill()
                self.process.wait()
            shutil.rmtree(self.folder, ignore_errors=True)

    def clear(self):
        """Remove all containers and named volumes."""
        for row in self.api("GET", "/containers/json?all=1").json:
            self.api("DELETE", f"/containers/{row['Id']}?force=1&v=1")
        self.api("POST", "/volumes/prune?filters=" + urllib.parse.quote('{"all":["1"]}'))

    def output(self):
        with open(self.log, errors="replace") as log:
            return log.read()[-4000:]

    def pid_of(self, role):
        """The pid of "daemon", "anchor", "zygote" or "pump"; 0 while there is none. A fork of the zygote is not it."""
        if role == "daemon":
            return self.process.pid
        parents, names = {}, {}
        for pid in filter(str.isdigit, os.listdir("/proc")):
            try:
                with open(f"/proc/{pid}/cmdline", "rb") as file:
                    if f"{self.folder}/run\0".encode() not in file.read():
                        continue
                with open(f"/proc/{pid}/stat") as file:
                    name, _, rest = file.read().partition("(")[2].rpartition(")")
            except OSError:
                continue
            if rest.split()[0] != "Z":
                names[int(pid)], parents[int(pid)] = name, int(rest.split()[1])
        above = {"zygote": "corten-anchor", "pump": "corten-zygote"}.get(role)
        found = [pid for pid, name in names.items()
                 if name == f"corten-{role}" and (above is None or names.get(parents[pid]) == above)]
        return min(found, default=0)

    # --- asking

    def api(self, method, url, body=None, timeout=180, headers=None):
        return call(self.socket, method, url, body, timeout, headers)

    def docker(self, *arguments, stdin=None, timeout=180):
        """Run the docker CLI against this daemon; a CompletedProcess of texts."""
        return subprocess.run(
            [DOCKER, "-H", f"unix://{self.socket}", *arguments], input=stdin, capture_output=True, text=True,
            timeout=timeout, stdin=subprocess.DEVNULL if stdin is None else None)

    def load_busybox(self):
        archive = f"{self.folder}/busybox.tar"
        busybox_archive(archive)
        with open(archive, "rb") as file:
            answer = self.api("POST", "/images/load", file.read(), headers={"Content-Type": "application/x-tar"})
        os.unlink(archive)
        assert answer.status == 200, answer.body
        return self

    def create(self, *command, name="", **body):
        """Create a busybox container; the id. Keywords are members of the request."""
        body = {"Image": "busybox", "Cmd": list(command) or ["sleep", "1000"], **body}
        answer = self.api("POST", f"/containers/create?name={name}", body)
        assert answer.status == 201, answer.body
        return answer.json["Id"]

    def run(self, *command, name="", **body):
        """Create and start one; the id."""
        container_id = self.create(*command, name=name, **body)
        answer = self.api("POST", f"/containers/{container_id}/start")
        assert answer.status == 204, answer.body
        return container_id

    def wait(self, ref, condition="not-running"):
        return self.api("POST", f"/containers/{ref}/wait?condition={condition}").json["StatusCode"]

    def inspect(self, ref):
        return self.api("GET", f"/containers/{ref}/json").json

    def said(self, ref, text):
        """Wait until its log has `text`: what it does before that has been done."""
        until(lambda: text in self.logs(ref), lambda: f"{text!r} (there is {self.logs(ref)!r})")

    def logs(self, ref):
        """stdout and stderr without their frames."""
        data, text = self.api("GET", f"/containers/{ref}/logs?stdout=1&stderr=1").body, b""
        while len(data) >= 8:
            size = int.from_bytes(data[4:8], "big")
            text, data = text + data[8:8 + size], data[8 + size:]
        return text.decode()
