"""After a start of the daemon: make the records agree with what really is. Zygote, exit files and kernel win.

Containers that run are known again, ends that nobody saw are recorded with their real codes, what a killed daemon left
half-made is undone, restart policies and AutoRemove are caught up with. One transaction for all records.
"""

import os
from typing import TYPE_CHECKING, Any

from corten.base.errors import Error
from corten.base.files import remove_tree
from corten.base.ids import is_id
from corten.base.units import now_ns
from corten.engine import exits, health, remove, watchdog
from corten.engine.launch import remove_bundle, undo_launch
from corten.engine.records import ContainerRecord
from corten.engine.restart import starts_with_daemon
from corten.linux import cgroup
from corten.zygote.reaper import read_exit

if TYPE_CHECKING:
    from corten.engine.engine import Engine

Entry = dict[str, Any]
UNKNOWN_CODE = 255  # nobody saw the end: after a reboot, or a kill of daemon, zygote and anchor at once


async def reconcile(engine: "Engine") -> None:
    """Bring records, zygote, kernel and disk together. Failures of single containers are logged, not raised."""
    entries = await engine.zygote.list()
    held = {entry["id"]: entry for entry in entries if not entry["exec_id"]}
    execs = {entry["exec_id"]: entry for entry in entries if entry["exec_id"]}
    unfinished: list[ContainerRecord] = []
    with engine.db.transaction():
        engine.execs.adopt(execs)
        for record in engine.containers:
            if not _settle(engine, record, held.pop(record.id, None)):
                unfinished.append(record)
    for record in unfinished:
        await undo_launch(engine.containers, record)
    for container_id in held:
        await _quietly(engine, engine.zygote.forget(container_id))
    for entry in execs.values():
        if entry["state"] == "exited":
            engine.execs.on_exit({**entry, "event": "exit"})
    _sweep(engine)
    await engine.networks.reconcile([record for record in engine.containers if record.running])
    _catch_up(engine)


async def _quietly(engine: "Engine", operation: Any) -> None:
    try:
        await operation
    except Error as error:
        engine.log.warning("reconcile: %s", error)


def _settle(engine: "Engine", record: ContainerRecord, entry: Entry | None) -> bool:
    """One record against what the zygote holds; False: a start that has to be undone."""
    containers = engine.containers
    state = entry["state"] if entry else ""
    if entry and entry["drained"] is False and state in ("running", "exited"):
        containers.live(record.id).drained.clear()
    if entry and state == "running":
        _adopt(engine, record, entry)
        return True
    seen: Entry | None = entry if state == "exited" else read_exit(f"{engine.layout.exits}/{record.id}.json")
    if record.running:
        end = seen or {"status": UNKNOWN_CODE, "time_ns": now_ns(), "oom": False}
        exits.record_exit(containers, record, end["status"], end["time_ns"], end["oom"])
        return True
    if seen and seen["time_ns"] != record.state.finished_ns:  # no order of times is asked for: clocks are set back
        record.state.started_ns = seen["time_ns"]  # it ran and ended before its start was on record
        exits.record_exit(containers, record, seen["status"], seen["time_ns"], seen["oom"])
        return True
    if seen or os.path.exists(engine.layout.bundle(record.id)):
        containers.live(record.id).cleanup = engine.spawn(exits.clean_up(containers, record))
    return not (entry and state not in ("exited",))


def _adopt(engine: "Engine", record: ContainerRecord, entry: Entry) -> None:
    state, live = record.state, engine.containers.live(record.id)
    live.begin()
    if not record.running or state.pid != entry["pid"]:
        state.status, state.pid, state.start_time = "running", entry["pid"], entry["start_time"]
        state.started_ns = state.started_ns if state.started_ns > state.finished_ns else now_ns()
        engine.containers.save(record)
    frozen = cgroup.is_frozen(engine.cgroup_of(record))
    if frozen != (state.status == "paused"):
        state.status = "paused" if frozen else "running"
        engine.containers.save(record)
    health.watch(engine.containers, record)
    watchdog.begin(engine.containers, record)


def _sweep(engine: "Engine") -> None:
    """Take away bundles, folders, layers and exit files of containers that are not on record."""
    layout, containers = engine.layout, engine.containers
    for name in os.listdir(layout.runtime):
        if is_id(name) and containers.find(name) is None:
            engine.destroy_cgroup(name)
            remove_bundle(layout.bundle(name))
    for name in cgroup.children(layout.cgroup_parent):
        found = containers.find(name)
        if is_id(name) and not (found and found.running):
            engine.destroy_cgroup(name)
    for record in containers:
        if record.host_config.cgroup_parent and not record.running:
            engine.destroy_cgroup(record.id, record.host_config.cgroup_parent)
    for name in os.listdir(f"{layout.data_root}/containers"):
        if is_id(name) and containers.find(name) is None:
            remove_tree(layout.container(name))
    short = {record.id[:12] for record in containers}
    for name in engine.snapshots.containers() - short:
        remove_tree(f"{layout.snapshots}/{name}")
    for name in os.listdir(layout.exits):
        if containers.find(name.partition(".")[0]) is None:
            os.unlink(f"{layout.exits}/{name}")


def _catch_up(engine: "Engine") -> None:
    """Restart policies and removals that were due while no daemon ran."""
    containers = engine.containers
    for record in containers:
        state, policy = record.state, record.host_config.restart_policy
        engine.log_forwarders.resume(record)
        live = containers.live(record.id)
        if state.status == "removing":
            state.status = "exited"
            engine.spawn(remove.remove(containers, record, force=True, volumes=False))
        elif state.status == "restarting" and live.restart is None:
            exits.restart_soon(containers, record)
        elif state.status == "exited" and live.restart is None:
            if record.host_config.auto_remove:
                engine.spawn(exits.auto_remove(containers, record))
            elif starts_with_daemon(policy, False, record.manually_stopped, state.exit_code):
                exits.restart_soon(containers, record)
