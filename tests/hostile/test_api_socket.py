"""No container reaches the engine: not by a path, an abstract name, a TCP or UDP port, whatever its network; with controls."""

import json
import os
import socket
import stat

import pytest

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="needs root")

PROBE = r"""
import json, os, socket, stat, sys
asked = json.loads(sys.argv[1])
def attempt(family, kind, address, patience_s=0.5):
    with socket.socket(family, kind) as client:
        client.settimeout(patience_s)
        try:
            client.connect(address)
            if kind == socket.SOCK_DGRAM and family != socket.AF_UNIX:
                client.send(b"?")
                client.recv(100)
            return "reached"
        except OSError as error:
            return type(error).__name__
found = {}
for path in asked["paths"]:
    found[path] = attempt(socket.AF_UNIX, socket.SOCK_STREAM, path)
for name in asked["abstract"]:
    found["@" + name] = attempt(socket.AF_UNIX, socket.SOCK_STREAM, "\0" + name)
for host, port, patience_s in asked["ports"]:
    found[f"{host}:{port}"] = attempt(socket.AF_INET, socket.SOCK_STREAM, (host, port), patience_s)
found["sockets"] = [
    f"{root}/{name}" for top in ("/run", "/var", "/tmp", "/dev", "/etc", "/root") for root, _, names in os.walk(top)
    for name in names if stat.S_ISSOCK(os.lstat(f"{root}/{name}").st_mode)]
print(json.dumps(found))
"""


def processes(engine):
    """The engine's own: daemon, anchor, zygote, launchers, log pump, resolver."""
    found = []
    for pid in filter(str.isdigit, os.listdir("/proc")):
        try:
            with open(f"/proc/{pid}/cmdline", "rb") as file:
                command = file.read()
            same = os.stat(f"/proc/{pid}/ns/net").st_ino == os.stat("/proc/self/ns/net").st_ino
        except OSError:
            continue
        if engine.folder.encode() in command and same:
            found.append(int(pid))
    return found


def inodes(pids):
    """The sockets that processes hold."""
    found = set()
    for pid in pids:
        for name in os.listdir(f"/proc/{pid}/fd"):
            try:
                target = os.readlink(f"/proc/{pid}/fd/{name}")
            except OSError:
                continue
            if target.startswith("socket:["):
                found.add(target[8:-1])
    return found


def offered(held):
    """What sockets with these inodes offer to others in this network namespace: abstract names, TCP and UDP ports."""
    names, ports = [], []
    with open("/proc/net/unix") as file:
        for row in (line.split() for line in file.readlines()[1:]):
            if row[6] in held and len(row) > 7 and row[7].startswith("@"):
                names.append(row[7])
    for kind, offering in (("tcp", "0A"), ("tcp6", "0A"), ("udp", "07"), ("udp6", "07"), ("raw", "07")):
        with open(f"/proc/net/{kind}") as file:
            ports += [f"{kind} {row[1]}" for row in (line.split() for line in file.readlines()[1:])
                      if row[3] == offering and row[9] in held]
    return names, ports


def sockets_of(engine):
    """The paths of the engine's own sockets."""
    return [f"{root}/{name}" for root, _, names in os.walk(engine.folder) for name in names
            if stat.S_ISSOCK(os.lstat(f"{root}/{name}").st_mode)]


@pytest.fixture
def control():
    """Servers that may be reached: by TCP on every address, by an abstract name of this network namespace."""
    with socket.socket() as tcp, socket.socket(socket.AF_UNIX) as abstract:
        tcp.bind(("0.0.0.0", 0))
        tcp.listen()
        name = f"corten-test-{os.getpid()}"
        abstract.bind(f"\0{name}")
        abstract.listen()
        yield tcp.getsockname()[1], name


@pytest.mark.parametrize("way", ["bridge", "named", "host", "none", "container"])
def test_a_container_does_not_reach_the_engine(engine, control, way):
    port, name = control
    try:
        if way == "named":
            assert engine.api("POST", "/networks/create", {"Name": "named"}).status == 201
        words = ["--network", f"container:{engine.run()}" if way == "container" else way]
        network = engine.api("GET", f"/networks/{'named' if way == 'named' else 'bridge'}").json
        gateway = network["IPAM"]["Config"][0]["Gateway"]
        paths = sockets_of(engine)
        assert engine.socket in paths and len(paths) >= 2
        open_to = {"none": [], "host": [gateway, "127.0.0.1"]}.get(way, [gateway])
        asked = {"paths": [*paths, "/run/corten.sock", "/var/run/docker.sock", "/run/docker.sock"], "abstract": [name],
                 "ports": [(host, number, 60 if host in open_to and number == port else 0.5)
                           for host in (gateway, "127.0.0.1") for number in (port, 2375, 2376)]}
        done = engine.docker("run", "--rm", *words, "host", "python3", "-IS", "-c", PROBE, json.dumps(asked))
        assert done.returncode == 0, done.stderr
        found = json.loads(done.stdout)
        assert {path: found[path] for path in asked["paths"]} == dict.fromkeys(asked["paths"], "FileNotFoundError")
        assert found["sockets"] == []
        # the controls: what may be reached is
        assert (found[f"@{name}"] == "reached") == (way == "host")
        for host in (gateway, "127.0.0.1"):
            assert (found[f"{host}:{port}"] == "reached") == (host in open_to), host
        for number in (2375, 2376):
            assert found[f"{gateway}:{number}"] != "reached"
    finally:
        engine.clear()
        engine.api("DELETE", "/networks/named")


def test_the_engine_offers_nothing_but_sockets_in_its_own_folders(engine, control):
    """Who shares the host's network sees its abstract names and ports: none is the engine's, published ports included."""
    assert engine.api("POST", "/networks/create", {"Name": "named"}).status == 201
    try:
        engine.run(HostConfig={"NetworkMode": "named", "PortBindings": {"80/tcp": [{"HostPort": ""}]}},
                   ExposedPorts={"80/tcp": {}})
        pids = processes(engine)
        assert engine.process.pid in pids and len(pids) >= 4
        assert offered(inodes(pids)) == ([], [])
        names, ports = offered(inodes([os.getpid()]))
        assert f"@{control[1]}" in names and ports  # what offers is found
        for path in sockets_of(engine):
            assert os.stat(path).st_mode & 0o077 == 0 or os.stat(os.path.dirname(path)).st_mode & 0o077 == 0, path
    finally:
        engine.clear()
        engine.api("DELETE", "/networks/named")
