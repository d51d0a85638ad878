"""`corten build --check` and `--call`: what is doubtful in a Dockerfile, what it takes and has; nothing is built.

No engine is needed, except for what bases bring of variables.
"""

import os
from collections.abc import Mapping

from corten.cli.args import Values
from corten.cli.build_classic import dockerfile_of, ignore_rules
from corten.cli.build_stdin import stdin_pieces
from corten.cli.buildkit.contexts import is_remote
from corten.cli.buildkit.flags import build_arguments
from corten.cli.errors import Failure
from corten.cli.main import Cli

TYPE_CHECKING = False
if TYPE_CHECKING:
    from corten.build.dockerignore import Ignore
    from corten.build.requests import Question


_METHODS = {"check": "frontend.lint", "lint": "frontend.lint", "outline": "frontend.outline",
            "targets": "frontend.targets", "subrequests.describe": "frontend.subrequests.describe"}


class _Asked:
    """The Dockerfile a command line names: its text, the name it is shown by, what of its context is left out."""

    def __init__(self, values: Values) -> None:
        path, file = values.rest[0], values.text("file")
        self.ignore: Ignore | None = None
        if path == "-" or file == "-":
            self.shown, self.text = "Dockerfile", b"".join(stdin_pieces(b""))
            return
        name, outside = dockerfile_of(os.path.realpath(path), path, file)
        self.shown = file or os.path.join(path, name)
        _, self.ignore = ignore_rules(os.path.realpath(path), name)
        if outside is None:
            with open(self.shown, "rb") as opened:
                outside = opened.read()
        self.text = outside


def call(cli: Cli, values: Values, text: str) -> None:
    """`--call METHOD[,format=json]`. Raises Failure: for check, when something is found."""
    from corten.base.errors import Error
    from corten.build import requests

    method, *options = text.split(",")
    if method not in _METHODS:
        raise Failure(f"ERROR: unsupported call method {method}")
    if any(option not in ("format=json", "format=text", "ignorestatus=true", "ignorestatus") for option in options):
        raise Failure(f'ERROR: invalid call "{text}": format=json, format=text and ignorestatus are known')
    if is_remote(values.rest[0]):
        raise Failure(f"ERROR: --call {method} of a remote context is not done")
    question = _question(cli, values, _Asked(values))
    if _METHODS[method] == requests.LINT and "format=json" not in options:
        try:
            _check(cli, question)
        except Failure as failure:
            if not any(option.startswith("ignorestatus") for option in options):
                raise
            cli.error(failure.text)
        return
    try:
        found = requests.answer(_METHODS[method], question)
    except Error as error:
        raise Failure(f"ERROR: failed to solve: {error}") from None
    cli.out(found["result.json" if "format=json" in options else "result.txt"].decode("utf-8", "replace").rstrip("\n"))
    if found.get("result.statuscode") == b"1" and not any(option.startswith("ignorestatus") for option in options):
        raise Failure("")


def _question(cli: Cli, values: Values, asked: _Asked) -> "Question":
    from corten.build import requests

    def bases(name: str) -> Mapping[str, object] | None:
        try:
            image = cli.client.call("GET", f"/images/{name}/json")
        except Failure:
            return None
        config = image.get("Config") if isinstance(image, dict) else None
        return config if isinstance(config, dict) else {}

    arguments = dict(build_arguments(values))
    return requests.Question(asked.text, asked.shown, arguments, values.text("target"), asked.ignore, bases)


def _check(cli: Cli, question: "Question") -> None:
    """Print the findings. Raises Failure when there are any."""
    from corten.build import requests
    from corten.build.excerpt import excerpt

    path, text = question.name, question.text
    findings, error = requests.check(question)
    lines = text.decode("utf-8", "surrogateescape").split("\n")
    if error is None or findings:
        number = f"{len(findings)} warning{'s' if len(findings) > 1 else ''} {'have' if len(findings) > 1 else 'has'}"
        cli.out(f"Check complete, {number} been found!" if findings else "Check complete, no warnings found.")
    for finding in findings:
        cli.out(f"\nWARNING: {finding.rule} - {finding.url}\n{finding.message}\n"
                + excerpt(path, lines, finding.line, finding.end_line).rstrip("\n"))
    if error is not None:
        shown = excerpt(path, lines, error.line, error.end_line).rstrip("\n")
        raise Failure("\n".join(part for part in (requests.message(error), shown) if part))
    if findings:
        raise Failure("")


def with_excerpt(failure: Failure, path: str) -> Failure:
    """A failure that names a line of the Dockerfile, with that line shown."""
    from corten.build.excerpt import excerpt

    _, _, rest = failure.text.partition("dockerfile parse error on line ")
    digits = rest.partition(":")[0]
    if not digits.isascii() or not digits.isdigit() or not os.path.isfile(path):
        return failure
    with open(path, encoding="utf-8", errors="surrogateescape") as file:
        shown = excerpt(path, file.read().split("\n"), int(digits), int(digits))
    return Failure(f"{shown}{failure.text}", failure.code)
