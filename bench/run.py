"""Engines side by side, in one run: start and exec latency over the API, memory, and the command line's own cost.

    python bench/run.py --engine docker=unix:///var/run/docker.sock --engine corten=unix:///run/corten/corten.sock

The engines take turns, round by round (A B, B A, ...), so that a busy machine spoils both alike. Printed are medians
and the ratio to the first engine. Needs root and /bin/busybox (busybox-static).
"""

import argparse
import http.client
import io
import json
import os
import re
import socket
import statistics
import struct
import subprocess
import sys
import tarfile
import time

IMAGE = "corten-bench:1"
ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))


class Connection(http.client.HTTPConnection):
    """HTTP over a unix socket, kept alive."""

    def __init__(self, path):
        super().__init__("localhost", timeout=120)
        self.path = path

    def connect(self):
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(self.timeout)
        self.sock.connect(self.path)


class Engine:
    """One engine under test."""

    def __init__(self, name, url):
        self.name, self.url = name, url
        self.path = url.removeprefix("unix://")
        self.connection = Connection(self.path)
        self.version = self.json("GET", "/version")["Version"]

    def call(self, method, path, body=None, kind="application/json"):
        data = json.dumps(body).encode() if isinstance(body, dict) else body
        self.connection.request(method, "/v1.44" + path, data, {"Content-Type": kind} if data else {})
        answer = self.connection.getresponse()
        text = answer.read()
        if answer.status >= 400:
            raise RuntimeError(f"{self.name} {method} {path}: {answer.status} {text[:300]!r}")
        return text

    def json(self, *args):
        return json.loads(self.call(*args) or b"null")

    def load_image(self):
        repository, tag = IMAGE.split(":")
        path = f"/images/create?fromSrc=-&repo={repository}&tag={tag}"
        self.call("POST", path, busybox_tar(), "application/x-tar")

    def create(self, command, network):
        body = {"Image": IMAGE, "Cmd": command, "HostConfig": {"NetworkMode": network}}
        return self.json("POST", "/containers/create", body)["Id"]

    def once(self, network):
        container = self.create(["/bin/true"], network)
        self.call("POST", f"/containers/{container}/start")
        code = self.json("POST", f"/containers/{container}/wait")["StatusCode"]
        self.call("DELETE", f"/containers/{container}?v=1")
        if code:
            raise RuntimeError(f"{self.name}: exit {code}")

    def exec_true(self, container):
        body = {"Cmd": ["/bin/true"], "AttachStdout": True, "AttachStderr": True}
        exec_id = self.json("POST", f"/containers/{container}/exec", body)["Id"]
        payload = b'{"Detach":false,"Tty":false}'
        with socket.socket(socket.AF_UNIX) as sock:
            sock.connect(self.path)
            head = (f"POST /v1.44/exec/{exec_id}/start HTTP/1.1\r\nHost: d\r\nConnection: Upgrade\r\nUpgrade: tcp\r\n"
                    f"Content-Type: application/json\r\nContent-Length: {len(payload)}\r\n\r\n")
            sock.sendall(head.encode() + payload)
            while sock.recv(65536):
                pass
        code = self.json("GET", f"/exec/{exec_id}/json")["ExitCode"]
        if code:
            raise RuntimeError(f"{self.name}: exec exit {code}")

    def processes(self, containers=()):
        """The daemon, what it started, and the parents of its containers; not the containers."""
        with socket.socket(socket.AF_UNIX) as sock:
            sock.connect(self.path)
            daemon = struct.unpack("3i", sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12))[0]
        table = {}
        for name in filter(str.isdigit, os.listdir("/proc")):
            try:
                with open(f"/proc/{name}/stat") as file:
                    table[int(name)] = int(file.read().rpartition(")")[2].split()[1])
            except OSError:
                continue
        inside = {self.json("GET", f"/containers/{c}/json")["State"]["Pid"] for c in containers}
        found = {daemon}
        for pid in inside:  # up to, not including, init
            while (pid := table.get(pid, 1)) > 1 and pid not in inside:
                found.add(pid)
        grown = True
        while grown:
            more = {pid for pid, parent in table.items() if parent in found and pid not in inside} - found
            found |= more
            grown = bool(more)
        return found - {os.getpid()}

    def pss_kb(self, containers=()):
        total = 0
        for pid in self.processes(containers):
            try:
                with open(f"/proc/{pid}/smaps_rollup") as file:
                    total += int(re.search(r"^Pss:\s+(\d+)", file.read(), re.M)[1])
            except (OSError, TypeError):
                continue
        return total


def busybox_tar():
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        for name in ("bin", "etc", "proc", "dev", "sys", "tmp"):
            entry = tarfile.TarInfo(name)
            entry.type, entry.mode = tarfile.DIRTYPE, 0o755
            tar.addfile(entry)
        tar.add("/bin/busybox", "bin/busybox")
        for name in ("sh", "true", "sleep", "echo", "cat"):
            entry = tarfile.TarInfo(f"bin/{name}")
            entry.type, entry.linkname = tarfile.SYMTYPE, "busybox"
            tar.addfile(entry)
    return buffer.getvalue()


def alternate(engines, rounds, work):
    """work(engine) for each engine by turns; a list of seconds each, one warm-up round not counted."""
    times = {engine.name: [] for engine in engines}
    for number in range(rounds + 1):
        for engine in engines if number % 2 == 0 else engines[::-1]:
            start = time.perf_counter()
            work(engine)
            if number:
                times[engine.name].append(time.perf_counter() - start)
    return times


def report(title, times, unit="ms", scale=1000.0):
    base = None
    cells = []
    for name, values in times.items():
        median = statistics.median(values)
        base = median if base is None else base
        spread = f"[{min(values) * scale:.1f}..{max(values) * scale:.1f} n={len(values)}]"
        cells.append(f"{name} {median * scale:8.2f} {unit} {spread} {_ratio(median, base)}")
    print(f"{title:<34}", "   ".join(cells), flush=True)


def _ratio(value, base):
    return f"x{value / base:.3f} (1/{base / value:.1f})" if value and base else "(no ratio)"


def memory(engines, count):
    idle, each = {}, {}
    for engine in engines:
        containers = [engine.create(["/bin/sleep", "600"], "none") for _ in range(count)]
        try:
            engine.call("POST", f"/containers/{containers[0]}/start")
            time.sleep(0.5)
            first = engine.pss_kb(containers[:1])
            for container in containers[1:]:
                engine.call("POST", f"/containers/{container}/start")
            time.sleep(1)
            each[engine.name] = [max(0, engine.pss_kb(containers) - first) / (count - 1)]
            idle[engine.name] = [first]
        finally:
            for container in containers:
                engine.call("DELETE", f"/containers/{container}?force=1")
    report("engine with one idle container, PSS", idle, "KB", 1.0)
    report("each further idle container, PSS", each, "KB", 1.0)


def command_line(engines, rounds):
    """`ps` by our own command line and by docker's."""
    commands = {"docker": ["docker", "-H"], "corten": [os.path.join(ROOT, "corten"), "-H"]}
    times = {name: [] for name in commands}
    url = engines[-1].url
    for _ in range(rounds):
        for name, command in commands.items():
            start = time.perf_counter()
            subprocess.run([*command, url, "ps"], check=True, stdout=subprocess.DEVNULL)
            times[name].append(time.perf_counter() - start)
    report("whole `ps`", times)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--engine", action="append", default=[], metavar="NAME=unix:///SOCKET", required=True)
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--containers", type=int, default=20)
    args = parser.parse_args()
    engines = [Engine(*text.split("=", 1)) for text in args.engine]
    print("  ".join(f"{engine.name} {engine.version}" for engine in engines))
    for engine in engines:
        engine.load_image()
    for network in ("bridge", "none", "host"):
        report(f"create+start+wait+rm, {network}", alternate(engines, args.rounds, lambda e, n=network: e.once(n)))
    sleepers = {}
    for engine in engines:
        sleepers[engine.name] = engine.create(["/bin/sleep", "600"], "none")
        engine.call("POST", f"/containers/{sleepers[engine.name]}/start")
    try:
        report("exec true", alternate(engines, args.rounds, lambda e: e.exec_true(sleepers[e.name])))
    finally:
        for engine in engines:
            engine.call("DELETE", f"/containers/{sleepers[engine.name]}?force=1")
    memory(engines, args.containers)
    command_line(engines, args.rounds)
    return 0


if __name__ == "__main__":
    sys.exit(main())
