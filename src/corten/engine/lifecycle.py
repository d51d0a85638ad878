"""The verbs that change a container that is there: start, stop, restart, kill, pause, unpause, rename."""

import asyncio
from typing import TYPE_CHECKING

from corten.base.errors import Conflict, Internal, InvalidArgument, NotFound, NotModified
from corten.engine import exits, health, links, network_etc, remove, validate, watchdog
from corten.engine.launch import launch
from corten.engine.records import ContainerRecord

if TYPE_CHECKING:
    from corten.engine.containers import Containers

STOP_TIMEOUT_S = 10
KILL_TIMEOUT_S = 10.0


def need_running(record: ContainerRecord) -> None:
    """Raises Conflict when the container does not run."""
    if not record.running:
        raise Conflict(f"container {record.id} is not running")


# --- start


async def start(containers: "Containers", record: ContainerRecord) -> None:
    """Raises NotModified, Conflict, and what launch raises; AutoRemove of one that cannot start removes it."""
    live = containers.live(record.id)
    async with live.lock:
        status = record.state.status
        if status == "paused":
            raise Conflict("cannot start a paused container, try unpause instead")
        if status == "running":
            raise NotModified("")
        if status in ("removing", "dead") or containers.find(record.id) is None:
            raise Conflict("container is marked for removal and cannot be started")
        live.cancel_restart()
        live.backoff.reset()
        record.manually_stopped = False
        record.restart_count = 0
        failed = await start_locked(containers, record)
    if failed is not None:
        if record.host_config.auto_remove:
            await remove.remove(containers, record, force=True, volumes=True)
        raise failed


async def start_locked(containers: "Containers", record: ContainerRecord) -> BaseException | None:
    """Launch and save; the failure, if there is one, is in the record too. The caller holds the lock."""
    before = record.state.status
    try:
        await launch(containers, record)
    except Exception as error:
        record.state.status = before if before == "created" else "exited"
        containers.save(record)
        return error
    if record.config.healthcheck:
        health.begin(containers, record)
    watchdog.begin(containers, record)
    containers.save(record)
    containers.publish(record, "start")
    return None


# --- stop and kill


def _stop_timeout(record: ContainerRecord, timeout_s: int | None) -> float | None:
    if timeout_s is None:
        timeout_s = record.config.stop_timeout
    if timeout_s is None:
        timeout_s = STOP_TIMEOUT_S
    return None if timeout_s < 0 else float(timeout_s)


async def stop(containers: "Containers", record: ContainerRecord, timeout_s: int | None, signal: str) -> None:
    """The stop signal, then KILL after the timeout. Raises NotModified when it does not run."""
    try:
        number = validate.signal_number(signal or record.config.stop_signal or "SIGTERM")
    except InvalidArgument as error:
        raise InvalidArgument(f"cannot stop container: {record.name}: {error}") from None
    live = containers.live(record.id)
    await live.settled()
    if record.state.status == "restarting":
        await _end_restarting(containers, record)
        return
    if not record.running:
        raise NotModified("")
    record.manually_stopped = True
    live.stop_requested = True
    await containers.engine.gateway.leave(record)
    await _end(containers, record, number, _stop_timeout(record, timeout_s))
    await _after_stop(containers, record)
    if containers.find(record.id):
        containers.publish(record, "stop")


async def _end_restarting(containers: "Containers", record: ContainerRecord) -> None:
    live = containers.live(record.id)
    live.cancel_restart()
    async with live.lock:
        record.manually_stopped = live.stop_requested = True
        if record.state.status == "restarting":
            record.state.status = "exited"
            containers.save(record)
            containers.publish(record, "stop")
            return
    if record.running:
        await stop(containers, record, None, "")


async def _end(containers: "Containers", record: ContainerRecord, number: int, timeout_s: float | None) -> None:
    """Signal, wait, kill, wait. A paused container is let go on, so that it can hear the signal."""
    live, zygote = containers.live(record.id), containers.engine.zygote
    try:
        await zygote.signal(record.id, number)
        containers.publish(record, "kill", signal=str(number))
        if record.state.status == "paused":
            await _thaw(containers, record)
        await asyncio.wait_for(live.exited.wait(), timeout_s)
        return
    except TimeoutError:
        pass
    except NotFound:
        await live.exited.wait()
        return
    try:
        await zygote.signal(record.id, 9)
        containers.publish(record, "kill", signal="9")
    except NotFound:
        pass
    await live.exited.wait()


async def _thaw(containers: "Containers", record: ContainerRecord) -> None:
    await containers.engine.zygote.unpause(containers.engine.cgroup_of(record))
    if record.state.status == "paused":
        record.state.status = "running"


async def _after_stop(containers: "Containers", record: ContainerRecord) -> None:
    if containers.find(record.id):
        await containers.live(record.id).released.wait()


async def kill(containers: "Containers", record: ContainerRecord, signal: str) -> None:
    """Send a signal; KILL (and what ends it) counts as stopped by hand. Raises Conflict."""
    try:
        number = validate.signal_number(signal) if signal else 9
    except InvalidArgument as error:
        raise InvalidArgument(f"cannot kill container: {record.name}: {error}") from None
    live = containers.live(record.id)
    await live.settled()
    if record.state.status == "restarting":
        await _end_restarting(containers, record)
        return
    if not record.running:
        raise Conflict(f"cannot kill container: {record.name}: container {record.id} is not running")
    stop_number = validate.signal_number(record.config.stop_signal or "SIGTERM")
    if number in (9, stop_number):
        record.manually_stopped = True
        live.stop_requested = True
    if number == 9 and record.state.status == "paused":
        await containers.engine.zygote.signal(record.id, 9)
        await _thaw(containers, record)
    else:
        try:
            await containers.engine.zygote.signal(record.id, number)
        except NotFound:
            raise Conflict(f"cannot kill container: {record.name}: container {record.id} is not running") from None
    containers.publish(record, "kill", signal=str(number))
    if number == 9:
        try:
            await asyncio.wait_for(live.exited.wait(), KILL_TIMEOUT_S)
        except TimeoutError:
            raise Internal(f"cannot kill container: {record.name}: it does not end") from None


async def restart(containers: "Containers", record: ContainerRecord, timeout_s: int | None, signal: str) -> None:
    """Stop it if it runs, then start it; AutoRemove waits this once."""
    live = containers.live(record.id)
    live.keep = True
    try:
        try:
            await stop(containers, record, timeout_s, signal)
        except NotModified:
            pass
        await start(containers, record)
    finally:
        live.keep = False
    containers.publish(record, "restart")
    if record.state.status == "exited" and record.host_config.auto_remove:
        await exits.auto_remove(containers, record)  # it has ended again meanwhile


# --- pause


async def pause(containers: "Containers", record: ContainerRecord) -> None:
    """Freeze its cgroup. Raises Conflict."""
    async with containers.live(record.id).lock:
        if record.state.status == "paused":
            raise Conflict(f"Container {record.id} is already paused")
        if record.state.status == "restarting":
            raise Conflict(f"Container {record.id} is restarting, wait until the container is running")
        need_running(record)
        try:
            await containers.engine.zygote.pause(containers.engine.cgroup_of(record))
        except FileNotFoundError:  # it has just ended
            raise Conflict(f"container {record.id} is not running") from None
        record.state.status = "paused"
        containers.save(record)
    containers.publish(record, "pause")


async def unpause(containers: "Containers", record: ContainerRecord) -> None:
    """Thaw its cgroup. Raises Conflict."""
    async with containers.live(record.id).lock:
        if record.state.status != "paused":
            raise Conflict(f"Container {record.id} is not paused")
        await containers.engine.zygote.unpause(containers.engine.cgroup_of(record))
        record.state.status = "running"
        containers.save(record)
    containers.publish(record, "unpause")


# --- rename


async def rename(containers: "Containers", record: ContainerRecord, name: str) -> None:
    """Raises InvalidArgument, Conflict (the name is taken)."""
    if not name:
        raise InvalidArgument("Neither old nor new names may be empty")
    try:
        name = validate.check_name(name)
    except InvalidArgument as error:
        slash = str(error).replace(f"({name})", f"(/{name.removeprefix('/')})", 1)
        raise InvalidArgument(f"Error when allocating new name: {slash}") from None
    if name == record.name:
        raise InvalidArgument("Renaming a container with the same name as its current name")
    taken = containers.named(name)
    owner = taken.id if taken else containers.reserved.get(name)
    if owner:
        raise Conflict(
            f'Error when allocating new name: Conflict. The container name "/{name}" is already in use by container '
            f'"{owner}". You have to remove (or rename) that container to be able to reuse that name.'
        )
    old = record.name
    record.name = name
    containers.renamed(record, old)
    containers.engine.networks.renamed(record)
    containers.publish(record, "rename", oldName=f"/{old}")


async def unlink(containers: "Containers", path: str) -> None:
    """Take the link `parent/alias` away, out of the parent's hosts file too. Raises Conflict, NotFound."""
    networks = containers.engine.networks
    parent = containers.named(path.strip("/").rpartition("/")[0])
    before = links.hosts_entries(networks, parent) if parent is not None and parent.running else []
    record = links.remove(containers, path)
    containers.save(record)
    if before:
        left = links.hosts_entries(networks, record)
        network_etc.unlink(networks, record, [entry for entry in before if entry not in left])
