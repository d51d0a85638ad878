"""`corten builder du`: what the build cache holds, as `docker buildx du` lists it. GET /system/df?type=build-cache."""

import sys

from corten.base import jsonio
from corten.base.human import human_size
from corten.cli import clock
from corten.cli.args import Values
from corten.cli.errors import Failure
from corten.cli.main import Cli
from corten.cli.table import Listing, Row, aligned

Record = dict[str, object]
_HEADERS = {"ID": "ID", "Reclaimable": "RECLAIMABLE", "Size": "SIZE", "LastUsedSince": "LAST ACCESSED"}
_TEXTS = {"id": "ID", "type": "Type", "description": "Description"}
_SWITCHES = {"inuse": "InUse", "shared": "Shared", "mutable": "Mutable"}


def _size(record: Record) -> int:
    found = record.get("Size")
    return found if isinstance(found, int) else 0


def _ago(record: Record) -> str:
    seconds = clock.seconds_of(str(record.get("LastUsedAt") or record.get("CreatedAt") or ""))
    return clock.ago(seconds) if seconds else ""


def _is_free(record: Record) -> bool:
    return not record.get("InUse") and not record.get("Shared")


def _fits(record: Record, filters: list[str]) -> bool:
    """Raises Failure for a filter that is not known."""
    for text in filters:
        name, _, value = text.partition("=")
        exact = name.rstrip("~!").lower()
        if exact in _TEXTS:
            have = str(record.get(_TEXTS[exact], ""))
            fits = value in have if name.endswith("~") else have == value
        elif exact in _SWITCHES:
            fits = bool(record.get(_SWITCHES[exact])) == (value.lower() in ("", "true", "1"))
        else:
            raise Failure(f"invalid filter {name}: the build cache knows {', '.join((*_TEXTS, *_SWITCHES))}")
        if not fits:
            return False
    return True


def _verbose(record: Record) -> str:
    parents = record.get("Parents")
    rows = [
        ("ID", record.get("ID")), *(("Parent", parent) for parent in (parents if isinstance(parents, list) else [])),
        ("Created at", record.get("CreatedAt")), ("Mutable", str(bool(record.get("Mutable"))).lower()),
        ("Reclaimable", str(_is_free(record)).lower()), ("Shared", str(bool(record.get("Shared"))).lower()),
        ("Size", human_size(_size(record))), ("Description", record.get("Description")),
        ("Usage count", record.get("UsageCount")), ("Last used", _ago(record)), ("Type", record.get("Type")),
    ]
    return aligned([[f"{name}:", str(value)] for name, value in rows if value not in (None, "")]) + "\n"


def du(cli: Cli, values: Values) -> None:
    """`corten builder du`"""
    form = values.text("format")
    found = cli.client.call("GET", "/system/df", [("type", "build-cache")])
    listed = found.get("BuildCache") if isinstance(found, dict) else None
    records = [one for one in listed or [] if isinstance(one, dict)] if isinstance(listed, list) else []
    records = [one for one in records if _fits(one, values.many("filter"))]
    if values.flag("verbose") or form == "pretty":
        sys.stdout.write("".join(_verbose(one) for one in records))
    elif form == "json":
        sys.stdout.write("".join(jsonio.dumps(one) + "\n" for one in records))
        return
    else:
        rows: list[Row] = []
        for one in records:
            rows.append({**one, "ID": str(one.get("ID", "")), "Reclaimable": str(_is_free(one)).lower(),
                         "Size": human_size(_size(one)), "LastUsedSince": _ago(one)})
        Listing("*formatter.buildCache", _HEADERS, tuple(_HEADERS)).show(rows, form)
        if form:
            return
    shared = sum(_size(one) for one in records if one.get("Shared"))
    total = sum(_size(one) for one in records)
    free = sum(_size(one) for one in records if _is_free(one))
    sums = [["Shared:", human_size(shared)], ["Private:", human_size(total - shared)]] if shared else []
    sys.stdout.write(aligned([*sums, ["Reclaimable:", human_size(free)], ["Total:", human_size(total)]]))


def version(cli: Cli, _values: Values) -> None:
    """`corten buildx version`"""
    from corten import __version__

    cli.out(f"corten {__version__}: BuildKit's protocol, spoken by the engine itself")
