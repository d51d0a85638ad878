"""The local driver's options: a volume that is a folder of the host, or a file system of its own. Pure.

The engine makes no mounts on the host: `type=nfs`, `ext4`, `tmpfs` … are mounted in each container that uses the
volume. What a file system shares by its nature (a server, a device) is shared; a tmpfs is each container's own.
"""

from collections.abc import Mapping
from typing import NamedTuple

from corten.base.errors import InvalidArgument

_KNOWN = frozenset(("type", "o", "device", "size"))


class LocalMount(NamedTuple):
    """What a container mounts: a host folder (`kind` is "bind") or a file system from `device` with `options`."""

    kind: str
    device: str
    options: tuple[str, ...]


def check_options(name: str, options: Mapping[str, str]) -> None:
    """Whether the options go together. Raises InvalidArgument with docker's texts (volume/local of the daemon)."""
    for key in options:
        if key not in _KNOWN:
            raise InvalidArgument(f'create {name}: invalid option: "{key}"')
    if options.get("size"):
        raise InvalidArgument(f"create {name}: quota size requested but no quota support")
    given = [key for key in ("type", "device", "o") if options.get(key)]
    for key in ("device", "type"):
        if given and key not in given:
            raise InvalidArgument(f'create {name}: missing required option: "{key}"')
    for key in given:
        if "\0" in options[key]:
            raise InvalidArgument(f"create {name}: invalid text {options[key]!r}: it contains a NUL")
    found = local_mount(options)
    if found is not None and found.kind == "bind" and not found.device.startswith("/"):
        raise InvalidArgument(
            f"create {name}: the device of a bind volume must be an absolute path: {found.device!r}")


def local_mount(options: Mapping[str, str]) -> LocalMount | None:
    """What a volume with these options stands for; None for a plain one."""
    if not options.get("type"):
        return None
    words = tuple(filter(None, options.get("o", "").split(",")))
    if options["type"] in ("none", "bind") or {"bind", "rbind"} & {*words}:
        return LocalMount("bind", options["device"], tuple(word for word in words if word not in ("bind", "rbind")))
    return LocalMount(options["type"], options["device"], words)


def bound_folder(options: Mapping[str, str]) -> str:
    """The host folder a volume stands for; "" when it is a plain one or a file system of its own."""
    found = local_mount(options)
    return found.device if found is not None and found.kind == "bind" else ""
