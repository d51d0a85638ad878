"""Restart policy, health, events, status texts: decisions that need no kernel."""

import asyncio

import pytest
from hypothesis import given
from hypothesis import strategies as st

from corten.base.errors import InvalidArgument
from corten.engine.events import KEPT, LISTENER_LIMIT, Events
from corten.engine.health import judge, probe_command
from corten.engine.listing import command_text, port_rows, status_text
from corten.engine.names import random_name
from corten.engine.records import (
    Config,
    ContainerRecord,
    Health,
    HealthConfig,
    HealthResult,
    HostConfig,
    RestartPolicy,
    State,
)
from corten.engine.restart import LONGEST_DELAY_S, Backoff, restarts
from corten.engine.validate import check_name


def policy(name, maximum=0):
    return RestartPolicy(name=name, maximum_retry_count=maximum)


@given(st.sampled_from(["", "no", "always", "unless-stopped", "on-failure"]), st.integers(0, 255), st.integers(0, 9), st.integers(0, 5))
def test_nothing_restarts_what_was_stopped_by_hand(name, code, count, maximum):
    assert not restarts(policy(name, maximum), code, count, True)
    again = restarts(policy(name, maximum), code, count, False)
    if name in ("always", "unless-stopped"):
        assert again
    elif name == "on-failure":
        assert again == (code != 0 and (maximum == 0 or count < maximum))
    else:
        assert not again


@given(st.lists(st.floats(0, 100), min_size=1, max_size=40))
def test_backoff_stays_within_its_bounds(runs):
    backoff = Backoff()
    before = 0.0
    for ran_s in runs:
        delay = backoff.next_delay(ran_s)
        assert 0.1 <= delay <= LONGEST_DELAY_S
        assert delay == 0.1 if ran_s >= 10 or not before else delay == min(before * 2, LONGEST_DELAY_S)
        before = delay


def result(code):
    return HealthResult(start="", end="", exit_code=code, output="")


def test_health_turns_after_the_retries_and_back_at_once():
    health = Health()
    for _ in range(2):
        judge(health, result(1), 3, False)
    assert health.status == "starting" and health.failing_streak == 2
    judge(health, result(1), 3, False)
    assert health.status == "unhealthy"
    judge(health, result(0), 3, False)
    assert health.status == "healthy" and health.failing_streak == 0
    for _ in range(10):
        judge(health, result(1), 3, False)
    assert len(health.log) == 5


def test_failures_while_starting_do_not_count():
    health = Health()
    for _ in range(9):
        judge(health, result(1), 3, True)
    assert health.status == "starting"


def container(state=None, **config):
    return ContainerRecord(id="a" * 64, name="x", created_ns=1, image="i", image_id="s", config=Config(**config),
                           host_config=HostConfig(), state=state or State(), path="sh", args=["-c", "echo a b"])


@pytest.mark.parametrize(("check", "command"), [
    (None, []), (HealthConfig(test=["NONE"]), []), (HealthConfig(test=["CMD", "a", "b"]), ["a", "b"]),
    (HealthConfig(test=["CMD-SHELL", "a b"]), ["/bin/sh", "-c", "a b"]),
])
def test_probe_command(check, command):
    assert probe_command(container(healthcheck=check)) == command


S = 1_000_000_000


@pytest.mark.parametrize(("state", "text"), [
    (State(), "Created"),
    (State(status="running", started_ns=10 * S), "Up 3 minutes"),
    (State(status="paused", started_ns=10 * S), "Up 3 minutes (Paused)"),
    (State(status="running", started_ns=10 * S, health=Health()), "Up 3 minutes (health: starting)"),
    (State(status="running", started_ns=10 * S, health=Health(status="healthy")), "Up 3 minutes (healthy)"),
    (State(status="exited", started_ns=1, finished_ns=188 * S, exit_code=137), "Exited (137) 2 seconds ago"),
    (State(status="restarting", started_ns=1, finished_ns=188 * S, exit_code=1), "Restarting (1) 2 seconds ago"),
])
def test_status_text(state, text):
    assert status_text(container(state), 190 * S) == text


def test_list_rows():
    assert command_text(container()) == "sh -c 'echo a b'"
    assert port_rows({"80/tcp": [{"HostIp": "0.0.0.0", "HostPort": "8080"}], "53/udp": None}) == [
        {"IP": "0.0.0.0", "PrivatePort": 80, "PublicPort": 8080, "Type": "tcp"}, {"PrivatePort": 53, "Type": "udp"}]


def test_random_names_are_valid_names():
    assert all(check_name(random_name(attempt)) for attempt in range(6) for _ in range(50))


# --- events


def collect(events, **options):
    async def run():
        return [event async for event in events.subscribe(**options)]

    return asyncio.run(run())


def test_past_events_and_filters():
    events = Events()
    for index in range(5):
        events.publish("container", "start", f"id{index}", {"name": f"n{index}", "image": "busybox", "k": "v"}, time_ns=index + 1)
    events.publish("network", "connect", "net1", {"name": "bridge", "type": "bridge"}, time_ns=9)
    until = 10
    assert len(collect(events, since_ns=3, until_ns=until)) == 4
    assert [e["id"] for e in collect(events, since_ns=1, until_ns=until, filters={"container": ["n2", "id4"]})] == ["id2", "id4"]
    assert [e["Type"] for e in collect(events, since_ns=1, until_ns=until, filters={"type": ["network"]})] == ["network"]
    assert len(collect(events, since_ns=1, until_ns=until, filters={"label": ["k=v"]})) == 5
    assert len(collect(events, since_ns=1, until_ns=until, filters={"image": ["busybox"]})) == 5
    with pytest.raises(InvalidArgument, match="invalid filter 'x'"):
        events.subscribe(filters={"x": ["y"]})


def test_an_action_with_details_is_found_by_its_name():
    events = Events()
    events.publish("container", "exec_create: ls /", "id", {}, time_ns=1)
    assert len(collect(events, since_ns=1, until_ns=2, filters={"event": ["exec_create"]})) == 1


def test_a_slow_listener_is_dropped_and_nobody_else():
    async def run():
        events = Events()
        slow, quick = events.subscribe(), events.subscribe()
        seen = 0
        for index in range(LISTENER_LIMIT + 10):
            events.publish("container", "start", str(index), {})
            if index % 100 == 0:
                while quick._queue:
                    await anext(quick)
                    seen += 1
        rest = [event async for event in slow]
        assert len(rest) == LISTENER_LIMIT and seen > LISTENER_LIMIT - 200
        assert len(events._kept) == KEPT

    asyncio.run(run())
