"""linux.netDevices: links that move into a container. Each test runs in a network namespace made for it alone."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

PREPARE = """
import sys
from runtime_box import Boxes
from corten.linux import namespaces, netlink
from ipaddress import ip_interface
namespaces.unshare(namespaces.CLONE_NEWNET)
boxes = Boxes()

def pair(name, peer):
    inside = netlink.LINK.pack(0, 0, 0, 0, 0) + netlink.text(netlink.IFLA_IFNAME, peer)
    info = netlink.nested(netlink.IFLA_INFO_DATA, netlink.attribute(netlink.VETH_INFO_PEER, inside))
    body = netlink.LINK.pack(0, 0, 0, 0, 0) + netlink.text(netlink.IFLA_IFNAME, name)
    body += netlink.nested(netlink.IFLA_LINKINFO, netlink.text(netlink.IFLA_INFO_KIND, "veth"), info)
    batch = netlink.Batch()
    batch.add(netlink.RTM_NEWLINK, netlink.NLM_F_CREATE | netlink.NLM_F_EXCL, body, "veth")
    with netlink.Socket() as socket:
        socket.run(batch)
        batch = netlink.Batch()
        batch.address(socket.link(name).index, ip_interface("10.1.2.3/24"))
        batch.address(socket.link(name).index, ip_interface("fd00::5/64"))
        batch.up(name)
        socket.run(batch)

def run(*arguments, devices, networks=True):
    spec = boxes.spec(*arguments)
    spec["linux"]["netDevices"] = devices
    if not networks:
        spec["linux"]["namespaces"] = [one for one in spec["linux"]["namespaces"] if one["type"] != "network"]
    return boxes.run(spec=spec)

try:
    pair("tested", "peer")
    SCRIPT
finally:
    boxes.close()
"""


def inside(script):
    if os.geteuid() != 0 or not os.path.exists("/bin/busybox"):
        pytest.skip("machine: needs root and a static busybox")
    text = PREPARE.replace("SCRIPT", "\n    ".join(script.splitlines()))
    folder = str(Path(__file__).parents[1])
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join((folder, *sys.path))}
    found = subprocess.run([sys.executable, "-c", text], capture_output=True, text=True, env=environment, check=False)
    assert found.returncode == 0, found.stderr
    return found.stdout


@pytest.mark.parametrize("name", ["tested", "renamed"])
def test_a_device_moves_with_its_addresses(name):
    output = inside(f"""
found = run("cat", "/proc/net/dev", "/proc/net/fib_trie", "/proc/net/if_inet6", devices={{"tested": {{"name": {name!r}}}}})
assert found.failure is None, found.failure
print(found.output)
with netlink.Socket() as socket:
    print("left", socket.link("tested"))""")
    assert f"{name}:" in output and "10.1.2.3" in output and "10.1.2.255" in output and "left None" in output
    assert any(line.split()[0] == "fd00" + 27 * "0" + "5" and line.split()[-1] == name for line in output.splitlines()
               if len(line.split()) == 6)


@pytest.mark.parametrize(("devices", "text"), [
    ({"absent": {}}, "no such device"),
    ({"tested": {"name": "lo"}}, "lo exists in the container"),
])
def test_a_device_that_cannot_move(devices, text):
    output = inside(f"""
try:
    run("true", devices={devices!r})
except OSError as error:
    print(error.strerror)
with netlink.Socket() as socket:
    print("kept", socket.link("tested").name)""")
    assert text in output and "kept tested" in output


def test_a_container_on_the_hosts_network_gets_none():
    output = inside("""
from corten.base.errors import InvalidArgument
try:
    run("true", devices={"tested": {}}, networks=False)
except InvalidArgument as error:
    print(error)""")
    assert "without a private NET namespace" in output
