"""Every example of the kernel chapter runs and shows what its page says; needs root."""

import os
import re
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
EXAMPLES = ROOT / "docs" / "kernel" / "examples"

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="needs root")


def command(name: str, *arguments: str) -> list[str]:
    return [sys.executable, str(EXAMPLES / name), *arguments]


def run(name: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PYTHONPATH": str(ROOT / "src")}
    return subprocess.run(command(name, *arguments), capture_output=True, text=True, timeout=60, env=environment)


@pytest.fixture
def sleeper():
    """`unshare -fn sleep`, by the example: (pid of the sleep, its network namespace, ours)."""
    process = subprocess.Popen(command("unshare_net.py", "300"), stdout=subprocess.PIPE, text=True,
                               env={**os.environ, "PYTHONPATH": str(ROOT / "src")})
    lines = [process.stdout.readline() for _ in range(3)]
    pid = int(re.match(r"pid (\d+): sleep 300", lines[0])[1])
    while Path(f"/proc/{pid}/cmdline").read_text() != "sleep\x00300\x00":  # the fork is there, its execve comes
        time.sleep(0.01)
    before, now = (re.search(r"net:\[(\d+)\]", line)[1] for line in lines[1:])
    yield pid, now, before
    os.kill(pid, 9)
    process.wait(60)
    process.stdout.close()


def test_unshare_fn_sleep_is_seen_from_outside_by_lsns(sleeper) -> None:
    pid, namespace, own = sleeper
    assert namespace != own
    assert os.readlink(f"/proc/{pid}/ns/net") == f"net:[{namespace}]"
    assert os.readlink(f"/proc/{pid}/ns/mnt") == os.readlink("/proc/self/ns/mnt")
    ours = run("list_namespaces.py", "net").stdout
    assert re.search(rf"^ *{namespace} net +2 ", ours, re.MULTILINE)
    if shutil.which("lsns"):
        shown = subprocess.run(["lsns", "-n", "-t", "net", "-o", "NS,NPROCS"], capture_output=True, text=True).stdout
        assert [namespace, "2"] in [line.split() for line in shown.splitlines()]


def test_nsenter_joins_the_namespaces_of_a_process(sleeper) -> None:
    pid, namespace, _ = sleeper
    shown = run("nsenter.py", str(pid), "/bin/sh", "-c", "readlink /proc/self/ns/net; tail -n +3 /proc/net/dev; exit 5")
    assert shown.stdout.splitlines()[0] == f"net:[{namespace}]"
    assert [line.split(":")[0].strip() for line in shown.stdout.splitlines()[1:]] == ["lo"]
    assert shown.returncode == 5


def test_clone_makes_a_process_in_new_namespaces() -> None:
    shown = run("clone_namespaces.py")
    assert shown.returncode == 0, shown.stderr
    assert "inside:  pid 1, host name inside, network devices ['lo']" in shown.stdout
    assert "it ended with 7" in shown.stdout
    assert os.uname().nodename != "inside"


def test_overlay_shows_layers_copy_up_and_whiteout() -> None:
    shown = run("overlay.py")
    assert shown.returncode == 0, shown.stderr
    assert "merged: ['changed', 'hello', 'kept', 'own']" in shown.stdout
    assert "removed  (a whiteout: character device 0:0)" in shown.stdout


def test_pivot_root_leaves_no_way_to_the_host() -> None:
    mounts = Path("/proc/self/mountinfo").read_text()
    shown = run("pivot_root.py")
    assert shown.returncode == 0, shown.stderr
    assert shown.stdout.startswith("root: bin lib lib64 proc usr\npid: 1\n")
    assert "/usr is read-only" in shown.stdout
    assert Path("/proc/self/mountinfo").read_text() == mounts


def test_limits_of_a_cgroup_are_kept() -> None:
    shown = run("limits.py")
    assert shown.returncode == 0, shown.stderr
    if "Permission denied" in shown.stderr or "Unsupported" in shown.stderr:
        pytest.skip("this machine's cgroups cannot be limited")
    assert "after 7 forks: EAGAIN" in shown.stdout
    assert "killed for want of memory: 1" in shown.stdout
    deadline = time.monotonic() + 60
    while list(Path("/sys/fs/cgroup").glob("*/corten-example-*")) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not list(Path("/sys/fs/cgroup").glob("*/corten-example-*"))


def test_every_example_has_its_test() -> None:
    text = Path(__file__).read_text()
    for path in EXAMPLES.glob("*.py"):
        assert f'"{path.name}"' in text, f"{path.name} is run by no test"
