"""Instructions -> commands with checked flags and arguments, grouped into stages. Pure; expands no variables.

Source: the Dockerfile reference, one section an instruction. Error texts are docker's.
"""

from __future__ import annotations

import re
from collections.abc import Callable

from corten.base.errors import InvalidArgument
from corten.base.units import parse_duration
from corten.build.dockerfile import Dockerfile, Instruction, ParseError, json_array, suggestion

# Every flag of the language; which of them the builder at hand honours is the front end's affair.
FLAGS: dict[str, tuple[str, ...]] = {
    "FROM": ("platform",),
    "RUN": ("mount", "network", "security", "device"),
    "COPY": ("from", "chown", "chmod", "link", "parents", "exclude"),
    "ADD": ("chown", "chmod", "link", "keep-git-dir", "checksum", "unpack", "exclude"),
    "HEALTHCHECK": ("interval", "timeout", "start-period", "start-interval", "retries"),
}
_REPEATED = frozenset({"mount", "exclude", "device"})
_BOOLEAN = frozenset({"link", "parents", "keep-git-dir", "unpack"})
_STAGE_NAME = re.compile(r"[a-z][a-z0-9-_.]*", re.ASCII)


class Command:
    """One instruction with its grammar applied.

    arguments: words, name=value pairs are in `pairs`. shell_form: CMD, ENTRYPOINT, RUN and HEALTHCHECK written as
    text. flags: name -> values as written (`--link` alone is "true").
    """

    __slots__ = ("arguments", "code", "flags", "instruction", "line", "name", "pairs", "shell_form")

    def __init__(self, instruction: Instruction) -> None:
        self.instruction = instruction
        self.name, self.code, self.line = instruction.name, instruction.original, instruction.line
        self.flags = _flags(instruction)
        self.arguments: list[str] = list(instruction.arguments)
        self.pairs: list[tuple[str, str | None]] = []
        self.shell_form = False

    def flag(self, name: str) -> str:
        """The flag's only value, or ""."""
        return self.flags.get(name, [""])[-1]


class Stage:
    """FROM and what follows it. name: lower case, "" when it has none."""

    __slots__ = ("base", "code", "commands", "line", "name", "platform")

    def __init__(self, name: str, base: str, platform: str, code: str, line: int) -> None:
        self.name, self.base, self.platform, self.code, self.line = name, base, platform, code, line
        self.commands: list[Command] = []


class Plan:
    """A whole Dockerfile: the ARGs before the first FROM, then the stages."""

    __slots__ = ("escape", "meta_args", "stages", "warnings")

    def __init__(self, escape: str, warnings: list[str]) -> None:
        self.escape, self.warnings = escape, warnings
        self.meta_args: list[Command] = []
        self.stages: list[Stage] = []

    def stage_index(self, name: str) -> int:
        """The stage of that name, or of that number; -1 when there is none. The last of equal names wins."""
        for index in range(len(self.stages) - 1, -1, -1):
            if self.stages[index].name == name.lower():
                return index
        return int(name) if re.fullmatch(r"[0-9]{1,4}", name, re.ASCII) and int(name) < len(self.stages) else -1

    def up_to(self, target: str) -> None:
        """Drop the stages after `target`. Raises InvalidArgument when it is not there."""
        index = self.stage_index(target)
        if index < 0:
            raise InvalidArgument(f'target stage "{target}" could not be found')
        del self.stages[index + 1:]


def read_plan(dockerfile: Dockerfile) -> Plan:
    """Group the instructions. Raises ParseError."""
    plan = Plan(dockerfile.escape, dockerfile.warnings)
    for instruction in dockerfile.instructions:
        command = read_command(instruction)
        if command.name == "FROM":
            plan.stages.append(_stage(command))
        elif plan.stages:
            plan.stages[-1].commands.append(command)
        elif command.name == "ARG":
            plan.meta_args.append(command)
        else:
            raise InvalidArgument("no build stage in current context")
    if not plan.stages:
        raise InvalidArgument("no build stage in current context")
    return plan


def read_command(instruction: Instruction) -> Command:
    """Apply the instruction's grammar. Raises ParseError."""
    try:
        command = Command(instruction)
        _READERS[command.name](command)
    except ParseError:
        raise
    except InvalidArgument as error:
        raise ParseError(str(error), instruction.line) from None
    return command


def _flags(instruction: Instruction) -> dict[str, list[str]]:
    known = FLAGS.get(instruction.name, ())
    found: dict[str, list[str]] = {}
    for flag in instruction.flags:
        name, equals, value = flag[2:].partition("=")
        if name not in known:
            raise InvalidArgument(f"unknown flag: --{name}{suggestion(name, known)}")
        if name in found and name not in _REPEATED:
            raise InvalidArgument(f"duplicate flag specified: {name}")
        if not equals:
            if name not in _BOOLEAN:
                raise InvalidArgument(f"missing a value on flag: {name}")
            value = "true"
        elif name in _BOOLEAN and value.lower() not in ("true", "false"):
            raise InvalidArgument(f"expecting boolean value for flag {name}, not: {value}")
        found.setdefault(name, []).append(value)
    return found


# --- words

def split_words(text: str, escape: str = "\\") -> list[str]:
    """Split at blanks outside of quotes; quotes and escapes stay in the words (they are expanded later)."""
    words: list[str] = []
    word: list[str] = []
    quote = ""
    at = 0
    while at < len(text):
        char = text[at]
        if char == escape and quote != "'" and at + 1 < len(text):
            word.append(text[at:at + 2])
            at += 2
            continue
        if quote:
            quote = "" if char == quote else quote
        elif char in "\"'":
            quote = char
        elif char.isspace():
            if word:
                words.append("".join(word))
            word = []
            at += 1
            continue
        word.append(char)
        at += 1
    if word:
        words.append("".join(word))
    return words


def _name_values(command: Command) -> None:
    """ENV and LABEL: `name=value …`, or the old `name the rest of the line`."""
    text = command.instruction.text
    words = split_words(text)
    if not words:
        raise InvalidArgument(f"{command.name} requires at least one argument")
    if "=" not in words[0]:
        parts = text.split(None, 1)
        if len(parts) < 2:
            raise ParseError(f"{command.name} must have two arguments")
        command.pairs = [(parts[0], parts[1])]
        return
    for word in words:
        name, equals, value = word.partition("=")
        if not equals:
            raise ParseError(f"Syntax error - can't find = in \"{word}\". Must be of the form: name=value")
        if not name:
            raise InvalidArgument(f"{command.name} names can not be blank")
        command.pairs.append((name, value))


def _arg(command: Command) -> None:
    for word in split_words(command.instruction.text):
        name, equals, value = word.partition("=")
        if not name:
            raise InvalidArgument("ARG names can not be blank")
        command.pairs.append((name, value if equals else None))
    if not command.pairs:
        raise InvalidArgument("ARG requires at least one argument")


def _one(command: Command) -> None:
    if not command.instruction.text:
        raise InvalidArgument(f"{command.name} requires exactly one argument")
    command.arguments = [command.instruction.text]


def _some(command: Command) -> None:
    """EXPOSE and VOLUME: words."""
    if not command.instruction.is_json:
        command.arguments = command.instruction.text.split()
    if not command.arguments:
        raise InvalidArgument(f"{command.name} requires at least one argument")
    if command.name == "VOLUME" and not all(word.strip() for word in command.arguments):
        raise InvalidArgument("VOLUME specified can not be an empty string")


def _copy(command: Command) -> None:
    if not command.instruction.is_json:
        command.arguments = split_words(command.instruction.text)
    if len(command.arguments) < 2:
        few = "but only one was provided. Destination could not be determined" if command.arguments else ""
        raise InvalidArgument(f"{command.name} requires at least two arguments" + (f", {few}" if few else ""))


def _program(command: Command) -> None:
    """RUN, CMD and ENTRYPOINT: exec form or shell form."""
    command.shell_form = not command.instruction.is_json
    if command.shell_form:
        command.arguments = [command.instruction.text] if command.instruction.text else []
    if command.name == "RUN" and command.shell_form and not command.arguments:
        raise InvalidArgument("RUN requires at least one argument")


def _shell(command: Command) -> None:
    if not command.instruction.is_json:
        raise InvalidArgument("SHELL requires the arguments to be in JSON form")
    if not command.arguments:
        raise InvalidArgument("SHELL requires at least one argument")


def _from(command: Command) -> None:
    command.arguments = command.instruction.text.split()
    words = command.arguments
    if len(words) not in (1, 3) or (len(words) == 3 and words[1].upper() != "AS"):
        raise InvalidArgument("FROM requires either one or three arguments")


def _stage(command: Command) -> Stage:
    words = command.arguments
    name = words[2].lower() if len(words) == 3 else ""
    if name and not _STAGE_NAME.fullmatch(name):
        raise ParseError(
            f'invalid name for build stage: "{words[2]}", name can\'t start with a number or contain symbols',
            command.line)
    return Stage(name, words[0], command.flag("platform"), command.code, command.line)


def _onbuild(command: Command) -> None:
    text = command.instruction.text
    trigger = (text.split(None, 1) or [""])[0].upper()
    if not trigger:
        raise InvalidArgument("ONBUILD requires at least one argument")
    if trigger == "ONBUILD":
        raise InvalidArgument("Chaining ONBUILD via `ONBUILD ONBUILD` isn't allowed")
    if trigger in ("MAINTAINER", "FROM"):
        raise InvalidArgument(f"{trigger} isn't allowed as an ONBUILD trigger")
    command.arguments = [text]


def _healthcheck(command: Command) -> None:
    """arguments: [kind, …] with kind NONE or CMD."""
    kind, _, rest = command.instruction.text.partition(" ")
    kind, rest = kind.upper(), rest.strip()
    if not kind:
        raise InvalidArgument("HEALTHCHECK requires at least one argument")
    if kind == "NONE":
        if rest:
            raise InvalidArgument("HEALTHCHECK NONE takes no arguments")
        command.arguments = ["NONE"]
        return
    if kind != "CMD":
        raise InvalidArgument(f'Unknown type "{kind}" in HEALTHCHECK (try CMD)')
    if not rest:
        raise InvalidArgument("Missing command after HEALTHCHECK CMD")
    array = json_array(rest)
    command.shell_form = array is None
    command.arguments = ["CMD", *(array if array is not None else [rest])]
    for name in ("interval", "timeout", "start-period", "start-interval"):
        if name in command.flags:
            duration_ns(name, command.flag(name))


def duration_ns(name: str, text: str) -> int:
    """A HEALTHCHECK time in nanoseconds; 0, or 1 ms and more. Raises InvalidArgument."""
    seconds = parse_duration(text)
    if seconds < 0 or 0 < seconds < 0.001:
        raise InvalidArgument(f"Interval '{name}' cannot be less than 1ms")
    return round(seconds * 1e9)


_READERS: dict[str, Callable[[Command], None]] = {
    "ADD": _copy, "ARG": _arg, "CMD": _program, "COPY": _copy, "ENTRYPOINT": _program, "ENV": _name_values,
    "EXPOSE": _some, "FROM": _from, "HEALTHCHECK": _healthcheck, "LABEL": _name_values, "MAINTAINER": _one,
    "ONBUILD": _onbuild, "RUN": _program, "SHELL": _shell, "STOPSIGNAL": _one, "USER": _one, "VOLUME": _some,
    "WORKDIR": _one,
}
