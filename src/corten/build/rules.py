"""The build checks by name: what each says, where it is explained, and which a Dockerfile switches off. Pure.

Source: Docker's "Build checks" reference and the Dockerfile reference, "check"; names and texts are theirs.
"""

from __future__ import annotations

from corten.base.errors import InvalidArgument

_URL = "https://docs.docker.com/go/dockerfile/rule/{}/"

RULES = {
    "StageNameCasing": "Stage names should be lowercase",
    "FromAsCasing": "The 'as' keyword should match the case of the 'from' keyword",
    "NoEmptyContinuation": "Empty continuation lines will become errors in a future release",
    "ConsistentInstructionCasing": "All commands within the Dockerfile should use the same casing (either upper or "
                                   "lower)",
    "DuplicateStageName": "Stage names should be unique",
    "ReservedStageName": "Reserved words should not be used as stage names",
    "JSONArgsRecommended": "JSON arguments recommended for ENTRYPOINT/CMD to prevent unintended behavior related to OS "
                           "signals",
    "MaintainerDeprecated": "The MAINTAINER instruction is deprecated, use a label instead to define an image author",
    "UndefinedArgInFrom": "FROM command must use declared ARGs",
    "WorkdirRelativePath": "Relative workdir without an absolute workdir declared within the build can have unexpected "
                           "results if the base image changes",
    "UndefinedVar": "Variables should be defined before their use",
    "MultipleInstructionsDisallowed": "Multiple instructions of the same type should not be used in the same stage",
    "LegacyKeyValueFormat": "Legacy key/value format with whitespace separator should not be used",
    "RedundantTargetPlatform": "Setting platform to predefined $TARGETPLATFORM in FROM is redundant as this is the "
                               "default behavior",
    "SecretsUsedInArgOrEnv": "Sensitive data should not be used in the ARG or ENV commands",
    "InvalidDefaultArgInFrom": "Default value for global ARG results in an empty or invalid base image name",
    "FromPlatformFlagConstDisallowed": "FROM --platform flag should not use a constant value",
    "CopyIgnoredFile": "Attempting to Copy file that is excluded by .dockerignore",
    "InvalidDefinitionDescription": "Comment for build stage or argument should follow the format: `# <arg/stage name> "
                                    "<description>`. If this is not intended to be a description comment, add an empty "
                                    "line or comment between the instruction and the comment.",
    "ExposeProtoCasing": "Protocol in EXPOSE instruction should be lowercase",
    "ExposeInvalidFormat": "IP address and host-port mapping should not be used in EXPOSE instruction. This will "
                           "become an error in a future release",
}
EXPERIMENTAL = frozenset({"InvalidDefinitionDescription"})  # off unless asked for


def url_of(rule: str) -> str:
    """Where a rule is explained: `JSONArgsRecommended` -> …/json-args-recommended/."""
    words = rule.replace("JSON", "Json")
    return _URL.format("".join(f"-{char.lower()}" if char.isupper() else char for char in words).lstrip("-"))


class Finding:
    """A rule broken at `line` to `end_line`; 0: at no line of the file."""

    __slots__ = ("end_line", "line", "message", "rule")

    def __init__(self, rule: str, message: str, line: int, end_line: int) -> None:
        self.rule, self.message, self.line, self.end_line = rule, message, line, end_line

    @property
    def description(self) -> str:
        return RULES[self.rule]

    @property
    def url(self) -> str:
        return url_of(self.rule)

    @property
    def short(self) -> str:
        """One line, as a build's warning shows it."""
        return f"{self.rule}: {self.message}" + (f" (line {self.line})" if self.line else "")


class Settings:
    """`skip=A,B;experimental=C;error=true`; a set of "all" names every rule."""

    __slots__ = ("error", "experimental", "skip")

    def __init__(self, skip: frozenset[str] = frozenset(), experimental: frozenset[str] = frozenset(),
                 error: bool = False) -> None:
        self.skip, self.experimental, self.error = skip, experimental, error

    def wants(self, rule: str) -> bool:
        """Whether the rule is looked at."""
        if rule in EXPERIMENTAL:
            return bool(self.experimental & {rule, "all"})
        return not self.skip & {rule, "all"}

    def joined(self, other: Settings) -> Settings:
        """Both of them."""
        return Settings(self.skip | other.skip, self.experimental | other.experimental, self.error)


def read_settings(text: str) -> Settings:
    """The value of `# check=…` or of the build argument BUILDKIT_DOCKERFILE_CHECK. Raises InvalidArgument."""
    sets: dict[str, frozenset[str]] = {}
    error = False
    for part in text.strip().split(";", 2) if text.strip() else ():
        name, equals, value = part.partition("=")
        name, value = name.strip(), value.strip()
        if not equals or name not in ("skip", "experimental", "error"):
            raise InvalidArgument(f'failed to parse check options: invalid check option "{name if equals else part}"')
        if name != "error":
            sets[name] = frozenset(word.strip() for word in value.split(","))
        elif value not in ("1", "t", "T", "TRUE", "true", "True", "0", "f", "F", "FALSE", "false", "False"):
            raise InvalidArgument(f'failed to parse check options: failed to parse check option "{part}": '
                                  f'strconv.ParseBool: parsing "{value}": invalid syntax')
        else:
            error = value in ("1", "t", "T", "TRUE", "true", "True")
    return Settings(sets.get("skip", frozenset()), sets.get("experimental", frozenset()), error)
