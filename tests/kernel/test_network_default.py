"""The default network as flags of the daemon make it: IPv6, ranges, routers, icc, binding address, forwarding."""

import os
from ipaddress import ip_address, ip_network

import pytest
from netns_hosts import ask, outside, silent

from corten.base.errors import Forbidden, InvalidArgument, NotFound, Unsupported
from corten.daemon import config as flags
from corten.engine.default_settings import DefaultNetwork, network_options
from corten.engine.network_records import CreateNetwork
from corten.engine.settings import NetworkSettings
from corten.linux.netlink import Socket

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="needs root")


def test_ipv6_of_the_default_network_reaches_and_is_reached(tmp_path):
    with outside(tmp_path, ipv6=True) as host:
        shown = host.networks.inspect("bridge")
        four, six = shown["IPAM"]["Config"]
        assert shown["EnableIPv6"] and ip_network(six["Subnet"]).prefixlen == 64 and six["Gateway"]
        record = host.record(ports={"80/tcp": ("", "8080")})
        space = host.start(record)
        space.serve(80, address="::")
        endpoint = record.networking["bridge"]
        assert ip_address(endpoint.global_ipv6_address) in ip_network(six["Subnet"])
        assert endpoint.ipv6_gateway == six["Gateway"] and endpoint.gateway == four["Gateway"]
        assert host.neighbour.ask("2001:db8::2", 8080) == "2001:db8::9"
        assert host.neighbour.ask("192.0.2.2", 8080) and ask("127.0.0.1", 8080)
        host.neighbour.serve(90, address="::")
        assert space.ask("2001:db8::9", 90) == "2001:db8::2"  # outbound, under the host's address
        sibling = host.start(host.record())
        assert sibling.ask(endpoint.global_ipv6_address, 80)
        host.restart()
        assert host.networks.inspect("bridge")["IPAM"]["Config"] == [four, six]
        assert host.neighbour.ask("2001:db8::2", 8080) == "2001:db8::9"


def test_ipv6_is_taken_off_again(tmp_path):
    with outside(tmp_path, ipv6=True) as host:
        assert host.networks.inspect("bridge")["EnableIPv6"]
        host.settings.ipv6 = False
        host.restart()
        shown = host.networks.inspect("bridge")
        assert not shown["EnableIPv6"] and len(shown["IPAM"]["Config"]) == 1
        record = host.record()
        host.start(record)
        assert not record.networking["bridge"].global_ipv6_address


def test_ranges_and_routers_of_both_families(tmp_path):
    given = {"bip": "10.88.0.1/16", "fixed_cidr": "10.88.7.0/24", "default_gateway": "10.88.0.9", "ipv6": True,
             "bip6": "fd00:88::1/64", "fixed_cidr_v6": "fd00:88:0:0:7::/80", "default_gateway_v6": "fd00:88::9"}
    with outside(tmp_path, **given) as host:
        assert host.networks.inspect("bridge")["IPAM"]["Config"] == [
            {"Subnet": "10.88.0.0/16", "IPRange": "10.88.7.0/24", "Gateway": "10.88.0.1",
             "AuxiliaryAddresses": {"DefaultGatewayIPv4": "10.88.0.9"}},
            {"Subnet": "fd00:88::/64", "IPRange": "fd00:88:0:0:7::/80", "Gateway": "fd00:88::1",
             "AuxiliaryAddresses": {"DefaultGatewayIPv6": "fd00:88::9"}}]
        record = host.record()
        space = host.start(record)
        endpoint = record.networking["bridge"]
        assert ip_address(endpoint.ip_address) in ip_network("10.88.7.0/24")
        assert ip_address(endpoint.global_ipv6_address) in ip_network("fd00:88:0:0:7::/80")
        assert (endpoint.gateway, endpoint.ipv6_gateway) == ("10.88.0.9", "fd00:88::9")
        with open(f"/proc/{space.pid}/net/route") as routes:
            assert "0900580A" in routes.read()  # 10.88.0.9, as the kernel prints it


def test_options_of_the_default_network(tmp_path):
    with outside(tmp_path, icc=False, ip="127.0.0.1", mtu=1400, ip_masq=False) as host:
        options = host.networks.inspect("bridge")["Options"]
        assert options["com.docker.network.bridge.enable_icc"] == "false"
        assert options["com.docker.network.bridge.enable_ip_masquerade"] == "false"
        record = host.record(ports={"80/tcp": ("", "8080")})
        space = host.start(record)
        space.serve(80)
        assert ask("127.0.0.1", 8080) and host.neighbour.silent("192.0.2.2", 8080)
        assert [one.host_ip for one in record.network_settings.ports["80/tcp"]] == ["127.0.0.1"]
        assert host.start(host.record()).silent(record.networking["bridge"].ip_address, 80)
        with Socket(space.fd) as own:
            assert own.link("eth0").mtu == 1400


def test_forwarding_is_left_alone_when_told_so(tmp_path):
    with outside(tmp_path, ip_forward=False) as host:
        with open("/proc/sys/net/ipv4/ip_forward", "w") as setting:
            setting.write("0")
        host.start(host.record())
        with open("/proc/sys/net/ipv4/ip_forward") as setting:
            assert setting.read() == "0\n"


def test_name_servers_and_host_gateway_of_the_daemon(tmp_path):
    given = {"dns": ["192.0.2.53"], "dns_search": ["corp.example"], "dns_options": ["timeout:3"],
             "host_gateways": ["192.0.2.77", "fd00::77"]}
    with outside(tmp_path, **given) as host:
        record = host.record(extra_hosts=["box:host-gateway"])
        host.start(record)
        folder = host.layout.container(record.id)
        with open(f"{folder}/resolv.conf") as file:
            text = file.read()
        assert "nameserver 192.0.2.53\nsearch corp.example\noptions timeout:3\n" in text
        with open(f"{folder}/hosts") as file:
            assert "192.0.2.77\tbox\nfd00::77\tbox\n" in file.read()
        own = host.record(dns=["192.0.2.54"])
        host.start(own)
        with open(f"{host.layout.container(own.id)}/resolv.conf") as file:
            assert "nameserver 192.0.2.54\n" in file.read()


def test_default_options_of_a_driver(tmp_path):
    given = {"network_options": ["bridge=com.docker.network.driver.mtu=1234"]}
    with outside(tmp_path, **given) as host:
        host.loop.run(host.networks.create(CreateNetwork(name="plain")))
        host.loop.run(host.networks.create(CreateNetwork(name="own", options={"com.docker.network.driver.mtu": "1300"})))
        assert [host.networks.get(name).options.mtu for name in ("bridge", "plain", "own")] == [1500, 1234, 1300]
        host.start(host.record(network="plain"))  # too small for IPv6: the kernel has none on such links


@pytest.mark.parametrize(("given", "kind"), [
    ({"fixed_cidr": "10.9.0.0/24", "bip": "172.17.0.1/16"}, InvalidArgument),
    ({"default_gateway": "10.9.0.1", "bip": "172.17.0.1/16"}, InvalidArgument),
])
def test_ranges_and_routers_lie_in_the_network(tmp_path, given, kind):
    settings = NetworkSettings()
    for name, value in given.items():
        setattr(settings, name, value)
    with outside(tmp_path) as host:
        host.settings = settings
        with pytest.raises(kind):
            host.restart()
        host.settings = NetworkSettings()
        host.networks = host._open()


def test_without_a_default_network_a_container_has_its_loopback_alone(tmp_path):
    """As dockerd does it: no network named bridge, ports are not published, other networks work."""
    with outside(tmp_path, bridge="none") as host:
        assert [one["Name"] for one in host.networks.list()] == ["host", "none"]
        with pytest.raises(NotFound, match="network bridge not found"):
            host.networks.inspect("bridge")
        with pytest.raises(Forbidden, match="predefined bridge network"):
            host.loop.run(host.networks.create(CreateNetwork(name="bridge")))
        record = host.record(ports={"80/tcp": ("", "8080")})
        space = host.start(record)
        space.serve(80)
        assert space.ask("127.0.0.1", 80)  # it does listen
        assert links_of(space) == {"lo"} and silent("127.0.0.1", 8080)
        shown = host.networks.settings(record)
        assert shown["Ports"] == {} and shown["Networks"]["bridge"]["IPAddress"] == ""
        host.loop.run(host.networks.create(CreateNetwork(name="shop")))
        host.loop.run(host.networks.connect("shop", record.id))
        assert links_of(space) == {"lo", "eth0"}
        member = host.start(host.record(network="shop", ports={"80/tcp": ("", "8081")}))
        member.serve(80)
        assert host.neighbour.ask("192.0.2.2", 8081)
        assert space.ask(host.networks.connected(host.networks.get("shop"))[-1].networking["shop"].ip_address, 80)
        host.restart()
        assert host.neighbour.ask("192.0.2.2", 8081) and links_of(space) == {"lo", "eth0"}
        host.loop.run(host.networks.disconnect("shop", record.id))
        assert links_of(space) == {"lo"}


def test_the_default_network_goes_with_its_bridge_and_comes_back(tmp_path):
    with outside(tmp_path) as host:
        runs, name = host.record(ports={"80/tcp": ("", "8080")}), host.networks.bridge
        host.start(runs).serve(80)
        assert ask("127.0.0.1", 8080) and os.path.exists(f"/proc/sys/net/ipv4/conf/{name}")
        host.settings.bridge = "none"
        host.restart()
        assert host.networks.find("bridge") is None and not os.path.exists(f"/proc/sys/net/ipv4/conf/{name}")
        assert silent("127.0.0.1", 8080)
        host.restart()  # what is gone is gone
        host.stop(runs)
        host.settings.bridge = ""
        host.restart()
        host.start(runs).serve(80)
        assert ask("127.0.0.1", 8080) and os.path.exists(f"/proc/sys/net/ipv4/conf/{name}")


def links_of(space):
    """The names of the links in a namespace."""
    with Socket(space.fd) as inner:
        return {link.name for link in inner.links()}


@pytest.mark.parametrize(("line", "kind"), [
    (["--bip", "x"], InvalidArgument), (["--bip6", "10.0.0.1/8"], InvalidArgument), (["--mtu", "20"], InvalidArgument),
    (["--ip", "300.1.1.1"], InvalidArgument), (["--dns", "x"], InvalidArgument),
    (["--fixed-cidr", "fd00::/64"], InvalidArgument), (["--iptables=false"], Unsupported),
    (["--userland-proxy"], Unsupported), (["--default-network-opt", "bridge"], InvalidArgument),
    (["--default-network-opt", "nope=a=b"], NotFound), (["--default-address-pool", "base=10.0.0.0/16"], InvalidArgument),
    (["--host-gateway-ip", "x"], InvalidArgument),
])
def test_flags_that_cannot_be_are_refused(line, kind):
    with pytest.raises(kind):
        flags.parse(line)


def test_flags_as_dockerd_takes_them():
    network = flags.parse(["--ipv6", "--icc=false", "--ip-masq=0", "--userland-proxy=false", "--iptables", "--dns",
                           "1.1.1.1", "--dns", "::1", "--mtu=9000"]).network
    assert network.ipv6 and not network.icc and not network.ip_masq and network.mtu == 9000
    assert network.dns == ["1.1.1.1", "::1"]
    without = flags.parse(["--bridge", "none"]).network
    assert DefaultNetwork(without, "x0").absent and not DefaultNetwork(network, "x0").absent
    assert network_options(["bridge=a.b=c=d"]) == {"bridge": {"a.b": "c=d"}}
    assert DefaultNetwork(network, "x0").options["com.docker.network.bridge.enable_icc"] == "false"
