"""Our command line on a terminal: raw mode, its size, Ctrl-C and Ctrl-Z inside, detach keys, signals passed on."""

import os
import signal
import termios

from corten_command import Terminal, corten
from daemon_process import until


def test_a_shell(engine):
    terminal = Terminal(engine.socket, "run", "--rm", "-it", "busybox", "sh", rows=30, columns=100)
    before = termios.tcgetattr(terminal.master)
    terminal.until(b"# ")
    terminal.type(b"stty size\n")
    terminal.until(b"30 100")
    terminal.until(b"# ")
    terminal.resize(40, 120)
    terminal.type(b"until stty size | grep '4[0] 120'; do sleep 0.1; done\n")  # it has yet to be told
    terminal.until(b"40 120")
    terminal.until(b"# ")
    terminal.type(b"exit 9\n")
    assert terminal.end() == 9
    assert before is not None


def sleeps(engine):
    """Whether the only container's `sleep 100` runs: it has the terminal by then."""
    (row,) = engine.api("GET", "/containers/json").json
    states = [line[0] for line in engine.api("GET", f"/containers/{row['Id']}/top?ps_args=-o%20stat,pid,args").json["Processes"]
              if line[-1] == "sleep 100"]
    return states and "T" not in states[0]


def test_keys_reach_the_program(engine):
    terminal = Terminal(engine.socket, "run", "--rm", "-it", "busybox", "sh")
    terminal.until(b"# ")
    terminal.type(b"echo be$((1))gun; sleep 100\n")
    terminal.until(b"be1gun")
    until(lambda: sleeps(engine), "its start")
    terminal.type(b"\x03")
    terminal.until(b"# ")
    terminal.type(b"echo be$((2))gun; sleep 100\n")
    terminal.until(b"be2gun")
    until(lambda: sleeps(engine), "its start")
    terminal.type(b"\x1a")
    terminal.until(b"Stopped")
    terminal.type(b"fg\n")
    terminal.until(b"sleep 100")
    until(lambda: sleeps(engine), "its return")
    terminal.type(b"\x03")
    terminal.until(b"# ")
    terminal.type(b"exit 3\n")
    assert terminal.end() == 3


def test_detach_and_attach_again(engine):
    terminal = Terminal(engine.socket, "run", "-it", "--name", "shell", "busybox", "sh")
    terminal.until(b"# ")
    terminal.type(b"\x10\x11")
    assert terminal.end() == 0
    assert engine.inspect("shell")["State"]["Running"]
    terminal = Terminal(engine.socket, "attach", "--detach-keys", "ctrl-a,x", "shell")
    terminal.type(b"\n")
    terminal.until(b"# ")
    terminal.type(b"echo $((6*7))\n")
    terminal.until(b"42")
    terminal.type(b"\x01x")
    terminal.until(b"read escape sequence")
    assert terminal.end() == 1
    terminal = Terminal(engine.socket, "attach", "shell")
    terminal.type(b"\n")
    terminal.until(b"# ")
    terminal.type(b"exit 6\n")
    assert terminal.end() == 6


def test_exec_on_a_terminal(engine):
    engine.run("sleep", "100", name="host")
    terminal = Terminal(engine.socket, "exec", "-it", "host", "sh", rows=33, columns=77)
    terminal.until(b"# ")
    terminal.type(b"stty size; exit 4\n")
    terminal.until(b"33 77")
    assert terminal.end() == 4


def test_signals_are_passed_on(engine):
    script = "trap 'echo got it; exit 3' TERM; echo ready; while true; do sleep 0.05; done"
    terminal = Terminal(engine.socket, "run", "--rm", "busybox", "sh", "-c", script)
    terminal.until(b"ready")
    os.kill(terminal.pid, signal.SIGTERM)
    terminal.until(b"got it")
    assert terminal.end() == 3


def test_ctrl_c_without_a_terminal_in_the_container(engine):
    script = "trap 'echo got it; exit 3' INT; echo ready; while true; do sleep 0.05; done"
    terminal = Terminal(engine.socket, "run", "--rm", "busybox", "sh", "-c", script)
    terminal.until(b"ready")
    terminal.type(b"\x03")
    terminal.until(b"got it")
    assert terminal.end() == 3


def test_a_terminal_is_needed_for_one(engine):
    done = corten(engine.socket, "run", "--rm", "-it", "busybox", "true", stdin="")
    assert (done.stderr, done.returncode) == ("the input device is not a TTY\n", 1)
