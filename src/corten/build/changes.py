"""Instructions that only change the image's configuration, one function each. Pure.

Each takes the stage and the command and returns the words docker puts into the history after `#(nop)`.
"""

from __future__ import annotations

import json
import posixpath
import re
import signal
from collections.abc import Callable
from typing import Any

from corten.base.errors import InvalidArgument
from corten.base.units import go_duration
from corten.build.expose import read_port
from corten.build.instructions import Command, duration_ns
from corten.build.stage import StageState
from corten.build.variables import Expander


def expander(state: StageState) -> Expander:
    """Words seen with the stage's variables."""
    return Expander(state.variables(), state.escape)


def env(state: StageState, command: Command) -> str:
    words = expander(state)
    said = []
    for name, value in [(words.word(name), words.word(value or "")) for name, value in command.pairs]:
        if not name:
            raise InvalidArgument(f"invalid environment variable: ={value}")
        said.append(f"{name}={value}")
        _set(state.config["Env"], name, value)
    return "ENV " + " ".join(said)


def _set(environment: list[str], name: str, value: str) -> None:
    for index, item in enumerate(environment):
        if item.partition("=")[0] == name:
            environment[index] = f"{name}={value}"
            return
    environment.append(f"{name}={value}")


def label(state: StageState, command: Command) -> str:
    words = expander(state)
    pairs = [(words.word(name), words.word(value or "")) for name, value in command.pairs]
    labels = state.config["Labels"] = dict(state.config.get("Labels") or {})
    labels.update(pairs)
    return "LABEL " + " ".join(f"{name}={value}" for name, value in pairs)


def argument(state: StageState, command: Command) -> str:
    said = []
    for name, default in command.pairs:
        words = expander(state)  # each sees those before it, in the same instruction too
        name = words.word(name)
        value = None if default is None else words.word(default)
        state.arguments.declare(name, value)
        said.append(name if value is None else f"{name}={value}")
    return "ARG " + " ".join(said)


def user(state: StageState, command: Command) -> str:
    state.config["User"] = expander(state).word(command.arguments[0])
    return f"USER {state.config['User']}"


def maintainer(state: StageState, command: Command) -> str:
    state.author = command.arguments[0]
    return f"MAINTAINER {state.author}"


def expose(state: StageState, command: Command) -> str:
    words = expander(state)
    specs = [word for text in command.arguments for word in words.words(text)]
    ports = state.config["ExposedPorts"] = dict(state.config.get("ExposedPorts") or {})
    ports.update({port: {} for port in ports_of(state, command)})
    return "EXPOSE " + " ".join(sorted(specs))


def ports_of(state: StageState, command: Command) -> list[str]:
    """The ports of an EXPOSE, `80/tcp` each, in the order of its words. Raises InvalidArgument."""
    words = expander(state)
    return [port for text in command.arguments for word in words.words(text) for port in read_port(word).keys]


def volume(state: StageState, command: Command) -> str:
    words = expander(state)
    paths = [words.word(text) for text in command.arguments]
    if not all(path.strip() for path in paths):
        raise InvalidArgument("VOLUME specified can not be an empty string")
    volumes = state.config["Volumes"] = dict(state.config.get("Volumes") or {})
    for path in paths:
        volumes[path] = {}
    return f"VOLUME [{' '.join(paths)}]"


def stop_signal(state: StageState, command: Command) -> str:
    name = expander(state).word(command.arguments[0])
    check_signal(name)
    state.config["StopSignal"] = name
    return f"STOPSIGNAL {name}"


def check_signal(name: str) -> None:
    """A name with or without SIG, or a number. Raises InvalidArgument."""
    short = name.upper().removeprefix("SIG")
    known = f"SIG{short}" in signal.Signals.__members__ or re.fullmatch(r"RTM(IN|AX)([+-][0-9]{1,2})?", short)
    if not known and not (re.fullmatch(r"[0-9]{1,9}", name, re.ASCII) and int(name)):
        raise InvalidArgument(f"invalid signal: {name}")


def command_line(state: StageState, command: Command) -> list[str]:
    """The program of RUN, CMD or ENTRYPOINT: the shell form gets the shell before it."""
    return [*state.shell, *command.arguments] if command.shell_form else list(command.arguments)


def quoted(words: list[str]) -> str:
    """As Go's %q prints a list: `["a" "b c"]`."""
    return "[" + " ".join(json.dumps(word, ensure_ascii=False) for word in words) + "]"


def cmd(state: StageState, command: Command) -> str:
    state.config["Cmd"] = command_line(state, command) if command.arguments else []
    state.cmd_given = True
    if state.buildkit:
        state.config["ArgsEscaped"] = True
    return f"CMD {quoted(state.config['Cmd'])}"


def entrypoint(state: StageState, command: Command) -> str:
    state.config["Entrypoint"] = command_line(state, command) if command.arguments else []
    if not state.cmd_given:
        state.config.pop("Cmd", None)
    return f"ENTRYPOINT {quoted(state.config['Entrypoint'])}"


def shell(state: StageState, command: Command) -> str:
    state.config["Shell"] = list(command.arguments)
    return f"SHELL [{' '.join(command.arguments)}]"


def onbuild(state: StageState, command: Command) -> str:
    state.config["OnBuild"] = [*(state.config.get("OnBuild") or []), command.arguments[0]]
    return f"ONBUILD {command.arguments[0]}"


def healthcheck(state: StageState, command: Command) -> str:
    kind, *rest = command.arguments
    check: dict[str, Any] = {"Test": ["NONE"]}
    times = {name: duration_ns(name, command.flag(name) or "0s")
             for name in ("interval", "timeout", "start-period", "start-interval")}
    retries = int(command.flag("retries") or "0")
    if kind == "CMD":
        check["Test"] = ["CMD-SHELL" if command.shell_form else "CMD", *rest]
        keys = {"interval": "Interval", "timeout": "Timeout", "start-period": "StartPeriod",
                "start-interval": "StartInterval"}
        check.update({keys[name]: value for name, value in times.items() if value})
        if retries:
            check["Retries"] = retries
    state.config["Healthcheck"] = check
    said = " ".join(go_duration(value) for value in times.values())
    return f"HEALTHCHECK &{{[{' '.join(check['Test'])}] {said} {retries}}}"


def working_directory(state: StageState, command: Command) -> str:
    """The absolute path WORKDIR means; a relative one goes on from the last."""
    asked = expander(state).word(command.arguments[0])
    if not asked:
        raise InvalidArgument("WORKDIR requires exactly one argument")
    path = posixpath.normpath(posixpath.join("/", state.config.get("WorkingDir") or "/", asked))
    return "/" + path.lstrip("/")


CHANGES: dict[str, Callable[[StageState, Command], str]] = {
    "ENV": env, "LABEL": label, "ARG": argument, "USER": user, "MAINTAINER": maintainer, "EXPOSE": expose,
    "VOLUME": volume, "STOPSIGNAL": stop_signal, "CMD": cmd, "ENTRYPOINT": entrypoint, "SHELL": shell,
    "ONBUILD": onbuild, "HEALTHCHECK": healthcheck,
}
