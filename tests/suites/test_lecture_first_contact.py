"""First contact: a clone that nothing was done to, no engine running, `./corten run --rm host echo hello`.

It runs in mount, network and process namespaces of its own with nothing in /var/lib, /run and /var/log, so that the
engine at the default socket is not the machine's. Packages come from a folder of wheels: the test has no network.
"""

import os
import re
import shutil
import subprocess
import tomllib

import pytest
from daemon_process import REPOSITORY
from lecture_client import LAUNCHER

pytestmark = pytest.mark.skipif(os.geteuid() != 0 or not shutil.which("unshare"), reason="needs root and unshare")

SCRIPT = """
set -e
for folder in /var/lib /run /var/log; do mount -t tmpfs none $folder; done
ip link set lo up
umask 022
cd "$CLONE"
step() { name=$1; shift; set +e; "$@" >"$OUT/$name.out" 2>"$OUT/$name.err"; echo $? >"$OUT/$name.code"; set -e; }
step first ./corten run --rm host echo hello
step second ./corten run --rm host sh -c 'id -u; touch /usr/no; exit 3'
step python ./corten run --rm host python3 -c 'print(6 * 7)'
step left ./corten ps -aq
step where sh -c 'ls /var/lib/corten; ls /run/corten'
step linked sh -c 'ln -s "$CLONE/corten" /run/command && cd / && /run/command version --format "{{.Server.Version}}"'
kill -9 $(cat /run/corten/corten.pid)
step both sh -c './corten ps -q & ./corten ps -q; wait'
step saved ./corten save -o /run/x.tar host
daemon=$(cat /run/corten/corten.pid)
kill $daemon
for i in $(seq 1000); do ps -eo args | grep -q '[c]orten.\\(daemon\\|zygote\\).main' || break; sleep 0.05; done
step ended ps -eo args
"""


@pytest.fixture(scope="module")
def wheels(tmp_path_factory):
    """The packages that pyproject.toml asks for, downloaded once."""
    folder = tmp_path_factory.mktemp("wheels")
    with open(f"{REPOSITORY}/pyproject.toml", "rb") as file:
        wanted = tomllib.load(file)["project"]["dependencies"]
    pip = f"{REPOSITORY}/.venv/bin/pip"
    done = subprocess.run([pip, "download", "-q", "--disable-pip-version-check", "-d", folder, *wanted], capture_output=True, text=True)
    if done.returncode:
        pytest.skip(f"no packages to be had: {done.stderr[-300:]}")
    return folder


@pytest.fixture(scope="module")
def clone(tmp_path_factory):
    """The files of the repository, tracked or about to be, and nothing made by its use."""
    folder = tmp_path_factory.mktemp("clone") / "corten"
    listed = subprocess.run(["git", "-C", REPOSITORY, "ls-files", "-coz", "--exclude-standard"], capture_output=True, check=True)
    for name in filter(None, listed.stdout.decode().split("\0")):
        source = f"{REPOSITORY}/{name}"
        if os.path.lexists(source):
            os.makedirs(os.path.dirname(folder / name), exist_ok=True)
            shutil.copy2(source, folder / name, follow_symlinks=False)
    return folder


@pytest.fixture(scope="module")
def seen(clone, wheels, tmp_path_factory):
    """step(name) -> (stdout, stderr, exit code)."""
    assert os.path.basename(os.path.dirname(LAUNCHER)) != "bin", "the start script is ./corten"
    out, home = tmp_path_factory.mktemp("out"), tmp_path_factory.mktemp("home")
    environment = {"PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "HOME": str(home), "CLONE": str(clone),
                   "OUT": str(out), "PIP_NO_INDEX": "1", "PIP_FIND_LINKS": str(wheels)}
    done = subprocess.run(["unshare", "-mnp", "--fork", "--kill-child", "--mount-proc", "sh", "-c", SCRIPT], env=environment,
                          capture_output=True, text=True, timeout=280, stdin=subprocess.DEVNULL)
    assert done.returncode == 0, (done, {path.name: path.read_text() for path in out.iterdir()})

    def step(name):
        return (out / f"{name}.out").read_text(), (out / f"{name}.err").read_text(), int((out / f"{name}.code").read_text())

    return step


def test_it_prints_hello(seen):
    out, err, code = seen("first")
    assert (out, code) == ("hello\n", 0), err
    lines = err.splitlines()
    assert [line for line in lines if "first use" in line] and len(lines) == 2
    assert re.fullmatch(r"corten: started the daemon \(pid \d+\)", lines[-1])


def test_from_then_on_only_the_program_speaks(seen):
    assert seen("second") == ("0\n", "touch: cannot touch '/usr/no': Read-only file system\n", 3)
    assert seen("python") == ("42\n", "", 0)
    assert seen("left") == ("", "", 0)


def test_state_is_in_the_usual_places(seen):
    names = seen("where")[0].split()
    assert "corten.db" in names and "corten.sock" in names


def test_the_command_may_be_a_link_and_called_from_anywhere(seen):
    out, err, code = seen("linked")
    assert re.fullmatch(r"\d+\.\d+\.\d+\S*\n", out) and (err, code) == ("", 0)


def test_two_commands_at_once_start_one_engine(seen):
    out, err, code = seen("both")
    assert err.count("started the daemon") == 1 and (out, code) == ("", 0)


def test_the_host_image_cannot_be_saved(seen):
    assert seen("saved") == ("", "Error response from daemon: image host is this machine's own /usr and cannot be saved\n", 1)


def test_the_engine_ends_whole(seen):
    programs = re.findall("corten.(?:daemon|zygote).main", seen("ended")[0])
    assert programs == []


def test_the_machine_is_as_before(seen):
    seen("first")
    with open("/proc/self/mountinfo") as file:
        assert "pytest" not in file.read()
