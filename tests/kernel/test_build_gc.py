"""The build cache keeps itself within the bounds its daemon was told, the least recently used steps going first."""

import json
import os
import subprocess
import sys

import pytest
from build_command import Builder, until
from daemon_process import Daemon

pytestmark = pytest.mark.skipif(os.geteuid() != 0 or not os.path.exists("/bin/busybox"), reason="needs root and a static busybox")


def step(number):
    return f"FROM busybox\nRUN dd if=/dev/urandom of=/f{number} bs=1k count=600\n"


def cached(engine):
    return sorted(row["Description"].rpartition("/f")[2][:1] for row in engine.api("GET", "/system/df?type=build-cache").json["BuildCache"]
                  if "/f" in row["Description"])


@pytest.fixture
def started(tmp_path):
    """A function: flags -> a Builder of a daemon of its own."""
    daemons = []

    def start(*flags):
        daemons.append(Daemon(*flags).start())
        return Builder(daemons[-1].load_busybox(), tmp_path)

    yield start
    for daemon in daemons:
        daemon.close()


def test_bounds_by_flag(started):
    builder = started("--builder-gc", "max-used-space=1500k")
    for number in (1, 2, 1, 3):
        builder.build(step(number))
    until(lambda: cached(builder.engine) == ["1", "3"], lambda: cached(builder.engine))


def test_rules_of_the_configuration_file(started, tmp_path):
    file = tmp_path / "daemon.json"
    wrong = {"maxUsedSpace": "1", "filter": ["colour=red"]}
    file.write_text(json.dumps({"builder": {"gc": {"policy": [wrong]}}}))
    done = subprocess.run([sys.executable, "-m", "corten.daemon.main", "--config-file", str(file), "-H", f"unix://{tmp_path}/s",
                           "--data-root", f"{tmp_path}/data", "--exec-root", f"{tmp_path}/run"], capture_output=True, text=True, timeout=280)
    assert done.returncode and "invalid filter colour" in done.stderr
    file.write_text(json.dumps({"builder": {"gc": {"policy": [{"maxUsedSpace": "700k"}]}}}))
    builder = started("--config-file", str(file))
    for number in (1, 2):
        builder.build(step(number))
    until(lambda: cached(builder.engine) == ["2"], lambda: cached(builder.engine))


def test_none_at_all(started):
    builder = started("--builder-gc", "enabled=false")
    for number in (1, 2, 3):
        builder.build(step(number))
    assert cached(builder.engine) == ["1", "2", "3"]
