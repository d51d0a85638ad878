"""What trust costs on this machine: CPU and time of a request by level, memory of a member, a start, a revocation.

    python bench/trust.py [--requests 4000] [--members 100] [--starts 20]

A daemon in roots of its own. CPU is Envoy's own, per request, at 1 and at 8 connections; the medians of time are of one
connection, one request after the other, and set against trust full in the same run. `stream` is a port that is not
declared as HTTP.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))

from gateway_world import World
from mesh_world import GREETER, Shop

SERVER = r'''
import socket, threading
def serve(peer):
    peer.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    while data := peer.recv(65536):
        peer.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok" * data.count(b"\r\n\r\n"))
def listen(port):
    server = socket.create_server(("0.0.0.0", port))
    while True:
        threading.Thread(target=serve, args=(server.accept()[0],), daemon=True).start()
threading.Thread(target=listen, args=(8081,), daemon=True).start()
print("ready", flush=True)
listen(8080)
'''

CLIENT = r'''
import json, socket, statistics, sys, time
address, port, count, width = sys.argv[1], *map(int, sys.argv[2:])
ask = b"GET /x HTTP/1.1\r\nHost: orders\r\n\r\n"
peers = [socket.create_connection((address, port), 20) for _ in range(width)]
for peer in peers:
    peer.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
def turn():
    for peer in peers:
        peer.sendall(ask)
    for peer in peers:
        data = b""
        while not data.endswith(b"ok"):
            data += peer.recv(65536)
        assert data.startswith(b"HTTP/1.1 200"), data
for _ in range(50):
    turn()
print("ready", flush=True)
sys.stdin.readline()
times = []
for _ in range(count // width):
    before = time.perf_counter()
    turn()
    times.append(time.perf_counter() - before)
print(json.dumps(statistics.median(times) * 1e6), flush=True)
'''


def cpu_us(pid):
    """User and system time of a process, by its threads' own counters, to the nanosecond."""
    return sum(int((task / "schedstat").read_text().split()[0]) for task in Path(f"/proc/{pid}/task").iterdir()) / 1e3


def ask(shop, name, address, port, count, width, envoy):
    """(Envoy's CPU, median time) of a request, in microseconds."""
    words = (sys.executable, "-c", CLIENT, address, str(port), str(count), str(width))
    client = subprocess.Popen(shop.inside(name, *words), stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert client.stdout.readline() == "ready\n"
    before = cpu_us(envoy) if envoy else 0
    client.stdin.write("go\n")
    client.stdin.flush()
    median = json.loads(client.stdout.readline())
    used = (cpu_us(envoy) - before) / (count // width * width) if envoy else 0
    client.communicate()
    return used, median


def memory_kb(pid):
    """Of one process, by share."""
    rollup = Path(f"/proc/{pid}/smaps_rollup").read_text()
    return int(rollup.partition("\nPss:")[2].split()[0])


def requests(world, given, found):
    """CPU and time by level."""
    base = {}
    for level in ("full", "half", "zero"):
        shop = Shop(world)
        try:
            allow = "web: /x; web: port 8081" if level != "full" else ""
            shop.run("orders", level, allow, labels={"corten.trust.http": "8080"} if allow else {})
            shop.serve("orders", SERVER)
            shop.run("web", level)
            address = shop.address("orders")
            shop.until("200", "web", f"http://{address}:8080/x")
            envoy = world.status()["Pid"] if level != "full" else 0
            for port, kind in ((8080, "HTTP"), (8081, "stream")):
                one = [ask(shop, "web", address, port, given.requests, 1, envoy) for _ in range(3)]
                many = [ask(shop, "web", address, port, given.requests, 8, envoy)[0] for _ in range(3)]
                median = statistics.median(time for _, time in one)
                base.setdefault(kind, median)
                what, cpu = f"{level}, {kind}", statistics.median(used for used, _ in one)
                found[f"{what}: Envoy's CPU a request, us, 1 connection"] = round(cpu, 1)
                found[f"{what}: Envoy's CPU a request, us, 8 connections"] = round(statistics.median(many), 1)
                found[f"{what}: p50, us"] = round(median, 1)
                found[f"{what}: p50 to full"] = round(median / base[kind], 2)
        finally:
            shop.close()


def starts(world, given, found):
    """What a start takes more, side by side; Envoy runs already."""
    shop = Shop(world)
    try:
        shop.run("first", "zero")
        times = {"full": [], "zero": []}
        for number in range(given.starts):
            for level, kept in times.items():
                made = world.create(name=f"{level}{number}", Labels={"corten.trust": level},
                                    HostConfig={"NetworkMode": shop.network})
                before = time.perf_counter()
                assert world.api("POST", f"/containers/{made}/start").status == 204
                kept.append(time.perf_counter() - before)
                world.api("DELETE", f"/containers/{made}?force=1")
        for level, kept in times.items():
            found[f"start, {level}, ms"] = round(statistics.median(kept) * 1e3, 1)
        more = statistics.median(times["zero"]) - statistics.median(times["full"])
        found["start, zero more than full, ms"] = round(more * 1e3, 1)
    finally:
        shop.close()


def revocation(world, found):
    """From the command to the end of an open stream."""
    shop = Shop(world)
    try:
        orders = shop.service("orders", "zero", "web", labels={"corten.trust.tcp": "7000"})
        shop.serve("orders", GREETER)
        shop.run("web", "zero")
        stream = shop.talk("web", orders, 7000)
        assert stream.stdout.readline()
        before = time.perf_counter()
        assert world.cli("trust", "revoke", "web").returncode == 0
        assert stream.stdout.readline() == "closed\n"
        found["revoked until an open stream is closed, s"] = round(time.perf_counter() - before, 2)
    finally:
        shop.close()


def members(world, given, found):
    """Memory of many, and how the last of them starts."""
    shop = Shop(world)
    try:
        for name in ("first", "second"):
            shop.run(name, "zero", "* : GET /x")
        envoy = world.status()["Pid"]
        before, times = memory_kb(envoy), []
        for number in range(given.members):
            at = time.perf_counter()
            shop.run(f"m{number}", "zero", "*: GET /x")
            times.append(time.perf_counter() - at)
        time.sleep(1)
        found[f"Envoy's memory a member, of {given.members}, KiB"] = round((memory_kb(envoy) - before) / given.members)
        for what, part in (("first", times[:10]), ("last", times[-10:])):
            name = f"create and start of the {what} ten of {given.members}, ms"
            found[name] = round(statistics.median(part) * 1e3, 1)
        at = time.perf_counter()
        world.kill()
        world.start()
        found[f"daemon killed and started beside {given.members}, s"] = round(time.perf_counter() - at, 2)
    finally:
        shop.close()


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--requests", type=int, default=4000)
    parser.add_argument("--members", type=int, default=100)
    parser.add_argument("--starts", type=int, default=20)
    given = parser.parse_args()
    if os.geteuid():
        sys.exit("needs root")
    world = World().start()
    found = {}
    try:
        world.load_busybox()
        requests(world, given, found)
        starts(world, given, found)
        revocation(world, found)
        if given.members:
            members(world, given, found)
    finally:
        world.close()
        for name, value in found.items():
            print(f"{name:62} {value}")


if __name__ == "__main__":
    main()
