"""Removing a container and all that is only its own. DELETE /containers/{id}, POST /containers/prune."""

import os
from typing import TYPE_CHECKING

from corten.base.errors import Conflict, Error, InvalidArgument, NotFound
from corten.base.units import now_ns, parse_time
from corten.engine import lifecycle
from corten.engine.create import undo_create
from corten.engine.records import ContainerRecord

if TYPE_CHECKING:
    from corten.engine.containers import Containers


def _refusal(record: ContainerRecord) -> str:
    start = f'cannot remove container "{record.name}": container is '
    if record.state.status == "paused":
        return f"{start}paused and must be unpaused first"
    if record.state.status == "restarting":
        return f"{start}restarting: stop the container before removing or force remove"
    return f"{start}running: stop the container before removing or force remove"


async def remove(containers: "Containers", record: ContainerRecord, force: bool, volumes: bool) -> None:
    """Raises Conflict when it runs and `force` is not given, NotFound when somebody else was quicker."""
    live = containers.live(record.id)
    if force:
        live.keep = True  # this removal is the one
        live.cancel_restart()
        record.manually_stopped = True
        await live.settled()
        if record.running:
            try:
                await lifecycle.kill(containers, record, "KILL")
            except Conflict:
                pass
    async with live.lock:
        if containers.find(record.id) is None:
            if force:
                return
            raise NotFound(f"No such container: {record.id}")
        if record.running or (record.state.status == "restarting" and not force):
            raise Conflict(_refusal(record))
        record.state.status = "removing"
        await live.released.wait()  # the zygote may take its time to forget the process
        await _take_away(containers, record, volumes)


async def _take_away(containers: "Containers", record: ContainerRecord, volumes: bool) -> None:
    engine = containers.engine
    if not volumes:
        for point in record.mounts:
            point.anonymous = False
    engine.execs.container_removed(record.id)
    with engine.db.transaction():
        containers.discard(record)
    await engine.networks.removed(record)
    await undo_create(containers, record)
    containers.publish(record, "destroy")


async def prune(containers: "Containers", filters: dict[str, list[str]]) -> tuple[list[str], int]:
    """Remove every container that does not run, as filters `until` and `label` allow; (ids, bytes freed)."""
    for name in filters:
        if name not in ("until", "label", "label!"):
            raise InvalidArgument(f"invalid filter '{name}'")
    until = parse_time(filters["until"][0]) if filters.get("until") else now_ns()
    removed: list[str] = []
    freed = 0
    for record in containers:
        if record.state.status not in ("created", "exited", "dead") or record.created_ns > until:
            continue
        if not _labels_fit(record, filters):
            continue
        size = containers.size_rw(record)
        try:
            await remove(containers, record, force=False, volumes=False)
        except Error:
            continue
        removed.append(record.id)
        freed += size
    containers.engine.events.publish("container", "prune", "", {"reclaimed": str(freed)})
    return removed, freed


def _labels_fit(record: ContainerRecord, filters: dict[str, list[str]]) -> bool:
    labels = record.config.labels or {}

    def has(wanted: str) -> bool:
        key, separator, value = wanted.partition("=")
        return key in labels and (not separator or labels[key] == value)

    return all(has(wanted) for wanted in filters.get("label", [])) and not any(
        has(wanted) for wanted in filters.get("label!", []))


def tree_bytes(path: str) -> int:
    """The sizes of all regular files below a folder of ours; links are not followed, vanishing ones do not count."""
    total = 0
    try:
        for entry in os.scandir(path):
            if entry.is_dir(follow_symlinks=False):
                total += tree_bytes(entry.path)
            elif entry.is_file(follow_symlinks=False):
                total += entry.stat(follow_symlinks=False).st_size
    except OSError:
        pass
    return total
