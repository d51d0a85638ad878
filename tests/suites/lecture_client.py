"""A command line of the lecture: the real docker, or our own, both pointed at the same daemon."""

import os
import re
import subprocess

from corten_command import Terminal
from daemon_process import DOCKER, REPOSITORY

_SCRIPT = f"{REPOSITORY}/corten"
LAUNCHER = _SCRIPT if os.path.isfile(_SCRIPT) else f"{REPOSITORY}/bin/corten"
PROGRAMS = {"docker": DOCKER, "corten": LAUNCHER}


class Client:
    """Calling it runs one command and returns its stdout, whole but for the last newline."""

    def __init__(self, name, engine, folder):
        self.name, self.engine, self.folder = name, engine, folder
        self.program = PROGRAMS[name]
        self.command = [self.program, "-H", f"unix://{engine.socket}"]
        self.environment = {**os.environ, "DOCKER_BUILDKIT": "0", "DOCKER_CONFIG": str(folder), "TERM": "xterm"}

    def run(self, *words, stdin=None, timeout=180, text=True, cwd=None):
        """A CompletedProcess; `stdin` is what it reads, or an open file."""
        given = {"input": stdin} if isinstance(stdin, (str, bytes)) else {"stdin": stdin or subprocess.DEVNULL}
        return subprocess.run([*self.command, *map(str, words)], capture_output=True, text=text, timeout=timeout, cwd=cwd,
                              env=self.environment, **given)

    def __call__(self, *words, code=0, fails=None, **more):
        """stdout of a command that ends with `code`; with `fails`, a pattern, stderr of one that must not succeed."""
        done = self.run(*words, **more)
        if fails is not None:
            assert done.returncode == (code or 1), (words, done)
            assert re.search(fails, done.stderr), (fails, done.stderr)
            return done.stderr
        assert done.returncode == code, (words, done)
        return done.stdout.removesuffix("\n") if isinstance(done.stdout, str) else done.stdout

    def start(self, *words, **more):
        """The command in the background, with pipes of text."""
        return subprocess.Popen([*self.command, *words], env=self.environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                                stderr=subprocess.STDOUT, text=True, **more)

    def terminal(self, *words, rows=30, columns=100):
        """The command on a terminal of its own."""
        return Terminal(self.engine.socket, *words, rows=rows, columns=columns, program=[self.program])

    def pid(self, ref):
        return int(self("inspect", "--format", "{{ .State.Pid }}", ref))

    def state(self, ref):
        return self("inspect", "--format", "{{.State.Status}} {{.State.ExitCode}}", ref)


def traces(engine):
    """What containers leave behind in the daemon's own folders and on its bridge: nothing, once they are removed."""
    ports = f"/sys/class/net/{engine.bridge}/brif"
    with open("/proc/self/mountinfo") as file:
        mounts = [line for line in file if engine.folder in line]
    found = {"mounts": mounts, "ports": os.listdir(ports) if os.path.isdir(ports) else []}
    for folder in ("run/runtime", "run/exits", "data/containers", "data/volumes", "data/tmp"):
        path = f"{engine.folder}/{folder}"
        found[folder] = sorted(os.listdir(path)) if os.path.isdir(path) else []
    return {kind: left for kind, left in found.items() if left}


def cgroup_value(pid, controller, name_v1, name_v2):
    """The content of a control file of a process's cgroup, in whichever hierarchy the controller is."""
    with open(f"/proc/{pid}/cgroup") as file:
        for line in file:
            number, controllers, path = line.rstrip("\n").split(":", 2)
            if controller in controllers.split(","):
                with open(f"/sys/fs/cgroup/{controller}{path}/{name_v1}") as value:
                    return value.read().strip()
            if number == "0":
                unified = path
    for root in ("/sys/fs/cgroup", "/sys/fs/cgroup/unified"):
        if os.path.exists(f"{root}{unified}/{name_v2}"):
            with open(f"{root}{unified}/{name_v2}") as value:
                return value.read().strip()
    raise AssertionError(f"no {name_v2} for {pid}")
