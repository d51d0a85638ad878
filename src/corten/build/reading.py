"""A Dockerfile's text and what the caller adds to it -> the plan of one build. Pure.

Front ends that a Dockerfile names by `# syntax=` are programs of somebody else: none is run. Docker's own are this one.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from corten.base.errors import Unsupported
from corten.build.dockerfile import parse
from corten.build.instructions import Command, Plan, read_command, read_plan
from corten.build.line import Instruction

_OWN = re.compile(r"(?:docker\.io/)?docker/dockerfile(?:-upstream)?(?:[:@].*)?", re.ASCII)
SYNTAX_ARGUMENT = "BUILDKIT_SYNTAX"


def read(text: bytes, target: str, labels: Mapping[str, str], buildkit: bool,
         arguments: Mapping[str, str | None]) -> Plan:
    """The plan up to `target`, labels set at its end. Raises InvalidArgument before anything is done, Unsupported."""
    plan = read_plan(parse(text))
    if buildkit:
        check_syntax(arguments.get(SYNTAX_ARGUMENT) or plan.dockerfile.directives.get("syntax", ""))
    if target:
        plan.up_to(target)
    plan.stages[-1].commands += [_label(name, value) for name, value in sorted(labels.items())]
    return plan


def check_syntax(value: str) -> None:
    """Whether the front end named is the one there is. Raises Unsupported."""
    name = value.partition(" ")[0]
    if name and not _OWN.fullmatch(name):
        raise Unsupported(f"the front end {name} is not run: Dockerfiles are read by the engine itself, and "
                          "docker/dockerfile is the only syntax it knows")


def _label(name: str, value: str) -> Command:
    """LABEL as the caller gives it: no variable is replaced in it. It stands at no line."""
    instruction = Instruction("LABEL", f"LABEL {name}={value}", [], "", 0)
    instruction.arguments = [_quoted(name), _quoted(value), "="]
    return read_command(instruction)


def _quoted(text: str) -> str:
    return "'" + text.replace("'", "'\"'\"'") + "'"
