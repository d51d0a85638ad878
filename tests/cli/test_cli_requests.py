"""The requests of our command line against those of the docker CLI: the same bodies, paths, errors and exit codes.

Both talk to a recorder instead of an engine. Where we mean to differ a case is not in the list.
"""

import json
import os
import shlex
import shutil
import subprocess
import sys

import pytest
from recorder import Recorder, bare

REPOSITORY = os.path.join(os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__)))), "src")
CASES_FILE = os.path.join(os.path.dirname(os.path.abspath(__file__)), "requests.txt")
OURS = [sys.executable, "-c", f"import sys; sys.path.insert(0, {REPOSITORY!r}); from corten.cli.main import start; start()"]
DOCKER = shutil.which("docker")

with open(CASES_FILE, encoding="utf-8") as _file:
    CASES = [line.strip() for line in _file if line.strip() and not line.startswith("#")]


def _normal(target):
    path, _, query = bare(target).partition("?")
    pairs = sorted(pair for pair in query.replace("+", "%20").split("&") if not pair.endswith("="))
    return path, pairs


def _body(data):
    """A body's JSON; docker walks its volumes, and its -e where one has no value, in no order at all."""
    found = json.loads(data) if data else None
    if isinstance(found, dict) and isinstance(found.get("Env"), list):
        found["Env"].sort()
    if isinstance(found, dict) and isinstance(found.get("HostConfig"), dict) and found["HostConfig"].get("Binds"):
        found["HostConfig"]["Binds"].sort()
    return found


def outcome(program, words, folder):
    folder.mkdir()
    recorder = Recorder(folder / "socket")
    environment = {**os.environ, "DOCKER_CONFIG": str(folder), "HOME": "/root", "PWD": "/"}
    environment.pop("DOCKER_HOST", None)
    environment.pop("CORTEN_HOST", None)
    try:
        done = subprocess.run([*program, "-H", recorder.url, *words], capture_output=True, text=True, cwd="/", env=environment,
                              stdin=subprocess.DEVNULL, timeout=30)
    finally:
        recorder.close()
    requests = [(method, *_normal(target), _body(body))
                for method, target, _, body in recorder.requests if "_ping" not in target]
    text = (done.stdout + done.stderr).replace("docker", "corten").replace("Docker", "corten").replace(recorder.url, "URL")
    return requests, text, done.returncode


@pytest.mark.skipif(DOCKER is None, reason="needs the docker CLI")
@pytest.mark.parametrize("case", CASES)
def test_the_same_request_as_docker(case, tmp_path):
    words = shlex.split(case)
    assert outcome(OURS, words, tmp_path / "ours") == outcome([DOCKER], words, tmp_path / "docker")
