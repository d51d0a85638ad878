"""A table of commands and what docker says to them, one file a topic; the same words go to any client and engine.

    == a name in use
    > file text\\n                 a file below {tmp}, made first
    + create --name {p}a {img}    a command before, which must succeed
    - run {p}b                    a command before, whatever it says
    $ run --name {p}a {img}       the command
    exit 125
    out: …                        lines of stdout, then of stderr
    err: …

`{p}` begins every name made, `{img}` is a busybox, other words in braces are the world's (ports, folders). `{id}` in an
answer stands for any id. A line `accept: …` says why ours may differ, then `ours err: …` and the like are our lines.
"""

import os
import re
import shlex
import shutil
import subprocess

_NOISE = ("time=", "DEPRECATED: The legacy builder", "            BuildKit is", "            environment-variable",
          "Sending build context")


class Answer:
    """Exit code and texts, ids blanked."""

    __slots__ = ("code", "err", "out")

    def __init__(self, code, out, err):
        self.code, self.out, self.err = code, out, err

    def __repr__(self):
        return f"exit {self.code}\n" + "".join(f"out: {line}\n" for line in self.out) + "".join(
            f"err: {line}\n" for line in self.err)


class Case:
    """One block of a table."""

    def __init__(self, name):
        self.name, self.steps, self.files, self.words, self.accept = name, [], [], "", ""
        self.docker, self.ours = Answer(0, [], []), None

    def read(self, line):
        answer = self.docker
        if line.startswith("ours "):
            answer = self.ours = self.ours or Answer(self.docker.code, [], [])
            line = line[5:]
        mark, _, rest = line.partition(" ")
        if mark in "+-":
            self.steps.append((mark, rest))
        elif mark == ">":
            self.files.append(rest.partition(" ")[::2])
        elif mark == "$":
            self.words = rest
        elif mark == "exit":
            answer.code = int(rest)
        elif mark in ("out:", "err:"):
            (answer.out if mark == "out:" else answer.err).append(rest)
        elif mark == "accept:":
            self.accept = rest
        else:
            raise ValueError(line)


def load(path):
    """The cases of a file, in order."""
    cases = []
    with open(path, encoding="utf-8") as file:
        for line in file.read().split("\n"):
            if line.startswith("== "):
                cases.append(Case(line[3:]))
            elif line and not line.startswith("#"):
                cases[-1].read(line)
    return cases


class World:
    """What the words in braces stand for, a client and an engine; `run` plays one case."""

    def __init__(self, command, environment=None, **words):
        self.command = list(command)
        self.environment = {**os.environ, "LC_ALL": "C", "DOCKER_BUILDKIT": "0", **(environment or {})}
        self.words = words

    def fill(self, text):
        for name, value in self.words.items():
            text = text.replace("{" + name + "}", str(value))
        return text

    def blank(self, text):
        text = re.sub(r"\b[0-9a-f]{64}\b", "{id}", text)
        text = re.sub(r"(?<![0-9a-z.])(?=[0-9a-f]*[0-9])[0-9a-f]{12}\b", "{id}", text)
        text = text.replace("Bind for :::", "Bind for 0.0.0.0:")  # docker binds both; either may be told first
        text = re.sub(r"\b(10|172)(\.\d+){3}\b", "{address}", text)
        text = re.sub(r"/var/lib/docker/(overlay2/[^/]*/merged|tmp/docker-import-\d+)", "{inside}", text)
        for name, value in sorted(self.words.items(), key=lambda item: -len(str(item[1]))):
            text = text.replace(str(value), "{" + name + "}")
        return text

    def call(self, words, timeout=180):
        return subprocess.run([*self.command, *words], capture_output=True, text=True, timeout=timeout,
                              stdin=subprocess.DEVNULL, env=self.environment)

    def lines(self, text):
        """What matters of an output: no empty lines, no progress, no notes of the client's own log."""
        return [line.rstrip() for line in self.blank(text).split("\n") if line.strip() and not line.startswith(_NOISE)]

    def run(self, case):
        """The answer to the case's command."""
        folder = self.words["tmp"]
        for name, text in case.files:
            os.makedirs(os.path.dirname(f"{folder}/{name}"), exist_ok=True)
            with open(f"{folder}/{name}", "w", encoding="utf-8") as file:
                file.write(self.fill(text).replace("\\n", "\n"))
        try:
            for mark, words in case.steps:
                done = self.call(shlex.split(self.fill(words)))
                assert mark == "-" or done.returncode == 0, f"{words}: {done.stderr}"
            done = self.call(shlex.split(self.fill(case.words)))
            return Answer(done.returncode, self.lines(done.stdout), self.lines(done.stderr))
        finally:
            for name, _ in case.files:
                path = f"{folder}/{name.partition('/')[0]}"
                shutil.rmtree(path) if os.path.isdir(path) else os.unlink(path)
