"""hosts, hostname and resolv.conf of a container, written into its folder; the container's init binds them."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from corten.base.files import read_bytes
from corten.engine.endpoint_addresses import addresses_of
from corten.engine.endpoint_ports import uplink
from corten.engine.records import ContainerRecord
from corten.network import etc_files

if TYPE_CHECKING:
    from corten.engine.networks import Networks

FILES = ("hosts", "hostname", "resolv.conf")


def folder(networks: Networks, record: ContainerRecord) -> str:
    """Where the files are: with `container:X` they are X's. Raises NotFound, Conflict."""
    if record.host_config.network_mode.startswith("container:"):
        return networks.layout.container(networks.joined(record).id)
    return networks.layout.container(record.id)


def write(networks: Networks, record: ContainerRecord) -> None:
    """Write all three, in place (a mount of the old file goes on showing the new text). Raises OSError."""
    mode = record.host_config.network_mode
    if mode.startswith("container:"):
        return
    where = networks.layout.container(record.id)
    name = record.config.hostname
    if record.config.domainname:
        name = f"{name}.{record.config.domainname}"
    _overwrite(f"{where}/hostname", f"{name}\n")
    _overwrite(f"{where}/hosts", _host_file(networks, record) if mode == "host" else hosts_text(networks, record))
    host = record.host_config
    resolvers = etc_files.host_resolvers([_read(etc_files.RESOLV_CONF), _read(etc_files.RESOLVED_CONF)])
    _overwrite(f"{where}/resolv.conf", etc_files.resolv_conf(
        resolvers, host.dns, host.dns_search, host.dns_options, own_network=mode != "host",
    ))


def hosts_text(networks: Networks, record: ContainerRecord) -> str:
    """The hosts file of a container with its own namespace."""
    config = record.config
    names = f"{config.hostname}.{config.domainname} {config.hostname}" if config.domainname else config.hostname
    addresses = [
        str(interface.ip) for endpoint in record.networking.values() for interface in addresses_of(endpoint).values()
    ]
    return etc_files.hosts(_extra(networks, record), addresses, names)


def _extra(networks: Networks, record: ContainerRecord) -> list[tuple[str, str]]:
    route = uplink(networks, record) or "bridge"
    gateway = networks.get(route).source_address
    return etc_files.parse_extra_hosts(record.host_config.extra_hosts or (), gateway)


def _host_file(networks: Networks, record: ContainerRecord) -> str:
    """The host's own hosts file, with what `--add-host` adds."""
    text = _read("/etc/hosts") or ""
    if text and not text.endswith("\n"):
        text += "\n"
    return text + "".join(f"{address}\t{name}\n" for name, address in _extra(networks, record))


def append_hosts(networks: Networks, record: ContainerRecord) -> None:
    """After a change of a running container's networks: its own addresses anew. Raises OSError."""
    _overwrite(f"{networks.layout.container(record.id)}/hosts", hosts_text(networks, record))


def _read(path: str) -> str | None:
    try:
        return read_bytes(path).decode(errors="replace")
    except OSError:
        return None


def _overwrite(path: str, text: str) -> None:
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC | os.O_NOFOLLOW, 0o644)
    try:
        if os.fstat(descriptor).st_mode & 0o777 != 0o644:  # the umask took bits away
            os.fchmod(descriptor, 0o644)
        os.write(descriptor, text.encode())
    finally:
        os.close(descriptor)
