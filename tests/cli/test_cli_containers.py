"""Containers by our command line on a real engine: output, streams, exit codes."""

import re
import subprocess
import sys

import pytest
from corten_command import COMMAND, corten


def test_run_prints_what_the_program_prints(engine):
    done = corten(engine.socket, "run", "--rm", "busybox", "sh", "-c", "echo out; echo err >&2; exit 7")
    assert (done.stdout, done.stderr, done.returncode) == ("out\n", "err\n", 7)
    assert corten(engine.socket, "ps", "-aq").stdout == ""


@pytest.mark.parametrize("command, code, text", [
    (["nope"], 127, 'exec: "nope": executable file not found in $PATH'),
    (["/nope"], 127, 'exec: "/nope": stat /nope: no such file or directory'),
    (["/etc"], 126, 'exec: "/etc":'),
    (["sh", "-c", "sh -c 'kill -9 $$'; exit $?"], 137, ""),
])
def test_exit_codes(engine, command, code, text):
    done = corten(engine.socket, "run", "--rm", "busybox", *command)
    assert done.returncode == code and text in done.stderr


def test_errors_of_the_engine_end_run_with_125(engine):
    done = corten(engine.socket, "run", "--rm", "--network", "nope", "busybox", "true")
    assert done.returncode == 125
    assert done.stderr.startswith("corten: Error response from daemon: ") and "network nope not found" in done.stderr
    assert done.stderr.endswith("\n\nRun 'corten run --help' for more information\n")


def test_stdin_goes_in_and_its_end_too(engine):
    data = bytes(range(256)) * 20000
    done = corten(engine.socket, "run", "--rm", "-i", "busybox", "cat", stdin=data, text=False)
    assert done.returncode == 0 and done.stdout == data


def test_more_than_a_pipe_holds_both_ways_does_not_lock(engine):
    done = corten(engine.socket, "run", "--rm", "-i", "busybox", "sh", "-c", "yes | head -c 3000000; wc -c",
                  stdin=b"x" * 3_000_000, text=False)
    assert done.stdout.endswith(b"3000000\n") and len(done.stdout) == 3_000_008


def test_a_reader_that_goes_away(engine):
    done = subprocess.run(
        ["sh", "-c", '"$@" | head -1', "sh", *COMMAND, "-H", f"unix://{engine.socket}", "run", "--rm", "busybox",
         "sh", "-c", "yes | head -c 400000"], capture_output=True, text=True, timeout=30)
    assert done.stdout == "y\n" and "Traceback" not in done.stderr


def test_in_the_background(engine):
    done = corten(engine.socket, "run", "-d", "--name", "web", "-e", "A=1", "busybox", "sleep", "100")
    assert re.fullmatch("[0-9a-f]{64}\n", done.stdout)
    assert corten(engine.socket, "ps", "--format", "{{.Names}} {{.State}}").stdout == "web running\n"
    assert corten(engine.socket, "exec", "web", "sh", "-c", "echo $A; exit 5").returncode == 5
    assert corten(engine.socket, "exec", "-i", "web", "cat", stdin="abc").stdout == "abc"
    assert corten(engine.socket, "exec", "web", "nope").returncode == 127
    assert corten(engine.socket, "stop", "-t", "0", "web").stdout == "web\n"
    assert corten(engine.socket, "start", "web").stdout == "web\n"
    assert corten(engine.socket, "kill", "web").stdout == "web\n"
    assert corten(engine.socket, "wait", "web").stdout == "137\n"
    assert corten(engine.socket, "rename", "web", "other").returncode == 0
    assert corten(engine.socket, "rm", "other").stdout == "other\n"


def test_start_attached_gives_the_exit_code(engine):
    engine.create("sh", "-c", "echo again; exit 4", name="once")
    done = corten(engine.socket, "start", "-a", "once")
    assert (done.stdout, done.returncode) == ("again\n", 4)


def test_logs(engine):
    engine.wait(engine.run("sh", "-c", "echo 1; echo 2 >&2; echo 3", name="talk"))
    done = corten(engine.socket, "logs", "talk")
    assert (done.stdout, done.stderr) == ("1\n3\n", "2\n")
    engine.wait(engine.run("sh", "-c", "echo 1; echo 3", name="lines"))
    assert corten(engine.socket, "logs", "--tail", "1", "lines").stdout == "3\n"
    stamped = corten(engine.socket, "logs", "-t", "talk").stdout
    assert re.fullmatch(r"(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{9}Z \d\n){2}", stamped)


def test_inspect_of_several_kinds(engine):
    container = engine.create("true", name="thing")
    done = corten(engine.socket, "inspect", "-f", "{{.Name}} {{.State.Status}}", "thing")
    assert done.stdout == "/thing created\n"
    done = corten(engine.socket, "inspect", "nope", "thing")
    assert f'"Id": "{container}"' in done.stdout
    assert (done.stderr, done.returncode) == ("Error: No such object: nope\n", 1)
    assert corten(engine.socket, "inspect", "-f", "{{.Foo}}", "thing").stderr == (
        'template parsing error: template: :1:2: executing "" at <.Foo>: map has no entry for key "Foo"\n')


def test_nothing_listens(tmp_path):
    done = corten(tmp_path / "none.sock", "ps")
    assert done.returncode == 1
    assert done.stderr == (f"Cannot connect to the corten daemon at unix://{tmp_path}/none.sock. "
                           "Is the corten daemon running?\n")


def test_volumes(engine):
    assert corten(engine.socket, "volume", "create", "data").stdout == "data\n"
    assert corten(engine.socket, "volume", "ls", "-q").stdout == "data\n"
    assert corten(engine.socket, "run", "--rm", "-v", "data:/d", "busybox", "sh", "-c", "echo kept > /d/f").returncode == 0
    assert corten(engine.socket, "run", "--rm", "-v", "data:/d:ro", "busybox", "cat", "/d/f").stdout == "kept\n"
    assert corten(engine.socket, "volume", "rm", "data").stdout == "data\n"
    assert corten(engine.socket, "volume", "inspect", "data").returncode == 1


@pytest.mark.parametrize("classic", [True, False])
def test_build_from_a_folder_and_from_stdin(engine, tmp_path, monkeypatch, classic):
    monkeypatch.setenv("DOCKER_BUILDKIT", "0" if classic else "1")
    (tmp_path / "keep").write_text("kept\n")
    (tmp_path / "left.log").write_text("no\n")
    (tmp_path / ".dockerignore").write_text("*.log\nDockerfile\n")
    (tmp_path / "Dockerfile").write_text("FROM busybox\nARG X=1\nENV Y=$X\nCOPY . /context\nCMD ls /context\n")
    done = corten(engine.socket, "build", "-t", "made:1", "--build-arg", "X=7", str(tmp_path))
    assert done.returncode == 0, done.stderr
    assert ("Successfully tagged made:1\n" in done.stdout) == classic
    assert ("naming to docker.io/library/made:1 done" in done.stderr) != classic
    assert corten(engine.socket, "run", "--rm", "made:1").stdout == "keep\n"
    done = corten(engine.socket, "build", "-q", "-", stdin="FROM busybox\nLABEL a=b\n")
    assert re.fullmatch("sha256:[0-9a-f]{64}\n", done.stdout)
    done = corten(engine.socket, "build", "-", stdin="FROM busybox\nRUN exit 3\n")
    assert done.returncode == (3 if classic else 1)
    assert ("returned a non-zero code: 3" if classic else "exit code: 3") in done.stderr
    assert corten(engine.socket, "rmi", "-f", "made:1").returncode == 0


def test_save_load_import_export(engine, tmp_path):
    container = engine.create("true")
    archive = tmp_path / "tree.tar"
    assert corten(engine.socket, "export", "-o", str(archive), container).returncode == 0
    image = corten(engine.socket, "import", "-c", "CMD echo imported", str(archive), "again:1")
    assert image.stdout.startswith("sha256:"), image.stderr
    assert corten(engine.socket, "run", "--rm", "again:1").stdout == "imported\n"
    assert corten(engine.socket, "save", "-o", str(tmp_path / "image.tar"), "again:1").returncode == 0
    assert corten(engine.socket, "rmi", "again:1").returncode == 0
    assert corten(engine.socket, "load", "-i", str(tmp_path / "image.tar")).stdout == "Loaded image: again:1\n"
    assert corten(engine.socket, "rmi", "again:1").returncode == 0


def test_dial_stdio_joins_a_client_to_the_daemon(engine):
    """What `-H ssh://` runs at the other end: HTTP in, HTTP out, each direction ending by itself."""
    done = subprocess.run(
        [sys.executable, "-m", "corten.cli", "-H", f"unix://{engine.socket}", "system", "dial-stdio"],
        input=b"GET /_ping HTTP/1.1\r\nHost: d\r\nConnection: close\r\n\r\n", capture_output=True, timeout=180)
    assert done.returncode == 0 and done.stdout.startswith(b"HTTP/1.1 200 OK") and done.stdout.endswith(b"OK"), done
