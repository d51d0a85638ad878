"""The parts of a HostConfig that name things outside: devices, mounts and where they come from. Data only."""

from typing import Any

from corten.engine.schema import Schema


class Device(Schema):
    path_on_host: str = ""
    path_in_container: str = ""
    cgroup_permissions: str = ""


class WeightDevice(Schema):
    path: str = ""
    weight: int = 0


class ThrottleDevice(Schema):
    path: str = ""
    rate: int = 0


class BindOptions(Schema, omit_defaults=True):
    propagation: str = ""
    non_recursive: bool = False
    create_mountpoint: bool = False
    read_only_non_recursive: bool = False
    read_only_force_recursive: bool = False


class VolumeDriver(Schema, omit_defaults=True):
    name: str = ""
    options: dict[str, str] = {}


class VolumeOptions(Schema, omit_defaults=True):
    no_copy: bool = False
    labels: dict[str, str] = {}
    driver_config: VolumeDriver | None = None
    subpath: str = ""


class TmpfsOptions(Schema, omit_defaults=True):
    size_bytes: int = 0
    mode: int = 0
    options: list[list[str]] | None = None


class ImageOptions(Schema, omit_defaults=True):
    subpath: str = ""


class Mount(Schema, omit_defaults=True):
    """An entry of HostConfig.Mounts."""

    type: str = ""
    source: str = ""
    target: str = ""
    read_only: bool = False
    consistency: str = ""
    bind_options: BindOptions | None = None
    volume_options: VolumeOptions | None = None
    tmpfs_options: TmpfsOptions | None = None
    image_options: ImageOptions | None = None
    cluster_options: dict[str, Any] | None = None
