"""logs, attach, stats, top and events of a real daemon over its socket."""

import json
import os
import shutil
import socket
import time
import urllib.parse

import pytest
from daemon_process import until


def frames(data):
    found = {1: bytearray(), 2: bytearray()}
    at = 0
    while at + 8 <= len(data):
        size = int.from_bytes(data[at + 4:at + 8], "big")
        found[data[at]] += data[at + 8:at + 8 + size]
        at += 8 + size
    return {stream: bytes(text) for stream, text in found.items()}


class Raw:
    """A hijacked connection."""

    def __init__(self, engine, path, timeout=90):
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(timeout)
        self.sock.connect(engine.socket)
        self.sock.sendall(f"POST {path} HTTP/1.1\r\nHost: d\r\nConnection: Upgrade\r\nUpgrade: tcp\r\n\r\n".encode())
        head = b""
        while b"\r\n\r\n" not in head:
            head += self.sock.recv(1)
        self.head = head.decode()

    def rest(self):
        out = bytearray()
        while piece := self.sock.recv(1 << 16):
            out += piece
        return bytes(out)


def processor_ticks(pid):
    with open(f"/proc/{pid}/stat") as file:
        fields = file.read().rpartition(")")[2].split()
    return int(fields[11]) + int(fields[12])


# --- logs


def test_logs_choose_streams_and_lines(engine, leaks):
    ref = engine.run("sh", "-c", "echo one; sleep 0.1; echo err >&2; sleep 0.1; echo two; printf end")
    engine.wait(ref)
    full = engine.api("GET", f"/containers/{ref}/logs?stdout=1&stderr=1")
    assert frames(full.body) == {1: b"one\ntwo\nend", 2: b"err\n"}
    assert frames(engine.api("GET", f"/containers/{ref}/logs?stderr=1").body) == {1: b"", 2: b"err\n"}
    assert frames(engine.api("GET", f"/containers/{ref}/logs?stdout=1&tail=2").body)[1] == b"two\nend"
    stamped = frames(engine.api("GET", f"/containers/{ref}/logs?stdout=1&timestamps=1&tail=1").body)[1]
    assert stamped.endswith(b"Z end") and len(stamped) == 34


def test_logs_refuse_what_makes_no_sense(engine):
    ref = engine.create()
    answer = engine.api("GET", f"/containers/{ref}/logs")
    assert (answer.status, answer.message) == (400, "Bad parameters: you must choose at least one stream")
    assert engine.api("GET", f"/containers/{ref}/logs?stdout=1&since=soon").status == 400
    assert engine.api("GET", "/containers/none/logs?stdout=1").message == "No such container: none"
    assert engine.api("GET", f"/containers/{ref}/logs?stdout=1").body == b""


def test_follow_ends_with_the_container_and_has_every_byte(engine, leaks):
    ref = engine.run("sh", "-c", "i=0; while [ $i -lt 300 ]; do echo line $i; i=$((i+1)); done; sleep 0.3; echo last")
    answer = engine.api("GET", f"/containers/{ref}/logs?stdout=1&follow=1")
    lines = frames(answer.body)[1].split(b"\n")
    assert lines[:3] == [b"line 0", b"line 1", b"line 2"] and lines[-3:] == [b"line 299", b"last", b""]
    assert len(lines) == 302


def test_follow_of_a_container_that_does_not_run_ends_at_once(engine):
    ref = engine.run("echo", "done")
    engine.wait(ref)
    started = time.monotonic()
    assert frames(engine.api("GET", f"/containers/{ref}/logs?stdout=1&follow=1").body)[1] == b"done\n"
    assert time.monotonic() - started < 30


def test_a_client_that_leaves_leaves_nothing(engine):
    ref = engine.run("sh", "-c", "while :; do echo x; sleep 0.01; done")
    place = f"/proc/{engine.process.pid}/fd"
    engine.api("GET", "/_ping")
    before = len(os.listdir(place))
    for path in ("logs?stdout=1&follow=1", "stats", "logs?stdout=1&follow=1&timestamps=1"):
        for _ in range(10):
            client = socket.socket(socket.AF_UNIX)
            client.connect(engine.socket)
            client.sendall(f"GET /containers/{ref}/{path} HTTP/1.1\r\nHost: d\r\n\r\n".encode())
            client.recv(100)
            client.close()
    until(lambda: len(os.listdir(place)) <= before + 2, "their end")


def test_a_client_that_leaves_its_exec_leaves_nothing(engine, leaks):
    """Gone before it has been told of the start, and before there is any output."""
    ref = engine.run("sleep", "1000")
    place = f"/proc/{engine.process.pid}/fd"
    engine.api("GET", "/_ping")
    before = len(os.listdir(place))
    ids = []
    for _ in range(20):
        ids.append(engine.api("POST", f"/containers/{ref}/exec", {"Cmd": ["true"], "AttachStdout": True}).json["Id"])
        client = socket.socket(socket.AF_UNIX)
        client.connect(engine.socket)
        client.sendall(f"POST /exec/{ids[-1]}/start HTTP/1.1\r\nHost: d\r\nContent-Type: application/json\r\n"
                       "Connection: Upgrade\r\nUpgrade: tcp\r\nContent-Length: 2\r\n\r\n{}".encode())
        client.close()
    for exec_id in ids:
        until(lambda found=exec_id: not engine.api("GET", f"/exec/{found}/json").json["Running"], "its end")
    until(lambda: len(os.listdir(place)) <= before + 2, "their end")
    assert engine.api("DELETE", f"/containers/{ref}?force=1").status == 204


# --- attach


def test_attach_before_start_gets_the_first_byte_and_the_last(engine, leaks):
    ref = engine.create("sh", "-c", "echo out; echo err >&2; exit 3")
    attached = Raw(engine, f"/containers/{ref}/attach?stream=1&stdout=1&stderr=1")
    assert attached.head.startswith("HTTP/1.1 101 UPGRADED")
    assert "application/vnd.docker.multiplexed-stream" in attached.head
    engine.api("POST", f"/containers/{ref}/start")
    assert frames(attached.rest()) == {1: b"out\n", 2: b"err\n"}
    assert engine.wait(ref) == 3


def test_old_clients_are_told_raw(engine):
    ref = engine.create("true")
    attached = Raw(engine, f"/v1.41/containers/{ref}/attach?stream=1&stdout=1")
    assert "application/vnd.docker.raw-stream" in attached.head
    attached.sock.close()


def test_attach_feeds_input_and_ends_it(engine, leaks):
    ref = engine.create("cat", OpenStdin=True, StdinOnce=True, AttachStdin=True)
    attached = Raw(engine, f"/containers/{ref}/attach?stream=1&stdin=1&stdout=1&stderr=1")
    attached.sock.sendall(b"before start\n")
    engine.api("POST", f"/containers/{ref}/start")
    attached.sock.sendall(b"z" * 1_000_000)
    attached.sock.shutdown(socket.SHUT_WR)
    assert frames(attached.rest())[1] == b"before start\n" + b"z" * 1_000_000
    assert engine.wait(ref) == 0


def test_input_that_is_not_once_outlives_its_client(engine):
    ref = engine.run("cat", OpenStdin=True)
    for text in (b"first\n", b"second\n"):
        attached = Raw(engine, f"/containers/{ref}/attach?stream=1&stdin=1&stdout=1")
        attached.sock.sendall(text)
        heard = b""
        while len(heard) < 8 + len(text):
            heard += attached.sock.recv(100)
        assert frames(heard)[1] == text
        attached.sock.close()
    assert engine.inspect(ref)["State"]["Running"]


def test_attach_shows_what_was_written_when_asked(engine):
    ref = engine.run("echo", "earlier")
    engine.wait(ref)
    assert frames(Raw(engine, f"/containers/{ref}/attach?logs=1&stdout=1").rest())[1] == b"earlier\n"


def test_detach_keys_leave_the_container_running(engine):
    ref = engine.run("cat", OpenStdin=True, Tty=True)
    attached = Raw(engine, f"/containers/{ref}/attach?stream=1&stdin=1&stdout=1&detachKeys=ctrl-a,b")
    assert "raw-stream" in attached.head
    attached.sock.sendall(b"hi\n")
    assert attached.sock.recv(1, socket.MSG_PEEK) == b"h"
    attached.sock.sendall(b"\x01b")
    assert attached.rest().startswith(b"hi\r\n")
    assert engine.inspect(ref)["State"]["Running"]
    answer = engine.api("POST", f"/containers/{ref}/attach?detachKeys=nokey")
    assert (answer.status, answer.message) == (400, "Invalid detach keys (nokey) provided")


def test_a_stopped_client_slows_nobody(engine):
    ref = engine.create("sh", "-c", "dd if=/dev/zero bs=1M count=64; echo done")
    stuck = Raw(engine, f"/containers/{ref}/attach?stream=1&stdout=1")  # and never read
    engine.api("POST", f"/containers/{ref}/start")
    assert engine.wait(ref) == 0
    assert frames(stuck.rest())[1][-5:] == b"done\n"


def test_paused_containers_are_not_attached(engine):
    ref = engine.run()
    engine.api("POST", f"/containers/{ref}/pause")
    answer = engine.api("POST", f"/containers/{ref}/attach?stream=1&stdout=1")
    assert (answer.status, answer.message) == (
        409, f"container {ref} is paused, unpause the container before attach")
    engine.api("POST", f"/containers/{ref}/unpause")


def test_idle_followers_cost_no_processor_time(engine):
    ref = engine.run()
    followers = [Raw(engine, f"/containers/{ref}/attach?stream=1&stdout=1") for _ in range(50)]

    def idle():
        before = processor_ticks(engine.process.pid)
        time.sleep(1)
        return processor_ticks(engine.process.pid) - before <= 3

    until(idle, "a second of rest")  # what came before may still be going on
    for follower in followers:
        follower.sock.close()


# --- stats and top


def test_stats(engine):
    ref = engine.run("sh", "-c", "while :; do :; done")
    found = engine.api("GET", f"/containers/{ref}/stats?stream=0").json
    assert found["id"] == ref and found["name"].startswith("/")
    assert found["cpu_stats"]["cpu_usage"]["total_usage"] > found["precpu_stats"]["cpu_usage"]["total_usage"] > 0
    assert found["cpu_stats"]["system_cpu_usage"] > found["precpu_stats"]["system_cpu_usage"]
    assert found["memory_stats"]["usage"] > 0 and found["pids_stats"]["current"] == 1
    assert found["networks"]["eth0"].keys() >= {"rx_bytes", "tx_dropped"}
    shot = engine.api("GET", f"/containers/{ref}/stats?stream=0&one-shot=1").json
    assert shot["precpu_stats"]["cpu_usage"]["total_usage"] == 0


def test_stats_of_a_stopped_container_are_empty(engine):
    found = engine.api("GET", f"/containers/{engine.create()}/stats?stream=0").json
    assert found["read"] == "0001-01-01T00:00:00Z" and found["memory_stats"] == {}


def test_top(engine):
    ref = engine.run("sleep", "1000")
    found = engine.api("GET", f"/containers/{ref}/top").json
    assert found["Titles"] == ["UID", "PID", "PPID", "C", "STIME", "TTY", "TIME", "CMD"]
    assert len(found["Processes"]) == 1 and found["Processes"][0][-1] == "sleep 1000"
    assert found["Processes"][0][1] == str(engine.inspect(ref)["State"]["Pid"])
    aux = engine.api("GET", f"/containers/{ref}/top?ps_args=aux").json
    assert aux["Titles"][:2] == ["USER", "PID"] and aux["Titles"][-1] == "COMMAND"
    chosen = engine.api("GET", f"/containers/{ref}/top?ps_args=-o%20pid,comm").json
    assert chosen["Processes"][0][1] == "sleep"
    assert engine.api("GET", f"/containers/{ref}/top?ps_args=-o%20comm").message == "Couldn't find PID field in ps output"
    assert engine.api("GET", f"/containers/{ref}/top?ps_args=--forest").status == 501
    assert engine.api("GET", f"/containers/{engine.create()}/top").status == 409


# --- system


def test_ping_version_info(engine):
    assert engine.api("GET", "/_ping").body == b"OK"
    version = engine.api("GET", "/version").json
    assert (version["ApiVersion"], version["MinAPIVersion"]) == ("1.51", "1.24")
    assert version["Components"][0]["Name"] == "Engine"
    info = engine.api("GET", "/info").json
    assert info["Swarm"]["LocalNodeState"] == "inactive" and info["Driver"] == "overlayfs"
    assert info["ContainersRunning"] + info["ContainersPaused"] + info["ContainersStopped"] == info["Containers"]
    old = engine.api("GET", "/v1.40/info").json
    assert "CgroupVersion" not in old and old["BridgeNfIptables"] is False


def test_events_with_since_until_and_filters(engine):
    began = time.time()
    ref = engine.run("true", name="seen")
    engine.wait(ref)
    filters = urllib.parse.quote(json.dumps({"container": ["seen"], "event": ["create", "start", "die"]}))
    answer = engine.api("GET", f"/events?since={began:.9f}&until={time.time():.9f}&filters={filters}")
    events = [json.loads(line) for line in answer.body.splitlines()]
    assert [event["Action"] for event in events] == ["create", "start", "die"]
    assert events[2]["Actor"]["Attributes"]["exitCode"] == "0" and events[2]["status"] == "die"
    assert engine.api("GET", '/events?since=2&until=1').status == 400
    assert engine.api("GET", f"/events?since=0&until={time.time():.9f}").body, "0 is a time, not the absence of one"
    assert engine.api("GET", "/events?filters=" + urllib.parse.quote('{"nonsense":["x"]}')).status == 400


def test_df_counts(engine):
    engine.create(HostConfig={"Binds": ["dfvol:/v"]})
    found = engine.api("GET", "/system/df").json
    assert len(found["Containers"]) == 1 and len(found["Images"]) >= 1
    assert [volume["Name"] for volume in found["Volumes"]] == ["dfvol"]
    assert engine.api("GET", "/system/df?type=volume").json["Images"] is None
    assert engine.api("GET", "/system/df?type=dog").status == 400


@pytest.mark.parametrize(("method", "path", "status"), [
    ("GET", "/swarm", 503), ("GET", "/nodes", 503), ("POST", "/services/create", 503), ("POST", "/swarm/leave", 503),
    ("GET", "/plugins", 200), ("POST", "/plugins/pull", 501), ("GET", "/containers/{}/attach/ws", 400),
    ("GET", "/containers/{}/checkpoints", 501), ("GET", "/nonesuch", 404), ("PATCH", "/info", 404),
])
def test_the_rest_of_dockers_api_answers(engine, method, path, status):
    answer = engine.api(method, path.format(engine.create()))
    assert answer.status == status
    if status >= 400:
        assert set(answer.json) == {"message"}


@pytest.mark.skipif(not shutil.which("docker"), reason="needs the docker CLI")
def test_the_docker_cli(engine):
    assert engine.docker("run", "-i", "--rm", "busybox", "cat", stdin="typed").stdout == "typed"
    ref = engine.run("sh", "-c", "echo hello; sleep 1000", name="cli")
    engine.said(ref, "hello\n")
    assert engine.docker("logs", "cli").stdout == "hello\n"
    assert "sleep 1000" in engine.docker("top", "cli").stdout
    assert ref[:12] in engine.docker("stats", "--no-stream", "cli").stdout
    assert "Server Version" in engine.docker("info").stdout
    assert "Images" in engine.docker("system", "df").stdout
    created = engine.docker("events", "--since", "10m", "--until", "0s", "--filter", "event=create")
    assert "name=cli" in created.stdout


# --- taken-over answers


def started_exec(engine, created, started):
    ref = engine.run()
    made = engine.api("POST", f"/containers/{ref}/exec", {
        "Cmd": ["sh", "-c", "echo out; echo err >&2"], "AttachStdout": True, "AttachStderr": True, **created}).json["Id"]
    body = json.dumps(started).encode()
    sock = socket.socket(socket.AF_UNIX)
    sock.settimeout(90)
    sock.connect(engine.socket)
    sock.sendall(f"POST /exec/{made}/start HTTP/1.1\r\nHost: d\r\nConnection: Upgrade\r\nUpgrade: tcp\r\nContent-Type: "
                 f"application/json\r\nContent-Length: {len(body)}\r\n\r\n".encode() + body)
    until(lambda: engine.api("GET", f"/exec/{made}/json").json["ExitCode"] == 0, "its end")  # not read from before
    return sock


def everything(sock):
    out = b""
    while piece := sock.recv(1 << 16):
        out += piece
    return out


@pytest.mark.parametrize(("created", "started", "want"), [
    ({}, {}, {1: b"out\n", 2: b"err\n"}),
    ({"Tty": True}, {}, {1: b"out\r\nerr\r\n", 2: b""}),
    ({"Tty": True}, {"Tty": True}, b"out\r\nerr\r\n"),
    ({}, {"Tty": True}, b"out\nerr\n"),
])
def test_the_head_comes_alone_and_frames_are_what_the_start_asks_for(engine, created, started, want):
    sock = started_exec(engine, created, started)
    head = sock.recv(1 << 16)  # a client may read as much as it likes here, and throw the buffer away
    assert head.startswith(b"HTTP/1.1 101") and head.endswith(b"\r\n\r\n"), head
    rest = everything(sock)
    if isinstance(want, bytes):
        assert sorted(rest.splitlines()) == sorted(want.splitlines())
    else:
        assert frames(rest) == want


def test_log_and_attachment_are_whole_once_wait_has_answered(engine):
    for _ in range(5):
        ref = engine.run("echo", "hello")
        assert engine.wait(ref) == 0
        assert frames(engine.api("GET", f"/containers/{ref}/logs?stdout=1").body)[1] == b"hello\n"
        assert frames(Raw(engine, f"/containers/{ref}/attach?logs=1&stdout=1").rest())[1] == b"hello\n"
