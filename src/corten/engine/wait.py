"""Waiting for a container's end, so that its real code is told before it vanishes. POST /containers/{id}/wait."""

import asyncio
from collections.abc import Coroutine
from typing import TYPE_CHECKING, Any

from corten.base.errors import InvalidArgument
from corten.engine.health import probe_command
from corten.engine.records import ContainerRecord

if TYPE_CHECKING:
    from corten.engine.containers import Containers


def healthy(containers: "Containers", record: ContainerRecord) -> "Coroutine[Any, Any, tuple[int, str]]":
    """Beyond docker: (0, "") once its health check says so, or the code it ended with before that and what to say.

    Raises InvalidArgument for a container without a health check, at once.
    """
    if not probe_command(record):
        raise InvalidArgument(f"container {record.name} has no health check")
    return _healthy(containers, record)


async def _healthy(containers: "Containers", record: ContainerRecord) -> tuple[int, str]:
    live, early = containers.live(record.id), f"container {record.name} ended before it was healthy"
    while True:
        if record.state.health and record.state.health.status == "healthy" and record.running:
            return 0, ""
        if record.state.status == "exited":
            return record.state.exit_code, early
        ended, changed = live.on_next_exit(), live.on_health()
        try:
            await asyncio.wait({ended, changed}, return_when=asyncio.FIRST_COMPLETED)
            if ended.done() and record.state.status != "restarting":
                return ended.result(), early
        finally:
            ended.cancel()
            changed.cancel()


def wait(containers: "Containers", record: ContainerRecord, condition: str) -> "asyncio.Future[int]":
    """A future of the exit code, registered before this returns. Raises InvalidArgument for an unknown condition."""
    live = containers.live(record.id)
    if condition == "next-exit":
        return live.on_next_exit()
    if condition == "removed":
        return live.on_removed()
    if condition not in ("", "not-running"):
        raise InvalidArgument(f'invalid condition: "{condition}"')
    if record.state.status in ("running", "paused", "restarting"):
        return live.on_next_exit()
    now: asyncio.Future[int] = asyncio.get_running_loop().create_future()
    now.set_result(record.state.exit_code)
    return now
