"""Device nodes of the host given to a container. Looks at the host, changes nothing."""

import os
import re
import stat
from typing import Any

from corten.base.errors import InvalidArgument
from corten.engine.records import Device, HostConfig, ThrottleDevice


def _node(path: str, name: str) -> dict[str, Any] | None:
    found = os.stat(path)
    kind = "c" if stat.S_ISCHR(found.st_mode) else "b" if stat.S_ISBLK(found.st_mode) else ""
    if not kind:
        return None
    return {
        "path": name, "type": kind, "major": os.major(found.st_rdev), "minor": os.minor(found.st_rdev),
        "fileMode": stat.S_IMODE(found.st_mode), "uid": found.st_uid, "gid": found.st_gid,
    }


def _below(path: str, name: str) -> list[dict[str, Any]]:
    """All nodes in a folder, without those a container has of its own."""
    nodes = []
    for entry in sorted(os.scandir(path), key=lambda entry: entry.name):
        if entry.name in ("pts", "shm", "fd", "mqueue", ".lxc", ".lxd-mounts", ".udev", "console"):
            continue
        if entry.is_dir(follow_symlinks=False):
            nodes += _below(entry.path, f"{name}/{entry.name}")
        elif not entry.is_symlink() and (node := _node(entry.path, f"{name}/{entry.name}")):
            nodes.append(node)
    return nodes


def host_devices(devices: list[Device]) -> list[tuple[dict[str, Any], str]]:
    """(`linux.devices` entry, access) of each device asked for, folders opened up. Raises InvalidArgument."""
    found: list[tuple[dict[str, Any], str]] = []
    for device in devices:
        access = device.cgroup_permissions or "rwm"
        if not re.fullmatch(r"[rwm]{1,3}", access, re.ASCII):
            raise InvalidArgument(f"invalid device mode: {access}")
        inside = device.path_in_container or device.path_on_host
        try:
            source = os.path.realpath(device.path_on_host, strict=True)
            nodes = _below(source, inside) if os.path.isdir(source) else [_node(source, inside)]
        except OSError as error:
            text = (error.strerror or "").lower()
            raise InvalidArgument(
                f'error gathering device information while adding custom device "{device.path_on_host}": {text}'
            ) from None
        usable = [node for node in nodes if node]
        if not usable:
            raise InvalidArgument(
                f'error gathering device information while adding custom device "{device.path_on_host}": '
                "not a device node"
            )
        found += [(node, access) for node in usable]
    return found


_THROTTLES = (
    ("blkio_device_read_bps", "throttleReadBpsDevice"), ("blkio_device_write_bps", "throttleWriteBpsDevice"),
    ("blkio_device_read_iops", "throttleReadIOPSDevice"), ("blkio_device_write_iops", "throttleWriteIOPSDevice"),
)


def block_io(host: HostConfig) -> dict[str, Any]:
    """`linux.resources.blockIO`, devices by number. Raises InvalidArgument: no such device."""
    found: dict[str, Any] = {}
    if host.blkio_weight:
        found["weight"] = host.blkio_weight
    if host.blkio_weight_device:
        found["weightDevice"] = [
            {**_numbers(entry.path), "weight": entry.weight} for entry in host.blkio_weight_device]
    for attribute, key in _THROTTLES:
        entries: list[ThrottleDevice] = getattr(host, attribute)
        if entries:
            found[key] = [{**_numbers(entry.path), "rate": entry.rate} for entry in entries]
    return found


def _numbers(path: str) -> dict[str, int]:
    try:
        number = os.stat(path).st_rdev
    except OSError as error:
        raise InvalidArgument(f"stat {path}: {(error.strerror or '').lower()}") from None
    return {"major": os.major(number), "minor": os.minor(number)}


def all_devices() -> list[tuple[dict[str, Any], str]]:
    """Every device of the host: what a privileged container gets."""
    return [(node, "rwm") for node in _below("/dev", "/dev")]
