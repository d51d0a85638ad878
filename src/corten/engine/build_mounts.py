"""What RUN --mount gives a build step: as the mounts of its container, for its time alone.

A secret lies in a file below the exec root (a tmpfs as a rule), never below the data root, and goes with the step.
"""

import asyncio
import contextlib
import hashlib
import os
import shutil
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from typing import TYPE_CHECKING, Protocol

from corten.base.errors import InvalidArgument, NotFound
from corten.base.ids import new_id
from corten.build.context import Tree
from corten.build.ops import RunStep
from corten.build.run_mounts import RunMount
from corten.engine.resource_records import Mount, TmpfsOptions
from corten.linux.path import RESOLVE_IN_ROOT, openat2

if TYPE_CHECKING:
    from corten.base.paths import Layout

SECRETS = "build-"  # how the folders of secrets below the exec root begin
Secrets = Callable[[str], Awaitable[bytes]]  # id -> content; raises NotFound
_locks: dict[str, asyncio.Lock] = {}  # caches that one step at a time may use


class Files(Protocol):
    """Where a bind's files come from."""

    async def copy_of(self, mount: RunMount) -> str: ...


class Agents(Protocol):
    """SSH agents of whoever asked for the build."""

    async def check(self, name: str) -> None:
        """Raises NotFound when there is none of that name."""

    async def forward(self, name: str, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One connection to it, until either side ends."""


class Lent:
    """What the one who asked for the build lends its steps."""

    __slots__ = ("agents", "secrets")

    def __init__(self, secrets: Secrets | None = None, agents: Agents | None = None) -> None:
        self.secrets, self.agents = secrets, agents


class StepMounts:
    """The mounts of one step, and `environment` (NAME=value) of secrets that are wanted so and of agents."""

    def __init__(self) -> None:
        self.mounts: list[Mount] = []
        self.environment: list[str] = []


@asynccontextmanager
async def step_mounts(
    layout: "Layout", step: RunStep, files: Files, lent: Lent,
) -> AsyncIterator[StepMounts]:
    """Make what the step's mounts need; it goes when the step has ended. Raises InvalidArgument."""
    made = StepMounts()
    async with AsyncExitStack() as stack:
        folder = f"{layout.exec_root}/{SECRETS}{new_id()[:12]}"
        for mount in step.mounts:
            if mount.kind == "secret":
                await _secret(made, mount, lent.secrets, folder, stack)
            elif mount.kind == "ssh":
                await _agent(made, mount, lent.agents, layout.exec_root, stack)
            elif mount.kind == "cache":
                made.mounts.append(Mount(
                    type="bind", source=await _cache(layout, mount, files, stack), target=mount.target,
                    read_only=mount.read_only))
            elif mount.kind == "tmpfs":
                size = TmpfsOptions(size_bytes=mount.size_bytes)
                made.mounts.append(Mount(type="tmpfs", target=mount.target, tmpfs_options=size,
                                         read_only=mount.read_only))
            else:
                made.mounts.append(await _bind(mount, files))
        if step.inline is not None:
            path, text = step.inline
            source = _lent_file(folder, text.encode("utf-8", "surrogateescape"), (0, 0), 0o755, stack)
            made.mounts.append(Mount(type="bind", source=source, target=path, read_only=True))
        yield made


async def _bind(mount: RunMount, files: Files) -> Mount:
    """Read-only it is the thing itself; what a step writes to it goes to a copy that nobody sees."""
    if not mount.read_only:
        source = await files.copy_of(mount)
    elif mount.tree is not None:
        source = _inside(mount.tree, mount)
    elif mount.image is not None and not mount.path:
        return Mount(type="image", source=mount.image.id, target=mount.target, read_only=True)
    else:
        source = await files.copy_of(mount)
    return Mount(type="bind", source=source, target=mount.target, read_only=mount.read_only)


def _inside(tree: Tree, mount: RunMount) -> str:
    """The path of a place in the context, its links resolved below it: nobody writes there while the build runs."""
    try:
        descriptor = openat2(tree.root, mount.path or ".", os.O_PATH | os.O_CLOEXEC, RESOLVE_IN_ROOT)
    except OSError:
        raise InvalidArgument(f"failed to compute cache key: \"/{mount.path}\": not found") from None
    try:
        return os.readlink(f"/proc/self/fd/{descriptor}")
    finally:
        os.close(descriptor)


async def _cache(layout: "Layout", mount: RunMount, files: Files, stack: AsyncExitStack) -> str:
    """A folder that stays from build to build, named by its id; `private`: one of its own, gone afterwards.

    When it is new it holds what `from` and `source` name.
    """
    name = mount.values.get("id") or mount.target
    sharing = mount.values.get("sharing", "shared")
    folder = f"{layout.build_caches}/{hashlib.sha256(name.encode('utf-8', 'surrogateescape')).hexdigest()}"
    if sharing == "private":
        folder += f"-{new_id()[:12]}"
        stack.callback(shutil.rmtree, folder, True)
    if sharing == "locked":
        await stack.enter_async_context(_locks.setdefault(folder, asyncio.Lock()))
    if os.path.isdir(folder):
        return folder
    if mount.image is not None:
        first = await files.copy_of(mount)
        with contextlib.suppress(OSError):  # another step was faster
            os.rename(first, folder)
        return folder
    try:
        os.mkdir(folder)
    except FileExistsError:
        return folder
    os.chown(folder, mount.number("uid", 0), mount.number("gid", 0))
    os.chmod(folder, mount.number("mode", 0o755, 8))
    return folder


def _lent_file(folder: str, content: bytes, owner: tuple[int, int], mode: int, stack: AsyncExitStack) -> str:
    """A file below `folder`, which goes with the stack."""
    if not os.path.isdir(folder):
        os.mkdir(folder, 0o700)
        stack.callback(shutil.rmtree, folder, True)
    path = f"{folder}/{len(os.listdir(folder))}"
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    try:
        view = memoryview(content)
        while view:
            view = view[os.write(descriptor, view):]
        os.fchown(descriptor, *owner)
        os.fchmod(descriptor, mode)
    finally:
        os.close(descriptor)
    return path


async def _secret(
    made: StepMounts, mount: RunMount, secrets: Secrets | None, folder: str, stack: AsyncExitStack,
) -> None:
    name = mount.values["id"]
    try:
        if secrets is None:
            raise NotFound(f"secret {name}: not found")
        content = await secrets(name)
    except NotFound:
        if mount.values.get("required") == "true":
            raise InvalidArgument(f"secret {name}: not found") from None
        return
    if "env" in mount.values:
        made.environment.append(f"{mount.values['env']}={content.decode('utf-8', 'surrogateescape')}")
    if not mount.target:
        return
    owner = mount.number("uid", 0), mount.number("gid", 0)
    path = _lent_file(folder, content, owner, mount.number("mode", 0o400, 8), stack)
    made.mounts.append(Mount(type="bind", source=path, target=mount.target, read_only=True))


async def _agent(
    made: StepMounts, mount: RunMount, agents: Agents | None, exec_root: str, stack: AsyncExitStack,
) -> None:
    """A socket in the container behind which is an agent of the client's."""
    name = mount.values.get("id", "default")
    try:
        if agents is None:
            raise NotFound(f'unset ssh forward key "{name}"')
        await agents.check(name)
    except NotFound:
        if mount.values.get("required") == "true":
            raise InvalidArgument(f'unset ssh forward key "{name}"') from None
        return
    folder = f"{exec_root}/{SECRETS}{new_id()[:12]}"
    os.mkdir(folder, 0o700)
    stack.callback(shutil.rmtree, folder, True)
    listener = _listener(folder, mount)
    forwarder = agents

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await forwarder.forward(name, reader, writer)
        finally:
            writer.close()

    server = await asyncio.start_unix_server(serve, sock=listener)
    stack.callback(server.close)
    numbered = sum(item.startswith("SSH_AUTH_SOCK=") for item in made.environment)
    target = mount.target or f"/run/buildkit/ssh_agent.{numbered}"
    made.mounts.append(Mount(type="bind", source=f"{folder}/agent", target=target, read_only=True))
    if not numbered:
        made.environment.append(f"SSH_AUTH_SOCK={target}")


def _listener(folder: str, mount: RunMount) -> socket.socket:
    """A listening socket `folder`/agent; bound by its folder's descriptor, since a socket's name is short."""
    listener = socket.socket(socket.AF_UNIX)
    descriptor = os.open(folder, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        listener.bind(f"/proc/self/fd/{descriptor}/agent")
        os.chmod("agent", mount.number("mode", 0o600, 8), dir_fd=descriptor)
        os.chown("agent", mount.number("uid", 0), mount.number("gid", 0), dir_fd=descriptor)
        listener.listen()
        listener.setblocking(False)
    except BaseException:
        listener.close()
        raise
    finally:
        os.close(descriptor)
    return listener
