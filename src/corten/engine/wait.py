"""Waiting for a container's end, so that its real code is told before it vanishes. POST /containers/{id}/wait."""

import asyncio
from typing import TYPE_CHECKING

from corten.base.errors import InvalidArgument
from corten.engine.records import ContainerRecord

if TYPE_CHECKING:
    from corten.engine.containers import Containers


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
