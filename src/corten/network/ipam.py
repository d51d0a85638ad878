"""Addresses: which subnet a new network gets, which address a new endpoint gets. Pure; leases are kept elsewhere.

The default network looks for a /16 from 172.17.0.0 on, as docker does; other networks get a /24, so that there are four
thousand of them. Nothing that overlaps what the host routes already (a VPN's ranges too) is chosen. IPv6 networks that
name no subnet get a /64 of a unique local prefix of this host's own (RFC 4193).
"""

import hashlib
from collections.abc import Collection, Iterable, Iterator, Sequence
from ipaddress import (
    AddressValueError,
    IPv4Address,
    IPv4Interface,
    IPv4Network,
    IPv6Address,
    IPv6Interface,
    IPv6Network,
    NetmaskValueError,
    ip_address,
    ip_network,
)

from corten.base.errors import Forbidden, InvalidArgument
from corten.base.units import parse_number

Address = IPv4Address | IPv6Address
Network = IPv4Network | IPv6Network

DEFAULT_POOLS = tuple(IPv4Network((f"172.{second}.0.0", 16)) for second in range(17, 32)) + tuple(
    IPv4Network((f"192.168.{third}.0", 20)) for third in range(0, 256, 16)
)
USER_PREFIX = 24
ROUTER_NAMES = {4: "DefaultGatewayIPv4", 6: "DefaultGatewayIPv6"}  # auxiliary addresses that are whom endpoints send to


class Pool:
    """A range that automatic networks are cut from: subnets of `base` with the prefix `size`."""

    __slots__ = ("base", "size")

    def __init__(self, base: Network, size: int) -> None:
        self.base, self.size = base, size


USER_POOLS = tuple(
    Pool(IPv4Network(base), USER_PREFIX)
    for base in ("172.18.0.0/15", "172.20.0.0/14", "172.24.0.0/13", "192.168.0.0/16")
)


class PoolsExhausted(Forbidden):
    """No subnet is left."""


def parse_pool(text: str) -> Pool:
    """`--default-address-pool base=10.10.0.0/16,size=24`. Raises InvalidArgument."""
    given = dict.fromkeys(("base", "size"), "")
    for field in text.split(","):
        key, equals, value = field.partition("=")
        if not equals or key.strip().lower() not in given:
            raise InvalidArgument(f"invalid default-address-pool: unexpected key '{key}' in '{field}'")
        given[key.strip().lower()] = value.strip()
    try:
        base = ip_network(given["base"])
    except ValueError:
        raise InvalidArgument(f"invalid default-address-pool: invalid base {given['base']!r}") from None
    size = parse_number(given["size"], "default-address-pool size", 1, base.max_prefixlen - 1)
    if size < base.prefixlen:
        raise InvalidArgument(f"invalid default-address-pool: size {size} is larger than base {base}")
    return Pool(base, size)


def default_subnet(taken: Collection[Network], pools: Sequence[Pool] = ()) -> Network:
    """The first subnet for the default network that overlaps nothing taken, of `pools` if they are given.

    Raises PoolsExhausted.
    """
    for wide in DEFAULT_POOLS if not pools else ():
        if not any(overlap(wide, other) for other in taken):
            return wide
    return user_subnet(taken, pools or USER_POOLS)


def user_subnet(taken: Collection[Network], pools: Sequence[Pool] = USER_POOLS, version: int = 4) -> Network:
    """The first subnet for a user-defined network that overlaps nothing taken. Raises PoolsExhausted."""
    for pool in pools:
        if pool.base.version == version:
            found = _first_free(pool, taken)
            if found:
                return found
    raise PoolsExhausted("all predefined address pools have been fully subnetted")


def _first_free(pool: Pool, taken: Collection[Network]) -> Network | None:
    blocked = sorted(
        (int(net.network_address), int(net.broadcast_address)) for net in taken if net.version == pool.base.version
    )
    kind = IPv4Network if pool.base.version == 4 else IPv6Network
    size = 1 << (pool.base.max_prefixlen - pool.size)
    start, end = int(pool.base.network_address), int(pool.base.broadcast_address)
    while start + size - 1 <= end:
        after = next((last + 1 for first, last in blocked if first < start + size and last >= start), None)
        if after is None:
            return kind((start, pool.size))
        start = (after + size - 1) & ~(size - 1)
    return None


def unique_local_subnet(seed: str, taken: Collection[IPv6Network]) -> IPv6Network:
    """The first free /64 of fdXX:XXXX:XXXX::/48, whose 40 bits follow from `seed`. Raises PoolsExhausted.

    When something routes all of that /48 the next one that follows from `seed` is taken.
    """
    blocked = {int(net.network_address) for net in taken if net.prefixlen == 64}
    for attempt in range(_PREFIXES):
        prefix = b"\xfd" + hashlib.sha256(f"corten{attempt}{seed}".encode()).digest()[:5]
        ours = IPv6Network((prefix + bytes(10), 48))
        wide = [net for net in taken if net.prefixlen != 64 and net.overlaps(ours)]
        if any(net.prefixlen <= 48 for net in wide):
            continue
        for number in range(1 << 16):
            found = IPv6Network((prefix + number.to_bytes(2, "big") + bytes(8), 64))
            if int(found.network_address) not in blocked and not any(found.overlaps(other) for other in wide):
                return found
    raise PoolsExhausted("all predefined address pools have been fully subnetted")


_PREFIXES = 16


def hosts(subnet: Network, within: Network | None = None) -> tuple[int, int]:
    """First and last address an endpoint may have, as numbers.

    An IPv4 network's own address and its broadcast are none, nor is the routers' anycast address of IPv6 (RFC 4291).
    """
    first, last = int(subnet.network_address), int(subnet.broadcast_address)
    if subnet.prefixlen < subnet.max_prefixlen - 1:
        first, last = first + 1, last - (subnet.version == 4)
    if within is not None:
        first, last = max(first, int(within.network_address)), min(last, int(within.broadcast_address))
    return first, last


def candidates(
    subnet: Network, within: Network | None, after: int, reserved: Collection[int]
) -> Iterator[Address]:
    """Every address an endpoint may have, once each, from `after` on and round: a freed one rests longest.

    `within` is the range given to endpoints, `reserved` the gateway and the auxiliary addresses.
    """
    first, last = hosts(subnet, within)
    kind = type(subnet.network_address)
    start = after + 1 if first <= after < last else first
    for number in range(start, last + 1):
        if number not in reserved:
            yield kind(number)
    for number in range(first, start):
        if number not in reserved:
            yield kind(number)


def gateway_of(subnet: Network, within: Network | None = None) -> Address:
    """The gateway of a network that names none: the first address of its range, else of the subnet."""
    return type(subnet.network_address)(hosts(subnet, within)[0])


def parse_subnet(text: str, what: str = "subnet") -> Network:
    """`10.1.0.0/16`, `fd00:1::/64`; bits below the prefix are an error. Raises InvalidArgument."""
    try:
        found = ip_network(text, strict=False)
    except (AddressValueError, NetmaskValueError, ValueError):
        raise InvalidArgument(f"invalid {what} {text}: invalid CIDR block notation") from None
    given, slash, _ = text.partition("/")
    if not slash or "%" in text:
        raise InvalidArgument(f"invalid {what} {text}: invalid CIDR block notation")
    if ip_address(given) != found.network_address:
        raise InvalidArgument(f"invalid {what} {text}: it should be {found}")
    if found.prefixlen > found.max_prefixlen - 2:
        raise InvalidArgument(f"invalid {what} {text}: no address for a container is left")
    return found


def parse_address(text: str, what: str = "address") -> Address:
    """`10.1.0.5`, `fd00:1::5`. Raises InvalidArgument."""
    try:
        found = ip_address(text)
    except ValueError:
        raise InvalidArgument(f"invalid {what} {text!r}") from None
    if isinstance(found, IPv6Address) and found.scope_id:
        raise InvalidArgument(f"invalid {what} {text!r}")
    return found


def parse_bridge_address(text: str, version: int = 4) -> IPv4Interface | IPv6Interface:
    """`--bip`: the bridge's own address with its prefix, `10.1.0.1/16`. Raises InvalidArgument."""
    try:
        found = IPv4Interface(text) if version == 4 else IPv6Interface(text)
    except (AddressValueError, NetmaskValueError, ValueError):
        raise InvalidArgument(f"invalid CIDR address: {text}") from None
    first, last = hosts(found.network)
    narrow = found.network.prefixlen > found.max_prefixlen - 2
    if "/" not in text or "%" in text or narrow or not first <= int(found.ip) <= last:
        raise InvalidArgument(f"invalid CIDR address: {text}")
    return found


def mac_of(address: Address) -> str:
    """The MAC address that belongs to an address: who comes back with it is no stranger to neighbours' tables."""
    return "02:42:" + address.packed[-4:].hex(":")


def check_overlap(subnet: Network, others: Iterable[Network]) -> None:
    """Raises Forbidden with docker's text when `subnet` overlaps another network of ours."""
    if any(overlap(subnet, other) for other in others):
        raise Forbidden("invalid pool request: Pool overlaps with other one on this address space")


def contains(outer: Network, inner: Network) -> bool:
    """Whether all of `inner` is in `outer`."""
    return inner.version == outer.version and inner.network_address in outer and inner.broadcast_address in outer


def overlap(one: Network, other: Network) -> bool:
    """Whether they share an address."""
    first, last = int(other.network_address), int(other.broadcast_address)
    return one.version == other.version and int(one.network_address) <= last and first <= int(one.broadcast_address)
