"""What our tables cost a published port: requests and bytes a second, beside a hand-made table that has DNAT alone.

    python bench/published_ports.py [rounds [way]]

Three hosts, each with a bridge, a container and a neighbour: ours, and twice one whose table has nothing but DNAT and
masquerade. All are asked in turns of some milliseconds; printed is the rate of the first plain host, and ours as a
ratio to it (with the spread of ten parts of the run), and that of the second plain host: what noise makes of nothing.
Needs root, nft, a C compiler.
"""

import os
import shutil
import subprocess
import sys
import tempfile

sys.path[:0] = [os.path.dirname(os.path.dirname(os.path.abspath(__file__)))]
sys.path.append(os.path.join(sys.path[0], "tests"))

from netns_hosts import Namespace, cable, inside, outside  # noqa: E402

HOST, CONTAINER, PORT, SLICE_MS = "192.0.2.2", "172.31.9.2", 8080, 5
WAYS = {"from another host": HOST, "127.0.0.1": "127.0.0.1"}
LOADS = {"requests": ("keep", 8), "connections": ("new", 4), "bytes": ("stream", 1)}
TO = f"fib daddr type local tcp dport {PORT} dnat to {CONTAINER}:80;"
PLAIN = f"""
table ip plain {{
  chain arrive {{ type nat hook prerouting priority dstnat; {TO} }}
  chain local {{ type nat hook output priority -100; {TO} }}
  chain leave {{ type nat hook postrouting priority srcnat; ip saddr 127.0.0.0/8 oifname "br0" masquerade; }}
}}
"""


def run(space, *words, stdin=None):
    """A command in a namespace; its output."""
    done = subprocess.run(["nsenter", enter(space), *words], input=stdin, capture_output=True,
                          text=True, check=True)
    return done.stdout


class Plain:
    """A host with a published port, made by hand."""

    def __init__(self):
        self.host, self.container, self.neighbour = Namespace(), Namespace(), Namespace()
        run(self.host, "ip", "link", "set", "lo", "up")
        with inside(self.host.fd):
            cable(self.neighbour, "up0", f"{HOST}/24", "192.0.2.9/24")
            for line in (
                "link add br0 type bridge", "addr add 172.31.9.1/24 dev br0", "link set br0 up",
                f"link add veth0 type veth peer name eth0 netns {self.container.pid}", "link set veth0 master br0 up",
            ):
                subprocess.run(["ip", *line.split()], check=True)
            for name in ("ip_forward", "conf/br0/route_localnet"):
                with open(f"/proc/sys/net/ipv4/{name}", "w") as setting:
                    setting.write("1")
            subprocess.run(["nft", "-f", "-"], input=PLAIN, text=True, check=True)
        for line in ("link set lo up", f"addr add {CONTAINER}/24 dev eth0", "link set eth0 up",
                     "route add default via 172.31.9.1"):
            run(self.container, "ip", *line.split())

    def close(self):
        for space in (self.host, self.container, self.neighbour):
            space.close()


class Ours:
    """The host the bench itself is in, with networks of ours."""

    def __init__(self, networks):
        self.host = Here()
        self.container = networks.start(networks.record(ports={"80/tcp": ("", str(PORT))}))
        self.neighbour = networks.neighbour

    def close(self):
        os.close(self.host.fd)


class Here:
    """The namespace the caller is in."""

    def __init__(self):
        self.fd = os.open("/proc/thread-self/ns/net", os.O_RDONLY)


def enter(space):
    """How nsenter is told a namespace."""
    return f"--net=/proc/{os.getpid()}/fd/{space.fd}"


def rates(binary, sides, way, load, rounds):
    """Per side the rate of each of its slices, a second."""
    mode, connections = LOADS[load]
    targets = []
    for side in sides.values():
        space = side.neighbour if WAYS[way] == HOST else side.host
        targets += [f"/proc/{os.getpid()}/fd/{space.fd}", WAYS[way]]
    done = subprocess.run(
        ["taskset", "-c", "1", binary, mode, str(connections), str(SLICE_MS), str(rounds), str(PORT), *targets],
        capture_output=True, text=True, check=True)
    found = {name: [] for name in sides}
    for line in done.stdout.splitlines():
        number, requests, microseconds, size = map(int, line.split())
        found[list(sides)[number]].append((size or requests) / microseconds * 1e6)
    return found


def best(values):
    """The rate of the slices in which nothing else was in the way: the ninth decile."""
    return sorted(values)[len(values) * 9 // 10]


def ratio(mine, other):
    """Of the best rates, with the quartiles of the same ratio in ten parts of the run."""
    size = max(1, len(mine) // 10)
    parts = sorted(best(mine[at:at + size]) / best(other[at:at + size]) for at in range(0, len(mine), size))
    return best(mine) / best(other), parts[len(parts) // 4], parts[-len(parts) // 4 - 1]


def measure(binary, sides, rounds, only):
    for way in WAYS:
        for load in LOADS:
            if only not in way:
                continue
            found = rates(binary, sides, way, load, rounds)
            text = f"  {way:18} {load:12} plain {best(found['plain']):14,.0f}/s"
            for name in ("ours", "plain again"):
                middle, low, high = ratio(found[name], found["plain"])
                text += f"   {name} {middle:5.3f} ({low:5.3f}-{high:5.3f})"
            print(text, flush=True)


def main():
    rounds = int(sys.argv[1]) if len(sys.argv) > 1 else 300
    only = sys.argv[2] if len(sys.argv) > 2 else ""
    folder = tempfile.mkdtemp(prefix="corten-bench-", dir="/var/tmp")
    binary = f"{folder}/load"
    here = os.path.dirname(os.path.abspath(__file__))
    subprocess.run(["cc", "-O2", "-o", binary, f"{here}/load.c"], check=True)
    try:
        with outside(folder) as networks:
            compare(binary, {"ours": Ours(networks), "plain": Plain(), "plain again": Plain()}, rounds, only)
    finally:
        shutil.rmtree(folder)


def compare(binary, sides, rounds, only):
    servers = [
        subprocess.Popen(["nsenter", enter(side.container), "taskset", "-c", "1", binary, "serve", "80"],
                         stdout=subprocess.PIPE) for side in sides.values()
    ]
    try:
        for server in servers:
            server.stdout.readline()
        measure(binary, sides, rounds, only)
    finally:
        for server in servers:
            server.kill()
            server.wait()
        for side in sides.values():
            side.close()


if __name__ == "__main__":
    main()
