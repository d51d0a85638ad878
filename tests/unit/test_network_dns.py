"""DNS messages, names and the cache: properties that hold for whatever bytes a container or a server sends."""

import socket
import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from corten.network import dns_message
from corten.network.dns_message import Malformed, Query
from corten.network.names import Names, reversed_address
from corten.network.resolver_place import CACHE_ENTRIES, Cache

labels = st.from_regex(r"[a-z0-9_-]{1,63}", fullmatch=True)
domains = st.lists(labels, min_size=1, max_size=4).map(".".join).filter(lambda name: len(name) < 250)


def question(name, kind=dns_message.A, *, edns=0, number=7, flags=0x0100):
    head = struct.pack(">6H", number, flags, 1, 0, 0, 1 if edns else 0)
    opt = b"\0" + struct.pack(">HHIH", 41, edns, 0, 0) if edns else b""
    return head + dns_message.encode_name(name) + struct.pack(">HH", kind, 1) + opt


@given(st.binary(max_size=600))
def test_no_bytes_do_more_than_be_malformed(data):
    try:
        query = Query(data)
        assert len(dns_message.answer(query, [b"\1\2\3\4"] * 50, 5, query.room)) <= query.room
        assert len(dns_message.failure(query, 2)) <= query.room
    except Malformed as wrong:
        if wrong.rcode is not None:
            assert len(dns_message.refusal(data, wrong.rcode)) == 12


@given(st.binary(max_size=600), st.binary(min_size=12, max_size=80))
def test_no_bytes_of_a_server_do_more_than_be_malformed(data, query):
    for read in (lambda: dns_message.lifetimes(data) if len(data) >= 12 else None, lambda: dns_message.answers(data, query)):
        try:
            read()
        except Malformed:
            pass


@given(domains, st.sampled_from([0, 512, 1232, 65535]))
def test_a_question_is_read_as_it_was_written(name, edns):
    query = Query(question(name.upper(), edns=edns))
    assert (query.name, query.kind, query.edns) == (name, 1, edns)
    assert query.room == max(edns, 512)


@given(st.integers(0, 300), st.sampled_from([0, 600, 1232]))
def test_an_answer_fits_and_says_when_it_was_cut(count, edns):
    query = Query(question("web", edns=edns))
    message = dns_message.answer(query, [bytes([10, 0, 0, 1])] * count, 600, query.room)
    _id, flags, questions, answers, _, extra = struct.unpack_from(">6H", message)
    assert len(message) <= query.room
    assert (questions, extra) == (1, 1 if edns else 0)
    assert bool(flags & dns_message.TC) == (answers < count)
    assert dns_message.answers(message, query.message)


def test_what_is_not_a_question_is_not_answered_or_refused():
    for flags, rcode in ((0x8100, None), (0x2900, dns_message.NOTIMP)):
        with pytest.raises(Malformed) as wrong:
            Query(question("web", flags=flags))
        assert wrong.value.rcode == rcode
    loop = struct.pack(">6H", 1, 0x100, 1, 0, 0, 0) + b"\xc0\x0c\0\1\0\1"
    with pytest.raises(Malformed) as wrong:
        Query(loop)
    assert wrong.value.rcode == dns_message.FORMERR


def test_bytes_no_name_of_ours_has_are_no_name_of_ours():
    wire = b"\3a.b\3shp\0"
    assert Query(struct.pack(">6H", 1, 0x100, 1, 0, 0, 0) + wire + b"\0\1\0\1").name == ""


def test_an_answer_to_something_else_is_none():
    query = question("web")
    right = dns_message.answer(Query(query), [b"\1\2\3\4"], 5, 512)
    assert dns_message.answers(right, query)
    for wrong in (b"\0\0" + right[2:], question("web"), right.replace(b"\3web", b"\3wab"), right[:11]):
        assert not dns_message.answers(wrong, query)


# --- the cache


def test_the_cache_ages_ends_and_is_bounded():
    cache, query = Cache(), question("web", number=1)
    cache.put(query, dns_message.answer(Query(query), [b"\1\2\3\4"], 60, 512), 100.0)
    again = question("web", number=9)
    found = cache.get(again, 130.0)
    assert found[:2] == b"\0\x09" and struct.unpack_from(">I", found, len(query) + 6)[0] == 30
    assert cache.get(again, 160.0) is None
    for number in range(3 * CACHE_ENTRIES):
        each = question(f"n{number}")
        cache.put(each, dns_message.answer(Query(each), [b"\1\2\3\4"], 60, 512), 0.0)
    assert len(cache) == CACHE_ENTRIES


def test_what_failed_or_was_cut_is_not_kept():
    cache, query = Cache(), question("web")
    asked = Query(query)
    for message in (dns_message.failure(asked, dns_message.SERVFAIL), dns_message.failure(asked, dns_message.NOERROR),
                    dns_message.answer(asked, [b"\1\2\3\4"] * 99, 60, 512), dns_message.answer(asked, [b"\0" * 4], 0, 512)):
        cache.put(query, message, 0.0)
        assert len(cache) == 0


# --- names


def endpoint(network, *names, addresses=("10.0.0.2",), links=None):
    return {"id": f"id-{network}", "name": network, "names": list(names), "addresses": list(addresses),
            "links": links or {}}


def test_names_are_found_in_the_askers_networks_in_their_order():
    names = Names()
    names.put("a", [endpoint("one", "a", addresses=["10.0.1.1"]), endpoint("two", "a", addresses=["10.0.2.1"])])
    names.put("b", [endpoint("two", "b", "x.y", addresses=["10.0.2.2", "fd00::2"])])
    names.put("c", [endpoint("three", "c", "b")])

    def find(asker, name, size=4):
        found = names.find(asker, name, size)
        family = socket.AF_INET if size == 4 else socket.AF_INET6
        return found and [socket.inet_ntop(family, one) for one in found]

    assert find("b", "a") == ["10.0.2.1"]
    assert find("a", "a.two") == ["10.0.2.1"] and find("a", "a") == ["10.0.1.1"]
    assert find("a", "b") == ["10.0.2.2"] and find("a", "b", 16) == ["fd00::2"] and find("b", "a", 16) == []
    assert find("a", "x.y") == ["10.0.2.2"] == find("a", "x.y.two")
    assert find("a", "c") is None and find("b", "a.one") is None and find("nobody", "a") is None
    assert names.reverse("a", "2.2.0.10.in-addr.arpa") == "b.two"
    assert names.reverse("a", "2.0.0.10.in-addr.arpa") is None


def test_a_link_hides_the_name_it_takes():
    names = Names()
    names.put("a", [endpoint("one", "a", links={"db": "mysql"})])
    names.put("m", [endpoint("one", "mysql", addresses=["10.0.0.3"])])
    names.put("d", [endpoint("one", "db", addresses=["10.0.0.4"])])
    assert names.find("a", "db", 4) == [bytes([10, 0, 0, 3])]
    assert names.find("m", "db", 4) == [bytes([10, 0, 0, 4])]


@given(st.lists(st.tuples(st.sampled_from("abcd"), st.lists(st.sampled_from(["x", "y", "z"]), min_size=1), st.booleans())))
def test_nothing_is_left_of_containers_that_are_gone(changes):
    names = Names()
    for container, called, there in changes:
        if there:
            names.put(container, [endpoint("net", *called, addresses=[f"10.0.0.{ord(container)}"])])
        else:
            names.drop(container)
    for container in "abcd":
        names.drop(container)
    assert len(names) == 0 and not names._named and not names._addressed


@pytest.mark.parametrize("name, address", [
    ("4.3.2.1.in-addr.arpa", "1.2.3.4"), ("1.in-addr.arpa", ""), ("04.3.2.1.in-addr.arpa", ""), ("web", ""),
    (".".join("1" + "0" * 30 + "f") + ".ip6.arpa", "f000::1"), ("x." + "0." * 31 + "ip6.arpa", ""),
])
def test_names_of_addresses(name, address):
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    assert reversed_address(name) == (socket.inet_pton(family, address) if address else b"")
