"""macvlan, endpoint options, and the host's own firewalls beside ours; with real links."""

import os
import subprocess
from ipaddress import ip_interface

import pytest
from netns_hosts import ask, inside, outside

from corten.base.errors import Forbidden, Internal, InvalidArgument
from corten.engine.network_records import CreateNetwork, Ipam, Pool
from corten.engine.records import IPAMConfig
from corten.linux import links
from corten.linux.netlink import Batch, NetlinkError, Socket
from corten.linux.routes import routes

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="needs root")


@pytest.fixture
def host(tmp_path):
    with outside(tmp_path) as made:
        yield made


def kernel_has(kind):
    """Whether this kernel makes links of a kind."""
    batch = Batch()
    with Socket() as own:
        try:
            if kind == "dummy":
                links.dummy(batch, "probe0")
            else:
                links.vlan(batch, "probe0", own.link("up0").index, 9)
            own.run(batch)
        except NetlinkError:
            return False
        batch = Batch()
        batch.delete_link("probe0")
        own.run(batch)
        return True


def create(host, name, driver, subnet, gateway="", **more):
    pool = Pool(subnet=subnet, gateway=gateway)
    return host.loop.run(host.networks.create(CreateNetwork(name=name, driver=driver, ipam=Ipam(config=[pool]), **more)))


def names(space=None):
    if space is None:
        with Socket() as own:
            return {link.name for link in own.links()}
    with Socket(space.fd) as there:
        return {link.name for link in there.links()}


def test_macvlan_containers_are_neighbours_of_the_outside(host):
    create(host, "wire", "macvlan", "192.0.2.0/24", "192.0.2.9", options={"parent": "up0"})
    record = host.record(network="wire", ports={"80/tcp": ("", "8080")})
    space = host.start(record)
    space.serve(80)
    address = record.networking["wire"].ip_address
    assert host.neighbour.ask(address, 80) == "192.0.2.9"  # no rule of ours on the way: it is on the wire
    host.neighbour.serve(7000)
    assert space.ask("192.0.2.9", 7000) == address
    other = host.record(network="wire")
    assert host.start(other).ask(address, 80) == other.networking["wire"].ip_address
    assert record.networking["wire"].gateway == "192.0.2.9"
    assert host.networks.inspect("wire")["Options"] == {"parent": "up0"}
    assert names() == {"lo", "up0"}  # nothing of it on the host
    host.stop(record)
    host.stop(other)
    host.loop.run(host.networks.remove("wire"))
    assert names() == {"lo", "up0"}


def test_macvlan_beside_a_bridge_connect_and_disconnect(host):
    create(host, "wire", "macvlan", "198.51.100.0/24", options={"parent": "up0", "macvlan_mode": "private"})
    record = host.record()
    space = host.start(record)
    host.loop.run(host.networks.connect("wire", record.id))
    assert names(space) == {"lo", "eth0", "eth1"}
    host.neighbour.serve(7000)
    assert space.ask("192.0.2.9", 7000) == "192.0.2.2"  # without a gateway it carries no default route
    host.restart()
    host.loop.run(host.networks.disconnect("wire", record.id))
    assert names(space) == {"lo", "eth0"}


def test_parents_are_made_and_removed_where_the_kernel_can(host):
    if kernel_has("vlan"):
        create(host, "tagged", "macvlan", "10.5.0.0/24", options={"parent": "up0.10"})
        assert "up0.10" in names()
        create(host, "again", "macvlan", "10.6.0.0/24", options={"parent": "up0.10"})
        host.loop.run(host.networks.remove("tagged"))
        assert "up0.10" in names()
        host.loop.run(host.networks.remove("again"))
        assert "up0.10" not in names()
    else:
        with pytest.raises(InvalidArgument, match=r"parent up0\.10: this kernel has no VLANs"):
            create(host, "tagged", "macvlan", "10.5.0.0/24", options={"parent": "up0.10"})
    if kernel_has("dummy"):
        record_id = create(host, "inner", "macvlan", "10.7.0.0/24")[0]
        assert f"dm-{record_id[:12]}" in names() and host.networks.inspect("inner")["Internal"]
        host.loop.run(host.networks.remove("inner"))
        assert f"dm-{record_id[:12]}" not in names()
    else:
        with pytest.raises(InvalidArgument, match="this kernel has no dummy links"):
            create(host, "inner", "macvlan", "10.7.0.0/24")
    assert "inner" not in host.networks.named() and names() == {"lo", "up0"}


@pytest.mark.parametrize(("driver", "options", "message"), [
    ("macvlan", {"parent": "up0.4095"}, "vlan id must be between 1-4094"),
    ("macvlan", {"parent": "gone.5"}, "-o parent interface was not found on the host: gone"),
    ("macvlan", {"parent": "gone"}, "invalid subinterface vlan name gone"),
    ("macvlan", {"parent": "up0;x"}, "invalid parent interface name"),
    ("macvlan", {"parent": "a" * 16}, "invalid parent interface name"),
    ("macvlan", {"parent": "up0\n"}, "invalid parent interface name"),
    ("macvlan", {"parent": "../up0"}, "invalid parent interface name"),
    ("macvlan", {"parent": "up0", "macvlan_mode": "x"}, "requested macvlan mode 'x' is not valid, 'bridge' mode is"),
    ("ipvlan", {"parent": "lo"}, "loopback interface is not a valid ipvlan parent link"),
    ("ipvlan", {"parent": "up0", "ipvlan_mode": "l4"}, "requested ipvlan mode 'l4' is not valid"),
])
def test_what_is_asked_of_a_parent_is_checked(host, driver, options, message):
    with pytest.raises(InvalidArgument, match=message):
        create(host, "x", driver, "10.8.0.0/24", options=options)
    assert "x" not in host.networks.named()


def test_passthru_has_its_parent_for_itself(host):
    create(host, "one", "macvlan", "10.9.0.0/24", options={"parent": "up0"})
    with pytest.raises(InvalidArgument, match="cannot use mode passthru, macvlan network"):
        create(host, "two", "macvlan", "10.10.0.0/24", options={"parent": "up0", "macvlan_mode": "passthru"})


def test_endpoint_options_name_the_link_and_set_it_up(host):
    record = host.record()
    record.networking["bridge"].driver_opts = {
        "com.docker.network.endpoint.ifname": "lan7",
        "com.docker.network.endpoint.sysctls": "net.ipv4.conf.IFNAME.log_martians=1,net.ipv4.conf.IFNAME.forwarding=0"}
    space = host.start(record)
    assert names(space) == {"lo", "lan7"}
    with inside(space.fd), open("/proc/sys/net/ipv4/conf/lan7/log_martians") as file:
        assert file.read() == "1\n"
    host.neighbour.serve(7000)
    assert space.ask("192.0.2.9", 7000)
    wrong = host.record()
    wrong.networking["bridge"].driver_opts = {"com.docker.network.endpoint.sysctls": "net.ipv4.conf.IFNAME.no_such=1"}
    with pytest.raises(Exception, match="unable to set sysctl"):
        host.start(wrong)
    assert len([name for name in names() if name.startswith("veth")]) == 1


def test_options_of_a_bridge_reach_the_links(host):
    host.loop.run(host.networks.create(CreateNetwork(name="own", options={
        "com.docker.network.bridge.name": "br-mine", "com.docker.network.driver.mtu": "1400",
        "com.docker.network.container_iface_prefix": "net", "com.docker.network.bridge.host_binding_ipv4": "127.0.0.1"})))
    record = host.record(network="own", ports={"80/tcp": ("", "8080")})
    space = host.start(record)
    space.serve(80)
    assert names(space) == {"lo", "net0"} and "br-mine" in names()
    with Socket(space.fd) as there:
        assert there.link("net0").mtu == 1400
    assert ask("127.0.0.1", 8080)
    assert host.neighbour.silent("192.0.2.2", 8080)
    host.loop.run(host.networks.create(CreateNetwork(name="bare", options={
        "com.docker.network.bridge.inhibit_ipv4": "true"})))
    bare = host.record(network="bare")
    host.start(bare)
    with Socket() as own:
        index = own.link(host.networks.get("bare").record.bridge).index
        assert not [one for at, one in own.addresses() if at == index and one.version == 4]


def test_a_macvlan_network_of_several_subnets(host):
    """An endpoint has its address, and its router, of the first subnet with one left, or of that of the one it asks for."""
    pools = [Pool(subnet="192.0.2.0/24", ip_range="192.0.2.64/30", auxiliary_addresses={"a": "192.0.2.65", "b": "192.0.2.66",
             "c": "192.0.2.67"}), Pool(subnet="198.51.100.0/24", gateway="198.51.100.9"), Pool(subnet="2001:db8::/64"),
             Pool(subnet="2001:db8:5::/64", gateway="2001:db8:5::1")]
    host.loop.run(host.networks.create(CreateNetwork(
        name="wire", driver="macvlan", enable_ipv6=True, ipam=Ipam(config=pools), options={"parent": "up0"})))
    shown = host.networks.inspect("wire")["IPAM"]["Config"]
    assert [one["Subnet"] for one in shown] == ["192.0.2.0/24", "198.51.100.0/24", "2001:db8::/64", "2001:db8:5::/64"]
    assert list(shown[0]["AuxiliaryAddresses"]) == ["a", "b", "c"] and "AuxiliaryAddresses" not in shown[1]
    first, second = host.record(network="wire"), host.record(network="wire")
    host.start(first)
    host.restart()
    space = host.start(second)
    endpoint = first.networking["wire"]
    assert (endpoint.ip_address, endpoint.ip_prefix_len, endpoint.gateway) == ("192.0.2.64", 24, "")
    endpoint = second.networking["wire"]
    assert (endpoint.ip_address, endpoint.ip_prefix_len, endpoint.gateway) == ("198.51.100.1", 24, "198.51.100.9")
    assert endpoint.global_ipv6_address.startswith("2001:db8::") and endpoint.ipv6_gateway == ""
    with Socket(space.fd) as there:
        assert [str(route.gateway) for route in routes(there) if not route.destination.prefixlen] == ["198.51.100.9"]
    asked = host.record(network="wire")
    asked.networking["wire"].ipam_config = IPAMConfig(ipv4_address="198.51.100.77", ipv6_address="2001:db8:5::77")
    with Socket(host.start(asked).fd) as there:
        assert {str(route.gateway) for route in routes(there) if not route.destination.prefixlen} == {
            "198.51.100.9", "2001:db8:5::1"}
    assert host.spaces[first.id].ask("198.51.100.1", 80) is None and asked.networking["wire"].ip_address == "198.51.100.77"
    wrong = host.record(network="wire")
    wrong.networking["wire"].ipam_config = IPAMConfig(ipv4_address="203.0.113.1")
    with pytest.raises(InvalidArgument, match="no configured subnet or ip-range contain"):
        host.start(wrong)
    with pytest.raises(Forbidden, match="Pool overlaps"):
        create(host, "other", "macvlan", "198.51.100.128/25", options={"parent": "up0"})


@pytest.mark.parametrize("six", [False, True])
def test_containers_are_seen_under_an_address_of_ones_choice(host, six):
    with Socket() as own:
        batch = Batch()
        for text in ("192.0.2.3/24", "2001:db8::3/64"):
            batch.address(own.link("up0").index, ip_interface(text))
        own.run(batch)
    host.loop.run(host.networks.create(CreateNetwork(name="seen", enable_ipv6=True, options={
        "com.docker.network.host_ipv4": "192.0.2.3", "com.docker.network.host_ipv6": "2001:db8::3"})))
    host.loop.run(host.networks.create(CreateNetwork(name="plain", enable_ipv6=True)))
    there, before, now = ("2001:db8::9", "2001:db8::2", "2001:db8::3") if six else ("192.0.2.9", "192.0.2.2", "192.0.2.3")
    host.neighbour.serve(7000, address="::" if six else "0.0.0.0")
    space = host.start(host.record(network="seen"))
    assert space.ask(there, 7000).removeprefix("::ffff:") == now
    assert host.start(host.record(network="plain")).ask(there, 7000) in (before, now)
    host.restart()
    assert space.ask(there, 7000) == now and host.networks.firewall.whole()
    host.loop.run(host.networks.create(CreateNetwork(name="off", options={
        "com.docker.network.host_ipv4": "192.0.2.3", "com.docker.network.bridge.enable_ip_masquerade": "false"})))
    bare = host.record(network="off")
    own = host.start(bare).ask("192.0.2.9", 7000)
    assert own.removeprefix("::ffff:") == bare.networking["off"].ip_address


def test_published_ports_at_the_containers_own_address_by_a_trusted_link(host):
    name = "com.docker.network.bridge.trusted_host_interfaces"
    host.loop.run(host.networks.create(CreateNetwork(name="trusting", enable_ipv6=True, options={name: "wg9:up0"})))
    host.loop.run(host.networks.create(CreateNetwork(name="other", enable_ipv6=True, options={name: "up1"})))
    asked = {}
    for network in ("trusting", "other"):
        record = host.record(network=network, ports={"80/tcp": [("127.0.0.1", ""), ("::1", ""), ("127.0.0.1", "")]})
        space = host.start(record)
        space.serve(80, address="::")
        space.serve(81, address="::")
        endpoint = record.networking[network]
        asked[network] = endpoint.ip_address, endpoint.global_ipv6_address
        if network == "trusting":
            trusted = record
    for address in asked["trusting"]:
        assert host.neighbour.ask(address, 80).endswith(("192.0.2.9", "2001:db8::9"))
        assert host.neighbour.silent(address, 81)  # not published
    for address in asked["other"]:
        assert host.neighbour.silent(address, 80) and ask(address, 80)
    host.restart()
    assert host.neighbour.ask(asked["trusting"][0], 80)
    def opened():
        return len(host.networks.firewall.socket.elements(host.networks.firewall.table, "direct"))

    assert opened() == 2
    host.loop.run(host.networks.disconnect("trusting", trusted.id))
    assert opened() == 1


@pytest.mark.parametrize(("binding", "subnets", "ends"), [
    ("::", (4, 6), ["0.0.0.0", "::"]), ("0.0.0.0", (6,), ["::"]), ("192.0.2.2", (4, 6), ["192.0.2.2"]),
    ("2001:db8::2", (4, 6), ["2001:db8::2"]), ("127.0.0.1", (6,), "cannot publish on 127.0.0.1: the container has no IPv4"),
])
def test_where_ports_without_an_address_are_published(host, binding, subnets, ends):
    host.loop.run(host.networks.create(CreateNetwork(
        name="own", enable_ipv4=4 in subnets, enable_ipv6=6 in subnets,
        options={"com.docker.network.bridge.host_binding_ipv4": binding})))
    record = host.record(network="own", ports={"80/tcp": ("", "")})
    if isinstance(ends, str):
        with pytest.raises(Internal, match=ends):
            host.start(record)
        return
    host.start(record)
    assert [one.host_ip for one in record.network_settings.ports["80/tcp"]] == ends


# --- other firewalls


def ruleset(but):
    """Every table but ours, as nft tells it."""
    tables = subprocess.run(["nft", "list", "tables"], check=True, capture_output=True, text=True).stdout.splitlines()
    return "".join(
        subprocess.run(["nft", "-s", "list", *line.split()], check=True, capture_output=True, text=True).stdout
        for line in tables if not line.endswith(but)
    )


def test_the_hosts_firewall_is_neither_bypassed_nor_changed(host):
    """As ufw has it: input and forward drop, then rules that let through what the user wants."""
    record = host.record(ports={"80/tcp": ("", "8080")})
    host.start(record).serve(80)
    host.neighbour.serve(7000)
    space = host.spaces[record.id]
    assert host.neighbour.ask("192.0.2.2", 8080) and space.ask("192.0.2.9", 7000)
    answers = ["-m", "conntrack", "--ctstate", "ESTABLISHED,RELATED", "-j", "ACCEPT"]
    for rule in (["-P", "INPUT", "DROP"], ["-P", "FORWARD", "DROP"], ["-A", "INPUT", "-i", "lo", "-j", "ACCEPT"],
                 ["-A", "INPUT", *answers]):
        subprocess.run(["iptables", *rule], check=True)
    before = ruleset(host.networks.firewall.table)
    assert host.neighbour.silent("192.0.2.2", 8080) and space.silent("192.0.2.9", 7000)
    assert ask("127.0.0.1", 8080)  # what this host asks is not forwarded
    for rule in (answers, ["-i", host.networks.bridge, "-j", "ACCEPT"], ["-o", host.networks.bridge, "-j", "ACCEPT"]):
        subprocess.run(["iptables", "-A", "FORWARD", *rule], check=True)
    assert host.neighbour.ask("192.0.2.2", 8080) and space.ask("192.0.2.9", 7000)
    subprocess.run(["iptables", "-F", "FORWARD"], check=True)
    host.stop(record)
    host.start(host.record(ports={"81/tcp": ("", "8081")}))
    host.restart()
    assert ruleset(host.networks.firewall.table) == before


def test_as_firewalld_has_it(host):
    """firewalld lets through connections that were translated, at a later priority than ours."""
    script = """
    table inet firewalld {
        chain filter_FORWARD { type filter hook forward priority 10; policy accept;
            ct state established,related accept
            ct status dnat accept
            iifname "trusted0" accept
            reject with icmpx admin-prohibited
        }
    }"""
    subprocess.run(["nft", "-f", "-"], input=script.encode(), check=True)
    before = ruleset(host.networks.firewall.table)
    record = host.record(ports={"80/tcp": ("", "8080")})
    host.start(record).serve(80)
    assert host.neighbour.ask("192.0.2.2", 8080)
    host.stop(record)
    assert ruleset(host.networks.firewall.table) == before
