"""What --trace says of a container's packets: true of a way that works, and the right reason for each that does not."""

import os
import socket
import subprocess

import pytest
from netns_hosts import outside

from corten.base.errors import Conflict
from corten.cli.network_trace import lines
from corten.engine.network_records import CreateNetwork

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="needs root")


@pytest.fixture
def host(tmp_path):
    with outside(tmp_path) as made:
        yield made


def test_a_way_that_works(host):
    record = host.record("web", ports={"80/tcp": ("", "8080")})
    host.start(record).serve(80)
    assert host.neighbour.ask("192.0.2.2", 8080)
    found = host.networks.trace("web")
    assert [(port["Answers"], port["Reasons"], port["Notes"]) for port in found["Ports"]] == [(True, [], [])]
    (network,) = found["Networks"]
    address = record.networking["bridge"].ip_address
    assert network["Addresses"] == network["Expected"] == [f"{address}/16"]
    assert network["Link"]["Name"] == "eth0" and network["HostLink"]["Works"] and network["Device"]["Kind"] == "bridge"
    assert found["Routes"][0] == {
        "Destination": "default", "Gateway": record.networking["bridge"].gateway, "Link": "eth0"}
    assert any(rule["Rule"].startswith("published #") and rule["Packets"] for rule in found["Rules"])
    text = "\n".join(lines(found))
    assert f"0.0.0.0:8080 -> {address}:80/tcp  answers" in text
    assert "forward: published" in text


def test_each_reason_a_port_does_not_answer(host):
    host.loop.run(host.networks.create(CreateNetwork(name="inner", internal=True)))
    record = host.record("web", exposed=["85/tcp"], ports={
        "80/tcp": ("", "8080"), "81/tcp": ("127.0.0.1", "8081"), "82/tcp": ("192.0.2.2", "8082"), "83/udp": ("", "8083"),
        "84/tcp": ("", "8084")})
    space = host.start(record)
    space.serve(81)
    space.serve(82, address="127.0.0.1")
    space.serve(83, "udp")
    space.serve(84)
    space.serve(85)
    host.start(host.record("inside", network="inner", exposed=["80/tcp"])).serve(80)

    def of(name="web"):
        return {port["ContainerPort"]: port for port in host.networks.trace(name)["Ports"]}

    found = of()
    assert found["80/tcp"]["Reasons"] == ["nothing listens on 80/tcp in the container"]
    assert (found["81/tcp"]["Reasons"], found["81/tcp"]["Notes"]) == (
        [], ["published on 127.0.0.1 only: other hosts do not reach it"])
    assert "listens on 127.0.0.1 only: let it listen on 0.0.0.0" in found["82/tcp"]["Reasons"][0]
    assert found["83/udp"]["Answers"] and found["84/tcp"]["Answers"]
    assert "not published" in found["85/tcp"]["Reasons"][0]
    assert "network inner is internal" in of("inside")["80/tcp"]["Reasons"][0]

    table = host.networks.firewall.table
    subprocess.run(["nft", "add", "rule", "inet", table, "user", "ip", "saddr", "203.0.113.1", "drop"], check=True)
    subprocess.run(["iptables", "-P", "FORWARD", "DROP"], check=True)
    notes = of()["84/tcp"]["Notes"]
    assert any("chain FORWARD of table ip filter drops" in note for note in notes)
    assert any("`user` has 1 rule" in note for note in notes)

    subprocess.run(["nft", "delete", "element", "inet", table, "ports_any", "{ tcp . 8084 }"], check=True)
    assert "does not have it" in of()["84/tcp"]["Reasons"][0]
    with open("/proc/sys/net/ipv4/ip_forward", "w") as file:
        file.write("0")
    assert "net.ipv4.ip_forward is 0: this host forwards nothing" in of()["84/tcp"]["Reasons"]
    host.networks.bridges.unplug("veth" + record.networking["bridge"].endpoint_id[:7])
    trace = host.networks.trace("web")
    assert "has lost its address" in "".join(of()["84/tcp"]["Reasons"])
    assert trace["Networks"][0]["HostLink"] is None
    assert "GONE" in "\n".join(lines(trace)) and "LOST" in "\n".join(lines(trace))


def test_a_port_that_someone_took_while_no_daemon_ran(host):
    record = host.record("web", ports={"80/tcp": ("", "8080")})
    host.start(record).serve(80)
    host.networks.close()
    with socket.socket() as thief:
        thief.bind(("0.0.0.0", 8080))
        thief.listen()
        host.restart()
        assert "a process of the host has 0.0.0.0:8080 too" in host.networks.trace("web")["Ports"][0]["Reasons"][0]


def test_who_has_no_network_of_its_own(host):
    for mode, message in (("host", "uses the host's network"), ("container:x", "uses the network of x")):
        record = host.record(mode.partition(":")[0], network=mode)
        with pytest.raises(Conflict, match="is not running"):
            host.networks.trace(record.name)
        record.state.status, record.state.pid = "running", os.getpid()
        with pytest.raises(Conflict, match=message):
            host.networks.trace(record.name)
        record.state.status = "exited"
