"""state.json: what is remembered of a container while it exists, and the state document of the runtime spec.

`<root>/<id>/state.json`, replaced in one rename. The kernel wins over it: whether a container runs is asked of the
process, named by pid and start time.
"""

from __future__ import annotations

import posix
import time

from corten.base import jsonio
from corten.base.errors import InvalidArgument, NotFound
from corten.base.files import atomic_write, parse_json, read_bytes
from corten.base.ids import check_id
from corten.linux import process

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from corten.runtime.bundle import Bundle

STATE = "state.json"
START_SOCKET = "start.sock"


class State:
    """One container's record. `root` is the folder of all states."""

    __slots__ = (
        "annotations", "bundle", "cgroup", "created", "hooks", "id", "keyring", "pid", "root", "rootfs",
        "shared_mounts", "shared_pids", "start_time", "uid", "unit",
    )

    def __init__(self, root: str, id: str, fields: dict[str, Any]) -> None:
        self.root = root
        self.id = id
        self.pid = int(fields["pid"])
        self.start_time = int(fields["startTime"])
        self.bundle = str(fields["bundle"])
        self.rootfs = str(fields["rootfs"])
        self.cgroup = str(fields["cgroup"])
        self.created = str(fields["created"])
        self.uid = int(fields.get("uid", 0))
        self.annotations: dict[str, str] = fields.get("annotations") or {}
        self.hooks: dict[str, Any] = fields.get("hooks") or {}
        self.shared_mounts = bool(fields.get("sharedMounts"))  # its mounts lie in the runtime's mount namespace
        self.shared_pids = bool(fields.get("sharedPids"))  # no pid namespace of its own
        self.keyring = bool(fields.get("keyring", True))
        self.unit = str(fields.get("unit") or "")  # the scope it is in, where systemd made its cgroup

    @property
    def path(self) -> str:
        return self.bundle

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
        from corten.linux import cgroup

        if cgroup.is_frozen(self.cgroup):
            return "paused"
        return "created" if posix.access(f"{self.folder}/{START_SOCKET}", posix.F_OK) else "running"

    def load_bundle(self) -> Bundle:
        """What the container was made of; not what config.json may say by now (runtime.md, lifecycle)."""
        from corten.runtime.bundle import CONFIG, load_bundle

        own = f"{self.folder}/{CONFIG}"
        return load_bundle(self.id, self.bundle, self.root, own if self.bundle != self.folder else "")


def is_alive(pid: int, start_time: int) -> bool:
    """Whether this very process is there and no zombie."""
    try:
        return process.start_time(pid) == start_time and process.state(pid) not in "ZXx"
    except (FileNotFoundError, ProcessLookupError):
        return False


def save(bundle: Bundle, pid: int, start_time: int, *, shared_pids: bool = False, keyring: bool = True) -> None:
    """Write the record of a container into its state folder, which exists. Raises OSError."""
    from corten.oci.runtime_spec import VERSION

    now_ns = time.time_ns()
    created = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(now_ns // 1_000_000_000))
    fields = {
        "ociVersion": VERSION, "id": bundle.id, "pid": pid, "startTime": start_time, "bundle": bundle.path,
        "rootfs": bundle.rootfs, "cgroup": bundle.cgroup, "created": f"{created}.{now_ns % 1_000_000_000:09d}Z",
        "uid": posix.geteuid(), "annotations": bundle.spec.get("annotations"), "hooks": _later_hooks(bundle.spec),
        "sharedPids": shared_pids, "sharedMounts": borrows_mounts(bundle.spec), "keyring": keyring, "unit": bundle.unit,
    }
    folder = f"{bundle.root}/{bundle.id}"
    if folder != bundle.path:
        atomic_write(f"{folder}/config.json", jsonio.dumps(bundle.spec).encode("utf-8", "surrogateescape"))
    atomic_write(f"{folder}/{STATE}", jsonio.dumps(fields).encode("utf-8", "surrogateescape"))


def borrows_mounts(spec: dict[str, Any]) -> bool:
    """Whether the container has neither made nor joined a mount namespace."""
    entries = (spec.get("linux") or {}).get("namespaces") or ()
    return not any(entry.get("type") == "mount" for entry in entries)


def _later_hooks(spec: dict[str, Any]) -> dict[str, Any]:
    """Those that run after the bundle may have changed, or be gone."""
    hooks = spec.get("hooks") or {}
    return {kind: hooks[kind] for kind in ("poststart", "poststop") if hooks.get(kind)}


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
        return State(root, id, value)
    except (KeyError, TypeError, ValueError):
        raise InvalidArgument(f"{root}/{id}/{STATE}: damaged") from None


def load_all(root: str) -> list[State]:
    """Every container below the root; folders without a readable record are passed over."""
    try:
        names = sorted(posix.listdir(root))
    except FileNotFoundError:
        return []
    found = []
    for name in names:
        try:
            found.append(load(root, name))
        except (InvalidArgument, NotFound, OSError):
            continue
    return found


def describe(record: State) -> dict[str, Any]:
    """What `state` and `list` tell of a container."""
    from corten.oci.runtime_spec import VERSION

    status = record.status
    found: dict[str, Any] = {
        "ociVersion": VERSION, "id": record.id, "pid": 0 if status == "stopped" else record.pid, "status": status,
        "bundle": record.bundle, "rootfs": record.rootfs, "created": record.created,
    }
    if record.annotations:
        found["annotations"] = record.annotations
    found["owner"] = _user_name(record.uid)
    return found


def _user_name(uid: int) -> str:
    if uid == 0:
        return "root"
    from corten.linux.proc import user_names

    return user_names().get(uid, f"#{uid}")


def document(container: Bundle | State, status: str, pid: int) -> dict[str, Any]:
    """The state of the runtime spec, as hooks are told it."""
    from corten.oci.runtime_spec import VERSION

    found: dict[str, Any] = {
        "ociVersion": VERSION, "id": container.id, "status": status, "pid": pid, "bundle": container.path,
    }
    if container.annotations:
        found["annotations"] = container.annotations
    return found
