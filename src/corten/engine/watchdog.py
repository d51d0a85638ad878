"""Ends runs that have lasted too long and restarts what is unhealthy, for containers whose labels ask for it."""

import asyncio
from collections.abc import Coroutine
from typing import TYPE_CHECKING, Any

from corten.base.errors import Error, InvalidArgument
from corten.base.units import now_ns
from corten.engine import lifecycle, own_labels
from corten.engine.records import ContainerRecord

if TYPE_CHECKING:
    from corten.engine.containers import Containers


def begin(containers: "Containers", record: ContainerRecord) -> None:
    """A run begins, or a new daemon finds it: bound its time."""
    if not record.config.labels or own_labels.MAX_RUN_TIME not in record.config.labels:
        return
    try:
        limit_s = own_labels.max_run_time_s(record.config)
    except InvalidArgument:
        return  # made by an engine that did not know the label
    live = containers.live(record.id)
    if live.deadline is not None:
        live.deadline.cancel()
    left_s = limit_s - (now_ns() - record.state.started_ns) / 1e9
    live.deadline = containers.engine.spawn(_stop_after(containers, record, left_s, record.state.started_ns))


async def _stop_after(containers: "Containers", record: ContainerRecord, left_s: float, started_ns: int) -> None:
    await asyncio.sleep(max(0.0, left_s))
    if record.running and record.state.started_ns == started_ns:
        containers.live(record.id).deadline = None  # this task is not to be cancelled by the end it makes
        containers.engine.log.info("container %s: its maximum run time is over", record.id[:12])
        await _quietly(containers, record, lifecycle.stop(containers, record, None, ""))


def end(containers: "Containers", record: ContainerRecord) -> None:
    """The run is over."""
    live = containers.live(record.id)
    if live.deadline is not None:
        live.deadline.cancel()
        live.deadline = None


def unhealthy(containers: "Containers", record: ContainerRecord) -> None:
    """The health check has given up on it."""
    if own_labels.restarts_unhealthy(record.config) and not containers.live(record.id).stop_requested:
        containers.engine.log.info("container %s: unhealthy, restarted", record.id[:12])
        containers.engine.spawn(_quietly(containers, record, lifecycle.restart(containers, record, None, "")))


async def _quietly(containers: "Containers", record: ContainerRecord, operation: Coroutine[Any, Any, None]) -> None:
    try:
        await operation
    except Error as error:
        containers.engine.log.warning("container %s: %s", record.id[:12], error)
