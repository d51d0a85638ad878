"""Build arguments: what ARG declares, what the caller gives, and who used what. Pure.

Source: the Dockerfile reference, "ARG", "Predefined ARGs", "Automatic platform ARGs in the global scope".
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING

from corten.build.variables import Expander
from corten.oci.platform import Platform, host_platform

if TYPE_CHECKING:
    from corten.build.instructions import Plan

PREDEFINED = frozenset(
    name for word in ("http_proxy", "https_proxy", "ftp_proxy", "no_proxy", "all_proxy")
    for name in (word, word.upper())
)
ARCHITECTURE = {"x86_64": "amd64", "aarch64": "arm64", "armv7l": "arm", "riscv64": "riscv64"}.get(
    os.uname().machine, os.uname().machine)


def platform_arguments(target: str = "", platform: Platform | None = None) -> dict[str, str]:
    """The arguments every build has in its global scope: the machine's platform, the one that is built for (None: the
    same), and the name of the stage that is built."""
    own = host_platform()
    found = {
        f"{side}{what}": value
        for side, one in (("TARGET", platform or own), ("BUILD", own))
        for what, value in (("PLATFORM", str(one)), ("OS", one.os), ("OSVERSION", ""), ("ARCH", one.architecture),
                            ("VARIANT", one.variant))
    }
    return {**found, "TARGETSTAGE": target or "default"}


def global_arguments(plan: Plan, given: Mapping[str, str]) -> tuple[dict[str, str], set[str]]:
    """What FROM may use with the caller's arguments, and the names that are declared. Raises InvalidArgument."""
    known = platform_arguments(plan.stages[-1].name)
    known.update({name: value for name, value in given.items() if name in known})
    declared: set[str] = set()
    for command in plan.meta_args:
        for name, default in command.pairs:
            declared.add(name)
            value = given.get(name)
            if value is None and default is not None:
                value = Expander(known, plan.escape).word(default)
            if value is not None:
                known[name] = value
    return known, declared


class BuildArguments:
    """One build's arguments; `stage()` gives a stage its own, empty, set of declarations."""

    __slots__ = ("_allowed", "_given", "_global", "_referenced")

    def __init__(self, given: Mapping[str, str | None], target: str = "", platform: Platform | None = None) -> None:
        """target: the name of the stage that is built; platform: what it is built for, None for the machine's own."""
        self._given = dict(given)
        known = platform_arguments(target, platform)
        self._global: dict[str, str | None] = {name: self._given.get(name) or text for name, text in known.items()}
        self._allowed: dict[str, str | None] = {}
        self._referenced: set[str] = set()

    def stage(self, base: BuildArguments | None = None) -> BuildArguments:
        """The same build seen from a new stage: nothing declared yet but what the stage it begins with has."""
        other = BuildArguments.__new__(BuildArguments)
        other._given, other._global, other._referenced = self._given, self._global, self._referenced
        other._allowed = dict(base._allowed) if base else {}
        return other

    def declare_global(self, name: str, default: str | None) -> None:
        """ARG before the first FROM."""
        self._referenced.add(name)
        self._global[name] = self._given.get(name, default)

    def declare(self, name: str, default: str | None) -> None:
        """ARG in a stage."""
        self._referenced.add(name)
        self._allowed[name] = default

    def global_values(self) -> dict[str, str]:
        """What FROM may use."""
        return {name: value for name, value in self._global.items() if value is not None}

    def values(self) -> dict[str, str]:
        """What this stage's instructions see: declared ones, and predefined ones that were given."""
        found = {name: value for name, value in self._given.items() if name in PREDEFINED and value is not None}
        for name, default in self._allowed.items():
            value = self._given.get(name)
            if value is None:
                value = default if default is not None else self._global.get(name)
            if value is not None:
                found[name] = value
        return found

    def for_run(self, environment: Iterable[str]) -> dict[str, str]:
        """`values()` without those that ENV has set: what a RUN gets besides the image's environment."""
        taken = {item.partition("=")[0] for item in environment}
        return {name: value for name, value in self.values().items() if name not in taken}

    def recorded(self, values: Mapping[str, str]) -> list[str]:
        """`name=value` of those that belong into cache key and history: not a proxy that nobody declared."""
        return sorted(f"{name}={value}" for name, value in values.items()
                      if name not in PREDEFINED or name in self._allowed)

    def in_order(self, variables: Mapping[str, str]) -> list[str]:
        """`name=value` of all that are declared, in order, as instructions see them."""
        return [f"{name}={variables.get(name, '')}" for name in self._allowed]

    def unused(self) -> list[str]:
        """Given, and declared nowhere."""
        return sorted(name for name in self._given if name not in self._referenced and name not in PREDEFINED)
