"""Containers on a terminal: a real pty on both sides, with the window's size, Ctrl-C, Ctrl-Z, vi and the detach keys."""

import os
import shutil
import subprocess
import time

import pytest
from daemon_process import until

CTRL_C, CTRL_P, CTRL_Q, CTRL_Z, ESCAPE = b"\x03", b"\x10", b"\x11", b"\x1a", b"\x1b"
VI = os.path.realpath(shutil.which("vi") or "/no-vi")  # vim-tiny, or a larger vim; not the link in /etc, which the image has not


def shell(client, *words):
    """`run -it … busybox sh`, at its prompt."""
    terminal = client.terminal("run", "-it", *words, "busybox", "sh")
    terminal.until(b"# ")
    return terminal


def ask(terminal, command, answer, timeout=90):
    """Type a command, see its answer and the next prompt."""
    terminal.type(command + b"\n")
    terminal.until(b"\n")
    seen = terminal.until(answer, timeout)
    terminal.until(b"# ")
    return seen


def test_the_size_follows_the_window(client):
    terminal = client.terminal("run", "--rm", "-it", "busybox", "sh", rows=31, columns=99)
    terminal.until(b"# ")
    ask(terminal, b"stty size", b"31 99\r\n")
    ask(terminal, b"tty; test -t 0 && test -t 1 && test -t 2 && echo three", b"three")
    terminal.type(b"trap 'echo winch' WINCH; until stty size | grep '4[3] 121'; do sleep 0.1; done\n")
    terminal.resize(43, 121)
    terminal.until(b"43 121\r\n")
    terminal.type(b"exit 9\n")
    assert terminal.end() == 9
    assert client("ps", "-aq") == ""


def test_ctrl_c_interrupts_the_program_and_not_the_shell(client):
    terminal = shell(client, "--rm")
    terminal.type(b"sleep 1000\n")
    terminal.until(b"sleep 1000\r\n")
    until(lambda: b"sleep" in client("top", client("ps", "-q")).encode())
    terminal.type(CTRL_C)
    terminal.until(b"# ")
    ask(terminal, b"echo code $?", b"code 130")
    terminal.type(b"exit\n")
    assert terminal.end() == 0


def test_ctrl_z_and_jobs(client):
    terminal = shell(client, "--rm", "--name", "jobs")
    terminal.type(b"sleep 1000\n")
    terminal.until(b"sleep 1000\r\n")
    until(lambda: "sleep" in client("top", "jobs"))
    terminal.type(CTRL_Z)
    terminal.until(b"Stopped")
    terminal.until(b"# ")
    ask(terminal, b"jobs", b"Stopped")
    terminal.type(b"fg\n")
    terminal.until(b"sleep 1000")
    until(lambda: client("exec", "jobs", "sh", "-c", "grep -l 'State:.S' $(grep -l Name:.sleep /proc/[0-9]*/status)").strip())
    terminal.type(CTRL_C)
    terminal.until(b"# ")
    terminal.type(b"exit 0\n")
    assert terminal.end() == 0


def test_end_of_input(client):
    terminal = shell(client, "--rm")
    terminal.type(b"\x04")
    assert terminal.end() == 0


def _edit(terminal, ready):
    terminal.until(ready)
    terminal.type(b"ihello from vi" + ESCAPE)
    terminal.until(b"vi")
    terminal.type(b":wq\r")
    terminal.until(b"# ")


def test_busybox_vi_edits_a_file(client):
    terminal = shell(client, "--name", "edit")
    terminal.type(b"vi /tmp/note\n")
    _edit(terminal, b"/tmp/note")
    ask(terminal, b"cat /tmp/note", b"hello from vi")
    terminal.type(b"exit\n")
    assert terminal.end() == 0
    assert client("cp", "edit:/tmp/note", "-", text=False).count(b"hello from vi\n") == 1


@pytest.mark.skipif("vim" not in VI, reason="needs vim on the host")
def test_vim_of_the_host_image_edits_a_file(client, tmp_path):
    terminal = client.terminal("run", "--rm", "-it", "-v", f"{tmp_path}:/work", "host", VI, "-u", "NONE", "/work/note")
    terminal.until(b"/work/note")
    terminal.type(b"ihello from vim" + ESCAPE)
    terminal.until(b"from vim")
    deadline = time.monotonic() + 90
    while b"columns=60" not in terminal.seen:  # vim forgets a SIGWINCH that comes while it starts: resize until it is up
        assert time.monotonic() < deadline, terminal.seen[-500:]
        terminal.resize(20, 59)
        terminal.resize(20, 60)
        time.sleep(0.1)
        terminal.type(b":set columns?\r")
        terminal.until(b"columns=")
        time.sleep(0.05)
    terminal.type(ESCAPE + b":wq\r")
    assert terminal.end() == 0
    assert (tmp_path / "note").read_text() == "hello from vim\n"


def test_detach_and_attach_again(client):
    terminal = shell(client, "--name", "shell")
    ask(terminal, b"X=kept", b"")
    terminal.type(CTRL_P + CTRL_Q)
    assert terminal.end() == 0
    assert client.state("shell") == "running 0"
    terminal = client.terminal("attach", "--detach-keys", "ctrl-a,x", "shell")
    terminal.type(b"\n")
    terminal.until(b"# ")
    ask(terminal, b"echo $X-$((6*7))", b"kept-42")
    terminal.type(b"\x01x")
    assert terminal.end() in (0, 1)
    assert client.state("shell") == "running 0"
    terminal = client.terminal("attach", "shell", rows=22, columns=66)
    terminal.type(b"\n")
    terminal.until(b"# ")
    ask(terminal, b"stty size", b"22 66")
    terminal.type(b"exit 6\n")
    assert terminal.end() == 6
    assert client.state("shell") == "exited 6"


def test_start_a_i_on_a_terminal(client):
    client("create", "-it", "--name", "later", "busybox", "sh")
    for code in (3, 4):
        terminal = client.terminal("start", "-a", "-i", "later")
        terminal.type(b"\n")
        terminal.until(b"# ")
        terminal.type(b"exit %d\n" % code)
        assert terminal.end() == code


def test_exec_on_a_terminal(client):
    client("run", "-d", "--name", "host", "busybox", "sleep", "1000")
    terminal = client.terminal("exec", "-it", "-e", "A=b", "-w", "/tmp", "-u", "33", "host", "sh", rows=33, columns=77)
    terminal.until(b"$ ")
    terminal.type(b"stty size; pwd; echo $A; id -u\n")
    terminal.until(b"33 77\r\n/tmp\r\nb\r\n33\r\n")
    terminal.resize(44, 88)
    terminal.type(b"until stty size | grep '4[4] 88'; do sleep 0.1; done\n")  # it has yet to be told
    terminal.until(b"44 88")
    terminal.type(b"sleep 1000\n")
    terminal.until(b"sleep 1000\r\n")
    until(lambda: client("top", "host").count("sleep 1000") == 2)
    terminal.type(CTRL_C)
    terminal.until(b"$ ")
    terminal.type(b"exit 4\n")
    assert terminal.end() == 4
    assert client.state("host") == "running 0"


def test_both_streams_come_over_the_one_terminal(client):
    terminal = client.terminal("run", "--rm", "-t", "busybox", "sh", "-c", "echo out; echo err >&2; ls -d /tmp >/dev/tty")
    terminal.until(b"out\r")
    terminal.until(b"err\r")
    terminal.until(b"/tmp\r")
    assert terminal.end() == 0


def test_a_terminal_is_needed_for_one(client):
    assert "the input device is not a TTY" in client("run", "--rm", "-it", "busybox", "true", stdin="", code=1, fails="TTY")


def test_signals_sent_to_the_command_reach_the_program(client):
    script = "trap 'echo got it; exit 3' TERM; echo ready; while true; do sleep 0.05; done"
    running = client.start("run", "--name", "listener", "busybox", "sh", "-c", script)
    assert running.stdout.readline() == "ready\n"
    os.kill(running.pid, 15)
    try:
        assert running.communicate(timeout=90)[0] == "got it\n" and running.returncode == 3
    except subprocess.TimeoutExpired:
        running.kill()
        raise AssertionError(("the container is", client.state("listener"), client("logs", "listener"))) from None
