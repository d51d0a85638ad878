"""What the daemon knows of a container only while it runs itself: locks, waiters and tasks. Not kept on disk."""

import asyncio
from collections.abc import Callable

from corten.engine.restart import Backoff


class Live:
    """One container's moving parts.

    `released` is set while it holds no address, port or bundle.
    `lock` guards each change of its state. `exited` is set while no process of it runs; `drained` once the last byte
    of its output is in the log; `removed` when it is gone. `cleanup` is what an exit leaves to be done off the path.
    """

    __slots__ = ("backoff", "cleanup", "deadline", "drained", "exit_waiters", "exited", "health",
                 "health_waiters", "keep",
                 "lent_environment", "lock", "released", "removed", "removed_waiters", "restart", "stop_requested")

    def __init__(self) -> None:
        self.lock = asyncio.Lock()
        self.lent_environment: list[str] = []  # secrets of a build step: in no record, in memory and the bundle only
        self.exited = asyncio.Event()
        self.drained = asyncio.Event()
        self.released = asyncio.Event()
        self.removed = asyncio.Event()
        self.exited.set()
        self.drained.set()
        self.released.set()
        self.exit_waiters: list[asyncio.Future[int]] = []
        self.removed_waiters: list[asyncio.Future[int]] = []
        self.cleanup: asyncio.Task[None] | None = None
        self.restart: asyncio.Task[None] | None = None
        self.health: asyncio.Task[None] | None = None
        self.health_waiters: list[asyncio.Future[int]] = []
        self.deadline: asyncio.Task[None] | None = None  # ends a run that lasts too long
        self.backoff = Backoff()
        self.stop_requested = False
        self.keep = False  # AutoRemove waits: it is being restarted, or removed by somebody already

    async def settled(self) -> None:
        """Wait for a change of its state under way: a program may be heard before its start has been answered."""
        if self.lock.locked():
            async with self.lock:
                pass

    def begin(self) -> None:
        """A process is about to run."""
        self.exited.clear()
        self.drained.clear()
        self.released.clear()
        self.stop_requested = False

    def ended(self, status: int) -> None:
        """The process is gone: wake who waits for its code."""
        self.exited.set()
        _resolve(self.exit_waiters, status)

    def gone(self, status: int) -> None:
        """The container is gone."""
        _resolve(self.exit_waiters, status)
        _resolve(self.removed_waiters, status)
        self.exited.set()
        self.drained.set()
        self.removed.set()

    def on_next_exit(self) -> "asyncio.Future[int]":
        """Resolves with the code of the next exit."""
        return _wait_in(self.exit_waiters)

    def on_removed(self) -> "asyncio.Future[int]":
        """Resolves with the last code when the container is gone."""
        return _wait_in(self.removed_waiters)

    def on_health(self) -> "asyncio.Future[int]":
        """Resolves when what its health check says has changed."""
        return _wait_in(self.health_waiters)

    def health_changed(self) -> None:
        """Wake who waits for it."""
        _resolve(self.health_waiters, 0)

    def cancel_restart(self) -> None:
        """No restart that is being waited for happens any more."""
        if self.restart is not None:
            self.restart.cancel()
            self.restart = None


def _wait_in(waiters: "list[asyncio.Future[int]]") -> "asyncio.Future[int]":
    future: asyncio.Future[int] = asyncio.get_running_loop().create_future()
    waiters.append(future)
    forget: Callable[[asyncio.Future[int]], None] = lambda done: waiters.remove(done) if done in waiters else None  # noqa: E731
    future.add_done_callback(forget)
    return future


def _resolve(waiters: "list[asyncio.Future[int]]", status: int) -> None:
    for future in waiters[:]:
        if not future.done():
            future.set_result(status)
    waiters.clear()
