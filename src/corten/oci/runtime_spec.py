"""The OCI runtime specification as data: its version, the spec a new bundle begins with, what a runtime can do. Pure.

What config.json means for the kernel is corten.runtime's business.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

VERSION = "1.3.0"
VERSION_MIN = "1.0.0"

MASKED_PATHS = (
    "/proc/acpi", "/proc/asound", "/proc/interrupts", "/proc/kcore", "/proc/keys", "/proc/latency_stats",
    "/proc/sched_debug", "/proc/scsi", "/proc/timer_list", "/proc/timer_stats", "/sys/devices/virtual/powercap",
    "/sys/firmware",
)
READONLY_PATHS = ("/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger")
NAMESPACES = ("pid", "network", "ipc", "uts", "mount")
HOOKS = ("prestart", "createRuntime", "createContainer", "startContainer", "poststart", "poststop")

_CAPABILITIES = ["CAP_AUDIT_WRITE", "CAP_KILL", "CAP_NET_BIND_SERVICE"]
_MOUNTS: tuple[tuple[str, str, str, list[str]], ...] = (
    ("/proc", "proc", "proc", []),
    ("/dev", "tmpfs", "tmpfs", ["nosuid", "strictatime", "mode=755", "size=65536k"]),
    ("/dev/pts", "devpts", "devpts", ["nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620", "gid=5"]),
    ("/dev/shm", "tmpfs", "shm", ["nosuid", "noexec", "nodev", "mode=1777", "size=65536k"]),
    ("/dev/mqueue", "mqueue", "mqueue", ["nosuid", "noexec", "nodev"]),
    ("/sys", "sysfs", "sysfs", ["nosuid", "noexec", "nodev", "ro"]),
    ("/sys/fs/cgroup", "cgroup", "cgroup", ["nosuid", "noexec", "nodev", "relatime", "ro"]),
)


def default_spec(cgroup_namespace: bool = True) -> dict[str, Any]:
    """What `spec` writes: a shell in a terminal, with little privilege, on the folder `rootfs`."""
    namespaces = (*NAMESPACES, "cgroup") if cgroup_namespace else NAMESPACES
    return {
        "ociVersion": VERSION,
        "process": {
            "terminal": True,
            "user": {"uid": 0, "gid": 0},
            "args": ["sh"],
            "env": ["PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "TERM=xterm"],
            "cwd": "/",
            "capabilities": {kind: list(_CAPABILITIES) for kind in ("bounding", "effective", "permitted")},
            "rlimits": [{"type": "RLIMIT_NOFILE", "hard": 1024, "soft": 1024}],
            "noNewPrivileges": True,
        },
        "root": {"path": "rootfs", "readonly": True},
        "hostname": "corten",
        "mounts": [
            {"destination": destination, "type": kind, "source": source, "options": options}
            for destination, kind, source, options in _MOUNTS
        ],
        "linux": {
            "resources": {"devices": [{"allow": False, "access": "rwm"}]},
            "namespaces": [{"type": kind} for kind in namespaces],
            "maskedPaths": list(MASKED_PATHS),
            "readonlyPaths": list(READONLY_PATHS),
        },
    }


def to_rootless(spec: dict[str, Any], uid: int, gid: int) -> None:
    """Change a default spec into one for a user without privileges: a user namespace with that user as its root.

    The host's network and /sys stay, since no new ones could be set up; groups that are not mapped give up devices'
    owners; there are no limits.
    """
    linux = spec["linux"]
    kept = [entry for entry in linux["namespaces"] if entry["type"] != "network"]
    linux["namespaces"] = [*kept, {"type": "user"}]
    linux["uidMappings"] = [{"containerID": 0, "hostID": uid, "size": 1}]
    linux["gidMappings"] = [{"containerID": 0, "hostID": gid, "size": 1}]
    del linux["resources"]
    for mount in spec["mounts"]:
        if mount["destination"] == "/sys":
            mount.update(source="/sys", type="none", options=["rbind", "nosuid", "noexec", "nodev", "ro"])
        mount["options"] = [word for word in mount["options"] if not word.startswith(("uid=", "gid="))]


def features(
    mount_options: list[str], capabilities: list[str], actions: list[str], architectures: list[str],
    operators: list[str], flags: list[str], memory_modes: list[str], memory_flags: list[str],
) -> dict[str, Any]:
    """The features document (runtime-spec features.md) of a runtime with these words."""
    return {
        "ociVersionMin": VERSION_MIN,
        "ociVersionMax": VERSION,
        "hooks": list(HOOKS),
        "mountOptions": sorted(mount_options),
        "linux": {
            "namespaces": ["cgroup", "ipc", "mount", "network", "pid", "time", "user", "uts"],
            "capabilities": list(capabilities),
            "cgroup": {"v1": True, "v2": True, "systemd": True, "systemdUser": False, "rdma": True},
            "seccomp": {
                "enabled": True, "actions": sorted(actions), "operators": sorted(operators),
                "archs": sorted(architectures), "knownFlags": sorted(flags), "supportedFlags": sorted(flags),
            },
            "apparmor": {"enabled": True},
            "selinux": {"enabled": True},
            "intelRdt": {"enabled": False},
            "memoryPolicy": {"modes": sorted(memory_modes), "flags": sorted(memory_flags)},
            "mountExtensions": {"idmap": {"enabled": True}},
            "netDevices": {"enabled": True},
        },
    }
