"""Who reaches whom: published ports from everywhere, isolation, masquerade; with real namespaces as outside hosts."""

import asyncio
import os
import socket
import struct
import subprocess
import time

import pytest
from netns_hosts import ask, inside, outside, silent

from corten.base.errors import Internal
from corten.engine.network_records import CreateNetwork
from corten.engine.records import EndpointConfig
from corten.linux.netlink import Batch, Socket
from corten.linux.routes import routes

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="needs root")


@pytest.fixture
def host(tmp_path):
    """An engine's networks, and a neighbour outside at 192.0.2.9 (we are .2)."""
    with outside(tmp_path) as made:
        yield made


def published(host, kind="tcp", address="", network="bridge"):
    record = host.record(network=network, ports={f"80/{kind}": (address, "8080")})
    space = host.start(record)
    space.serve(80, kind)
    return record, space


@pytest.mark.parametrize("kind", ["tcp", "udp"])
def test_a_published_port_answers_on_every_way_in(host, kind):
    record, space = published(host, kind)
    gateway = record.networking["bridge"].gateway
    assert ask("127.0.0.1", 8080, kind) == gateway
    assert ask("192.0.2.2", 8080, kind) == "192.0.2.2"
    assert host.neighbour.ask("192.0.2.2", 8080, kind) == "192.0.2.9"  # the client's address is not hidden
    assert space.ask("192.0.2.2", 8080, kind) == gateway  # hairpin: to itself
    sibling = host.start(host.record())
    assert sibling.ask("192.0.2.2", 8080, kind) == gateway
    assert sibling.ask(gateway, 8080, kind) == gateway


def crc32c(data):
    """RFC 9260, appendix A."""
    value = 0xFFFFFFFF
    for byte in data:
        value ^= byte
        for _ in range(8):
            value = value >> 1 ^ (0x82F63B78 if value & 1 else 0)
    return struct.pack("<I", value ^ 0xFFFFFFFF)


def test_sctp_is_translated_whether_or_not_this_kernel_speaks_it(host):
    record = host.record(ports={"80/sctp": ("", "8080"), "81/sctp": ("127.0.0.1", "8081")})
    space = host.start(record)
    if not os.path.exists("/proc/sys/net/netfilter/nf_conntrack_sctp_timeout_established"):
        pytest.skip("machine: this kernel's connection tracking knows no SCTP")
    with inside(space.fd):
        receiver = socket.socket(socket.AF_INET, socket.SOCK_RAW, 132)
    receiver.settimeout(30)
    chunk = struct.pack(">BBHIIHHI", 1, 0, 20, 7, 65536, 1, 1, 1)  # INIT
    for port in (8081, 8080):
        head = struct.pack(">HHI", 5000, port, 0)
        with inside(host.neighbour.fd), socket.socket(socket.AF_INET, socket.SOCK_RAW, 132) as sender:
            sender.sendto(head + crc32c(head + bytes(4) + chunk) + chunk, ("192.0.2.2", 0))
    packet = receiver.recv(1000)
    receiver.close()
    assert struct.unpack_from(">HH", packet, 20) == (5000, 80)  # and not 81, which was asked for first
    assert record.network_settings.ports["80/sctp"][0].host_port == "8080"


def test_a_port_published_on_loopback_is_for_this_host_alone(host):
    published(host, address="127.0.0.1")
    assert ask("127.0.0.1", 8080)
    assert silent("192.0.2.2", 8080)
    assert host.neighbour.silent("192.0.2.2", 8080)


def test_a_neighbour_cannot_send_to_loopback_through_us(host):
    """CVE-2020-8558 and the DNAT of packets that claim to be for 127.0.0.1."""
    record, space = published(host, address="127.0.0.1")
    local = socket.socket()
    local.bind(("127.0.0.1", 9000))
    local.listen()
    for outsider, link in ((host.neighbour, "eth0"), (space, "eth0")):
        with inside(outsider.fd):
            # let the outsider's kernel send loopback addresses out
            for setting in ("all", link):
                with open(f"/proc/sys/net/ipv4/conf/{setting}/route_localnet", "w") as file:
                    file.write("1")
        with Socket(outsider.fd) as inner:
            lo = Batch()
            for index, address in inner.addresses():
                if index == 1 and address.version == 4:
                    lo.delete_address(1, address)
            inner.run(lo)
        subprocess_route(outsider, record if outsider is space else None)
        assert outsider.silent("127.0.0.1", 8080)
        assert outsider.silent("127.0.0.1", 9000)
    local.close()


def subprocess_route(space, record):
    """127.0.0.0/8 leads out of the namespace by its default gateway."""
    via = record.networking["bridge"].gateway if record else "192.0.2.2"
    enter = ["nsenter", "-t", str(space.pid), "-n", "ip", "route"]
    subprocess.run([*enter, "flush", "table", "local", "127.0.0.0/8"], check=False, capture_output=True)
    subprocess.run([*enter, "add", "127.0.0.0/8", "via", via, "dev", "eth0"], check=True, capture_output=True)


def test_an_unpublished_port_is_not_reachable_from_outside(host):
    record = host.record(exposed=["81/tcp"])
    space = host.start(record)
    space.serve(81)
    address = record.networking["bridge"].ip_address
    assert ask(address, 81)  # the host itself may
    assert host.start(host.record()).ask(address, 81)  # so may a container of the same network
    assert host.neighbour.silent(address, 81)  # it routes the container's network to us
    assert host.neighbour.silent("192.0.2.2", 81)


def test_networks_do_not_reach_each_other_but_by_published_ports(host):
    host.loop.run(host.networks.create(CreateNetwork(name="other")))
    record, _space = published(host)
    stranger = host.start(host.record(network="other"))
    assert stranger.silent(record.networking["bridge"].ip_address, 80)
    assert stranger.ask("192.0.2.2", 8080)


def test_outbound_traffic_carries_the_hosts_address(host):
    host.neighbour.serve(7000)
    space = host.start(host.record())
    assert space.ask("192.0.2.9", 7000) == "192.0.2.2"
    host.loop.run(host.networks.create(CreateNetwork(
        name="bare", options={"com.docker.network.bridge.enable_ip_masquerade": "false"})))
    bare = host.record(network="bare")
    assert host.start(bare).ask("192.0.2.9", 7000) == bare.networking["bare"].ip_address


def test_an_internal_network_has_no_way_out_or_in(host):
    host.loop.run(host.networks.create(CreateNetwork(name="inner", internal=True)))
    host.neighbour.serve(7000)
    record = host.record(network="inner", ports={"80/tcp": ("", "8080")})
    space = host.start(record)
    space.serve(80)
    assert space.silent("192.0.2.9", 7000)
    assert silent("127.0.0.1", 8080)
    assert record.networking["inner"].gateway == ""
    sibling = host.record(network="inner")
    assert host.start(sibling).ask(record.networking["inner"].ip_address, 80)


def test_icc_false_keeps_containers_apart(host):
    host.loop.run(host.networks.create(CreateNetwork(
        name="apart", options={"com.docker.network.bridge.enable_icc": "false"})))
    host.neighbour.serve(7000)
    record = host.record(network="apart")
    host.start(record).serve(80)
    other = host.start(host.record(network="apart"))
    assert other.silent(record.networking["apart"].ip_address, 80)
    assert other.ask("192.0.2.9", 7000) == "192.0.2.2"


def test_a_port_in_use_is_refused_before_anything_is_made(host):
    published(host)
    other = host.record("late", ports={"80/tcp": ("127.0.0.1", "8080")})
    with pytest.raises(Internal, match=r"driver failed programming external connectivity on endpoint late "
                       r"\([0-9a-f]{64}\): Bind for 0.0.0.0:8080 failed: port is already allocated"):
        host.loop.run(host.networks.reserve(other))
    server = socket.socket()
    server.bind(("0.0.0.0", 8099))
    server.listen()
    third = host.record("third", ports={"80/tcp": ("", "8099"), "81/tcp": ("", "8098")})
    with pytest.raises(Internal, match=r"failed to bind host port for 0.0.0.0:8099:172.\d+.0.\d+:80/tcp: "
                       "address already in use"):
        host.loop.run(host.networks.reserve(third))
    server.close()
    for refused in (other, third):
        assert refused.networking["bridge"].endpoint_id == refused.networking["bridge"].ip_address == ""
        assert host.db.execute("SELECT * FROM lease WHERE container_id = ?", refused.id) == []
    free = socket.socket()
    free.bind(("0.0.0.0", 8098))  # not kept by the failed attempt
    free.close()


def test_a_published_port_cannot_be_taken_by_a_process_of_the_host(host):
    record, _space = published(host)
    thief = socket.socket()
    thief.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    with pytest.raises(OSError):
        thief.bind(("0.0.0.0", 8080))
        thief.listen()
    thief.close()
    host.stop(record)
    again = socket.socket()
    again.bind(("0.0.0.0", 8080))
    again.close()


def test_traffic_flows_while_no_daemon_runs_and_after_its_return(host):
    record, _space = published(host)
    host.networks.close()
    assert host.neighbour.ask("192.0.2.2", 8080) == "192.0.2.9"
    host.restart()
    assert host.neighbour.ask("192.0.2.2", 8080) == "192.0.2.9"
    assert host.networks.held[record.id][0].socket is not None
    second = host.record(ports={"80/tcp": ("", "8080")})
    with pytest.raises(Internal, match="port is already allocated"):
        host.loop.run(host.networks.reserve(second))


def test_a_flushed_ruleset_is_repaired(host):
    published(host)
    subprocess.run(["nft", "flush", "ruleset"], check=True)
    assert silent("127.0.0.1", 8080)
    host.restart()
    assert ask("127.0.0.1", 8080)
    subprocess.run(["nft", "flush", "ruleset"], check=True)
    host.start(host.record(ports={"80/tcp": ("", "8081")}))  # the next change finds out as well
    assert ask("127.0.0.1", 8080)


def test_two_networks_connect_and_disconnect_while_running(host):
    host.loop.run(host.networks.create(CreateNetwork(name="two")))
    record, space = published(host)
    peer = host.record(network="two")
    host.start(peer).serve(90)
    there = peer.networking["two"].ip_address
    assert space.silent(there, 90)
    host.loop.run(host.networks.connect("two", record.id))
    assert space.ask(there, 90) == record.networking["two"].ip_address
    with open(f"{host.layout.container(record.id)}/hosts") as file:
        assert record.networking["two"].ip_address in file.read()
    host.loop.run(host.networks.disconnect("bridge", record.id))
    assert ask("127.0.0.1", 8080)  # the port leads to the address that is left
    host.neighbour.serve(7000)
    assert space.ask("192.0.2.9", 7000) == "192.0.2.2"  # so does the way out
    host.loop.run(host.networks.disconnect("two", record.id))
    assert space.silent("192.0.2.9", 7000)


def test_the_highest_gateway_priority_has_the_way_out_and_the_ports(host):
    """Without one it is the first name; it moves with a connect and goes back with a disconnect."""
    for name in ("alpha", "beta", "gamma"):
        host.loop.run(host.networks.create(CreateNetwork(name=name)))
    record = host.record(network="beta", ports={"80/tcp": ("", "8080")})
    record.networking["alpha"] = EndpointConfig()
    space = host.start(record)
    space.serve(80)

    def way_out():
        """The network whose gateway is the default route, and that whose address the published port leads to."""
        with Socket(space.fd) as inner:
            gateway = next(str(route.gateway) for route in routes(inner) if route.destination.prefixlen == 0)
        named = {name: endpoint for name, endpoint in record.networking.items() if endpoint.endpoint_id}
        assert host.neighbour.ask("192.0.2.2", 8080) == "192.0.2.9"
        [target] = set(host.networks.firewall.socket.elements(
            host.networks.firewall.table, "ports_any").values())
        return ([name for name, one in named.items() if one.gateway == gateway],
                [name for name, one in named.items() if socket.inet_aton(one.ip_address) == target[:4]])

    assert way_out() == (["alpha"], ["alpha"])
    host.loop.run(host.networks.connect("gamma", record.id, EndpointConfig(gw_priority=7)))
    assert way_out() == (["gamma"], ["gamma"])
    host.loop.run(host.networks.disconnect("gamma", record.id))
    assert way_out() == (["alpha"], ["alpha"])
    host.stop(record)
    record.networking["beta"].gw_priority = 1
    space = host.start(record)
    space.serve(80)
    assert way_out() == (["beta"], ["beta"])


def test_leases_outlive_the_daemon(host):
    """Who runs keeps its address, nobody else gets it; one that was given back before the restart is not given next."""
    host.loop.run(host.networks.create(CreateNetwork(name="two")))
    records = [host.record(network="two") for _ in range(4)]
    for record in records:
        host.start(record)

    def addresses():
        return {record.id: record.networking["two"].ip_address for record in records if record.running}

    before, last = addresses(), records[-1].networking["two"].ip_address
    host.stop(records[-1])
    host.restart()
    later = [host.record(network="two") for _ in range(4)]
    for record in later:
        host.start(record)
    given = [record.networking["two"].ip_address for record in later]
    assert addresses() == {key: before[key] for key in addresses()} and len(addresses()) == 3
    assert len({*given, *addresses().values(), last}) == 8


def test_nothing_is_left_behind(host):
    from corten.linux.nftables import Nftables
    record, _space = published(host)
    host.loop.run(host.networks.create(CreateNetwork(name="two")))
    host.stop(record)
    host.loop.run(host.networks.teardown())
    with Nftables() as tables:
        assert tables.tables() == []
    with Socket() as own:
        deadline = time.monotonic() + 60  # a namespace is taken down after its last process is gone
        while [link.name for link in own.links() if link.kind in ("bridge", "veth")] != ["up0"]:
            assert time.monotonic() < deadline
            time.sleep(0.01)
    for table in ("lease", "port"):
        assert host.db.execute(f"SELECT * FROM {table}") == []
    host.start(host.record(network="two"))  # devices come back when needed


def test_reconcile_removes_what_belongs_to_nobody(host):
    record, _space = published(host)
    dead = host.record(ports={"80/tcp": ("", "9999")})
    keep = host.start(dead)
    dead.state.status = "exited"  # the daemon was killed, the container ended, its namespace is held by someone
    host.restart()
    assert host.db.execute("SELECT * FROM port WHERE container_id = ?", dead.id) == []
    assert host.networks.firewall.whole()
    with Socket() as own:
        veths = [link.name for link in own.links() if link.kind == "veth" and link.name.startswith("veth")]
    assert len(veths) == 1
    assert ask("127.0.0.1", 8080)
    assert keep.process.poll() is None
    assert record.network_settings.ports["80/tcp"][0].host_port == "8080"


def test_a_udp_client_that_was_there_before_the_port_is_served(host):
    """The kernel keeps what it decided for a flow: it must forget, at publish and at release."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client:
        client.settimeout(0.5)
        client.connect(("192.0.2.2", 8080))
        client.send(b"too early")
        with pytest.raises(OSError):
            client.recv(10)
        client.settimeout(30)
        for _round in range(2):
            record, _space = published(host, "udp")
            client.send(b"?")
            assert client.recv(100)
            host.stop(record)


def test_a_running_daemon_notices_a_flush_and_rules_changed_by_hand(host):
    published(host)
    table = host.networks.firewall.table

    async def scenario():
        host.networks.watch()
        for command in (
            ["flush", "ruleset"], ["flush", "chain", "inet", table, "forward"], ["delete", "table", "bridge", table],
            ["insert", "rule", "inet", table, "forward", "accept"],
            ["flush", "map", "inet", table, "ports_any"], ["flush", "set", "bridge", table, "macs"],
        ):
            before = host.networks.watcher.repairs
            host.networks.watcher._rested = 0.0  # the pause between two repairs is not what is tested
            subprocess.run(["nft", *command], check=True)
            async with asyncio.timeout(60):
                while host.networks.watcher.repairs == before:  # noqa: ASYNC110
                    await asyncio.sleep(0.01)
            assert host.networks.firewall.whole()
        before = host.networks.watcher.repairs
        subprocess.run(["nft", "add", "table", "inet", "other"], check=True)  # not ours
        await asyncio.sleep(0.2)
        assert host.networks.watcher.repairs == before
        host.networks.watcher.close()

    host.loop.run(scenario())
    assert ask("127.0.0.1", 8080)


def test_the_administrators_chain_is_asked_first_and_kept(host):
    published(host)
    table = host.networks.firewall.table
    subprocess.run(["nft", "add", "rule", "inet", table, "user", "meta", "l4proto", "tcp",
                    "ct", "original", "proto-dst", "8080", "drop"], check=True)
    assert host.neighbour.silent("192.0.2.2", 8080)
    assert host.networks.firewall.whole()
    host.networks.firewall.install()
    assert host.neighbour.silent("192.0.2.2", 8080)
    host.loop.run(host.networks.teardown())
    rules = subprocess.run(["nft", "list", "ruleset"], check=True, capture_output=True, text=True).stdout
    assert "proto-dst 8080 drop" in rules and "corten" not in rules.replace(table, "")
    subprocess.run(["nft", "flush", "chain", "inet", table, "user"], check=True)
    host.loop.run(host.networks.teardown())
    assert subprocess.run(["nft", "list", "ruleset"], check=True, capture_output=True, text=True).stdout == ""
