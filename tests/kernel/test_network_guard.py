"""What a container with raw sockets may not do: pass for a neighbour, be a router, reach what is not published."""

import os
import socket
import struct
import subprocess
import sys
import time

import pytest
from netns_hosts import ask, inside, outside

from corten.engine.network_records import CreateNetwork
from corten.linux.netlink import Batch, Socket, hardware_address
from corten.network.ruleset import link_local

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="needs root")

ETH_P_ALL, ARP, IPV4, IPV6 = 3, 0x0806, 0x0800, 0x86DD
OTHER_MAC = "02:aa:aa:aa:aa:aa"
BROADCAST = "ff:ff:ff:ff:ff:ff"


@pytest.fixture
def pair(tmp_path):
    """A culprit and a victim on a dual-stack network."""
    with outside(tmp_path) as host:
        host.loop.run(host.networks.create(CreateNetwork(name="dual", enable_ipv6=True)))
        records = [host.record(network="dual") for _ in range(2)]
        spaces = [host.start(record) for record in records]
        yield host, *[Member(space, record.networking["dual"]) for space, record in zip(spaces, records, strict=True)]


class Member:
    def __init__(self, space, endpoint):
        self.space = space
        self.mac, self.four, self.six = endpoint.mac_address, endpoint.ip_address, endpoint.global_ipv6_address

    def raw(self):
        with inside(self.space.fd):
            made = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(ETH_P_ALL))
        made.bind(("eth0", 0))
        return made


def frame(target, source, kind, body):
    return hardware_address(target) + hardware_address(source) + struct.pack(">H", kind) + body


def arp(mac, address, target):
    return struct.pack(">HHBBH", 1, IPV4, 6, 4, 2) + hardware_address(mac) + socket.inet_aton(address) + (
        bytes(6) + socket.inet_aton(target))


def ipv4(source, target, body=b"forged!!"):
    head = struct.pack(">BBHHHBBH4s4s", 0x45, 0, 20 + len(body), 7, 0, 64, 253, 0, socket.inet_aton(source),
                       socket.inet_aton(target))
    total = sum(struct.unpack(">10H", head))
    total = (total & 0xFFFF) + (total >> 16)
    return head[:10] + struct.pack(">H", ~total & 0xFFFF) + head[12:] + body


def icmp6(source, target, kind, body):
    packed = socket.inet_pton(socket.AF_INET6, source), socket.inet_pton(socket.AF_INET6, target)
    message = bytes([kind, 0, 0, 0]) + body
    whole = b"".join(packed) + struct.pack(">II", len(message), 58) + message
    total = sum(struct.unpack(f">{len(whole) // 2}H", whole))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    message = message[:2] + struct.pack(">H", ~total & 0xFFFF) + message[4:]
    return struct.pack(">IHBB", 6 << 28, len(message), 58, 255) + b"".join(packed) + message


def frames(culprit, victim, host):
    """name -> (frame, whether it may pass)."""
    local = str(link_local(culprit.mac))
    gateway = host.networks.get("dual").record.gateway
    advert = struct.pack(">BBHII", 64, 0, 1800, 0, 0) + bytes([3, 4, 64, 0xC0]) + struct.pack(">III", 9999, 9999, 0) + (
        socket.inet_pton(socket.AF_INET6, "2001:db8:bad::"))

    def neighbour(address):
        return struct.pack(">I", 0x20000000) + socket.inet_pton(socket.AF_INET6, address) + bytes([2, 1]) + (
            hardware_address(culprit.mac))

    own = culprit.mac
    return {
        "own ARP": (frame(BROADCAST, own, ARP, arp(own, culprit.four, victim.four)), True),
        "ARP for the gateway": (frame(BROADCAST, own, ARP, arp(own, gateway, victim.four)), False),
        "ARP for the victim": (frame(BROADCAST, own, ARP, arp(own, victim.four, gateway)), False),
        "ARP with another MAC inside": (frame(BROADCAST, own, ARP, arp(OTHER_MAC, culprit.four, victim.four)), False),
        "another MAC": (frame(victim.mac, OTHER_MAC, IPV4, ipv4(culprit.four, victim.four)), False),
        "own IPv4": (frame(victim.mac, own, IPV4, ipv4(culprit.four, victim.four)), True),
        "the victim's IPv4": (frame(victim.mac, own, IPV4, ipv4(victim.four, victim.four)), False),
        "a stranger's IPv4": (frame(victim.mac, own, IPV4, ipv4("192.0.2.9", victim.four)), False),
        "own IPv6": (frame(victim.mac, own, IPV6, icmp6(culprit.six, victim.six, 129, b"echo")), True),
        "a stranger's IPv6": (frame(victim.mac, own, IPV6, icmp6("2001:db8::9", victim.six, 129, b"echo")), False),
        "router advertisement": (frame("33:33:00:00:00:01", own, IPV6, icmp6(local, "ff02::1", 134, advert)), False),
        "redirect": (frame(victim.mac, own, IPV6, icmp6(local, victim.six, 137, bytes(36))), False),
        "own neighbour advertisement": (
            frame("33:33:00:00:00:01", own, IPV6, icmp6(culprit.six, "ff02::1", 136, neighbour(culprit.six))), True),
        "advertisement of the victim": (
            frame("33:33:00:00:00:01", own, IPV6, icmp6(culprit.six, "ff02::1", 136, neighbour(victim.six))), False),
        "another protocol": (frame(victim.mac, own, 0x88B5, b"local experimental"), False),
        "VLAN tag": (frame(victim.mac, own, 0x8100, struct.pack(">HH", 5, IPV4) + ipv4(culprit.four, victim.four)), False),
    }


def passed(culprit, victim, sent):
    """Names of the frames that arrive at the victim; the last one is a mark that always does."""
    mark = frame(victim.mac, culprit.mac, IPV4, ipv4(culprit.four, victim.four, b"the end."))
    with culprit.raw() as out, victim.raw() as listener:
        listener.settimeout(30)
        for data, _ in sent.values():
            out.send(data)
        out.send(mark)
        seen = []
        while True:
            data = listener.recv(2000)
            if data == mark:
                return {name for name, (one, _) in sent.items() if one in seen}
            seen.append(data)


def test_frames_of_a_container_carry_its_own_addresses(pair):
    host, culprit, victim = pair
    sent = frames(culprit, victim, host)
    assert passed(culprit, victim, sent) == {name for name, (_, may) in sent.items() if may}
    assert culprit.space.ask("192.0.2.2", 1) is None  # and the link works still: an answer, though a refusal
    counters = subprocess.run(["nft", "list", "chain", "bridge", host.networks.firewall.table, "source"], check=True,
                              capture_output=True, text=True).stdout
    assert 'nd-router-advert counter packets 1' in counters


def test_without_the_guard_they_would_pass(pair):
    """The control: the option takes the guard away, and every frame but none arrives."""
    host, *_ = pair
    host.loop.run(host.networks.create(CreateNetwork(
        name="loose", options={"corten.network.source_guard": "false"})))
    records = [host.record(network="loose") for _ in range(2)]
    culprit, victim = (Member(host.start(record), record.networking["loose"]) for record in records)
    sent = {"spoofed": (frame(victim.mac, OTHER_MAC, IPV4, ipv4("192.0.2.9", victim.four)), True)}
    assert passed(culprit, victim, sent) == {"spoofed"}


def test_a_privileged_container_may_route_for_others(pair):
    host, *_ = pair
    records = [host.record(network="dual", privileged=True), host.record(network="dual")]
    router, victim = (Member(host.start(record), record.networking["dual"]) for record in records)
    sent = {"routed": (frame(victim.mac, router.mac, IPV4, ipv4("10.244.1.7", victim.four)), True)}
    assert passed(router, victim, sent) == {"routed"}


def test_a_link_that_outlives_its_container_is_barred(pair):
    """Its addresses are given to others: whoever keeps the namespace may not go on with them."""
    host, culprit, victim = pair
    record = next(one for one in host.table if one.networking["dual"].ip_address == culprit.four)
    record.state.status = "exited"
    out = culprit.raw()
    host.loop.run(host.networks.release(record))
    heir = host.record(network="dual")
    Member(host.start(heir), heir.networking["dual"])
    with victim.raw() as listener:
        listener.settimeout(1)
        data = frame(victim.mac, culprit.mac, IPV4, ipv4(culprit.four, victim.four, b"a ghost?"))
        try:
            out.send(data)
            while True:
                assert listener.recv(2000) != data
        except OSError:  # the link is gone, or nothing came
            pass
    out.close()


def test_a_neighbour_with_a_route_gets_nowhere(pair):
    """Published or not, a container's own address is not for other hosts; nor with a forged source."""
    host, culprit, _ = pair
    culprit.space.serve(80)
    assert ask(culprit.four, 80)
    assert host.neighbour.silent(culprit.four, 80)
    with Socket(host.neighbour.fd) as inner:  # as one of the network itself
        batch = Batch()
        from ipaddress import ip_interface
        batch.address(inner.link("eth0").index, ip_interface(f"{culprit.four.rpartition('.')[0]}.99/32"))
        inner.run(batch)
    with inside(host.neighbour.fd), socket.socket() as client:
        client.settimeout(0.5)
        client.bind((f"{culprit.four.rpartition('.')[0]}.99", 0))
        with pytest.raises(OSError):
            client.connect((culprit.four, 80))


FORGE = """
import socket, struct, sys
source, destination, port = sys.argv[1], sys.argv[2], int(sys.argv[3])
data = b"forged"
udp = struct.pack(">HHHH", 5300, port, 8 + len(data), 0) + data
ip = struct.pack(">BBHHHBBH4s4s", 0x45, 0, 20 + len(udp), 1, 0, 64, 17, 0, socket.inet_aton(source),
                 socket.inet_aton(destination))
raw = socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_RAW)
raw.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, b"eth0")
raw.sendto(ip + udp, (destination, 0))
"""


def test_who_may_send_anything_still_answers_for_no_service_of_loopback(tmp_path):
    """A privileged container that passes for 127.0.0.53, the host's resolver, in a conversation that is under way."""
    with outside(tmp_path) as host:
        record = host.record(privileged=True, ports={"80/tcp": ("127.0.0.1", "8080")})
        space = host.start(record)
        space.serve(80)
        assert ask("127.0.0.1", 8080)  # the way that a loopback port takes is open
        server, client = (socket.socket(socket.AF_INET, socket.SOCK_DGRAM) for _ in range(2))
        server.bind(("127.0.0.53", 5300))
        client.bind(("127.0.0.1", 0))
        client.connect(("127.0.0.53", 5300))
        client.settimeout(30)
        client.send(b"?")
        assert server.recvfrom(10)[0] == b"?"
        port = client.getsockname()[1]
        gateway = record.networking["bridge"].gateway
        enter = ["nsenter", "-t", str(space.pid), "-n"]
        for line in ("addr flush dev lo", "route flush table local 127.0.0.0/8"):
            subprocess.run([*enter, "ip", *line.split()], check=False, capture_output=True)
        for link in ("all", "eth0"):
            allow = f"echo 1 > /proc/sys/net/ipv4/conf/{link}/route_localnet"
            subprocess.run([*enter, "sh", "-c", allow], check=True)
        subprocess.run([*enter, "ip", "route", "add", "127.0.0.0/8", "via", gateway, "dev", "eth0"], check=True)
        for source, destination in (("127.0.0.53", "127.0.0.1"), (record.networking["bridge"].ip_address, "127.0.0.1")):
            before = loopback_drops(host)
            subprocess.run([*enter, sys.executable, "-c", FORGE, source, destination, str(port)], check=True)
            deadline = time.monotonic() + 30
            while loopback_drops(host) == before:
                assert time.monotonic() < deadline, f"{source} was not seen"
                time.sleep(0.01)
        server.sendto(b"genuine", ("127.0.0.1", port))
        assert client.recv(100) == b"genuine"
        server.close()
        client.close()


def loopback_drops(host):
    firewall = host.networks.firewall
    return sum(rule.packets or 0 for rule in firewall.socket.rules(firewall.table, chain="guard"))
