"""docs/cli-table.md tells the truth: every flag of the docker CLI is spoken of, and every line of flag_cases.txt is run."""

import os
import re
import shlex
import shutil
import subprocess
from pathlib import Path

import flag_table
import pytest
from registry_server import running_registry

DOCKER = shutil.which("docker")
PAGE = Path(__file__).parents[2] / "docs/cli-table.md"
CASES = flag_table.load()

pytestmark = pytest.mark.skipif(DOCKER is None, reason="needs the docker CLI")


@pytest.fixture(scope="module")
def known():
    return flag_table.commands()


@pytest.fixture(scope="module")
def registry():
    with running_registry() as made:
        yield made.host


def test_every_command_and_flag_is_shown(known):
    if not subprocess.run([DOCKER, "--version"], capture_output=True, text=True).stdout.startswith("Docker version 28."):
        pytest.skip("machine: has another docker CLI than 28")
    found = flag_table.results(known)
    missing = [f"{command} --{flag}" for command, (_, flags) in known.items() if command.split()[0] not in flag_table.SWARM
               for flag in ("", *(name for name, _, _ in flags)) if (command, flag) not in found]
    assert missing == []
    assert PAGE.read_text() == flag_table.page(known), "make it again: python tests/cli/flag_table.py >docs/cli-table.md"


@pytest.fixture
def docker(engine, tmp_path):
    """Runs one command line in a folder of its own; what it printed and its code."""
    environment = {**os.environ, "DOCKER_HOST": f"unix://{engine.socket}", "DOCKER_CONFIG": str(tmp_path / ".config"),
                   "DOCKER_BUILDKIT": "0", "LC_ALL": "C"}
    os.mkdir(tmp_path / ".config")

    def run(words):
        if words[0] == "context":
            environment.pop("DOCKER_HOST", None)
        done = subprocess.run([DOCKER, *words], cwd=tmp_path, env=environment, stdin=subprocess.DEVNULL, capture_output=True,
                              text=True, timeout=120)
        return done.stdout + done.stderr, done.returncode

    return run


def disk():
    """Some block device of this machine."""
    return next((f"/dev/{name}" for name in sorted(os.listdir("/sys/block"), reverse=True) if os.path.exists(f"/dev/{name}")),
                "/dev/null")


@pytest.mark.parametrize("case", CASES, ids=[case.title for case in CASES])
def test_a_case(docker, registry, tmp_path, case):
    def filled(text):
        words = {"{img}": "busybox", "{id}": f"ft{os.getpid()}", "{registry}": registry, "{disk}": disk()}
        return re.sub(r"\{(img|id|registry|disk)\}", lambda found: words[found[0]], text)

    for mark, step in case.steps:
        if mark == ">":
            path = tmp_path / step[0]
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(step[1].replace("\\n", "\n") + "\n")
        elif mark == "+":
            said, code = docker(shlex.split(filled(step)))
            assert code == 0, (step, said)
        elif not step.client:
            check(step, filled, *docker(shlex.split(filled(step.words))))


def check(step, filled, said, code):
    if step.refused:
        assert code != 0 and re.search(filled(step.refused), said), (step.words, code, said)
        return
    assert code == step.code, (step.words, code, said)
    for pattern in step.has:
        assert re.search(filled(pattern), said), (step.words, pattern, said)
    for pattern in step.hasnt:
        assert not re.search(filled(pattern), said), (step.words, pattern, said)


@pytest.mark.parametrize("words", [
    "swarm init", "swarm join --token x 127.0.0.1:1", "swarm leave", "swarm unlock-key", "node ls", "service ls",
    "service create busybox", "stack ls", "stack services x", "secret ls", "config ls",
])
def test_commands_of_a_swarm_say_that_there_is_none(docker, words):
    said, code = docker(words.split())
    assert code != 0 and re.search("swarm", said), said
