"""Published ports: what `-p` and `-P` ask for, and the reserving of host ports against all who might hold them.

A reserved port is held by a socket that is bound and never listens: no other process of the host can take it, `ss`
shows who has it, and not a packet goes through it (nf_tables translates before). When the daemon dies the kernel's
rules stay; the sockets are bound again when it is back.
"""

import errno
import os
import socket
from collections.abc import Callable, Mapping, Sequence
from ipaddress import IPv4Address

from corten.base.errors import Internal, InvalidArgument, Unsupported
from corten.base.units import parse_number
from corten.network.ruleset import ANY, PROTOCOLS

EPHEMERAL = (32768, 60999)

Taken = Callable[[str, int], Sequence[str]]  # (protocol, port) -> host addresses that have it leased


class PortTaken(Internal):
    """A host port cannot be had; the text is docker's, without the endpoint it is for."""


class Request:
    """One container port to publish. Host ports `first`-`last` are tried in turn; 0-0 is any free one."""

    __slots__ = ("container_port", "first", "host", "last", "protocol")

    def __init__(self, protocol: str, container_port: int, host: IPv4Address, first: int, last: int) -> None:
        self.protocol = protocol
        self.container_port = container_port
        self.host = host
        self.first = first
        self.last = last


class Held:
    """A host port reserved for a container port; `close` lets go of it."""

    __slots__ = ("container_port", "host", "port", "protocol", "socket")

    def __init__(self, request: Request, port: int, holder: socket.socket | None) -> None:
        self.protocol = request.protocol
        self.container_port = request.container_port
        self.host = request.host
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
    default_host: IPv4Address = ANY,
) -> list[Request]:
    """What a container asks to publish; `bindings` are container port -> (host address, host port) pairs.

    Fixed ports come first, so that no ephemeral one is given a number that another asks for.
    Raises InvalidArgument, Unsupported (IPv6 host addresses).
    """
    found: list[Request] = []
    bound = set()
    for text, pairs in bindings.items():
        first, last, protocol = parse_port(text)
        if last != first:
            raise InvalidArgument(f"invalid containerPort: {text}")
        for host_text, port_text in pairs or ([("", "")] if publish_all else []):
            low, high = parse_range(port_text, "hostPort")
            found.append(Request(protocol, first, _host(host_text, default_host), low, high))
            bound.add((first, protocol))
    if publish_all:
        for port, protocol in exposed_ports(exposed, {}):
            if (port, protocol) not in bound:
                found.append(Request(protocol, port, default_host, 0, 0))
    return sorted(found, key=lambda request: (request.first == 0, request.last - request.first))


def _host(text: str, default: IPv4Address) -> IPv4Address:
    if not text:
        return default
    if ":" in text:
        raise Unsupported(f"publishing on the IPv6 address {text} is not done yet")
    try:
        return IPv4Address(text)
    except ValueError:
        raise InvalidArgument(f"invalid hostIP: {text}") from None


class Reserver:
    """Finds and holds host ports in the network namespace of the caller. `taken` tells the leases of this daemon."""

    def __init__(self, taken: Taken) -> None:
        self._taken = taken
        self._next = EPHEMERAL[0]

    def reserve(self, wanted: Sequence[Request], address: IPv4Address) -> list[Held]:
        """Hold a host port for each request (`address` is the container's, for the text), or none of them.

        Raises PortTaken with docker's text.
        """
        held: list[Held] = []
        try:
            for request in wanted:
                held.append(self._one(request, address, held))
        except BaseException:
            for each in held:
                each.close()
            raise
        return held

    def _one(self, request: Request, address: IPv4Address, held: Sequence[Held]) -> Held:
        failure: PortTaken | None = None
        for port in self._candidates(request):
            holder = self._leased(request, port, held)
            if holder is not None:
                failure = PortTaken(f"Bind for {holder}:{port} failed: port is already allocated")
                continue
            try:
                found = Held(request, port, bind(request.protocol, request.host, port))
            except OSError as error:
                failure = PortTaken(
                    f"failed to bind host port for {request.host}:{port}:{address}:{request.container_port}/"
                    f"{request.protocol}: {_words(error)}"
                )
                if error.errno == errno.EADDRINUSE:
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
        for holder in holders:
            if request.host == ANY or holder in (str(request.host), str(ANY)):
                return holder
        return None


def _words(error: OSError) -> str:
    """The error as docker words it."""
    known = {errno.EADDRINUSE: "address already in use", errno.EADDRNOTAVAIL: "cannot assign requested address",
             errno.EACCES: "permission denied"}
    return known.get(error.errno or 0) or os.strerror(error.errno or 0).lower()


def bind(protocol: str, host: IPv4Address, port: int) -> socket.socket:
    """A socket that holds a port and receives nothing: bound, not listening. Raises OSError."""
    kind = socket.SOCK_DGRAM if protocol == "udp" else socket.SOCK_STREAM
    holder = socket.socket(socket.AF_INET, kind | socket.SOCK_CLOEXEC | socket.SOCK_NONBLOCK, PROTOCOLS[protocol])
    try:
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
