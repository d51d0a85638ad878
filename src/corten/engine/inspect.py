"""Docker's inspect of a container, field by field as dockerd 28 has them. GET /containers/{id}/json."""

from typing import TYPE_CHECKING, Any

import msgspec

from corten.base.units import ZERO_TIME, format_time
from corten.engine import links
from corten.engine.image_platforms import manifest_descriptor
from corten.engine.records import ContainerRecord, MountPoint

if TYPE_CHECKING:
    from corten.engine.containers import Containers
    from corten.engine.engine import Engine

# members that Docker leaves out when they are empty
_OMIT_CONFIG = ("ArgsEscaped", "ExposedPorts", "Healthcheck", "MacAddress", "NetworkDisabled", "Shell", "StopSignal",
                "StopTimeout")
_OMIT_HOST = ("Annotations", "Init", "KernelMemory", "KernelMemoryTCP", "Mounts", "StorageOpt", "Sysctls", "Tmpfs")
_OMIT_HEALTH = ("Interval", "Retries", "StartInterval", "StartPeriod", "Test", "Timeout")


def shown(record: msgspec.Struct, omit: tuple[str, ...]) -> dict[str, Any]:
    """A record as JSON values without the named members that are empty."""
    found: dict[str, Any] = msgspec.to_builtins(record)
    for name in omit:
        if not found[name] and found[name] is not False:
            del found[name]
    return found


def mount_point(point: MountPoint) -> dict[str, Any]:
    """One of `Mounts`."""
    found: dict[str, Any] = {"Type": point.type}
    if point.name:
        found["Name"] = point.name
    found.update({"Source": point.source, "Destination": point.destination})
    if point.driver:
        found["Driver"] = point.driver
    found.update({"Mode": point.mode, "RW": point.rw, "Propagation": point.propagation})
    return found


def mount_points(record: ContainerRecord) -> list[dict[str, Any]]:
    """`Mounts`, by destination."""
    return [mount_point(point) for point in sorted(record.mounts, key=lambda point: point.destination)]


def _state(record: ContainerRecord) -> dict[str, Any]:
    state = record.state
    status = state.status
    found: dict[str, Any] = {
        "Status": status, "Running": status in ("running", "paused", "restarting"), "Paused": status == "paused",
        "Restarting": status == "restarting", "OOMKilled": state.oom_killed, "Dead": status == "dead",
        "Pid": state.pid, "ExitCode": state.exit_code, "Error": state.error,
        "StartedAt": format_time(state.started_ns) if state.started_ns else ZERO_TIME,
        "FinishedAt": format_time(state.finished_ns) if state.finished_ns else ZERO_TIME,
    }
    if state.health is not None:
        found["Health"] = msgspec.to_builtins(state.health)
    return found


def _config(record: ContainerRecord) -> dict[str, Any]:
    found = shown(record.config, _OMIT_CONFIG)
    if found["Image"] == "":
        found["Image"] = record.image
    for name in ("ArgsEscaped", "NetworkDisabled"):
        if found.get(name) is False:
            del found[name]
    if isinstance(found["Cmd"], str):
        found["Cmd"] = [found["Cmd"]]
    if isinstance(found["Entrypoint"], str):
        found["Entrypoint"] = [found["Entrypoint"]]
    check = record.config.healthcheck
    if check is not None:
        found["Healthcheck"] = shown(check, _OMIT_HEALTH)
    return found


def _driver_data(engine: "Engine", record: ContainerRecord) -> dict[str, Any] | None:
    """Where its files are; a copy has nothing to tell, as with docker's vfs."""
    rootfs: dict[str, Any] = dict(engine.snapshots.rootfs(record.id))
    if not rootfs["lower"]:
        return None
    return {
        "ID": record.id, "LowerDir": ":".join(rootfs["lower"]),
        "MergedDir": f"{engine.layout.bundle(record.id)}/rootfs", "UpperDir": rootfs["upper"],
        "WorkDir": rootfs["work"],
    }


def inspect(containers: "Containers", record: ContainerRecord, size: bool) -> dict[str, Any]:
    """The whole of it; `size` adds SizeRw and SizeRootFs in bytes."""
    engine = containers.engine
    folder = engine.layout.container(record.id)
    started = bool(record.state.started_ns)
    found: dict[str, Any] = {
        "Id": record.id,
        "Created": format_time(record.created_ns),
        "Path": record.path,
        "Args": record.args,
        "State": _state(record),
        "Image": record.image_id,
        "ResolvConfPath": f"{folder}/resolv.conf" if started else "",
        "HostnamePath": f"{folder}/hostname" if started else "",
        "HostsPath": f"{folder}/hosts" if started else "",
        "LogPath": f"{folder}/log" if started else "",
        "Name": f"/{record.name}",
        "RestartCount": record.restart_count,
        "Driver": record.driver,
        "Platform": record.platform,
        "MountLabel": "",
        "ProcessLabel": "",
        "AppArmorProfile": "",
        "ExecIDs": engine.execs.of(record.id) or None,
        "HostConfig": {**shown(record.host_config, _OMIT_HOST), "Links": links.shown(record)},
        "GraphDriver": {"Data": _driver_data(engine, record), "Name": record.driver},
        "Mounts": mount_points(record),
        "Config": _config(record),
        "NetworkSettings": engine.networks.settings(record),
    }
    if (described := manifest_descriptor(engine.images, record.image_id)) is not None:
        found["ImageManifestDescriptor"] = described
    if size:
        found["SizeRw"] = containers.size_rw(record)
        found["SizeRootFs"] = containers.size_rootfs(record)
    return found
