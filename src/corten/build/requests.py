"""What a front end answers besides building: checks, outline and targets of a Dockerfile. Pure.

    answers = answer("frontend.lint", Question(text, …))      # {"result.json": …, "result.txt": …, "version": …}

Source: moby/buildkit frontend/subrequests; `docker buildx build --call check|outline|targets` shows them.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Callable, Mapping
from typing import Any

from corten.base.errors import InvalidArgument, Unsupported
from corten.build.arguments import global_arguments
from corten.build.checks import Bases, Checker
from corten.build.dockerfile import parse
from corten.build.dockerignore import Ignore
from corten.build.excerpt import excerpt
from corten.build.instructions import Command, Plan, read_plan
from corten.build.line import GrammarError, LocatedError
from corten.build.outline import outline_of
from corten.build.rules import Finding
from corten.build.stages import needed_stages

DESCRIBE, LINT = "frontend.subrequests.describe", "frontend.lint"
OUTLINE, TARGETS = "frontend.outline", "frontend.targets"
_VERSION = b"1.0.0"


class Question:
    """A Dockerfile (`text`, called `name`) and how it would be built."""

    __slots__ = ("arguments", "bases", "ignore", "name", "target", "text")

    def __init__(self, text: bytes, name: str, arguments: Mapping[str, str | None], target: str = "",
                 ignore: Ignore | None = None, bases: Bases = lambda name: None) -> None:
        self.text, self.name, self.arguments, self.target = text, name, arguments, target
        self.ignore, self.bases = ignore, bases


def answer(request: str, question: Question) -> dict[str, bytes]:
    """The metadata of the answer, by name. Raises Unsupported for an unknown request, InvalidArgument."""
    if request not in _ANSWERS:
        raise Unsupported(f"unsupported request {request}")
    return _ANSWERS[request](question)


def _made(value: Any, text: str, **more: bytes) -> dict[str, bytes]:
    shown = json.dumps(value, indent=2, ensure_ascii=False).encode("utf-8", "surrogateescape")
    return {"result.json": shown, "result.txt": text.encode("utf-8", "surrogateescape"), "version": _VERSION, **more}


def _location(first: int, last: int) -> dict[str, Any]:
    """One range a line, as BuildKit has them."""
    ranges = [{"start": {"line": line}, "end": {"line": line}} for line in range(first, max(first, last) + 1)]
    return {"ranges": ranges} if first else {}


def command_location(command: Command) -> dict[str, Any]:
    """Where a command stands."""
    return _location(command.line, command.instruction.end_line)


# --- checks

def check(question: Question, building: bool = False) -> tuple[list[Finding], LocatedError | None]:
    """What is found, and the error that a build would end with before it does anything.

    building: the commands of stages that nobody needs are left alone.
    """
    findings: list[Finding] = []
    if not question.text:
        return findings, LocatedError("the Dockerfile cannot be empty")
    try:
        plan = read_plan(parse(question.text))
        stages = None
        if question.target:
            plan.up_to(question.target)
        if question.target or building:
            stages = needed_stages(plan, known_arguments(plan, question))
        checker = Checker(plan, question.arguments, question.ignore, question.bases)
        findings = checker.findings
        checker.run(stages)
        if failure := checker.failure():
            return findings, LocatedError(failure)
    except LocatedError as error:
        return findings, error
    except InvalidArgument as error:
        return findings, LocatedError(str(error))
    return findings, None


def known_arguments(plan: Plan, question: Question) -> dict[str, str]:
    """What FROM may use. Raises InvalidArgument."""
    return global_arguments(plan, {name: text for name, text in question.arguments.items() if text is not None})[0]


def _lint(question: Question) -> dict[str, bytes]:
    findings, error = check(question)
    lines = question.text.decode("utf-8", "surrogateescape").split("\n")
    warnings, shown = [], []
    for finding in findings:
        warnings.append({
            "ruleName": finding.rule, "description": finding.description, "url": finding.url,
            "detail": finding.message, "location": _location(finding.line, finding.end_line),
        })
        shown.append(f"\nWARNING: {finding.rule} - {finding.url}\n{finding.message}\n"
                     + excerpt(question.name, lines, finding.line, finding.end_line))
    source = {"filename": question.name, "language": "Dockerfile",
              "data": base64.b64encode(question.text).decode("ascii")}
    value: dict[str, Any] = {"warnings": warnings, "sources": [source]}
    if error is not None:
        value["buildError"] = {"message": message(error), "location": _location(error.line, error.end_line)}
    status = b"1" if findings or error else b"0"
    return _made(value, "".join(shown), **{"result.statuscode": status})


# --- outline, targets

def _outline(question: Question) -> dict[str, bytes]:
    _, error = check(question)
    if error is not None:
        raise error
    plan = read_plan(parse(question.text))
    if question.target:
        plan.up_to(question.target)
    found = outline_of(plan, needed_stages(plan, known_arguments(plan, question)), question.arguments)
    stage = plan.stages[-1]
    value: dict[str, Any] = {}
    if stage.name:
        value["name"] = stage.name
    if description := stage.command.described(stage.name):
        value["description"] = description
    rows = [{"name": one.name, "description": one.description, "value": one.value,
             "location": command_location(one.command)} for one in found.arguments]
    text = ""
    if value:
        shown = [["TARGET:", stage.name or "(default)"]] + ([["DESCRIPTION:", description]] if description else [])
        text += _table(shown, 1)
    if rows:
        value["args"] = [{key: item for key, item in row.items() if item} for row in rows]
        text += _table([["BUILD ARG", "VALUE", "DESCRIPTION"],
                        *([one.name, one.value, one.description] for one in found.arguments)])
    for key, title, needs in (("secrets", "SECRET", found.secrets), ("ssh", "SSH", found.ssh)):
        if needs:
            value[key] = [{"name": name, **({"required": True} if need.required else {}),
                           "location": command_location(need.command)} for name, need in needs.items()]
            text += _table([[title, "REQUIRED"],
                            *([name, "true" if need.required else ""] for name, need in needs.items())])
    value["sources"] = [base64.b64encode(question.text).decode("ascii")]
    return _made(value, text)


def _targets(question: Question) -> dict[str, bytes]:
    plan = read_plan(parse(question.text))
    rows, found = [["TARGET", "DESCRIPTION"]], []
    for index, stage in enumerate(plan.stages):
        last = index == len(plan.stages) - 1
        description = stage.command.described(stage.name)
        entry = {"name": stage.name, "default": last, "description": description, "base": stage.base,
                 "platform": stage.platform, "location": command_location(stage.command)}
        found.append({key: item for key, item in entry.items() if item})
        rows.append([f"{stage.name} (default)".strip() if last else stage.name, description])
    source = base64.b64encode(question.text).decode("ascii")
    return _made({"targets": found, "sources": [source]}, _table(rows, 1, end=""))


def _table(rows: list[list[str]], gap: int = 3, end: str = "\n") -> str:
    widths = [max(len(row[column]) for row in rows) + gap for column in range(len(rows[0]) - 1)]
    lines = ["".join(cell.ljust(width) for cell, width in zip(row, widths, strict=False)) + row[-1] for row in rows]
    return "".join(f"{line}\n" for line in lines) + end


# --- what there is

def _describe(_question: Question) -> dict[str, bytes]:
    texts = ["result.json", "result.txt"]
    table = [
        (OUTLINE, "List all parameters current build target supports", [("target", "Target build stage")], texts),
        (TARGETS, "List all targets current build supports", [], texts),
        (LINT, "Lint a Dockerfile", [], [*texts, "result.statuscode"]),
        (DESCRIBE, "List available subrequest types", [], texts),
    ]
    value = [{
        "name": name, "version": "1.0.0", "type": "rpc", "description": description,
        "opts": [{"name": option, "description": meaning} for option, meaning in options], "inputs": None,
        "metadata": [{"name": key, "description": ""} for key in keys], "refs": None,
    } for name, description, options, keys in table]
    rows = [["NAME", "VERSION", "DESCRIPTION"], *([name, "1.0.0", description] for name, description, _, _ in table)]
    return _made(value, _table(rows, 1, end=""))


_ANSWERS: dict[str, Callable[[Question], dict[str, bytes]]] = {
    LINT: _lint, OUTLINE: _outline, TARGETS: _targets, DESCRIBE: _describe,
}


def message(error: LocatedError) -> str:
    """The error as BuildKit says it: the parser's own without "failed to parse Dockerfile"."""
    return str(error) if isinstance(error, GrammarError) else error.problem


def with_excerpt(error: LocatedError, name: str, text: bytes) -> str:
    """The error's text under the lines it is about."""
    lines = text.decode("utf-8", "surrogateescape").split("\n")
    return excerpt(name, lines, error.line, error.end_line) + message(error)
