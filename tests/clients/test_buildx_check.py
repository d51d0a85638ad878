"""docker buildx build --check, --call outline and targets; warnings of a build; errors that show their lines."""

import json
import subprocess


def call(client, what, dockerfile, *flags):
    (client.context / "Dockerfile").write_text(dockerfile)
    return subprocess.run([client.plugin, "build", "--call", what, *flags, client.context], env=client.environment,
                          stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=280)


def test_checks_are_shown_with_their_lines(client):
    done = call(client, "check", "FROM busybox\nCMD echo\nENV A=$PATHH\n")
    assert done.returncode == 1, done.stderr
    assert "Check complete, 2 warnings have been found!" in done.stdout
    assert "WARNING: JSONArgsRecommended - https://docs.docker.com/go/dockerfile/rule/json-args-recommended/" in done.stdout
    assert ">>> CMD echo" in done.stdout and "(did you mean $PATH?)" in done.stdout
    done = call(client, "check", "FROM busybox\nCMD [\"echo\"]\n")
    assert (done.returncode, done.stdout) == (0, "Check complete, no warnings found.\n")
    assert call(client, "check", "# check=skip=JSONArgsRecommended\nFROM busybox\nCMD echo\n").returncode == 0


def test_outline_and_targets(client):
    text = "# V a version\nARG V=1\nFROM busybox AS one\nARG V\nRUN --mount=type=secret,id=token true\n# two the second\nFROM one AS two\n"
    found = json.loads(call(client, "outline,format=json", text, "--target", "one").stdout)
    assert [(one["name"], one["value"]) for one in found["args"]] == [("V", "1")] and found["secrets"][0]["name"] == "token"
    assert "two (default)" in call(client, "targets", text).stdout
    assert "the second" in call(client, "targets", text).stdout


def test_warnings_of_a_build_and_errors_with_their_lines(client):
    told = client.build("FROM busybox\nCMD echo\n")
    assert "JSONArgsRecommended: JSON arguments recommended for CMD" in told and "(line 2)" in told
    told = client.build("FROM busybox\nRUN true\nRUN exit 3\n", code=1)
    assert "Dockerfile:3\n" in told and "   3 | >>> RUN exit 3" in told
    told = client.build("FROM busybox\nFOO x\n", code=1)
    assert ">>> FOO x" in told and "failed to solve: dockerfile parse error on line 2: unknown instruction: FOO" in told
    told = client.build("# check=error=true\nFROM busybox\nCMD echo\n", code=1)
    assert "lint violation found for rules: JSONArgsRecommended" in told
    told = client.build("# syntax=evil/frontend\nFROM busybox\n", code=1)
    assert "the front end evil/frontend is not run" in told
