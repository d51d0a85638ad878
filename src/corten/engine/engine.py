"""The engine: all parts of one daemon put together, opened in order and closed again. Decides nothing itself."""

import asyncio
import logging
import os
from collections.abc import Coroutine
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

import msgspec

from corten.base.errors import Conflict, Error, Internal, Unavailable
from corten.base.files import remove_tree
from corten.base.ids import is_id
from corten.base.paths import Layout
from corten.base.units import now_ns
from corten.engine import exits
from corten.engine.archive import Archives
from corten.engine.attach import Streams
from corten.engine.builds import Builds
from corten.engine.containers import Containers
from corten.engine.db import Database
from corten.engine.distribution import Distribution, settings_of
from corten.engine.events import Events
from corten.engine.exec import Execs
from corten.engine.gateway import Gateway, NoGateway
from corten.engine.images import Images
from corten.engine.log_forward import Forwarders
from corten.engine.networks import Networks
from corten.engine.reconcile import reconcile
from corten.engine.records import ContainerRecord
from corten.engine.settings import DaemonConfig
from corten.engine.spec import ALL_CAPABILITIES
from corten.engine.stats import Stats
from corten.engine.system import System
from corten.engine.volumes import Volumes
from corten.image.snapshot import Snapshots
from corten.linux import cgroup
from corten.zygote.client import ZygoteClient

T = TypeVar("T")
CLOSE_TIMEOUT_S = 20.0


class Engine:
    """All of it. `await open()` before anything is asked, `await close()` at the end; containers survive both."""

    zygote: ZygoteClient

    def __init__(self, config: DaemonConfig) -> None:
        """Raises InvalidArgument (settings of networks), Internal (the data root is in use), OSError."""
        self.config = config
        self.log = logging.getLogger("corten")
        self.started_ns = now_ns()
        self.layout = Layout(config.data_root, config.exec_root)
        self.layout.make()
        self._tasks: set[asyncio.Task[Any]] = set()
        self._undertaker = ThreadPoolExecutor(1, "undertaker")
        self.bounding = _bounding()
        _check_complete(self.layout)
        self.db = Database(self.layout.database)
        self.events = Events()
        self.images = Images(self, config.storage_driver)
        self.distribution = Distribution(self.images.store, self.events, settings_of(config))
        self.volumes = Volumes(self.layout, self.db, self.events)
        self.networks = Networks(self.layout, self.db, self.events, config.network)
        self.containers = Containers(self)
        self.networks.containers = self.containers
        self.execs = Execs(self)
        self.streams = Streams(self)
        self.log_forwarders = Forwarders(self)
        self.archives = Archives(self)
        self.stats = Stats(self)
        self.system = System(self)
        self.builds = Builds(self)
        self.gateway: Gateway = NoGateway()  # the daemon puts its own in

    @property
    def snapshots(self) -> Snapshots:
        """The folders containers' roots are made of."""
        return self.images.store.snapshots

    # --- life

    async def open(self) -> None:
        """Read what is on record, find the zygote or start one, and make the two agree. Raises Internal: damaged."""
        _empty(self.layout.tmp)
        try:
            self.images.open()
            self.containers.load()
            self.volumes.open(self.containers)
            await self.networks.open()
            self.builds.load()
        except (msgspec.MsgspecError, ValueError) as error:
            raise Internal(f"a record in {self.layout.database} is damaged: {error}") from error
        self.zygote = await ZygoteClient.connect(self.layout, lambda event: exits.on_event(self.containers, event))
        await reconcile(self)
        self.networks.watch()
        await self.gateway.open()

    async def close(self) -> None:
        """Let go. When nothing runs, zygote, devices and rules go too; else they stay, for the next daemon."""
        for record in self.containers:
            live = self.containers.live(record.id)
            live.cancel_restart()
            for waiting in (live.health, live.deadline):
                if waiting is not None:
                    waiting.cancel()
        self.log_forwarders.close()
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=CLOSE_TIMEOUT_S)  # cleaning up, mostly
        resting = not any(record.running for record in self.containers)
        await self.gateway.close(resting)
        if resting:
            await self._leave_nothing()
        self.zygote.close()
        self.streams.close()
        self.networks.close()
        await self.distribution.close()
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self._undertaker.shutdown()
        self.snapshots.flush()
        self.db.close()

    async def _leave_nothing(self) -> None:
        try:
            await self.networks.teardown()
        except (Error, OSError) as error:
            self.log.warning("taking down the networks: %s", error)
        try:
            await self.zygote.shutdown()
            for _ in range(2000):  # it answers, then it ends: a daemon that is gone leaves no zygote
                if not os.path.exists(self.layout.zygote_socket):
                    break
                await asyncio.sleep(0.01)
        except (Conflict, Unavailable) as error:
            self.log.warning("ending the zygote: %s", error)
        for place in cgroup.folders(self.layout.cgroup_parent):
            try:
                os.rmdir(place)
            except OSError:
                continue  # absent, or another daemon's containers are below it

    # --- for the parts

    def spawn(self, operation: Coroutine[Any, Any, T]) -> "asyncio.Task[T]":
        """Run something beside; a failure nobody awaits is logged."""
        task = asyncio.get_running_loop().create_task(operation)
        self._tasks.add(task)
        task.add_done_callback(self._done)
        return task

    def _done(self, task: "asyncio.Task[Any]") -> None:
        self._tasks.discard(task)
        if task.cancelled():
            return
        error = task.exception()
        if error is not None and not isinstance(error, Error):
            self.log.error("unexpected: %s", error, exc_info=error)

    def bury(self, path: str) -> None:
        """Take a folder away at once; its files go in the background. Absent is fine. Raises OSError."""
        dead = f"{self.layout.tmp}/{os.path.basename(path)}"
        try:
            os.rename(path, dead)
        except FileNotFoundError:
            return
        self._undertaker.submit(remove_tree, dead)

    def cgroup_of(self, record: ContainerRecord) -> str:
        """The cgroup path of a container."""
        return self.layout.cgroup(record.id, record.host_config.cgroup_parent)

    def destroy_cgroup(self, container_id: str, parent: str = "") -> None:
        """Kill and remove what is left in the cgroup of a container that nobody knows, or that does not run."""
        try:
            cgroup.remove(self.layout.cgroup(container_id, parent))
        except OSError as error:
            self.log.warning("removing cgroup of %s: %s", container_id[:12], error)


def _bounding() -> frozenset[str]:
    """The capabilities this process may hand on. proc(5) CapBnd."""
    with open("/proc/self/status", encoding="ascii", errors="replace") as file:
        for line in file:
            if line.startswith("CapBnd:"):
                mask = int(line.split()[1], 16)
                return frozenset(name for bit, name in enumerate(ALL_CAPABILITIES) if mask & 1 << bit)
    return frozenset(ALL_CAPABILITIES)


def _check_complete(layout: Layout) -> None:
    """A database that is gone, or empty, must not make orphans, to be swept, of the containers it knew."""
    database, folder = layout.database, f"{layout.data_root}/containers"
    there = os.path.exists(database) and os.path.getsize(database) > 0
    if not there and (found := [name for name in os.listdir(folder) if is_id(name)]):
        raise Internal(f"{database} is missing or empty, but {len(found)} containers are in {folder}: put a copy of it "
                       "back, or remove that folder to begin without them")


def _empty(path: str) -> None:
    for name in os.listdir(path):
        if os.path.isdir(f"{path}/{name}") and not os.path.islink(f"{path}/{name}"):
            remove_tree(f"{path}/{name}")
        else:
            os.unlink(f"{path}/{name}")
