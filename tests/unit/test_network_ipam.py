"""Subnets and addresses: properties that hold whatever the host routes and whatever was given out."""

from ipaddress import IPv4Address, IPv4Network, IPv6Network

import pytest
from hypothesis import given
from hypothesis import strategies as st

from corten.base.errors import Error, InvalidArgument
from corten.network import ipam

networks = st.builds(
    lambda address, prefix: IPv4Network((address, prefix), strict=False),
    st.one_of(
        st.integers(0, 2 ** 32 - 1),
        st.integers(int(IPv4Address("172.16.0.0")), int(IPv4Address("172.31.255.255"))),
        st.integers(int(IPv4Address("192.168.0.0")), int(IPv4Address("192.168.255.255"))),
    ),
    st.integers(8, 32),
)
small = st.builds(
    lambda address, prefix: IPv4Network((address, prefix), strict=False),
    st.integers(0x0A000000, 0x0AFFFFFF), st.integers(24, 30),
)


@given(st.lists(networks, max_size=30))
def test_a_chosen_subnet_overlaps_nothing_and_is_private(taken):
    for choose in (ipam.default_subnet, ipam.user_subnet):
        try:
            found = choose(taken)
        except ipam.PoolsExhausted:
            continue
        assert not any(found.overlaps(other) for other in taken)
        assert found.is_private


@given(st.lists(networks, max_size=20))
def test_user_subnet_gives_up_only_when_nothing_is_free(taken):
    try:
        assert ipam.user_subnet(taken).prefixlen == 24
    except ipam.PoolsExhausted:
        for pool in ipam.USER_POOLS:
            for subnet in pool.base.subnets(new_prefix=pool.size):
                assert any(subnet.overlaps(other) for other in taken)


@given(st.integers(8, 24), st.integers(0, 6), st.lists(networks, max_size=20))
def test_a_pool_of_the_operators_is_cut_to_the_size_asked_for(prefix, more, taken):
    base = IPv4Network(f"10.0.0.0/{prefix}")
    pool = ipam.parse_pool(f"base={base},size={prefix + more}")
    try:
        found = ipam.user_subnet(taken, [pool])
        assert found.prefixlen == prefix + more and found.subnet_of(base)
        assert not any(found.overlaps(other) for other in taken)
        assert ipam.default_subnet(taken, [pool]) == found
    except ipam.PoolsExhausted:
        assert all(any(subnet.overlaps(other) for other in taken) for subnet in base.subnets(new_prefix=prefix + more))


@pytest.mark.parametrize("text", ["", "base=10.0.0.0/8", "base=10.0.0.1/8,size=24", "base=x,size=24", "size=24", "base=10.0.0.0/16,size=8",
                                  "base=10.0.0.0/16,size=32", "base=10.0.0.0/16,size=x", "base=10.0.0.0/16,size=24,more=1"])
def test_pools_that_cannot_be(text):
    with pytest.raises(InvalidArgument):
        ipam.parse_pool(text)


def test_an_ipv6_pool_is_for_ipv6_networks():
    pools = [ipam.parse_pool("base=fd00:1::/48,size=64"), ipam.parse_pool("base=10.9.0.0/16,size=24")]
    assert str(ipam.user_subnet([], pools)) == "10.9.0.0/24"
    assert str(ipam.user_subnet([], pools, 6)) == "fd00:1::/64"


def test_thousands_of_networks_fit():
    taken = []
    for _ in range(300):
        found = ipam.user_subnet(taken)
        assert found not in taken
        taken.append(found)


@given(small, st.data())
def test_every_address_is_offered_once_beginning_after_the_last(subnet, data):
    first, last = ipam.hosts(subnet)
    after = data.draw(st.integers(first - 3, last + 3))
    reserved = data.draw(st.sets(st.integers(first, last), max_size=5))
    offered = [int(address) for address in ipam.candidates(subnet, None, after, reserved)]
    assert sorted(offered) == [number for number in range(first, last + 1) if number not in reserved]
    if first <= after < last and after + 1 not in reserved:
        assert offered[0] == after + 1
    assert int(subnet.network_address) not in offered
    assert int(subnet.broadcast_address) not in offered


def test_a_range_limits_what_is_given():
    subnet, within = IPv4Network("10.1.0.0/16"), IPv4Network("10.1.5.0/30")
    assert [str(a) for a in ipam.candidates(subnet, within, 0, {int(IPv4Address("10.1.5.1"))})] == [
        "10.1.5.0", "10.1.5.2", "10.1.5.3"]


@pytest.mark.parametrize(("text", "message"), [
    ("10.0.0.1/24", "invalid subnet 10.0.0.1/24: it should be 10.0.0.0/24"),
    ("10.0.0.0", "invalid CIDR block notation"), ("10.0.0.0/33", "invalid CIDR block notation"), ("x/8", "invalid CIDR block notation"),
    ("10.0.0.0/31", "no address for a container is left"), ("10.0.0.0/255.0.0.255", "invalid CIDR block notation"),
    ("١٠.0.0.0/8", "invalid CIDR block notation"),
])
def test_bad_subnets_are_named(text, message):
    with pytest.raises(InvalidArgument, match=message):
        ipam.parse_subnet(text)


def test_ipv6_subnets_and_their_addresses():
    subnet = ipam.parse_subnet("fd00:1::/64")
    assert str(ipam.gateway_of(subnet)) == "fd00:1::1"
    offered = ipam.candidates(subnet, None, 0, {int(ipam.gateway_of(subnet))})
    assert [str(next(offered)) for _ in range(2)] == ["fd00:1::2", "fd00:1::3"]
    for bad in ("fd00::1/64", "fd00::/127", "fd00::%eth0/64", "fe80::1%2"):
        with pytest.raises(InvalidArgument):
            ipam.parse_subnet(bad)
    with pytest.raises(InvalidArgument):
        ipam.parse_address("fe80::1%eth0")


@given(st.text(max_size=20), st.lists(st.builds(
    lambda number, prefix: IPv6Network((number << 64, prefix), strict=False),
    st.integers(0xFD << 56, (0xFE << 56) - 1), st.integers(16, 64)), max_size=5))
def test_unique_local_subnets_are_private_and_free(seed, taken):
    found = ipam.unique_local_subnet(seed, taken)
    assert found.prefixlen == 64 and found.subnet_of(IPv6Network("fd00::/8"))
    assert not any(found.overlaps(other) for other in taken)
    again = ipam.unique_local_subnet(seed, [*taken, found])
    assert again != found and not again.overlaps(found)
    elsewhere = ipam.unique_local_subnet(seed, [*taken, found.supernet(new_prefix=48)])
    assert not elsewhere.overlaps(found.supernet(new_prefix=48))
    with pytest.raises(ipam.PoolsExhausted):
        ipam.unique_local_subnet(seed, [IPv6Network("fd00::/8")])


@given(st.text(max_size=30))
def test_no_text_breaks_a_parser(text):
    for parse in (ipam.parse_subnet, ipam.parse_address, ipam.parse_bridge_address):
        try:
            parse(text)
        except Error:
            pass


def test_the_bridge_address_is_a_hosts():
    assert str(ipam.parse_bridge_address("10.9.8.1/24").network) == "10.9.8.0/24"
    for bad in ("10.9.8.0/24", "10.9.8.255/24", "10.9.8.1", "10.9.8.1/31", "fd00::1/64"):
        with pytest.raises(InvalidArgument, match="invalid CIDR address"):
            ipam.parse_bridge_address(bad)
