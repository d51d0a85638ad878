"""`corten build --check`: what is doubtful in a Dockerfile, as `docker build --check` tells it; nothing is built."""

import os
from collections.abc import Mapping

from corten.cli.args import Values
from corten.cli.errors import Failure
from corten.cli.main import Cli

TYPE_CHECKING = False
if TYPE_CHECKING:
    from corten.build.dockerignore import Ignore


def check(cli: Cli, values: Values, path: str, text: bytes, arguments: dict[str, str | None],
          ignore: "Ignore | None") -> None:
    """Print the findings in the Dockerfile at `path`. Raises Failure when there are any."""
    from corten.build import requests
    from corten.build.excerpt import excerpt

    def bases(name: str) -> Mapping[str, object] | None:
        try:
            image = cli.client.call("GET", f"/images/{name}/json")
        except Failure:
            return None
        config = image.get("Config") if isinstance(image, dict) else None
        return config if isinstance(config, dict) else {}

    question = requests.Question(text, path, arguments, values.text("target"), ignore, bases)
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
