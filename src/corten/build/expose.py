"""EXPOSE's words: `[address:][host port:]port[-port][/protocol]`, of which the last port and the protocol count. Pure.

Source: the Dockerfile reference, "EXPOSE"; error texts are docker's.
"""

from __future__ import annotations

import ipaddress
import re

from corten.base.errors import InvalidArgument

_RANGE = re.compile(r"([0-9]{1,5})(?:-([0-9]{1,5}))?", re.ASCII)


class Port:
    """What one word says; `ports`: the container's, as numbers; the rest as written, "" where absent."""

    __slots__ = ("address", "host_port", "ports", "protocol")

    def __init__(self, address: str, host_port: str, ports: range, protocol: str) -> None:
        self.address, self.host_port, self.ports, self.protocol = address, host_port, ports, protocol

    @property
    def keys(self) -> list[str]:
        """As `ExposedPorts` has them: `8000/tcp` …"""
        return [f"{number}/{self.protocol.lower()}" for number in self.ports]


def read_port(text: str) -> Port:
    """Raises InvalidArgument."""
    *front, last = text.split(":")
    host_port = front.pop() if front else ""
    address = ":".join(front)
    body, _, protocol = last.partition("/")
    if not body:
        raise InvalidArgument(f'invalid port: "{text}": no port specified')
    if protocol.lower() not in ("", "tcp", "udp", "sctp"):
        raise InvalidArgument(f'invalid port: "{text}": invalid proto: {protocol}')
    ports = _numbers(body, f"Invalid containerPort: {body}")
    if address:
        try:
            ipaddress.ip_address(address[1:-1] if address.startswith("[") else address)
        except ValueError:
            raise InvalidArgument(f"Invalid ip address: {address}") from None
    if host_port:
        asked = _numbers(host_port, f"Invalid hostPort: {host_port}")
        if len(ports) > 1 and len(asked) != len(ports):
            raise InvalidArgument(f"Invalid ranges specified for container and host Ports: {body} and {host_port}")
    return Port(address, host_port, ports, protocol or "tcp")


def _numbers(text: str, problem: str) -> range:
    match = _RANGE.fullmatch(text)
    if not match:
        raise InvalidArgument(problem)
    first, last = int(match[1]), int(match[2] or match[1])
    if not first <= last <= 65535:
        raise InvalidArgument(problem)
    return range(first, last + 1)
