"""Instructions -> commands with checked flags and arguments, grouped into stages. Pure; expands no variables.

Source: the Dockerfile reference, one section an instruction. Error texts are docker's.
"""

from __future__ import annotations

import re
from collections.abc import Callable

from corten.base.errors import InvalidArgument
from corten.base.units import parse_duration
from corten.build.dockerfile import Dockerfile
from corten.build.heredocs import Heredoc, heredoc_of
from corten.build.line import INSTRUCTIONS, GrammarError, Instruction, ParseError, suggestion

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
_FROM_VARIABLE = re.compile(r"(?:^|,)from=[^,]*\$[^,]", re.IGNORECASE)
_ONBUILD = re.compile(r"^\s*ONBUILD\s*", re.IGNORECASE)


class Command:
    """One instruction with its grammar applied.

    arguments: words; name=value pairs are in `pairs`, `legacy` when written without the `=`. shell_form: CMD,
    ENTRYPOINT, RUN and HEALTHCHECK written as text. flags: name -> values as written (`--link` alone is "true").
    """

    __slots__ = ("arguments", "code", "flags", "instruction", "legacy", "line", "name", "pairs", "shell_form")

    def __init__(self, instruction: Instruction) -> None:
        self.instruction = instruction
        self.name, self.code, self.line = instruction.name, instruction.original, instruction.line
        self.flags = _flags(instruction)
        self.arguments: list[str] = list(instruction.arguments)
        self.pairs: list[tuple[str, str | None]] = []
        self.shell_form = self.legacy = False

    def flag(self, name: str) -> str:
        """The flag's only value, or ""."""
        return self.flags.get(name, [""])[-1]

    @property
    def end_line(self) -> int:
        return self.instruction.end_line

    @property
    def heredocs(self) -> list[Heredoc]:
        return self.instruction.heredocs

    def described(self, name: str) -> str:
        """What a comment just above says of `name`: `# name the description`."""
        return next((text[len(name) + 1:] for text in self.instruction.comments
                     if name and text.startswith(f"{name} ")), "")


class Stage:
    """FROM (`command`) and what follows it. name: lower case, "" when it has none."""

    __slots__ = ("base", "command", "commands", "name", "platform")

    def __init__(self, name: str, command: Command) -> None:
        self.name, self.command = name, command
        self.base, self.platform = command.arguments[0], command.flag("platform")
        self.commands: list[Command] = []

    @property
    def code(self) -> str:
        return self.command.code

    @property
    def line(self) -> int:
        return self.command.line


class Plan:
    """A whole Dockerfile: the ARGs before the first FROM, then the stages."""

    __slots__ = ("dockerfile", "meta_args", "stages")

    def __init__(self, dockerfile: Dockerfile) -> None:
        self.dockerfile = dockerfile
        self.meta_args: list[Command] = []
        self.stages: list[Stage] = []

    @property
    def escape(self) -> str:
        return self.dockerfile.escape

    @property
    def warnings(self) -> list[str]:
        """Lines for the user of the classic builder."""
        return self.dockerfile.warnings

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
            near = suggestion(target, [stage.name for stage in self.stages if stage.name])
            raise InvalidArgument(f'target stage "{target}" could not be found{near}')
        del self.stages[index + 1:]


def read_plan(dockerfile: Dockerfile) -> Plan:
    """Group the instructions. Raises ParseError."""
    plan = Plan(dockerfile)
    for instruction in dockerfile.instructions:
        command = read_command(instruction)
        if command.name == "FROM":
            name = command.arguments[2].lower() if len(command.arguments) == 3 else ""
            plan.stages.append(Stage(name, command))
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
    """Apply the instruction's grammar. Raises GrammarError."""
    try:
        if instruction.name not in _READERS:
            word = instruction.word
            raise InvalidArgument(f"unknown instruction: {word}{suggestion(word, INSTRUCTIONS, fold=True)}")
        command = Command(instruction)
        _READERS[command.name](command)
    except InvalidArgument as error:
        text = error.problem if isinstance(error, ParseError) else str(error)
        raise GrammarError(text, instruction.line, instruction.end_line) from None
    return command


def _flags(instruction: Instruction) -> dict[str, list[str]]:
    known = FLAGS.get(instruction.name, ())
    found: dict[str, list[str]] = {}
    for flag in instruction.flags:
        name, equals, value = flag[2:].partition("=")
        if name not in known:
            raise InvalidArgument(f"unknown flag: --{name}{suggestion(name, known)}")
        if name in found and name not in _REPEATED:
            raise InvalidArgument(f"duplicate flag specified: --{name}")
        if (not value and equals and name in _BOOLEAN) or (not equals and name not in _BOOLEAN):
            raise InvalidArgument(f"missing a value on flag: --{name}")
        if name in _BOOLEAN:
            value = value.lower() or "true"
            if value not in ("true", "false"):
                raise InvalidArgument(f"expecting boolean value for flag --{name}, not: {flag.partition('=')[2]}")
        found.setdefault(name, []).append(value)
    return found


# --- the grammar of each

def _name_values(command: Command) -> None:
    """ENV and LABEL."""
    words = command.instruction.arguments
    if not words:
        raise InvalidArgument(f"{command.name} requires at least one argument")
    for name, value, equals in zip(words[::3], words[1::3], words[2::3], strict=True):
        if not name:
            raise InvalidArgument(f"{command.name} names can not be blank")
        command.pairs.append((name, value))
        command.legacy = not equals


def _arg(command: Command) -> None:
    for word in command.arguments:
        name, equals, value = word.partition("=")
        if not name:
            raise InvalidArgument("ARG names can not be blank")
        command.pairs.append((name, value if equals else None))
    if not command.pairs:
        raise InvalidArgument("ARG requires at least one argument")


def _one(command: Command) -> None:
    if not command.arguments:
        raise InvalidArgument(f"{command.name} requires exactly one argument")


def _some(command: Command) -> None:
    """EXPOSE and VOLUME."""
    if not command.arguments:
        raise InvalidArgument(f"{command.name} requires at least one argument")
    if command.name == "EXPOSE":
        command.arguments.sort()
    elif not all(word.strip() for word in command.arguments):
        raise InvalidArgument("VOLUME specified can not be an empty string")


def _copy(command: Command) -> None:
    if len(command.arguments) < 2:
        raise InvalidArgument(f"{command.name} requires at least two arguments, but only one was provided. "
                              "Destination could not be determined")
    if heredoc_of(command.arguments[-1]):
        raise InvalidArgument(f"{command.name} cannot accept a heredoc as a destination")


def _program(command: Command) -> None:
    """CMD and ENTRYPOINT: exec form or shell form."""
    command.shell_form = not command.instruction.is_json


def _run(command: Command) -> None:
    _program(command)
    network, security = command.flag("network"), command.flag("security")
    if network not in ("", "default", "none", "host"):
        raise InvalidArgument(f'invalid network mode "{network}"')
    if security not in ("", "sandbox", "insecure"):
        raise InvalidArgument(f'security "{security}" is not valid')
    for text in command.flags.get("mount", ()):
        if _FROM_VARIABLE.search(text):
            raise InvalidArgument("'from' doesn't support variable expansion, define alias stage instead")


def _shell(command: Command) -> None:
    if not command.arguments:
        raise InvalidArgument("SHELL requires at least one argument")
    if not command.instruction.is_json:
        raise InvalidArgument("SHELL requires the arguments to be in JSON form")


def _from(command: Command) -> None:
    words = command.arguments
    if len(words) == 3 and words[1].upper() == "AS":
        if not _STAGE_NAME.fullmatch(words[2].lower()):
            raise InvalidArgument(f'invalid name for build stage: "{words[2]}", name can\'t start with a number or '
                                  "contain symbols")
    elif len(words) != 1:
        raise InvalidArgument("FROM requires either one or three arguments")


def _onbuild(command: Command) -> None:
    """arguments: [the instruction to come, with its heredocs]."""
    inner = command.instruction.inner
    if inner is None:
        raise InvalidArgument("ONBUILD requires at least one argument")
    if inner.name == "ONBUILD":
        raise InvalidArgument("Chaining ONBUILD via `ONBUILD ONBUILD` isn't allowed")
    if inner.name in ("MAINTAINER", "FROM"):
        raise InvalidArgument(f"{inner.name} isn't allowed as an ONBUILD trigger")
    text = _ONBUILD.sub("", command.code)
    command.arguments = [text + "".join(f"\n{one.content}{one.name}" for one in command.heredocs)]


def _healthcheck(command: Command) -> None:
    """arguments: [kind, …] with kind NONE or CMD."""
    kind, *rest = command.arguments or [""]
    kind = kind.upper()
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
    command.shell_form = not command.instruction.is_json
    command.arguments = ["CMD", *rest]
    for name in ("interval", "timeout", "start-period", "start-interval"):
        if command.flag(name):
            duration_ns(name, command.flag(name))
    retries = command.flag("retries") or "0"
    if not re.fullmatch(r"[+-]?[0-9]{1,9}", retries, re.ASCII):
        raise InvalidArgument(f'strconv.ParseInt: parsing "{retries}": invalid syntax')
    if int(retries) < 0:
        raise InvalidArgument(f"--retries cannot be negative ({retries})")


def duration_ns(name: str, text: str) -> int:
    """A HEALTHCHECK time in nanoseconds; 0, or 1 ms and more. Raises InvalidArgument."""
    try:
        seconds = parse_duration(text)
    except InvalidArgument:
        raise InvalidArgument(f'time: invalid duration "{text}"') from None
    if seconds < 0 or 0 < seconds < 0.001:
        raise InvalidArgument(f'Interval "{name}" cannot be less than 1ms')
    return round(seconds * 1e9)


_READERS: dict[str, Callable[[Command], None]] = {
    "ADD": _copy, "ARG": _arg, "CMD": _program, "COPY": _copy, "ENTRYPOINT": _program, "ENV": _name_values,
    "EXPOSE": _some, "FROM": _from, "HEALTHCHECK": _healthcheck, "LABEL": _name_values, "MAINTAINER": _one,
    "ONBUILD": _onbuild, "RUN": _run, "SHELL": _shell, "STOPSIGNAL": _one, "USER": _one, "VOLUME": _some,
    "WORKDIR": _one,
}
