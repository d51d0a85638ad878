"""Fields of a request that are known and not honoured yet: any value but a neutral one is refused by name. Data.

A field that is done is taken out of the table here; nothing is ever ignored in silence.
"""

from corten.base.errors import InvalidArgument, Unsupported
from corten.engine import log_drivers
from corten.engine.records import Config, HostConfig
from corten.engine.schema import Schema, docker_name

# attribute -> values that ask for nothing (an empty or absent value never does)
HOST_CONFIG: dict[str, tuple[object, ...]] = {
    "cgroup": (),
    "cpu_count": (),
    "cpu_percent": (),
    "io_maximum_iops": (),
    "io_maximum_bandwidth": (),
    "kernel_memory": (),
}
CONFIG: dict[str, tuple[object, ...]] = {"args_escaped": (), "on_build": ()}
MOUNT: dict[str, tuple[object, ...]] = {"cluster_options": ()}
RUNTIMES = ("runc", "corten", "io.containerd.runc.v2")  # all of them corten-oci


def _refuse(record: Schema, table: dict[str, tuple[object, ...]], at: str) -> None:
    for attribute, neutral in table.items():
        value = getattr(record, attribute)
        if value and value not in neutral:
            raise Unsupported(f"{at}{docker_name(attribute)} is not supported yet")


def refuse_unsupported(config: Config, host: HostConfig) -> None:
    """Raise Unsupported naming the first field that asks for something not done yet; InvalidArgument for bad words."""
    _refuse(config, CONFIG, "Config.")
    _refuse(host, HOST_CONFIG, "HostConfig.")
    if host.runtime and host.runtime not in RUNTIMES:
        raise InvalidArgument(f"unknown or invalid runtime name: {host.runtime}")
    for mount in host.mounts or ():
        _refuse(mount, MOUNT, "HostConfig.Mounts.")
    log_drivers.check(host.log_config)
    _refuse_modes(host)
    _refuse_devices(host)
    for option in host.security_opt or ():
        _refuse_security(option)


def _refuse_modes(host: HostConfig) -> None:
    if host.pid_mode not in ("", "host", "private") and not host.pid_mode.startswith("container:"):
        raise InvalidArgument(f"invalid PID mode: {host.pid_mode}")
    ipc_words = ("", "private", "host", "shareable", "none")
    if host.ipc_mode not in ipc_words and not host.ipc_mode.startswith("container:"):
        raise InvalidArgument(f"invalid IPC mode: {host.ipc_mode}")
    if host.uts_mode not in ("", "host"):
        raise InvalidArgument(f"invalid UTS mode: {host.uts_mode}")
    if host.cgroupns_mode not in ("", "private", "host"):
        raise InvalidArgument(f"invalid cgroup namespace mode: {host.cgroupns_mode}")
    if host.userns_mode not in ("", "host"):
        raise InvalidArgument(f"invalid user namespace mode: {host.userns_mode}")
    if host.isolation not in ("", "default"):
        raise InvalidArgument(f"invalid isolation ({host.isolation}): linux only supports 'default'")


def _refuse_devices(host: HostConfig) -> None:
    """Devices that need a driver of their own, and quotas that the layers' file system does not have."""
    for asked in host.device_requests or ():
        driver, capabilities = asked.get("Driver") or "", asked.get("Capabilities") or []
        words = " ".join(f"[{' '.join(map(str, group))}]" for group in capabilities)
        raise InvalidArgument(f'could not select device driver "{driver}" with capabilities: [{words}]')
    for name in host.storage_opt or {}:
        raise InvalidArgument(
            f"HostConfig.StorageOpt {name}: --storage-opt is supported only for overlay over xfs with 'pquota' mount "
            "option"
        )


def _refuse_security(option: str) -> None:
    key, separator, value = option.partition("=")
    if not separator:
        key, separator, value = option.partition(":")
    if key == "no-new-privileges" and value in ("", "true", "false"):
        return
    if key == "seccomp" and (value in ("unconfined", "builtin") or value.lstrip().startswith("{")):
        return
    if key == "writable-cgroups" and value in ("", "true", "false"):
        return
    if key in ("apparmor", "label", "systempaths", "seccomp"):
        if (key, value) in (("apparmor", "unconfined"), ("label", "disable"), ("systempaths", "unconfined")):
            return  # nothing is confined by them here, so there is nothing to take away
        raise Unsupported(f"HostConfig.SecurityOpt {option!r} is not supported yet")
    raise InvalidArgument(f'invalid --security-opt 2: "{option}"')
