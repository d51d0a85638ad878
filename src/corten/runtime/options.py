"""Command-line options of corten-oci: a table, and the loop that reads by it. argparse would cost 6 ms."""

from corten.base.errors import InvalidArgument

TYPE_CHECKING = False
if TYPE_CHECKING:
    Options = dict[str, "str | bool | list[str]"]

FLAG = "flag"  # no value
TEXT = "text"  # one value, the last wins
MANY = "many"  # each use adds a value


class BadUsage(InvalidArgument):
    """What was called makes no command: exit code 1, exec's as well."""


def parse(
    words: list[str], table: dict[str, tuple[str, str]], interspersed: bool = True
) -> "tuple[Options, list[str]]":
    """(options by name, the other words). `table`: written form (`-b`, `--bundle`) -> (name, kind).

    With `interspersed` False the first word that is no option ends them: what follows is a program's own. `--` always
    does. Raises InvalidArgument.
    """
    found: Options = {}
    rest: list[str] = []
    at = 0
    while at < len(words):
        word = words[at]
        at += 1
        if word == "--":
            return found, rest + words[at:]
        if not word.startswith("-") or word == "-":
            rest.append(word)
            if not interspersed:
                return found, rest + words[at:]
            continue
        written, equals, value = word.partition("=")
        if written not in table and f"-{written}" in table:
            written = f"-{written}"  # Go's flag package takes one dash for two
        if written not in table:
            raise BadUsage(f"flag provided but not defined: {written}")
        name, kind = table[written]
        if kind == FLAG:
            found[name] = not equals or value in ("true", "1", "t")
            continue
        if not equals:
            if at >= len(words):
                raise BadUsage(f"flag needs an argument: {written}")
            value = words[at]
            at += 1
        if kind == MANY:
            kept = found.setdefault(name, [])
            assert isinstance(kept, list)
            kept.append(value)
        else:
            found[name] = value
    return found, rest


def absolute(path: str) -> str:
    """os.path.abspath, without the import of os (1.5 ms) for a path that is as it should be."""
    if path.startswith("/") and "//" not in path and "/." not in path and not path.endswith("/"):
        return path
    import os

    return os.path.abspath(path)


def text(options: "Options", name: str, default: str = "") -> str:
    value = options.get(name, default)
    return value if isinstance(value, str) else default


def texts(options: "Options", name: str) -> list[str]:
    value = options.get(name)
    return value if isinstance(value, list) else []
