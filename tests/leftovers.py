"""What one daemon has on the machine and in its roots, apart from other daemons; to be compared before and after."""

import os
import subprocess
import time

from corten.base.paths import Layout

FOLDERS = ("data/containers", "data/snapshots", "data/volumes", "data/build", "data/tmp", "data/content/ingest",
           "data/content/blobs/sha256", "run/runtime", "run/exits", "run/rootfs")


def _listed(path):
    try:
        return set(os.listdir(path))
    except FileNotFoundError:
        return set()


def _processes(folder):
    found = set()
    for pid in filter(str.isdigit, os.listdir("/proc")):
        try:
            with open(f"/proc/{pid}/cmdline", "rb") as file:
                command = file.read().replace(b"\0", b" ").decode(errors="replace")
            with open(f"/proc/{pid}/comm") as file:
                if file.read() == "corten-launch\n":
                    continue  # it is replaced now and then
        except OSError:
            continue
        if folder in command:
            found.add((pid, command))
    return found


def owned(daemon):
    """Mounts, links, rules, cgroups, processes and files of a daemon, each a set of names."""
    with open("/proc/self/mountinfo") as file:
        mounts = {line.split(" ", 6)[4] for line in file if daemon.folder in line}
    parent = Layout(f"{daemon.folder}/data", f"{daemon.folder}/run").cgroup_parent
    groups = {f"{root}{parent}/{name}" for root in ("/sys/fs/cgroup", *_controllers())
              for name in _listed(f"{root}{parent}") if os.path.isdir(f"{root}{parent}/{name}")}
    rules = subprocess.run(["nft", "list", "table", "inet", f"corten-{daemon.bridge}"], capture_output=True, text=True)
    found = {
        "mounts": mounts, "links": _listed(f"/sys/class/net/{daemon.bridge}/brif"), "cgroups": groups,
        "rules": {line.strip() for line in rules.stdout.splitlines() if "counter" not in line},
        "processes": _processes(daemon.folder),
    }
    for folder in FOLDERS:
        found[folder] = _listed(f"{daemon.folder}/{folder}")
    for kind, url, key in (("container", "/containers/json?all=1", "Id"), ("network", "/networks", "Id"),
                           ("image", "/images/json?all=1", "Id")):
        found[f"{kind} records"] = {row[key] for row in daemon.api("GET", url).json}
    found["volume records"] = {row["Name"] for row in daemon.api("GET", "/volumes").json["Volumes"] or ()}
    return found


def _controllers():
    return [entry.path for entry in os.scandir("/sys/fs/cgroup") if entry.is_dir(follow_symlinks=False)
            and os.path.exists(f"{entry.path}/cgroup.procs")]


def left_behind(daemon, before, patience_s=30.0):
    """What is there now and was not in `before`, by kind; empty when all is gone within `patience_s`."""
    deadline = time.monotonic() + patience_s
    while True:
        after = owned(daemon)
        left = {kind: sorted(map(str, names - before[kind])) for kind, names in after.items() if names - before[kind]}
        if not left or time.monotonic() > deadline:
            return left
        time.sleep(0.05)
