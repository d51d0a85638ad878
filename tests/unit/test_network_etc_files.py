"""hosts and resolv.conf as docker writes them."""

import pytest

from corten.base.errors import InvalidArgument
from corten.network import etc_files


def body(text):
    return [line for line in text.splitlines() if line and not line.startswith("#")]


def resolved(host, servers=(), search=(), options=(), kind=etc_files.LEGACY):
    return body(etc_files.resolv_conf(etc_files.parse_resolvers(host), servers, search, options, kind))


def test_the_hosts_resolvers_are_handed_on_less_those_only_the_host_reaches():
    host = "nameserver 127.0.0.53\nnameserver 10.0.0.1\nnameserver fe80::1%eth0\nsearch a.b c.d\noptions ndots:2\n"
    assert resolved(host) == ["nameserver 10.0.0.1", "search a.b c.d", "options ndots:2"]
    assert resolved(host, kind=etc_files.HOST)[0] == "nameserver 127.0.0.53"


def test_without_any_reachable_resolver_there_is_a_fallback():
    assert resolved("nameserver 127.0.0.1\n") == ["nameserver 8.8.8.8", "nameserver 8.8.4.4"]
    assert resolved("") == ["nameserver 8.8.8.8", "nameserver 8.8.4.4"]


def test_flags_replace_what_the_host_says():
    host = "nameserver 10.0.0.1\nsearch a.b\n"
    assert resolved(host, ["9.9.9.9"], ["foo.com"], ["ndots:2"]) == [
        "nameserver 9.9.9.9", "search foo.com", "options ndots:2"]
    assert resolved(host, search=["."]) == ["nameserver 10.0.0.1"]
    with pytest.raises(InvalidArgument, match="invalid IP address: foo"):
        resolved(host, ["foo"])


def test_behind_a_stub_the_servers_behind_it_are_read():
    found = etc_files.host_resolvers(["nameserver 127.0.0.53\n", "nameserver 192.0.2.53\nsearch x\n"])
    assert (found.servers, found.search) == (["192.0.2.53"], ["x"])
    assert etc_files.host_resolvers(["nameserver 127.0.0.53\n", None]).servers == ["127.0.0.53"]


def test_junk_in_resolv_conf_is_passed_over():
    assert resolved("nameserver\nnameserver nonsense\n; comment\ndomain x.y\nnameserver 10.0.0.1 trailing\n") == [
        "nameserver 10.0.0.1", "search x.y"]


def test_extra_hosts():
    assert etc_files.parse_extra_hosts(["a:1.2.3.4", "b=::1", "c:[fd00::1]", "d:host-gateway"], ["172.17.0.1", "fd00::7"]) == [
        ("a", "1.2.3.4"), ("b", "::1"), ("c", "fd00::1"), ("d", "172.17.0.1"), ("d", "fd00::7")]
    for bad in ("a", "a:", ":1.2.3.4", "a:1.2.3", "a b:1.2.3.4", "a:1.2.3.4\n0.0.0.0 x"):
        with pytest.raises(InvalidArgument):
            etc_files.parse_extra_hosts([bad], ["172.17.0.1"])


def test_hosts_file_has_localhost_extras_and_own_names_in_this_order():
    lines = etc_files.hosts([("x", "1.2.3.4")], ["172.17.0.2"], "web.local web").splitlines()
    assert lines[0] == "127.0.0.1\tlocalhost"
    assert lines[-2:] == ["1.2.3.4\tx", "172.17.0.2\tweb.local web"]
