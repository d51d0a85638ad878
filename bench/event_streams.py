"""Pings while many clients listen to the events of an engine, at rest and while containers start and end.

    python bench/event_streams.py unix:///run/corten/corten.sock [--streams 1000] [--seconds 10] [--image busybox]

Prints the 50th and 99th percentile of GET /_ping in milliseconds, and how many streams got all of the events. The
listeners are read by a process of their own, so that it is the engine that is measured.
"""

import argparse
import http.client
import json
import multiprocessing
import resource
import select
import socket
import threading
import time


class Connection(http.client.HTTPConnection):
    """HTTP over a unix socket, kept alive."""

    def __init__(self, path):
        super().__init__("localhost", timeout=60)
        self.path = path

    def connect(self):
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(self.timeout)
        self.sock.connect(self.path)


def ask(connection, method, url, body=None):
    connection.request(method, url, json.dumps(body) if body else None,
                       {"Content-Type": "application/json"} if body else {})
    answer = connection.getresponse()
    data = answer.read()
    if answer.status >= 400:
        raise SystemExit(f"{method} {url}: {answer.status} {data!r}")
    return json.loads(data) if data[:1] in b"{[" and data else data


def listen(path, count, pipe):
    """Hold `count` streams of container events and count what comes; the counts go to `pipe` when it says so."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    streams, epoll = {}, select.epoll()
    for _ in range(count):
        sock = socket.socket(socket.AF_UNIX)
        sock.connect(path)
        sock.sendall(b'GET /events?filters={"type":["container"]} HTTP/1.1\r\nHost: d\r\n\r\n'
                     .replace(b'"', b"%22").replace(b"{", b"%7B").replace(b"}", b"%7D"))
        while b"\r\n\r\n" not in sock.recv(4096):
            pass
        sock.setblocking(False)
        streams[sock.fileno()] = (sock, [0])
        epoll.register(sock.fileno(), select.EPOLLIN)
    epoll.register(pipe.fileno(), select.EPOLLIN)
    pipe.send(None)
    while True:
        for descriptor, _ in epoll.poll():
            if descriptor == pipe.fileno():
                pipe.send([seen[0] for _sock, seen in streams.values()])
                return
            sock, seen = streams[descriptor]
            seen[0] += sock.recv(1 << 16).count(b'"Action":')


def ping(connection, seconds):
    """Times of pings one after the other."""
    times, end = [], time.monotonic() + seconds
    while time.monotonic() < end:
        before = time.perf_counter()
        ask(connection, "GET", "/_ping")
        times.append(time.perf_counter() - before)
        time.sleep(0.001)
    return sorted(times)


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("engine")
    parser.add_argument("--streams", type=int, default=1000)
    parser.add_argument("--seconds", type=float, default=10)
    parser.add_argument("--image", default="busybox")
    parser.add_argument("--rate", type=float, default=4, help="containers made, run and removed a second, meanwhile")
    args = parser.parse_args()
    path = args.engine.removeprefix("unix://")
    mine, theirs = multiprocessing.Pipe()
    listener = multiprocessing.Process(target=listen, args=(path, args.streams, theirs), daemon=True)
    listener.start()
    mine.recv()
    connection, over = Connection(path), threading.Event()
    rest, made = ping(connection, args.seconds), [0]

    def work():
        client = Connection(path)
        while not over.is_set():
            body = {"Image": args.image, "Cmd": ["true"], "HostConfig": {"NetworkMode": "none"}}
            ref = ask(client, "POST", "/containers/create", body)["Id"]
            ask(client, "POST", f"/containers/{ref}/start")
            ask(client, "POST", f"/containers/{ref}/wait")
            ask(client, "DELETE", f"/containers/{ref}")
            made[0] += 1
            over.wait(1 / args.rate)

    worker = threading.Thread(target=work)
    worker.start()
    busy = ping(connection, args.seconds)
    over.set()
    worker.join()
    time.sleep(1)
    mine.send(None)
    counts = mine.recv()
    for title, times in (("at rest", rest), (f"{made[0] / args.seconds:.1f} containers a second", busy)):
        middle, high = times[len(times) // 2], times[int(len(times) * 0.99)]
        print(f"{title:>28}: ping p50 {middle * 1e3:.2f} ms, p99 {high * 1e3:.2f} ms, {len(times)} pings")
    print(f"{args.streams} streams, {max(counts)} events each; {sum(c == max(counts) for c in counts)} got them all")


if __name__ == "__main__":
    main()
