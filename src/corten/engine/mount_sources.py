"""What a container's mounts come from, made ready for one start: binds made, images and volumes found.

Nothing is mounted here; the container's init does that.
"""

import asyncio
import ipaddress
import os
import socket
from typing import TYPE_CHECKING

import msgspec

from corten.base.errors import Internal, InvalidArgument
from corten.engine.image_subpath import layers_beneath
from corten.engine.records import ContainerRecord, MountPoint
from corten.volume.local import LocalMount

if TYPE_CHECKING:
    from corten.engine.engine import Engine

_NETWORK = ("nfs", "nfs4", "cifs", "smb3")


async def mount_sources(engine: "Engine", record: ContainerRecord) -> list[MountPoint]:
    """A container's mounts as they are now. Raises InvalidArgument, NotFound, Internal."""
    for point in record.mounts:
        mount = engine.volumes.mount_of(point.name) if point.type == "volume" else None
        if mount is not None and mount.kind in _NETWORK:  # a server's name may have to be looked up
            return await asyncio.to_thread(_all, engine, record)
    return _all(engine, record)


def _all(engine: "Engine", record: ContainerRecord) -> list[MountPoint]:
    return [_ready(engine, point) for point in record.mounts]


def _ready(engine: "Engine", point: MountPoint) -> MountPoint:
    if point.type == "bind":
        make_source(point)
    elif point.type == "image":
        layers = engine.images.store.snapshots.view(point.options)
        if point.subpath:
            layers = layers_beneath(layers, point.subpath)
        return msgspec.structs.replace(point, options=layers, subpath="")
    elif point.type == "volume":
        mount = engine.volumes.mount_of(point.name)
        if mount is not None and mount.kind != "bind":
            return _file_system(point, mount)
        if mount is not None and "ro" in mount.options:
            return msgspec.structs.replace(point, rw=False)
    return point


def tell_mounted(engine: "Engine", record: ContainerRecord) -> None:
    """An event for each volume a run begins to use."""
    for point in record.mounts:
        if point.type == "volume":
            engine.events.publish("volume", "mount", point.name, {
                "container": record.id, "destination": point.destination, "driver": point.driver,
                "propagation": point.propagation, "read/write": "true" if point.rw else "false"})


def tell_unmounted(engine: "Engine", record: ContainerRecord) -> None:
    """An event for each volume a run has used."""
    for point in record.mounts:
        if point.type == "volume":
            engine.events.publish(
                "volume", "unmount", point.name, {"container": record.id, "driver": point.driver})


def _file_system(point: MountPoint, mount: LocalMount) -> MountPoint:
    """The volume as a mount of its own kind; a server's name becomes its address, which is all the kernel takes."""
    options = list(mount.options)
    if mount.kind in _NETWORK:
        options = [_address(word) if word.startswith("addr=") else word for word in options]
    if not point.rw:
        options.append("ro")
    return msgspec.structs.replace(point, type="filesystem", driver=mount.kind, source=mount.device, options=options)


def _address(word: str) -> str:
    name = word.removeprefix("addr=")
    try:
        ipaddress.ip_address(name)
    except ValueError:
        try:
            return f"addr={socket.getaddrinfo(name, None)[0][4][0]}"
        except OSError as error:
            raise InvalidArgument(f"error resolving passed in network volume address: {name}: {error}") from None
    return word


def make_source(point: MountPoint) -> None:
    """The source of a bind: made when it is absent, as `-v` does; `--mount` refuses (no_copy stands for that)."""
    if os.path.exists(point.source):
        return
    if point.no_copy:
        raise InvalidArgument(
            f'invalid mount config for type "bind": bind source path does not exist: {point.source}'
        )
    try:
        os.makedirs(point.source, 0o755)
    except OSError as error:
        raise Internal(
            f"error while creating mount source path '{point.source}': mkdir {point.source}: "
            f"{(error.strerror or '').lower()}"
        ) from None
