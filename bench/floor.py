"""A start through the zygote against what the kernel asks for: from the request to the program's first instruction.

    python bench/floor.py [N]

The floor (floor.c) is six namespaces, an overlay, pivot_root and /proc, in C. Ours adds what makes it a container: its
cgroup with limits, devices, masks, the seccomp filter, capabilities, a log, and the requests over the zygote's socket.
Both run the same program, which writes the time at which it began. They take turns. C's starts follow each other, in
caches that the one before has filled; `alone` are those that come after a pause, as a start in an engine does and as
all of ours do. Prints medians in milliseconds and the ratio. Needs root and gcc.
"""

import asyncio
import os
import select
import shutil
import statistics
import subprocess
import sys
import tempfile
import time

from runtime_start import make_bundle

from corten.base.paths import Layout
from corten.linux import cgroup
from corten.zygote.client import ZygoteClient

HERE = os.path.dirname(os.path.abspath(__file__))
ROUND = 5  # starts of a kind before it is the other's turn
PAUSE_S = 0.05  # for what the zygote does between two requests: the next launcher, the next network
KINDS = ("C", "C, waited for", "C alone", "C alone, waited for", "zygote")


def make_lower(root: str) -> str:
    for name in ("bin", "proc", "sys", "dev", "etc", "tmp"):
        os.makedirs(f"{root}/lower/{name}")
    program = f"{root}/lower/bin/first"
    subprocess.run(["gcc", "-O2", "-static", "-o", program, f"{HERE}/floor.c"], check=True)
    return f"{root}/lower"


def floor(work: str, lower: str, count: int = ROUND) -> tuple[list[float], list[float]]:
    """Milliseconds of `count` starts in C: to the first instruction, and to the end of the wait."""
    os.mkdir(work)
    done = subprocess.run([f"{lower}/bin/first", str(count), lower, work], check=True, capture_output=True, text=True)
    times = [tuple(map(int, line.split())) for line in done.stdout.splitlines()]
    first = [first_instruction(f"{work}/{number}-u", begun) for number, (begun, _) in enumerate(times)]
    return first, [(ended - begun) / 1e6 for begun, ended in times]


async def alone(work: str, lower: str) -> tuple[list[float], list[float]]:
    """The same of ROUND starts with a pause before each."""
    found: tuple[list[float], list[float]] = ([], [])
    for number in range(ROUND):
        await asyncio.sleep(PAUSE_S)
        for values, more in zip(found, floor(f"{work}-{number}", lower, 1), strict=True):
            values += more
    return found


def first_instruction(upper: str, begun_ns: int) -> float:
    with open(f"{upper}/time", encoding="ascii") as file:
        return (int(file.read()) - begun_ns) / 1e6


async def ours(client: ZygoteClient, layout: Layout, lower: str, turn: int) -> list[float]:
    """The same by the zygote; what an engine does besides, with and after a container, is not counted."""
    times = []
    for number in range(ROUND):
        name = f"bench-{turn}-{number}"
        os.makedirs(layout.container(name))
        bundle = make_bundle(os.path.dirname(layout.bundle(name)), name, lower, ["/bin/first"])
        assert bundle == layout.bundle(name)
        start = time.monotonic_ns()
        made = await client.create(name, tty=False, open_stdin=False, stdin_once=False, log_dir=layout.container(name))
        await client.start(name)
        await asyncio.to_thread(select.select, [made.pidfd], [], [])
        times.append(first_instruction(f"{bundle}/upper", start))
        os.close(made.pidfd)
        os.close(made.netns)
        await client.forget(name)
        await asyncio.sleep(PAUSE_S)
    return times


async def main() -> None:
    """Take turns and print."""
    count = int(sys.argv[1]) if len(sys.argv) > 1 else 50
    root = tempfile.mkdtemp(prefix="corten-bench-", dir="/var/tmp")
    layout = Layout(f"{root}/data", tempfile.mkdtemp(prefix="corten-bench-", dir="/run"))
    found: dict[str, list[float]] = {kind: [] for kind in KINDS}
    try:
        lower = make_lower(root)
        client = await ZygoteClient.connect(layout, lambda event: None)
        for turn in range(count // ROUND + 1):
            times = [*floor(f"{root}/floor{turn}", lower), *await alone(f"{root}/alone{turn}", lower)]
            times.append(await ours(client, layout, lower, turn))
            if turn:  # the first is for warming up
                for name, values in zip(KINDS, times, strict=True):
                    found[name] += values
        await client.shutdown()
    finally:
        cgroup.remove("/corten-bench")
        shutil.rmtree(root)
        shutil.rmtree(layout.exec_root)
    base = statistics.median(found["C"])
    print(f"{'ms to the first instruction':<30}{'median':>9}{'best':>9}{'ratio':>8}")
    for name, values in found.items():
        middle = statistics.median(values)
        print(f"{name:<30}{middle:9.2f}{min(values):9.2f}{middle / base:8.2f}")


if __name__ == "__main__":
    asyncio.run(main())
