"""state.json: what is remembered of a container while it exists, and the state document of the runtime spec.

`<root>/<id>/state.json`, replaced in one rename. The kernel wins over it: whether a container runs is asked of the
process, named by pid and start time.
"""

from __future__ import annotations

import json
import os
import time

from corten.base.errors import InvalidArgument, NotFound
from corten.base.files import atomic_write, parse_json, read_bytes
from corten.linux import cgroup, process
from corten.runtime.bundle import Bundle, check_id, load_bundle

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

OCI_VERSION = "1.2.1"
STATE = "state.json"
START_SOCKET = "start.sock"


class State:
    """One container's record. `root` is the folder of all states."""

    __slots__ = ("bundle", "cgroup", "created", "id", "pid", "root", "rootfs", "start_time", "uid")

    def __init__(
        self, root: str, id: str, pid: int, start_time: int, bundle: str, rootfs: str, group: str, created: str,
        uid: int,
    ) -> None:
        self.root = root
        self.id = id
        self.pid = pid
        self.start_time = start_time
        self.bundle = bundle
        self.rootfs = rootfs
        self.cgroup = group
        self.created = created
        self.uid = uid

    @property
    def folder(self) -> str:
        return f"{self.root}/{self.id}"

    @property
    def status(self) -> str:
        """creating, created, running, paused or stopped, asked of the kernel."""
        if self.pid == 0:
            return "creating"
        if not is_alive(self.pid, self.start_time):
            return "stopped"
        if os.path.exists(f"{self.folder}/{START_SOCKET}"):
            return "created"
        return "paused" if cgroup.is_frozen(self.cgroup) else "running"

    def load_bundle(self) -> Bundle:
        return load_bundle(self.id, self.bundle, self.root)


def is_alive(pid: int, start_time: int) -> bool:
    """Whether this very process is there and no zombie."""
    try:
        return process.start_time(pid) == start_time and process.state(pid) not in "ZXx"
    except (FileNotFoundError, ProcessLookupError):
        return False


def save(bundle: Bundle, pid: int, start_time: int) -> State:
    """Write the record of a container into its state folder, which exists. Raises OSError."""
    root = bundle.root
    created = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime()) + f".{time.time_ns() % 1_000_000_000:09d}Z"
    record = State(root, bundle.id, pid, start_time, bundle.path, bundle.rootfs, bundle.cgroup, created, os.geteuid())
    fields = {
        "ociVersion": OCI_VERSION, "id": bundle.id, "pid": pid, "startTime": start_time, "bundle": bundle.path,
        "rootfs": bundle.rootfs, "cgroup": bundle.cgroup, "created": created, "uid": record.uid,
    }
    atomic_write(f"{root}/{bundle.id}/{STATE}", json.dumps(fields).encode())
    return record


def load(root: str, id: str) -> State:
    """The record of a container. Raises NotFound `container does not exist`, InvalidArgument."""
    check_id(id)
    try:
        value = parse_json(read_bytes(f"{root}/{id}/{STATE}"))
    except (FileNotFoundError, NotADirectoryError):
        raise NotFound("container does not exist") from None
    if not isinstance(value, dict):
        raise InvalidArgument(f"{root}/{id}/{STATE}: not a JSON object")
    try:
        return State(
            root, id, int(value["pid"]), int(value["startTime"]), str(value["bundle"]), str(value["rootfs"]),
            str(value["cgroup"]), str(value["created"]), int(value.get("uid", 0)),
        )
    except (KeyError, TypeError, ValueError):
        raise InvalidArgument(f"{root}/{id}/{STATE}: damaged") from None


def load_all(root: str) -> list[State]:
    """Every container below the root; folders without a readable record are passed over."""
    try:
        names = sorted(os.listdir(root))
    except FileNotFoundError:
        return []
    found = []
    for name in names:
        try:
            found.append(load(root, name))
        except (InvalidArgument, NotFound, OSError):
            continue
    return found


def document(bundle: Bundle, status: str, pid: int) -> dict[str, Any]:
    """The state of the runtime spec, as hooks and callers are told it."""
    found: dict[str, Any] = {
        "ociVersion": OCI_VERSION, "id": bundle.id, "status": status, "pid": pid, "bundle": bundle.path,
    }
    if bundle.spec.get("annotations"):
        found["annotations"] = bundle.spec["annotations"]
    return found
