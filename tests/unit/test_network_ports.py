"""What -p and -P ask for, and which host ports they get."""

import socket
from ipaddress import IPv4Address

import pytest
from hypothesis import given
from hypothesis import strategies as st

from corten.base.errors import Error, InvalidArgument, Unsupported
from corten.network.ports import PortTaken, Reserver, exposed_ports, parse_port, parse_range, requests

HERE = IPv4Address("172.17.0.2")


def asked(bindings, exposed=(), publish_all=False):
    found = requests({port: {} for port in exposed}, bindings, publish_all)
    return [(r.protocol, r.container_port, str(r.host), r.first, r.last) for r in found]


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
    with pytest.raises(Unsupported, match="IPv6"):
        asked({"80/tcp": [("::1", "80")]})


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
    return Reserver(taken).reserve(requests({p: {} for p in exposed}, bindings, publish_all), HERE)


def test_a_range_gives_its_first_free_port():
    first = reserve({"80/tcp": [("127.0.0.1", "42000-42005")]})
    second = reserve({"80/tcp": [("127.0.0.1", "42000-42005")]})
    try:
        assert [first[0].port, second[0].port] == [42000, 42001]
    finally:
        first[0].close()
        second[0].close()


def test_leases_of_ours_win_over_everything():
    with pytest.raises(PortTaken, match=r"Bind for 0\.0\.0\.0:42010 failed: port is already allocated"):
        reserve({"80/tcp": [("127.0.0.1", "42010")]}, lambda protocol, port: ["0.0.0.0"])
    with pytest.raises(PortTaken, match=r"Bind for 127\.0\.0\.1:42010 failed: port is already allocated"):
        reserve({"80/tcp": [("", "42010")]}, lambda protocol, port: ["127.0.0.1"])
    held = reserve({"80/tcp": [("127.0.0.1", "42010")]}, lambda protocol, port: ["127.0.0.2"])
    held[0].close()


def test_the_same_port_twice_in_one_container_is_refused_and_nothing_is_kept():
    with pytest.raises(PortTaken, match="port is already allocated"):
        reserve({"80/tcp": [("127.0.0.1", "42020")], "81/tcp": [("127.0.0.1", "42020")]})
    with socket.socket() as free:
        free.bind(("127.0.0.1", 42020))


def test_an_address_that_is_not_ours_is_said_so():
    with pytest.raises(PortTaken, match=r"failed to bind host port for 203\.0\.113\.7:42030:172\.17\.0\.2:80/tcp: "
                       "cannot assign requested address"):
        reserve({"80/tcp": [("203.0.113.7", "42030")]})


def test_a_host_with_time_wait_on_the_port_still_gives_it():
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
