"""Rules, options and reasons as pure code: nothing untrusted gets into a rule, every mark is its own."""

from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network

import pytest
from hypothesis import given
from hypothesis import strategies as st

from corten.base.errors import Error, InvalidArgument, Unsupported
from corten.engine.network_reasons import Evidence, Port, ports_json
from corten.linux import nft_expressions as nft
from corten.network import driver, ruleset
from corten.network.ruleset import Guard, Published, Rules

NAMES = st.one_of(st.text(max_size=20), st.sampled_from(["eth0", 'a"b', "a\nb", "x" * 15, "x" * 16, "../x", "a b", "é", "."]))


@given(NAMES)
def test_a_name_is_a_links_or_refused(name):
    try:
        driver.check_link_name(name)
    except InvalidArgument:
        return
    assert 0 < len(name) < 16 and name.isascii() and "/" not in name and not set(name) & set(" \n\"'")
    assert len(nft.ifname(name)) == 16


@given(NAMES)
def test_an_interface_name_is_sixteen_bytes_or_an_error(name):
    try:
        packed = nft.ifname(name)
    except ValueError:
        return
    assert len(packed) == 16 and packed.endswith(b"\0")


def test_every_rule_has_a_mark_of_its_own():
    for family, rules in ruleset.RULES.items():
        marks = [(chain, mark) for chain, _, mark in rules]
        assert len(set(marks)) == len(marks), family
        for _, expressions, mark in rules:
            assert nft.words_of(mark).count("#") == 1 and expressions
    assert nft.words_of(b"") == nft.words_of(b"\x01\x02ab") == ""
    with pytest.raises(ValueError):
        nft.comment("x" * 200)


def test_elements_of_ports_and_guards_fit_their_sets():
    def width(types):
        return sum((size + 3) & ~3 for _, size in types)

    four, six = IPv4Address("10.0.0.2"), IPv6Address("fd00::2")
    ports = [Published("tcp", host, port, target, 80, direct=True) for target, hosts in (
        (four, (ruleset.ANY, IPv4Address("127.0.0.1"))), (six, (ruleset.ANY6, IPv6Address(1)))) for host in hosts
        for port in (0, 8080)]
    guard = Guard("veth1234567", "02:42:0a:00:00:02", [four, six])
    rules = Rules("br0", [IPv4Network("10.0.0.0/24"), IPv6Network("fd00::/64")], icc=False, routed=[6], unprotected=[4],
                  outward=[four, six], trusted=["eth0"])
    for name, key, value in [*(one for port in ports for one in port.elements()), *guard.elements(), guard.bar(), *rules.elements()]:
        types, target = {**ruleset.SETS, **ruleset.BRIDGE_SETS}[name]
        assert len(key) == (width(types) if len(types) > 1 else types[0][1]), name
        assert len(value) == (width(target) if target else 0), name
    for name, first, last in rules.homes():
        assert len(first) == len(last) == width(ruleset.RANGES[name])
    assert str(ruleset.link_local("02:42:ac:11:00:02")) == "fe80::42:acff:fe11:2"


def test_an_internal_network_has_no_way_out_whatever_its_options():
    rules = Rules("br0", [], internal=True, routed=[4, 6], unprotected=[4, 6], outward=[IPv4Address("192.0.2.1")], trusted=["eth0"])
    assert {name for name, _, _ in rules.elements()} == {"own", "same", "internal"}


@pytest.mark.parametrize(("options", "message"), [
    ({"com.docker.network.endpoint.sysctls": "net.ipv4.conf.eth0.forwarding=1"}, "net.X.Y.IFNAME.Z"),
    ({"com.docker.network.endpoint.sysctls": "kernel.IFNAME.x.y.z=1"}, "net.X.Y.IFNAME.Z"),
    ({"com.docker.network.endpoint.sysctls": "net.ipv4.conf.IFNAME.../../../kernel/core_pattern=1"}, "net.X.Y.IFNAME.Z"),
    ({"com.docker.network.endpoint.sysctls": "net.ipv4.conf.IFNAME.a..b=1"}, "net.X.Y.IFNAME.Z"),
    ({"com.docker.network.endpoint.sysctls": "net.ipv4.conf.IFNAME.x=1\n2"}, "invalid value"),
    ({"com.docker.network.endpoint.ifname": "a/b"}, "invalid interface name"),
    ({"com.docker.network.endpoint.ifname": "lo"}, "invalid interface name"),
])
def test_endpoint_options_lead_nowhere_else(options, message):
    with pytest.raises(InvalidArgument, match=message):
        driver.check_endpoint_options(options)


def test_options_of_another_driver_are_refused_by_name():
    for options, kind in (({"parent": "eth0"}, "bridge"), ({driver.ICC: "false"}, "macvlan"), ({"ipvlan_mode": "l2"}, "macvlan"),
                          ({"x": "y"}, "bridge")):
        with pytest.raises(Unsupported, match=next(iter(options))):
            driver.Options(options, kind)
    for key, text in ((driver.HOST_IPV4, "x"), (driver.HOST_IPV4, "fd00::1"), (driver.HOST_IPV6, "10.0.0.1"),
                      (driver.HOST_IPV4, "0.0.0.0"), (driver.HOST_BINDING, "1.2.3"), (driver.TRUSTED, "eth0:a/b")):
        with pytest.raises(InvalidArgument, match=f"failed to parse {key} value: {text}"):
            driver.Options({key: text})
    with pytest.raises(InvalidArgument, match="unknown gateway mode"):
        driver.Options({driver.GATEWAY_MODE: "x"})


@given(st.dictionaries(st.sampled_from([driver.NAME, driver.MTU, driver.GATEWAY_MODE6, driver.INTERFACE_PREFIX, "parent", driver.HOST_IPV4, driver.TRUSTED]),
                       st.text(max_size=12), max_size=3), st.sampled_from(["bridge", "macvlan", "ipvlan"]))
def test_no_text_breaks_the_options(options, kind):
    try:
        found = driver.Options(options, kind)
    except Error:
        return
    assert 68 <= found.mtu <= 65535 and "/" not in found.parent + found.bridge + found.prefix


def test_ipv6_alone_needs_a_listener_of_ipv6():
    six = IPv6Address("fd00::2")
    one = Published("tcp", ruleset.ANY6, 8080, six, 80)
    port = Port("tcp", 80)
    port.published.append(one)
    name, key, value = one.element()

    def reasons(address):
        return ports_json(Evidence(
            listeners=[("tcp", address, 80)], present={str(six)}, elements={name: {key: value}}, internal=[], outward=True,
            unheld=[], foreign=[], settings={}, user_rules=0), [port])[0]["Reasons"]

    assert reasons(ruleset.ANY6) == reasons(six) == []
    assert "listens on IPv4 alone" in reasons(ruleset.ANY)[0]
