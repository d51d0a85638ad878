"""What the network adds to a start: reserve, hosts files, attach with a published port, release.

    python bench/network_attach.py [rounds]

Prints median, worst and processor time of each step (a busy machine changes the last one least).
Needs root; works in a namespace of its own.
"""

import asyncio
import os
import shutil
import statistics
import sys
import tempfile
import time

sys.path[:0] = [os.path.dirname(os.path.dirname(os.path.abspath(__file__)))]
sys.path.append(os.path.join(sys.path[0], "tests"))

from netns_hosts import Host  # noqa: E402

from corten.engine.network_records import CreateNetwork  # noqa: E402
from corten.linux.libc import check, libc  # noqa: E402
from corten.linux.netlink import CLONE_NEWNET, Batch, Socket  # noqa: E402

OWN = os.pidfd_open(os.getpid())
STEPS = ("reserve", "etc_files", "attach", "release")


def new_namespace() -> int:
    """A fresh network namespace, without a process; the caller closes the descriptor."""
    home = os.open("/proc/thread-self/ns/net", os.O_RDONLY)
    check(libc.unshare(CLONE_NEWNET), "unshare")
    made = os.open("/proc/thread-self/ns/net", os.O_RDONLY)
    check(libc.setns(home, CLONE_NEWNET), "setns")
    os.close(home)
    return made


async def one(host: Host, number: int, keep: bool, times: dict[str, list[tuple[float, float]]]) -> int:
    record = host.record(network=host.measured, ports={"80/tcp": ("", str(20000 + number))})
    networks = host.networks
    netns = new_namespace()

    async def timed(name, operation):
        start, cpu = time.perf_counter(), time.thread_time()
        result = operation()
        if asyncio.iscoroutine(result):
            await result
        times[name].append(((time.perf_counter() - start) * 1e3, (time.thread_time() - cpu) * 1e3))

    await timed("reserve", lambda: networks.reserve(record))
    await timed("etc_files", lambda: networks.etc_files(record))
    await timed("attach", lambda: networks.attach(record, netns, OWN))
    if not keep:
        await timed("release", lambda: networks.release(record))
    return netns


def growth(values: list[tuple[float, float]]) -> float:
    """How much more processor time the last quarter took than the first, as a ratio of medians."""
    quarter = max(1, len(values) // 4)
    first, last = (statistics.median(cpu for _, cpu in part) for part in (values[:quarter], values[-quarter:]))
    return last / first


async def measure(host: Host, title: str, rounds: int, keep: bool) -> None:
    times: dict[str, list[tuple[float, float]]] = {step: [] for step in STEPS}
    kept = []
    for number in range(rounds):
        netns = await one(host, number + (5000 if keep else 0), keep, times)
        if keep:
            kept.append(netns)
        else:
            os.close(netns)
    print(title)
    total = busy = 0.0
    for step, values in times.items():
        if values:
            median, worst = statistics.median(wall for wall, _ in values), max(wall for wall, _ in values)
            cpu = statistics.median(cpu for _, cpu in values)
            if step != "release":
                total, busy = total + median, busy + cpu
            print(f"  {step:10} median {median:6.3f} ms   worst {worst:6.3f} ms   cpu {cpu:6.3f} ms")
    if keep:
        print(f"  growth            {growth(times['attach']):6.2f}      last quarter of the attachments to the first")
    print(f"  start total       {total:6.3f} ms{'':20} cpu {busy:6.3f} ms")
    for netns in kept:
        os.close(netns)


def main() -> None:
    rounds = int(sys.argv[1]) if len(sys.argv) > 1 else 100
    check(libc.unshare(CLONE_NEWNET), "unshare")
    with Socket() as own:
        batch = Batch()
        batch.up(1)
        own.run(batch)
    folder = tempfile.mkdtemp(prefix="corten-bench-", dir="/var/tmp")
    host = Host(folder)
    try:
        host.measured = "bridge"
        host.loop.run(measure(host, "one after the other, each released", rounds, keep=False))
        host.loop.run(measure(host, "all kept on one network", rounds, keep=True))
        host.loop.run(host.networks.create(CreateNetwork(name="shop")))
        host.measured = "shop"
        host.loop.run(measure(host, "on a network with names, each released", rounds, keep=False))
    finally:
        host.close()
        shutil.rmtree(folder)


if __name__ == "__main__":
    main()
