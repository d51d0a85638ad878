"""All that can be known before the clone: the spec as numbers and bytes, in the parent, where errors are cheap.

The child is a copy of a small warm process and must not grow: it finds everything ready here and only acts.
"""

from __future__ import annotations

import posix

from corten.base import pathnames
from corten.base.errors import InvalidArgument, Unsupported
from corten.linux import namespaces, schedule, user
from corten.linux.cgroup_devices import with_defaults
from corten.runtime import borrowed_mounts, net_devices
from corten.runtime.bundle import Bundle
from corten.runtime.devices import Device, parse_devices
from corten.runtime.mount_options import label_mounts, parse_mounts, parse_propagation
from corten.runtime.program import Program

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

_NAMESPACE_FILES = {
    "pid": "pid", "network": "net", "ipc": "ipc", "uts": "uts", "mount": "mnt", "user": "user", "cgroup": "cgroup",
    "time": "time",
}
_IPC_SYSCTLS = frozenset((
    "kernel.msgmax", "kernel.msgmnb", "kernel.msgmni", "kernel.sem", "kernel.shmall", "kernel.shmmax", "kernel.shmmni",
    "kernel.shm_rmid_forced",
))


class Plan:
    """What the init of one container does. Made by the parent, read by the child."""

    __slots__ = (
        "bundle", "cgroup", "clone_flags", "container", "devices", "die_with_parent", "domainname", "gid_map",
        "hooks", "hostname", "id", "joins", "keyring", "kinds", "left", "lent", "listener", "loopback", "masked_paths",
        "mounts",
        "net_devices", "new_cgroup_namespace", "no_pivot", "own_mounts", "pid_namespace_path", "preserve_fds",
        "program", "propagation", "readonly_paths", "readonly_root", "reaper", "resources", "rootfs", "rootless",
        "spare_network", "sysctls", "time_offsets", "uid_map", "unprivileged", "user_namespace",
        "user_namespace_path",
    )

    def __init__(self, bundle: Bundle) -> None:
        spec = bundle.spec
        linux = spec.get("linux") or {}
        if linux.get("intelRdt"):
            raise Unsupported("linux.intelRdt is not supported: no resctrl file system is managed here")
        if linux.get("mountLabel") and not pathnames.exists("/sys/fs/selinux"):
            raise Unsupported("linux.mountLabel: SELinux is not enabled on this kernel")
        if not isinstance(spec.get("process"), dict):
            raise InvalidArgument("process property must not be empty")
        self.bundle = bundle
        self.id = bundle.id
        self.cgroup = bundle.cgroup
        self.container = -1
        self.die_with_parent = True
        self.preserve_fds = 0
        self.left = self.lent = False
        self.listener = -1
        self.spare_network = -1
        self.loopback = False
        self.no_pivot = False
        self.keyring = ""
        self.rootless = False
        self.resources = limits(spec)
        self.rootfs = bundle.rootfs
        self.readonly_root = bool(spec["root"].get("readonly"))
        self.reaper = bundle.init
        self.hooks: dict[str, Any] = spec.get("hooks") or {}
        self._take_namespaces(linux)
        self._take_names(spec, linux)
        self.net_devices = net_devices.parse(linux.get("netDevices"), self.kinds)
        self.mounts = parse_mounts(spec.get("mounts"), bundle.path)
        for entry in self.mounts:
            if entry.destination.startswith(f"{bundle.rootfs}/"):  # some write the host's name of the target
                entry.destination = entry.destination[len(bundle.rootfs):]
        label_mounts(self.mounts, linux.get("mountLabel") or "")
        self.devices: list[Device] = parse_devices(linux.get("devices"))
        self.masked_paths: list[str] = linux.get("maskedPaths") or []
        self.readonly_paths: list[str] = linux.get("readonlyPaths") or []
        self.propagation = parse_propagation(linux.get("rootfsPropagation"))
        self.program = Program(spec["process"], linux)

    def _take_namespaces(self, linux: dict[str, Any]) -> None:
        """Sort the namespaces: made by the clone, joined by the child, joined or set up around the clone."""
        self.clone_flags = 0
        self.joins: list[tuple[str, int, str]] = []
        self.kinds: set[str] = set()
        self.pid_namespace_path = ""
        for entry in linux.get("namespaces") or ():
            kind = _NAMESPACE_FILES.get(entry.get("type"))
            if kind is None:
                raise InvalidArgument(f'namespace "{entry.get("type") or ""}" does not exist')
            if kind in self.kinds:
                raise InvalidArgument(f'malformed spec file: duplicated ns "{entry["type"]}"')
            self.kinds.add(kind)
            path = entry.get("path")
            if not path:
                self.clone_flags |= namespaces.FLAGS[kind]
            elif kind == "pid":
                self.pid_namespace_path = path
            else:
                self.joins.append((kind, namespaces.FLAGS[kind], path))
        order = list(namespaces.FLAGS)
        self.joins.sort(key=lambda join: order.index(join[0]))
        self.own_mounts = bool(self.clone_flags & namespaces.CLONE_NEWNS)
        if not self.own_mounts and (linux.get("maskedPaths") or linux.get("readonlyPaths")):
            raise InvalidArgument("unable to restrict sys entries without a private MNT namespace")
        if not self.own_mounts and self.bundle.overlay:
            raise Unsupported(f"{self.bundle.path}: an overlay needs a mount namespace of its own")
        self.user_namespace_path = "".join(path for kind, _, path in self.joins if kind == "user")
        self.joins = [join for join in self.joins if join[0] != "user"]
        # the cgroup namespace's root is where its maker stands: made by the child once it is in its cgroup
        self.new_cgroup_namespace = bool(self.clone_flags & namespaces.CLONE_NEWCGROUP)
        self.clone_flags &= ~namespaces.CLONE_NEWCGROUP
        self.user_namespace = "user" in self.kinds
        self.unprivileged = posix.geteuid() != 0
        self.uid_map, self.gid_map = user.id_map(linux.get("uidMappings")), user.id_map(linux.get("gidMappings"))
        if self.user_namespace_path:
            self.uid_map = self.gid_map = ""  # it has its own, see create.py
            self._take_time_offsets(linux)
            return
        if not self.user_namespace and (self.uid_map or self.gid_map):
            raise InvalidArgument("user namespace mappings specified, but user namespace isn't enabled in the config")
        if self.user_namespace and not (self.uid_map or self.gid_map):
            self.uid_map, self.gid_map = user.default_maps()
        if self.user_namespace and not (self.uid_map and self.gid_map):
            raise InvalidArgument("user namespaces enabled, but no user mapping found")
        self._take_time_offsets(linux)

    def _take_time_offsets(self, linux: dict[str, Any]) -> None:
        offsets: dict[str, Any] = linux.get("timeOffsets") or {}
        if offsets and "time" not in self.kinds:
            raise InvalidArgument("time namespace offsets need a time namespace")
        lines = [f"{clock} {value.get('secs', 0)} {value.get('nanosecs', 0)}\n" for clock, value in offsets.items()]
        self.time_offsets = "".join(lines)
        if lines:
            self.clone_flags &= ~namespaces.CLONE_NEWTIME

    def _take_names(self, spec: dict[str, Any], linux: dict[str, Any]) -> None:
        self.hostname: str = spec.get("hostname") or ""
        self.domainname: str = spec.get("domainname") or ""
        if (self.hostname or self.domainname) and "uts" not in self.kinds:
            raise InvalidArgument("unable to set hostname without a private UTS namespace")
        self.sysctls: list[tuple[str, str]] = []
        for name, value in (linux.get("sysctl") or {}).items():
            check_sysctl(name, self.kinds)
            if self.domainname not in ("", value) and name.replace("/", ".") == "kernel.domainname":
                raise InvalidArgument('sysctl "kernel.domainname" conflicts with the domainname field')
            self.sysctls.append((name, str(value)))


class ExecPlan:
    """What one exec in a running container does; the counterpart of Plan."""

    __slots__ = (
        "as_user", "cgroup", "chroot", "container", "cpus", "die_with_parent", "first_cpus", "hooks", "id", "joined",
        "keyring", "left", "lent", "listener", "preserve_fds", "program", "reaper", "sub_cgroups", "unprivileged",
        "user_namespace",
    )

    def __init__(self, id: str, spec: dict[str, Any], process: dict[str, Any], pidfd: int, pid: int) -> None:
        linux = spec.get("linux") or {}
        self.chroot = "" if borrowed_mounts.has_own(spec) else f"{pid}/root"  # below /proc
        self.id = id
        self.container = pidfd
        self.cgroup = ""
        self.sub_cgroups: dict[str, str] = {}
        self.unprivileged = False  # nothing has to be mapped: undumpable from the first moment
        self.keyring = f"_ses.{id}"
        self.die_with_parent = True
        self.preserve_fds = 0
        self.listener = -1
        self.lent = False  # made by a launcher
        self.left = False  # has gone as far as to its execve
        self.reaper = False
        self.hooks: dict[str, Any] = {}
        self.joined = 0
        for entry in linux.get("namespaces") or ():
            self.joined |= namespaces.FLAGS[_NAMESPACE_FILES[entry["type"]]]
        affinity = process.get("execCPUAffinity") or (spec.get("process") or {}).get("execCPUAffinity") or {}
        self.first_cpus = schedule.parse_list(affinity.get("initial"))
        self.cpus = schedule.parse_list(affinity.get("final"))
        self.user_namespace = bool(self.joined & namespaces.CLONE_NEWUSER)
        self.as_user = self.user_namespace and posix.geteuid() != 0  # enters it before all others, see joined_user.py
        self.program = Program(process, linux)


def limits(spec: dict[str, Any]) -> dict[str, Any]:
    """linux.resources, with the devices that every container may use."""
    found = {**((spec.get("linux") or {}).get("resources") or {})}
    # a user may neither make device nodes nor load the program that would refuse them: he has the host's, as runc
    found["devices"] = [] if posix.geteuid() else with_defaults(found.get("devices"))
    return found


def check_sysctl(name: str, kinds: set[str]) -> None:
    """Only what belongs to a namespace of the container's own may be set. Raises InvalidArgument."""
    normal = name.replace("/", ".")
    if ".." in normal or not normal or not all(part for part in normal.split(".")):
        raise InvalidArgument(f"sysctl {name!r} is not a valid name")
    if normal.startswith("net."):
        needed = "net"
    elif normal in _IPC_SYSCTLS or normal.startswith("fs.mqueue."):
        needed = "ipc"
    elif normal == "kernel.domainname":
        needed = "uts"
    elif normal == "kernel.hostname":
        raise InvalidArgument("sysctl \"kernel.hostname\" conflicts with the hostname field")
    elif normal.startswith("user."):
        needed = "user"
    else:
        raise InvalidArgument(f"sysctl {name!r} is not in a separate kernel namespace")
    if needed not in kinds:
        raise InvalidArgument(f"sysctl {name!r} not allowed in host {needed} namespace")


def sysctl_path(name: str) -> str:
    """`net.ipv4.ip_forward` -> `sys/net/ipv4/ip_forward`; a name with slashes keeps its dots (interface names)."""
    return pathnames.join("sys", name if "/" in name else name.replace(".", "/"))
