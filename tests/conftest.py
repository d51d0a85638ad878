"""Fixtures of all tests. This folder is on the path: `from images import busybox_archive` works in every test."""

import os
import re
import subprocess
import time

import pytest
from daemon_process import Daemon
from hypothesis import HealthCheck, settings

# a busy machine is no fault of what is tested
settings.register_profile("any machine", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("any machine")

MACHINE = "machine:"  # how the reason of a skip begins when the machine, not the set-up, lacks something


def pytest_sessionfinish(session, exitstatus):
    """In CI a test that could have run and was skipped is a failure."""
    reporter = session.config.pluginmanager.get_plugin("terminalreporter")
    if not os.environ.get("CORTEN_NO_SKIPS") or reporter is None:
        return
    lazy = [report for report in reporter.stats.get("skipped", []) if MACHINE not in str(report.longrepr)]
    if lazy and exitstatus == 0:
        session.exitstatus = pytest.ExitCode.TESTS_FAILED
    for report in lazy:
        reporter.write_line(f"SKIPPED but not for want of the machine: {report.nodeid}: {report.longrepr}", red=True)


needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="needs root")


@pytest.fixture(scope="session")
def _shared_daemon():
    if os.geteuid() != 0:
        pytest.skip("needs root")
    if not os.path.exists("/bin/busybox"):
        pytest.skip("needs a static busybox at /bin/busybox")
    daemon = Daemon().start()
    try:
        daemon.load_busybox()
        daemon.wait(daemon.run("true"))  # the first container makes the bridge, the table and the cgroups' parent
        daemon.clear()
        yield daemon
    finally:
        daemon.close()


@pytest.fixture
def engine(_shared_daemon):
    """A daemon that runs, with the busybox image; containers and volumes made with it are removed after the test."""
    yield _shared_daemon
    if _shared_daemon.process is None or _shared_daemon.process.poll() is not None:
        _shared_daemon.start()
    _shared_daemon.clear()


@pytest.fixture
def own_engine():
    """A daemon for one test alone, with the busybox image: it may be killed and started again."""
    if os.geteuid() != 0 or not os.path.exists("/bin/busybox"):
        pytest.skip("needs root and a static busybox")
    daemon = Daemon().start()
    try:
        yield daemon.load_busybox()
    finally:
        daemon.close()


def _text(path):
    try:
        with open(path, errors="replace") as file:
            return file.read()
    except OSError:
        return ""


def _cgroups():
    found = set()
    for root, folders, _ in os.walk("/sys/fs/cgroup"):
        depth = root.count("/")
        if "/corten" in root:
            found.add(root)
        if depth > 5:
            folders.clear()
    return found


def _tables():
    try:
        done = subprocess.run(["nft", "list", "ruleset"], capture_output=True, text=True, timeout=60)
    except FileNotFoundError:
        return set()
    return {line for line in done.stdout.splitlines() if "corten" in line or re.search(r"\bct\d", line)}


def _processes():
    """Processes of corten or of its containers, by pid and command line; a zygote renews its launcher now and then."""
    found = set()
    for pid in filter(str.isdigit, os.listdir("/proc")):
        command = _text(f"/proc/{pid}/cmdline").replace("\0", " ")
        if "/corten-test-" in command or "/corten/" in _text(f"/proc/{pid}/cgroup"):
            launcher = _text(f"/proc/{pid}/comm").strip() == "corten-launch"
            found.add(("a launcher" if launcher else pid, command))
    return found


def host_state():
    """What a container engine may leave behind on a machine."""
    return {
        "mounts": {line.split(" ", 6)[4] for line in _text("/proc/self/mountinfo").splitlines()},
        "links": {name for name in os.listdir("/sys/class/net") if not name.startswith("lo")},
        "cgroups": _cgroups(),
        "tables": _tables(),
        "processes": _processes(),
    }


@pytest.fixture
def leaks():
    """Fails the test when mounts, links, cgroups, nft tables or processes are left that were not there before."""
    before = host_state()
    yield
    deadline = time.monotonic() + 30
    while True:
        after = host_state()
        left = {kind: sorted(after[kind] - before[kind]) for kind in after if after[kind] - before[kind]}
        if not left or time.monotonic() > deadline:
            break
        time.sleep(0.05)
    assert not left, left
