"""Fields of a request that are known and not honoured yet: any value but a neutral one is refused by name. Data.

A field that is done is taken out of the table here; nothing is ever ignored in silence.
"""

from corten.base.errors import InvalidArgument, Unsupported
from corten.engine import log_drivers
from corten.engine.records import Config, EndpointConfig, HostConfig, Schema, docker_name

# attribute -> values that ask for nothing (an empty or absent value never does)
HOST_CONFIG: dict[str, tuple[object, ...]] = {
    "volume_driver": ("local",),
    "cgroup": (),
    "links": (),
    "userns_mode": ("host",),
    "isolation": ("default",),
    "cgroup_parent": (),
    "blkio_weight": (),
    "blkio_weight_device": (),
    "blkio_device_read_bps": (),
    "blkio_device_write_bps": (),
    "blkio_device_read_iops": (),
    "blkio_device_write_iops": (),
    "cpu_realtime_period": (),
    "cpu_realtime_runtime": (),
    "cpu_count": (),
    "cpu_percent": (),
    "io_maximum_iops": (),
    "io_maximum_bandwidth": (),
    "device_cgroup_rules": (),
    "device_requests": (),
    "kernel_memory": (),
    "kernel_memory_tcp": (),
    "memory_swappiness": (-1,),
    "storage_opt": (),
}
CONFIG: dict[str, tuple[object, ...]] = {"args_escaped": (), "on_build": ()}
ENDPOINT: dict[str, tuple[object, ...]] = {"links": (), "driver_opts": ()}
MOUNT: dict[str, tuple[object, ...]] = {"image_options": (), "cluster_options": ()}


_RUNTIMES = ("", "corten", "runc", "io.containerd.runc.v2")

def _refuse(record: Schema, table: dict[str, tuple[object, ...]], at: str) -> None:
    for attribute, neutral in table.items():
        value = getattr(record, attribute)
        if value and value not in neutral:
            raise Unsupported(f"{at}{docker_name(attribute)} is not supported yet")


def refuse_unsupported(config: Config, host: HostConfig, endpoints: dict[str, EndpointConfig]) -> None:
    """Raise Unsupported naming the first field that asks for something not done yet; InvalidArgument for bad words."""
    _refuse(config, CONFIG, "Config.")
    _refuse(host, HOST_CONFIG, "HostConfig.")
    if host.runtime not in _RUNTIMES:
        raise InvalidArgument(f"unknown or invalid runtime name: {host.runtime}")
    for name, endpoint in endpoints.items():
        _refuse(endpoint, ENDPOINT, f"NetworkingConfig.EndpointsConfig[{name}].")
    for mount in host.mounts or ():
        _refuse(mount, MOUNT, "HostConfig.Mounts.")
    log_drivers.check(host.log_config)
    _refuse_modes(host)
    for option in host.security_opt or ():
        _refuse_security(option)


def _refuse_modes(host: HostConfig) -> None:
    if host.pid_mode not in ("", "host", "private"):
        if not host.pid_mode.startswith("container:"):
            raise InvalidArgument(f"invalid PID mode: {host.pid_mode}")
        raise Unsupported(f"HostConfig.PidMode {host.pid_mode!r} is not supported yet")
    ipc_words = ("", "private", "host", "shareable", "none")
    if host.ipc_mode not in ipc_words and not host.ipc_mode.startswith("container:"):
        raise InvalidArgument(f"invalid IPC mode: {host.ipc_mode}")
    if host.uts_mode not in ("", "host"):
        raise InvalidArgument(f"invalid UTS mode: {host.uts_mode}")
    if host.cgroupns_mode not in ("", "private", "host"):
        raise InvalidArgument(f"invalid cgroup namespace mode: {host.cgroupns_mode}")


def _refuse_security(option: str) -> None:
    key, separator, value = option.partition("=")
    if not separator:
        key, separator, value = option.partition(":")
    if key == "no-new-privileges" and value in ("", "true", "false"):
        return
    if key == "seccomp" and (value in ("unconfined", "builtin") or value.lstrip().startswith("{")):
        return
    if key in ("apparmor", "label", "systempaths", "writable-cgroups", "seccomp"):
        if (key, value) in (("apparmor", "unconfined"), ("label", "disable"), ("systempaths", "unconfined")):
            return  # nothing is confined by them here, so there is nothing to take away
        raise Unsupported(f"HostConfig.SecurityOpt {option!r} is not supported yet")
    raise InvalidArgument(f'invalid --security-opt 2: "{option}"')
