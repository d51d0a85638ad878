"""Our own set of Dockerfiles, built by buildx: the same files, configuration and history as BuildKit in dockerd 28.5 made.

The cases are tests/conformance/build_cases.py, what dockerd made of them build_cases.json (record_builds.py).
"""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[1] / "conformance"))

from build_cases import CASES, changed, config_of, history_of, tree_of, write_context

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="needs root")
RECORDED = json.loads((Path(__file__).parents[1] / "conformance" / "build_cases.json").read_text())


@pytest.fixture(scope="module")
def built(plugin, _shared_daemon, tmp_path_factory):
    """All cases, baked at once: a function that asks the engine, and the base image's files."""
    engine, folder = _shared_daemon, tmp_path_factory.mktemp("cases")
    targets = {}
    for name, (_, _, arguments) in CASES.items():
        write_context(name, folder / name)
        targets[name] = {"context": str(folder / name), "args": arguments, "tags": [f"case-{name}"]}
    (folder / "bake.json").write_text(json.dumps({"target": targets}))
    environment = {**os.environ, "DOCKER_HOST": f"unix://{engine.socket}", "DOCKER_CONFIG": str(folder / "config"),
                   "BUILDX_CONFIG": str(folder / "buildx"), "BUILDX_NO_DEFAULT_ATTESTATIONS": "1",
                   "BUILDX_BAKE_ENTITLEMENTS_FS": "0"}
    names = list(targets)
    while names:
        some, names = names[:12], names[12:]
        done = subprocess.run([plugin, "bake", "--progress=plain", "-f", folder / "bake.json", *some], capture_output=True,
                              text=True, timeout=300, stdin=subprocess.DEVNULL, env=environment)
        assert done.returncode == 0, done.stderr[-3000:]

    def api(method, url, body=None):
        headers = {"Content-Type": "application/json"} if body is not None else None
        answer = engine.api(method, url, json.dumps(body).encode() if body is not None else None, headers=headers)
        assert answer.status < 400, answer.body
        return answer.body if url.endswith("/export") else answer.json if answer.body else None
    return api, tree_of(api, "busybox")


def test_all_cases_are_recorded():
    assert list(RECORDED) == list(CASES)


@pytest.mark.parametrize("name", CASES)
def test_the_image_is_buildkits(built, name):
    api, base = built
    found, expected = changed(base, tree_of(api, f"case-{name}")), RECORDED[name]["tree"]
    if CASES[name][0].startswith("FROM scratch"):  # what dockerd makes to mount over is in its tree
        found, expected = ([line for line in tree if line[0] != "-"] for tree in (found, expected))
    assert found == expected
    assert config_of(api, f"case-{name}") == RECORDED[name]["config"]
    assert history_of(api, f"case-{name}") == RECORDED[name]["history"]
