"""Build checks of one stage's commands: variables, paths, secrets, ports. Pure.

Follows the stage as a build would, with the variables that are in force at each command.
"""

from __future__ import annotations

import posixpath
import re
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

from corten.base.errors import InvalidArgument
from corten.build.changes import check_signal
from corten.build.expose import read_port
from corten.build.heredocs import heredoc_of
from corten.build.instructions import Command, Stage
from corten.build.line import located, nearest
from corten.build.remotes import is_remote
from corten.build.run_mounts import parse_mount
from corten.build.stage import DEFAULT_PATH
from corten.build.variables import Expander
from corten.oci import reference

if TYPE_CHECKING:
    from corten.build.checks import Checker

_SECRET = re.compile(
    r"(?:_|^)(?:apikey|auth|credentials?|key|password|pword|passwd|secret|token)(?:_|$)", re.IGNORECASE)
_HARMLESS = re.compile(r"(?:_|^)(?:public|file|version)(?:_|$)", re.IGNORECASE)
_ONCE = ("CMD", "ENTRYPOINT", "HEALTHCHECK")
_SIGNALS = "JSON arguments recommended for {} to prevent unintended behavior related to OS signals"


class StageCheck:
    """A stage under way. `variables`: what its commands expand; `open`: what its base brings is not known."""

    def __init__(self, checker: Checker, stage: Stage, known: Mapping[str, str], base: StageCheck | None) -> None:
        self.checker, self.stage, self.known = checker, stage, known
        self._last: dict[str, Command] = {}  # CMD, ENTRYPOINT and HEALTHCHECK seen
        self._declared: set[str] = set()
        self.variables: dict[str, str] = {"PATH": DEFAULT_PATH}
        self.open = self._shell = self._workdir_set = False
        self._workdir = "/"
        if base is not None:
            self.variables = dict(base.variables)
            self._declared |= base._declared
            self.open, self._shell, self._workdir_set = base.open, base._shell, base._workdir_set
            self._workdir = base._workdir
            return
        name = Expander(known, checker.plan.escape).word(stage.base)
        if name != "scratch":
            check_name(name)
        config = {} if name == "scratch" else checker.bases(name)
        self.open = config is None
        self._shell = bool((config or {}).get("Shell"))
        self._workdir = str((config or {}).get("WorkingDir") or "/")
        for item in (config or {}).get("Env") or []:
            key, _, value = item.partition("=")
            self.variables[key] = value

    def run(self) -> None:
        """Every command in turn. Raises LocatedError."""
        for command in self.stage.commands:
            if command.name in _ONCE:
                self._once(command)
            if look := _LOOKS.get(command.name):
                try:
                    with located(command):
                        look(self, command)
                except InvalidArgument:
                    if not self.open:  # else the base may have what is missed here
                        raise

    def _words(self, command: Command, *texts: str) -> list[str]:
        """The texts expanded; variables that are not there are told."""
        words = Expander(self.variables, self.checker.plan.escape)
        found = [words.word(text) for text in texts]
        self._undefined(command, words)
        return found

    def _undefined(self, command: Command, words: Expander) -> None:
        if self.open:
            return
        for name in sorted(words.missing - self._declared):
            near = nearest(name, self.variables)
            meant = f" (did you mean ${near}?)" if near else ""
            self.checker.say("UndefinedVar", f"Usage of undefined variable '${name}'{meant}", command)

    def _once(self, command: Command) -> None:
        word = command.instruction.word
        if (before := self._last.get(command.name)) is not None:
            self.checker.say("MultipleInstructionsDisallowed", f"Multiple {word} instructions should not be used in "
                             "the same stage because only the last one will be used", before)
        self._last[command.name] = command
        if command.name != "HEALTHCHECK" and command.shell_form and not self._shell:
            self.checker.say("JSONArgsRecommended", _SIGNALS.format(word), command)

    def _legacy(self, command: Command) -> None:
        word = command.instruction.word
        if command.legacy:
            self.checker.say("LegacyKeyValueFormat", f'"{word} key=value" should be used instead of legacy "{word} key '
                             'value" format', command)

    def _secret(self, command: Command, name: str) -> None:
        if _SECRET.search(name) and not _HARMLESS.search(name):
            self.checker.say("SecretsUsedInArgOrEnv", "Do not use ARG or ENV instructions for sensitive data "
                             f'({command.name} "{name}")', command)

    # --- one a command

    def _env(self, command: Command) -> None:
        self._legacy(command)
        flat = self._words(command, *(text or "" for pair in command.pairs for text in pair))
        for name, value in zip(flat[::2], flat[1::2], strict=True):
            self._secret(command, name)
            self.variables[name] = value

    def _label(self, command: Command) -> None:
        self._legacy(command)
        self._words(command, *(text or "" for pair in command.pairs for text in pair))

    def _arg(self, command: Command) -> None:
        for name, default in command.pairs:
            self._secret(command, name)
            value = self.checker.given.get(name)
            if value is None:
                value = self.known.get(name) if default is None else self._words(command, default)[0]
            if value is not None:
                self.variables[name] = value
            self._declared.add(name)

    def _set_shell(self, command: Command) -> None:
        self._shell = True

    def _work_in(self, command: Command) -> None:
        path = self._words(command, command.arguments[0])[0]
        if not self._workdir_set and not posixpath.isabs(path):
            self.checker.say("WorkdirRelativePath", f'Relative workdir "{path}" can have unexpected results if the '
                             "base image changes", command)
        self._workdir_set = True
        self._workdir = posixpath.join(self._workdir, path)

    def _user(self, command: Command) -> None:
        self._words(command, command.arguments[0])

    def _stop_signal(self, command: Command) -> None:
        check_signal(self._words(command, command.arguments[0])[0])

    def _volume(self, command: Command) -> None:
        self._words(command, *command.arguments)

    def _run(self, command: Command) -> None:
        words = Expander(self.variables, self.checker.plan.escape)
        for text in command.flags.get("mount", ()):
            try:
                parse_mount(text, self._workdir, words.word)
            finally:
                self._undefined(command, words)

    def _copy(self, command: Command) -> None:
        flags = [command.flag(name) for name in ("chown", "chmod", "checksum")]
        *sources, _ = self._words(command, *flags, *(word for word in command.arguments if not heredoc_of(word)))
        for document in command.heredocs:
            if document.expand:
                words = Expander(self.variables)
                words.heredoc(document.chomped)
                self._undefined(command, words)
        if command.flag("from"):
            return
        for source in sources[len(flags):]:
            if not is_remote(source) and self.checker.is_ignored(source):
                self.checker.say("CopyIgnoredFile", f"Attempting to {command.name.capitalize()} file "
                                 f'"{posixpath.normpath(source)}" that is excluded by .dockerignore', command)

    def _expose(self, command: Command) -> None:
        words = Expander(self.variables, self.checker.plan.escape)
        for text in [word for argument in command.arguments for word in words.words(argument)]:
            port = read_port(text)
            if port.protocol != port.protocol.lower():
                self.checker.say("ExposeProtoCasing", f"Defined protocol '{text}' in EXPOSE instruction should be "
                                 "lowercase", command)
            if port.address or port.host_port:
                self.checker.say("ExposeInvalidFormat", "EXPOSE instruction should not define an IP address or "
                                 f"host-port mapping, found '{text}'", command)


def check_name(name: str) -> None:
    """Whether an image may be called so. Raises InvalidArgument."""
    try:
        reference.parse(name)
    except InvalidArgument as error:
        raise InvalidArgument(f'failed to parse stage name "{name}": {error}') from None


_LOOKS: dict[str, Callable[[StageCheck, Command], None]] = {
    "ADD": StageCheck._copy, "ARG": StageCheck._arg, "COPY": StageCheck._copy, "ENV": StageCheck._env,
    "EXPOSE": StageCheck._expose, "LABEL": StageCheck._label, "RUN": StageCheck._run, "SHELL": StageCheck._set_shell,
    "STOPSIGNAL": StageCheck._stop_signal, "USER": StageCheck._user, "VOLUME": StageCheck._volume,
    "WORKDIR": StageCheck._work_in,
}
