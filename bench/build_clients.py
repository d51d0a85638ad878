"""Builds by the real clients against two engines in one run: docker's buildx, and `corten build` beside it.

    python bench/build_clients.py --buildx PLUGIN --engine docker=unix:///run/d.sock --engine corten=unix:///run/c.sock

Medians in seconds and the ratio to the first engine. Every engine has the image busybox. The client's own time is in
it: `corten build` on the last engine is the last column.
"""

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

STEPS = "FROM busybox\nARG SALT\n" + "".join(f"RUN echo $SALT {number} >/file{number}\n" for number in range(20))
STAGES = ("FROM busybox AS one\nARG SALT\nRUN sleep 2 && echo $SALT >/one\n"
          "FROM busybox AS two\nARG SALT\nRUN sleep 2 && echo $SALT >/two\n"
          "FROM busybox\nCOPY --from=one /one /\nCOPY --from=two /two /\n")
CASES = ("20 RUN cold", "20 RUN cached", "two stages of 2 s", "ADD cold", "ADD cached", "unchanged tree")
ADD_COLD = "FROM busybox\nARG SALT\nLABEL salt=$SALT\nADD . /context\n"


class Client:
    """A command that builds on an engine."""

    def __init__(self, name, command, environment):
        self.name, self.command = name, command
        self.environment = {**os.environ, **environment}

    def build(self, folder, dockerfile, salt, *flags):
        """Seconds."""
        (folder / "Dockerfile").write_text(dockerfile)
        start = time.perf_counter()
        words = ["--progress=plain", "--build-arg", f"SALT={salt}", "--provenance=false", *flags, str(folder)]
        done = subprocess.run([*self.command, *words], env=self.environment, stdin=subprocess.DEVNULL,
                              capture_output=True, text=True)
        spent = time.perf_counter() - start
        assert done.returncode == 0, done.stderr[-2000:]
        return spent


def contexts(work):
    """(an empty folder, one with ten thousand files of 1 KiB)."""
    empty, full = work / "empty", work / "full"
    empty.mkdir()
    for number in range(10_000):
        path = full / f"d{number % 100}" / f"f{number}"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(f"{number}\n".encode() * 200)
    return empty, full


def change(full):
    """Make all files others."""
    for path in full.glob("d*/f*"):
        path.write_bytes(path.read_bytes()[:-1] + os.urandom(1))


def measured(client, work, rounds):
    """{case: [seconds, …]}."""
    empty, full = work
    found = {name: [] for name in CASES}
    for _ in range(rounds):
        salt = os.urandom(8).hex()
        found["20 RUN cold"].append(client.build(empty, STEPS, salt))
        found["20 RUN cached"] += [client.build(empty, STEPS, salt) for _ in range(3)]
        found["two stages of 2 s"].append(client.build(empty, STAGES, salt))
        change(full)
        found["ADD cold"].append(client.build(full, ADD_COLD, salt))
        found["ADD cached"].append(client.build(full, ADD_COLD, salt))
        found["unchanged tree"].append(client.build(full, ADD_COLD, os.urandom(8).hex()))
    return found


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--buildx", required=True)
    parser.add_argument("--engine", action="append", required=True)
    parser.add_argument("--rounds", type=int, default=3)
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory(dir="/var/tmp") as folder:
        clients = []
        for text in asked.engine:
            name, _, host = text.partition("=")
            places = {"DOCKER_HOST": host, "DOCKER_CONFIG": f"{folder}/config",
                      "BUILDX_CONFIG": f"{folder}/buildx-{name}"}
            clients.append(Client(f"buildx, {name}", [asked.buildx, "build"], places))
        ours = [sys.executable, "-m", "corten.cli", "-H", host, "build"]
        clients.append(Client(f"corten build, {name}", ours, {}))
        work = contexts(Path(folder))
        for client in clients:
            client.build(work[0], "FROM busybox\nRUN true\n", "x")
        found = [{} for _ in clients]
        for turn in range(asked.rounds):
            order = list(enumerate(clients))[::-1 if turn % 2 else 1]
            for at, client in order:
                for case, times in measured(client, work, 1).items():
                    found[at].setdefault(case, []).extend(times)
                    print(client.name, case, *(f"{time_s:.3f}" for time_s in times), file=sys.stderr, flush=True)
    width = max(len(client.name) for client in clients) + 2
    print("case".ljust(20) + "".join(client.name.rjust(width + 9) for client in clients))
    for case in found[0]:
        first = statistics.median(found[0][case])
        times = [statistics.median(one[case]) for one in found]
        print(case.ljust(20) + "".join(f"{time_s:.3f} ({time_s / first:.2f})".rjust(width + 9) for time_s in times))


if __name__ == "__main__":
    main()
