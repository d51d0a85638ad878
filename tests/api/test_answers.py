"""What clients read has docker's members and kinds of values. `answers.json` is what dockerd 28.5 has answered.

With DOCKERD_SOCKET in the environment that engine is asked again, so that the file can be trusted.
"""

import json
import os
from pathlib import Path

import pytest
from answers import Asker, collect

EXPECTED = json.loads((Path(__file__).parent / "answers.json").read_text())
# members this engine has beside docker's, or docker has only when there is something to say
MAY_DIFFER = {"list running.SizeRw", "info.Containerd", "info.KernelMemoryTCP"}


@pytest.fixture(scope="module")
def ours(_shared_daemon):
    found = collect(Asker(_shared_daemon.socket))
    _shared_daemon.clear()
    return found


def differences(expected, found, at):
    if isinstance(expected, dict) and isinstance(found, dict):
        for key in sorted(expected.keys() | found.keys()):
            where = f"{at}.{key}"
            if key not in expected or key not in found:
                yield f"{where}: {'missing' if key in expected else 'not docker'}"
            else:
                yield from differences(expected[key], found[key], where)
    elif isinstance(expected, list) and isinstance(found, list) and expected and found:
        yield from differences(expected[0], found[0], at)
    elif expected != found:
        yield f"{at}: {expected!r} with docker, {found!r} here"


@pytest.mark.parametrize("name", sorted(EXPECTED))
def test_an_answer_has_dockers_shape(ours, name):
    found = [text for text in differences(EXPECTED[name], ours[name], name) if text.partition(":")[0] not in MAY_DIFFER]
    assert not found, "\n".join(found)


if os.environ.get("DOCKERD_SOCKET"):
    def test_the_file_is_what_dockerd_says():
        assert collect(Asker(os.environ["DOCKERD_SOCKET"].removeprefix("unix://"))) == EXPECTED
