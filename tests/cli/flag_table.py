"""Every command and flag of the docker CLI against what flag_cases.txt shows of it; writes docs/cli-table.md.

    python tests/cli/flag_table.py >docs/cli-table.md

The list of commands and flags is asked of the CLI itself (`--help`). Commands that manage a swarm have one row each: the
engine is outside of one and says so.
"""

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

CASES = Path(__file__).with_name("flag_cases.txt")
SWARM = ("swarm", "node", "service", "stack", "secret", "config")
_HIDDEN = (*SWARM[1:], "checkpoint")  # what --help leaves out outside a swarm
_FLAG = re.compile(r"^ +(?:-(\w), )?--([a-z0-9-]+)(?: ([a-zA-Z0-9-]+))?(?:  |$)", re.M)


class Step:
    """One `$` line and what must be seen."""

    def __init__(self, words):
        self.words, self.code, self.has, self.hasnt, self.refused, self.client = words, 0, [], [], "", ""

    @property
    def result(self):
        return f"refused: {self.refused}" if self.refused else self.client or "works"


class Case:
    def __init__(self, title):
        self.title, self.steps = title, []  # (mark, what): "+" words, ">" (file, text), "$" Step


def load():
    cases = []
    for line in CASES.read_text().splitlines():
        mark, _, rest = line.partition(" ")
        if mark == "==":
            cases.append(Case(rest))
        elif mark == "+":
            cases[-1].steps.append(("+", rest))
        elif mark == ">":
            cases[-1].steps.append((">", rest.partition(" ")[::2]))
        elif mark == "$":
            step = Step(rest)
            cases[-1].steps.append(("$", step))
        elif mark == "exit":
            step.code = int(rest)
        elif mark == "has:":
            step.has.append(rest)
        elif mark == "not:":
            step.hasnt.append(rest)
        elif mark == "refused:":
            step.refused, step.code = rest, None
        elif mark == "client:":
            step.client = rest
        elif line and mark != "#" and mark[0] != "#":
            raise ValueError(line)
    return cases


# --- what the CLI has


# whatever engine and plugins this machine has change what --help says
_ALONE = {**os.environ, "DOCKER_HOST": "unix:///nonexistent", "DOCKER_CONFIG": "/nonexistent"}


def _help(words):
    return subprocess.run(["docker", *words, "--help"], capture_output=True, text=True, check=False, env=_ALONE).stdout


def _below(text):
    """The commands that a help text lists."""
    listed = False
    for line in text.splitlines():
        if re.fullmatch(r"([A-Z][A-Za-z ]*)?Commands:", line):
            listed = True
        elif line and not line.startswith(" "):
            listed = False
        elif listed and (found := re.match(r"  ([a-z]+)\*? +", line)):
            yield found[1]


def _walk(words=()):
    text = _help(words)
    below = list(_below(text))
    if words and not below:
        aliases = re.search(r"^Aliases:\n  (.*)$", text, re.M)
        names = [name.removeprefix("docker ") for name in aliases[1].split(", ")] if aliases else [" ".join(words)]
        flags = [(found[2], found[1], found[3]) for found in _FLAG.finditer(text) if found[2] != "help"]
        yield " ".join(words), names, flags
        return
    for name in dict.fromkeys([*below, *(() if words else _HIDDEN)]):
        if name not in ("buildx", "compose"):  # plugins have suites of their own
            yield from _walk((*words, name))


def commands():
    """{shortest name: (all names, flags as (name, shorthand, kind or None for a switch))}"""
    found = {}
    for _, names, flags in _walk():
        found[min(names, key=lambda name: (name.count(" "), names.index(name)))] = names, flags
    return found


# --- what the cases show


def shown(step, known):
    """(command, flags named in it) of one line."""
    words = shlex.split(re.sub(r"\{\{.*?\}\}", "X", step.words))
    names = {name: command for command, (all_names, _) in known.items() for name in (*all_names, command)}
    size = next(size for size in (3, 2, 1) if " ".join(words[:size]) in names)
    command = names[" ".join(words[:size])]
    by_letter = {letter: (name, kind) for name, letter, kind in known[command][1] if letter}
    kinds = {name: kind for name, _, kind in known[command][1]}
    found, place = [], size
    while place < len(words) and words[place].startswith("-"):
        word = words[place]
        place += 1
        if word.startswith("--"):
            name, equals, _ = word[2:].partition("=")
            found.append(name)
            place += bool(kinds.get(name)) and not equals
        else:
            for at, letter in enumerate(word[1:], 1):
                name, kind = by_letter[letter]
                found.append(name)
                if kind:
                    place += at == len(word) - 1
                    break
    return command, found


def results(known):
    """{(command, flag or ""): (result, title of the case)}"""
    found = {}
    for case in load():
        for mark, step in case.steps:
            if mark != "$":
                continue
            command, flags = shown(step, known)
            result = step.result
            if step.refused:
                result = "refused by name"
            elif step.client:
                result = f"not run: {step.client}"
            for flag in ("", *flags):
                if found.get((command, flag), ("",))[0] != "works":
                    found[command, flag] = result, case.title
    return found


def page(known):
    found = results(known)
    version = subprocess.run(["docker", "--version"], capture_output=True, text=True).stdout.split()[2].split(".")[0]
    counted = [found.get((command, name), ("none",))[0].partition(":")[0]
               for command, (_, flags) in known.items() if command.split()[0] not in SWARM for name, _, _ in flags]
    lines = [
        "# The docker CLI against this engine", "",
        "Made by `tests/cli/flag_table.py` from `tests/cli/flag_cases.txt`, each line of which a test runs by the real CLI",
        f"(docker {version}): do not edit this page. {len(known)} commands; of {len(counted)} flags outside swarm's commands "
        f"{counted.count('works')} work,",
        f"{counted.count('refused by name')} are refused by name, {counted.count('not run')} are not run and say why.", "",
        "Swarm's commands (" + ", ".join(f"`{name}`" for name in SWARM) + ") answer as outside a swarm, whatever their flags.",
        "",
    ]
    for command, (_, flags) in sorted(known.items()):
        if command.split()[0] in SWARM:
            continue
        own, title = found.get((command, ""), ("not shown", ""))
        lines += [f"## docker {command}", "", f"{own} ({title})" if own != "works" else f"Works ({title}).", ""]
        if flags:
            lines += ["| flag | result | shown by |", "|---|---|---|"]
            lines += [f"| `--{name}` | " + " | ".join(found.get((command, name), ("not shown", ""))) + " |"
                      for name, _, _ in sorted(flags)]
            lines.append("")
    return "\n".join(lines)


if __name__ == "__main__":
    sys.stdout.write(page(commands()))
