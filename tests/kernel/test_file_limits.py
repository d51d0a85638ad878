"""Descriptors: the engine takes as many as it may have, programs get what the daemon was started with."""

import resource

import pytest
from daemon_process import Daemon

SOFT = 300


@pytest.fixture
def daemon(leaks):
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (SOFT, hard))
    try:
        made = Daemon()
        made.start()
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    made.load_busybox()
    yield made
    made.close()


def files_of(pid):
    """(soft, hard) of a process."""
    with open(f"/proc/{pid}/limits", encoding="ascii") as lines:
        found = next(line for line in lines if line.startswith("Max open files"))
    return found.split()[3:5]


def test_the_engine_raises_its_limit_and_programs_keep_theirs(daemon):
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    for role in ("daemon", "zygote", "anchor", "pump"):
        assert files_of(daemon.pid_of(role)) == [str(hard), str(hard)], role
    show = ("sh", "-c", "ulimit -Sn; ulimit -Hn")
    plain = daemon.run(*show, HostConfig={"NetworkMode": "none"})
    daemon.wait(plain)
    assert daemon.logs(plain).split() == [str(SOFT), str(hard)]
    asked = daemon.run(*show, HostConfig={
        "NetworkMode": "none", "Ulimits": [{"Name": "nofile", "Soft": 50, "Hard": 60}]})
    daemon.wait(asked)
    assert daemon.logs(asked).split() == ["50", "60"]
