"""ipvlan, VLAN parents and inner networks on dummy links, with a real neighbour on the wire.

Kernels without these links skip it; a guest (tests/guest) has one with them.
"""

import os

import pytest
from netns_hosts import outside

from corten.engine.network_records import CreateNetwork, Ipam, Pool
from corten.linux import links
from corten.linux.netlink import Batch, NetlinkError, Socket

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="needs root")


@pytest.fixture
def host(tmp_path):
    with outside(tmp_path) as made:
        yield made


def needs(kind):
    """Skips where the kernel makes no such link."""
    with Socket() as own:
        batch, index = Batch(), own.link("up0").index
        here = os.open("/proc/thread-self/ns/net", os.O_RDONLY)
        if kind == "dummy":
            links.dummy(batch, "probe0")
        elif kind == "vlan":
            links.vlan(batch, "probe0", index, 9)
        else:
            links.ipvlan(batch, "probe0", index, "l2", "bridge", here, 1500)
        try:
            own.run(batch)
        except NetlinkError:
            pytest.skip(f"machine: this kernel has no {kind} links")
        finally:
            os.close(here)
        batch = Batch()
        batch.delete_link("probe0")
        own.run(batch)


def create(host, name, driver, subnet, gateway="", **options):
    pool = Pool(subnet=subnet, gateway=gateway)
    host.loop.run(host.networks.create(CreateNetwork(name=name, driver=driver, ipam=Ipam(config=[pool]), options=options)))
    return host.networks.get(name)


def started(host, network):
    record = host.record(network=network)
    return host.start(record), record.networking[network]


def names():
    with Socket() as own:
        return {link.name for link in own.links()}


@pytest.mark.parametrize("mode", ["l2", "l3"])
def test_ipvlan_containers_are_on_the_wire(host, mode):
    needs("ipvlan")
    create(host, "wire", "ipvlan", "192.0.2.0/24", parent="up0", ipvlan_mode=mode)
    space, endpoint = started(host, "wire")
    space.serve(80)
    other, its = started(host, "wire")
    assert other.ask(endpoint.ip_address, 80) == its.ip_address
    if mode == "l2":
        assert host.neighbour.ask(endpoint.ip_address, 80) == "192.0.2.9"
        host.neighbour.serve(7000)
        assert space.ask("192.0.2.9", 7000) == endpoint.ip_address
    assert names() == {"lo", "up0"}


def test_private_ipvlan_containers_do_not_meet(host):
    needs("ipvlan")
    create(host, "wire", "ipvlan", "192.0.2.0/24", parent="up0", ipvlan_flag="private")
    space, endpoint = started(host, "wire")
    space.serve(80)
    assert host.neighbour.ask(endpoint.ip_address, 80)
    assert started(host, "wire")[0].silent(endpoint.ip_address, 80)


@pytest.mark.parametrize("driver", ["macvlan", "ipvlan"])
def test_a_parent_that_is_a_vlan_is_made_and_its_frames_are_tagged(host, driver):
    needs("vlan")
    if driver == "ipvlan":
        needs("ipvlan")
    create(host, "tagged", driver, "10.5.0.0/24", "10.5.0.9", parent="up0.10")
    space, endpoint = started(host, "tagged")
    space.serve(80)
    assert "up0.10" in names()
    assert host.neighbour.silent(endpoint.ip_address, 80)  # it is not in that VLAN
    from ipaddress import ip_interface
    with Socket(host.neighbour.fd) as there:
        batch = Batch()
        links.vlan(batch, "eth0.10", there.link("eth0").index, 10)
        there.run(batch)
        batch = Batch()
        index = there.link("eth0.10").index
        batch.address(index, ip_interface("10.5.0.9/24"))
        batch.up(index)
        there.run(batch)
    assert host.neighbour.ask(endpoint.ip_address, 80) == "10.5.0.9"
    host.stop(next(iter(host.table)))
    host.loop.run(host.networks.remove("tagged"))
    assert "up0.10" not in names()


@pytest.mark.parametrize("driver", ["macvlan", "ipvlan"])
def test_without_a_parent_it_is_an_inner_network(host, driver):
    needs("dummy")
    if driver == "ipvlan":
        needs("ipvlan")
    network = create(host, "inner", driver, "10.7.0.0/24")
    assert network.record.internal and network.record.bridge in names()
    space, endpoint = started(host, "inner")
    space.serve(80)
    assert started(host, "inner")[0].ask(endpoint.ip_address, 80)
    assert space.silent("192.0.2.9", 7000)
    for record in list(host.table):
        host.stop(record)
    host.loop.run(host.networks.remove("inner"))
    assert names() == {"lo", "up0"}
