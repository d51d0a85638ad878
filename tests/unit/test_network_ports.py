"""What -p and -P ask for, and which host ports they get."""

import os
import socket
from ipaddress import IPv4Address

import pytest
from hypothesis import given
from hypothesis import strategies as st

from corten.base.errors import Error, InvalidArgument
from corten.linux.libc import check, libc
from corten.linux.netlink import CLONE_NEWNET, Batch, Socket
from corten.network.ports import PortTaken, Reserver, exposed_ports, parse_port, parse_range, requests
from corten.network.ruleset import ANY, ANY6

HERE = IPv4Address("172.17.0.2")


@pytest.fixture
def quiet():
    """A network namespace of the test's own: nobody else takes its ports."""
    if os.geteuid():
        pytest.skip("needs root")
    home = os.open("/proc/thread-self/ns/net", os.O_RDONLY)
    check(libc.unshare(CLONE_NEWNET), "unshare")
    try:
        with Socket() as own:
            batch = Batch()
            batch.up(1)
            own.run(batch)
        yield
    finally:
        check(libc.setns(home, CLONE_NEWNET), "setns")
        os.close(home)


def asked(bindings, exposed=(), publish_all=False):
    found = requests({port: {} for port in exposed}, bindings, publish_all)
    return [(r.protocol, r.container_port, "+".join(map(str, r.hosts)), r.first, r.last) for r in found]


def test_the_forms_of_publish():
    assert asked({"80/tcp": [("", "8080")]}) == [("tcp", 80, "0.0.0.0", 8080, 8080)]
    assert asked({"53/udp": [("127.0.0.1", "5353")]}) == [("udp", 53, "127.0.0.1", 5353, 5353)]
    assert asked({"80/tcp": [("", "")]}) == [("tcp", 80, "0.0.0.0", 0, 0)]
    assert asked({"80/tcp": [("", "8000-8010")]}) == [("tcp", 80, "0.0.0.0", 8000, 8010)]
    assert asked({"80/tcp": [("", "1"), ("127.0.0.1", "2")]}) == [
        ("tcp", 80, "0.0.0.0", 1, 1), ("tcp", 80, "127.0.0.1", 2, 2)]
    assert asked({"80": [("", "8080")]}) == [("tcp", 80, "0.0.0.0", 8080, 8080)]


def test_publish_all_takes_what_is_exposed_and_not_bound():
    found = asked({"80/tcp": [("", "8080")]}, ["80/tcp", "90/tcp", "100-101/udp"], publish_all=True)
    assert found == [("tcp", 80, "0.0.0.0", 8080, 8080), ("tcp", 90, "0.0.0.0", 0, 0),
                     ("udp", 100, "0.0.0.0", 0, 0), ("udp", 101, "0.0.0.0", 0, 0)]
    assert asked({}, ["90/tcp"]) == []


def test_fixed_ports_are_reserved_before_ranges_and_ephemeral_ones():
    found = asked({"1/tcp": [("", "")], "2/tcp": [("", "8000-8001")], "3/tcp": [("", "8000")]})
    assert [entry[1] for entry in found] == [3, 2, 1]


@pytest.mark.parametrize("text", ["", "0/tcp", "80/foo", "x/tcp", "70000/tcp", "90-80/tcp", "-1/tcp", "٨٠/tcp", "8_0/tcp"])
def test_bad_ports_are_refused(text):
    with pytest.raises(InvalidArgument):
        parse_port(text)


def test_bad_host_sides_are_refused():
    with pytest.raises(InvalidArgument, match="invalid hostPort: 99999"):
        asked({"80/tcp": [("", "99999")]})
    with pytest.raises(InvalidArgument, match="invalid hostIP"):
        asked({"80/tcp": [("nonsense", "80")]})
    with pytest.raises(InvalidArgument, match="invalid hostIP"):
        asked({"80/tcp": [("fe80::1%eth0", "80")]})
    assert asked({"80/tcp": [("::1", "80"), ("[fd00::1]", "81")]}) == [
        ("tcp", 80, "::1", 80, 80), ("tcp", 80, "fd00::1", 81, 81)]


@given(st.text(max_size=12))
def test_no_text_breaks_the_grammar(text):
    for parse in (parse_port, lambda t: parse_range(t, "hostPort")):
        try:
            found = parse(text)
        except Error:
            continue
        assert 0 <= found[0] <= found[1] <= 65535


def test_exposed_ports_are_expanded():
    assert exposed_ports({"8000-8002/tcp": {}}, {"53/udp": None}) == [
        (8000, "tcp"), (8001, "tcp"), (8002, "tcp"), (53, "udp")]


def reserve(bindings, taken=lambda protocol, port: [], exposed=(), publish_all=False):
    return Reserver(taken).reserve(requests({p: {} for p in exposed}, bindings, publish_all), {4: HERE})


def test_a_range_gives_its_first_free_port(quiet):
    first = reserve({"80/tcp": [("127.0.0.1", "42000-42005")]})
    second = reserve({"80/tcp": [("127.0.0.1", "42000-42005")]})
    try:
        assert [first[0].port, second[0].port] == [42000, 42001]
    finally:
        first[0].close()
        second[0].close()


def test_leases_of_ours_win_over_everything(quiet):
    with pytest.raises(PortTaken, match=r"Bind for 0\.0\.0\.0:42010 failed: port is already allocated"):
        reserve({"80/tcp": [("127.0.0.1", "42010")]}, lambda protocol, port: ["0.0.0.0"])
    with pytest.raises(PortTaken, match=r"Bind for 127\.0\.0\.1:42010 failed: port is already allocated"):
        reserve({"80/tcp": [("", "42010")]}, lambda protocol, port: ["127.0.0.1"])
    held = reserve({"80/tcp": [("127.0.0.1", "42010")]}, lambda protocol, port: ["127.0.0.2"])
    held[0].close()


def test_the_same_port_twice_in_one_container_is_refused_and_nothing_is_kept(quiet):
    with pytest.raises(PortTaken, match="port is already allocated"):
        reserve({"80/tcp": [("127.0.0.1", "42020")], "81/tcp": [("127.0.0.1", "42020")]})
    with socket.socket() as free:
        free.bind(("127.0.0.1", 42020))


def test_an_address_that_is_not_ours_is_said_so(quiet):
    with pytest.raises(PortTaken, match=r"failed to bind host port for 203\.0\.113\.7:42030:172\.17\.0\.2:80/tcp: "
                       "cannot assign requested address"):
        reserve({"80/tcp": [("203.0.113.7", "42030")]})


def test_a_host_with_time_wait_on_the_port_still_gives_it(quiet):
    server = socket.socket()
    server.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    server.bind(("127.0.0.1", 42040))
    server.listen()
    client = socket.create_connection(("127.0.0.1", 42040))
    peer, _ = server.accept()
    peer.close()  # the server's side closes first: TIME_WAIT is on 42040
    client.close()
    server.close()
    reserve({"80/tcp": [("127.0.0.1", "42040")]})[0].close()


def test_every_address_is_one_number_for_both_families(quiet):
    both = requests({}, {"80/tcp": [("", "42050-42051")]}, False, [ANY, ANY6])
    held = Reserver(lambda protocol, port: []).reserve(both, {4: HERE})
    assert [(str(each.host), each.port) for each in held] == [("0.0.0.0", 42050), ("::", 42050)]
    with socket.socket(socket.AF_INET6) as other, pytest.raises(OSError, match="in use"):
        other.bind(("::1", 42050))
    with socket.socket(socket.AF_INET6) as other:  # one of the two is taken: the next number, nothing is kept
        other.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        held[0].close()
        held[1].close()
        other.bind(("::", 42050))
        held = Reserver(lambda protocol, port: []).reserve(both, {4: HERE})
        assert {each.port for each in held} == {42051}
    with socket.socket() as free:
        free.bind(("0.0.0.0", 42050))
    for each in held:
        each.close()


def test_a_lease_is_for_its_family(quiet):
    six = requests({}, {"80/tcp": [("::1", "42060")]}, False)
    Reserver(lambda protocol, port: ["0.0.0.0"]).reserve(six, {})[0].close()
    with pytest.raises(PortTaken, match=r"Bind for \[::\]:42060 failed: port is already allocated"):
        Reserver(lambda protocol, port: ["::"]).reserve(six, {})


def test_sctp_is_reserved_where_the_kernel_speaks_it(quiet):
    held = reserve({"80/sctp": [("127.0.0.1", "42070")]})
    assert held[0].port == 42070
    held[0].close()
