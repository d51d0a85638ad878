"""Addresses: which subnet a new network gets, which address a new endpoint gets. Pure; leases are kept elsewhere.

IPv4 as yet. The default network looks for a /16 from 172.17.0.0 on, as docker does; other networks get a /24, so that
there are four thousand of them. Nothing that overlaps what the host routes already (a VPN's ranges too) is chosen.
"""

from collections.abc import Collection, Iterable, Iterator
from ipaddress import AddressValueError, IPv4Address, IPv4Interface, IPv4Network, NetmaskValueError

from corten.base.errors import Forbidden, InvalidArgument, Unsupported

DEFAULT_POOLS = tuple(IPv4Network((f"172.{second}.0.0", 16)) for second in range(17, 32)) + tuple(
    IPv4Network((f"192.168.{third}.0", 20)) for third in range(0, 256, 16)
)
USER_POOLS = (IPv4Network("172.18.0.0/15"), IPv4Network("172.20.0.0/14"), IPv4Network("172.24.0.0/13"),
              IPv4Network("192.168.0.0/16"))
USER_PREFIX = 24


class PoolsExhausted(Forbidden):
    """No subnet is left."""


def default_subnet(taken: Collection[IPv4Network]) -> IPv4Network:
    """The first pool for the default network that overlaps nothing taken. Raises PoolsExhausted."""
    for pool in DEFAULT_POOLS:
        if not any(pool.overlaps(other) for other in taken):
            return pool
    return user_subnet(taken)


def user_subnet(taken: Collection[IPv4Network]) -> IPv4Network:
    """The first /24 for a user-defined network that overlaps nothing taken. Raises PoolsExhausted."""
    blocked = sorted({(int(other.network_address), int(other.broadcast_address)) for other in taken})
    size = 1 << (32 - USER_PREFIX)
    for pool in USER_POOLS:
        start, end = int(pool.network_address), int(pool.broadcast_address)
        while start + size - 1 <= end:
            after = next((last + 1 for first, last in blocked if first < start + size and last >= start), None)
            if after is None:
                return IPv4Network((start, USER_PREFIX))
            start = (after + size - 1) & ~(size - 1)
    raise PoolsExhausted("all predefined address pools have been fully subnetted")


def hosts(subnet: IPv4Network, within: IPv4Network | None = None) -> tuple[int, int]:
    """First and last address an endpoint may have, as numbers; the network's own and its broadcast are none."""
    first, last = int(subnet.network_address), int(subnet.broadcast_address)
    if subnet.prefixlen < 31:
        first, last = first + 1, last - 1
    if within is not None:
        first, last = max(first, int(within.network_address)), min(last, int(within.broadcast_address))
    return first, last


def candidates(
    subnet: IPv4Network, within: IPv4Network | None, after: int, reserved: Collection[int]
) -> Iterator[IPv4Address]:
    """Every address an endpoint may have, once each, from `after` on and round: a freed one rests longest.

    `within` is the range given to endpoints, `reserved` the gateway and the auxiliary addresses.
    """
    first, last = hosts(subnet, within)
    start = after + 1 if first <= after < last else first
    for number in range(start, last + 1):
        if number not in reserved:
            yield IPv4Address(number)
    for number in range(first, start):
        if number not in reserved:
            yield IPv4Address(number)


def gateway_of(subnet: IPv4Network, within: IPv4Network | None = None) -> IPv4Address:
    """The gateway of a network that names none: the first address of its range, else of the subnet."""
    return IPv4Address(hosts(subnet, within)[0])


def parse_subnet(text: str, what: str = "subnet") -> IPv4Network:
    """`10.1.0.0/16`; bits below the prefix are an error. Raises InvalidArgument, Unsupported (IPv6)."""
    if ":" in text:
        raise Unsupported(f"{what} {text}: IPv6 networks are not done yet")
    try:
        found = IPv4Network(text, strict=False)
    except (AddressValueError, NetmaskValueError, ValueError):
        raise InvalidArgument(f"invalid {what} {text}: invalid CIDR block notation") from None
    if "/" not in text:
        raise InvalidArgument(f"invalid {what} {text}: invalid CIDR block notation")
    given = text.partition("/")[0]
    if str(found.network_address) != given:
        raise InvalidArgument(f"invalid {what} {text}: it should be {found}")
    if found.prefixlen > 30:
        raise InvalidArgument(f"invalid {what} {text}: no address for a container is left")
    return found


def parse_address(text: str, what: str = "address") -> IPv4Address:
    """`10.1.0.5`. Raises InvalidArgument, Unsupported (IPv6)."""
    if ":" in text:
        raise Unsupported(f"{what} {text}: IPv6 is not done yet")
    try:
        return IPv4Address(text)
    except AddressValueError:
        raise InvalidArgument(f"invalid {what} {text!r}") from None


def parse_bridge_address(text: str) -> IPv4Interface:
    """`--bip`: the bridge's own address with its prefix, `10.1.0.1/16`. Raises InvalidArgument."""
    try:
        found = IPv4Interface(text)
    except (AddressValueError, NetmaskValueError, ValueError):
        raise InvalidArgument(f"invalid CIDR address: {text}") from None
    first, last = hosts(found.network)
    if "/" not in text or found.network.prefixlen > 30 or not first <= int(found.ip) <= last:
        raise InvalidArgument(f"invalid CIDR address: {text}")
    return found


def mac_of(address: IPv4Address) -> str:
    """The MAC address that belongs to an IPv4 address: who comes back with it is no stranger to neighbours' tables."""
    return "02:42:" + address.packed.hex(":")


def check_overlap(subnet: IPv4Network, others: Iterable[IPv4Network]) -> None:
    """Raises Forbidden with docker's text when `subnet` overlaps another network of ours."""
    if any(subnet.overlaps(other) for other in others):
        raise Forbidden("invalid pool request: Pool overlaps with other one on this address space")
