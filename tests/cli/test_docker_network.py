"""Networks, ports and volumes by the real docker CLI against a running daemon."""

import json
import os
import re
import socket
import time
import urllib.request

import pytest
from corten_command import corten
from daemon_process import DOCKER

pytestmark = pytest.mark.skipif(DOCKER is None, reason="needs the docker CLI")

SERVE = "mkdir /w; echo hello >/w/index.html; exec httpd -f -p 80 -h /w"


def free_port():
    with socket.socket() as probe:
        probe.bind(("", 0))
        return probe.getsockname()[1]


def get(address, port):
    deadline = time.monotonic() + 90
    while True:
        try:
            with urllib.request.urlopen(f"http://{address}:{port}/", timeout=30) as answer:
                return answer.read().decode()
        except OSError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.02)


def own_address():
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        probe.connect(("192.0.2.1", 9))
        return probe.getsockname()[0]


def docker(engine, *arguments, fails=None):
    done = engine.docker(*arguments)
    if fails is None:
        assert done.returncode == 0, done.stderr
        return done.stdout.strip()
    assert done.returncode != 0, done.stdout
    assert re.search(fails, done.stderr), done.stderr
    return done.stderr


def test_publish_reach_inspect_and_let_go(engine):
    port = free_port()
    docker(engine, "run", "-d", "--name", "web", "-p", f"{port}:80", "busybox", "sh", "-c", SERVE)
    assert get("127.0.0.1", port) == "hello\n"
    assert get(own_address(), port) == "hello\n"
    assert docker(engine, "port", "web") == f"80/tcp -> 0.0.0.0:{port}"
    assert f"0.0.0.0:{port}->80/tcp" in docker(engine, "ps")
    address = docker(engine, "inspect", "-f", "{{range .NetworkSettings.Networks}}{{.IPAddress}}{{end}}", "web")
    host_port = docker(engine, "inspect", "-f", '{{(index (index .NetworkSettings.Ports "80/tcp") 0).HostPort}}', "web")
    assert int(host_port) == port
    bridge = json.loads(docker(engine, "network", "inspect", "bridge"))[0]
    member, = bridge["Containers"].values()
    assert member["Name"] == "web"
    assert member["IPv4Address"].partition("/")[0] == address
    assert address in docker(engine, "exec", "web", "cat", "/etc/hosts")
    docker(engine, "run", "--rm", "-p", f"{port}:80", "busybox", "true", fails=r"driver failed programming external "
           rf"connectivity on endpoint \w+ \([0-9a-f]{{64}}\): Bind for 0.0.0.0:{port} failed: port is already allocated")
    docker(engine, "stop", "-t", "0", "web")
    with socket.socket() as taker:
        taker.bind(("0.0.0.0", port))
        taker.listen()
        docker(engine, "start", "web", fails="address already in use")
    docker(engine, "start", "web")
    assert get("127.0.0.1", port) == "hello\n"
    docker(engine, "rm", "-f", "web")
    with socket.socket() as taker:
        taker.bind(("0.0.0.0", port))


def test_ephemeral_ports_udp_and_ranges(engine):
    low = free_port() // 10 * 10
    docker(engine, "run", "-d", "--name", "many", "-p", "80", "-p", f"127.0.0.1:{low}-{low + 3}:90/udp", "-P",
           "--expose", "99", "busybox", "sleep", "1000")
    ports = json.loads(docker(engine, "inspect", "-f", "{{json .NetworkSettings.Ports}}", "many"))
    assert int(ports["80/tcp"][0]["HostPort"]) >= 32768
    assert int(ports["99/tcp"][0]["HostPort"]) >= 32768
    assert ports["90/udp"][0]["HostIp"] == "127.0.0.1"
    assert low <= int(ports["90/udp"][0]["HostPort"]) <= low + 3


def test_a_network_of_ones_own(engine):
    network_id = docker(engine, "network", "create", "--label", "a=b", "--subnet", "10.249.7.0/24", "own")
    try:
        docker(engine, "run", "-d", "--name", "fixed", "--network", "own", "--ip", "10.249.7.77", "--network-alias", "x",
               "busybox", "sleep", "1000")
        found = json.loads(docker(engine, "inspect", "fixed"))[0]["NetworkSettings"]["Networks"]["own"]
        assert (found["IPAddress"], found["Gateway"], found["NetworkID"]) == ("10.249.7.77", "10.249.7.1", network_id)
        assert found["DNSNames"][:2] == ["fixed", "x"]
        docker(engine, "network", "rm", "own", fails="network own has active endpoints")
        docker(engine, "network", "create", "own", fails="network with name own already exists")
        docker(engine, "network", "create", "--subnet", "10.249.7.0/25", "over", fails="Pool overlaps with other one")
        docker(engine, "run", "--rm", "--network", "own", "--ip", "10.249.7.77", "busybox", "true",
               fails="Address already in use")
        assert "own" in docker(engine, "network", "ls", "--filter", "label=a=b", "--format", "{{.Name}}")
        docker(engine, "network", "connect", "bridge", "fixed")
        assert "eth1" in docker(engine, "exec", "fixed", "ip", "a")
        docker(engine, "network", "disconnect", "own", "fixed")
        assert "eth0" not in docker(engine, "exec", "fixed", "ip", "a").replace("@", " ").split("eth1")[0]
        docker(engine, "rm", "-f", "fixed")
    finally:
        docker(engine, "network", "rm", "own")
    docker(engine, "network", "inspect", "own", fails="network own not found")


def test_modes_and_refusals(engine):
    assert "eth0" not in docker(engine, "run", "--rm", "--network", "none", "busybox", "ip", "a")
    assert "LOOPBACK,UP" in docker(engine, "run", "--rm", "--network", "none", "busybox", "ip", "a")
    docker(engine, "run", "-d", "--name", "first", "busybox", "sleep", "1000")
    address = docker(engine, "inspect", "-f", "{{.NetworkSettings.IPAddress}}", "first")
    assert address in docker(engine, "run", "--rm", "--network", "container:first", "busybox", "ip", "a")
    assert f"{engine.bridge}:" in docker(engine, "run", "--rm", "--network", "host", "busybox", "cat", "/proc/net/dev")
    docker(engine, "run", "--rm", "--network", "nope", "busybox", "true", fails="network nope not found")
    docker(engine, "network", "rm", "bridge", fails="bridge is a pre-defined network and cannot be removed")
    docker(engine, "network", "create", "-d", "foo", "z", fails='plugin "foo" not found')
    docker(engine, "network", "create", "-d", "macvlan", "-o", "parent=nope.5", "z",
           fails="parent interface was not found on the host: nope")
    docker(engine, "network", "create", "-d", "macvlan", "-o", "parent=nope", "z",
           fails="invalid subinterface vlan name nope, example formatting is eth0.10")
    docker(engine, "network", "create", "-d", "macvlan", "-o", "parent=lo", "z", fails="loopback interface is not a valid")
    docker(engine, "network", "create", "-d", "overlay", "z", fails="overlay needs a swarm")
    docker(engine, "network", "create", "-o", "foo=bar", "z", fails="network option foo is not supported")
    docker(engine, "network", "create", "-o", "com.docker.network.bridge.gateway_mode_ipv4=isolated", "z",
           fails="gateway mode 'isolated' can only be used for an internal network")
    docker(engine, "run", "--rm", "--ip", "172.17.0.99", "busybox", "true",
           fails="user specified IP address is supported on user defined networks only")


def test_hosts_and_resolvers(engine):
    text = docker(engine, "run", "--rm", "--add-host", "db:1.2.3.4", "--add-host", "gw:host-gateway", "--dns", "9.9.9.9",
                  "--dns-search", "foo.com", "--dns-option", "ndots:2", "--hostname", "web", "busybox", "sh", "-c",
                  "cat /etc/hosts /etc/resolv.conf /etc/hostname")
    assert "1.2.3.4\tdb" in text
    assert re.search(r"\d\tgw\n", text)
    assert re.search(r"\d\tweb\n", text)
    assert "nameserver 9.9.9.9\nsearch foo.com\noptions ndots:2" in text


def test_published_ports_survive_the_daemon(leaks, own_engine):
    port = free_port()
    docker(own_engine, "run", "-d", "--name", "web", "-p", f"{port}:80", "busybox", "sh", "-c", SERVE)
    assert get("127.0.0.1", port) == "hello\n"
    own_engine.kill()
    assert get("127.0.0.1", port) == "hello\n"
    own_engine.start()
    assert get("127.0.0.1", port) == "hello\n"
    docker(own_engine, "run", "--rm", "-p", f"{port}:80", "busybox", "true", fails="port is already allocated")
    docker(own_engine, "rm", "-f", "web")


def test_volumes_live_as_long_as_they_should(engine):
    docker(engine, "volume", "create", "--label", "a=b", "data")
    docker(engine, "run", "--rm", "-v", "data:/d", "busybox", "sh", "-c", "echo kept >/d/file")
    assert docker(engine, "run", "--rm", "-v", "data:/d:ro", "busybox", "cat", "/d/file") == "kept"
    docker(engine, "run", "--rm", "-v", "data:/d:ro", "busybox", "touch", "/d/file", fails="Read-only")
    container = docker(engine, "run", "-d", "--name", "user", "-v", "data:/d", "-v", "/anonymous", "busybox", "sleep", "1000")
    docker(engine, "volume", "rm", "data", fails=rf"remove data: volume is in use - \[{container}\]")
    names = docker(engine, "volume", "ls", "-q").split()
    assert len(names) == 2
    docker(engine, "rm", "-fv", "user")
    assert docker(engine, "volume", "ls", "-q") == "data"
    mountpoint = json.loads(docker(engine, "volume", "inspect", "data"))[0]["Mountpoint"]
    assert open(f"{mountpoint}/file").read() == "kept\n"
    docker(engine, "volume", "rm", "data")
    docker(engine, "volume", "inspect", "data", fails="get data: no such volume")
    docker(engine, "run", "--rm", "-v", "/anonymous", "busybox", "true")
    assert docker(engine, "volume", "ls", "-q") == ""
    docker(engine, "volume", "create", "x", fails="volume name is too short")


def test_a_new_volume_shows_what_the_image_has(engine):
    assert "sh" in docker(engine, "run", "--rm", "-v", "fresh:/bin2", "-v", "copied:/bin", "busybox", "ls", "/bin")
    inside = docker(engine, "run", "--rm", "-v", "copied:/x", "busybox", "ls", "/x").split()
    assert "busybox" in inside or "sh" in inside
    assert docker(engine, "run", "--rm", "-v", "fresh:/x", "busybox", "ls", "/x") == ""
    assert docker(engine, "run", "--rm", "-v", "empty:/srv:nocopy", "busybox", "ls", "/srv") == ""


def test_the_way_of_the_packets_is_shown(engine):
    port = free_port()
    docker(engine, "run", "-d", "--name", "web", "-p", f"{port}:80", "-p", "127.0.0.1::90", "busybox", "sh", "-c", SERVE)
    assert get("127.0.0.1", port) == "hello\n"
    shown = corten(engine.socket, "network", "inspect", "--trace", "web")
    assert shown.returncode == 0, shown.stderr
    assert re.search(rf"0\.0\.0\.0:{port} -> \S+:80/tcp  answers", shown.stdout)
    assert "DOES NOT ANSWER\n    - nothing listens on 90/tcp in the container" in shown.stdout
    assert corten(engine.socket, "network", "inspect", "--trace", "-f", "{{.Name}}", "web").stdout == "web\n"
    docker(engine, "stop", "-t", "0", "web")
    shown = corten(engine.socket, "network", "inspect", "--trace", "web", "gone")
    assert shown.returncode == 1
    assert "container web is not running" in shown.stderr and "gone" in shown.stderr
    status = engine.api("GET", "/v1.51/corten/containers/gone/network-trace").status
    assert status == 404
    docker(engine, "rm", "-f", "web")


def test_dual_stack_by_the_cli(engine):
    docker(engine, "network", "create", "--ipv6", "--subnet", "fd00:dead:7::/64", "six")
    try:
        docker(engine, "run", "-d", "--name", "fixed6", "--network", "six", "--ip6", "fd00:dead:7::77", "busybox",
               "sleep", "1000")
        found = json.loads(docker(engine, "inspect", "fixed6"))[0]["NetworkSettings"]["Networks"]["six"]
        assert (found["GlobalIPv6Address"], found["IPv6Gateway"], found["GlobalIPv6PrefixLen"]) == (
            "fd00:dead:7::77", "fd00:dead:7::1", 64)
        assert "fd00:dead:7::77/64" in docker(engine, "exec", "fixed6", "ip", "-6", "a")
        assert docker(engine, "run", "--rm", "--sysctl", "net.ipv4.ip_default_ttl=42", "busybox", "cat",
                      "/proc/sys/net/ipv4/ip_default_ttl") == "42"
        docker(engine, "run", "--rm", "--network", "host", "--sysctl", "net.ipv4.ip_default_ttl=42", "busybox", "true",
               fails="not allowed in host network namespace")
    finally:
        docker(engine, "rm", "-f", "fixed6")
        docker(engine, "network", "rm", "six")


def test_address_pools_of_the_operator():
    from daemon_process import Daemon
    number = os.getpid() % 200
    daemon = Daemon("--default-address-pool", f"base=10.251.{number}.0/24,size=28",
                    "--default-address-pool", f"base=10.252.{number}.0/24,size=28").start()
    try:
        for number_of in range(3):
            docker(daemon, "network", "create", f"pool{number_of}")
        subnets = {row["IPAM"]["Config"][0]["Subnet"] for row in daemon.api("GET", "/networks").json if row["Name"].startswith("pool")}
        assert len(subnets) == 3 and all(subnet.startswith("10.251.") and subnet.endswith("/28") for subnet in subnets)
        assert daemon.api("GET", "/info").json["DefaultAddressPools"][0] == {"Base": f"10.251.{number}.0/24", "Size": 28}
        for number_of in range(3):
            docker(daemon, "network", "rm", f"pool{number_of}")
    finally:
        daemon.close()
