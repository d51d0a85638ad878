"""What a caller may give to a build: the arguments its stages declare, the secrets and ssh agents they ask for. Pure.

Source: moby/buildkit frontend/subrequests/outline.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping

from corten.build.instructions import Command, Plan
from corten.build.run_mounts import mount_values
from corten.build.variables import Expander


class Argument:
    """A declared build argument and the value it would have."""

    __slots__ = ("command", "description", "name", "value")

    def __init__(self, name: str, value: str, command: Command) -> None:
        self.name, self.value, self.command = name, value, command
        self.description = command.described(name)


class Need:
    """A secret or an agent that a step asks for."""

    __slots__ = ("command", "required")

    def __init__(self, command: Command, required: bool) -> None:
        self.command, self.required = command, required


class Outline:
    """All of it; what two stages ask for stands where it is asked for first."""

    __slots__ = ("arguments", "secrets", "ssh")

    def __init__(self) -> None:
        self.arguments: list[Argument] = []
        self.secrets: dict[str, Need] = {}
        self.ssh: dict[str, Need] = {}


def outline_of(plan: Plan, stages: Collection[int], given: Mapping[str, str | None]) -> Outline:
    """Of these stages, and of the ARGs before them that they use. Raises InvalidArgument."""
    found = Outline()
    known: dict[str, str] = {}
    globals_ = _declared(plan, plan.meta_args, given, known)
    used: set[str] = set()
    for index in sorted(stages):
        stage = plan.stages[index]
        words = Expander(known, plan.escape)
        words.word(stage.base + stage.platform)
        used |= words.used
        local = dict(known)
        commands = [command for command in stage.commands if command.name == "ARG"]
        for argument in _declared(plan, commands, given, local):
            inherited = next((one for one in globals_ if one.name == argument.name), None)
            if inherited is not None and dict(argument.command.pairs)[argument.name] is None:
                used.add(argument.name)
            elif argument.name not in {one.name for one in found.arguments}:
                found.arguments.append(argument)
        for command in stage.commands:
            _needs(command, found)
    found.arguments += [one for one in globals_ if one.name in used | _behind(plan, used)]
    found.arguments.sort(key=lambda one: one.command.line)
    return found


def _declared(plan: Plan, commands: list[Command], given: Mapping[str, str | None],
              known: dict[str, str]) -> list[Argument]:
    found: dict[str, Argument] = {}
    for command in commands:
        for name, default in command.pairs:
            value = given.get(name)
            if value is None:
                value = known.get(name) if default is None else Expander(known, plan.escape).word(default)
            if value is not None:
                known[name] = value
            found[name] = Argument(name, value or "", command)
    return list(found.values())


def _behind(plan: Plan, names: set[str]) -> set[str]:
    """Arguments that the defaults of these are made of."""
    found: set[str] = set()
    for command in reversed(plan.meta_args):
        for name, default in reversed(command.pairs):
            if name in names | found and default is not None:
                words = Expander({}, plan.escape, keep_unset=True)
                words.word(default)
                found |= words.missing
    return found


def _needs(command: Command, found: Outline) -> None:
    for text in command.flags.get("mount", ()):
        kind, values = mount_values(text)
        if kind in ("secret", "ssh"):
            target = values.get("target", values.get("source", ""))
            name = values.get("id") or (target.rpartition("/")[2] if kind == "secret" else "default")
            needs = found.secrets if kind == "secret" else found.ssh
            needs.setdefault(name, Need(command, values.get("required") == "true"))
