"""What follows the end of a container's process: its code on record, waiters woken, then cleaning up, restart, removal.

Code and waiters come first; what nobody waits for comes after, as a task that the next start or removal awaits.
"""

import asyncio
from typing import TYPE_CHECKING, Any

from corten.base.errors import Error
from corten.engine import health, lifecycle, remove, watchdog
from corten.engine.launch import remove_bundle
from corten.engine.mount_sources import tell_unmounted
from corten.engine.records import ContainerRecord
from corten.engine.restart import restarts

if TYPE_CHECKING:
    from corten.engine.containers import Containers

_TURNS = 3  # of the loop, in which those who wait for the code are told
DRAIN_TIMEOUT_S = 30.0  # the pump has this long to write the last output before the log goes


def on_event(containers: "Containers", event: dict[str, Any]) -> None:
    """An event of the zygote; called on the loop, quick."""
    engine = containers.engine
    record = containers.find(event["id"])
    if event["event"] == "drained":
        if record is not None:
            containers.live(record.id).drained.set()
    elif event["event"] == "exit":
        if event["exec_id"]:
            engine.execs.on_exit(event)
        elif record is not None:
            engine.spawn(_exited(containers, record, event))
        else:
            engine.spawn(_forget(containers, event["id"]))


async def _forget(containers: "Containers", container_id: str) -> None:
    try:
        await containers.engine.zygote.forget(container_id)
    except Error as error:
        containers.engine.log.warning("container %s: %s", container_id[:12], error)


async def _exited(containers: "Containers", record: ContainerRecord, event: dict[str, Any]) -> None:
    live = containers.live(record.id)
    async with live.lock:
        if record.running:
            record_exit(containers, record, event["status"], event["time_ns"], event["oom"])


def record_exit(containers: "Containers", record: ContainerRecord, status: int, time_ns: int, oom: bool) -> None:
    """Put an exit on record, tell everyone, and leave the rest to a task. The caller holds the lock."""
    live, state = containers.live(record.id), record.state
    ran_s = max(0, time_ns - state.started_ns) / 1e9
    again = restarts(record.host_config.restart_policy, status, record.restart_count, record.manually_stopped)
    state.status = "restarting" if again else "exited"
    state.pid = state.start_time = 0
    state.exit_code, state.finished_ns, state.oom_killed, state.error = status, time_ns, oom, ""
    health.end(containers, record)
    watchdog.end(containers, record)
    if again:
        record.restart_count += 1
    containers.engine.execs.container_ended(record.id)
    containers.save_soon(record)
    if oom:
        containers.publish(record, "oom")
    containers.publish(record, "die", exitCode=str(status), execDuration=str(int(ran_s)))
    live.released.clear()
    live.cleanup = containers.engine.spawn(clean_up(containers, record))
    live.ended(status)
    containers.engine.spawn(containers.engine.gateway.leave(record))
    if again:
        live.restart = containers.engine.spawn(_start_again(containers, record, live.backoff.next_delay(ran_s)))
    elif record.host_config.auto_remove and not live.keep:
        containers.engine.spawn(auto_remove(containers, record))


async def clean_up(containers: "Containers", record: ContainerRecord) -> None:
    """Release what a run has held: the zygote's entry and exit file, the network, the bundle."""
    live = containers.live(record.id)
    for _ in range(_TURNS):
        await asyncio.sleep(0)
    try:
        await _release(containers, record)
    finally:
        live.released.set()
    await containers.written(record)  # until then the exit file has the code
    await _forget(containers, record.id)


async def _release(containers: "Containers", record: ContainerRecord) -> None:
    engine = containers.engine
    drained = containers.drained(record.id)
    if not drained.is_set():
        try:  # the zygote keeps the ends of the pipes until the pump has read them
            await asyncio.wait_for(drained.wait(), DRAIN_TIMEOUT_S)
        except TimeoutError:
            engine.log.warning("container %s: its output has not come to an end", record.id[:12])
            drained.set()
    try:
        await engine.networks.release(record)
    except (Error, OSError) as error:
        engine.log.warning("releasing the network of container %s: %s", record.id[:12], error)
    tell_unmounted(engine, record)
    remove_bundle(engine.layout.bundle(record.id))


async def auto_remove(containers: "Containers", record: ContainerRecord) -> None:
    """`--rm`: gone once its output has been written and its code told."""
    live = containers.live(record.id)
    await live.released.wait()
    try:
        await remove.remove(containers, record, force=False, volumes=True)
    except Error as error:
        containers.engine.log.warning("removing container %s: %s", record.id[:12], error)


def restart_soon(containers: "Containers", record: ContainerRecord) -> None:
    """Start it again in a moment, as its policy says; for a daemon that has just come up."""
    record.state.status = "restarting"
    live = containers.live(record.id)
    live.restart = containers.engine.spawn(_start_again(containers, record, live.backoff.next_delay(0.0)))


async def _start_again(containers: "Containers", record: ContainerRecord, delay_s: float) -> None:
    await asyncio.sleep(delay_s)
    live = containers.live(record.id)
    async with live.lock:
        if record.state.status != "restarting" or live.stop_requested:
            return
        record.manually_stopped = False
        live.restart = None
        failed = await lifecycle.start_locked(containers, record)
        if failed is None:
            return
        containers.engine.log.warning("restarting container %s: %s", record.id[:12], failed)
        policy = record.host_config.restart_policy
        if restarts(policy, record.state.exit_code or 1, record.restart_count, record.manually_stopped):
            record.state.status = "restarting"
            record.restart_count += 1
            containers.save(record)
            live.restart = containers.engine.spawn(_start_again(containers, record, live.backoff.next_delay(0.0)))
