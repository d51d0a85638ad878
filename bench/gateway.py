"""The gateway's costs on this machine: a changed route until it is served, and a request through Envoy against none.

    python bench/gateway.py [--requests 3000] [--routes 200]

A daemon in roots of its own; a web server in this process is the backend. CPU is Envoy's own, per request; the ratio of
times is through the gateway to the backend directly, one connection, one request after the other.
"""

import argparse
import http.client
import http.server
import json
import os
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))

from gateway_world import World


class Quick(http.server.BaseHTTPRequestHandler):
    """Answers at once."""

    protocol_version = "HTTP/1.1"

    def do_GET(self):
        self.wfile.write(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")

    def log_message(self, *words):
        pass


def cpu_s(pid):
    """User and system time of a process."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def ask(port, path, count, headers):
    """Seconds of each of `count` requests on one connection."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
    times = []
    for _ in range(count):
        before = time.perf_counter()
        connection.request("GET", path, headers=headers)
        answer = connection.getresponse()
        answer.read()
        times.append(time.perf_counter() - before)
        assert answer.status == 200, answer.status
    return times


def plain(name, address):
    """An Api at the path of its name."""
    return {"kind": "Api", "name": name, "routes": [{"path": f"/{name}"}], "backends": [{"address": address}]}


def change_until_served(world, address, rounds):
    """Seconds from a document's registration to the first 200."""
    times = []
    for number in range(rounds):
        before = time.perf_counter()
        world.applied(plain(f"n{number}", address))
        connection = http.client.HTTPConnection("127.0.0.1", world.port, timeout=10)
        while True:
            connection.request("GET", f"/n{number}")
            answer = connection.getresponse()
            answer.read()
            if answer.status == 200:
                break
        times.append(time.perf_counter() - before)
    return times


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--requests", type=int, default=3000)
    parser.add_argument("--routes", type=int, default=200)
    given = parser.parse_args()
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Quick)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    address = f"127.0.0.1:{server.server_address[1]}"
    world = World().start()
    found = {}
    try:
        policies = {"plain": {}, "key, rate, rule": {"apiKeys": {"keys": {"a": "key-of-a"}}, "allow": [{"keys": ["a"]}],
                                                     "rates": [{"limit": "1000000/s", "per": "client"}]}}
        for number, (_name, policy) in enumerate(policies.items()):
            world.applied({"kind": "Api", "name": f"p{number}", "routes": [{"path": f"/p{number}", "policy": policy}],
                           "backends": [{"address": address}]})
        world.until(200, "/p0")
        direct = ask(server.server_address[1], "/", given.requests, {})
        found["direct p50 us"] = round(statistics.median(direct) * 1e6)
        for number, name in enumerate(policies):
            pid = world.status()["Pid"]
            before = cpu_s(pid)
            times = ask(world.port, f"/p{number}", given.requests, {"X-Api-Key": "key-of-a"})
            found[f"{name}: CPU us a request"] = round((cpu_s(pid) - before) / given.requests * 1e6)
            found[f"{name}: p50 us"] = round(statistics.median(times) * 1e6)
        found["change until served, ms"] = round(statistics.median(change_until_served(world, address, 20)) * 1e3, 1)
        with tempfile.NamedTemporaryFile("w", suffix=".json") as file:
            json.dump([plain(f"m{n}", address) for n in range(given.routes)], file)
            file.flush()
            before = time.perf_counter()
            done = world.cli("apply", "-f", file.name)
            assert done.returncode == 0, done.stderr
            found[f"{given.routes} routes applied at once, ms"] = round((time.perf_counter() - before) * 1e3)
        found[f"change until served beside {given.routes} routes, ms"] = round(
            statistics.median(change_until_served(world, address, 5)) * 1e3, 1)
        status = Path(f"/proc/{world.status()['Pid']}/status").read_text()
        found["Envoy, MiB"] = int(status.partition("VmRSS:")[2].split()[0]) >> 10
    finally:
        world.close()
        server.shutdown()
    for name, value in found.items():
        print(f"{name:50} {value}")


if __name__ == "__main__":
    if subprocess.run(["id", "-u"], capture_output=True, text=True, check=True).stdout.strip() != "0":
        sys.exit("needs root")
    main()
