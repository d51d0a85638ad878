"""What docker has not: a maximum run time, restarts of the unhealthy, waiting for health, ports and mounts changed."""

import os
import subprocess
import sys
import threading
import time

import pytest

PATIENCE_S = 60
REPOSITORY = os.path.join(os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__)))), "src")
CORTEN = [sys.executable, "-c", f"import sys; sys.path.insert(0, {REPOSITORY!r}); from corten.cli.main import start; start()"]


def corten(engine, *words, code=0):
    done = subprocess.run([*CORTEN, "-H", f"unix://{engine.socket}", *words], capture_output=True, text=True, timeout=120,
                          stdin=subprocess.DEVNULL)
    assert done.returncode == code, done.stderr
    return done.stdout + done.stderr


def until(engine, container, what):
    deadline = time.monotonic() + PATIENCE_S
    while not what(engine.inspect(container)):
        assert time.monotonic() < deadline, engine.inspect(container)["State"]
        time.sleep(0.02)


def test_a_run_ends_when_its_time_is_over(engine):
    began = time.monotonic()
    said = corten(engine, "run", "--max-run-time", "3s", "--restart", "no", "busybox", "sh", "-c",
                  "trap 'echo asked; exit 7' TERM; while :; do sleep 0.05; done", code=7)
    assert said == "asked\n" and time.monotonic() - began >= 3


def test_its_policy_does_not_bring_it_back(engine):
    container = engine.run("sleep", "1000", Labels={"corten.max-run-time": "200ms"}, StopSignal="KILL",
                           HostConfig={"RestartPolicy": {"Name": "always"}})
    until(engine, container, lambda found: found["State"]["Status"] == "exited")
    assert engine.inspect(container)["RestartCount"] == 0
    assert engine.api("POST", f"/containers/{container}/start").status == 204  # the next run has its own time
    until(engine, container, lambda found: found["State"]["Status"] == "exited")


def test_the_time_goes_on_while_no_daemon_runs(own_engine):
    container = own_engine.run("sleep", "1000", Labels={"corten.max-run-time": "2s"}, StopSignal="KILL")
    own_engine.kill()
    own_engine.start()
    assert own_engine.wait(container) == 137


def test_a_daemon_that_ends_does_not_wait_for_it(own_engine):
    container = own_engine.run("sleep", "1000", Labels={"corten.max-run-time": "1h"})
    began = time.monotonic()
    own_engine.stop()
    assert time.monotonic() - began < 15
    own_engine.start()
    assert own_engine.inspect(container)["State"]["Running"]


HEALTH = {"Test": ["CMD", "test", "-e", "/well"], "Interval": 50_000_000, "Retries": 2}


def test_the_unhealthy_is_restarted(engine):
    container = engine.run("sh", "-c", "echo run >>/runs; [ $(wc -l </runs) -lt 2 ] || touch /well; sleep 1000",
                           Labels={"corten.on-unhealthy": "restart"}, StopSignal="KILL", Healthcheck=HEALTH)
    until(engine, container, lambda found: found["State"].get("Health", {}).get("Status") == "healthy")
    done = engine.docker("exec", container, "wc", "-l", "/runs")
    assert done.stdout.split()[0] == "2"


@pytest.mark.parametrize("labels", [{"corten.max-run-time": "soon"}, {"corten.max-run-time": "-1s"},
                                    {"corten.on-unhealthy": "pray"}])
def test_what_the_labels_cannot_mean_is_refused(engine, labels):
    answer = engine.api("POST", "/containers/create", {"Image": "busybox", "Labels": labels})
    assert answer.status == 400 and next(iter(labels)) in answer.message


def test_waiting_for_health(engine):
    container = engine.run("sh", "-c", "sleep 0.3; touch /well; sleep 1000", Healthcheck=HEALTH | {"Retries": 1000})
    assert engine.wait(container, "healthy") == 0
    assert engine.inspect(container)["State"]["Health"]["Status"] == "healthy"
    assert corten(engine, "wait", "--healthy", container) == "0\n"
    assert corten(engine, "run", "-d", "--wait", "--health-cmd", "true", "--health-interval", "50ms", "busybox", "sleep", "100")
    plain = engine.run("sleep", "100")
    answer = engine.api("POST", f"/containers/{plain}/wait?condition=healthy")
    assert answer.status == 400 and answer.message.endswith("has no health check")


def test_an_end_before_health_is_told(engine):
    container = engine.create("sh", "-c", "sleep 0.2; exit 3", name="brief", Healthcheck=HEALTH)
    found = []
    waiting = threading.Thread(target=lambda: found.append(
        engine.api("POST", f"/containers/{container}/wait?condition=healthy").json))
    waiting.start()
    engine.api("POST", f"/containers/{container}/start")
    waiting.join(PATIENCE_S)
    assert found == [{"StatusCode": 3, "Error": {"Message": "container brief ended before it was healthy"}}]


def test_ports_and_mounts_of_a_container_that_is_there(engine, tmp_path):
    (tmp_path / "page").write_text("bound")
    container = engine.run("sh", "-c", "echo kept >>/data/log; sleep 1000", Volumes={"/data": {}}, StopSignal="KILL",
                           HostConfig={"Binds": ["old:/old"], "PortBindings": {"80/tcp": [{"HostPort": "0"}]}})
    anonymous = next(point["Name"] for point in engine.inspect(container)["Mounts"] if point["Destination"] == "/data")
    update = {"PortBindings": {"81/tcp": [{"HostIp": "127.0.0.1", "HostPort": "0"}]}, "Binds": [f"{tmp_path}:/new:ro", "v2:/v2"]}
    refused = engine.api("POST", f"/containers/{container}/update", update)
    assert refused.status == 409 and "stop container" in refused.message
    engine.api("POST", f"/containers/{container}/stop")
    assert engine.api("POST", f"/containers/{container}/update", update).status == 200
    assert engine.api("DELETE", "/volumes/old").status == 204  # no longer in use
    assert engine.api("DELETE", "/volumes/v2").status == 409
    assert engine.api("POST", f"/containers/{container}/start").status == 204
    shown = engine.inspect(container)
    assert {point["Destination"]: point["Name"] for point in shown["Mounts"] if point["Type"] == "volume"} == {
        "/data": anonymous, "/v2": "v2"}
    assert [port for port, bound in shown["NetworkSettings"]["Ports"].items() if bound] == ["81/tcp"]
    assert engine.docker("exec", container, "cat", "/new/page", "/data/log").stdout == "boundkept\nkept\n"


def test_the_same_by_the_command_line(engine, tmp_path):
    container = engine.create("true", name="changed")
    corten(engine, "update", "-p", "127.0.0.1:0:90", "-v", f"{tmp_path}:/x", "--mount", "type=tmpfs,dst=/t", "--memory", "64m",
           "changed")
    host = engine.inspect(container)["HostConfig"]
    assert host["Binds"] == [f"{tmp_path}:/x"] and host["Mounts"] == [{"Type": "tmpfs", "Target": "/t"}]
    assert host["PortBindings"] == {"90/tcp": [{"HostIp": "127.0.0.1", "HostPort": "0"}]} and host["Memory"] == 64 << 20
    bad = engine.api("POST", "/containers/changed/update", {"Binds": ["nonsense"]})
    assert bad.status == 400
    assert engine.inspect(container)["HostConfig"]["Binds"] == [f"{tmp_path}:/x"]
