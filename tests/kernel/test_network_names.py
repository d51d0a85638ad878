"""The resolver in containers' namespaces, asked by dig; an outside name server of the tests' own; kill -9 of it all."""

import os
import shutil
import signal
import socket
import subprocess
import threading
import time

import pytest
from dns_server import DnsServer
from netns_hosts import Host, inside

from corten.engine.network_records import CreateNetwork
from corten.engine.records import EndpointConfig
from corten.linux import capabilities
from corten.linux.libc import check, libc
from corten.linux.netlink import CLONE_NEWNET, Batch, Socket
from corten.network import etc_files

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="needs root")
OUTSIDE = "127.0.0.53"  # the host's resolver is on its loopback, as systemd-resolved is


@pytest.fixture
def host(tmp_path, monkeypatch):
    """An engine's networks in a namespace of the test's own, whose resolv.conf names OUTSIDE."""
    assert shutil.which("dig"), "bind9-dnsutils is not installed: run test.sh"
    resolv_conf = tmp_path / "resolv.conf"
    resolv_conf.write_text(f"nameserver {OUTSIDE}\nsearch example\n")
    monkeypatch.setattr(etc_files, "RESOLV_CONF", str(resolv_conf))
    home = os.open("/proc/thread-self/ns/net", os.O_RDONLY)
    check(libc.unshare(CLONE_NEWNET), "unshare")
    try:
        with Socket() as own:
            batch = Batch()
            batch.up(1)
            own.run(batch)
        made = Host(tmp_path)
        made.outside = DnsServer(OUTSIDE)
        try:
            yield made
        finally:
            made.close()
            made.outside.close()
    finally:
        check(libc.setns(home, CLONE_NEWNET), "setns")
        os.close(home)


def network(host, name, **members):
    host.loop.run(host.networks.create(CreateNetwork(name=name, **members)))


def start(host, name, *networks, aliases=(), links=(), **options):
    record = host.record(name=name, network=networks[0], **options)
    for each in networks:
        record.networking[each] = EndpointConfig(aliases=list(aliases) or None, links=list(links) or None)
    return record, host.start(record)


def dig(space, *arguments):
    """dig in a container's namespace; its whole output."""
    return subprocess.run(
        ["nsenter", f"--net=/proc/{space.pid}/ns/net", "dig", "@127.0.0.11", "+tries=2", "+time=10", *arguments],
        capture_output=True, text=True, check=False, timeout=60).stdout


def short(space, *arguments):
    return sorted(dig(space, "+short", *arguments).split())


def status(space, *arguments):
    return dig(space, *arguments).partition("status: ")[2].partition(",")[0]


def resolver_pid(host):
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as sock:
        sock.connect(host.layout.resolver_socket)
        return int.from_bytes(sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12)[:4], "little")


def until(condition, patience_s=90.0):
    end = time.monotonic() + patience_s
    while not condition():
        assert time.monotonic() < end, "it does not come to be"
        time.sleep(0.02)


# --- names of containers


def test_every_name_of_a_container_leads_to_it(host):
    network(host, "shop")
    web, space = start(host, "web", "shop", aliases=["www"])
    _, other = start(host, "db", "shop")
    address = web.networking["shop"].ip_address
    for name in ("web", "www", "WEB", web.id[:12], "web.shop", "www.shop"):
        assert short(other, name) == [address], name
    assert short(other, "-x", address) == ["web.shop."]
    assert short(space, "db") and short(space, "web") == [address]
    assert short(other, web.id[:11]) != [address]


def test_an_alias_of_many_gives_all_addresses_in_turns(host):
    network(host, "shop")
    made = [start(host, f"api-{number}", "shop", aliases=["api"])[0] for number in range(3)]
    _, asker = start(host, "asker", "shop")
    expected = sorted(record.networking["shop"].ip_address for record in made)
    firsts = set()
    for _ in range(40):
        found = dig(asker, "+short", "api").split()
        assert sorted(found) == expected
        firsts.add(found[0])
    assert len(firsts) == 3


def test_names_end_with_the_container_and_follow_a_rename(host):
    network(host, "shop")
    web, _ = start(host, "web", "shop")
    _, asker = start(host, "asker", "shop")
    web.name = "site"
    host.networks.renamed(web)
    until(lambda: short(asker, "site"))
    host.stop(web)
    until(lambda: status(asker, "site.shop") == "NOERROR" and short(asker, "site") == ["192.0.2.80"])


def test_a_name_without_an_ipv6_address_is_not_asked_for_outside(host):
    network(host, "shop")
    start(host, "web", "shop")
    _, asker = start(host, "asker", "shop")
    answer = dig(asker, "AAAA", "web")
    assert "status: NOERROR" in answer and "ANSWER: 0" in answer
    assert "status: NOERROR" in dig(asker, "MX", "web")
    assert not host.outside.asked


def test_ipv6_addresses_have_names_and_the_other_way_round(host):
    network(host, "shop", enable_ipv6=True)
    web, _ = start(host, "web", "shop")
    _, asker = start(host, "asker", "shop")
    endpoint = web.networking["shop"]
    assert short(asker, "AAAA", "web") == [endpoint.global_ipv6_address]
    assert short(asker, "A", "web") == [endpoint.ip_address]
    assert short(asker, "-x", endpoint.global_ipv6_address) == ["web.shop."]


def test_names_of_other_networks_are_nobodys_business(host):
    network(host, "shop")
    network(host, "bank")
    vault, _ = start(host, "vault", "bank")
    _, asker = start(host, "asker", "shop")
    for name in ("vault", "vault.bank", vault.id[:12]):
        assert vault.networking["bank"].ip_address not in dig(asker, name)
    assert "vault" not in dig(asker, "+short", "-x", vault.networking["bank"].ip_address)


def test_connect_and_disconnect_change_what_resolves(host):
    network(host, "shop")
    network(host, "bank")
    vault, _ = start(host, "vault", "bank")
    asker, space = start(host, "asker", "shop")
    host.loop.run(host.networks.connect("bank", asker.id, EndpointConfig(aliases=["clerk"])))
    until(lambda: short(space, "vault") == [vault.networking["bank"].ip_address])
    assert short(space, "clerk") == [asker.networking["bank"].ip_address]
    host.loop.run(host.networks.disconnect("bank", asker.id))
    until(lambda: short(space, "vault") == ["192.0.2.80"])


def test_a_container_of_the_default_network_gets_names_when_it_is_connected(host):
    network(host, "shop")
    web, _ = start(host, "web", "shop")
    asker, space = start(host, "asker", "bridge")
    path = f"{host.layout.container(asker.id)}/resolv.conf"
    assert "127.0.0.11" not in open(path).read()
    host.loop.run(host.networks.connect("shop", asker.id))
    assert "nameserver 127.0.0.11\n" in open(path).read()
    until(lambda: short(space, "web") == [web.networking["shop"].ip_address])


def test_links_of_a_user_defined_network_are_names_of_one_container(host):
    network(host, "shop")
    web, _ = start(host, "web", "shop")
    _, asker = start(host, "asker", "shop", links=["web:shopfront"])
    _, other = start(host, "other", "shop")
    assert short(asker, "shopfront") == [web.networking["shop"].ip_address]
    assert short(other, "shopfront") == ["192.0.2.80"]


def test_a_container_may_be_a_name_server_itself(host):
    network(host, "shop")
    start(host, "web", "shop")
    _, space = start(host, "asker", "shop")
    with inside(space.fd):
        own = DnsServer("0.0.0.0")
    try:
        assert short(space, "web") != ["192.0.2.80"]
        asked = subprocess.run(
            ["nsenter", f"--net=/proc/{space.pid}/ns/net", "dig", "@127.0.0.1", "+short", "web"],
            capture_output=True, text=True, timeout=60)
        assert asked.stdout == "192.0.2.80\n"
    finally:
        own.close()


# --- names of the world


def test_other_names_are_asked_of_the_hosts_resolver_from_the_host(host):
    network(host, "shop")
    _, space = start(host, "asker", "shop")
    assert short(space, "www.example") == ["192.0.2.80"]
    assert status(space, "none.example") == "NXDOMAIN"
    assert status(space, "fail.example") == "SERVFAIL"
    assert short(space, "+search", "www") == ["192.0.2.80"]


def test_an_answer_is_kept_and_its_lifetime_goes_down(host):
    network(host, "shop")
    _, space = start(host, "asker", "shop")
    _, other = start(host, "other", "shop")
    for _ in range(3):
        assert short(space, "+noedns", "+nocookie", "kept.example") == ["192.0.2.80"]
    assert host.outside.asked.count(("udp", "kept.example")) == 1
    assert short(other, "+noedns", "+nocookie", "kept.example") == ["192.0.2.80"]  # what one hears is not told another
    assert host.outside.asked.count(("udp", "kept.example")) == 2


def test_large_answers_come_by_tcp(host):
    network(host, "shop")
    _, space = start(host, "asker", "shop")
    assert "flags: qr tc" in dig(space, "+ignore", "+noedns", "many.example")
    assert len(short(space, "many.example")) == 200
    assert {kind for kind, name in host.outside.asked if name == "many.example"} == {"udp", "tcp"}
    assert len(short(space, "+tcp", "many.example")) == 200
    assert len(short(space, "+bufsize=4096", "+ignore", "many.example")) == 200


def test_an_internal_network_hears_nothing_from_outside(host):
    network(host, "inner", internal=True)
    web, _ = start(host, "web", "inner")
    _, space = start(host, "asker", "inner")
    assert short(space, "web") == [web.networking["inner"].ip_address]
    assert status(space, "www.example") == "SERVFAIL"
    assert not host.outside.asked


def test_servers_given_by_the_user_are_asked_by_the_container(host):
    network(host, "shop")
    server, server_space = start(host, "server", "shop")
    address = server.networking["shop"].ip_address
    with inside(server_space.fd):
        own = DnsServer(address)
    try:
        record, space = start(host, "asker", "shop", dns=["127.0.0.9", address], dns_search=["a.example"])
        assert short(space, "www.example") == ["192.0.2.80"]  # the first does not answer, the second does
        assert own.asked and not host.outside.asked
        assert f"# ExtServers: [127.0.0.9 {address}]" in open(f"{host.layout.container(record.id)}/resolv.conf").read()
    finally:
        own.close()


def test_ndots_keeps_names_without_a_dot_inside(host):
    network(host, "shop")
    _, space = start(host, "asker", "shop", dns_options=["ndots:2"])
    assert "ANSWER: 0" in dig(space, "single")
    assert not host.outside.asked


# --- hostile and killed


def test_hostile_packets_do_no_harm(host):
    network(host, "shop")
    web, _ = start(host, "web", "shop")
    _, space = start(host, "asker", "shop")
    before = resolver_pid(host)
    with inside(space.fd):
        bad = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        slow = [socket.create_connection(("127.0.0.11", 53)) for _ in range(20)]
    bad.connect(("127.0.0.11", 53))
    for size in range(0, 600, 7):
        bad.send(os.urandom(size))
    bad.send(b"\0\1\1\0\0\1\0\0\0\0\0\0\xc0\x0c\0\1\0\1")  # a name that points to itself
    bad.send(b"\0\1\x80\0\0\1\0\0\0\0\0\0\0\0\1\0\1")  # an answer
    bad.setblocking(False)
    for _ in range(20000):
        try:
            bad.send(b"\0\1\1\0\0\1\0\0\0\0\0\0\5flood\7example\0\0\1\0\1")
        except OSError:
            pass
    assert short(web_space(host, web), "web") == [web.networking["shop"].ip_address]
    until(lambda: short(space, "web") == [web.networking["shop"].ip_address])
    for each in slow:
        each.close()
    bad.close()
    assert resolver_pid(host) == before


def web_space(host, record):
    return host.spaces[record.id]


def test_names_resolve_while_no_daemon_runs_and_the_next_one_takes_over(host):
    network(host, "shop")
    web, space = start(host, "web", "shop")
    before = resolver_pid(host)
    host.networks.close()  # as much as a killed daemon leaves
    assert short(space, "web") == [web.networking["shop"].ip_address]
    assert short(space, "www.example") == ["192.0.2.80"]
    host.restart()
    _, other = start(host, "other", "shop")
    assert short(other, "web") == [web.networking["shop"].ip_address]
    assert resolver_pid(host) == before


def test_a_killed_resolver_comes_back_with_all_it_knew(host):
    network(host, "shop")
    web, space = start(host, "web", "shop")
    before = resolver_pid(host)
    os.kill(before, signal.SIGKILL)

    def back():
        host.loop.run(_turn())
        return short(space, "+tries=1", "+time=1", "web") == [web.networking["shop"].ip_address]

    until(back)
    assert resolver_pid(host) != before
    _, other = start(host, "other", "shop")
    assert short(other, "web") == [web.networking["shop"].ip_address]


def test_one_that_ends_while_it_is_told_is_followed_by_another(host):
    """A process that is being killed may accept still, and hang up before it has been told anything."""
    network(host, "shop")
    web, space = start(host, "web", "shop")
    os.kill(resolver_pid(host), signal.SIGKILL)
    os.unlink(host.layout.resolver_socket)
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as dying:
        dying.bind(host.layout.resolver_socket)
        dying.listen()

        def hang_up():
            for _ in range(20):
                dying.accept()[0].close()

        thread = threading.Thread(target=hang_up, daemon=True)
        thread.start()

        def hung_up():
            host.loop.run(_turn())
            return not thread.is_alive()

        until(hung_up)
    os.unlink(host.layout.resolver_socket)

    def back():
        host.loop.run(_turn())
        return short(space, "+tries=1", "+time=1", "web") == [web.networking["shop"].ip_address]

    until(back)


async def _turn():
    import asyncio
    await asyncio.sleep(0.05)


def test_the_resolver_lets_go_of_a_container_that_ends_and_ends_itself(host):
    network(host, "shop")
    web, _ = start(host, "web", "shop")
    pid = resolver_pid(host)

    def held():
        count = 0
        for descriptor in os.listdir(f"/proc/{pid}/fd"):
            try:
                count += "net:[" in os.readlink(f"/proc/{pid}/fd/{descriptor}")
            except FileNotFoundError:  # closed meanwhile
                pass
        return count

    with open(f"/proc/{pid}/status") as file:
        held_capabilities = next(int(line.split()[1], 16) for line in file if line.startswith("CapPrm:"))
    assert capabilities.names(held_capabilities) == ["CAP_NET_ADMIN", "CAP_NET_RAW", "CAP_SYS_ADMIN"]
    until(lambda: held() == 2)  # its own and the container's
    host.spaces[web.id].process.kill()
    until(lambda: held() == 1)
    host.stop(web)
    host.loop.run(host.networks.teardown())
    until(lambda: not os.path.exists(f"/proc/{pid}"))


# --- with a real daemon


def daemon_resolver(engine):
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as sock:
        sock.connect(f"{engine.folder}/run/resolver.sock")
        return int.from_bytes(sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12)[:4], "little")


def looked_up(engine, name):
    done = engine.docker("exec", "asker", "nslookup", "-type=a", name)
    return done.returncode == 0


def test_names_after_kill_9_of_daemon_and_resolver(own_engine):
    own_engine.api("POST", "/networks/create", {"Name": "shop"})
    for name in ("web", "asker"):
        own_engine.run(name=name, HostConfig={"NetworkMode": "shop"})
    assert looked_up(own_engine, "web")
    os.kill(daemon_resolver(own_engine), signal.SIGKILL)
    until(lambda: looked_up(own_engine, "web"))
    own_engine.kill()
    resolver = daemon_resolver(own_engine)
    own_engine.start()
    assert looked_up(own_engine, "web") and daemon_resolver(own_engine) == resolver
    own_engine.kill()
    os.kill(resolver, signal.SIGKILL)
    own_engine.start()
    until(lambda: looked_up(own_engine, "web"))
    own_engine.docker("rename", "web", "site")
    until(lambda: looked_up(own_engine, "site") and not looked_up(own_engine, "web"))
    own_engine.docker("rm", "-f", "asker", "site")
    resolver = daemon_resolver(own_engine)
    assert own_engine.docker("network", "rm", "shop").returncode == 0
    until(lambda: not os.path.exists(f"/proc/{resolver}"))


def test_links_on_the_default_network(own_engine):
    own_engine.run(name="db", ExposedPorts={"5432/tcp": {}, "5433/tcp": {}}, Env=["COLOUR=red"], Hostname="store")
    own_engine.run(name="web", HostConfig={"Links": ["db:data"]})
    hosts = own_engine.docker("exec", "web", "cat", "/etc/hosts").stdout
    address = own_engine.inspect("db")["NetworkSettings"]["IPAddress"]
    assert f"{address}\tdata store db\n" in hosts
    variables = own_engine.docker("exec", "web", "env").stdout.splitlines()
    for variable in (f"DATA_PORT=tcp://{address}:5432", f"DATA_PORT_5432_TCP_ADDR={address}", "DATA_PORT_5432_TCP_PROTO=tcp",
                     f"DATA_PORT_5432_TCP_END=tcp://{address}:5433", "DATA_NAME=/web/data", "DATA_ENV_COLOUR=red"):
        assert variable in variables
    assert own_engine.inspect("web")["HostConfig"]["Links"] == ["/db:/web/data"]
    own_engine.api("POST", "/containers/db/stop?t=0")
    own_engine.run(name="taker")  # the address rests, and somebody else is given the next
    own_engine.api("POST", "/containers/db/start")
    fresh = own_engine.inspect("db")["NetworkSettings"]["IPAddress"]
    assert f"{fresh}\tdata store db\n" in own_engine.docker("exec", "web", "cat", "/etc/hosts").stdout


def test_edits_of_the_user_stay_when_networks_change(own_engine):
    for name in ("one", "two"):
        own_engine.api("POST", "/networks/create", {"Name": name})
    own_engine.run(name="web", HostConfig={"NetworkMode": "one"})
    own_engine.docker("exec", "web", "sh", "-c", "echo 192.0.2.7 mine >>/etc/hosts; echo '# mine' >>/etc/resolv.conf")
    assert own_engine.docker("network", "connect", "two", "web").returncode == 0
    second = own_engine.inspect("web")["NetworkSettings"]["Networks"]["two"]["IPAddress"]
    hosts = own_engine.docker("exec", "web", "cat", "/etc/hosts").stdout
    assert "192.0.2.7 mine\n" in hosts and f"{second}\t" in hosts
    assert own_engine.docker("network", "disconnect", "one", "web").returncode == 0
    hosts = own_engine.docker("exec", "web", "cat", "/etc/hosts").stdout
    assert "192.0.2.7 mine\n" in hosts and hosts.count(f"{second}\t") == 1
    assert "# mine" in own_engine.docker("exec", "web", "cat", "/etc/resolv.conf").stdout
    for name in ("one", "two"):
        own_engine.docker("network", "disconnect", "-f", name, "web")
        assert own_engine.docker("network", "rm", name).returncode == 0
