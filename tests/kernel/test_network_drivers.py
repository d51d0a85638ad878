"""macvlan, endpoint options, and the host's own firewalls beside ours; with real links."""

import os
import subprocess

import pytest
from netns_hosts import ask, inside, outside

from corten.base.errors import InvalidArgument
from corten.engine.network_records import CreateNetwork, Ipam, Pool
from corten.linux import links
from corten.linux.netlink import Batch, NetlinkError, Socket

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
