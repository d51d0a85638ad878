"""Clients that are slow, stopped or many: they hold up no container, no log and no other client."""

import json
import resource
import select
import socket
import subprocess
import threading
import time

from daemon_process import DOCKER

PATIENCE_S = 120
MANY = 1000
SIZE = 24 << 20
CHATTER = f"i=0; while [ $i -lt 3 ]; do head -c {SIZE // 3} /dev/zero; echo err >&2; i=$((i+1)); done; exit 7"


def stuck(engine, request):
    """A client that has asked, has read the head of the answer, and reads no more."""
    sock = socket.socket(socket.AF_UNIX)
    sock.settimeout(PATIENCE_S)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    sock.connect(engine.socket)
    sock.sendall(f"{request} HTTP/1.1\r\nHost: d\r\nConnection: Upgrade\r\nUpgrade: tcp\r\n\r\n".encode())
    head = b""
    while b"\r\n\r\n" not in head:
        head += sock.recv(1)
    return sock


def rest(sock):
    data = bytearray()
    while piece := sock.recv(1 << 16):
        data += piece
    sock.close()
    return bytes(data)


def payload(data):
    """A multiplexed stream's bytes by stream number."""
    found, at = {1: 0, 2: 0}, 0
    while at + 8 <= len(data):
        size = int.from_bytes(data[at + 4:at + 8], "big")
        found[data[at]] += size
        at += 8 + size
    return found


def test_a_stopped_client_slows_neither_container_nor_log_nor_others(engine):
    ref = engine.create("sh", "-c", CHATTER)
    wanted = {1: SIZE // 3 * 3, 2: 12}
    attached = stuck(engine, f"POST /containers/{ref}/attach?stream=1&stdout=1&stderr=1")
    events = stuck(engine, "GET /events")
    assert engine.api("POST", f"/containers/{ref}/start").status == 204
    followed = stuck(engine, f"GET /v1.51/containers/{ref}/logs?follow=1&stdout=1&stderr=1")
    answers = []
    other = threading.Thread(target=lambda: answers.append(engine.api(
        "GET", f"/containers/{ref}/logs?follow=1&stdout=1&stderr=1", timeout=PATIENCE_S)))
    other.start()
    assert engine.wait(ref) == 7  # it has written all of it, though three have read nothing
    other.join(PATIENCE_S)
    assert payload(answers[0].body) == wanted
    assert payload(engine.api("GET", f"/containers/{ref}/logs?stdout=1&stderr=1").body) == wanted
    assert payload(rest(attached)) == wanted  # nothing is lost for one that goes on
    followed.close()
    events.close()


def test_a_client_that_has_gone_away_costs_no_output(engine):
    ref = engine.create("sh", "-c", CHATTER)
    attached = stuck(engine, f"POST /containers/{ref}/attach?stream=1&stdout=1&stderr=1")
    assert engine.api("POST", f"/containers/{ref}/start").status == 204
    attached.close()
    assert engine.wait(ref) == 7
    assert payload(engine.api("GET", f"/containers/{ref}/logs?stdout=1&stderr=1").body) == {1: SIZE // 3 * 3, 2: 12}


def test_a_thousand_listeners_hear_of_a_start(own_engine):
    """Each of them, while others are answered."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    streams, poll, heard = {}, select.epoll(), {}
    try:
        for _ in range(MANY):
            sock = stuck(own_engine, "GET /events?filters=%7B%22event%22%3A%5B%22start%22%5D%7D")
            sock.setblocking(False)
            streams[sock.fileno()] = sock
            poll.register(sock.fileno(), select.EPOLLIN)
        ref = own_engine.run("true")
        deadline = time.monotonic() + PATIENCE_S
        while len(heard) < MANY and time.monotonic() < deadline:
            assert own_engine.api("GET", "/_ping").status == 200
            for descriptor, _ in poll.poll(0.1):
                heard[descriptor] = heard.get(descriptor, b"") + streams[descriptor].recv(1 << 16)
        assert len(heard) == MANY
        events = {data.split(b"\r\n")[1] for data in heard.values()}
        assert len(events) == 1 and json.loads(events.pop())["Actor"]["ID"] == ref
    finally:
        for sock in streams.values():
            sock.close()
        resource.setrlimit(resource.RLIMIT_NOFILE, before)
    deadline = time.monotonic() + PATIENCE_S
    while len(own_engine.api("GET", "/_ping").body) and descriptors(own_engine) > 200:
        assert time.monotonic() < deadline, "the daemon keeps their descriptors"
        time.sleep(0.1)


def descriptors(engine):
    import os

    return len(os.listdir(f"/proc/{engine.process.pid}/fd"))


def test_run_rm_returns_the_real_code(engine):
    """However quickly it ends, and however many there are."""
    failures = []

    def work(first):
        for code in range(first, first + 6):
            done = subprocess.run(
                [DOCKER, "-H", f"unix://{engine.socket}", "run", "--rm", "--network", "none", "busybox", "sh", "-c",
                 f"echo {code}; exit {code}"], capture_output=True, text=True, timeout=PATIENCE_S, stdin=subprocess.DEVNULL)
            if (done.returncode, done.stdout) != (code, f"{code}\n"):
                failures.append((code, done))

    threads = [threading.Thread(target=work, args=(first,)) for first in range(1, 49, 6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failures, failures
    assert engine.api("GET", "/containers/json?all=1").json == []
