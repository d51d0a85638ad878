"""The compose program of the tests, as Debian has it."""

import subprocess
from pathlib import Path

import pytest

FETCH = Path(__file__).parent / "clients/fetch_plugin.sh"


def compose_program(folder):
    """Its path below `folder`; a machine where it cannot be had skips the test."""
    try:
        done = subprocess.run(["bash", FETCH, folder], capture_output=True, text=True, stdin=subprocess.DEVNULL, timeout=200)
    except subprocess.TimeoutExpired:
        pytest.skip("machine: Debian's docker-compose does not arrive here")
    program = folder / "docker-compose"
    if done.returncode or subprocess.run([program, "version"], capture_output=True, check=False).returncode:
        pytest.skip(f"machine: Debian's docker-compose cannot be had or run here: {done.stderr[-300:]}")
    return program
