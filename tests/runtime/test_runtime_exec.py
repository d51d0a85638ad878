"""One more process in a running container."""

import errno
import os
import shutil
import subprocess
import sys
import time

import pytest
from runtime_box import read_console, settle

from corten.linux import cgroup
from corten.runtime import exec as runtime_exec


@pytest.fixture
def running(boxes):
    return boxes.start(boxes.spec("sleep", "100"))


def test_exec_is_in_all_namespaces_and_the_cgroup(boxes, running):
    child, bundle = running
    result = boxes.exec(child, bundle, "sh", "-c", "for n in pid net ipc uts mnt cgroup; do readlink /proc/self/ns/$n; done; "
                                                   "cat /proc/self/cgroup; exit 3")
    assert result.code == 3
    lines = result.output.split()
    assert lines[:6] == [os.readlink(f"/proc/{child.pid}/ns/{name}") for name in ("pid", "net", "ipc", "uts", "mnt", "cgroup")]
    assert all(line.endswith(":/") for line in lines[6:])


def test_the_caller_is_where_it_was(boxes, running):
    before = {name: os.readlink(f"/proc/self/ns/{name}") for name in os.listdir("/proc/self/ns")}
    boxes.exec(*running, "true")
    assert {name: os.readlink(f"/proc/self/ns/{name}") for name in os.listdir("/proc/self/ns")} == before


@pytest.mark.parametrize(("process", "text", "code"), [
    ({"args": ["nope"]}, 'exec: "nope": executable file not found in $PATH', 127),
    ({"args": ["pwd"], "cwd": "/no"}, 'chdir to cwd ("/no") set in config.json failed: no such file or directory', 125),
    ({"args": ["/etc"]}, 'exec: "/etc": is a directory: permission denied', 126),
])
def test_exec_that_cannot_be(boxes, running, process, text, code):
    result = boxes.exec(*running, *process.pop("args"), **process)
    assert (str(result.failure), result.failure.exit_code) == (text, code)


def test_exec_as_another_user_with_a_terminal(boxes, running):
    child, bundle = running
    target = runtime_exec.Target(bundle.id, child.pid, child.pidfd, bundle.spec)
    document = {**bundle.spec["process"], "args": ["sh", "-c", "tty; id -u; echo end; sleep 500"], "terminal": True,
                "user": {"uid": 1000, "gid": 1000}, "consoleSize": {"height": 10, "width": 20}}
    null = os.open("/dev/null", os.O_RDWR)
    one = runtime_exec.spawn_exec(target, document, (null, null, null))
    os.close(null)
    one.start()
    settle(one)
    text = read_console(one, "end")
    assert "/dev/pts/0" in text and "1000" in text
    os.close(one.console)  # the terminal hangs up
    assert os.waitstatus_to_exitcode(os.waitpid(one.pid, 0)[1]) in (-1, 129)
    one.close()
    os.close(one.pidfd)


def test_cwd_cannot_lead_out(boxes, running):
    """CVE-2024-21626: a working directory by way of a descriptor of the engine's."""
    leak = os.open("/", os.O_PATH)
    try:
        for number in range(3, leak + 3):
            result = boxes.exec(*running, "pwd", cwd=f"/proc/self/fd/{number}")
            assert result.failure is not None or result.output.strip() in ("/", f"/proc/self/fd/{number}")
            assert "etc/debian_version" not in boxes.exec(*running, "ls", cwd="/").output
    finally:
        os.close(leak)


def test_the_engines_own_program_cannot_be_run_or_read(boxes, running):
    """CVE-2019-5736: /proc/self/exe of the process that is about to execve."""
    with open(f"{boxes.lower}/bin/script", "w") as file:
        file.write("#!/proc/self/exe\n")
    os.chmod(f"{boxes.lower}/bin/script", 0o755)
    os.symlink("/proc/self/exe", f"{boxes.lower}/bin/link")
    for program in ("/proc/self/exe", "link", "script", "/bin/script"):
        result = boxes.exec(*running, program)
        assert str(result.failure) == f'exec: "{program}": permission denied'


def test_a_sealed_program_cannot_be_written_by_way_of_proc(tmp_path):
    """What the engine's long-lived processes run from: even root cannot open it for writing once it has ended."""
    program = str(shutil.copy("/bin/busybox", tmp_path / "busybox"))
    code = f"from corten.linux.sealed import execute; execute([{program!r}, 'sleep', '100'], {{}})"
    with subprocess.Popen([sys.executable, "-c", code]) as process:
        while not open(f"/proc/{process.pid}/cmdline").read().startswith(program):
            time.sleep(0.01)
        kept = os.open(f"/proc/{process.pid}/exe", os.O_PATH)
        process.kill()
    try:
        with pytest.raises(OSError) as refused:
            os.open(f"/proc/self/fd/{kept}", os.O_WRONLY)
        assert refused.value.errno == errno.EROFS
    finally:
        os.close(kept)
    os.close(os.open(program, os.O_WRONLY))


def test_200_execs_leave_no_descriptor_and_no_process(boxes, running):
    boxes.exec(*running, "true")
    before = len(os.listdir("/proc/self/fd"))
    for _ in range(200):
        assert boxes.exec(*running, "true").code == 0
    assert len(os.listdir("/proc/self/fd")) == before
    assert cgroup.processes(running[1].cgroup) == [running[0].pid]


def test_exec_in_a_container_that_is_gone(boxes, running):
    child, bundle = running
    os.kill(child.pid, 9)
    os.waitid(os.P_PIDFD, child.pidfd, os.WEXITED | os.WNOWAIT)
    try:
        result = boxes.exec(child, bundle, "true")
    except OSError:
        return
    assert result.failure is not None
