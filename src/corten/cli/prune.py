"""`corten … prune`: ask, then remove what nothing uses."""

import sys

from corten.base.human import human_size
from corten.cli import filters
from corten.cli.args import Values
from corten.cli.errors import Failure
from corten.cli.main import Cli

Reply = dict[str, object]


def _confirmed(cli: Cli, values: Values, warning: str) -> bool:
    if values.flag("force"):
        return True
    sys.stdout.write(f"{warning}\nAre you sure you want to continue? [y/N] ")
    sys.stdout.flush()
    answer = sys.stdin.readline()
    if answer.strip().lower() in ("y", "yes"):
        return True
    if not answer:
        sys.stdout.write("\n")
    return False


def _prune(cli: Cli, values: Values, path: str, extra: list[str] | None = None) -> Reply:
    found = cli.client.call("POST", path, filters.query([*values.many("filter"), *(extra or [])]))
    return found if isinstance(found, dict) else {}


def _listed(cli: Cli, title: str, names: list[object]) -> None:
    if names:
        cli.out(f"{title}:")
        for name in names:
            cli.out(str(name))
        cli.out("")


def _names(found: Reply, key: str) -> list[object]:
    value = found.get(key)
    return value if isinstance(value, list) else []


def _reclaimed(found: Reply) -> int:
    value = found.get("SpaceReclaimed")
    return value if isinstance(value, int) else 0


def _total(cli: Cli, size: int) -> None:
    cli.out(f"Total reclaimed space: {human_size(size)}")


def container(cli: Cli, values: Values) -> None:
    """`corten container prune`"""
    if not _confirmed(cli, values, "WARNING! This will remove all stopped containers."):
        return
    found = _prune(cli, values, "/containers/prune")
    _listed(cli, "Deleted Containers", _names(found, "ContainersDeleted"))
    _total(cli, _reclaimed(found))


def _image_lines(found: Reply) -> list[object]:
    lines: list[object] = []
    for one in _names(found, "ImagesDeleted"):
        if isinstance(one, dict):
            lines.append(f"untagged: {one['Untagged']}" if one.get("Untagged") else f"deleted: {one.get('Deleted')}")
    return lines


def image(cli: Cli, values: Values) -> None:
    """`corten image prune`"""
    everything = values.flag("all")
    warning = ("WARNING! This will remove all images without at least one container associated to them." if everything
               else "WARNING! This will remove all dangling images.")
    if not _confirmed(cli, values, warning):
        return
    found = _prune(cli, values, "/images/prune", [f"dangling={'false' if everything else 'true'}"])
    _listed(cli, "Deleted Images", _image_lines(found))
    _total(cli, _reclaimed(found))


def volume(cli: Cli, values: Values) -> None:
    """`corten volume prune`"""
    everything = values.flag("all")
    warning = ("WARNING! This will remove all local volumes not used by at least one container." if everything
               else "WARNING! This will remove anonymous local volumes not used by at least one container.")
    if not _confirmed(cli, values, warning):
        return
    found = _prune(cli, values, "/volumes/prune", ["all=true"] if everything else [])
    _listed(cli, "Deleted Volumes", _names(found, "VolumesDeleted"))
    _total(cli, _reclaimed(found))


def network(cli: Cli, values: Values) -> None:
    """`corten network prune`"""
    if not _confirmed(cli, values, "WARNING! This will remove all custom networks not used by at least one container."):
        return
    found = _prune(cli, values, "/networks/prune")
    _listed(cli, "Deleted Networks", _names(found, "NetworksDeleted"))


def builder(cli: Cli, values: Values) -> None:
    """`corten builder prune`"""
    everything = values.flag("all")
    warning = ("WARNING! This will remove all build cache." if everything
               else "WARNING! This will remove all dangling build cache.")
    if not _confirmed(cli, values, warning):
        return
    found = _build_cache(cli, values, everything)
    _listed(cli, "Deleted build cache objects", _names(found, "CachesDeleted"))
    _total(cli, _reclaimed(found))


def _build_cache(cli: Cli, values: Values, everything: bool) -> Reply:
    query = [("all", "1")] if everything else []
    for flag, name in (("keep-storage", "reserved-space"), ("reserved-space", "reserved-space"),
                       ("max-used-space", "max-used-space"), ("min-free-space", "min-free-space")):
        if values.has(flag):
            query.append((name, str(values.number(flag))))
    found = cli.client.call("POST", "/build/prune", query + filters.query(values.many("filter")))
    return found if isinstance(found, dict) else {}


def system(cli: Cli, values: Values) -> None:
    """`corten system prune`"""
    everything, volumes = values.flag("all"), values.flag("volumes")
    if volumes and any(text.startswith("until") for text in values.many("filter")):
        raise Failure('ERROR: The "until" filter is not supported with "--volumes"')
    what = ["all stopped containers", "all networks not used by at least one container"]
    if volumes:
        what.append("all anonymous volumes not used by at least one container")
    what.append("all images without at least one container associated to them" if everything else "all dangling images")
    what.append("all build cache" if everything else "unused build cache")
    lines = "\n".join(f"  - {one}" for one in what)
    if values.many("filter"):
        lines += "\n\n  Items to be pruned will be filtered with:\n" + "\n".join(
            f"  - {text}" for text in sorted(values.many("filter")))
    if not _confirmed(cli, values, f"WARNING! This will remove:\n{lines}\n"):
        return
    containers = _prune(cli, values, "/containers/prune")
    _listed(cli, "Deleted Containers", _names(containers, "ContainersDeleted"))
    networks = _prune(cli, values, "/networks/prune")
    _listed(cli, "Deleted Networks", _names(networks, "NetworksDeleted"))
    space = _reclaimed(containers)
    if volumes:
        found = _prune(cli, values, "/volumes/prune")
        _listed(cli, "Deleted Volumes", _names(found, "VolumesDeleted"))
        space += _reclaimed(found)
    images = _prune(cli, values, "/images/prune", [f"dangling={'false' if everything else 'true'}"])
    _listed(cli, "Deleted Images", _image_lines(images))
    cache = _build_cache(cli, values, everything)
    _listed(cli, "Deleted build cache objects", _names(cache, "CachesDeleted"))
    _total(cli, space + _reclaimed(images) + _reclaimed(cache))
