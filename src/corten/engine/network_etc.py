"""hosts, hostname and resolv.conf of a container, written into its folder; the container's init binds them."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Sequence
from typing import TYPE_CHECKING

from corten.base.files import read_bytes
from corten.engine import links
from corten.engine.endpoint_addresses import addresses_of
from corten.engine.endpoint_ports import uplink
from corten.engine.records import ContainerRecord, EndpointConfig
from corten.network import etc_files

if TYPE_CHECKING:
    from corten.engine.networks import Networks


def folder(networks: Networks, record: ContainerRecord) -> str:
    """Where the files are: with `container:X` they are X's. Raises NotFound, Conflict."""
    if record.host_config.network_mode.startswith("container:"):
        return networks.layout.container(networks.joined(record).id)
    return networks.layout.container(record.id)


def write(networks: Networks, record: ContainerRecord) -> None:
    """Write all three for a start, in place (a mount of the old file shows the new text). Raises OSError."""
    mode = record.host_config.network_mode
    if mode.startswith("container:"):
        return
    where = networks.layout.container(record.id)
    name = record.config.hostname
    if record.config.domainname:
        name = f"{name}.{record.config.domainname}"
    _overwrite(f"{where}/hostname", f"{name}\n")
    _overwrite(f"{where}/hosts", _host_file(networks, record) if mode == "host" else _hosts_text(networks, record))
    _write_resolv_conf(networks, record)


def update(networks: Networks, record: ContainerRecord, gone: EndpointConfig | None = None) -> None:
    """After a change of a running container's networks; what a user wrote into the files stays. Raises OSError."""
    where = networks.layout.container(record.id)
    text = _read(f"{where}/hosts") or ""
    lines = etc_files.own_lines(addresses(gone), _names(record)) if gone else []
    _overwrite(f"{where}/hosts", etc_files.edited_hosts(text, lines, _own_lines(record)))
    there = _read(f"{where}/resolv.conf") or ""
    if _digest(there) == record.network_settings.resolv_conf_digest:
        _write_resolv_conf(networks, record)


def relink(networks: Networks, record: ContainerRecord) -> None:
    """A container it has links to has another address. Raises OSError."""
    path = f"{networks.layout.container(record.id)}/hosts"
    text = _read(path) or ""
    new = [(names, f"{address}\t{names}\n") for names, address in links.hosts_entries(networks, record)]
    gone = [line for line in text.splitlines(keepends=True) for names, fresh in new
            if line.partition("\t")[2] == f"{names}\n" and line != fresh]
    _overwrite(path, etc_files.edited_hosts(text, gone, [fresh for _, fresh in new]))


def unlink(networks: Networks, record: ContainerRecord, gone: Sequence[tuple[str, str]]) -> None:
    """Links of it, (names, address) each, have been removed. Raises OSError."""
    path = f"{networks.layout.container(record.id)}/hosts"
    text = _read(path)
    if text is not None:
        _overwrite(path, etc_files.edited_hosts(text, [f"{address}\t{names}\n" for names, address in gone], []))


def _write_resolv_conf(networks: Networks, record: ContainerRecord) -> None:
    host, where = record.host_config, networks.layout.container(record.id)
    kind = etc_files.LEGACY
    if host.network_mode == "host":
        kind = etc_files.HOST
    elif any((network := networks.named().get(name)) and network.names for name in record.networking):
        kind = etc_files.INTERNAL
    found = _host_resolvers(stub=kind != etc_files.LEGACY)
    servers, search, options = _given(networks, record)
    six = any(endpoint.global_ipv6_address for endpoint in record.networking.values())
    text = etc_files.resolv_conf(found, servers, search, options, kind, ipv6=six)
    if kind == etc_files.HOST and not (servers or search or options):
        text = _read(etc_files.RESOLV_CONF) or text
    _overwrite(f"{where}/resolv.conf", text)
    record.network_settings.resolv_conf_digest = _digest(text)


def _given(networks: Networks, record: ContainerRecord) -> tuple[list[str], list[str], list[str]]:
    """Name servers, search domains and options of the container, else those of the daemon."""
    host, settings = record.host_config, networks.config
    return (host.dns or settings.dns, host.dns_search or settings.dns_search, host.dns_options or settings.dns_options)


def _host_resolvers(*, stub: bool) -> etc_files.Resolvers:
    """The host's; with `stub` a local one (127.0.0.53) as it is, else the servers behind it."""
    read = [_read(etc_files.RESOLV_CONF), None if stub else _read(etc_files.RESOLVED_CONF)]
    return etc_files.host_resolvers(read)


def asked_outside(networks: Networks, record: ContainerRecord) -> tuple[list[tuple[str, bool]], bool]:
    """(servers the resolver asks for a container, whether names without a dot stay inside)."""
    servers, _, options = _given(networks, record)
    found = _host_resolvers(stub=True)
    return etc_files.outside_servers(found, servers), etc_files.has_ndots(options or found.options)


def addresses(endpoint: EndpointConfig) -> list[str]:
    """The addresses an endpoint has."""
    return [str(interface.ip) for interface in addresses_of(endpoint).values()]


def _names(record: ContainerRecord) -> str:
    config = record.config
    return f"{config.hostname}.{config.domainname} {config.hostname}" if config.domainname else config.hostname


def _own_lines(record: ContainerRecord) -> list[str]:
    own = [address for endpoint in record.networking.values() for address in addresses(endpoint)]
    return etc_files.own_lines(own, _names(record))


def _hosts_text(networks: Networks, record: ContainerRecord) -> str:
    """The hosts file of a container with its own namespace."""
    extra = [*_extra(networks, record), *links.hosts_entries(networks, record)]
    return etc_files.hosts(extra, [], "") + "".join(_own_lines(record))


def _extra(networks: Networks, record: ContainerRecord) -> list[tuple[str, str]]:
    route = uplink(networks, record) or "bridge"
    network = networks.named().get(route)
    gateways = networks.config.host_gateways or (network.source_addresses if network else [])
    return etc_files.parse_extra_hosts(record.host_config.extra_hosts or (), gateways)


def _host_file(networks: Networks, record: ContainerRecord) -> str:
    """The host's own hosts file, with what `--add-host` adds."""
    text = _read("/etc/hosts") or ""
    return etc_files.edited_hosts(text, [], [f"{address}\t{name}\n" for name, address in _extra(networks, record)])


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


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
