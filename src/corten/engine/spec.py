"""From a container's record to the runtime spec (config.json). Pure: all that must be looked up comes in `Inputs`.

The default posture is stricter than Docker's where nothing in the field breaks by it: eleven capabilities, more masked
paths, a process limit, no device nodes from images or volumes. Sources: runtime-spec 1.2, moby's oci defaults.
"""

from typing import Any

from corten.base.errors import InvalidArgument
from corten.engine.records import ContainerRecord, ExecRequest, HostConfig, MountPoint
from corten.engine.seccomp import custom_section, default_section
from corten.engine.spec_mounts import build_mounts
from corten.engine.spec_resources import build_resources
from corten.engine.users import User
from corten.linux.capabilities import NAMES

DEFAULT_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

DEFAULT_CAPABILITIES = (
    "CAP_CHOWN", "CAP_DAC_OVERRIDE", "CAP_FSETID", "CAP_FOWNER", "CAP_SETGID", "CAP_SETUID", "CAP_SETFCAP",
    "CAP_SETPCAP", "CAP_NET_BIND_SERVICE", "CAP_SYS_CHROOT", "CAP_KILL",
)
ALL_CAPABILITIES = NAMES
MASKED_PATHS = (
    "/proc/asound", "/proc/acpi", "/proc/interrupts", "/proc/kcore", "/proc/keys", "/proc/latency_stats",
    "/proc/timer_list", "/proc/timer_stats", "/proc/sched_debug", "/proc/scsi", "/sys/firmware",
    "/sys/devices/virtual/powercap",
    # beyond docker's: addresses and memory of the kernel, its configuration and its debugging doors
    "/proc/kallsyms", "/proc/config.gz", "/proc/slabinfo", "/proc/kpagecount", "/proc/kpageflags",
    "/proc/kpagecgroup", "/sys/kernel/debug", "/sys/kernel/tracing",
)
READONLY_PATHS = ("/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger")
DEFAULT_SYSCTLS = {"net.ipv4.ping_group_range": "0 2147483647", "net.ipv4.ip_unprivileged_port_start": "0"}
ULIMITS = frozenset((
    "as", "core", "cpu", "data", "fsize", "locks", "memlock", "msgqueue", "nice", "nofile", "nproc", "rss", "rtprio",
    "rttime", "sigpending", "stack",
))


class Inputs:
    """What the spec needs beside the record, looked up by the caller.

    `network` is "new", "host" or the path of a network namespace; `ipc` and `pid` likewise; `files` are (host path,
    container path) of the files the engine writes; `devices` are (`linux.devices` entry, access); `bounding` is what
    the daemon itself may give: capabilities outside it cannot be had.
    """

    __slots__ = ("block_io", "bounding", "cgroup_path", "devices", "files", "image_mounts", "ipc",
                 "lent_environment", "mounts", "network", "pid", "rootfs", "user")

    def __init__(
        self, *, rootfs: str, user: User, network: str = "new", ipc: str = "new", pid: str = "new",
        files: list[tuple[str, str]] | None = None, mounts: list[MountPoint] | None = None,
        image_mounts: list[dict[str, Any]] | None = None,
        devices: list[tuple[dict[str, Any], str]] | None = None, cgroup_path: str = "",
        bounding: frozenset[str] | None = None, block_io: dict[str, Any] | None = None,
        lent_environment: list[str] | None = None,
    ) -> None:
        self.rootfs = rootfs
        self.user = user
        self.network = network
        self.ipc = ipc
        self.pid = pid
        self.files = files or []
        self.mounts = mounts or []
        self.image_mounts = image_mounts or []
        self.devices = devices or []
        self.cgroup_path = cgroup_path
        self.bounding = bounding
        self.block_io = block_io
        self.lent_environment = lent_environment or []


def as_list(value: list[str] | str | None) -> list[str]:
    """A member that may be a string, a list or absent."""
    return [value] if isinstance(value, str) else list(value or ())


def capability_names(names: list[str], field: str = "CapAdd") -> list[str]:
    """`net_admin` -> `CAP_NET_ADMIN`; ALL stays. Raises InvalidArgument with Docker's text."""
    found = []
    for name in names:
        upper = name.upper()
        full = upper if upper == "ALL" or upper.startswith("CAP_") else f"CAP_{upper}"
        if full != "ALL" and full not in ALL_CAPABILITIES:
            raise InvalidArgument(f'invalid {field}: unknown capability: "{full}"')
        found.append(full)
    return found


def capabilities(host: HostConfig, bounding: frozenset[str] | None = None) -> list[str]:
    """The capabilities of a container, in the kernel's order. Raises InvalidArgument."""
    if host.privileged:
        chosen = set(ALL_CAPABILITIES)
    else:
        added = capability_names(as_list(host.cap_add))
        dropped = capability_names(as_list(host.cap_drop), "CapDrop")
        chosen = set(ALL_CAPABILITIES) if "ALL" in added else set(DEFAULT_CAPABILITIES)
        if "ALL" in dropped:
            chosen = set(ALL_CAPABILITIES) if "ALL" in added else set()
        else:
            chosen -= set(dropped)
        chosen |= {name for name in added if name != "ALL"}
    if bounding is not None:
        chosen &= bounding
    return [name for name in ALL_CAPABILITIES if name in chosen]


def environment(record: ContainerRecord, home: str) -> list[str]:
    """PATH, HOSTNAME, TERM, those of links, its own, HOME last if none is set; later ones win in place."""
    found = {"PATH": DEFAULT_PATH, "HOSTNAME": record.config.hostname}
    if record.config.tty:
        found["TERM"] = "xterm"
    for variable in (*record.network_settings.link_env, *(record.config.env or ())):
        name, separator, value = variable.partition("=")
        if separator:
            found[name] = value
        else:
            found.pop(name, None)
    found.setdefault("HOME", home)
    return [f"{name}={value}" for name, value in found.items()]


def rlimits(host: HostConfig) -> list[dict[str, Any]]:
    """`process.rlimits`. Raises InvalidArgument for a name that is none."""
    limits = []
    for limit in host.ulimits or ():
        if limit.name not in ULIMITS:
            raise InvalidArgument(f"invalid ulimit type: {limit.name}")
        limits.append({
            "type": f"RLIMIT_{limit.name.upper()}",
            "soft": limit.soft if limit.soft >= 0 else (1 << 64) - 1,
            "hard": limit.hard if limit.hard >= 0 else (1 << 64) - 1,
        })
    return limits


def _capability_sets(names: list[str], user: User) -> dict[str, list[str]]:
    """A root process has them all; another user's only bounds what it may gain by set-uid programs."""
    if user.uid == 0:
        return {"bounding": names, "effective": names, "permitted": names}
    return {"bounding": names, "effective": [], "permitted": []}


def user_section(user: User) -> dict[str, Any]:
    return {"uid": user.uid, "gid": user.gid, "additionalGids": user.groups}


def build_process(record: ContainerRecord, inputs: Inputs, names: list[str]) -> dict[str, Any]:
    """`process` of the container's own program."""
    config, host = record.config, record.host_config
    process: dict[str, Any] = {
        "terminal": config.tty,
        "user": user_section(inputs.user),
        "args": [record.path, *record.args],
        "env": environment(record, inputs.user.home) + inputs.lent_environment,
        "cwd": config.working_dir or "/",
        "capabilities": _capability_sets(names, inputs.user),
        "noNewPrivileges": no_new_privileges(host),
        "oomScoreAdj": host.oom_score_adj,
    }
    if config.tty and any(host.console_size):
        process["consoleSize"] = {"height": host.console_size[0], "width": host.console_size[1]}
    if host.ulimits:
        process["rlimits"] = rlimits(host)
    return process


def build_exec_process(
    record: ContainerRecord, request: ExecRequest, user: User, names: list[str], console_size: list[int] | None
) -> dict[str, Any]:
    """`process` of an exec: the container's environment and limits, with what the request says of its own."""
    config, host = record.config, record.host_config
    variables = {v.partition("=")[0]: v for v in environment(record, user.home)}
    if request.tty:
        variables.setdefault("TERM", "TERM=xterm")
    elif not config.tty:
        variables = {name: v for name, v in variables.items() if name != "TERM" or v in (config.env or ())}
    if request.user and not any(v.startswith("HOME=") for v in config.env or ()):
        variables["HOME"] = f"HOME={user.home}"
    for variable in request.env or ():
        name, separator, _ = variable.partition("=")
        if separator:
            variables[name] = variable
        else:
            variables.pop(name, None)
    process: dict[str, Any] = {
        "terminal": request.tty,
        "user": user_section(user),
        "args": request.cmd or [],
        "env": list(variables.values()),
        "cwd": request.working_dir or config.working_dir or "/",
        "capabilities": _capability_sets(names, user),
        "noNewPrivileges": no_new_privileges(host),
        "oomScoreAdj": host.oom_score_adj,
    }
    if request.tty and console_size and any(console_size):
        process["consoleSize"] = {"height": console_size[0], "width": console_size[1]}
    if host.ulimits:
        process["rlimits"] = rlimits(host)
    return process


def no_new_privileges(host: HostConfig) -> bool:
    """Whether a security option asks for it; the last one counts."""
    wanted = False
    for option in host.security_opt or ():
        key, _, value = option.replace(":", "=", 1).partition("=")
        if key == "no-new-privileges":
            wanted = value != "false"
    return wanted


def seccomp_section(host: HostConfig, names: list[str]) -> Any:
    """`linux.seccomp`, None when unconfined. Raises InvalidArgument for a bad profile."""
    section: Any = None if host.privileged else default_section(frozenset(names))
    for option in host.security_opt or ():
        key, _, value = option.partition("=")
        if key == "seccomp" and value == "unconfined":
            section = None
        elif key == "seccomp" and value.lstrip().startswith("{"):
            section = custom_section(value, frozenset(names))
    return section


def _namespaces(record: ContainerRecord, inputs: Inputs) -> list[dict[str, str]]:
    host = record.host_config
    found = [{"type": "mount"}]
    for kind, where in (("network", inputs.network), ("ipc", inputs.ipc), ("pid", inputs.pid)):
        if where == "new":
            found.append({"type": kind})
        elif where != "host":
            found.append({"type": kind, "path": where})
    if host.uts_mode != "host":
        found.append({"type": "uts"})
    if host.cgroupns_mode != "host":
        found.append({"type": "cgroup"})
    return found


def _sysctls(record: ContainerRecord, inputs: Inputs) -> dict[str, str]:
    host = record.host_config
    found = dict(DEFAULT_SYSCTLS) if inputs.network == "new" else {}
    for name, value in (host.sysctls or {}).items():
        if name.startswith("net.") and inputs.network == "host":
            raise InvalidArgument(f"sysctl {name!r} not allowed in host network namespace")
        if not name.startswith("net.") and inputs.ipc == "host":
            raise InvalidArgument(f"sysctl {name!r} not allowed in host ipc namespace")
        found[name] = value
    return found


def build_spec(record: ContainerRecord, inputs: Inputs) -> dict[str, Any]:
    """config.json of a container; values may be msgspec.Raw (already JSON). Raises InvalidArgument."""
    host = record.host_config
    names = capabilities(host, inputs.bounding)
    linux: dict[str, Any] = {
        "namespaces": _namespaces(record, inputs),
        "resources": build_resources(host, inputs.devices, inputs.block_io),
        "cgroupsPath": inputs.cgroup_path or f"/corten/{record.id}",
        "rootfsPropagation": _propagation(inputs.mounts),
    }
    if inputs.devices:
        linux["devices"] = [node for node, _ in inputs.devices]
    sysctls = _sysctls(record, inputs)
    if sysctls:
        linux["sysctl"] = sysctls
    if not host.privileged:
        linux["maskedPaths"] = host.masked_paths or []
        linux["readonlyPaths"] = host.readonly_paths or []
    seccomp = seccomp_section(host, names)
    if seccomp is not None:
        linux["seccomp"] = seccomp
    spec: dict[str, Any] = {
        "ociVersion": "1.2.0",
        "process": build_process(record, inputs, names),
        "root": {"path": inputs.rootfs, "readonly": host.readonly_rootfs},
        "mounts": build_mounts(record, inputs.files, inputs.mounts, inputs.image_mounts, inputs.ipc, inputs.network),
        "linux": linux,
    }
    if host.uts_mode != "host":
        spec["hostname"] = record.config.hostname
        if record.config.domainname:
            spec["domainname"] = record.config.domainname
    if host.annotations:
        spec["annotations"] = host.annotations
    return spec


def _propagation(mounts: list[MountPoint]) -> str:
    """A shared or slave bind needs a root that is one too."""
    kinds = {point.propagation for point in mounts}
    if kinds & {"shared", "rshared"}:
        return "shared"
    return "rslave" if kinds & {"slave", "rslave"} else "rprivate"
