"""Published ports: what `-p` and `-P` ask for, and the reserving of host ports against all who might hold them.

A reserved port is held by a socket that is bound and never listens: no other process of the host can take it, `ss`
shows who has it, and not a packet goes through it (nf_tables translates before). When the daemon dies the kernel's
rules stay; the sockets are bound again when it is back. A port for every address is one number for IPv4 and IPv6.
"""

import errno
import os
import socket
from collections.abc import Callable, Mapping, Sequence
from ipaddress import IPv6Address, ip_address

from corten.base.errors import Internal, InvalidArgument
from corten.base.units import parse_number
from corten.network.ruleset import ANY, ANY6, PROTOCOLS, Address

EPHEMERAL = (32768, 60999)

Taken = Callable[[str, int], Sequence[str]]  # (protocol, port) -> host addresses that have it leased


class PortTaken(Internal):
    """A host port cannot be had; the text is docker's, without the endpoint it is for."""


class Request:
    """One container port to publish on `hosts`. Ports `first`-`last` are tried in turn; 0-0 is any free one."""

    __slots__ = ("container_port", "first", "hosts", "last", "protocol")

    def __init__(self, protocol: str, container_port: int, hosts: Sequence[Address], first: int, last: int) -> None:
        self.protocol = protocol
        self.container_port = container_port
        self.hosts = tuple(hosts)
        self.first = first
        self.last = last


class Held:
    """A host port reserved for a container port; `close` lets go of it."""

    __slots__ = ("container_port", "host", "port", "protocol", "socket")

    def __init__(
        self, protocol: str, container_port: int, host: Address, port: int, holder: socket.socket | None
    ) -> None:
        self.protocol = protocol
        self.container_port = container_port
        self.host = host
        self.port = port
        self.socket = holder

    def close(self) -> None:
        if self.socket:
            self.socket.close()
            self.socket = None


def parse_port(text: str) -> tuple[int, int, str]:
    """`80/tcp`, `8000-8010/udp`, `80` -> (first, last, protocol). Raises InvalidArgument with docker's text."""
    numbers, _, protocol = text.partition("/")
    protocol = protocol.lower() or "tcp"
    if protocol not in PROTOCOLS:
        raise InvalidArgument(f"invalid proto: {protocol}")
    first, last = parse_range(numbers, "containerPort")
    if not first:
        raise InvalidArgument(f"invalid containerPort: {numbers}")
    return first, last, protocol


def parse_range(text: str, what: str) -> tuple[int, int]:
    """`80` -> (80, 80), `80-90` -> (80, 90), `` -> (0, 0). Raises InvalidArgument."""
    if not text:
        return 0, 0
    low, dash, high = text.partition("-")
    try:
        first = parse_number(low, what, 0, 65535)
        last = parse_number(high, what, 0, 65535) if dash else first
    except InvalidArgument:
        raise InvalidArgument(f"invalid {what}: {text}") from None
    if last < first:
        raise InvalidArgument(f"invalid {what}: {text}")
    return first, last


def exposed_ports(exposed: Mapping[str, object] | None, bindings: Mapping[str, object]) -> list[tuple[int, str]]:
    """Every (port, protocol) a container exposes or publishes, sorted. Raises InvalidArgument."""
    found: set[tuple[int, str]] = set()
    for text in (*(exposed or ()), *bindings):
        first, last, protocol = parse_port(text)
        found.update((port, protocol) for port in range(first, last + 1))
    return sorted(found, key=lambda entry: (entry[1], entry[0]))


def requests(
    exposed: Mapping[str, object] | None,
    bindings: Mapping[str, Sequence[tuple[str, str]]],
    publish_all: bool,
    default_hosts: Sequence[Address] = (ANY,),
) -> list[Request]:
    """What a container asks to publish; `bindings` are container port -> (host address, host port) pairs.

    `default_hosts` are those of a pair that names none. Fixed ports come first, so that no ephemeral one is given a
    number that another asks for. Raises InvalidArgument.
    """
    found: list[Request] = []
    bound = set()
    for text, pairs in bindings.items():
        first, last, protocol = parse_port(text)
        if last != first:
            raise InvalidArgument(f"invalid containerPort: {text}")
        for host_text, port_text in pairs or ([("", "")] if publish_all else []):
            low, high = parse_range(port_text, "hostPort")
            found.append(Request(protocol, first, _hosts(host_text, default_hosts), low, high))
            bound.add((first, protocol))
    if publish_all:
        for port, protocol in exposed_ports(exposed, {}):
            if (port, protocol) not in bound:
                found.append(Request(protocol, port, default_hosts, 0, 0))
    return sorted(found, key=lambda request: (request.first == 0, request.last - request.first))


def _hosts(text: str, default: Sequence[Address]) -> Sequence[Address]:
    if not text:
        return default
    try:
        found = ip_address(text.removeprefix("[").removesuffix("]"))
    except ValueError:
        raise InvalidArgument(f"invalid hostIP: {text}") from None
    if isinstance(found, IPv6Address) and (found.scope_id or found.ipv4_mapped):
        raise InvalidArgument(f"invalid hostIP: {text}")
    return (found,)


class Reserver:
    """Finds and holds host ports in the network namespace of the caller. `taken` tells the leases of this daemon."""

    def __init__(self, taken: Taken) -> None:
        self._taken = taken
        self._next = EPHEMERAL[0]

    def reserve(self, wanted: Sequence[Request], container: Mapping[int, Address]) -> list[Held]:
        """Hold a host port for each request, or none of them. `container`: its address by IP version, for the text.

        Raises PortTaken with docker's text.
        """
        held: list[Held] = []
        try:
            for request in wanted:
                held += self._one(request, container, held)
        except BaseException:
            for each in held:
                each.close()
            raise
        return held

    def _one(self, request: Request, container: Mapping[int, Address], held: Sequence[Held]) -> list[Held]:
        failure: PortTaken | None = None
        for port in self._candidates(request):
            holder = self._leased(request, port, held)
            if holder is not None:
                failure = PortTaken(f"Bind for {_bracketed(holder)}:{port} failed: port is already allocated")
                continue
            try:
                found = _hold(request, port, container)
            except _Busy as busy:
                failure = PortTaken(str(busy))
                if busy.errno == errno.EADDRINUSE:
                    continue
                raise failure from None
            if not request.first:
                self._next = port + 1 if port < EPHEMERAL[1] else EPHEMERAL[0]
            return found
        raise failure or PortTaken(f"no available {request.protocol} ports in range {EPHEMERAL[0]}-{EPHEMERAL[1]}")

    def _candidates(self, request: Request) -> Sequence[int]:
        if request.first:
            return range(request.first, request.last + 1)
        low, high = EPHEMERAL
        return (*range(self._next, high + 1), *range(low, self._next))

    def _leased(self, request: Request, port: int, held: Sequence[Held]) -> str | None:
        """The address by which someone of ours has the port already."""
        holders = [*self._taken(request.protocol, port)]
        holders += [str(each.host) for each in held if each.port == port and each.protocol == request.protocol]
        for host in request.hosts:
            for holder in holders:
                six = ":" in holder
                if six == (host.version == 6) and (host in (ANY, ANY6) or holder in (str(host), str(ANY), str(ANY6))):
                    return holder
        return None


class _Busy(Exception):
    """A port that cannot be bound, as docker tells it."""

    def __init__(self, text: str, number: int) -> None:
        super().__init__(text)
        self.errno = number


def _hold(request: Request, port: int, container: Mapping[int, Address]) -> list[Held]:
    """One number on every host address asked for, or on none. Raises _Busy."""
    held: list[Held] = []
    for host in request.hosts:
        try:
            holder = bind(request.protocol, host, port)
        except OSError as error:
            if host == ANY6 and len(request.hosts) > 1 and error.errno in _NO_IPV6:
                continue  # nobody asked for IPv6 by name, and this host has none
            for each in held:
                each.close()
            target = f"{_bracketed(str(container.get(host.version, '')))}:{request.container_port}"
            text = f"failed to bind host port for {_bracketed(str(host))}:{port}:{target}/{request.protocol}: "
            raise _Busy(text + _words(error), error.errno or 0) from None
        held.append(Held(request.protocol, request.container_port, host, port, holder))
    return held


_NO_IPV6 = (errno.EAFNOSUPPORT, errno.EADDRNOTAVAIL)


def _bracketed(address: str) -> str:
    return f"[{address}]" if ":" in address else address


def _words(error: OSError) -> str:
    """The error as docker words it."""
    known = {errno.EADDRINUSE: "address already in use", errno.EADDRNOTAVAIL: "cannot assign requested address",
             errno.EACCES: "permission denied"}
    return known.get(error.errno or 0) or os.strerror(error.errno or 0).lower()


def bind(protocol: str, host: Address, port: int) -> socket.socket | None:
    """A socket that holds a port and receives nothing: bound, not listening. Raises OSError.

    None for SCTP on a kernel that does not speak it: nobody on this host can take the port then.
    """
    kind = socket.SOCK_DGRAM if protocol == "udp" else socket.SOCK_STREAM
    family = socket.AF_INET if host.version == 4 else socket.AF_INET6
    try:
        holder = socket.socket(family, kind | socket.SOCK_CLOEXEC | socket.SOCK_NONBLOCK, PROTOCOLS[protocol])
    except OSError as error:
        if protocol == "sctp" and error.errno in (errno.EPROTONOSUPPORT, errno.ESOCKTNOSUPPORT):
            return None
        raise
    try:
        if host.version == 6:
            holder.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        if protocol == "tcp":  # connections of the last holder that linger in TIME_WAIT are no reason to refuse
            holder.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if protocol == "udp":
            holder.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1)
        holder.bind((str(host), port))
        if protocol == "tcp":  # from now on nobody may bind beside it
            holder.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 0)
    except BaseException:
        holder.close()
        raise
    return holder
