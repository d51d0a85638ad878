"""HEALTHCHECK: a probe run in the container now and then, and what its results say of the container.

Times and counts are Docker's: 30 s interval and timeout, 3 retries, 5 s between probes while it starts. A probe is an
exec; its output is kept to 4 KiB, the last five results stay in the record.
"""

import asyncio
import os
from typing import TYPE_CHECKING

from corten.base.errors import Error, NotFound
from corten.base.units import format_time, go_duration, now_ns
from corten.engine import watchdog
from corten.engine.records import ContainerRecord, ExecRequest, Health, HealthConfig, HealthResult
from corten.engine.streams import read_fd

if TYPE_CHECKING:
    from corten.engine.containers import Containers

INTERVAL_S, TIMEOUT_S, START_INTERVAL_S, RETRIES = 30.0, 30.0, 5.0, 3
OUTPUT_LIMIT_BYTES = 4096
KEPT_RESULTS = 5


def probe_command(record: ContainerRecord) -> list[str]:
    """What a probe runs; empty when there is no health check."""
    check = record.config.healthcheck
    test = (check.test if check else None) or []
    if not test or test[0] == "NONE":
        return []
    if test[0] == "CMD-SHELL":
        return [*(record.config.shell or ["/bin/sh", "-c"]), *test[1:2]]
    return test[1:] if test[0] == "CMD" else []


def begin(containers: "Containers", record: ContainerRecord) -> None:
    """A run of the container begins: probe it until it ends. Called before the record is saved."""
    record.state.health = None
    if probe_command(record):
        record.state.health = Health()
        watch(containers, record)


def watch(containers: "Containers", record: ContainerRecord) -> None:
    """Probe a container that runs (also one that a new daemon finds running)."""
    check = record.config.healthcheck
    if check is not None and probe_command(record):
        containers.live(record.id).health = containers.engine.spawn(_watch(containers, record, check))


def end(containers: "Containers", record: ContainerRecord) -> None:
    """The run is over."""
    live = containers.live(record.id)
    if live.health is not None:
        live.health.cancel()
        live.health = None
    if record.state.health is not None:
        record.state.health.status = "unhealthy"


async def _watch(containers: "Containers", record: ContainerRecord, check: HealthConfig) -> None:
    interval_s = check.interval / 1e9 or INTERVAL_S
    start_s = check.start_period / 1e9
    start_interval_s = check.start_interval / 1e9 or START_INTERVAL_S
    while True:
        state = record.state
        starting = start_s and state.health and state.health.status == "starting" and (
            now_ns() - state.started_ns < check.start_period)
        await asyncio.sleep(min(start_interval_s, interval_s) if starting else interval_s)
        if state.status != "running":
            continue
        began = now_ns()
        exit_code, output = await _probe(containers, record, check.timeout / 1e9 or TIMEOUT_S)
        if state.health is None or state.status not in ("running", "paused"):
            return
        result = HealthResult(start=format_time(began), end=format_time(now_ns()), exit_code=exit_code, output=output)
        old = state.health.status
        judge(state.health, result, check.retries or RETRIES, began - state.started_ns < check.start_period)
        containers.save(record)
        if state.health.status != old:
            containers.publish(record, f"health_status: {state.health.status}")
            containers.live(record.id).health_changed()
            if state.health.status == "unhealthy":
                watchdog.unhealthy(containers, record)


def judge(health: Health, result: HealthResult, retries: int, in_start_period: bool) -> None:
    """Take one result into account. Pure."""
    health.log = [*health.log[-(KEPT_RESULTS - 1):], result]
    if result.exit_code == 0:
        health.failing_streak = 0
        health.status = "healthy"
        return
    if in_start_period and health.status == "starting":
        return  # failures do not count while it starts
    health.failing_streak += 1
    if health.failing_streak >= retries:
        health.status = "unhealthy"


async def _probe(containers: "Containers", record: ContainerRecord, timeout_s: float) -> tuple[int, str]:
    engine = containers.engine
    request = ExecRequest(cmd=probe_command(record), attach_stdout=True, attach_stderr=True)
    try:
        exec_id = engine.execs.create(record.id, request, silent=True)
        ended = engine.execs.exited(exec_id)
        made = engine.execs.get(exec_id)
        started = await engine.execs.start(exec_id, attach=True)
    except Error as error:
        return -1, str(error)
    output = bytearray()
    readers = [asyncio.ensure_future(_collect(fd, output)) for fd in (started.stdout, started.stderr) if fd >= 0]
    try:
        await asyncio.wait_for(asyncio.shield(ended), timeout_s)
        await asyncio.wait(readers, timeout=1.0)
        text = bytes(output[:OUTPUT_LIMIT_BYTES]).decode("utf-8", "replace")
        return made.exit_code if made.exit_code is not None else -1, text
    except TimeoutError:
        try:
            await engine.zygote.signal(record.id, 9, exec_id)
        except NotFound:
            pass
        text, waited = bytes(output).decode("utf-8", "replace"), go_duration(round(timeout_s * 10**9))
        return -1, f"Health check exceeded timeout ({waited}): {text}"
    finally:
        for reader in readers:
            reader.cancel()
        await asyncio.gather(*readers, return_exceptions=True)
        for fd in {started.stdin, started.stdout, started.stderr} - {-1}:
            os.close(fd)


async def _collect(fd: int, output: bytearray) -> None:
    os.set_blocking(fd, False)
    while data := await read_fd(fd):
        if len(output) < OUTPUT_LIMIT_BYTES:
            output += data
