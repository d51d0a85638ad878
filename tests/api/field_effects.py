"""What each honoured field of a create request does, as data: a container is made with it and a look taken from within.

`INSIDE`: field -> (members of the request, a script run in the container, a pattern that its whole output fits).
`{tmp}` is a folder of the host's with the file `f`. `WATCHED` names what test_field_effects.py looks at in another way.
"""

import os
import re


def group(v1, v2):
    """A script: a file of the container's own control group, by the name that the machine's hierarchy has for it."""
    controller = v1.partition("/")[0]
    return f"[ -d /sys/fs/cgroup/{controller} ] && cd /sys/fs/cgroup/{controller} && f={v1.partition('/')[2]} || " \
           f"{{ cd /sys/fs/cgroup; f={v2}; }}; [ -e $f ] && cat $f || echo absent"


def bit(number):
    """A script: whether a capability is in effect."""
    return f"echo $(( 0x$(sed -n 's/^CapEff:.//p' /proc/self/status) >> {number} & 1 ))"


def kept(path):
    return f"touch {path} 2>&1 || true"


def same_namespace(kind):
    return f"readlink /proc/self/ns/{kind}", os.readlink(f"/proc/self/ns/{kind}").replace("[", r"\[").replace("]", r"\]")


def _own(kind):
    """The first processor or memory node that this process may use, as text."""
    with open("/proc/self/status") as file:
        (line,) = [line for line in file if line.startswith(f"{kind}_allowed_list:")]
    return re.match(r"\d+", line.partition(":")[2].strip())[0]


READ_ONLY = "touch: .*: Read-only file system"
PORT = {"ExposedPorts": {"80/tcp": {}}}
_RATES = "read_bps", "read_iops", "write_bps", "write_iops"

INSIDE = {
    "HostConfig": {
        "Binds": ({"Binds": ["{tmp}:/x:ro"]}, f"cat /x/f; {kept('/x/g')}", f"bound{READ_ONLY}"),
        "CapAdd": ({"CapAdd": ["NET_RAW"]}, bit(13), "1"),
        "CapDrop": ({"CapDrop": ["CHOWN"]}, bit(0), "0"),
        "CgroupParent": ({"CgroupParent": "{parent}", "CgroupnsMode": "host"}, "cat /proc/self/cgroup", r"(?s).*:{parent}/[0-9a-f]{64}.*"),
        "CgroupnsMode": ({"CgroupnsMode": "host"}, "cat /proc/self/cgroup", "(?s).*:/.*[0-9a-f]{64}.*"),
        "CpuPeriod": ({"CpuPeriod": 50000, "CpuQuota": 20000}, group("cpu/cpu.cfs_period_us", "cpu.max"), "50000|20000 50000"),
        "CpuQuota": ({"CpuPeriod": 50000, "CpuQuota": 20000}, group("cpu/cpu.cfs_quota_us", "cpu.max"), "20000|20000 50000"),
        "CpuShares": ({"CpuShares": 512}, group("cpu/cpu.shares", "cpu.weight"), "512|20|59"),
        "CpusetCpus": ({"CpusetCpus": _own("Cpus")}, "sed -n 's/^Cpus_allowed_list:.//p' /proc/self/status", _own("Cpus")),
        "CpusetMems": ({"CpusetMems": _own("Mems")}, "sed -n 's/^Mems_allowed_list:.//p' /proc/self/status", _own("Mems")),
        "DeviceCgroupRules": ({"CapAdd": ["MKNOD"], "DeviceCgroupRules": ["c 10:229 rwm"]},
                              "mknod /node c 10 229; cat /node 2>&1 | grep -c 'not permitted'; true", "0"),
        "Devices": ({"Devices": [{"PathOnHost": "/dev/null", "PathInContainer": "/dev/x", "CgroupPermissions": "rwm"}]},
                    "echo a >/dev/x; [ -c /dev/x ] && echo b", "b"),
        "Dns": ({"Dns": ["10.9.8.7"]}, "cat /etc/resolv.conf", "(?s).*nameserver 10.9.8.7.*"),
        "DnsOptions": ({"DnsOptions": ["ndots:7"]}, "cat /etc/resolv.conf", "(?s).*options .*ndots:7.*"),
        "DnsSearch": ({"DnsSearch": ["sub.example"]}, "cat /etc/resolv.conf", "(?s).*search sub.example.*"),
        "ExtraHosts": ({"ExtraHosts": ["far:10.9.8.7"]}, "cat /etc/hosts", r"(?s).*10.9.8.7\s+far.*"),
        "GroupAdd": ({"GroupAdd": ["4321"]}, "id -G", ".*4321.*"),
        "Init": ({"Init": True}, "[ $$ = 1 ] && echo one; [ -d /proc/1 ] && echo another", "another"),
        "IpcMode": ({"IpcMode": "host"}, *same_namespace("ipc")),
        "KernelMemoryTCP": ({"KernelMemoryTCP": 8 << 20}, group("memory/memory.kmem.tcp.limit_in_bytes", "none"), "8388608|absent"),
        "MaskedPaths": ({"MaskedPaths": ["/proc/version"]}, "wc -c </proc/version", r"\s*0"),
        "Memory": ({"Memory": 32 << 20}, group("memory/memory.limit_in_bytes", "memory.max"), "33554432"),
        "MemoryReservation": ({"Memory": 32 << 20, "MemoryReservation": 16 << 20},
                              group("memory/memory.soft_limit_in_bytes", "memory.low"), "16777216"),
        "MemorySwap": ({"Memory": 32 << 20, "MemorySwap": 48 << 20},
                       group("memory/memory.memsw.limit_in_bytes", "memory.swap.max"), "50331648|16777216|absent"),
        "MemorySwappiness": ({"MemorySwappiness": 40}, group("memory/memory.swappiness", "none"), "40|absent"),
        "Mounts": ({"Mounts": [{"Type": "tmpfs", "Target": "/x", "TmpfsOptions": {"SizeBytes": 1 << 20}}]},
                   "grep ' /x ' /proc/mounts", "tmpfs /x tmpfs .*size=1024k.*"),
        "NanoCpus": ({"NanoCpus": 500000000}, group("cpu/cpu.cfs_quota_us", "cpu.max"), "50000|50000 100000"),
        "NetworkMode": ({"NetworkMode": "none"}, "ls /sys/class/net", "lo"),
        "OomKillDisable": ({"OomKillDisable": True, "Memory": 32 << 20}, group("memory/memory.oom_control", "none"),
                           "(?s)oom_kill_disable 1.*|absent"),
        "OomScoreAdj": ({"OomScoreAdj": 123}, "cat /proc/self/oom_score_adj", "123"),
        "PidMode": ({"PidMode": "host"}, *same_namespace("pid")),
        "PidsLimit": ({"PidsLimit": 100}, group("pids/pids.max", "pids.max"), "100"),
        "Privileged": ({"Privileged": True}, bit(21), "1"),
        "ReadonlyPaths": ({"ReadonlyPaths": ["/root"]}, kept("/root/x"), READ_ONLY),
        "ReadonlyRootfs": ({"ReadonlyRootfs": True}, kept("/x"), READ_ONLY),
        "SecurityOpt": ({"SecurityOpt": ["no-new-privileges"]}, "sed -n 's/^NoNewPrivs:.//p' /proc/self/status", "1"),
        "ShmSize": ({"ShmSize": 1 << 20}, "grep ' /dev/shm ' /proc/mounts", ".*size=1024k.*"),
        "Sysctls": ({"Sysctls": {"net.ipv4.ip_default_ttl": "77"}}, "cat /proc/sys/net/ipv4/ip_default_ttl", "77"),
        "Tmpfs": ({"Tmpfs": {"/x": "size=1m"}}, "grep ' /x ' /proc/mounts", "tmpfs /x tmpfs .*size=1024k.*"),
        "UTSMode": ({"UTSMode": "host"}, *same_namespace("uts")),
        "Ulimits": ({"Ulimits": [{"Name": "nofile", "Hard": 100, "Soft": 50}]}, "ulimit -n; ulimit -Hn", "50\n100"),
    },
    "Config": {
        "Cmd": ({}, "echo said", "said"),
        "Domainname": ({"Domainname": "example.org"}, "cat /proc/sys/kernel/domainname", "example.org"),
        "Entrypoint": ({"Entrypoint": ["echo", "first"]}, "second", "first sh -c second"),
        "Env": ({"Env": ["A=b c"]}, 'echo "$A"', "b c"),
        "Hostname": ({"Hostname": "name"}, "hostname; cat /etc/hosts", r"(?s)name\n.*\sname\b.*"),
        "Image": ({}, "ls /bin/busybox", "/bin/busybox"),
        "MacAddress": ({"MacAddress": "02:42:ac:11:00:99"}, "cat /sys/class/net/eth0/address", "02:42:ac:11:00:99"),
        "NetworkDisabled": ({"NetworkDisabled": True}, "ls /sys/class/net", "lo"),
        "OpenStdin": ({"OpenStdin": True}, "readlink /proc/self/fd/0", r"pipe:\[\d+\]"),
        "Tty": ({"Tty": True}, "tty", "/dev/pts/0|/dev/console"),
        "User": ({"User": "33:44"}, "id -u; id -g", "33\n44"),
        "Volumes": ({"Volumes": {"/x": {}}}, "grep -c ' /x ' /proc/mounts", "1"),
        "WorkingDir": ({"WorkingDir": "/made/here"}, "pwd", "/made/here"),
    },
}
WATCHED = {
    "HostConfig": {
        "Annotations": "in lists and the runtime's config",
        "AutoRemove": "gone when it ends",
        "ConsoleSize": "the terminal's size",
        "Links": "the other's name is known",
        "LogConfig": "nothing is kept by `none`",
        "PortBindings": "the port answers",
        "PublishAllPorts": "the port answers",
        "RestartPolicy": "started again, and no more often",
        "Runtime": "runs; another is refused",
        "VolumeDriver": "of the volume that is made",
        "VolumesFrom": "the other's files are there",
        **{f"BlkioDevice{way}": "in the control group" for way in ("ReadBps", "ReadIOps", "WriteBps", "WriteIOps")},
    },
    "Config": {
        "ExposedPorts": "in lists",
        "Healthcheck": "becomes healthy",
        "Labels": "found by them",
        "Shell": "runs the health check's command",
        "StdinOnce": "stdin ends with the first client",
        "StopSignal": "the program gets it",
        "StopTimeout": "waited for that long",
    },
}


def seen(title, name):
    """How a field's effect is looked at, for the page."""
    return "from within" if name in INSIDE[title] else WATCHED[title].get(name, "")
