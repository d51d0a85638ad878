"""The HostConfig half of a create request; see create_request."""

from corten.cli.args import Values
from corten.cli.create_request import (
    Json,
    _devices,
    _gpus,
    _restart,
    _sysctls,
    _throttle,
    _weights,
    host_entries,
    pairs,
    ulimit_entries,
)
from corten.cli.errors import Failure, UsageError
from corten.cli.mounts import mounts, tmpfs
from corten.cli.ports import Bindings


def _console_size(values: Values) -> list[int]:
    if values.flag("tty"):
        import os

        try:
            size = os.get_terminal_size(1)
        except OSError:
            return [0, 0]
        return [size.lines, size.columns]
    return [0, 0]


def _security(values: Values) -> tuple[list[str] | None, Json]:
    """SecurityOpt, a seccomp profile's file read in; and what `systempaths=unconfined` means."""
    found: list[str] = []
    extra: Json = {"MaskedPaths": None, "ReadonlyPaths": None}
    for text in values.many("security-opt"):
        key, equals, value = text.partition("=")
        if not equals and ":" in text:
            key, equals, value = text.partition(":")
        if not equals and text != "no-new-privileges":
            raise Failure(f'Invalid --security-opt: "{text}"')
        if key == "systempaths" and value == "unconfined":
            extra = {"MaskedPaths": [], "ReadonlyPaths": []}
            continue
        if key == "seccomp" and value not in ("unconfined", "builtin"):
            text = f"seccomp={_profile(value)}"
        found.append(text)
    return found or None, extra


def _profile(path: str) -> str:
    from corten.base import jsonio

    try:
        with open(path, encoding="utf-8") as file:
            return jsonio.dumps(jsonio.loads(file.read()))
    except OSError as error:
        strerror = (error.strerror or str(error)).lower()
        raise Failure(f"opening seccomp profile ({path}) failed: open {path}: {strerror}") from None
    except ValueError as error:
        raise Failure(f"compacting json for seccomp profile ({path}) failed: {error}") from None


def _modes(values: Values) -> None:
    for flag, check in (("pid", ("", "host")), ("uts", ("", "host")), ("userns", ("", "host"))):
        value = values.text(flag)
        if value not in check and not (flag == "pid" and value.startswith("container:")):
            raise Failure(f"--{flag}: invalid {'USER' if flag == 'userns' else flag.upper()} mode")
    if values.text("cgroupns") not in ("", "host", "private"):
        raise Failure("--cgroupns: invalid CGROUP mode")


def _capabilities(values: Values) -> tuple[list[str], list[str]]:
    """What is added and what is taken, by full names; adding wins."""

    def full(texts: list[str]) -> set[str]:
        names = {text.strip().upper() for text in texts}
        return {name if name in ("ALL", "RESET") or name.startswith("CAP_") else f"CAP_{name}" for name in names}

    add, drop = full(values.many("cap-add")), full(values.many("cap-drop"))
    return sorted(add), sorted(drop - add)


def _logging(values: Values) -> Json:
    options = pairs(values.many("log-opt"))
    if values.text("log-driver") == "none" and options:
        raise Failure("invalid logging opts for driver none")
    return {"Type": values.text("log-driver"), "Config": options}


def _checks(values: Values) -> None:
    if values.has("memory-swappiness") and not -1 <= values.number("memory-swappiness") <= 100:
        raise Failure(f"invalid value: {values.number('memory-swappiness')}. Valid memory swappiness range is 0-100")
    if values.flag("rm") and values.has("restart") and values.text("restart") != "no":
        raise Failure("conflicting options: cannot specify both --restart and --rm")
    for name in ("use-api-socket", "kernel-memory"):
        if values.flag(name):
            raise Failure(f"--{name} is not supported")


def _addresses(values: Values, name: str) -> list[str]:
    for text in values.many(name):
        from ipaddress import ip_address

        try:
            ip_address(text)
        except ValueError:
            wrong = f"IP address is not correctly formatted: {text}"
            raise UsageError(f'invalid argument "{text}" for "--{name}" flag: {wrong}') from None
    return values.many(name)


def host_config(values: Values, binds: list[str] | None, bindings: Bindings, mode: str) -> Json:
    """HostConfig, in docker's order of fields."""
    _modes(values)
    _checks(values)
    security, paths = _security(values)
    add, drop = _capabilities(values)
    found: Json = {
        "Binds": binds, "ContainerIDFile": values.text("cidfile"), "LogConfig": _logging(values),
        "NetworkMode": mode, "PortBindings": dict(bindings), "RestartPolicy": _restart(values.text("restart")),
        "AutoRemove": values.flag("rm"), "VolumeDriver": values.text("volume-driver"),
        "VolumesFrom": values.many("volumes-from") or None, "ConsoleSize": _console_size(values),
    }
    if values.many("annotation"):
        found["Annotations"] = pairs(values.many("annotation"))
    found.update({
        "CapAdd": add or None, "CapDrop": drop or None,
        "CgroupnsMode": values.text("cgroupns"), "Dns": _addresses(values, "dns"),
        "DnsOptions": values.many("dns-option"), "DnsSearch": values.many("dns-search"),
        "ExtraHosts": host_entries(values),
        "GroupAdd": values.many("group-add") or None, "IpcMode": values.text("ipc"), "Cgroup": "",
        "Links": values.many("link") or None, "OomScoreAdj": values.number("oom-score-adj"),
        "PidMode": values.text("pid"), "Privileged": values.flag("privileged"),
        "PublishAllPorts": values.flag("publish-all"),
        "ReadonlyRootfs": values.flag("read-only"), "SecurityOpt": security,
    })
    for flag, key, value in (("storage-opt", "StorageOpt", pairs(values.many("storage-opt"))),
                             ("tmpfs", "Tmpfs", tmpfs(values))):
        if values.has(flag):
            found[key] = value
    found.update(UTSMode=values.text("uts"), UsernsMode=values.text("userns"), ShmSize=values.number("shm-size"))
    if values.has("sysctl"):
        found["Sysctls"] = _sysctls(values)
    if values.text("runtime"):
        found["Runtime"] = values.text("runtime")
    found.update({"Isolation": values.text("isolation"), **resources(values)})
    found_mounts = mounts(values)
    if found_mounts:
        found["Mounts"] = found_mounts
    found.update(paths)
    if values.has("init"):
        found["Init"] = values.flag("init")
    return found


def resources(values: Values) -> Json:
    """The limits, which `update` may change as well."""
    pids = values.number("pids-limit")
    found: Json = {
        "CpuShares": values.number("cpu-shares"), "Memory": values.number("memory"), "NanoCpus": values.number("cpus"),
        "CgroupParent": values.text("cgroup-parent"), "BlkioWeight": values.number("blkio-weight"),
        "BlkioWeightDevice": _weights(values), "BlkioDeviceReadBps": _throttle(values, "device-read-bps"),
        "BlkioDeviceWriteBps": _throttle(values, "device-write-bps"),
        "BlkioDeviceReadIOps": _throttle(values, "device-read-iops"),
        "BlkioDeviceWriteIOps": _throttle(values, "device-write-iops"),
        "CpuPeriod": values.number("cpu-period"), "CpuQuota": values.number("cpu-quota"),
        "CpuRealtimePeriod": values.number("cpu-rt-period"), "CpuRealtimeRuntime": values.number("cpu-rt-runtime"),
        "CpusetCpus": values.text("cpuset-cpus"), "CpusetMems": values.text("cpuset-mems"),
        "Devices": _devices(values), "DeviceCgroupRules": values.many("device-cgroup-rule") or None,
        "DeviceRequests": _gpus(values),
    }
    found.update({
        "MemoryReservation": values.number("memory-reservation"), "MemorySwap": values.number("memory-swap"),
        "MemorySwappiness": values.number("memory-swappiness"), "OomKillDisable": values.flag("oom-kill-disable"),
        "PidsLimit": pids, "Ulimits": ulimit_entries(values), "CpuCount": values.number("cpu-count"),
        "CpuPercent": values.number("cpu-percent"), "IOMaximumIOps": values.number("io-maxiops"),
        "IOMaximumBandwidth": values.number("io-maxbandwidth"),
    })
    return found
