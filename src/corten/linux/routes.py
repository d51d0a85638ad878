"""The routes of a network namespace, as rtnetlink tells them. Source: rtnetlink(7), linux/rtnetlink.h."""

import socket
import struct
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network

from corten.linux.netlink import (
    ROUTE,
    RT_TABLE_MAIN,
    RTA_DST,
    RTA_GATEWAY,
    RTA_OIF,
    RTM_GETROUTE,
    RTN_UNICAST,
    Address,
    Network,
    Socket,
    attributes,
)


class Route:
    """A route of the main table: `index` is the link, `gateway` None for one that needs none; prefix 0: the default."""

    __slots__ = ("destination", "gateway", "index")

    def __init__(self, destination: Network, gateway: Address | None, index: int) -> None:
        self.destination = destination
        self.gateway = gateway
        self.index = index


def routes(inside: Socket) -> list[Route]:
    """Every unicast route of the main table, both families. Raises NetlinkError."""
    found: list[Route] = []
    for _, body in inside.dump(RTM_GETROUTE, ROUTE.pack(0, 0, 0, 0, 0, 0, 0, 0, 0)):
        family, prefix, _, _, table, _, _, kind, _ = ROUTE.unpack_from(body)
        if table != RT_TABLE_MAIN or kind != RTN_UNICAST:
            continue
        parts = attributes(body, ROUTE.size)
        index = struct.unpack("=I", parts[RTA_OIF])[0] if RTA_OIF in parts else 0
        gateway = parts.get(RTA_GATEWAY)
        if family == socket.AF_INET:
            to = IPv4Network((parts.get(RTA_DST, bytes(4)), prefix))
            found.append(Route(to, IPv4Address(gateway) if gateway else None, index))
        elif family == socket.AF_INET6:
            to6 = IPv6Network((parts.get(RTA_DST, bytes(16)), prefix))
            found.append(Route(to6, IPv6Address(gateway) if gateway else None, index))
    return found
