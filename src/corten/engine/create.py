"""Making a container: check, reserve the name, prepare its layer, its volumes and its record; all of it or nothing.

POST /containers/create. Nothing runs yet and no address is taken: that is start's (launch.py).
"""

import os
import posixpath
import socket
from typing import TYPE_CHECKING, Any

from corten.base.errors import Conflict, Internal, InvalidArgument, NotFound
from corten.base.files import atomic_write
from corten.base.ids import new_id
from corten.base.units import now_ns
from corten.engine import gateway, log_drivers, own_labels, validate
from corten.engine.db import NameTaken
from corten.engine.devices import block_io
from corten.engine.honoured import refuse_unsupported
from corten.engine.mounts import plan_mounts
from corten.engine.names import random_name
from corten.engine.records import (
    Config,
    ContainerRecord,
    CreateRequest,
    EndpointConfig,
    HealthConfig,
    HostConfig,
    LogConfig,
    MountPoint,
)
from corten.engine.spec import MASKED_PATHS, READONLY_PATHS, as_list, capabilities, rlimits
from corten.engine.spec_mounts import DEFAULT_SHM_BYTES
from corten.engine.spec_resources import device_rules
from corten.image.worker import in_thread
from corten.zygote.log_format import CONFIG_NAME, Limits

if TYPE_CHECKING:
    from corten.engine.containers import Containers
    from corten.engine.images import Image, Images

_CONFIG_FIELDS = Config.__struct_fields__


async def create(
    containers: "Containers", name: str, request: CreateRequest, platform: str = "", image_volumes: bool = True,
) -> tuple[str, list[str]]:
    """(id, warnings). image_volumes: the image's are made too. Raises NotFound (image), Conflict (name),
    InvalidArgument, Unsupported."""
    engine = containers.engine
    if name:
        name = validate.check_name(name)
    host = request.host_config or HostConfig()
    warnings = validate.check_host_config(host)
    endpoints = _endpoints(request, host)
    config = Config(**{field: getattr(request, field) for field in _CONFIG_FIELDS})
    if not host.log_config.type:
        host.log_config = LogConfig(
            type=engine.config.log_driver, config={**engine.config.log_options, **host.log_config.config})
    refuse_unsupported(config, host)
    validate.check_texts(config, host)
    validate.check_config(config)
    image = await engine.images.resolve(config.image, platform)
    defaults = dict(image.config.get("config") or {})
    if not image_volumes:
        defaults.pop("Volumes", None)
    said = config.labels or {}
    merge_image_config(config, defaults)
    command = [*as_list(config.entrypoint), *as_list(config.cmd)]
    if not command:
        raise InvalidArgument("no command specified")
    record = ContainerRecord(
        id=new_id(), name=name, created_ns=now_ns(), image=config.image, image_id=image.id, config=config,
        host_config=host, networking=endpoints, path=command[0], args=command[1:],
        driver=engine.snapshots.driver, project=said.get(f"{gateway.COMPOSE}project", ""),
        service=said.get(f"{gateway.COMPOSE}service", ""),
    )
    _settle(record)
    _share_by_id(containers, host)
    capabilities(host)
    rlimits(host)
    device_rules(host)
    block_io(host)
    own_labels.check(config)
    record.mounts = planned(containers, config, host)
    warnings += engine.networks.check_create(record)
    engine.gateway.check(record)
    sharing = containers.find(host.network_mode.removeprefix("container:"))
    if sharing and not config.hostname:
        config.hostname = sharing.config.hostname
    await _make(containers, record, image)
    return record.id, warnings


# --- what the record says


def _endpoints(request: CreateRequest, host: HostConfig) -> dict[str, EndpointConfig]:
    """The networks asked for; the network mode names one as well."""
    if host.network_mode in ("", "default"):
        host.network_mode = "bridge"
    given = request.networking_config.endpoints_config if request.networking_config else {}
    found = {
        ("bridge" if name == "default" else name): endpoint or EndpointConfig() for name, endpoint in given.items()
    }
    mode = host.network_mode
    if not mode.startswith("container:") and not found:
        found = {mode: EndpointConfig()}
    if request.network_disabled:
        return {}
    if request.mac_address and mode in found and not found[mode].mac_address:
        found[mode].mac_address = request.mac_address
    return found


def merge_image_config(config: Config, image: dict[str, Any]) -> None:
    """What the request leaves open comes from the image, as Docker merges them."""
    config.user = config.user or image.get("User") or ""
    ports = image.get("ExposedPorts") or {}
    if ports:
        config.exposed_ports = {**{port: {} for port in ports}, **(config.exposed_ports or {})}
    own = {variable.partition("=")[0] for variable in config.env or ()}
    config.env = [*(config.env or ()), *(v for v in image.get("Env") or () if v.partition("=")[0] not in own)]
    given = image.get("Labels") or {}
    labels = {name: value for name, value in given.items() if not name.startswith(gateway.PREFIXES)}
    config.labels = {**labels, **(config.labels or {})}  # an image does not steer the engine
    if config.entrypoint is None:
        if config.cmd is None:
            config.cmd = image.get("Cmd")
        config.entrypoint = image.get("Entrypoint")
    elif as_list(config.entrypoint) == [""]:
        config.entrypoint = None  # `--entrypoint ""` takes the image's away
    config.healthcheck = _merge_health(config.healthcheck, image.get("Healthcheck"))
    config.working_dir = _clean(config.working_dir or image.get("WorkingDir") or "")
    volumes = image.get("Volumes") or {}
    if volumes:
        config.volumes = {**{path: {} for path in volumes}, **(config.volumes or {})}
    config.stop_signal = config.stop_signal or image.get("StopSignal") or ""
    if config.shell is None:
        config.shell = image.get("Shell")


def _clean(path: str) -> str:
    return posixpath.normpath("/" + path.lstrip("/")) if path.startswith("/") else path


def _merge_health(own: HealthConfig | None, image: dict[str, Any] | None) -> HealthConfig | None:
    if not image:
        return own
    if own is None:
        own = HealthConfig()
    own.test = own.test or image.get("Test")
    for attribute, key in (("interval", "Interval"), ("timeout", "Timeout"), ("start_period", "StartPeriod"),
                           ("start_interval", "StartInterval"), ("retries", "Retries")):
        if not getattr(own, attribute):
            setattr(own, attribute, image.get(key) or 0)
    return own


def _settle(record: ContainerRecord) -> None:
    """Fill in the defaults that inspect shows."""
    config, host = record.config, record.host_config
    if not config.hostname:
        if host.network_mode == "host" or host.uts_mode == "host":
            config.hostname = socket.gethostname()
        elif not host.network_mode.startswith("container:"):
            config.hostname = record.id[:12]
    config.volumes = config.volumes or None
    host.pids_limit = host.pids_limit or None  # clients send 0 for "nothing said"
    host.runtime = host.runtime or "runc"  # the name clients look for; the runtime is ours
    host.restart_policy.name = host.restart_policy.name or "no"
    host.shm_size = host.shm_size or DEFAULT_SHM_BYTES
    host.ipc_mode = host.ipc_mode or "private"
    host.cgroupns_mode = host.cgroupns_mode or "private"
    if host.memory > 0 and not host.memory_swap:
        host.memory_swap = host.memory * 2
    unconfined = host.privileged or "systempaths=unconfined" in (host.security_opt or ())
    if host.masked_paths is None:
        host.masked_paths = [] if unconfined else list(MASKED_PATHS)
    if host.readonly_paths is None:
        host.readonly_paths = [] if unconfined else list(READONLY_PATHS)


def _share_by_id(containers: "Containers", host: HostConfig) -> None:
    """`container:name` is kept as `container:id`: names may change. What is not there is refused by whoever joins it.

    But for a pid namespace here already, as docker does. Raises InvalidArgument.
    """
    for attribute in ("network_mode", "ipc_mode", "pid_mode"):
        kind, _, name = getattr(host, attribute).partition(":")
        if kind == "container":
            try:
                found = containers.get(name)
            except NotFound as error:
                if attribute == "pid_mode":
                    raise InvalidArgument(str(error)) from None
                continue
            setattr(host, attribute, f"container:{found.id}")


def planned(containers: "Containers", config: Config, host: HostConfig) -> list[MountPoint]:
    """The mounts asked for; no volume is made yet. Raises InvalidArgument, NotFound, Unsupported."""
    _check_sources(containers.engine.images, host)
    return plan_mounts(config, host, _volume_sources(containers, host))


def _check_sources(images: "Images", host: HostConfig) -> None:
    """A bind of --mount must be there already, as an image must; one of -v is made at start."""
    for mount in host.mounts or ():
        if mount.type == "image":
            images.find(mount.source)
        made = mount.bind_options and mount.bind_options.create_mountpoint
        if mount.type == "bind" and mount.source.startswith("/") and not made and not os.path.exists(mount.source):
            raise InvalidArgument(
                f'invalid mount config for type "bind": bind source path does not exist: {mount.source}'
            )


def _volume_sources(containers: "Containers", host: HostConfig) -> dict[str, ContainerRecord]:
    try:
        return {name: containers.get(name) for name in (entry.partition(":")[0] for entry in host.volumes_from or ())}
    except NotFound as error:  # 404 would make a client pull the image, which is here
        raise InvalidArgument(str(error)) from None


# --- making it


def _check_free(containers: "Containers", name: str) -> None:
    taken = containers.named(name)
    if taken or name in containers.reserved:
        owner = taken.id if taken else containers.reserved[name]
        raise Conflict(
            f'Conflict. The container name "/{name}" is already in use by container "{owner}". You have to remove '
            "(or rename) that container to be able to reuse that name."
        )


def _reserve_name(containers: "Containers", record: ContainerRecord) -> None:
    if record.name:
        _check_free(containers, record.name)
    else:
        for attempt in range(20):
            record.name = random_name(attempt)
            if not containers.named(record.name) and record.name not in containers.reserved:
                break
    containers.reserved[record.name] = record.id


async def _make(containers: "Containers", record: ContainerRecord, image: "Image") -> None:
    engine = containers.engine
    _reserve_name(containers, record)
    try:
        os.mkdir(engine.layout.container(record.id), 0o710)
        _write_log_limits(engine.layout.container(record.id), log_drivers.limits(record.host_config.log_config))
        if engine.snapshots.copies:  # the whole image
            await in_thread(engine.snapshots.prepare, record.id, image)
        else:
            engine.snapshots.prepare(record.id, image)
        hold_images(engine, record)
        await make_volumes(containers, record)
        try:
            containers.add(record)
        except NameTaken:
            raise Internal(f"container name {record.name} is in the table of another container") from None
    except BaseException:
        await undo_create(containers, record)
        raise
    finally:
        containers.reserved.pop(record.name, None)
    containers.publish(record, "create")


def _write_log_limits(folder: str, limits: Limits) -> None:
    """For the log pump, which is told nothing else. No file, no limit."""
    if limits.segment_bytes:
        atomic_write(f"{folder}/{CONFIG_NAME}", limits.to_bytes(), mode=0o600)


async def undo_create(containers: "Containers", record: ContainerRecord) -> None:
    """Take back whatever `create` or `remove` may have left of a container; never stops at a failure."""
    engine = containers.engine
    try:
        engine.snapshots.remove(record.id)
        engine.bury(engine.layout.container(record.id))
    except OSError as error:
        engine.log.warning("removing container %s: %s", record.id[:12], error)
    for name in engine.volumes.release(record.id):
        if any(point.name == name and point.anonymous for point in record.mounts):
            try:
                await engine.volumes.remove(name, force=True)
            except Exception as error:
                engine.log.warning("removing volume %s: %s", name, error)


def hold_images(engine: Any, record: ContainerRecord) -> None:
    """What is mounted of images stays as it is now, though they are removed or their names moved. Raises NotFound."""
    layers: list[str] = []
    for point in record.mounts:
        if point.type == "image":
            image = engine.images.find(point.source)
            point.image_id, point.options = image.id, list(image.layers)
            layers += image.layers
    engine.snapshots.hold(record.id, layers)


async def make_volumes(containers: "Containers", record: ContainerRecord) -> None:
    """Make or find each volume, and fill new ones with what the image has at their place."""
    volumes = containers.engine.volumes
    for point in record.mounts:
        if point.type != "volume":
            continue
        point.name = await volumes.ensure(
            point.name, record.id, point.driver, point.volume_options, point.volume_labels or None)
        point.source = volumes.mountpoint(point.name)
        if not point.no_copy:
            lowers = containers.engine.snapshots.lowers(record.id)
            await volumes.copy_up(point.name, lowers, point.destination, point.subpath)
