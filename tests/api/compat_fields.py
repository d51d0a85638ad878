"""What of Docker's Engine API is done here, as data: `docs/compat.md` is made from it, and tests hold both to the engine.

    python tests/api/compat_fields.py >docs/compat.md

Operations come from the router. A field has a value that asks for something and what becomes of it: HONOURED (a
container made with it does so and says so in inspect), STORED (kept and shown; nothing on this engine depends on it), REFUSED (an
error that names it). A field without an entry fails the tests.
"""

import sys

from field_effects import seen

from corten.api.router import route_key
from corten.api.routes import HANDLERS, OPERATIONS, SWARM_OPERATIONS
from corten.engine.records import Config, HostConfig

HONOURED, STORED, REFUSED = "honoured", "stored", "refused"
DISK = [{"Path": "/dev/null", "Rate": 1048576}]

HOST_CONFIG = {
    "Annotations": ({"a": "b"}, HONOURED, "handed to the runtime, shown in lists"),
    "AutoRemove": (True, HONOURED, ""),
    "Binds": (["/tmp:/x:ro"], HONOURED, "propagation, ro, nocopy; labels z and Z mean nothing without SELinux"),
    "BlkioDeviceReadBps": (DISK, HONOURED, ""),
    "BlkioDeviceReadIOps": (DISK, HONOURED, ""),
    "BlkioDeviceWriteBps": (DISK, HONOURED, ""),
    "BlkioDeviceWriteIOps": (DISK, HONOURED, ""),
    "BlkioWeight": (5, REFUSED, "10 to 1000 is honoured; dropped with a warning where the kernel has no weights"),
    "BlkioWeightDevice": ([{"Path": "/nonesuch", "Weight": 10}], REFUSED, "devices that are there are honoured, as above"),
    "CapAdd": (["NET_RAW"], HONOURED, "the default is eleven capabilities, docker's without NET_RAW, MKNOD, AUDIT_WRITE"),
    "CapDrop": (["CHOWN"], HONOURED, ""),
    "Cgroup": ("container:x", REFUSED, "docker itself knows it no more"),
    "CgroupParent": ("/parent", HONOURED, ""),
    "CgroupnsMode": ("host", HONOURED, "private by default with cgroup v1 too"),
    "ConsoleSize": ([40, 100], HONOURED, ""),
    "ContainerIDFile": ("/tmp/cid", STORED, "the client writes it"),
    "CpuCount": (1, REFUSED, "Windows only"),
    "CpuPercent": (1, REFUSED, "Windows only"),
    "CpuPeriod": (50000, HONOURED, ""),
    "CpuQuota": (20000, HONOURED, ""),
    "CpuRealtimePeriod": (10, REFUSED, "honoured where the kernel schedules groups in real time; else refused"),
    "CpuRealtimeRuntime": (20, REFUSED, "as CpuRealtimePeriod"),
    "CpuShares": (512, HONOURED, ""),
    "CpusetCpus": ("0", HONOURED, ""),
    "CpusetMems": ("0", HONOURED, ""),
    "DeviceCgroupRules": (["c 10:229 rwm"], HONOURED, ""),
    "DeviceRequests": ([{"Count": 1, "Capabilities": [["gpu"]]}], REFUSED, "no device drivers"),
    "Devices": ([{"PathOnHost": "/dev/null", "PathInContainer": "/dev/x", "CgroupPermissions": "rwm"}], HONOURED, ""),
    "Dns": (["10.0.0.1"], HONOURED, ""),
    "DnsOptions": (["ndots:2"], HONOURED, ""),
    "DnsSearch": (["example.org"], HONOURED, ""),
    "ExtraHosts": (["a:10.0.0.1"], HONOURED, "host-gateway too"),
    "GroupAdd": (["100"], HONOURED, ""),
    "IOMaximumBandwidth": (1, REFUSED, "Windows only"),
    "IOMaximumIOps": (1, REFUSED, "Windows only"),
    "Init": (True, HONOURED, "a reaper of the runtime's own, no docker-init"),
    "IpcMode": ("shareable", HONOURED, "none, private, host, shareable, container:X; /dev/shm is shared too"),
    "Isolation": ("hyperv", REFUSED, "default is taken"),
    "KernelMemory": (8 << 20, REFUSED, "kernels have it no more"),
    "KernelMemoryTCP": (8 << 20, HONOURED, "cgroup v1 only"),
    "Links": ([], HONOURED, "default network and user-defined ones"),
    "LogConfig": ({"Type": "local", "Config": {"max-size": "1m"}}, HONOURED, "json-file, local, none, syslog, journald (where there is a journal); others are refused"),
    "MaskedPaths": (["/proc/kcore"], HONOURED, "some more than docker's by default"),
    "Memory": (32 << 20, HONOURED, ""),
    "MemoryReservation": (16 << 20, HONOURED, ""),
    "MemorySwap": (-1, HONOURED, ""),
    "MemorySwappiness": (101, REFUSED, "0 to 100 is honoured with cgroup v1, dropped with a warning with v2, as docker does"),
    "Mounts": ([{"Type": "tmpfs", "Target": "/x"}], HONOURED,
               "bind, volume (subpath, driver options), tmpfs, image; npipe and cluster are refused"),
    "NanoCpus": (500000000, HONOURED, ""),
    "NetworkMode": ("none", HONOURED, "bridge, host, none, container:X, networks by name or id"),
    "OomKillDisable": (True, HONOURED, "cgroup v1; dropped with a warning with v2, as docker does"),
    "OomScoreAdj": (100, HONOURED, ""),
    "PidMode": ("host", HONOURED, "host, container:X"),
    "PidsLimit": (100, HONOURED, "4096 unless given"),
    "PortBindings": ({"80/tcp": [{"HostIp": "127.0.0.1", "HostPort": ""}]}, HONOURED, ""),
    "Privileged": (True, HONOURED, ""),
    "PublishAllPorts": (True, HONOURED, ""),
    "ReadonlyPaths": (["/proc/bus"], HONOURED, ""),
    "ReadonlyRootfs": (True, HONOURED, ""),
    "RestartPolicy": ({"Name": "on-failure", "MaximumRetryCount": 3}, HONOURED, "back-off from 0.1 s to a minute"),
    "Runtime": ("io.containerd.runc.v2", HONOURED, "three names of the one runtime"),
    "SecurityOpt": (["no-new-privileges"], HONOURED,
                    "no-new-privileges, seccomp, systempaths, writable-cgroups, label=disable, apparmor=unconfined"),
    "ShmSize": (1 << 20, HONOURED, ""),
    "StorageOpt": ({"size": "1G"}, REFUSED, "no quotas"),
    "Sysctls": ({"net.ipv4.ip_forward": "1"}, HONOURED, ""),
    "Tmpfs": ({"/x": "size=1m"}, HONOURED, ""),
    "UTSMode": ("host", HONOURED, ""),
    "Ulimits": ([{"Name": "nofile", "Hard": 100, "Soft": 50}], HONOURED, ""),
    "UsernsMode": ("private", REFUSED, "host is taken: no daemon-wide user namespaces"),
    "VolumeDriver": ("local", HONOURED, "local alone; another is an error once a volume is made"),
    "VolumesFrom": ([], HONOURED, ""),
}
CONFIG = {
    "ArgsEscaped": (True, REFUSED, "Windows only"),
    "AttachStderr": (True, STORED, "the client attaches"),
    "AttachStdin": (True, STORED, "the client attaches"),
    "AttachStdout": (True, STORED, "the client attaches"),
    "Cmd": (["true"], HONOURED, ""),
    "Domainname": ("example.org", HONOURED, ""),
    "Entrypoint": (["env"], HONOURED, ""),
    "Env": (["A=b"], HONOURED, ""),
    "ExposedPorts": ({"80/tcp": {}}, HONOURED, ""),
    "Healthcheck": ({"Test": ["CMD", "true"], "StartInterval": 1000000000}, HONOURED, ""),
    "Hostname": ("name", HONOURED, ""),
    "Image": ("busybox", HONOURED, ""),
    "Labels": ({"a": "b"}, HONOURED, ""),
    "MacAddress": ("02:42:ac:11:00:99", HONOURED, "before API 1.44 of the container, since then of the endpoint"),
    "NetworkDisabled": (True, HONOURED, ""),
    "OnBuild": (["RUN true"], REFUSED, "a Dockerfile's ONBUILD is honoured"),
    "OpenStdin": (True, HONOURED, ""),
    "Shell": (["/bin/sh", "-c"], HONOURED, ""),
    "StdinOnce": (True, HONOURED, ""),
    "StopSignal": ("SIGINT", HONOURED, ""),
    "StopTimeout": (3, HONOURED, ""),
    "Tty": (True, HONOURED, ""),
    "User": ("root", HONOURED, ""),
    "Volumes": ({"/x": {}}, HONOURED, ""),
    "WorkingDir": ("/tmp", HONOURED, ""),
}
TABLES = (("HostConfig", HostConfig, HOST_CONFIG), ("Config", Config, CONFIG))


def operations():
    """(operation, status) of docker's operations, swarm's too."""
    from importlib import import_module

    ours = {route.key for name in HANDLERS for route in import_module(f"corten.api.{name}").ROUTES}
    for lines, missing in ((OPERATIONS, "501, named"), (SWARM_OPERATIONS, "503, as outside a swarm")):
        for line in lines.split("\n"):
            if line:
                done = route_key(*line.split()) in ours or line == "GET /plugins"
                yield line, "done" if done else "501, named" if line in ("POST /swarm/init", "POST /swarm/join") else missing


def page():
    """The text of docs/compat.md."""
    found = list(operations())
    done = sum(status == "done" for _, status in found)
    out = [
        "# What of Docker's Engine API is done", "",
        "Made from `tests/api/compat_fields.py`, which tests hold to the engine: do not edit this page.", "",
        f"API versions 1.24 to 1.51. {done} of {len(found)} operations are done; those of a swarm answer as an engine "
        "outside a swarm does, the rest is refused by name.", "",
        "## Operations", "", "| operation | here |", "|---|---|",
        *(f"| `{name}` | {status} |" for name, status in found), "",
    ]
    for title, _, table in TABLES:
        out += [f"## {title} of a container", "",
                "What it does is looked at by `tests/api/test_field_effects.py`; a refusal names the field.", "",
                "| field | here | looked at | remarks |", "|---|---|---|---|",
                *(f"| {name} | {status} | {seen(title, name)} | {note} |"
                  for name, (_, status, note) in sorted(table.items())), ""]
    return "\n".join(out)


if __name__ == "__main__":
    sys.stdout.write(page())
