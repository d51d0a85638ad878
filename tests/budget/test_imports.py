"""What the command line imports when it starts, against a checked-in list: each module more is a slower `corten ps`."""

import os
import subprocess
import sys

HERE = os.path.dirname(os.path.abspath(__file__))
REPOSITORY = os.path.join(os.path.dirname(os.path.dirname(HERE)), "src")
DEAR = ("re", "json", "socket", "argparse", "typing", "dataclasses", "enum", "asyncio", "ctypes", "http", "logging",
        "subprocess", "pathlib", "tempfile", "shutil", "signal", "calendar", "datetime", "urllib")


def loaded(statement):
    """Modules present after a statement in a bare interpreter that were not there before."""
    program = (f"import sys; sys.path.insert(0, {REPOSITORY!r}); before = set(sys.modules); {statement}; "
               "print('\\n'.join(sorted(set(sys.modules) - before)))")
    done = subprocess.run([sys.executable, "-IS", "-c", program], capture_output=True, text=True, check=True)
    return done.stdout.split()


def listed(name):
    with open(os.path.join(HERE, name), encoding="utf-8") as file:
        return [line.strip() for line in file if line.strip() and not line.startswith("#")]


def test_the_start_of_the_command_line():
    assert loaded("import corten.cli.main") == listed("imports_cli_main.txt")


def test_ps():
    assert loaded("import corten.cli.main, corten.cli.containers, corten.cli.options_container") == listed("imports_cli_ps.txt")


def test_nothing_dear_for_ps_and_run():
    for module in ("containers", "run", "lifecycle", "create_host"):
        found = loaded(f"import corten.cli.main, corten.cli.{module}")
        assert not [name for name in found if name.split(".")[0] in DEAR]


def test_nothing_dear_for_a_container_by_corten_oci():
    """create, start and delete do without os too, whose import takes a millisecond."""
    for modules in ("commands, corten.runtime.container", "launch, corten.oci.config_shape, corten.linux.cgroup_limits"):
        found = loaded(f"import corten.runtime.cli, corten.runtime.{modules}")
        assert not [name for name in found if name.split(".")[0] in (*DEAR, "os", "posixpath", "_collections_abc")]
