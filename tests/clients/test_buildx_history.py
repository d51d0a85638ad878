"""docker buildx history: what was built, how it went and what came of it; also after the daemon's end."""

import json
import subprocess
import time

import pytest
from buildx_client import Client


def history(client, *arguments, code=0):
    done = subprocess.run([client.plugin, "history", *arguments], env=client.environment, stdin=subprocess.DEVNULL,
                          capture_output=True, text=True, timeout=280, check=False)
    assert done.returncode == code, done.stderr
    return done.stdout + done.stderr


def listed(client):
    """Rows of `history ls`, the newest first."""
    rows = [json.loads(line) for line in history(client, "ls", "--format", "json").splitlines()]
    return [{**row, "ref": row["ref"].rpartition("/")[2]} for row in rows]


@pytest.fixture
def empty(client):
    history(client, "rm", "--all")
    return client


def test_what_was_built_and_how_it_went(empty):
    empty.build("FROM busybox\nARG A\nRUN echo said; echo $A\n", "-t", "hist:1", "--build-arg", "A=1", "--metadata-file", empty.context / "meta")
    empty.build("FROM busybox\nRUN echo before; false\n", code=1)
    failed, done = listed(empty)
    assert (done["status"], failed["status"]) == ("Completed", "Error")
    assert done["total_steps"] == done["completed_steps"] >= 4
    shown = json.loads(history(empty, "inspect", "--format", "json", done["ref"]))
    assert shown["Status"] == "completed" and {"Name": "A", "Value": "1"} in shown["BuildArgs"]
    assert shown["Materials"][0]["URI"].startswith("pkg:docker/busybox@latest")
    assert {one["Type"] for one in shown["Attachments"]} >= {"https://slsa.dev/provenance/v0.2"}
    proof = json.loads(history(empty, "inspect", "attachment", "--type", "provenance", done["ref"]))
    assert proof["invocation"]["parameters"]["args"] == {"build-arg:A": "1"}
    assert json.loads((empty.context / "meta").read_text())["buildx.build.provenance"]["buildType"] == proof["buildType"]
    assert "said" in history(empty, "logs", done["ref"])
    text = history(empty, "inspect", failed["ref"])
    assert "exit code: 1" in text and ">>> RUN echo before; false" in text
    assert "no record found" in history(empty, "inspect", "nosuch", code=1)
    history(empty, "rm", done["ref"])
    assert [row["ref"] for row in listed(empty)] == [failed["ref"]]


def test_questions_are_no_builds_and_secrets_are_not_kept(empty):
    empty.build("FROM scratch\nCOPY Dockerfile /\n", "--check")
    assert listed(empty) == []
    empty.build('FROM busybox\nRUN --mount=type=secret,id=t wc -c </run/secrets/t\n', "--secret", "id=t,env=TOKEN", "-t", "quiet:1")
    (row,) = listed(empty)
    for arguments in (("inspect", "--format", "json"), ("logs",), ("inspect", "attachment", "--type", "provenance")):
        assert "from the environment" not in history(empty, *arguments, row["ref"])


def test_it_outlives_the_daemon(plugin, own_engine, tmp_path):
    client = Client(plugin, own_engine, tmp_path)
    client.build("FROM busybox\nRUN echo said\n", "-t", "kept:1")
    (client.context / "Dockerfile").write_text("FROM busybox\nRUN echo begun; sleep 600\n")
    with subprocess.Popen([plugin, "build", "--progress=plain", client.context], env=client.environment, text=True,
                          stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE) as running:
        while "begun" not in (line := running.stderr.readline()):
            assert line
        assert [row["status"] for row in listed(client)] == ["Running", "Completed"]
        own_engine.kill()
        running.stderr.read()
    own_engine.start()
    deadline = time.monotonic() + 60
    while len(listed(client)) < 2 and time.monotonic() < deadline:
        time.sleep(0.1)
    left, done = listed(client)
    assert (left["status"], done["status"]) == ("Error", "Completed")
    assert "the daemon ended before the build did" in history(client, "inspect", left["ref"])
    assert "said" in history(client, "logs", done["ref"])
