"""The `mounts` of a runtime spec: what every Linux container has, then the container's own. Pure."""

from typing import Any

from corten.engine.mounts import tmpfs_options
from corten.engine.records import ContainerRecord, HostConfig, MountPoint

DEFAULT_SHM_BYTES = 64 << 20


def _standard(host: HostConfig, ipc: str, network: str) -> list[dict[str, Any]]:
    """proc, /dev and its parts, /sys, cgroups: as docker mounts them, read-only where privileged is not asked."""
    access = "rw" if host.privileged else "ro"
    mounts: list[dict[str, Any]] = [
        {"destination": "/proc", "type": "proc", "source": "proc", "options": ["nosuid", "noexec", "nodev"]},
        {"destination": "/dev", "type": "tmpfs", "source": "tmpfs",
         "options": ["nosuid", "strictatime", "mode=755", "size=65536k"]},
        {"destination": "/dev/pts", "type": "devpts", "source": "devpts",
         "options": ["nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620", "gid=5"]},
    ]
    if network == "host" and not host.privileged:
        # a sysfs of one's own shows one's own network namespace: the host's needs the host's
        mounts.append({"destination": "/sys", "type": "sysfs", "source": "sysfs",
                       "options": ["nosuid", "noexec", "nodev", "ro"]})
    else:
        mounts.append({"destination": "/sys", "type": "sysfs", "source": "sysfs",
                       "options": ["nosuid", "noexec", "nodev", access]})
    writable = {"writable-cgroups", "writable-cgroups=true", "writable-cgroups:true"} & set(host.security_opt or ())
    cgroup_access = "rw" if writable else access
    mounts.append({"destination": "/sys/fs/cgroup", "type": "cgroup", "source": "cgroup",
                   "options": ["nosuid", "noexec", "nodev", "relatime", cgroup_access]})
    mounts.append({"destination": "/dev/mqueue", "type": "mqueue", "source": "mqueue",  # of the IPC namespace
                   "options": ["nosuid", "noexec", "nodev"]})
    if ipc == "host":
        mounts.append({"destination": "/dev/shm", "type": "bind", "source": "/dev/shm",
                       "options": ["rbind", "nosuid", "noexec", "nodev"]})
        return mounts
    if ipc.startswith("/proc/"):  # shared memory is a matter of the mount as well: the other container's
        mounts.append({"destination": "/dev/shm", "type": "bind", "source": "/dev/shm",
                       "mountsOf": int(ipc.split("/")[2]), "options": ["bind", "nosuid", "noexec", "nodev"]})
    elif host.ipc_mode != "none":
        mounts.append({"destination": "/dev/shm", "type": "tmpfs", "source": "shm",
                       "options": ["nosuid", "noexec", "nodev", "mode=1777",
                                   f"size={host.shm_size or DEFAULT_SHM_BYTES}"]})
    return mounts


def _own(point: MountPoint) -> dict[str, Any]:
    if point.type == "tmpfs":
        options = ["noexec", "nosuid", "nodev", *point.options]
        if not point.rw:
            options.append("ro")
        return {"destination": point.destination, "type": "tmpfs", "source": "tmpfs", "options": options}
    if point.type == "image":
        return _image(point)
    if point.type == "filesystem":
        return {"destination": point.destination, "type": point.driver, "source": point.source,
                "options": ["nodev", *point.options]}
    options = ["bind" if point.non_recursive else "rbind", "ro" if not point.rw else "rw",
               point.propagation or "rprivate"]
    if point.type == "volume":
        options.append("nodev")
    made: dict[str, Any] = {
        "destination": point.destination, "type": "bind", "source": point.source, "options": options}
    if point.subpath:
        made["subpath"] = point.subpath
    return made


def _image(point: MountPoint) -> dict[str, Any]:
    """An image's layers (`options`, topmost first), read-only; overlayfs takes no single layer."""
    if len(point.options) == 1:
        return {"destination": point.destination, "type": "bind", "source": point.options[0],
                "options": ["bind", "ro", "nodev", "rprivate"]}
    return {"destination": point.destination, "type": "overlay", "source": "overlay",
            "options": ["ro", "nodev", *(f"lowerdir+={layer}" for layer in point.options)]}


def build_mounts(
    record: ContainerRecord, files: list[tuple[str, str]], points: list[MountPoint],
    image_mounts: list[dict[str, Any]], ipc: str, network: str,
) -> list[dict[str, Any]]:
    """All mounts in the order they are made: parents before what lies below them."""
    host = record.host_config
    mine: list[dict[str, Any]] = [_own(point) for point in points]
    for path, text in (host.tmpfs or {}).items():
        mine.append({"destination": path, "type": "tmpfs", "source": "tmpfs",
                     "options": _tmpfs_words(tmpfs_options(text))})
    taken = {mount["destination"] for mount in mine}
    access = "ro" if host.readonly_rootfs else "rw"
    for source, destination in files:
        if destination not in taken:
            mine.append({"destination": destination, "type": "bind", "source": source,
                         "options": ["rbind", "rprivate", access, "nodev", "nosuid", "noexec"]})
    mine.sort(key=lambda mount: mount["destination"].count("/"))
    standard = [mount for mount in _standard(host, ipc, network) if mount["destination"] not in taken]
    return [*image_mounts, *standard, *mine]


def _tmpfs_words(given: list[str]) -> list[str]:
    """Docker's defaults, each dropped where the request says the contrary."""
    defaults = [word for word in ("noexec", "nosuid", "nodev") if word[2:] not in given and word not in given]
    return [*defaults, *given]
