"""Whether the limits and words of a request make sense; texts are Docker's. Changes nothing."""

import os
import re

from corten.base.errors import InvalidArgument
from corten.engine.records import Config, HostConfig
from corten.linux import cgroup

MINIMUM_MEMORY = 6 << 20
_NAME = re.compile(r"/?[a-zA-Z0-9][a-zA-Z0-9_.-]+", re.ASCII)
_HOSTNAME = re.compile(r"[a-zA-Z0-9_]([a-zA-Z0-9_.-]*[a-zA-Z0-9_])?", re.ASCII)
_RESTARTS = ("", "no", "always", "unless-stopped", "on-failure")


def check_name(name: str) -> str:
    """A container's name without its leading slash. Raises InvalidArgument with Docker's text."""
    if not _NAME.fullmatch(name):
        raise InvalidArgument(
            f"Invalid container name ({name}), only [a-zA-Z0-9][a-zA-Z0-9_.-] are allowed"
        )
    return name.removeprefix("/")


def check_config(config: Config) -> None:
    """Raises InvalidArgument for members that cannot be used."""
    if config.hostname and (len(config.hostname) > 63 or not _HOSTNAME.fullmatch(config.hostname)):
        raise InvalidArgument(f"invalid hostname format: {config.hostname}")
    for variable in config.env or ():
        if not variable or variable.startswith("=") or "\0" in variable:
            raise InvalidArgument(f"invalid environment variable: {variable}")
    if config.working_dir and not config.working_dir.startswith("/"):
        raise InvalidArgument(
            f"the working directory '{config.working_dir}' is invalid, it needs to be an absolute path"
        )
    if config.stop_signal:
        signal_number(config.stop_signal)
    _check_health(config)
    for port in config.exposed_ports or {}:
        if not re.fullmatch(r"[0-9]{1,5}(-[0-9]{1,5})?(/(tcp|udp|sctp))?", port, re.ASCII):
            raise InvalidArgument(f"invalid port specification: {port!r}")


def check_texts(config: Config, host: HostConfig) -> None:
    """No NUL where the kernel would cut the text, no line end where it would become a line of a file."""
    texts = [config.working_dir, config.user, config.hostname, config.domainname]
    for part in (config.cmd, config.entrypoint, config.shell):
        texts += [part] if isinstance(part, str) else part or ()
    texts += [*(config.volumes or ()), *(host.binds or ()), *(host.tmpfs or ()), *(host.group_add or ())]
    texts += [text for mount in host.mounts or () for text in (mount.source, mount.target)]
    for text in texts:
        if "\0" in text:
            raise InvalidArgument(f"invalid text {text!r}: it contains a NUL")
    for text in (config.domainname, *(host.dns_search or ()), *(host.dns_options or ()),
                 *(host.extra_hosts or ())):
        if any(sign.isspace() or sign == "\0" for sign in text):
            raise InvalidArgument(f"invalid text {text!r}: white space in it")


def _check_health(config: Config) -> None:
    health = config.healthcheck
    if health is None:
        return
    for attribute, name in (("interval", "Interval"), ("timeout", "Timeout"), ("start_period", "StartPeriod"),
                            ("start_interval", "StartInterval")):
        if getattr(health, attribute) < 0 or 0 < getattr(health, attribute) < 1_000_000:
            raise InvalidArgument(f"{name} in Healthcheck cannot be less than 1ms")
    if health.retries < 0:
        raise InvalidArgument("Retries in Healthcheck cannot be negative")


def check_host_config(host: HostConfig) -> list[str]:
    """Raises InvalidArgument for limits that cannot be; returns warnings."""
    warnings = _discard_unsupported(host)
    _check_memory(host)
    _check_cpu(host)
    policy = host.restart_policy
    if policy.name not in _RESTARTS:
        raise InvalidArgument(f"invalid restart policy: unknown policy '{policy.name}'; use one of 'no', 'always', "
                              "'on-failure', or 'unless-stopped'")
    if policy.maximum_retry_count and policy.name != "on-failure":
        if policy.maximum_retry_count < 0:
            raise InvalidArgument("invalid restart policy: maximum retry count cannot be negative")
        raise InvalidArgument("invalid restart policy: maximum retry count can only be used with 'on-failure'")
    if policy.maximum_retry_count < 0:
        raise InvalidArgument("invalid restart policy: maximum retry count cannot be negative")
    if host.auto_remove and policy.name not in ("", "no"):
        raise InvalidArgument("can't create 'AutoRemove' container with restart policy")
    if host.oom_score_adj < -1000 or host.oom_score_adj > 1000:
        raise InvalidArgument(
            f"Invalid value {host.oom_score_adj}, range for oom score adj is [-1000, 1000]"
        )
    if host.shm_size < 0:
        raise InvalidArgument("SHM size can not be less than 0")
    if len(host.console_size) != 2 or any(not 0 <= side <= 0xFFFF for side in host.console_size):
        raise InvalidArgument("invalid ConsoleSize")
    for limit in host.ulimits or ():
        if limit.soft > limit.hard >= 0:
            raise InvalidArgument(
                f"ulimit soft limit must be less than or equal to hard limit: {limit.soft} > {limit.hard}"
            )
    if "" in (host.annotations or {}):
        raise InvalidArgument("invalid Annotations: the empty string is not permitted as an annotation key")
    _check_sysctls(host)
    return warnings


def _discard_unsupported(host: HostConfig) -> list[str]:
    """What cgroup v2 no longer has is dropped with a warning, as Docker does; bad values are refused first."""
    if host.memory_swappiness is not None and not -1 <= host.memory_swappiness <= 100:
        raise InvalidArgument(f"Invalid value: {host.memory_swappiness}, valid memory swappiness range is 0-100")
    if host.memory_swappiness == -1:
        host.memory_swappiness = None
    if host.blkio_weight and not 10 <= host.blkio_weight <= 1000:
        raise InvalidArgument("Range of blkio weight is from 10 to 1000")
    warnings = []
    if not cgroup.folder("/", "memory") or "memory" not in cgroup.hierarchies().v1:
        if host.memory_swappiness is not None:
            warnings.append("Your kernel does not support memory swappiness capabilities or the cgroup is not mounted. "
                            "Memory swappiness discarded.")
            host.memory_swappiness = None
        if host.oom_kill_disable:
            warnings.append("Your kernel does not support OomKillDisable. OomKillDisable discarded.")
            host.oom_kill_disable = False
    if host.oom_kill_disable and not host.memory:
        warnings.append("OOM killer is disabled for the container, but no memory limit is set, this can result in the "
                        "system running out of resources.")
    if (host.blkio_weight or host.blkio_weight_device) and not _has_file("blkio", "blkio.weight", "blkio.bfq.weight"):
        warnings.append("Your kernel does not support Block I/O weight or the cgroup is not mounted. Weight discarded.")
        host.blkio_weight, host.blkio_weight_device = 0, []
    if (host.cpu_realtime_period or host.cpu_realtime_runtime) and not _has_file("cpu", "cpu.rt_period_us"):
        raise InvalidArgument("kernel does not support CPU real-time scheduler")
    if host.cpu_realtime_period and host.cpu_realtime_runtime > host.cpu_realtime_period:
        raise InvalidArgument("cpu real-time runtime cannot be higher than cpu real-time period")
    return warnings


def _has_file(controller: str, *names: str) -> bool:
    """Whether groups of a controller have one of these files; the root group may lack some, so a child is looked at."""
    place = cgroup.folder("/", controller)
    if controller == "blkio" and "blkio" not in cgroup.hierarchies().v1:
        place = cgroup.folder("/", "io")
        names = ("io.weight", "io.bfq.weight")
    if not place:
        return False
    places = [place, *(entry.path for entry in os.scandir(place) if entry.is_dir())][:2]
    return any(os.path.exists(f"{where}/{name}") for where in places for name in names)


def _check_memory(host: HostConfig) -> None:
    memory, swap, reserved = host.memory, host.memory_swap, host.memory_reservation
    if 0 < memory < MINIMUM_MEMORY:
        raise InvalidArgument("Minimum memory limit allowed is 6MB")
    if memory > 0 and 0 < swap < memory:
        raise InvalidArgument("Minimum memoryswap limit should be larger than memory limit, see usage")
    if memory == 0 and swap > 0:
        raise InvalidArgument("You should always set the Memory limit when using Memoryswap limit, see usage")
    if memory < 0 or swap < -1 or reserved < 0:
        raise InvalidArgument("invalid memory limit: must not be negative")
    if 0 < reserved < MINIMUM_MEMORY:
        raise InvalidArgument("Minimum memory reservation allowed is 6MB")
    if memory > 0 and memory < reserved:
        raise InvalidArgument("Minimum memory limit can not be less than memory reservation limit, see usage")


def _check_cpu(host: HostConfig) -> None:
    cpus = os.cpu_count() or 1
    if host.nano_cpus and host.cpu_period:
        raise InvalidArgument("Conflicting options: Nano CPUs and CPU Period cannot both be set")
    if host.nano_cpus and host.cpu_quota:
        raise InvalidArgument("Conflicting options: Nano CPUs and CPU Quota cannot both be set")
    if host.nano_cpus < 0 or host.nano_cpus > cpus * 1_000_000_000:
        raise InvalidArgument(
            f"range of CPUs is from 0.01 to {cpus}.00, as there are only {cpus} CPUs available"
        )
    if host.cpu_shares < 0:
        raise InvalidArgument(f"invalid CPU shares ({host.cpu_shares}): value must be a positive integer")
    if host.cpu_period and not 1000 <= host.cpu_period <= 1_000_000:
        raise InvalidArgument("CPU cfs period can not be less than 1ms (i.e. 1000) or larger than 1s (i.e. 1000000)")
    if host.cpu_quota and 0 <= host.cpu_quota < 1000:
        raise InvalidArgument("CPU cfs quota can not be less than 1ms (i.e. 1000)")
    _check_set(host.cpuset_cpus, cpus, "CPUs", "/sys/devices/system/cpu/online")
    _check_set(host.cpuset_mems, 1 << 20, "memory nodes", "/sys/devices/system/node/online")


def parse_set(text: str, what: str = "cpus") -> set[int]:
    """`0-2,4` -> {0, 1, 2, 4}. Raises InvalidArgument."""
    found: set[int] = set()
    for part in text.split(","):
        match = re.fullmatch(r"([0-9]{1,5})(?:-([0-9]{1,5}))?", part.strip(), re.ASCII)
        if not match:
            raise InvalidArgument(f"Invalid value {text} for cpuset {what}: invalid format: {part}")
        low, high = int(match[1]), int(match[2] or match[1])
        if low > high or high > 8192:
            raise InvalidArgument(f"Invalid value {text} for cpuset {what}: invalid format: {part}")
        found.update(range(low, high + 1))
    return found


def _check_set(text: str, count: int, what: str, online_path: str) -> None:
    if not text:
        return
    wanted = parse_set(text, "cpus" if what == "CPUs" else "mems")
    try:
        with open(online_path, encoding="ascii") as file:
            online = file.read().strip()
    except OSError:
        online = f"0-{count - 1}" if what == "CPUs" else "0"
    if not wanted <= parse_set(online):
        raise InvalidArgument(f"Requested {what} are not available - requested {text}, available: {online}")


def _check_sysctls(host: HostConfig) -> None:
    for name in host.sysctls or {}:
        if not re.fullmatch(r"(net|fs\.mqueue)\.[a-zA-Z0-9_.*/-]+|kernel\.(msg|sem|shm)[a-z_]+", name, re.ASCII):
            raise InvalidArgument(f"sysctl \"{name}\" is not in a separate kernel namespace")
        if ".." in name or "//" in name:
            raise InvalidArgument(f"invalid sysctl: {name}")


def signal_number(text: str) -> int:
    """`TERM`, `SIGTERM`, `15`, `SIGRTMIN+3` -> the number. Raises InvalidArgument with Docker's text."""
    from signal import Signals

    if re.fullmatch(r"[0-9]{1,3}", text, re.ASCII):
        number = int(text)
        if 0 < number <= 64:
            return number
        raise InvalidArgument(f"invalid signal: {text}")
    name = text.upper().removeprefix("SIG")
    found = re.fullmatch(r"RTM(IN|AX)(?:([+-])([0-9]{1,2}))?", name, re.ASCII)
    if found:
        number = (34 if found[1] == "IN" else 64) + int(f"{found[2] or '+'}{found[3] or 0}")
        if 34 <= number <= 64:
            return number
    elif f"SIG{name}" in Signals.__members__:
        return int(Signals[f"SIG{name}"])
    raise InvalidArgument(f"invalid signal: {text}")
