"""Whether containers on one network grow dearer with their number: 200 started, then removed, one after the other.

    unshare -n python bench/network_growth.py [number]

Each has a published port. Prints the medians of the first and the last quarter, of wall time and of the processor time
of the engine's processes, for networks with names, without, and for none at all (what is not the network's). Needs
root; a namespace of its own keeps it from the machine's network.
"""

import os
import statistics
import subprocess
import sys
import time

sys.path[:0] = [os.path.join(os.path.dirname(os.path.dirname(os.path.abspath(__file__))), "tests")]

from daemon_process import Daemon  # noqa: E402


def spent(daemon, roles=("daemon", "zygote")):
    """Processor time of the engine's processes so far, in ms."""
    found = 0.0
    for pid in filter(None, map(daemon.pid_of, roles)):
        with open(f"/proc/{pid}/schedstat") as file:
            found += int(file.read().split()[0]) / 1e6
    return found


def timed(daemon, operation):
    start, busy = time.perf_counter(), spent(daemon)
    operation()
    wall = (time.perf_counter() - start) * 1e3
    return wall, spent(daemon) - busy


def start(daemon, network, number):
    host = {"NetworkMode": network}
    if network != "none":
        host["PortBindings"] = {"80/tcp": [{"HostPort": str(20000 + number)}]}
    return daemon.run("sleep", "1000", HostConfig=host)


def shown(what, values):
    quarter = len(values) // 4
    text = f"  {what:7}"
    for at, unit in enumerate(("wall", "cpu")):
        first, last = (statistics.median(value[at] for value in part) for part in (values[:quarter], values[-quarter:]))
        text += f"   {unit} {first:7.2f} -> {last:7.2f} ms   {last / first:5.2f}"
    print(text, flush=True)


def measure(daemon, network, number):
    made, starts, ends = [], [], []
    for at in range(10):  # what is done once is done
        daemon.api("DELETE", f"/containers/{start(daemon, network, 5000 + at)}?force=1")
    for at in range(number):
        starts.append(timed(daemon, lambda at=at: made.append(start(daemon, network, at))))
    for container in made:
        ends.append(timed(daemon, lambda container=container: daemon.api("DELETE", f"/containers/{container}?force=1")))
    print(f"{number} on {network}")
    shown("start", starts)
    shown("remove", ends)


def main():
    number = int(sys.argv[1]) if len(sys.argv) > 1 else 200
    subprocess.run(["ip", "link", "set", "lo", "up"], check=True)
    daemon = Daemon().start()
    try:
        daemon.load_busybox()
        daemon.api("POST", "/networks/create", {"Name": "shop"})
        for network in ("none", "bridge", "shop"):
            measure(daemon, network, number)
        daemon.api("DELETE", "/networks/shop")
    finally:
        daemon.close()


if __name__ == "__main__":
    main()
