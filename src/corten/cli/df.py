"""`corten system df`: what takes room on the disk."""

import sys

from corten.base.human import human_size
from corten.cli import clock
from corten.cli.args import Values
from corten.cli.containers import COLUMNS, HEADERS, row_of
from corten.cli.errors import Failure
from corten.cli.images import rows_of
from corten.cli.main import Cli
from corten.cli.table import Listing, Row
from corten.cli.volumes import row_of as volume_row

Json = dict[str, object]

_HEADERS = {"Type": "TYPE", "TotalCount": "TOTAL", "Active": "ACTIVE", "Size": "SIZE", "Reclaimable": "RECLAIMABLE"}


def _list(found: Json, name: str) -> list[Json]:
    value = found.get(name)
    return [one for one in value if isinstance(one, dict)] if isinstance(value, list) else []


def _number(value: Json, name: str) -> int:
    found = value.get(name)
    return found if isinstance(found, int) else 0


def _usage(value: Json, name: str) -> int:
    usage = value.get("UsageData")
    return _number(usage, name) if isinstance(usage, dict) else 0


def _share(part: int, total: int) -> str:
    return f"{human_size(part)} ({part * 100 // total}%)" if total > 0 else human_size(part)


def _row(kind: str, total: int, active: int, size: int, reclaimable: str) -> Row:
    return {"Active": str(active), "Reclaimable": reclaimable, "Size": human_size(size), "TotalCount": str(total),
            "Type": kind}


def _summary(found: Json) -> list[Row]:
    images, containers = _list(found, "Images"), _list(found, "Containers")
    volumes, caches = _list(found, "Volumes"), _list(found, "BuildCache")
    layers = _number(found, "LayersSize")
    used = sum(_number(one, "Size") - max(_number(one, "SharedSize"), 0)
               for one in images if _number(one, "Containers") > 0 and _number(one, "Size") != -1)
    stopped = sum(_number(one, "SizeRw") for one in containers
                  if one.get("State") not in ("running", "paused", "restarting"))
    written = sum(_number(one, "SizeRw") for one in containers)
    in_volumes = sum(_usage(one, "Size") for one in volumes if _usage(one, "Size") > 0)
    unused = sum(_usage(one, "Size") for one in volumes if not _usage(one, "RefCount") and _usage(one, "Size") > 0)
    cached = sum(_number(one, "Size") for one in caches if not one.get("Shared"))
    free = sum(_number(one, "Size") for one in caches if not one.get("InUse") and not one.get("Shared"))
    return [
        _row("Images", len(images), sum(_number(one, "Containers") > 0 for one in images), layers,
             _share(max(layers - used, 0), layers)),
        _row("Containers", len(containers),
             sum(str(one.get("State")) in ("running", "paused", "restarting") for one in containers), written,
             _share(stopped, written)),
        _row("Local Volumes", len(volumes), sum(_usage(one, "RefCount") > 0 for one in volumes), in_volumes,
             _share(unused, in_volumes)),
        _row("Build Cache", len(caches), sum(bool(one.get("InUse")) for one in caches), cached, human_size(free)),
    ]


def _image_rows(found: Json) -> list[Row]:
    rows = []
    for image in _list(found, "Images"):
        shared = max(_number(image, "SharedSize"), 0)
        for row in rows_of(image, True, False):
            rows.append({**row, "SharedSize": human_size(shared),
                         "UniqueSize": human_size(_number(image, "Size") - shared)})
    return rows


def _verbose(found: Json) -> str:
    containers = []
    for one in _list(found, "Containers"):
        containers.append({**row_of(one, True), "Size": human_size(_number(one, "SizeRw"), 3)})
    volumes = [volume_row(one) for one in _list(found, "Volumes")]
    caches: list[Row] = []
    for one in _list(found, "BuildCache"):
        caches.append({
            "ID": str(one.get("ID", ""))[:12], "CacheType": str(one.get("Type", "")),
            "Size": human_size(_number(one, "Size"), 3), "CreatedSince": _ago(one.get("CreatedAt")),
            "LastUsedSince": _ago(one.get("LastUsedAt")), "UsageCount": str(_number(one, "UsageCount")),
            "Shared": "true" if one.get("Shared") else "false",
        })
    image_headers = {"Repository": "REPOSITORY", "Tag": "TAG", "ID": "IMAGE ID", "CreatedSince": "CREATED",
                     "Size": "SIZE", "SharedSize": "SHARED SIZE", "UniqueSize": "UNIQUE SIZE",
                     "Containers": "CONTAINERS"}
    container_columns = ("ID", "Image", "Command", "LocalVolumes", "Size", "RunningFor", "Status", "Names")
    assert set(container_columns) <= {*COLUMNS, "LocalVolumes", "Size"}
    volume_headers = {"Name": "VOLUME NAME", "Links": "LINKS", "Size": "SIZE"}
    cache_headers = {"ID": "CACHE ID", "CacheType": "CACHE TYPE", "Size": "SIZE", "CreatedSince": "CREATED",
                     "LastUsedSince": "LAST USED", "UsageCount": "USAGE", "Shared": "SHARED"}
    total = human_size(sum(_number(one, "Size") for one in _list(found, "BuildCache") if not one.get("Shared")))
    return (
        "Images space usage:\n\n"
        + Listing("", image_headers, tuple(image_headers)).text(_image_rows(found))
        + "\nContainers space usage:\n\n"
        + Listing("", HEADERS, container_columns).text(containers)
        + "\nLocal Volumes space usage:\n\n"
        + Listing("", volume_headers, tuple(volume_headers)).text(volumes)
        + f"\nBuild cache usage: {total}\n\n"
        + Listing("", cache_headers, tuple(cache_headers)).text(caches)
    )


def _ago(text: object) -> str:
    seconds = clock.seconds_of(text) if isinstance(text, str) else 0.0
    return clock.ago(seconds) if seconds else ""


def df(cli: Cli, values: Values) -> None:
    """`corten system df`. GET /system/df."""
    form = values.text("format")
    if values.flag("verbose") and form:
        raise Failure("the verbose and the format option conflict")
    found = cli.client.call("GET", "/system/df")
    assert isinstance(found, dict)
    if values.flag("verbose"):
        sys.stdout.write(_verbose(found))
        return
    Listing("*formatter.diskUsageContext", _HEADERS, tuple(_HEADERS)).show(_summary(found), form)
