"""What a start costs: all namespaces, overlay, cgroup, seccomp, from the call to the program's first instruction.

    python bench/runtime_start.py [N] [--steps]

Prints medians in milliseconds. `running` is the moment execve has taken over; `exec` the same for one more process in a
running container. With --steps, what each step of the init costs. Needs root and a static busybox.
"""

import itertools
import json
import os
import shutil
import sys
import tempfile
import time
from importlib import resources

from corten.linux import cgroup
from corten.runtime import create, init
from corten.runtime import exec as runtime_exec
from corten.runtime.bundle import Bundle, load_bundle

CAPABILITIES = [
    "CAP_CHOWN", "CAP_DAC_OVERRIDE", "CAP_FSETID", "CAP_FOWNER", "CAP_SETGID", "CAP_SETUID", "CAP_SETFCAP",
    "CAP_SETPCAP", "CAP_NET_BIND_SERVICE", "CAP_SYS_CHROOT", "CAP_KILL",
]
SAFE = ["nosuid", "noexec", "nodev"]


def seccomp() -> dict[str, object]:
    """The default profile's unconditional rules: near enough to what an engine would write."""
    profile = json.loads(resources.files("corten.oci").joinpath("seccomp_default.json").read_text())
    rules = [rule for rule in profile["syscalls"] if "caps" not in rule.get("includes", {})]
    kept = [{key: rule[key] for key in ("names", "action", "args", "errnoRet") if key in rule} for rule in rules]
    return {
        "defaultAction": profile["defaultAction"], "defaultErrnoRet": 1, "syscalls": kept,
        "architectures": ["SCMP_ARCH_X86_64", "SCMP_ARCH_X86", "SCMP_ARCH_X32"],
    }


def spec(arguments: list[str]) -> dict[str, object]:
    """A container as the engine makes them by default."""
    mounts = [
        ("/proc", "proc", "proc", SAFE),
        ("/dev", "tmpfs", "tmpfs", ["nosuid", "strictatime", "mode=755", "size=65536k"]),
        ("/dev/pts", "devpts", "devpts", ["nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620", "gid=5"]),
        ("/sys", "sysfs", "sysfs", [*SAFE, "ro"]),
        ("/sys/fs/cgroup", "cgroup", "cgroup", [*SAFE, "relatime", "ro"]),
        ("/dev/mqueue", "mqueue", "mqueue", SAFE),
        ("/dev/shm", "tmpfs", "shm", [*SAFE, "mode=1777", "size=65536k"]),
    ]
    rules = [{"allow": False, "access": "rwm"}] + [
        {"allow": True, "type": "c", "major": major, "minor": minor, "access": "rwm"}
        for major, minor in ((1, 3), (1, 5), (1, 7), (1, 8), (1, 9), (5, 0), (5, 2))
    ]
    return {
        "ociVersion": "1.2.1", "hostname": "bench", "root": {"path": "rootfs"},
        "process": {
            "args": arguments, "cwd": "/", "env": ["PATH=/bin"], "user": {"uid": 0, "gid": 0},
            "capabilities": dict.fromkeys(("bounding", "effective", "permitted"), CAPABILITIES),
        },
        "mounts": [dict(zip(("destination", "type", "source", "options"), entry, strict=True)) for entry in mounts],
        "linux": {
            "namespaces": [{"type": kind} for kind in ("pid", "network", "ipc", "uts", "mount", "cgroup")],
            "resources": {"devices": rules, "pids": {"limit": 4096}, "memory": {"limit": 256 << 20, "swap": 256 << 20}},
            "seccomp": seccomp(),
            "maskedPaths": ["/proc/acpi", "/proc/kcore", "/proc/keys", "/proc/timer_list", "/sys/firmware"],
            "readonlyPaths": ["/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"],
        },
    }


def make_lower(root: str) -> str:
    for name in ("bin", "proc", "sys", "dev", "etc", "tmp"):
        os.makedirs(f"{root}/lower/{name}")
    shutil.copy("/bin/busybox", f"{root}/lower/bin/busybox")
    for name in ("true", "sleep"):
        os.symlink("busybox", f"{root}/lower/bin/{name}")
    return f"{root}/lower"


def make_bundle(root: str, name: str, lower: str, arguments: list[str]) -> str:
    path = f"{root}/{name}"
    for folder in ("rootfs", "upper", "work"):
        os.makedirs(f"{path}/{folder}")
    document = spec(arguments)
    document["linux"]["cgroupsPath"] = f"/corten-bench/{name}"  # type: ignore[index]
    with open(f"{path}/config.json", "w", encoding="utf-8") as file:
        json.dump(document, file)
    with open(f"{path}/rootfs.json", "w", encoding="utf-8") as file:
        json.dump({"lower": [lower], "upper": f"{path}/upper", "work": f"{path}/work"}, file)
    return path


def run_to(child: create.Child) -> None:
    while child.wait() != "running":
        assert child.failure is None, child.failure


def end(child: create.Child) -> None:
    os.waitpid(child.pid, 0)
    child.close()
    os.close(child.pidfd)


def median(values: list[float]) -> str:
    ordered = sorted(values)
    return f"{ordered[len(ordered) // 2] * 1e3:7.2f}  (best {ordered[0] * 1e3:.2f})"


def bench_start(root: str, lower: str, count: int) -> None:
    times: dict[str, list[float]] = {"clone": [], "running": [], "exited": [], "destroyed": []}
    for number in range(count):
        path = make_bundle(root, f"s{number}", lower, ["true"])
        start = time.perf_counter()
        bundle = load_bundle(f"s{number}", path)
        child = create.spawn(bundle, (0, 1, 2))
        times["clone"].append(time.perf_counter() - start)
        child.start()
        run_to(child)
        times["running"].append(time.perf_counter() - start)
        end(child)
        times["exited"].append(time.perf_counter() - start)
        create.destroy(bundle)
        times["destroyed"].append(time.perf_counter() - start)
    for name, values in times.items():
        print(f"start to {name:10} {median(values)} ms")


def bench_exec(root: str, lower: str, count: int) -> None:
    path = make_bundle(root, "e", lower, ["sleep", "1000"])
    bundle: Bundle = load_bundle("e", path)
    child = create.spawn(bundle, (0, 1, 2))
    child.start()
    run_to(child)
    target = runtime_exec.Target("e", child.pid, child.pidfd, bundle.spec)
    process = {**bundle.spec["process"], "args": ["true"]}
    running, exited = [], []
    for _ in range(count):
        start = time.perf_counter()
        one = runtime_exec.spawn_exec(target, process, (0, 1, 2))
        one.start()
        run_to(one)
        running.append(time.perf_counter() - start)
        end(one)
        exited.append(time.perf_counter() - start)
    print(f"exec to running     {median(running)} ms")
    print(f"exec to exited      {median(exited)} ms")
    os.kill(child.pid, 9)
    end(child)
    create.destroy(bundle)


def show_steps(root: str, lower: str) -> None:
    """Wrap each step with a clock; the table comes from the child itself, on stderr."""
    clock = time.perf_counter
    marks = [("begin", clock())]

    def timed(name: str, run: object) -> object:
        def wrapped(one: init.Init) -> None:
            if len(marks) == 1:
                marks.append(("clone", clock()))
            if name.startswith("close"):
                lines = [f"{after[0]:40} {(after[1] - before[1]) * 1e6:8.0f} us" for before, after in
                         itertools.pairwise(marks)]
                os.write(2, ("\n".join(lines) + "\n").encode())
            run(one)  # type: ignore[operator]
            marks.append((name, clock()))
        return wrapped

    before = init.STEPS
    init.STEPS = tuple((name, timed(name, run)) for name, run in before)  # type: ignore[misc]
    bundle = load_bundle("steps", make_bundle(root, "steps", lower, ["true"]))
    marks[:] = [("begin", clock())]
    child = create.spawn(bundle, (0, 1, 2))
    child.start()
    run_to(child)
    end(child)
    create.destroy(bundle)
    init.STEPS = before


def main() -> None:
    numbers = [int(word) for word in sys.argv[1:] if word.isdigit()]
    count = numbers[0] if numbers else 50
    root = tempfile.mkdtemp(prefix="corten-bench-", dir="/var/tmp")
    try:
        lower = make_lower(root)
        bench_start(root, lower, count)
        bench_exec(root, lower, count)
        if "--steps" in sys.argv:
            show_steps(root, lower)
    finally:
        cgroup.remove("/corten-bench")
        shutil.rmtree(root)


if __name__ == "__main__":
    main()
