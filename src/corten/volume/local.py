"""The local driver's options: a volume that is another folder of the host. Pure.

Done: `type=none` (or `bind`) with `o=bind` and a `device` that is an absolute path. Other types (tmpfs, nfs, block
devices) and other mount options are Unsupported: the engine makes no mounts on the host.
"""

from collections.abc import Mapping

from corten.base.errors import InvalidArgument, Unsupported

_KNOWN = frozenset(("type", "o", "device", "size"))


def bound_folder(name: str, options: Mapping[str, str]) -> str:
    """The host folder a volume with these options stands for; "" for a plain volume.

    Raises InvalidArgument with docker's texts, Unsupported.
    """
    for key in options:
        if key not in _KNOWN:
            raise InvalidArgument(f'create {name}: invalid option: "{key}"')
    if not options:
        return ""
    if options.get("size"):
        raise Unsupported(f"create {name}: the volume option size is not supported")
    for key in ("type", "device"):
        if not options.get(key):
            raise InvalidArgument(f'create {name}: missing required option: "{key}"')
    kind, words = options["type"], set(filter(None, options.get("o", "").split(",")))
    if kind not in ("none", "bind") or not words & {"bind", "rbind"}:
        raise Unsupported(f"create {name}: volumes of type {kind} (o={options.get('o', '')}) are not supported")
    left = words - {"bind", "rbind", "rw"}
    if left:
        raise Unsupported(f"create {name}: volume options are not supported: {', '.join(sorted(left))}")
    device = options["device"]
    if not device.startswith("/") or "\0" in device:
        raise InvalidArgument(f"create {name}: the device of a bind volume must be an absolute path: {device!r}")
    return device
