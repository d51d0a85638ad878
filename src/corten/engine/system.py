"""What the engine and the machine are: GET /version, /info, /system/df."""

import os
import platform
import sys
from typing import TYPE_CHECKING, Any

from corten.base.files import atomic_write, read_bytes
from corten.base.ids import new_id
from corten.base.units import format_time, now_ns
from corten.engine import log_drivers
from corten.engine.build_cache import Usage
from corten.engine.honoured import RUNTIMES
from corten.linux import cgroup
from corten.linux.libc import MACHINE
from corten.linux.proc import memory_bytes, read_text

if TYPE_CHECKING:
    from corten.engine.engine import Engine

VERSION = "0.1.0"
API_VERSION, MIN_API_VERSION = "1.51", "1.24"
_ARCH = {"x86_64": "amd64", "aarch64": "arm64"}
DF_KINDS = frozenset(("container", "image", "volume", "build-cache"))

Object = dict[str, Any]


class System:
    """Facts; nothing is decided here."""

    def __init__(self, engine: "Engine") -> None:
        self.engine = engine
        self.identity = _identity(f"{engine.layout.data_root}/engine-id")

    def version(self) -> Object:
        """GET /version."""
        kernel = os.uname().release
        built = format_time(int(os.stat(__file__).st_mtime) * 1_000_000_000)
        base: Object = {
            "Version": VERSION, "ApiVersion": API_VERSION, "MinAPIVersion": MIN_API_VERSION, "GitCommit": "",
            "GoVersion": "", "Os": "linux", "Arch": _ARCH.get(MACHINE, MACHINE), "KernelVersion": kernel,
            "BuildTime": built,
        }
        details = {
            "ApiVersion": API_VERSION, "Arch": base["Arch"], "BuildTime": built, "Experimental": "false",
            "GitCommit": "", "GoVersion": "", "KernelVersion": kernel, "MinAPIVersion": MIN_API_VERSION, "Os": "linux",
            "PythonVersion": platform.python_version(),
        }
        components = [
            {"Name": "Engine", "Version": VERSION, "Details": details},
            {"Name": "corten-oci", "Version": VERSION, "Details": {"GitCommit": ""}},
        ]
        return {"Platform": {"Name": "corten"}, "Components": components, **base}

    def info(self) -> Object:
        """GET /info, docker's whole shape."""
        return {
            "ID": self.identity, **self._counts(), **self._storage(), **_kernel_features(), **self._daemon(),
            **_machine(), **self._registry(), **self._pools(), **_runtimes(),
        }

    def _counts(self) -> Object:
        states = [record.state.status for record in self.engine.containers]
        running, paused = states.count("running") + states.count("restarting"), states.count("paused")
        return {
            "Containers": len(states), "ContainersRunning": running, "ContainersPaused": paused,
            "ContainersStopped": len(states) - running - paused,
            "Images": len(self.engine.images.list(all=True)),
        }

    def _storage(self) -> Object:
        return {
            "Driver": self.engine.snapshots.driver,
            # clients tell by this that images are kept as a registry's; copied layers are nobody's snapshotter
            "DriverStatus": [] if self.engine.snapshots.copies else [["driver-type", "io.containerd.snapshotter.v1"]],
            "Plugins": {
                "Volume": ["local"], "Network": ["bridge", "host", "null"], "Authorization": None,
                "Log": list(log_drivers.NAMES),
            },
        }

    def _daemon(self) -> Object:
        engine = self.engine
        return {
            "Debug": engine.config.debug, "NFd": len(os.listdir("/proc/self/fd")), "OomKillDisable": False,
            "NGoroutines": len(engine._tasks), "SystemTime": format_time(now_ns()),
            "LoggingDriver": engine.config.log_driver,
            "CgroupDriver": "cgroupfs", "CgroupVersion": "1" if cgroup.hierarchies().v1 else "2",
            "NEventsListener": len(engine.events._listeners), "DockerRootDir": engine.layout.data_root,
            "HttpProxy": os.environ.get("HTTP_PROXY", ""), "HttpsProxy": os.environ.get("HTTPS_PROXY", ""),
            "NoProxy": os.environ.get("NO_PROXY", ""), "Name": os.uname().nodename, "Labels": [],
            "ExperimentalBuild": False, "ServerVersion": VERSION, "LiveRestoreEnabled": True,
            "SecurityOptions": ["name=seccomp,profile=builtin", *_cgroupns()], "Warnings": None,
        }

    def _registry(self) -> Object:
        settings = self.engine.distribution.registries.settings
        mirrors = settings.mirrors.get("docker.io", [])
        names = ["docker.io", *settings.mirrors, *settings.insecure]
        return {
            "IndexServerAddress": "https://index.docker.io/v1/",
            "RegistryConfig": {
                "IndexConfigs": {
                    name: {"Mirrors": settings.mirrors.get(name, []), "Name": name, "Official": name == "docker.io",
                           "Secure": name not in settings.insecure}
                    for name in names if "/" not in name
                },
                "InsecureRegistryCIDRs": [*(name for name in names if "/" in name), "::1/128", "127.0.0.0/8"],
                "Mirrors": mirrors or None,
            },
        }

    def _pools(self) -> Object:
        pools = [{"Base": str(pool.base), "Size": pool.size} for pool in self.engine.networks.pools]
        return {"DefaultAddressPools": pools} if pools else {}

    async def df(self, kinds: set[str]) -> Object:
        """GET /system/df; `kinds` empty: all."""
        engine, wanted = self.engine, kinds or DF_KINDS
        found: Object = {"LayersSize": 0, "Images": None, "Containers": None, "Volumes": None, "BuildCache": None}
        if "image" in wanted:
            found["Images"], found["LayersSize"] = engine.images.usage()
        if "container" in wanted:
            found["Containers"] = engine.containers.list(all=True, size=True)
        if "volume" in wanted:
            found["Volumes"] = await engine.volumes.usage()
        if "build-cache" in wanted:
            found["BuildCache"] = [_cached(one) for one in await engine.builds.cache.usage()]
        return found


def _cached(one: Usage) -> Object:
    return {
        "ID": one.id, "Parents": one.parents or None, "Type": one.kind, "Description": one.description,
        "InUse": one.in_use, "Shared": one.shared, "Size": one.size, "CreatedAt": format_time(one.created_ns),
        "LastUsedAt": format_time(one.used_ns), "UsageCount": one.uses,
    }


def _identity(path: str) -> str:
    """A name of this engine's own that stays: made at its first start."""
    try:
        return read_bytes(path, 64).decode("ascii")
    except OSError:
        raw = new_id()
        identity = f"{raw[:8]}-{raw[8:12]}-{raw[12:16]}-{raw[16:20]}-{raw[20:32]}"
        atomic_write(path, identity.encode())
        return identity


def _cgroupns() -> list[str]:
    return ["name=cgroupns"] if os.path.exists("/proc/self/ns/cgroup") else []


def _kernel_features() -> Object:
    controllers = set(cgroup.hierarchies().v1) or set(_words("/sys/fs/cgroup/cgroup.controllers"))
    memory, cpu = "memory" in controllers, "cpu" in controllers
    old = cgroup.hierarchies().v1.get("memory")
    tcp = {"KernelMemoryTCP": True} if old and os.path.exists(f"{old}/memory.kmem.tcp.limit_in_bytes") else {}
    return {
        **tcp, "MemoryLimit": memory, "SwapLimit": memory, "CpuCfsPeriod": cpu, "CpuCfsQuota": cpu, "CPUShares": cpu,
        "CPUSet": "cpuset" in controllers, "PidsLimit": "pids" in controllers,
        "IPv4Forwarding": _words("/proc/sys/net/ipv4/ip_forward") == ["1"],
    }


def _words(path: str) -> list[str]:
    try:
        return read_text(path).split()
    except OSError:
        return []


def _machine() -> Object:
    return {
        "KernelVersion": os.uname().release, **_operating_system(), "OSType": "linux", "Architecture": MACHINE,
        "NCPU": len(os.sched_getaffinity(0)), "MemTotal": memory_bytes(), "GenericResources": None, "Isolation": "",
    }


def _operating_system() -> Object:
    """os-release(5)."""
    values = {}
    for path in ("/etc/os-release", "/usr/lib/os-release"):
        try:
            text = read_text(path)
        except OSError:
            continue
        for line in text.splitlines():
            name, _, value = line.partition("=")
            values[name] = value.strip("\"'")
        break
    return {"OperatingSystem": values.get("PRETTY_NAME", "Linux"), "OSVersion": values.get("VERSION_ID", "")}


def _runtimes() -> Object:
    return {
        "Runtimes": {name: {"path": f"{sys.prefix}/bin/corten-oci"} for name in RUNTIMES},
        "DefaultRuntime": "runc",
        "Swarm": {
            "NodeID": "", "NodeAddr": "", "LocalNodeState": "inactive", "ControlAvailable": False, "Error": "",
            "RemoteManagers": None,
        },
        "InitBinary": "corten-init", "ContainerdCommit": {"ID": ""}, "RuncCommit": {"ID": ""},
        "InitCommit": {"ID": ""}, "FirewallBackend": {"Driver": "nftables"}, "CDISpecDirs": [],
    }
