"""Builds of the engine: contexts, the build cache, and the powers the build layer is lent.

    build = await engine.builds.prepare(request, tar_pieces)   # refusals that are HTTP errors are raised here
    async with aclosing(build):
        async for messages in build: ...                       # what its teller tells; leaving it early cancels it

A build owns a folder (context, unpacked archives) and a lease on what it makes; both go with it.
"""

import asyncio
import copy
import functools
import os
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager
from typing import TYPE_CHECKING, Any

from corten.base.errors import Error, InvalidArgument, Unsupported
from corten.base.files import remove_tree
from corten.base.ids import new_id
from corten.build import classic
from corten.build.context import Tree, drop_ignored_dockerfile, read_dockerfile
from corten.build.files import Cancelled
from corten.build.instructions import Plan
from corten.build.ops import CommandFailed
from corten.build.provenance import Step
from corten.build.reading import read
from corten.build.solver import Flight
from corten.build.teller import Options, Teller
from corten.engine.build_backend import EngineBackend
from corten.engine.build_cache import BuildCache, Prune
from corten.engine.build_cache_remote import Imported
from corten.engine.build_context import Context
from corten.engine.build_folders import Folders, Listing
from corten.engine.build_history import History
from corten.engine.build_limits import Limits
from corten.engine.build_mounts import SECRETS, Lent
from corten.engine.build_remotes import take_remote
from corten.oci import reference
from corten.oci.platform import Platform, host_platform

if TYPE_CHECKING:
    from corten.engine.engine import Engine


class BuildRequest:
    """POST /build, decoded. `options` are the builder's own; `limits` those of the containers it runs."""

    __slots__ = ("auths", "build_id", "cache_from", "dockerfile", "dockerfile_text", "folder", "folders", "imports",
                 "lent", "limits", "listed", "options", "remote", "remote_folders", "tags", "teller")

    def __init__(self) -> None:
        self.options = Options()
        self.limits = Limits()
        self.tags: list[str] = []
        self.dockerfile = ""
        self.build_id = ""  # by which `cancel` knows it
        self.remote = ""  # a URL that the context comes from, instead of a tar
        self.dockerfile_text: bytes | None = None  # when it is no part of the context
        self.teller: type[Teller] = Teller
        self.lent = Lent()
        self.imports: list[Imported] = []  # caches of other machines
        self.folder = ""  # the main context's name, when it is a folder that may be kept; `listed` then opens its list
        self.listed: Callable[[], AbstractAsyncContextManager[Listing]] | None = None
        self.folders: dict[str, AsyncIterator[bytes]] = {}  # contexts besides the main one, as tars
        self.remote_folders: dict[str, str] = {}  # and those behind a URL or in a repository
        self.cache_from: list[str] = []  # images whose layers may be used again; none named: all of them
        self.auths: dict[str, dict[str, str]] = {}


class Builds:
    """All builds of one daemon."""

    def __init__(self, engine: "Engine") -> None:
        self.engine = engine
        self.cache = BuildCache(engine)
        self.history = History(engine)
        self.folders = Folders(f"{engine.layout.build}/folders")
        self.flights: dict[str, Flight] = {}
        self.running: set[Build] = set()

    def load(self) -> None:
        """Read the cache's index; throw away what a dead daemon's builds left: secrets now, the rest beside."""
        self.cache.load()
        self.history.load()
        layout = self.engine.layout
        for path in _entries(layout.exec_root, SECRETS):
            remove_tree(path)
        if os.path.isdir(kept := f"{layout.build}/folders"):
            os.rename(kept, f"{layout.build}/{new_id()[:12]}")
        self.engine.spawn(_sweep(_entries(layout.build, "")))

    async def prepare(self, request: BuildRequest, tar: AsyncIterator[bytes]) -> "Build":
        """Take the context in and read the Dockerfile. Raises InvalidArgument, NotFound with docker's texts."""
        names = [tag_name(tag) for tag in request.tags]
        request.options.named_folders = frozenset((*request.folders, *request.remote_folders))
        if request.cache_from and not any(self._is_there(ref) for ref in request.cache_from):
            request.options.use_cache = False
        context = Context(self.engine.images.store.snapshots.place())
        try:
            text = await self._take_in(context, request, tar)
            options = request.options
            plan = read(text, options.target, options.labels, options.buildkit, options.arguments)
        except BaseException:
            await context.close()
            raise
        return Build(self, request, context, plan, names)

    def cancel(self, build_id: str) -> None:
        """End the builds that were asked for under this id."""
        for build in list(self.running):
            build.cancel(build_id)

    async def _take_in(self, context: Context, request: BuildRequest, tar: AsyncIterator[bytes]) -> bytes:
        """Receive the context, now or when it is needed; the Dockerfile's text."""
        if request.dockerfile_text is not None:
            if request.listed is not None:
                context.borrow_later(functools.partial(self.folders.borrow, request.folder, request.listed))
            else:
                context.fetch_later(tar)
            return request.dockerfile_text
        if not request.remote:
            await context.receive(tar)
        elif (text := await take_remote(context, request.remote)) is not None:
            context.is_empty()
            return text
        text = await context.early_dockerfile(request.dockerfile)
        if text is None:
            tree = await context.tree()
            text = await asyncio.to_thread(read_dockerfile, tree, request.dockerfile)
        return text

    def _is_there(self, ref: str) -> bool:
        try:
            self.engine.images.find(ref)
        except Error:
            return False
        return True

    async def prune(self, asked: Prune) -> dict[str, Any]:
        """POST /build/prune: {"CachesDeleted", "SpaceReclaimed"}; images that only the cache kept go with it."""
        gone = await self.cache.prune(asked)
        await self.folders.prune()
        freed = self.engine.images.store.collect().bytes_freed + sum(one.size for one in gone if one.path)
        self.engine.events.publish("builder", "prune", "", {"reclaimed": str(freed)})
        return {"CachesDeleted": sorted({one.id for one in gone}) or None, "SpaceReclaimed": freed}


async def _sweep(paths: list[str]) -> None:
    """Beside the start: ten thousand files of a kept context may take the disk half a minute."""
    for path in paths:
        await asyncio.to_thread(remove_tree, path)


def _entries(folder: str, prefix: str) -> list[str]:
    return [f"{folder}/{name}" for name in os.listdir(folder) if name.startswith(prefix)]


def tag_name(text: str) -> str:
    """The full reference of a `t=`. Raises InvalidArgument with docker's text."""
    parsed = reference.parse(text)
    if parsed.digest:
        raise InvalidArgument("build tag cannot contain a digest")
    return parsed.with_default_tag().full()


class BuiltImage:
    """What a build made for one platform: its id; `bases`: (name, platform) -> (id, digest elsewhere or "").

    `fetched`: addresses whose content was taken, and its digest; `steps`: what was done, also where it was remembered.
    """

    __slots__ = ("bases", "fetched", "id", "platform", "steps")

    def __init__(self, platform: Platform, image_id: str, bases: dict[tuple[str, Platform], tuple[str, str]],
                 steps: list[Step], fetched: dict[str, str]) -> None:
        self.platform, self.id, self.bases, self.steps, self.fetched = platform, image_id, bases, steps, fetched


class Build:
    """One build under way: an asynchronous iterator of lists of messages. `aclose` it, whether it ran or not.

    `image_id` is the result's, "" until there is one, `images` by platform; `failed` why there will be none; `steps`
    by vertex's digest.
    """

    def __init__(self, builds: Builds, request: BuildRequest, context: Context, plan: Plan, names: list[str]) -> None:
        self._builds, self._request, self._context, self._plan = builds, request, context, plan
        self._names = names
        named = enumerate(request.options.named_folders)
        self._folders = {name: Context(f"{context.path}-{number}") for number, name in named}
        self.image_id = ""
        self.images: dict[Platform, BuiltImage] = {}
        self.failed: BaseException | None = None
        self.steps: dict[str, str] = {}
        self.failed_at = (0, 0)  # the first and last line of the command that failed
        self._fetching = asyncio.Lock()
        self._pending: list[dict[str, Any]] = []
        self._news = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    def _write(self, message: dict[str, Any]) -> None:
        self._pending.append(message)
        self._news.set()

    def __aiter__(self) -> "Build":
        return self

    async def __anext__(self) -> list[dict[str, Any]]:
        """The next messages. The first call begins the build."""
        if self._task is None:
            self._task = asyncio.create_task(self._run())
            self._task.add_done_callback(lambda _: self._news.set())
        while not self._pending:
            if self._task.done():
                raise StopAsyncIteration
            await self._news.wait()
            self._news.clear()
        messages, self._pending = self._pending, []
        return messages

    def cancel(self, build_id: str) -> None:
        """End it, if it has this id; who follows it is told nothing more."""
        if self._task is not None and self._request.build_id == build_id:
            self._task.cancel()

    async def aclose(self) -> None:
        """Leave: a build that still runs is cancelled, and everything of it cleaned up when this returns."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
        await self._close()

    async def _close(self) -> None:
        for context in (self._context, *self._folders.values()):
            await context.close()

    async def _run(self) -> None:
        engine, options = self._builds.engine, self._request.options
        self._builds.running.add(self)
        backend = EngineBackend(engine, self._context, self._request.limits, options, self._request.auths)
        try:
            with engine.images.store.content.lease() as lease:
                backend.lease, backend.lent = lease, self._request.lent
                backend.imports, self.steps = self._request.imports, backend.steps
                await self._platforms(backend)
                self._name(self._request.teller(self._write, options))
        except (Error, CommandFailed, OSError) as error:
            self.failed = error
            self._write(classic.failure(error))
        except asyncio.CancelledError:
            backend.cancel()
            raise
        except Cancelled:
            self.failed = InvalidArgument("build cancelled")
            self._write(classic.failure(self.failed))
        finally:
            self._builds.running.discard(self)
            engine.spawn(self._builds.cache.bound())
            engine.spawn(self._close())  # ten thousand files take a while to delete; nobody waits for that

    async def _platforms(self, backend: EngineBackend) -> None:
        """The image of each platform that is asked for; of several, the machine's own gives its id to the whole."""
        wanted = self._request.options.platforms or [self._request.options.platform]
        tasks = [asyncio.create_task(self._platform(text, backend)) for text in wanted]
        try:
            for task in asyncio.as_completed(tasks):
                await task
        finally:
            for one in tasks:
                one.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
        built = [task.result() for task in tasks]
        self.images = {one.platform: one for one in built}
        self.image_id = self.images.get(host_platform(), built[0]).id

    async def _platform(self, text: str, backend: EngineBackend) -> "BuiltImage":
        options = copy.copy(self._request.options)
        options.platform = text
        teller = self._request.teller(self._write, options)
        build = classic.ClassicBuild(self._plan, options, self._open_context, backend, teller)
        try:
            image_id = await build.run()
        except (Error, CommandFailed, OSError):
            self.failed_at = build.failed_at or (0, 0)
            raise
        bases = {base: (one, backend.origins.get(one, "")) for base, one in build.bases.items()}
        return BuiltImage(classic.build_platform(text), image_id, bases, build.done, self._context.fetched)

    async def _open_context(self, name: str) -> Tree:
        """The main context, or a named one."""
        if name:
            if (tar := self._request.folders.pop(name, None)) is not None:  # platforms ask at the same time
                self._folders[name].fetch_later(tar)
            async with self._fetching:
                if (url := self._request.remote_folders.pop(name, "")):
                    await self._fetch(self._folders[name], url)
            return await self._folders[name].tree()
        tree = await self._context.tree()
        if self._request.dockerfile_text is None:
            await asyncio.to_thread(drop_ignored_dockerfile, tree, self._request.dockerfile)
        return tree

    async def _fetch(self, context: Context, url: str) -> None:
        if await take_remote(context, url) is not None:
            raise Unsupported(f"the build context {url} is neither a repository nor an archive")
        self._context.fetched |= context.fetched

    def _name(self, teller: Teller) -> None:
        images = self._builds.engine.images
        teller.built(self.image_id)
        for full in self._names:
            images.give_name(images.find(self.image_id), full)
            teller.tagged(reference.parse(full).familiar())
