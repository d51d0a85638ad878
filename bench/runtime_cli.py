"""A container's life by command line, against another runtime in the same run: create, start, delete.

    python bench/runtime_cli.py [--rounds N] [--seccomp] [NAME=COMMAND ...]

Default: this clone's corten-oci and the runc of PATH. The runtimes take turns, so that what else the machine does
meets both. Prints medians in milliseconds of each command and of the three together (the program's own life in between
is not counted), and the ratio to the last runtime named. Needs root and a static busybox.
"""

import argparse
import glob
import json
import os
import select
import shutil
import statistics
import sys
import tempfile
import time

from runtime_start import seccomp, spec

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
STEPS = ("create", "start", "delete")


def make_bundle(folder: str, name: str, filtered: bool, parent: str) -> str:
    """A bundle of its own for each runtime: a busybox root and the spec an engine would write."""
    bundle = f"{folder}/{name}"
    os.makedirs(f"{bundle}/rootfs/bin")
    for place in ("proc", "sys", "dev", "tmp", "etc"):
        os.mkdir(f"{bundle}/rootfs/{place}")
    shutil.copy("/bin/busybox", f"{bundle}/rootfs/bin/busybox")
    os.symlink("busybox", f"{bundle}/rootfs/bin/true")
    document = spec(["true"])
    linux = document["linux"]
    linux["cgroupsPath"] = f"{parent}/bench-{os.getpid()}/{name}"
    if filtered:
        linux["seccomp"] = seccomp()
    else:
        linux.pop("seccomp", None)
    with open(f"{bundle}/config.json", "w", encoding="utf-8") as file:
        json.dump(document, file)
    return bundle


def call(command: list[str], words: list[str]) -> float:
    """Milliseconds of one call; its failure ends the run."""
    began = time.perf_counter()
    pid = os.posix_spawn(command[0], [*command, *words], os.environ)
    _, status = os.waitpid(pid, 0)
    took = (time.perf_counter() - began) * 1000
    if status:
        sys.exit(f"{' '.join([*command, *words])}: status {status}")
    return took


def life(command: list[str], state: str, bundle: str) -> list[float]:
    """One container from create to delete; waits for its end before the delete."""
    pid_file = f"{state}.pid"
    times = [call(command, ["--root", state, "create", "--bundle", bundle, "--pid-file", pid_file, "bench"])]
    with open(pid_file, encoding="ascii") as file:
        pidfd = os.pidfd_open(int(file.read()))
    times.append(call(command, ["--root", state, "start", "bench"]))
    select.select([pidfd], [], [])
    os.close(pidfd)
    times.append(call(command, ["--root", state, "delete", "bench"]))
    return times


def main() -> None:
    """Take turns and print."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--rounds", type=int, default=40)
    parser.add_argument("--seccomp", action="store_true", help="with an engine's default filter")
    parser.add_argument("--parent", default="", help="the cgroup in which the containers' are made, e.g. /busy")
    parser.add_argument("runtimes", nargs="*")
    options = parser.parse_args()
    named = [entry.partition("=")[::2] for entry in options.runtimes]
    named = named or [("corten-oci", f"{ROOT}/corten-oci"), ("runc", shutil.which("runc") or "runc")]
    folder = tempfile.mkdtemp(prefix="corten-bench-", dir="/var/tmp")
    states = tempfile.mkdtemp(prefix="corten-bench-", dir="/run")  # where runtimes keep them
    try:
        bundles = {name: make_bundle(folder, name, options.seccomp, options.parent) for name, _ in named}
        found: dict[str, list[list[float]]] = {name: [] for name, _ in named}
        for turn in range(options.rounds + 2):
            for name, command in named:
                times = life(command.split(), f"{states}/{name}", bundles[name])
                if turn >= 2:
                    found[name].append(times)
    finally:
        shutil.rmtree(folder)
        shutil.rmtree(states)
        for mounts in ("/sys/fs/cgroup", "/sys/fs/cgroup/*"):
            for place in glob.glob(f"{mounts}{options.parent}/bench-{os.getpid()}"):
                os.rmdir(place)
    base = statistics.median(sum(times) for times in found[named[-1][0]])
    print(f"{'ms':<14}" + "".join(f"{step:>9}" for step in STEPS) + f"{'all':>9}{'ratio':>8}")
    for name, rounds in found.items():
        columns = [statistics.median(column) for column in zip(*rounds, strict=True)]
        whole = statistics.median(sum(times) for times in rounds)
        print(f"{name:<14}" + "".join(f"{value:9.1f}" for value in columns) + f"{whole:9.1f}{whole / base:8.2f}")


if __name__ == "__main__":
    main()
