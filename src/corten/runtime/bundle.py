"""A bundle: the folder with config.json that says what a container is to be. Read and checked, nothing done.

An engine's bundle also has rootfs.json beside config.json: `{"lower": [...], "upper": "...", "work": "...", "init":
bool}`, the overlay that the init mounts on root.path in its own mount namespace; without lower folders `upper` is the
whole root. It is a file of the engine's own, so nothing that comes with an image (labels, annotations) can steer it.
"""

from __future__ import annotations

import posix

from corten.base import pathnames
from corten.base.errors import InvalidArgument, NotFound
from corten.base.files import parse_json, read_bytes
from corten.base.ids import check_id

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

CONFIG = "config.json"
ROOTFS = "rootfs.json"
_CONFIG_LIMIT = 4 << 20


class Bundle:
    """What one container is to be. `spec` is config.json, `rootfs` the absolute root.path, `overlay` rootfs.json."""

    __slots__ = ("groupless", "id", "init", "overlay", "path", "root", "rootfs", "spec", "unit")

    def __init__(
        self, id: str, path: str, spec: dict[str, Any], rootfs: str, overlay: dict[str, Any] | None, root: str,
        init: bool,
    ) -> None:
        self.id = id
        self.path = path
        self.spec = spec
        self.rootfs = rootfs
        self.overlay = overlay
        self.root = root
        self.init = init
        self.groupless = False  # it has no cgroup: an unprivileged user may make none, or it is another's
        self.unit = ""  # the scope that systemd is to make for its cgroup

    @property
    def annotations(self) -> dict[str, str]:
        return self.spec.get("annotations") or {}

    @property
    def cgroup(self) -> str:
        """Where its processes are kept in every hierarchy: linux.cgroupsPath, else /corten/<id>; "" for none."""
        return "" if self.groupless else cgroup_path(self.id, self.spec)


def cgroup_path(id: str, spec: dict[str, Any]) -> str:
    """The cgroup path of a container, absolute within each hierarchy. Raises InvalidArgument."""
    path = (spec.get("linux") or {}).get("cgroupsPath") or f"/corten/{id}"
    if not isinstance(path, str) or "\0" in path or ".." in path.split("/") or not path.strip("/"):
        raise InvalidArgument(f"invalid linux.cgroupsPath: {path!r}")
    return path if path.startswith("/") else f"/{path}"


def load_bundle(id: str, path: str, root: str = "", config: str = "") -> Bundle:
    """Read and check the bundle in the folder `path`; `root` is the state root (default: the folder above it).

    `config` is where its config.json is, if elsewhere: once made, a container does not change with it.
    Raises InvalidArgument, NotFound (no such folder or no config.json).
    """
    check_id(id)
    path = pathnames.absolute(path)
    spec = _load_object(config or f"{path}/{CONFIG}")
    if spec is None:
        if not posix.access(path, posix.F_OK):
            raise NotFound(f"chdir {path}: no such file or directory")
        raise NotFound(f"JSON specification file {CONFIG} not found")
    rootfs = _check(spec)
    if not config:
        _check_shape(path, spec)
    extension = _load_object(f"{path}/{ROOTFS}") or {}
    overlay = extension if extension.get("lower") or extension.get("upper") else None
    if overlay:
        _check_overlay(overlay)
    if not rootfs.startswith("/"):
        rootfs = pathnames.normal(f"{path}/{rootfs}")
    return Bundle(id, path, spec, rootfs, overlay, root or pathnames.split(path)[0], extension.get("init") is True)


def _check_shape(path: str, spec: dict[str, Any]) -> None:
    """The types of all fields. An engine's own bundle was made from typed requests: that time is saved."""
    if not pathnames.exists(f"{path}/{ROOTFS}"):
        from corten.oci import config_shape

        config_shape.check(spec)


def _load_object(path: str) -> dict[str, Any] | None:
    try:
        data = read_bytes(path, _CONFIG_LIMIT)
    except FileNotFoundError:
        return None
    value = parse_json(data, _CONFIG_LIMIT)
    if not isinstance(value, dict):
        raise InvalidArgument(f"{path}: not a JSON object")
    return value


def _check(spec: dict[str, Any]) -> str:
    """The parts without which nothing can begin; the rest is checked by who uses it. Returns root.path."""
    version = spec.get("ociVersion")
    if not isinstance(version, str) or not version.startswith(("0.", "1.")):  # 0.x had the same fields, but fewer
        raise InvalidArgument(f"unsupported ociVersion: {version!r}")
    root = spec.get("root")
    if not isinstance(root, dict) or not isinstance(root.get("path"), str) or not root["path"]:
        raise InvalidArgument("root.path must be set in config.json")
    for name, kind in (("process", dict), ("linux", dict), ("mounts", list), ("hooks", dict), ("annotations", dict)):
        if spec.get(name) is not None and not isinstance(spec[name], kind):
            raise InvalidArgument(f"config.json: {name} has the wrong type")
    path: str = root["path"]
    return path


def check_process(process: dict[str, Any]) -> None:
    """The fields of a process that must be there. Raises InvalidArgument with runc's texts."""
    arguments = process.get("args")
    if not isinstance(arguments, list) or not arguments:
        raise InvalidArgument("args must not be empty")
    cwd = process.get("cwd")
    if not isinstance(cwd, str) or not cwd:
        raise InvalidArgument("Cwd property must not be empty")
    if not cwd.startswith("/"):
        raise InvalidArgument("Cwd must be an absolute path")
    for text in (*arguments, *(process.get("env") or ()), cwd):
        if not isinstance(text, str) or "\0" in text:
            raise InvalidArgument("process: args, env and cwd are texts without NUL")


def _check_overlay(overlay: dict[str, Any]) -> None:
    overlay.setdefault("lower", [])
    paths = [*overlay["lower"], overlay.get("upper") or "/", overlay.get("work") or "/"]
    if not all(isinstance(path, str) and path.startswith("/") for path in paths):
        raise InvalidArgument(f"{ROOTFS}: lower, upper and work are absolute paths")
