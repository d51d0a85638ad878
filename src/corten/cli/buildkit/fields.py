"""Values of flags that are lists of fields (`type=local,dest=out`), and the files they name. Pure but for `folder`."""

import os

from corten.cli.args import split_csv
from corten.cli.errors import Failure


def fields(text: str, flag: str) -> dict[str, str]:
    """`a=b,c=d` -> {"a": "b", "c": "d"}, names in lower case. Raises Failure."""
    found: dict[str, str] = {}
    for part in _split(text, flag):
        name, equals, value = part.partition("=")
        if not equals:
            raise Failure(f'invalid value {part} in {flag} "{text}": must be a key=value pair')
        found[name.strip().lower()] = value
    return found


def _split(text: str, flag: str) -> list[str]:
    try:
        return split_csv(text)
    except ValueError as error:
        raise Failure(f'invalid argument "{text}" for {flag}: {error}') from None


def has_fields(text: str) -> bool:
    """Whether it is such a list, and not a single plain word."""
    return "=" in text.split(",", 1)[0]


def folder(path: str, what: str) -> str:
    """The real path of a folder that must be there. Raises Failure."""
    found = os.path.realpath(os.path.expanduser(path) if path.startswith("~/") else path)
    if not os.path.isdir(found):
        state = "is not a directory" if os.path.exists(found) else "not found"
        raise Failure(f"ERROR: {what}: path {path} {state}")
    return found
