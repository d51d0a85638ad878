"""Which mounts a container gets: Binds, Mounts, VolumesFrom and the image's VOLUMEs as one list of MountPoints.

Pure: no volume is made and no path is touched here. Texts are Docker's (volume/mounts of the daemon).
"""

import posixpath
import re
from collections.abc import Callable

from corten.base.errors import InvalidArgument, Unsupported
from corten.engine.records import Config, ContainerRecord, HostConfig, Mount, MountPoint, VolumeDriver, VolumeOptions

_PROPAGATIONS = frozenset(("private", "rprivate", "shared", "rshared", "slave", "rslave"))
_CONSISTENCIES = frozenset(("consistent", "cached", "delegated", "default"))
_LABELS = frozenset(("z", "Z"))
_VOLUME_NAME = re.compile(r"[a-zA-Z0-9][a-zA-Z0-9_.-]*", re.ASCII)


def clean_target(path: str, specification: str, kind: str = "volume") -> str:
    """A mount's destination, normalised. Raises InvalidArgument when it is not absolute or is the root itself."""
    if not path.startswith("/"):
        raise InvalidArgument(
            f"invalid volume specification: '{specification}': invalid mount config for type \"{kind}\": "
            f"invalid mount path: '{path}' mount path must be absolute"
        )
    path = posixpath.normpath("/" + path.lstrip("/"))
    if path == "/":
        raise InvalidArgument(
            f"invalid volume specification: '{specification}': invalid mount config for type \"bind\": "
            "invalid specification: destination can't be '/'"
        )
    return path


def parse_bind(specification: str, driver: str = "local") -> MountPoint:
    """`source:destination[:mode]` or `destination` alone (an anonymous volume). Raises InvalidArgument.

    `driver` is HostConfig.VolumeDriver: whose a volume is that is made for this.
    """
    parts = specification.split(":")
    if len(parts) > 3 or not all(parts) or "\0" in specification:
        raise InvalidArgument(f"invalid volume specification: '{specification}'")
    if len(parts) == 1:
        return MountPoint(type="volume", destination=clean_target(parts[0], specification), driver=driver, mode="z",
                          anonymous=True)
    source = parts[0]
    target = clean_target(parts[1], specification, "bind" if source.startswith("/") else "volume")
    mode = parts[2] if len(parts) == 3 else ""
    if source.startswith("/"):
        point = MountPoint(type="bind", source=posixpath.normpath(source), destination=target, mode=mode,
                           propagation="rprivate")
    else:
        if not _VOLUME_NAME.fullmatch(source):
            raise InvalidArgument(
                f'create {source}: "{source}" includes invalid characters for a local volume name, only '
                '"[a-zA-Z0-9][a-zA-Z0-9_.-]" are allowed. If you intended to pass a host directory, use absolute path'
            )
        point = MountPoint(type="volume", name=source, destination=target, driver=driver, mode=mode or "z")
    _apply_mode(point, mode)
    return point


def _apply_mode(point: MountPoint, mode: str) -> None:
    seen: set[str] = set()
    for word in mode.split(",") if mode else ():
        if word in ("ro", "rw"):
            kind = "access"
            point.rw = word == "rw"
        elif word in _PROPAGATIONS and point.type == "bind":
            kind = "propagation"
            point.propagation = word
        elif word in _CONSISTENCIES:
            kind = "consistency"
        elif word in _LABELS:
            kind = "label"
        elif word == "nocopy":
            kind = "copy"
            point.no_copy = True
        else:
            kind = ""
        if not kind or kind in seen:
            raise InvalidArgument(f"invalid mode: {mode}")
        seen.add(kind)


def parse_mount(mount: Mount) -> MountPoint:
    """An entry of HostConfig.Mounts. Raises InvalidArgument, or Unsupported for a type not done yet."""
    kind = mount.type
    if kind not in _MOUNTS:
        if kind in ("npipe", "cluster"):
            raise Unsupported(f"HostConfig.Mounts of type {kind!r} is not supported yet")
        raise InvalidArgument(f'invalid mount config for type "{kind}": mount type unknown')
    start = f'invalid mount config for type "{kind}": '
    if not mount.target:
        raise InvalidArgument(f"{start}field Target must not be empty")
    if not mount.target.startswith("/"):
        raise InvalidArgument(f"{start}invalid mount path: '{mount.target}' mount path must be absolute")
    target = posixpath.normpath("/" + mount.target.lstrip("/"))
    if target == "/":
        raise InvalidArgument(f"{start}invalid specification: destination can't be '/'")
    for given, wanted in (("bind_options", "bind"), ("volume_options", "volume"), ("tmpfs_options", "tmpfs"),
                          ("image_options", "image")):
        if getattr(mount, given) is not None and kind != wanted:
            raise InvalidArgument(f"{start}field {wanted.capitalize()}Options must not be specified")
    return _MOUNTS[kind](mount, target, start)


def _bind_mount(mount: Mount, target: str, start: str) -> MountPoint:
    if not mount.source:
        raise InvalidArgument(f"{start}field Source must not be empty")
    if not mount.source.startswith("/"):
        raise InvalidArgument(f"{start}invalid mount path: '{mount.source}' mount path must be absolute")
    options = mount.bind_options
    point = MountPoint(type="bind", source=posixpath.normpath(mount.source), destination=target,
                       rw=not mount.read_only, propagation="rprivate")
    if options:
        if options.propagation and options.propagation not in _PROPAGATIONS:
            raise InvalidArgument(f"{start}invalid propagation mode: {options.propagation}")
        if options.read_only_force_recursive:
            raise Unsupported("HostConfig.Mounts.BindOptions.ReadOnlyForceRecursive is not supported yet")
        point.propagation = options.propagation or "rprivate"
        point.non_recursive = options.non_recursive
    # -v makes an absent source, --mount refuses it unless asked: the empty mode tells the two apart no more, this does
    point.no_copy = not (options and options.create_mountpoint)
    return point


def _volume_mount(mount: Mount, target: str, start: str) -> MountPoint:
    options = mount.volume_options
    if mount.source and not _VOLUME_NAME.fullmatch(mount.source):
        raise InvalidArgument(
            f'create {mount.source}: "{mount.source}" includes invalid characters for a local volume name, only '
            '"[a-zA-Z0-9][a-zA-Z0-9_.-]" are allowed. If you intended to pass a host directory, use absolute path'
        )
    options = options or VolumeOptions()
    if options.subpath:
        if not mount.source:
            raise InvalidArgument(f"{start}must not set Subpath when using anonymous volumes")
        if not _is_local(options.subpath):
            raise InvalidArgument(f"{start}subpath must be a relative path within the volume")
    driver = options.driver_config or VolumeDriver()
    return MountPoint(
        type="volume", name=mount.source, destination=target, driver=driver.name or "local", mode="z",
        rw=not mount.read_only, no_copy=options.no_copy, anonymous=not mount.source, subpath=options.subpath,
        volume_options=driver.options, volume_labels=options.labels,
    )


def _is_local(path: str) -> bool:
    """Go's filepath.IsLocal: neither absolute nor leaving its folder."""
    return not path.startswith("/") and "\0" not in path and not posixpath.normpath(path).startswith("..")


def _image_mount(mount: Mount, target: str, start: str) -> MountPoint:
    """The files of an image, read-only."""
    if not mount.source:
        raise InvalidArgument(f"{start}field Source must not be empty")
    subpath = mount.image_options.subpath if mount.image_options else ""
    if subpath and not _is_local(subpath):
        raise InvalidArgument(f"{start}subpath must be a relative path within the volume or image")
    return MountPoint(type="image", source=mount.source, destination=target, rw=False, subpath=subpath)


def _tmpfs_mount(mount: Mount, target: str, start: str) -> MountPoint:
    if mount.source:
        raise InvalidArgument(f"{start}field Source must not be specified")
    words: list[str] = []
    if mount.tmpfs_options:
        if mount.tmpfs_options.size_bytes < 0:
            raise InvalidArgument(f"{start}invalid tmpfs size")
        if mount.tmpfs_options.size_bytes:
            words.append(f"size={mount.tmpfs_options.size_bytes}")
        if mount.tmpfs_options.mode:
            words.append(f"mode={mount.tmpfs_options.mode:o}")
        for option in mount.tmpfs_options.options or ():
            words.append("=".join(option))
    return MountPoint(type="tmpfs", destination=target, rw=not mount.read_only, options=words)


_MOUNTS: dict[str, Callable[[Mount, str, str], MountPoint]] = {
    "bind": _bind_mount, "volume": _volume_mount, "tmpfs": _tmpfs_mount, "image": _image_mount,
}

_TMPFS_WORD = re.compile(
    r"(ro|rw|(no)?(exec|suid|dev|atime|diratime)|relatime|strictatime|a?sync|"
    r"(size|nr_inodes|nr_blocks|mode|uid|gid)=[0-9]+[kKmMgG%]?|mpol=[a-z0-9:,=-]+|r?(private|shared|slave))", re.ASCII
)


def tmpfs_options(text: str) -> list[str]:
    """The options of `--tmpfs /x:…`. Raises InvalidArgument naming the word that is none."""
    words = [word for word in text.split(",") if word]
    for word in words:
        if not _TMPFS_WORD.fullmatch(word):
            raise InvalidArgument(f'invalid tmpfs option "{word.partition("=")[0]}"')
    return words


def plan_mounts(
    config: Config, host: HostConfig, others: dict[str, ContainerRecord]
) -> list[MountPoint]:
    """All mounts by destination; `others` are the containers VolumesFrom names. Raises InvalidArgument."""
    points: dict[str, MountPoint] = {}
    for entry in host.volumes_from or ():
        name, _, mode = entry.partition(":")
        if mode not in ("", "ro", "rw", "z", "Z", "nocopy"):
            raise InvalidArgument(f"invalid mode: {mode}")
        for point in others[name].mounts:
            points[point.destination] = MountPoint(
                type=point.type, name=point.name, source=point.source, destination=point.destination,
                driver=point.driver, mode=mode, rw=point.rw and mode != "ro", propagation=point.propagation,
                options=point.options, no_copy=point.no_copy, non_recursive=point.non_recursive, subpath=point.subpath,
            )
    for path in host.tmpfs or {}:
        if not path.startswith("/"):
            raise InvalidArgument(f"invalid mount path: '{path}' mount path must be absolute")
    tmpfs = {clean_target(path, path) for path in host.tmpfs or {}}
    for text in (host.tmpfs or {}).values():
        tmpfs_options(text)
    driver = host.volume_driver or "local"
    asked = [parse_bind(specification, driver) for specification in host.binds or ()]
    asked += [parse_mount(mount) for mount in host.mounts or ()]
    seen: set[str] = set()
    for point in asked:
        if point.destination in seen or point.destination in tmpfs:
            raise InvalidArgument(f"Duplicate mount point: {point.destination}")
        seen.add(point.destination)
        points[point.destination] = point
    for path in config.volumes or {}:
        target = clean_target(path, path)
        if target not in points and target not in tmpfs:
            points[target] = MountPoint(type="volume", destination=target, driver=driver, anonymous=True)
    return list(points.values())
