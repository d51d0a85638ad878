"""Network namespaces as hosts for tests: the engine's own host, an outside neighbour, containers without an engine.

A test's own thread enters a fresh namespace, so that nothing touches the machine's network.
"""

import asyncio
import os
import socket
import subprocess
import sys
import time
from contextlib import contextmanager
from ipaddress import ip_address, ip_interface

from corten.base.ids import new_id
from corten.base.paths import Layout
from corten.engine.db import Database
from corten.engine.events import Events
from corten.engine.networks import Networks
from corten.engine.records import Config, ContainerRecord, EndpointConfig, HostConfig, PortBinding, encode
from corten.engine.settings import NetworkSettings
from corten.linux.libc import check, libc
from corten.linux.netlink import CLONE_NEWNET, Batch, Socket

SERVER = """
import socket, sys
kind = socket.SOCK_DGRAM if sys.argv[1] == "udp" else socket.SOCK_STREAM
server = socket.socket(socket.AF_INET6 if ":" in sys.argv[2] else socket.AF_INET, kind)
server.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
server.bind((sys.argv[2], int(sys.argv[3])))
if kind == socket.SOCK_STREAM:
    server.listen()
print("ready", flush=True)
while True:
    if kind == socket.SOCK_STREAM:
        peer, address = server.accept()
        peer.sendall(address[0].encode())
        peer.close()
    else:
        _, address = server.recvfrom(100)
        server.sendto(address[0].encode(), address)
"""


class Namespace:
    """A network namespace kept by a sleeping process."""

    def __init__(self):
        self.process = subprocess.Popen(
            ["unshare", "-n", sys.executable, "-c", "import time; print('up', flush=True); time.sleep(600)"],
            stdout=subprocess.PIPE)
        self.process.stdout.readline()
        self.fd = os.open(f"/proc/{self.process.pid}/ns/net", os.O_RDONLY)
        self.children = []

    @property
    def pid(self):
        return self.process.pid

    def serve(self, port, kind="tcp", address="0.0.0.0"):
        """A server in it that answers each connection with the client's address."""
        child = subprocess.Popen(
            ["nsenter", "-t", str(self.pid), "-n", sys.executable, "-c", SERVER, kind, address, str(port)],
            stdout=subprocess.PIPE)
        self.children.append(child)
        assert child.stdout.readline() == b"ready\n"

    def ask(self, address, port, kind="tcp"):
        """What a client in it gets from a server; None when nothing answers."""
        with inside(self.fd):
            return ask(address, port, kind)

    def silent(self, address, port, kind="tcp"):
        """Whether nothing answers a client in it; see `silent`."""
        with inside(self.fd):
            return silent(address, port, kind)

    def close(self):
        for child in [*self.children, self.process]:
            child.kill()
            child.wait()
            child.stdout.close()
        os.close(self.fd)


class inside:
    """The calling thread is in another network namespace within the block."""

    def __init__(self, fd):
        self.fd = fd

    def __enter__(self):
        self.home = os.open("/proc/thread-self/ns/net", os.O_RDONLY)
        check(libc.setns(self.fd, CLONE_NEWNET), "setns")

    def __exit__(self, *_):
        check(libc.setns(self.home, CLONE_NEWNET), "setns")
        os.close(self.home)


def silent(address, port, kind="tcp"):
    """Whether nothing answers within a moment; each test has a control that something does where it should."""
    return ask(address, port, kind, 0.3) is None


def ask(address, port, kind="tcp", timeout=60.0):
    """The first bytes a server sends, as text; None when nothing answers."""
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    with socket.socket(family, socket.SOCK_DGRAM if kind == "udp" else socket.SOCK_STREAM) as client:
        client.settimeout(timeout)
        try:
            client.connect((address, port))
            if kind == "udp":
                client.send(b"?")
            return client.recv(100).decode()
        except OSError:
            return None


def cable(neighbour, name, here, there, six=()):
    """A link named `name` between this namespace (address `here`) and a neighbour (`there`), default route on ours.

    `six` are the two IPv6 addresses.
    """
    for space in (os.open("/proc/thread-self/ns/net", os.O_RDONLY), os.dup(neighbour.fd)):
        with inside(space), open("/proc/sys/net/ipv6/conf/default/accept_dad", "w") as setting:
            setting.write("0")  # addresses are there at once
        os.close(space)
    with Socket() as own:
        batch = Batch()
        batch.veth(name, 0, "eth0", neighbour.fd, "02:00:00:00:00:09", 1500)
        own.run(batch)
        batch = Batch()
        index = own.link(name).index
        batch.address(index, ip_interface(here))
        if six:
            batch.address(index, ip_interface(six[0]))
        batch.up(index)
        own.run(batch)
    with Socket(neighbour.fd) as other:
        batch = Batch()
        batch.up(1)
        index = other.link("eth0").index
        batch.address(index, ip_interface(there))
        batch.up(index)
        batch.route(index, ip_address(here.partition("/")[0]))
        if six:
            batch.address(index, ip_interface(six[1]))
            batch.route(index, ip_address(six[0].partition("/")[0]))
        other.run(batch)
    with Socket() as own:
        while not own.link(name).works:
            time.sleep(0.01)


class Table(dict):
    """Containers as networks see them: by id or name; iterating gives records."""

    def __iter__(self):
        return iter(list(self.values()))

    def get(self, ref):
        from corten.base.errors import NotFound
        for record in self.values():
            if ref in (record.id, record.name):
                return record
        raise NotFound(f"No such container: {ref}")

    def save(self, record):
        encode(record)


class Host:
    """The networks of an engine, without one: containers are namespaces of ours."""

    def __init__(self, folder, **options):
        self.layout = Layout(f"{folder}/data", f"{folder}/run")
        self.layout.make()
        self.db = Database(self.layout.database)
        self.events = Events()
        self.table = Table()
        self.spaces = {}
        self.settings = NetworkSettings()
        for name, value in options.items():
            setattr(self.settings, name, value)
        self.loop = asyncio.Runner()
        self.networks = self._open()

    def _open(self):
        networks = Networks(self.layout, self.db, self.events, self.settings)
        networks.containers = self.table
        self.loop.run(networks.open())
        return networks

    def restart(self):
        """As a daemon that was killed and is started again."""
        self.networks.close()
        self.networks = self._open()
        self.loop.run(self.networks.reconcile([record for record in self.table if record.running]))

    def record(self, name="", network="bridge", ports=None, exposed=(), publish_all=False, **host):
        """A container record; ports: "80/tcp" -> (host address, host port)."""
        container_id = new_id()
        bindings = {
            port: [PortBinding(host_ip=a, host_port=p) for a, p in ([pair] if isinstance(pair, tuple) else pair)]
            for port, pair in (ports or {}).items()
        }
        record = ContainerRecord(
            id=container_id, name=name or f"c{container_id[:6]}", created_ns=1, image="x", image_id="sha256:x",
            config=Config(hostname=container_id[:12], exposed_ports={port: {} for port in exposed}),
            host_config=HostConfig(network_mode=network, port_bindings=bindings, publish_all_ports=publish_all, **host),
            networking={} if network.startswith("container:") else {network: EndpointConfig()},
        )
        self.table[container_id] = record
        os.makedirs(self.layout.container(container_id), exist_ok=True)
        return record

    def start(self, record):
        """Reserve and attach in a new namespace; returns it."""
        self.loop.run(self.networks.reserve(record))
        self.networks.etc_files(record)
        space = Namespace()
        self.spaces[record.id] = space
        try:
            self.loop.run(self.networks.attach(record, space.fd, pidfd := os.pidfd_open(space.pid)))
            os.close(pidfd)
        except BaseException:
            self.stop(record)
            raise
        record.state.pid, record.state.status = space.pid, "running"
        return space

    def stop(self, record):
        record.state.status, record.state.pid = "exited", 0
        self.spaces.pop(record.id).close()
        self.loop.run(self.networks.release(record))

    def close(self):
        for space in self.spaces.values():
            space.close()
        self.loop.run(self.networks.teardown())
        self.networks.close()
        self.db.close()
        self.loop.close()


def run(coroutine):
    return asyncio.run(coroutine)


@contextmanager
def outside(folder, **options):
    """An engine's networks in a namespace of the caller's own, with a neighbour at 192.0.2.9 and 2001:db8::9 (we: 2)."""
    home = os.open("/proc/thread-self/ns/net", os.O_RDONLY)
    check(libc.unshare(CLONE_NEWNET), "unshare")
    neighbour = Namespace()
    try:
        with Socket() as own:
            batch = Batch()
            batch.up(1)
            own.run(batch)
        cable(neighbour, "up0", "192.0.2.2/24", "192.0.2.9/24", ("2001:db8::2/64", "2001:db8::9/64"))
        made = Host(folder, **options)
        made.neighbour = neighbour
        try:
            yield made
        finally:
            made.close()
    finally:
        neighbour.close()
        check(libc.setns(home, CLONE_NEWNET), "setns")
        os.close(home)
