"""The powers a build is lent: containers for RUN, overlay trees for COPY, layers, images, the cache.

No mount appears on the host: a tree is a detached overlay that only its descriptor reaches, and it goes with it.
A RUN step is a container like any other (default capabilities, seccomp and limits), removed when its layer is taken,
unless the caller of the classic builder keeps it.
"""

import asyncio
import contextlib
import os
import struct
import threading
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import msgspec

from corten.base.errors import Conflict, Error, InvalidArgument, NotFound, Unsupported
from corten.base.files import remove_tree
from corten.base.ids import new_id
from corten.build.context import Tree
from corten.build.copier import Copier
from corten.build.files import Cancelled, Source
from corten.build.ops import CommandFailed, Observer, RunStep
from corten.build.run_mounts import RunMount
from corten.build.stage import BuildImage, Layer
from corten.build.teller import Options
from corten.engine import emulation
from corten.engine.build_cache_remote import Imported
from corten.engine.build_context import Context
from corten.engine.build_limits import Limits
from corten.engine.build_mounts import Lent, StepMounts, step_mounts
from corten.engine.build_on_top import put_on_top
from corten.engine.build_remotes import Remotes
from corten.engine.build_upper import clamp_times, drop_stubs
from corten.engine.records import CreateRequest, HealthConfig
from corten.image import platforms
from corten.image.content import Lease
from corten.image.diff import add_layer
from corten.image.records import Image
from corten.image.snapshot import copy_folder
from corten.image.worker import in_thread
from corten.linux.overlay import new_overlay
from corten.oci.image_spec import OCI_INDEX, Descriptor
from corten.oci.platform import Platform, host_platform, platform_of, runs_on
from corten.zygote.log_format import LOG_NAME

if TYPE_CHECKING:
    from corten.engine.engine import Engine

_FRAME = struct.Struct(">BxxxL")
_LOOK_S = 0.02  # how often a running step's output is looked for
_CHUNK = 1 << 18


class EngineBackend:
    """The `Backend` of one build (corten.build.ops)."""

    lease: Lease

    def __init__(self, engine: "Engine", context: Context, limits: Limits, options: Options,
                 auths: dict[str, dict[str, str]]) -> None:
        self._engine, self._context, self._limits, self._options = engine, context, limits, options
        self._auths = auths
        self._store = engine.images.store
        self.flights = engine.builds.flights
        self._cancelled = threading.Event()
        self.remotes = Remotes(context)
        self.lent = Lent()
        self._kept: list[str] = []  # containers that steps have left
        self.imports: list[Imported] = []
        self.steps: dict[str, str] = {}  # of this build: vertex's digest -> image
        self.origins: dict[str, str] = {}  # of images that have no name here: the digest their name has elsewhere

    def cancel(self) -> None:
        """Have threads that work for this build stop."""
        self._cancelled.set()

    def check(self) -> None:
        if self._cancelled.is_set():
            raise Cancelled

    def new_id(self) -> str:
        return new_id()

    async def _thread(self, function: Callable[..., Any], *arguments: Any) -> Any:
        try:
            return await in_thread(function, *arguments)
        except asyncio.CancelledError:
            self.cancel()
            raise

    # --- images

    async def resolve(self, reference: str, pull: bool, platform: Platform) -> BuildImage:
        images = self._engine.images
        known: Image | None = None
        if not pull:
            try:
                known = await images.resolve(reference)
                here = await self._of_platform(known, reference, platform)
            except NotFound:
                here = None
            if here is not None:
                return self._image(here)
        if platform not in runs_on(host_platform()):  # the name goes on meaning what this machine runs
            return self._image(await self._foreign(known, reference, platform))
        await self._engine.distribution.bring(reference, self._auths)
        return self._image(await images.resolve(reference))

    async def _foreign(self, known: Image | None, reference: str, platform: Platform) -> Image:
        try:
            image, digest = await self._engine.distribution.fetch(reference, self._auths, platform)
        except Error as error:
            if known is None:
                raise
            raise NotFound(f"{reference}: the image here is one for {platform_of(known.config)}, and none for "
                           f"{platform} can be had: {error}") from error
        self.origins[image.id] = digest
        return image

    async def _of_platform(self, image: Image, reference: str, platform: Platform) -> Image | None:
        """What an image here is, or brought along, for a platform."""
        own = platform_of(image.config)
        by_id = image.id[7:].startswith(reference.removeprefix("sha256:"))
        if image.is_host or own is None or own in runs_on(platform) or by_id:
            return image
        if not image.record.kept:
            return None
        content = self._store.content
        found = platforms.choose(platforms.images_of(content, Descriptor(OCI_INDEX, image.record.kept[0], 0)), platform)
        if found is None:
            return None
        self.origins[found.manifest.config.digest] = image.record.kept[0]
        return await self._store.register_image(found.data, found.manifest.config.digest, found.manifest.layers)

    def _image(self, image: Any) -> BuildImage:
        if image.is_host:
            raise Unsupported(f"{image.names[0] if image.names else 'host'}: the embedded image is this machine's own "
                              "/usr and cannot be built on; see examples/base for a base image made from this machine")
        self.lease.add(image.id)
        for chain in image.record.chain_ids:
            self.lease.add(chain)
        return BuildImage(image.id, image.config, image.layers)

    def register(self, document: dict[str, Any], layers: list[str], parent: str) -> BuildImage:
        image = self._store.register_document(msgspec.json.encode(document), (), parent)
        if "created" not in document and not image.record.part:  # a layer alone (COPY --link)
            image.record.part = True
            self._store.put_image(image.record)
        if not self._options.buildkit:  # there it is told when the result is kept
            self._engine.images.publish(image, "create", image.id)
        return self._image(image)

    def recall(self, key: str) -> BuildImage | None:
        cache = self._engine.builds.cache
        image_id = cache.recall(key)
        if image_id is None:
            return None
        image = self._store.get(image_id)
        if image is None:
            cache.forget(key)
            return None
        self.steps[key] = image_id
        return self._image(image)

    async def recall_elsewhere(self, key: str) -> BuildImage | None:
        for cache in self.imports:
            if (image := await cache.image(self._engine, key)) is not None:
                return self._image(image)
        return None

    def remember(self, key: str, image: BuildImage, description: str) -> None:
        self.steps[key] = image.id
        self._engine.builds.cache.remember(key, image.id, description)

    def renew(self, key: str, image: BuildImage, description: str) -> None:
        self.steps[key] = image.id
        self._engine.builds.cache.renew(key, image.id, description)

    def surroundings(self) -> str:
        return msgspec.json.encode(self._limits.host_config()).decode()

    # --- trees and layers

    def _lowers(self, image: BuildImage) -> list[str]:
        return self._store.snapshots.view(image.layers)

    @asynccontextmanager
    async def tree(self, image: BuildImage) -> AsyncIterator[Tree]:
        tree = Tree(self._open(self._lowers(image)), False)
        try:
            yield tree
        finally:
            tree.close()

    @staticmethod
    def _open(lowers: list[str], upper: str = "", work: str = "") -> int:
        """A descriptor of the tree's root: an overlay, or the one folder there is."""
        if upper and lowers:
            return new_overlay(lowers, upper, work)
        if not upper and len(lowers) > 1:
            return new_overlay(lowers, "", "")
        return os.open(upper or lowers[0], os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)

    async def copy_of(self, mount: RunMount) -> str:
        """A copy of what a mount comes from, in the build's own folder. Raises InvalidArgument."""
        folder = f"{self._context.path}/out-{new_id()[:12]}"
        os.mkdir(folder, 0o755)
        async with self.tree(mount.image) if mount.image else contextlib.nullcontext(mount.tree) as tree:
            await self._thread(self._copy_out, tree, mount.path, folder)
        return f"{folder}/it"

    def _copy_out(self, tree: Tree, path: str, folder: str) -> None:
        root = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            source = Source(tree.root, path or ".")
            try:
                Copier(root, None, None, self.check).place(source, "/it")
            finally:
                source.close()
        except FileNotFoundError:
            raise InvalidArgument(f'failed to compute cache key: "/{path}": not found') from None
        finally:
            os.close(root)

    async def change(self, image: BuildImage, work: Callable[[int], None]) -> Layer | None:
        staging = self._store.snapshots.stage()
        try:
            upper, scratch = f"{staging}/up/fs", f"{staging}/up/work"
            os.mkdir(f"{staging}/up", 0o755)
            if self._store.snapshots.copies and image.layers:
                await self._thread(copy_folder, self._lowers(image)[0], upper)
                await self._thread(self._change, [], upper, scratch, work)
            else:
                os.mkdir(upper, 0o755)
                await self._thread(self._change, self._lowers(image), upper, scratch, work)
            return await self._layer(image, upper, stubs=())
        finally:
            self._store.snapshots.discard(staging)

    def _change(self, lowers: list[str], upper: str, scratch: str, work: Callable[[int], None]) -> None:
        os.mkdir(scratch, 0o700)
        if lowers:
            top = os.stat(lowers[0])
            os.chown(upper, top.st_uid, top.st_gid)
            os.chmod(upper, top.st_mode & 0o7777)
        root = self._open(lowers, upper, scratch)
        try:
            work(root)
        finally:
            os.close(root)
        remove_tree(scratch)

    async def _layer(self, image: BuildImage, upper: str, *, move: bool = True, **how: Any) -> Layer | None:
        if not os.listdir(upper):
            return None
        if self._options.epoch is not None:
            await self._thread(clamp_times, upper, self._options.epoch * 1_000_000_000)
        below = list(image.document["rootfs"]["diff_ids"])
        record = await add_layer(self._store, upper, below, self.lease, move=move, keep_empty=False, **how)
        return Layer(record.snapshot, record.diff_id) if record else None

    async def put_on_top(self, image: BuildImage, made: BuildImage) -> Layer | None:
        return await put_on_top(self._store, self.lease, image, made)

    async def unpack(self, archive: int) -> int | None:
        return await self._context.archive(archive)

    # --- RUN

    async def run(self, image: BuildImage, step: RunStep, observer: Observer) -> Layer | None:
        if not image.id:
            observer.running(new_id())
            raise InvalidArgument("failed to create task for container: failed to create shim task: OCI runtime create "
                                  "failed: runc create failed: unable to start container process: error during "
                                  f'container init: exec: "{step.program[0]}": stat {step.program[0]}: no such file or '
                                  "directory")
        await emulation.check(platform_of(image.document))
        async with step_mounts(self._engine.layout, step, self, self.lent) as mounts:
            return await self._run_step(image, step, mounts, observer)

    async def _run_step(
        self, image: BuildImage, step: RunStep, mounts: StepMounts, observer: Observer,
    ) -> Layer | None:
        host = self._limits.host_config()
        host.mounts = mounts.mounts
        host.network_mode = step.network or host.network_mode
        request = CreateRequest(
            image=image.id, cmd=step.program, entrypoint=[""], env=step.environment, user=step.user,
            working_dir=step.working_dir, healthcheck=HealthConfig(test=["NONE"]), host_config=host,
        )
        container_id = await self._create(request)
        try:
            observer.running(container_id)
            self._engine.containers.live(container_id).lent_environment = mounts.environment
            code = await self._run(container_id, observer)
            if code:
                raise CommandFailed(step.program, code)
            upper = self._store.snapshots.upper_dir(container_id)
            made = [mount.target.lstrip("/") for mount in mounts.mounts]
            drop_stubs(upper, self._lowers(image), self._store.snapshots.copies, made)
            layer = await self._layer(image, upper, move=not self._keeps)
        except (CommandFailed, Error):
            self._kept.append(container_id)  # to be looked at, unless force_remove
            if self._options.buildkit:
                await self.remove_kept()
            raise
        except BaseException:
            await self._remove(container_id)
            raise
        if self._keeps:
            self._kept.append(container_id)
        else:
            await self._remove(container_id)
        return layer

    async def remove_kept(self) -> None:
        while self._kept:
            await self._remove(self._kept.pop())

    @property
    def _keeps(self) -> bool:
        """Whether a step that went well leaves its container."""
        return not self._options.remove and not self._options.buildkit

    async def _create(self, request: CreateRequest) -> str:
        """A container that is ours to remove from the moment it is there, cancelled or not."""
        volumes = not self._options.buildkit  # what a step leaves in a volume is lost with the classic builder only
        creating = asyncio.ensure_future(self._engine.containers.create("", request, image_volumes=volumes))
        try:
            return (await asyncio.shield(creating))[0]
        except asyncio.CancelledError:
            await asyncio.wait({creating})
            if creating.exception() is None:
                await self._remove(creating.result()[0])
            raise

    async def _run(self, container_id: str, observer: Observer) -> int:
        containers = self._engine.containers
        exited = containers.wait(container_id, "next-exit")
        await containers.start(container_id)
        path = f"{self._engine.layout.container(container_id)}/{LOG_NAME}"
        log = os.open(path, os.O_RDONLY | os.O_CREAT | os.O_CLOEXEC, 0o600)  # the pump may not have made it yet
        drained = asyncio.ensure_future(containers.drained(container_id).wait())
        try:
            rest = b""
            while True:
                done = drained.done() and exited.done()
                rest = self._tell(log, rest, observer)
                if done:
                    return int(exited.result())
                await asyncio.wait({drained if exited.done() else exited}, timeout=_LOOK_S)
        finally:
            drained.cancel()
            os.close(log)

    @staticmethod
    def _tell(log: int, rest: bytes, observer: Observer) -> bytes:
        """Pass on what the log has new, neighbours of one stream together; returns a frame that is not whole yet."""
        while data := os.read(log, _CHUNK):
            data = rest + data
            at, pieces, last = 0, list[bytes](), 0
            while at + _FRAME.size <= len(data):
                stream, size = _FRAME.unpack_from(data, at)
                if at + _FRAME.size + size > len(data):
                    break
                if stream != last and pieces:
                    observer.output(last, b"".join(pieces))
                    pieces.clear()
                last = stream
                pieces.append(data[at + _FRAME.size:at + _FRAME.size + size])
                at += _FRAME.size + size
            if pieces:
                observer.output(last, b"".join(pieces))
            rest = data[at:]
        return rest

    async def _remove(self, container_id: str) -> None:
        """Whatever it does at the moment: a start under way ends first, and then it runs."""
        for _ in range(3):
            try:
                await self._engine.containers.remove(container_id, force=True, volumes=True)
            except Conflict:
                continue
            except Error as error:
                self._engine.log.warning("removing build container %s: %s", container_id[:12], error)
            return
