"""Containers over the API, against a real daemon: what is created, how it runs, ends, is listed and goes."""

import datetime
import json
import os
import socket
import threading
import time
import urllib.parse

import pytest
from daemon_process import settled, until


def filtered(engine, all=True, **filters):
    query = urllib.parse.quote(json.dumps(filters))
    answer = engine.api("GET", f"/containers/json?all={int(all)}&filters={query}")
    return answer


def names(answer):
    return {row["Names"][0].removeprefix("/") for row in answer.json}


# --- create


def test_create_inspect_remove(engine, leaks):
    container_id = engine.create("sleep", "9", name="web", Env=["A=1"], Labels={"a": "b"}, Hostname="box",
                                 HostConfig={"Memory": 64 << 20, "Binds": ["/tmp:/t:ro", "vol:/v"]})
    found = engine.inspect("web")
    assert found["Id"] == container_id and found["Name"] == "/web" and found["Path"] == "sleep"
    assert found["State"]["Status"] == "created" and found["State"]["StartedAt"] == "0001-01-01T00:00:00Z"
    assert found["Config"]["Hostname"] == "box" and "A=1" in found["Config"]["Env"]
    assert found["HostConfig"]["Memory"] == 64 << 20 and found["HostConfig"]["MemorySwap"] == 128 << 20
    assert {m["Destination"]: (m["Type"], m["RW"]) for m in found["Mounts"]} == {"/t": ("bind", False), "/v": ("volume", True)}
    assert engine.api("DELETE", "/containers/web").status == 204
    assert engine.api("GET", "/containers/web/json").status == 404


@pytest.mark.parametrize(("body", "status", "text"), [
    ({"Image": "nope"}, 404, "No such image: nope:latest"),
    ({"Image": "UPPER"}, 400, "invalid reference format"),
    ({"Image": "busybox", "HostConfig": {"Memory": 4096}}, 400, "Minimum memory limit allowed is 6MB"),
    ({"Image": "busybox", "HostConfig": {"CapAdd": ["NOPE"]}}, 400, "unknown capability"),
    ({"Image": "busybox", "HostConfig": {"Runtime": "kata"}}, 400, "unknown or invalid runtime name: kata"),
    ({"Image": "busybox", "HostConfig": {"LogConfig": {"Type": "fluentd"}}}, 501, "LogConfig.Type"),
    ({"Image": "busybox", "HostConfig": {"Ulimits": [{"Name": "foo"}]}}, 400, "invalid ulimit type: foo"),
    ({"Image": "busybox", "HostConfig": {"Mounts": [{"Type": "bind", "Source": "/nope", "Target": "/x"}]}}, 400,
     "bind source path does not exist: /nope"),
    ({"Image": "busybox", "HostConfig": {"VolumesFrom": ["nope"]}}, 400, "No such container: nope"),
    ({"Image": "busybox", "Env": ["=x"]}, 400, "invalid environment variable"),
    ({"Image": "busybox", "StopSignal": "nope"}, 400, "invalid signal: nope"),
    ({"Image": "busybox", "Cmd": [], "Entrypoint": [""]}, 400, "no command specified"),
    ({"Image": "busybox", "Tty": "yes"}, 400, "invalid JSON"),
])
def test_a_bad_request_leaves_nothing(engine, leaks, body, status, text):
    before = os.listdir(f"{engine.folder}/data/containers"), len(os.listdir(f"{engine.folder}/data/snapshots"))
    answer = engine.api("POST", "/containers/create?name=bad", body)
    assert (answer.status, text in answer.message) == (status, True), answer.body
    assert names(filtered(engine)) == set()
    assert before == (os.listdir(f"{engine.folder}/data/containers"), len(os.listdir(f"{engine.folder}/data/snapshots")))


def test_a_name_is_used_once(engine):
    first = engine.create(name="web")
    answer = engine.api("POST", "/containers/create?name=web", {"Image": "busybox"})
    assert answer.status == 409 and answer.message == (
        f'Conflict. The container name "/web" is already in use by container "{first}". You have to remove (or rename) '
        "that container to be able to reuse that name.")
    second = engine.create()
    assert engine.api("POST", f"/containers/{second}/rename?name=web").status == 409
    assert engine.api("POST", f"/containers/{second}/rename?name=other").status == 204
    assert engine.inspect("other")["Id"] == second


def test_creating_one_name_at_once_gives_one_container(engine):
    answers = []

    def make():
        answers.append(engine.api("POST", "/containers/create?name=race", {"Image": "busybox"}).status)

    threads = [threading.Thread(target=make) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(answers) == [201] + [409] * 7


# --- running


def test_run_to_the_end(engine, leaks):
    container_id = engine.run("sh", "-c", "echo out; echo err >&2; exit 7", Env=["X=1"])
    assert engine.wait(container_id) == 7
    state = engine.inspect(container_id)["State"]
    assert (state["Status"], state["ExitCode"], state["Pid"], state["Running"]) == ("exited", 7, 0, False)
    assert sorted(engine.logs(container_id).split()) == ["err", "out"]
    assert engine.api("DELETE", f"/containers/{container_id}").status == 204


def test_what_the_program_sees(engine):
    script = "id -u; hostname; pwd; echo $A; cat /proc/1/comm; cat /proc/self/status | grep CapBnd"
    container_id = engine.run("sh", "-c", script, Env=["A=b c"], Hostname="box", WorkingDir="/made/here", User="33:100")
    assert engine.wait(container_id) == 0
    lines = engine.logs(container_id).splitlines()
    assert lines[:5] == ["33", "box", "/made/here", "b c", "sh"]
    assert int(lines[5].split()[1], 16).bit_count() <= 11


@pytest.mark.parametrize(("command", "status", "text", "code"), [
    (["nope"], 400, 'exec: "nope": executable file not found in $PATH', 127),
    (["/nope"], 400, 'exec: "/nope": stat /nope: no such file or directory', 127),
    (["/etc"], 400, 'exec: "/etc": is a directory: permission denied', 126),
    (["/etc/passwd"], 400, 'exec: "/etc/passwd": permission denied', 126),
])
def test_a_program_that_cannot_run(engine, leaks, command, status, text, code):
    container_id = engine.create(*command)
    answer = engine.api("POST", f"/containers/{container_id}/start")
    assert answer.status == status and text in answer.message
    assert answer.message.startswith("failed to create task for container: failed to create shim task: OCI runtime")
    state = engine.inspect(container_id)["State"]
    assert state["ExitCode"] == code and state["Status"] == "created" and text in state["Error"]
    engine.api("DELETE", f"/containers/{container_id}")


def test_an_unknown_user(engine, leaks):
    container_id = engine.create("true", User="foo")
    answer = engine.api("POST", f"/containers/{container_id}/start")
    assert answer.message == "unable to find user foo: no matching entries in passwd file"
    engine.api("DELETE", f"/containers/{container_id}")


def test_states_refuse_what_they_cannot(engine):
    container_id = engine.create()
    assert engine.api("POST", f"/containers/{container_id}/kill").status == 409
    assert engine.api("POST", f"/containers/{container_id}/stop").status == 304
    assert engine.api("POST", f"/containers/{container_id}/pause").status == 409
    engine.api("POST", f"/containers/{container_id}/start")
    assert engine.api("POST", f"/containers/{container_id}/start").status == 304
    answer = engine.api("DELETE", f"/containers/{container_id}")
    assert answer.status == 409 and "container is running: stop the container before removing" in answer.message
    assert engine.api("DELETE", f"/containers/{container_id}?force=1").status == 204


def test_stop_asks_first_and_kills_after(engine):
    polite = engine.run("sh", "-c", "trap 'exit 5' TERM; echo up; while :; do sleep 0.05; done")
    rude = engine.run("sh", "-c", "trap '' TERM; echo up; while :; do sleep 0.05; done")
    engine.said(polite, "up\n")
    engine.said(rude, "up\n")
    assert engine.api("POST", f"/containers/{polite}/stop?t=50").status == 204
    assert engine.inspect(polite)["State"]["ExitCode"] == 5
    start = time.monotonic()
    assert engine.api("POST", f"/containers/{rude}/stop?t=1").status == 204
    assert 0.9 < time.monotonic() - start < 10  # ten seconds are what a stop gives that names no time
    assert engine.inspect(rude)["State"]["ExitCode"] == 137


def test_kill_with_a_signal(engine):
    container_id = engine.run("sh", "-c", "trap 'exit 9' USR1; echo up; while :; do sleep 0.05; done")
    engine.said(container_id, "up\n")
    assert engine.api("POST", f"/containers/{container_id}/kill?signal=USR1").status == 204
    assert engine.wait(container_id) == 9
    assert engine.api("POST", f"/containers/{container_id}/kill?signal=nope").status in (400, 409)


def test_pause_stops_everything(engine):
    container_id = engine.run("sh", "-c", "while :; do echo x; sleep 0.01; done")
    assert engine.api("POST", f"/containers/{container_id}/pause").status == 204
    assert engine.inspect(container_id)["State"]["Paused"] is True
    assert engine.api("POST", f"/containers/{container_id}/pause").status == 409
    first = settled(lambda: engine.logs(container_id))
    time.sleep(0.2)
    assert engine.logs(container_id) == first
    assert engine.api("POST", f"/containers/{container_id}/unpause").status == 204
    until(lambda: len(engine.logs(container_id)) > len(first), "more output")
    engine.api("POST", f"/containers/{container_id}/pause")
    assert engine.api("DELETE", f"/containers/{container_id}?force=1").status == 204


def test_restart_gives_a_new_process(engine):
    container_id = engine.run()
    before = engine.inspect(container_id)["State"]["Pid"]
    assert engine.api("POST", f"/containers/{container_id}/restart?t=0").status == 204
    state = engine.inspect(container_id)["State"]
    assert state["Running"] and state["Pid"] not in (0, before)


# --- the end


def wait_later(engine, container_id, condition):
    """Begin to wait; what gives the code. The engine has said that it waits when this returns."""
    client = socket.socket(socket.AF_UNIX)
    client.settimeout(90)
    client.connect(engine.socket)
    client.sendall(f"POST /containers/{container_id}/wait?condition={condition} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
    head = b""
    while b"\r\n\r\n" not in head:
        head += client.recv(1)
    assert head.startswith(b"HTTP/1.1 200"), head

    def code():
        with client:
            body = b""
            while not body.endswith(b"0\r\n\r\n"):
                body += client.recv(1000)
            return json.loads(body.split(b"\r\n")[1])["StatusCode"]

    return code


def test_auto_remove_tells_its_code_first(engine, leaks):
    for code in range(10):
        container_id = engine.create("sh", "-c", f"exit {code}", HostConfig={"AutoRemove": True})
        told = wait_later(engine, container_id, "removed")
        assert engine.api("POST", f"/containers/{container_id}/start").status == 204
        assert told() == code
        assert engine.api("GET", f"/containers/{container_id}/json").status == 404


def test_wait_for_the_next_exit_before_the_start(engine):
    container_id = engine.create("sh", "-c", "exit 4")
    told = wait_later(engine, container_id, "next-exit")
    engine.api("POST", f"/containers/{container_id}/start")
    assert told() == 4
    assert engine.wait(container_id) == 4
    assert engine.api("POST", f"/containers/{container_id}/wait?condition=foo").message == 'invalid condition: "foo"'


def test_wait_sends_its_headers_at_once(engine):
    container_id = engine.run()
    with socket.socket(socket.AF_UNIX) as client:
        client.settimeout(90)
        client.connect(engine.socket)
        client.sendall(f"POST /containers/{container_id}/wait HTTP/1.1\r\nHost: x\r\n\r\n".encode())
        assert client.recv(100).startswith(b"HTTP/1.1 200")
    assert engine.inspect(container_id)["State"]["Running"]


def test_restart_policy(engine):
    container_id = engine.run("false", HostConfig={"RestartPolicy": {"Name": "on-failure", "MaximumRetryCount": 2}})
    until(lambda: engine.inspect(container_id)["State"]["Status"] == "exited", "its last end")
    found = engine.inspect(container_id)
    assert found["RestartCount"] == 2 and found["State"]["ExitCode"] == 1
    always = engine.run("true", HostConfig={"RestartPolicy": {"Name": "always"}})
    until(lambda: engine.inspect(always)["RestartCount"] >= 1, "a restart")
    assert engine.api("POST", f"/containers/{always}/stop?t=1").status in (204, 304)
    count = engine.inspect(always)["RestartCount"]
    time.sleep(0.6)
    found = engine.inspect(always)
    assert found["RestartCount"] == count and found["State"]["Status"] == "exited"


def test_events_of_one_life(engine):
    since = time.time()
    container_id = engine.run("true", name="evt", Labels={"k": "v"})
    engine.wait(container_id)
    state = engine.inspect(container_id)["State"]
    engine.api("DELETE", f"/containers/{container_id}")
    query = urllib.parse.quote(json.dumps({"container": [container_id]}))
    answer = engine.api("GET", f"/events?since={since:.6f}&until={time.time() + 0.2:.6f}&filters={query}")
    events = [json.loads(line) for line in answer.body.splitlines() if line.strip()]
    assert [e["Action"] for e in events if e["Type"] == "container"] == ["create", "start", "die", "destroy"]
    die = next(e for e in events if e["Action"] == "die")
    began, ended = (datetime.datetime.fromisoformat(state[name]) for name in ("StartedAt", "FinishedAt"))
    assert began <= ended
    assert die["Actor"]["Attributes"] == {
        "image": "busybox", "name": "evt", "k": "v", "exitCode": "0", "execDuration": str((ended - began).seconds)}
    assert die["status"] == "die" and die["id"] == container_id and die["from"] == "busybox"


# --- volumes and mounts


def test_anonymous_volumes_go_when_asked(engine):
    one = engine.create(name="one", Volumes={"/data": {}})
    two = engine.create(name="two", Volumes={"/data": {}})
    volumes = [engine.inspect(c)["Mounts"][0]["Name"] for c in (one, two)]
    engine.api("DELETE", f"/containers/{one}?v=1")
    engine.api("DELETE", f"/containers/{two}")
    assert engine.api("GET", f"/volumes/{volumes[0]}").status == 404
    assert engine.api("GET", f"/volumes/{volumes[1]}").status == 200


def test_mounts_work(engine, tmp_path):
    (tmp_path / "file").write_text("from the host")
    script = "cat /b/file; echo no > /b/new; echo yes > /v/new; stat -c %a /t; df -k /t | tail -1"
    container_id = engine.run("sh", "-c", script, HostConfig={
        "Binds": [f"{tmp_path}:/b:ro", "keep:/v"], "Tmpfs": {"/t": "mode=700,size=1m"}})
    engine.wait(container_id)
    text = engine.logs(container_id)
    assert "from the host" in text and "Read-only file system" in text and "700" in text and " 1024 " in text
    assert not (tmp_path / "new").exists()
    again = engine.run("cat", "/v/new", HostConfig={"VolumesFrom": [container_id]})
    engine.wait(again)
    assert engine.logs(again) == "yes\n"


def test_an_absent_bind_source_is_made_by_v(engine, tmp_path):
    container_id = engine.run("true", HostConfig={"Binds": [f"{tmp_path}/a/b:/x"]})
    engine.wait(container_id)
    assert (tmp_path / "a/b").is_dir()


def test_read_only_root(engine):
    container_id = engine.run("sh", "-c", "echo x > /file", HostConfig={"ReadonlyRootfs": True})
    assert engine.wait(container_id) != 0 and "Read-only file system" in engine.logs(container_id)


# --- listing


def test_list_and_filters(engine):
    web = engine.run(name="web", Labels={"tier": "front"}, ExposedPorts={"80/tcp": {}})
    done = engine.run("sh", "-c", "exit 3", name="done", Labels={"tier": "back"}, HostConfig={"Binds": ["vol:/data"]})
    engine.wait(done)
    engine.create(name="new")
    assert names(engine.api("GET", "/containers/json")) == {"web"}
    assert names(filtered(engine)) == {"web", "done", "new"}
    assert [row["Names"][0] for row in engine.api("GET", "/containers/json?limit=1").json] == ["/new"]
    for filters, expected in (
        ({"label": ["tier=front"]}, {"web"}), ({"label": ["tier"]}, {"web", "done"}), ({"name": ["^/?d"]}, {"done"}),
        ({"status": ["exited"]}, {"done"}), ({"exited": ["3"]}, {"done"}), ({"exited": ["0"]}, set()),
        ({"id": [web[:6]]}, {"web"}), ({"ancestor": ["busybox"]}, {"web", "done", "new"}), ({"volume": ["vol"]}, {"done"}),
        ({"volume": ["/data"]}, {"done"}), ({"before": ["done"]}, {"web"}), ({"since": ["done"]}, {"new"}),
        ({"network": ["bridge"]}, {"web", "done", "new"}), ({"expose": ["80"]}, {"web"}), ({"health": ["none"]}, {"web", "done", "new"}),
        ({"status": ["running", "created"]}, {"web", "new"}), ({"is-task": ["true"]}, set()),
    ):
        assert names(filtered(engine, **filters)) == expected, filters
    for filters, text in (
        ({"foo": ["x"]}, "invalid filter 'foo'"), ({"status": ["x"]}, "invalid value for state (x)"),
        ({"exited": ["x"]}, 'parsing "x": invalid syntax'),
    ):
        answer = filtered(engine, **filters)
        assert answer.status == 400 and text in answer.message
    row = next(r for r in filtered(engine).json if r["Id"] == done)
    assert row["Status"].startswith("Exited (3)") and row["Command"] == "sh -c 'exit 3'" and row["State"] == "exited"


def test_prune(engine):
    engine.run(name="stays")
    gone = engine.create(name="goes")
    engine.create(name="kept", Labels={"keep": "1"})
    query = urllib.parse.quote('{"label!":["keep"]}')
    answer = engine.api("POST", f"/containers/prune?filters={query}").json
    assert answer["ContainersDeleted"] == [gone]
    assert names(filtered(engine)) == {"stays", "kept"}


def test_update(engine):
    container_id = engine.run(HostConfig={"Memory": 64 << 20})
    answer = engine.api("POST", f"/containers/{container_id}/update", {
        "PidsLimit": 17, "RestartPolicy": {"Name": "unless-stopped"}})
    assert answer.status == 200 and answer.json == {"Warnings": None}
    host = engine.inspect(container_id)["HostConfig"]
    assert host["PidsLimit"] == 17 and host["Memory"] == 64 << 20 and host["RestartPolicy"]["Name"] == "unless-stopped"
    assert engine.api("POST", f"/containers/{container_id}/update", {"Memory": 4096}).status == 400


# --- exec


def exec_of(engine, container_id, *command, **body):
    answer = engine.api("POST", f"/containers/{container_id}/exec", {
        "Cmd": list(command), "AttachStdout": True, "AttachStderr": True, **body})
    assert answer.status == 201, answer.body
    return answer.json["Id"]


def unframed(data):
    text = b""
    while data:
        size = int.from_bytes(data[4:8], "big")
        text, data = text + data[8:8 + size], data[8 + size:]
    return text


def test_exec_runs_and_tells_its_code(engine):
    container_id = engine.run(Env=["A=1"], name="target")
    exec_id = exec_of(engine, container_id, "sh", "-c", "echo $A $B; id -u; pwd; exit 5", Env=["B=2"], User="33", WorkingDir="/tmp")
    answer = engine.api("POST", f"/exec/{exec_id}/start", {})
    assert unframed(answer.body) == b"1 2\n33\n/tmp\n"
    found = engine.api("GET", f"/exec/{exec_id}/json").json
    assert found["ExitCode"] == 5 and found["Running"] is False and found["ContainerID"] == container_id
    assert engine.api("POST", f"/exec/{exec_id}/start", {}).message == f"exec command {exec_id} has already run"


def started_by_many(engine, exec_id, count):
    """The status and the output that each of `count` clients has got who start one exec at the same moment."""
    payload = b'{"Detach":false,"Tty":false}'
    head = (f"POST /exec/{exec_id}/start HTTP/1.1\r\nHost: d\r\nConnection: Upgrade\r\nUpgrade: tcp\r\n"
            f"Content-Type: application/json\r\nContent-Length: {len(payload)}\r\n\r\n").encode()
    clients = [socket.socket(socket.AF_UNIX) for _ in range(count)]
    for client in clients:
        client.settimeout(90)
        client.connect(engine.socket)
    for client in clients:
        client.sendall(head + payload)
    found = []
    for client in clients:
        data = b""
        while b"\r\n\r\n" not in data:
            data += client.recv(4096)
        first, _, rest = data.partition(b"\r\n\r\n")
        if b" 101 " in first:
            while piece := client.recv(4096):
                rest += piece
        found.append((int(first.split()[1]), rest))
        client.close()
    return sorted(found)


def test_an_exec_is_started_once(engine, leaks):
    """Of several who start it at once one has it; the others are told so."""
    container_id = engine.run()
    for _ in range(5):
        exec_id = exec_of(engine, container_id, "sh", "-c", "echo once")
        (status, output), *others = started_by_many(engine, exec_id, 3)
        assert (status, unframed(output)) == (101, b"once\n")
        assert [status for status, _ in others] == [409, 409]
    assert engine.api("DELETE", f"/containers/{container_id}?force=1").status == 204


def test_exec_of_what_is_not_there(engine):
    container_id = engine.run()
    exec_id = exec_of(engine, container_id, "nope")
    assert b'OCI runtime exec failed: exec failed: unable to start container process: exec: "nope": executable file ' \
        b"not found in $PATH" in engine.api("POST", f"/exec/{exec_id}/start", {}).body
    assert engine.api("GET", f"/exec/{exec_id}/json").json["ExitCode"] == 127
    exec_id = exec_of(engine, container_id, "nope")
    assert engine.api("POST", f"/exec/{exec_id}/start", {"Detach": True}).status == 400
    assert engine.api("GET", "/exec/nope/json").message == "No such exec instance: nope"
    assert engine.api("POST", f"/containers/{container_id}/exec", {}).message == "No exec command specified"
    engine.api("POST", f"/containers/{container_id}/pause")
    assert "is paused" in engine.api("POST", f"/containers/{container_id}/exec", {"Cmd": ["ls"]}).message


def test_a_paused_container_is_removed_by_force(engine, leaks):
    """On the unified tree it dies of the kill itself, and its group may be gone before it is thawed."""
    for _ in range(10):
        container_id = engine.run("sleep", "1000")
        assert engine.api("POST", f"/containers/{container_id}/pause").status == 204
        assert engine.api("DELETE", f"/containers/{container_id}?force=1").status == 204


def test_exec_dies_with_its_container(engine, leaks):
    container_id = engine.run()
    exec_id = exec_of(engine, container_id, "sleep", "1000")
    assert engine.api("POST", f"/exec/{exec_id}/start", {"Detach": True}).status == 200
    assert engine.api("GET", f"/exec/{exec_id}/json").json["Running"]
    assert engine.inspect(container_id)["ExecIDs"] == [exec_id]
    engine.api("POST", f"/containers/{container_id}/kill")
    until(lambda: not engine.api("GET", f"/exec/{exec_id}/json").json["Running"], "its end")
    assert engine.api("GET", f"/exec/{exec_id}/json").json["ExitCode"] == 137
    engine.wait(container_id)
    engine.api("DELETE", f"/containers/{container_id}")
    assert engine.api("GET", f"/exec/{exec_id}/json").status == 404


# --- health


def test_health(engine, tmp_path):
    container_id = engine.run("sleep", "1000", HostConfig={"Binds": [f"{tmp_path}:/seen"]}, Healthcheck={
        "Test": ["CMD-SHELL", "echo looked; test -e /seen/ok"], "Interval": 100_000_000, "Retries": 100_000})
    assert engine.inspect(container_id)["State"]["Health"]["Status"] == "starting"
    (tmp_path / "ok").touch()
    until(lambda: engine.inspect(container_id)["State"]["Health"]["Status"] == "healthy", "its health")
    health = engine.inspect(container_id)["State"]["Health"]
    assert health["Status"] == "healthy" and health["Log"][-1]["Output"] == "looked\n"
    assert names(filtered(engine, health=["healthy"])) != set()
    assert "(healthy)" in filtered(engine, health=["healthy"]).json[0]["Status"]


# --- what is easily forgotten


def test_a_platform_that_does_not_fit(engine):
    answer = engine.api("POST", "/containers/create?platform=linux/s390x", {"Image": "busybox"})
    assert answer.status == 404 and "does not match the specified platform (linux/s390x)" in answer.message
    architecture = {"x86_64": "amd64", "aarch64": "arm64"}[os.uname().machine]
    assert engine.api("POST", f"/containers/create?platform=linux/{architecture}", {"Image": "busybox"}).status == 201


def test_a_network_shared_with_another_container(engine):
    first = engine.run(name="first", Hostname="shared")
    second = engine.run("sh", "-c", "hostname; ip -4 addr show eth0; cat /etc/hosts", HostConfig={"NetworkMode": "container:first"})
    engine.wait(second)
    address = engine.inspect(first)["NetworkSettings"]["Networks"]["bridge"]["IPAddress"]
    text = engine.logs(second)
    assert text.startswith("shared\n") and text.count(address) >= 2
    assert engine.inspect(second)["HostConfig"]["NetworkMode"] == f"container:{first}"


def test_restart_of_an_auto_removed_container_keeps_it(engine):
    container_id = engine.run(HostConfig={"AutoRemove": True})
    assert engine.api("POST", f"/containers/{container_id}/restart?t=0").status == 204
    assert engine.inspect(container_id)["State"]["Running"]
    told = wait_later(engine, container_id, "removed")
    engine.api("POST", f"/containers/{container_id}/stop?t=0")
    assert told() == 137


def test_init_reaps_and_passes_signals_on(engine):
    container_id = engine.run("sh", "-c", "trap 'exit 3' TERM; echo up; while :; do sleep 0.05; done", HostConfig={"Init": True})
    engine.said(container_id, "up\n")
    engine.api("POST", f"/containers/{container_id}/stop?t=50")
    assert engine.inspect(container_id)["State"]["ExitCode"] == 3


def test_out_of_memory_is_told(engine):
    container_id = engine.run("sh", "-c", "a=x; while :; do a=$a$a; done", HostConfig={"Memory": 16 << 20, "MemorySwap": 16 << 20})
    assert engine.wait(container_id) == 137
    assert engine.inspect(container_id)["State"]["OOMKilled"] is True


def test_nothing_more_processes_than_allowed(engine):
    container_id = engine.run("sh", "-c", "for i in 1 2 3 4 5 6 7 8; do sleep 100 & done; echo all", HostConfig={"PidsLimit": 4})
    engine.wait(container_id)
    assert "fork" in engine.logs(container_id)


def test_privileged_has_the_hosts_devices(engine):
    container_id = engine.run("sh", "-c", "ls /dev | wc -l; grep CapEff /proc/self/status", HostConfig={"Privileged": True})
    assert engine.wait(container_id) == 0
    with open("/proc/self/status") as file:
        bounding = next(line.split()[1] for line in file if line.startswith("CapBnd"))
    assert bounding in engine.logs(container_id)


def test_one_device(engine):
    container_id = engine.run("sh", "-c", "head -c 4 /dev/mine | wc -c; head -c 1 /dev/kmsg", HostConfig={
        "Devices": [{"PathOnHost": "/dev/zero", "PathInContainer": "/dev/mine", "CgroupPermissions": "r"}]})
    engine.wait(container_id)
    assert engine.logs(container_id).startswith("4\n")
    missing = engine.create(HostConfig={"Devices": [{"PathOnHost": "/dev/nope"}]})
    answer = engine.api("POST", f"/containers/{missing}/start")
    assert 'error gathering device information while adding custom device "/dev/nope": no such file' in answer.message
