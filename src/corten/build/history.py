"""An image's history as BuildKit writes it: what each instruction came to, in its own words. Pure.

The classic builder's lines (`/bin/sh -c #(nop) …`) are made where the step is made; they also name it in the cache.
Source: moby/buildkit frontend/dockerfile/dockerfile2llb; `docker history` shows them.
"""

from __future__ import annotations

from typing import Any

from corten.base.units import go_duration
from corten.build import changes
from corten.build.heredocs import heredoc_of
from corten.build.instructions import Command
from corten.build.ops import Operation, Run
from corten.build.stage import Layer, StageState

COMMENT = "buildkit.dockerfile.v0"


def reword(state: StageState, command: Command, operation: Operation) -> None:
    """Have the operation leave BuildKit's line in the history, ONBUILD none. Its place in the cache is another."""
    line = _line(state, command, operation) if command.line else ""  # a label of the caller's leaves none

    def commit(_classic: str, layer: Layer | None) -> dict[str, Any]:
        return state.document(line, layer, COMMENT)

    operation.commit = commit
    operation.created_by = f"{COMMENT}\0{operation.created_by}"


def _line(state: StageState, command: Command, operation: Operation) -> str:
    name = command.name
    if isinstance(operation, Run):
        words = state.arguments.in_order(state.variables())
        prefix = [f"|{len(words)}", *words] if words else []
        return " ".join(["RUN", *prefix, *operation.step.program, "# buildkit"])
    if name in ("COPY", "ADD"):
        return _copy(state, command)
    if name == "WORKDIR":
        return f"WORKDIR {state.config['WorkingDir']}"
    if name == "ONBUILD":
        return ""
    if name == "ARG":
        values = state.arguments.values()
        words = [f"{key}={values[key]}" if key in values else key for key, _ in command.pairs]
        return " ".join(["ARG", *words])
    if name == "EXPOSE":
        return f"EXPOSE [{' '.join(changes.ports_of(state, command))}]"
    if name == "HEALTHCHECK":
        return _health(state)
    return operation.created_by.partition("#(nop)")[2].strip()


def _copy(state: StageState, command: Command) -> str:
    expand = changes.expander(state).word
    *sources, target = command.arguments
    words = [command.name]
    if command.flag("parents") == "true":
        words.append("--parents")
    words += [f"--{flag}={expand(command.flag(flag))}" for flag in ("chown", "chmod") if command.flag(flag)]
    words += [expand(word) for word in sources if not heredoc_of(word)]
    words += [f"<<{document.name}" for word in sources if (document := heredoc_of(word))]
    return " ".join([*words, expand(target), "# buildkit"])


def _health(state: StageState) -> str:
    """As Go prints the structure with `%q`, a number as a character."""
    check = state.config["Healthcheck"]
    times = [f'"{go_duration(check.get(key, 0))}"'
             for key in ("Interval", "Timeout", "StartPeriod", "StartInterval")]
    return f"HEALTHCHECK &{{{changes.quoted(check['Test'])} {' '.join(times)} {_rune(check.get('Retries', 0))}}}"


def _rune(number: int) -> str:
    if number in (7, 8, 9, 10, 11, 12, 13):
        return "'\\" + "abtnvfr"[number - 7] + "'"
    if number in (39, 92):
        return f"'\\{chr(number)}'"
    if 32 <= number < 127:
        return f"'{chr(number)}'"
    return f"'\\x{number:02x}'" if number < 128 else f"'{chr(min(number, 0x10FFFF))}'"
