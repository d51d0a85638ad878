"""`corten images --tree`: each image with its platforms below it."""

import os

from corten.base.human import human_size
from corten.cli import filters
from corten.cli.args import Values
from corten.cli.errors import Failure
from corten.cli.main import Cli
from corten.cli.reference import short_id
from corten.cli.table import ellipsis

_COLUMNS = (("ID", 12), ("DISK USAGE", 10), ("CONTENT SIZE", 12), ("EXTRA", 5))
_GAP = "   "
_LEAST = 12  # columns for names
_WIDTH = 80  # where there is no terminal
_REFUSED = (("quiet", "--quiet"), ("no-trunc", "--no-trunc"), ("digests", "--show-digest"))

Json = dict[str, object]


class _Line:
    """An image or one of its platforms: what it is called, and the values of the columns."""

    __slots__ = ("name", "values")

    def __init__(self, name: str, identity: str, sizes: tuple[int, int], used: bool) -> None:
        disk, content = (human_size(size, 3) for size in sizes)
        self.name = name
        self.values = (short_id(identity), f"{disk:>10}", f"{content:>12}", "U    " if used else "     ")


def show(cli: Cli, values: Values) -> None:
    """GET /images/json?manifests=1. Raises Failure for flags that docker does not combine with it."""
    for name, shown in _REFUSED:
        if values.flag(name):
            raise Failure(f"{shown} is not yet supported with --tree")
    if values.text("format"):
        raise Failure("--format is not yet supported with --tree")
    wanted = values.many("filter")
    if values.rest:
        wanted = [*wanted, f"reference={values.rest[0]}"]
    query = [("all", "1")] if values.flag("all") else []
    found = cli.client.call("GET", "/images/json", [*query, ("manifests", "1"), *filters.query(wanted)])
    images = [one for one in found if isinstance(one, dict)] if isinstance(found, list) else []
    images.sort(key=lambda one: -(one.get("Created") or 0))
    groups = [group for one in images if (group := _group(one, values.flag("all")))]
    try:
        width = os.get_terminal_size(1).columns
    except OSError:
        width = _WIDTH
    cli.out("WARNING: This is an experimental feature. The output may change and shouldn't be depended on.")
    cli.out("Info ->  U In Use ".rjust(width) + "\n")
    _draw(cli, groups, width)


def _group(image: Json, everything: bool) -> tuple[list[str], _Line, list[_Line]] | None:
    """(names that come before, the image's line, its platforms'); None for one without a name unless all are wanted."""
    names = [str(name) for name in image.get("RepoTags") or []]  # type: ignore[attr-defined]
    names.sort(key=lambda name: (-len(name), name))
    if not names and not everything:
        return None
    platforms, content = [], 0
    for manifest in image.get("Manifests") or []:  # type: ignore[attr-defined]
        data, size = manifest.get("ImageData") or {}, manifest.get("Size") or {}
        content += size.get("Content") or 0
        if manifest.get("Kind") != "image":
            continue
        platforms.append(_Line(_platform(data.get("Platform") or {}), str(manifest.get("ID")),
                               (size.get("Total") or 0, size.get("Content") or 0), bool(data.get("Containers"))))
    used = isinstance(count := image.get("Containers"), int) and count > 0
    disk = image.get("Size")
    *before, last = names or ["<untagged>"]
    top = _Line(last, str(image.get("Id")), (disk if isinstance(disk, int) else 0, content), used)
    return before, top, platforms


def _platform(fields: Json) -> str:
    parts = (str(fields.get(name) or "") for name in ("os", "architecture", "variant"))
    return "/".join(part for part in parts if part) or "unknown"


def _draw(cli: Cli, groups: list[tuple[list[str], _Line, list[_Line]]], width: int) -> None:
    left, count = width, 0
    for _, columns in _COLUMNS:
        if left - columns - len(_GAP) < _LEAST:
            break
        left, count = left - columns - len(_GAP), count + 1
    widest = len("IMAGE")
    for before, top, platforms in groups:
        widest = max(widest, *(len(name) for name in (*before, top.name)), *(len(one.name) + 7 for one in platforms))
    first = min(left, widest)
    titles = [("IMAGE", first), *_COLUMNS[:count]]
    cli.out(_GAP.join(_bold(title) + " " * (columns - len(title)) for title, columns in titles).rstrip(" "))
    for before, top, platforms in groups:
        for name in before:
            cli.out(name)
        _row(cli, top.name, top, first, count)
        for at, one in enumerate(platforms):
            _row(cli, ("└─ " if at == len(platforms) - 1 else "├─ ") + one.name, one, first, count)
        cli.out("")


def _bold(text: str) -> str:
    return f"\x1b[39m\x1b[1m{text}\x1b[0m"


def _row(cli: Cli, name: str, line: _Line, first: int, count: int) -> None:
    cli.out(_GAP.join((ellipsis(name, first).ljust(first), *line.values[:count])))
