"""How records are spelled in JSON: attribute names are Docker's names in snake case. Data only."""

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
