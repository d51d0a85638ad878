"""`corten build --check`, and the Dockerfile's own ignore file; no engine is there."""

import os
import subprocess
import sys
from pathlib import Path

SOURCE = Path(__file__).parents[2] / "src"
OURS = [sys.executable, "-c", f"import sys; sys.path.insert(0, {str(SOURCE)!r}); from corten.cli.main import start; start()"]


def check(folder, *words, given=None):
    return subprocess.run([*OURS, "build", "--check", *words], cwd=folder, capture_output=True, text=True, input=given,
                          env={**os.environ, "DOCKER_HOST": f"unix://{folder}/none", "DOCKER_CONFIG": str(folder)})


def test_findings_lines_and_the_exit_code(tmp_path):
    (tmp_path / "Dockerfile").write_text("FROM busybox\nCMD echo\nCOPY a.md b.txt /x/\n")
    (tmp_path / ".dockerignore").write_text("*.txt\n")
    (tmp_path / "Dockerfile.dockerignore").write_text("*.md\n")
    done = check(tmp_path, ".")
    assert done.returncode == 1
    assert done.stdout.startswith("Check complete, 2 warnings have been found!\n\nWARNING: JSONArgsRecommended - https://")
    assert "   2 | >>> CMD echo\n" in done.stdout
    assert 'Attempting to Copy file "a.md" that is excluded by .dockerignore' in done.stdout
    assert "b.txt\" that" not in done.stdout


def test_nothing_found_a_target_and_stdin(tmp_path):
    (tmp_path / "Other").write_text("FROM busybox AS good\nFROM good AS bad\nCMD echo\n")
    done = check(tmp_path, "-f", "Other", "--target", "good", ".")
    assert (done.returncode, done.stdout) == (0, "Check complete, no warnings found.\n")
    assert "JSONArgsRecommended" in check(tmp_path, "-f", "Other", ".").stdout
    assert check(tmp_path, "-", given="FROM scratch\nENV A=$B\n").stdout.count("UndefinedVar") == 1


def test_what_is_no_dockerfile_is_shown(tmp_path):
    (tmp_path / "Dockerfile").write_text("FROM busybox\nFOO x\n")
    done = check(tmp_path, ".")
    assert done.returncode == 1
    assert "unknown instruction: FOO (did you mean FROM?)" in done.stderr and "   2 | >>> FOO x" in done.stderr
