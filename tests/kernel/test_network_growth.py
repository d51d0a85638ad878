"""What a container's network costs does not grow with how many there are: counted, not timed."""

import os
import sys

import pytest
from netns_hosts import outside

from corten.engine.network_records import CreateNetwork
from corten.linux.libc import check, libc
from corten.linux.netlink import CLONE_NEWNET

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="needs root")


def new_namespace():
    home = os.open("/proc/thread-self/ns/net", os.O_RDONLY)
    check(libc.unshare(CLONE_NEWNET), "unshare")
    made = os.open("/proc/thread-self/ns/net", os.O_RDONLY)
    check(libc.setns(home, CLONE_NEWNET), "setns")
    os.close(home)
    return made


def calls_of(function):
    """How many functions, built-in ones too, are called."""
    count = 0

    def step(_frame, event, _argument):
        nonlocal count
        count += event in ("call", "c_call")

    sys.setprofile(step)
    try:
        function()
    finally:
        sys.setprofile(None)
    return count


@pytest.mark.parametrize("network", ["bridge", "named"])
def test_a_start_and_an_end_are_as_dear_on_a_full_network(tmp_path, network):
    with outside(tmp_path) as host:
        if network == "named":
            host.loop.run(host.networks.create(CreateNetwork(name=network)))
        own, costs, spaces = os.pidfd_open(os.getpid()), [], []

        def start(record, space):
            host.loop.run(host.networks.reserve(record))
            host.networks.etc_files(record)
            host.loop.run(host.networks.attach(record, space, own))

        try:
            for number in range(60):
                record = host.record(network=network, ports={"80/tcp": ("", str(20000 + number))})
                spaces.append(new_namespace())
                started = calls_of(lambda: start(record, spaces[-1]))
                if number in (4, 5, 6, 57, 58, 59):
                    costs.append((started, calls_of(lambda: host.loop.run(host.networks.release(record)))))
            few, many = ([min(column) for column in zip(*part, strict=True)] for part in (costs[:3], costs[3:]))
            assert all(much < little * 1.1 for little, much in zip(few, many, strict=True)), costs
        finally:
            for descriptor in (own, *spaces):
                os.close(descriptor)
