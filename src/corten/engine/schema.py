"""How records are spelled in JSON: attribute names are Docker's names in snake case. Data only."""

from typing import Any, get_args, get_origin, get_type_hints

import msgspec

_SPELLING = {
    "id": "ID", "network_id": "NetworkID", "endpoint_id": "EndpointID", "sandbox_id": "SandboxID",
    "container_id_file": "ContainerIDFile", "uts_mode": "UTSMode", "io_maximum_iops": "IOMaximumIOps",
    "io_maximum_bandwidth": "IOMaximumBandwidth", "blkio_device_read_iops": "BlkioDeviceReadIOps",
    "blkio_device_write_iops": "BlkioDeviceWriteIOps", "kernel_memory_tcp": "KernelMemoryTCP",
    "ipam_config": "IPAMConfig", "ipv4_address": "IPv4Address", "ipv6_address": "IPv6Address",
    "link_local_ips": "LinkLocalIPs", "ip_address": "IPAddress", "ip_prefix_len": "IPPrefixLen",
    "ipv6_gateway": "IPv6Gateway", "global_ipv6_address": "GlobalIPv6Address",
    "global_ipv6_prefix_len": "GlobalIPv6PrefixLen", "dns_names": "DNSNames", "rw": "RW",
    "uid": "UID", "gid": "GID", "device_ids": "DeviceIDs", "oom_killed": "OOMKilled",
}


def docker_name(attribute: str) -> str:
    """`cpu_shares` -> `CpuShares`, with Docker's own capitals where it has them."""
    return _SPELLING.get(attribute) or "".join(word[:1].upper() + word[1:] for word in attribute.split("_"))


class Schema(msgspec.Struct, rename=docker_name, kw_only=True):
    """Base of every record: keyword-only, spelled in JSON as Docker spells it."""


# --- Go's ways with names

_Shape = tuple[frozenset[str], dict[str, str], dict[str, Any]]
_shapes: dict[type[Schema], _Shape] = {}


def _is_record(hint: Any) -> bool:
    return isinstance(hint, type) and issubclass(hint, Schema)


def _holds_records(hint: Any) -> bool:
    return _is_record(hint) or any(_holds_records(part) for part in get_args(hint))


def _shape(kind: type[Schema]) -> _Shape:
    """(the names, by lower case, type of each member that holds records)."""
    found = _shapes.get(kind)
    if found is None:
        hints = get_type_hints(kind)
        names = dict(zip(kind.__struct_fields__, kind.__struct_encode_fields__, strict=True))
        nested = {names[field]: hints[field] for field in names if _holds_records(hints[field])}
        found = _shapes[kind] = frozenset(names.values()), {name.lower(): name for name in names.values()}, nested
    return found


def spelled(value: Any, kind: type[Schema]) -> Any:
    """Member names of a request in the spelling of `kind`: Go takes `detachKeys` for `DetachKeys`; exact ones win."""
    if not isinstance(value, dict):
        return value
    exact, lower, nested = _shape(kind)
    if not exact.issuperset(value):
        renamed = {lower.get(name.lower(), name): inner for name, inner in value.items() if name not in exact}
        value = {**renamed, **{name: inner for name, inner in value.items() if name in exact}}
    for name, hint in nested.items():
        if name in value:
            value[name] = _spelled_within(value[name], hint)
    return value


def _spelled_within(value: Any, hint: Any) -> Any:
    if _is_record(hint):
        return spelled(value, hint)
    for part in get_args(hint):
        if not _holds_records(part):
            continue
        if get_origin(hint) is list:
            return [_spelled_within(item, part) for item in value] if isinstance(value, list) else value
        if get_origin(hint) is dict:
            return {key: _spelled_within(item, part) for key, item in value.items()} if isinstance(
                value, dict) else value
        return _spelled_within(value, part)
    return value
