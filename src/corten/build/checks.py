"""Build checks: what is doubtful in a Dockerfile that can be built. Pure; nothing is built, no image is looked at.

    findings = Checker(plan, arguments, ignore, bases).run(stages)

Source: Docker's "Build checks" reference; which rule looks when is BuildKit's (frontend/dockerfile).
"""

from __future__ import annotations

import posixpath
import re
from collections.abc import Callable, Collection, Mapping
from typing import Any

from corten.base.errors import InvalidArgument
from corten.build.arguments import global_arguments
from corten.build.check_stage import StageCheck
from corten.build.dockerignore import Ignore
from corten.build.instructions import Command, Plan, Stage
from corten.build.line import located, nearest
from corten.build.rules import Finding, Settings, read_settings
from corten.build.variables import Expander
from corten.oci import reference
from corten.oci.platform import parse_platform

Bases = Callable[[str], Mapping[str, Any] | None]  # name of an image -> its `config`; None: it is not known
SETTINGS_ARGUMENT = "BUILDKIT_DOCKERFILE_CHECK"
_RESERVED = ("context", "scratch")
_CHECK = re.compile(r"check\s*=\s*(\S+)", re.IGNORECASE)


class Checker:
    """One Dockerfile seen with the caller's build arguments. Raises LocatedError for what cannot be built."""

    def __init__(self, plan: Plan, arguments: Mapping[str, str | None], ignore: Ignore | None, bases: Bases) -> None:
        self.plan, self.ignore, self.bases = plan, ignore, bases
        self.given = {name: value for name, value in arguments.items() if value is not None}
        text = self.given.get(SETTINGS_ARGUMENT)
        if text is None:
            text = plan.dockerfile.directives.get("check", "").partition(" ")[0]
        self.settings = read_settings(text)
        self.findings: list[Finding] = []

    def say(self, rule: str, message: str, command: Command, comments: bool = True) -> None:
        """A rule is broken at this command, unless it is off here."""
        settings = self.settings
        if comments:
            settings = settings.joined(_settings_above(command.instruction.comments))
        if settings.wants(rule):
            self.findings.append(Finding(rule, message, command.line, command.instruction.end_line))

    def run(self, stages: Collection[int] | None = None) -> list[Finding]:
        """Everything found, in the order of the lines; commands are looked at in `stages` only (None: in all)."""
        plan = self.plan
        if self.settings.wants("NoEmptyContinuation"):
            self.findings += [Finding("NoEmptyContinuation", "Empty continuation line", line, line)
                              for line, _ in plan.dockerfile.empty_continuations]
        for command in plan.meta_args:
            self._definition(command)
        for stage in plan.stages:
            self._names(stage)
        self._stage_names()
        self._casing()
        self._defaults()
        with located(plan.stages[0].command):
            known, declared = global_arguments(plan, self.given)
        for stage in plan.stages:
            with located(stage.command):
                self._from(stage, known, declared | known.keys())
        done: list[StageCheck] = []
        for index, stage in enumerate(plan.stages):
            earlier = self._base(stage, known, done)
            with located(stage.command):
                check = StageCheck(self, stage, known, earlier)
            if stages is None or index in stages:
                check.run()
            done.append(check)
        self.findings.sort(key=lambda finding: finding.line)
        return self.findings

    def failure(self) -> str:
        """The error that `error=true` makes of the findings, or ""."""
        names = sorted({finding.rule for finding in self.findings})
        return f"lint violation found for rules: {', '.join(names)}" if names and self.settings.error else ""

    def _base(self, stage: Stage, known: Mapping[str, str], done: list[StageCheck]) -> StageCheck | None:
        name = Expander(known, self.plan.escape).word(stage.base)
        return next((one for one in reversed(done) if one.stage.name and one.stage.name == name), None)

    # --- names and words

    def _names(self, stage: Stage) -> None:
        command = stage.command
        words, word = command.arguments, command.instruction.word
        if len(words) == 3:
            if not words[2].islower() and words[2] != words[2].lower():
                self.say("StageNameCasing", f"Stage name '{words[2]}' should be lowercase", command)
            lower, upper = word == word.lower(), word == word.upper()
            if (lower or upper) and words[1] != (words[1].lower() if lower else words[1].upper()):
                self.say("FromAsCasing", f"'{words[1]}' and '{word}' keywords' casing do not match", command)
            self._described(command, [stage.name])
        for one in stage.commands:
            if one.name == "MAINTAINER":
                self.say("MaintainerDeprecated", "Maintainer instruction is deprecated in favor of using label", one)
            elif one.name == "ARG":
                self._definition(one)

    def _definition(self, command: Command) -> None:
        self._described(command, [name for name, _ in command.pairs])

    def _described(self, command: Command, names: list[str]) -> None:
        comments = command.instruction.comments
        if comments and comments[-1].split(" ")[0] not in names:
            name = names[0] if len(names) == 1 else "<arg_key>"
            self.say("InvalidDefinitionDescription",
                     f"Comment for {command.name} should follow the format: `# {name} <description>`", command)

    def _stage_names(self) -> None:
        seen: set[str] = set()
        for stage in self.plan.stages:
            if stage.name in _RESERVED:
                self.say("ReservedStageName", "Stage name should not use the same name as reserved stage "
                         f'"{stage.name}"', stage.command, comments=False)
            if stage.name and stage.name in seen:
                self.say("DuplicateStageName", f'Duplicate stage name "{stage.name}", stage names should be unique',
                         stage.command, comments=False)
            seen.add(stage.name)

    def _casing(self) -> None:
        commands = [command for stage in self.plan.stages for command in (stage.command, *stage.commands)]
        words = [command.instruction.word for command in commands]
        lower = sum(word == word.lower() for word in words) > sum(word == word.upper() for word in words)
        for command, word in zip(commands, words, strict=True):
            if word != (word.lower() if lower else word.upper()):
                casing = "lowercase" if lower else "uppercase"
                self.say("ConsistentInstructionCasing", f"Command '{word}' should match the case of the command "
                         f"majority ({casing})", command, comments=False)

    # --- FROM

    def _defaults(self) -> None:
        """Whether every base has a name when the caller gives no arguments."""
        try:
            known, _ = global_arguments(self.plan, {})
            for stage in self.plan.stages:
                name = Expander(known, self.plan.escape).word(stage.base)
                try:
                    reference.parse(name)
                except InvalidArgument:
                    self.say("InvalidDefaultArgInFrom", f"Default value for ARG {stage.base} results in empty or "
                             "invalid base image name", stage.command, comments=False)
        except InvalidArgument:
            return  # the build itself will say it

    def _from(self, stage: Stage, known: Mapping[str, str], declared: Collection[str]) -> None:
        words = Expander(known, self.plan.escape)
        if not words.word(stage.base):
            raise InvalidArgument(f"base name ({stage.base}) should not be blank")
        self._undeclared(stage, words.missing, declared)
        if not stage.platform:
            return
        words = Expander(known, self.plan.escape)
        platform = words.word(stage.platform)
        self._undeclared(stage, words.missing, declared)
        if words.used == {"TARGETPLATFORM"} and not words.missing and platform == known["TARGETPLATFORM"]:
            self.say("RedundantTargetPlatform", f"Setting platform to predefined {stage.platform} in FROM is redundant "
                     "as this is the default behavior", stage.command)
        if words.used or words.missing:
            return
        try:
            parsed = parse_platform(platform)
        except InvalidArgument:
            return
        if parsed.os not in stage.name and parsed.architecture not in stage.name:
            self.say("FromPlatformFlagConstDisallowed", f'FROM --platform flag should not use constant value '
                     f'"{platform}"', stage.command)

    def _undeclared(self, stage: Stage, missing: Collection[str], declared: Collection[str]) -> None:
        for name in sorted(set(missing) - set(declared)):
            near = nearest(name, sorted(declared))
            meant = f" (did you mean {near}?)" if near else ""
            self.say("UndefinedArgInFrom", f"FROM argument '{name}' is not declared{meant}", stage.command)

    # --- COPY

    def is_ignored(self, source: str) -> bool:
        """Whether .dockerignore leaves this source out for certain."""
        if self.ignore is None or self.ignore.has_exceptions:
            return False
        path = posixpath.normpath(source)
        if path in (".", "/"):
            return self.ignore.leaves_nothing
        return self.ignore.excludes(path.lstrip("/"))


def _settings_above(comments: list[str]) -> Settings:
    """`# check=skip=…` in the comments just above a command."""
    for comment in comments:
        if match := _CHECK.match(comment):
            try:
                return read_settings(match[1])
            except InvalidArgument:
                break
    return Settings()
