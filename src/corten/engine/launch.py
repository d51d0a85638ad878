"""Starting a container's process: addresses, files, spec, bundle, init, network, go. What fails is undone.

The order matters: nothing is made before the addresses are had, and the network is up before the program runs.
"""

import asyncio
import os
from typing import TYPE_CHECKING, Any

import msgspec

from corten.base.errors import Error, Internal, InvalidArgument, NotFound
from corten.base.files import remove_tree
from corten.base.units import now_ns
from corten.engine.devices import all_devices, block_io, host_devices
from corten.engine.mount_sources import mount_sources, tell_mounted, tell_unmounted
from corten.engine.records import ContainerRecord, MountPoint
from corten.engine.spec import Inputs, build_spec
from corten.engine.users import resolve_user
from corten.zygote.client import Created, StartFailed, StartLost

if TYPE_CHECKING:
    from corten.engine.containers import Containers

PREFIX = ("failed to create task for container: failed to create shim task: OCI runtime create failed: "
          "runc create failed: unable to start container process: error during container init: ")
_encode = msgspec.json.Encoder().encode

_JOINABLE_IPC = ("shareable", "host")
NOT_FOUND, NOT_EXECUTABLE, UNKNOWN = 127, 126, 128
_ATTEMPTS = 3  # each that is lost takes a kill -9 of the zygote


def exit_code_of(failure: StartFailed) -> int:
    """The code docker keeps for a process that did not come to run; told by the text where its program is not to blame.

    daemon/errors.go, setExitCodeFromError.
    """
    if failure.exit_code in (NOT_FOUND, NOT_EXECUTABLE):
        return failure.exit_code
    text = str(failure)
    if "no such file or directory" in text:
        return NOT_FOUND
    return NOT_EXECUTABLE if any(part in text for part in _NOT_EXECUTABLE) else UNKNOWN


_NOT_EXECUTABLE = ("permission denied", "is a directory", "not a directory", "exec format error")


class LaunchFailed(InvalidArgument):
    """The program is not there or cannot be run: the request's fault. The text is what runc and docker say."""


async def launch(containers: "Containers", record: ContainerRecord) -> None:
    """Run the container's program; `record.state` is filled in but not saved. The caller holds the lock.

    Raises LaunchFailed, or whatever kind of error a part has; nothing is left behind then.
    """
    for attempt in range(1, _ATTEMPTS + 1):
        try:
            await _launch_once(containers, record)
            return
        except BaseException as error:
            if not isinstance(error, StartLost) or attempt == _ATTEMPTS:
                raise _translated(record, error) from None


async def _launch_once(containers: "Containers", record: ContainerRecord) -> None:
    engine = containers.engine
    live = containers.live(record.id)
    if live.cleanup is not None:
        await live.cleanup
        live.cleanup = None
    told = False
    try:
        await engine.networks.reserve(record)
        engine.networks.etc_files(record)
        write_bundle(containers, record, await mount_sources(engine, record))
        tell_mounted(engine, record)
        told = True
        live.begin()
        await engine.log_forwarders.begin(record)
        created = await _create(containers, record)
        try:
            await engine.networks.attach(record, created.netns, created.pidfd)
            await engine.gateway.join(record, created.netns)
        finally:
            os.close(created.netns)
            os.close(created.pidfd)
        started_ns = now_ns()  # not later: a short one may have ended when the answer comes
        await engine.zygote.start(record.id)
    except BaseException:
        await engine.gateway.leave(record)
        await undo_launch(containers, record)
        if told:
            tell_unmounted(engine, record)
        live.exited.set()
        live.drained.set()
        live.released.set()
        raise
    state = record.state
    state.status, state.pid, state.start_time = "running", created.pid, created.start_time
    state.exit_code, state.error, state.oom_killed = 0, "", False
    state.started_ns = started_ns
    engine.gateway.joined(record)


async def _create(containers: "Containers", record: ContainerRecord) -> Created:
    """Have the init cloned, and open its ports meanwhile."""
    engine = containers.engine
    creating = asyncio.ensure_future(engine.zygote.create(
        record.id, tty=record.config.tty, open_stdin=record.config.open_stdin,
        stdin_once=record.config.stdin_once, log_dir=engine.layout.container(record.id),
    ))
    try:
        await asyncio.sleep(0)  # the request is on its way after this
        engine.networks.prepare(record)
    except BaseException:
        creating.cancel()
        raise
    return await creating


def _translated(record: ContainerRecord, error: BaseException) -> BaseException:
    """The failure as Docker tells it, and the exit code that stays in the record."""
    state = record.state
    if isinstance(error, StartFailed):
        state.exit_code = exit_code_of(error)
        text = PREFIX + str(error)
        error = LaunchFailed(text) if state.exit_code != UNKNOWN else Internal(text)
    else:
        state.exit_code = UNKNOWN
        if isinstance(error, OSError):
            error = Internal(f"{PREFIX}{error}")
    if isinstance(error, Error):
        state.error = str(error)
    return error


async def undo_launch(containers: "Containers", record: ContainerRecord) -> None:
    """Take back all that a start has made; each step is tried. What is absent is fine."""
    engine = containers.engine
    try:
        await engine.zygote.forget(record.id)
    except Error as error:
        engine.log.warning("container %s: %s", record.id[:12], error)
    try:
        await engine.networks.release(record)
    except (Error, OSError) as error:
        engine.log.warning("releasing the network of container %s: %s", record.id[:12], error)
    remove_bundle(engine.layout.bundle(record.id))


def remove_bundle(path: str) -> None:
    """Remove a bundle; the few files it has by name, which is quicker than walking."""
    try:
        for name in os.listdir(path):
            os.unlink(f"{path}/{name}")
        os.rmdir(path)
    except FileNotFoundError:
        pass
    except OSError:
        remove_tree(path)


# --- the bundle


def write_bundle(containers: "Containers", record: ContainerRecord, points: list[MountPoint]) -> None:
    """config.json and rootfs.json on the run root. Raises InvalidArgument: unknown user, device, mount source."""
    engine = containers.engine
    bundle = engine.layout.bundle(record.id)
    rootfs: dict[str, Any] = dict(engine.snapshots.rootfs(record.id))
    rootfs["init"] = bool(record.host_config.init)
    spec = build_spec(record, _inputs(containers, record, rootfs, points))
    try:
        os.mkdir(bundle, 0o700)
    except FileExistsError:  # left by a daemon that was killed
        remove_bundle(bundle)
        os.mkdir(bundle, 0o700)
    _write(f"{bundle}/rootfs.json", _encode(rootfs))
    _write(f"{bundle}/config.json", _encode(spec))


def _write(path: str, data: bytes) -> None:
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
    try:
        os.write(descriptor, data)
    finally:
        os.close(descriptor)


def _inputs(
    containers: "Containers", record: ContainerRecord, rootfs: dict[str, Any], points: list[MountPoint]
) -> Inputs:
    engine, host = containers.engine, record.host_config
    layers = [rootfs["upper"], *rootfs["lower"]]
    devices = all_devices() if host.privileged else []
    if host.devices:
        devices = devices + host_devices(host.devices)
    return Inputs(
        rootfs=engine.layout.rootfs, user=resolve_user(record.config.user, layers, host.group_add),
        network=engine.networks.namespace_of(record), ipc=_shared(containers, host.ipc_mode, "ipc"),
        pid=_shared(containers, host.pid_mode, "pid"), block_io=block_io(host),
        files=etc_files(containers, record), mounts=points,
        image_mounts=engine.images.container_mounts(record.id), devices=devices,
        cgroup_path=engine.cgroup_of(record), bounding=engine.bounding,
        lent_environment=containers.live(record.id).lent_environment,
    )


def etc_files(containers: "Containers", record: ContainerRecord) -> list[tuple[str, str]]:
    """The files the engine keeps for a container: those of the one whose network it joins, or its own."""
    folder = containers.engine.networks.etc_folder(record)
    return [(f"{folder}/{name}", f"/etc/{name}") for name in ("resolv.conf", "hostname", "hosts")]


def _shared(containers: "Containers", mode: str, kind: str) -> str:
    """Which namespace of a kind a mode means: "host", "new", or the path of another container's."""
    if mode == "host":
        return "host"
    if not mode.startswith("container:"):
        return "new"
    try:
        other = containers.get(mode.removeprefix("container:"))
    except NotFound as error:
        raise InvalidArgument(str(error)) from None
    if kind == "ipc" and other.host_config.ipc_mode not in _JOINABLE_IPC:
        raise InvalidArgument(f"container {other.id}: non-shareable IPC "
                              "(hint: use IpcMode:shareable for the donor container)")
    if not other.running:
        raise Internal(f"failed to join {kind.upper()} namespace: container {other.id} is not running")
    return f"/proc/{other.state.pid}/ns/{kind}"
