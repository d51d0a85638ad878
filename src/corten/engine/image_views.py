"""Images as docker's JSON: list, inspect, history. Reads only.

Source: Engine API 1.51, `ImageSummary`, `ImageInspect`, `HistoryResponseItem`; compared with dockerd in the tests.
"""

import fnmatch
import re
from collections import Counter
from typing import TYPE_CHECKING, Any

from corten.base.errors import InvalidArgument
from corten.base.units import ZERO_TIME, format_time, parse_time
from corten.engine.image_platforms import descriptor, is_shown_by_another, manifests, shown_as
from corten.image.gc import layer_users
from corten.image.records import Image
from corten.oci import reference

if TYPE_CHECKING:
    from corten.engine.images import Images

_LIST_FILTERS = frozenset(("before", "dangling", "label", "reference", "since", "until"))
_TRUE = frozenset(("1", "true", "True", "t", "T", "TRUE"))
_FALSE = frozenset(("0", "false", "False", "f", "F", "FALSE"))


def created_ns(image: Image) -> int:
    """When it was made, by its own word; 0 when it has none."""
    text = image.config.get("created")
    if not isinstance(text, str) or not text or text == ZERO_TIME:
        return 0
    try:
        return parse_time(text)
    except InvalidArgument:
        return 0


def check_filters(filters: dict[str, list[str]], known: frozenset[str]) -> None:
    """Raise InvalidArgument for a filter nobody knows."""
    for name in filters:
        if name not in known:
            raise InvalidArgument(f"invalid filter '{name}'")


def truth(filters: dict[str, list[str]], name: str, default: bool | None) -> bool | None:
    """A boolean filter. Raises InvalidArgument."""
    values = filters.get(name)
    if not values:
        return default
    if all(value in _TRUE for value in values):
        return True
    if all(value in _FALSE for value in values):
        return False
    raise InvalidArgument(f"invalid filter '{name}=[{' '.join(values)}]'")


def moment(text: str) -> int:
    """A filter's time or duration before now, in nanoseconds. Raises InvalidArgument."""
    try:
        return parse_time(text)
    except InvalidArgument:
        raise InvalidArgument(f'failed to parse value as time or duration: "{text}"') from None


def has_label(image: Image, wanted: str) -> bool:
    """`key` or `key=value`."""
    labels = image.container_config.get("Labels") or {}
    key, separator, value = wanted.partition("=")
    return key in labels and (not separator or labels[key] == value)


def list_images(images: "Images", everything: bool, filters: dict[str, list[str]],
                shared_size: bool, with_manifests: bool = False) -> list[dict[str, Any]]:
    """GET /images/json."""
    check_filters(filters, _LIST_FILTERS)
    dangling = truth(filters, "dangling", None)
    before = [created_ns(images.find(value)) for value in filters.get("before", ())]
    before += [moment(value) for value in filters.get("until", ())]
    since = [created_ns(images.find(value)) for value in filters.get("since", ())]
    users = layer_users(images.store) if shared_size else {}
    containers = Counter(shown_as(images, record.image_id) for record in images.engine.containers)
    parents = {image.record.parent for image in images.store.images.values()}
    parents.update(digest for image in images.store.images.values() for digest in image.record.kept
                   if digest != image.id)  # other platforms
    found = []
    for image in images.store.images.values():
        made = created_ns(image)
        if any(made >= moment for moment in before) or any(made <= moment for moment in since):
            continue
        if not all(has_label(image, wanted) for wanted in filters.get("label", ())):
            continue
        names, digests = image.names, image.digests
        if "reference" in filters:
            names = [name for name in names if _matches(name, filters["reference"])]
            digests = [name for name in digests if _matches(name, filters["reference"])]
            if not names and not digests:
                continue
        if not image.names and not image.digests:
            if image.record.part:
                continue
            if image.id in parents and (not everything or dangling is not None):
                continue
            if dangling is False or is_shown_by_another(images, image):
                continue
        elif dangling:
            continue
        row = {**_summary(images, image, names, digests, users), "Containers": containers[image.id]}
        row.update(_platforms(images, image, with_manifests))
        found.append(row)
    found.sort(key=lambda summary: (-summary["Created"], summary["Id"]))
    return found


def _platforms(images: "Images", image: Image, with_manifests: bool) -> dict[str, Any]:
    """What the API tells of an image of several platforms, of any when `Manifests` is asked for."""
    found: dict[str, Any] = {"Descriptor": described} if (described := descriptor(images, image)) else {}
    if with_manifests and (known := manifests(images, image)):
        found["Manifests"] = known
    return found


def usage(images: "Images") -> tuple[list[dict[str, Any]], int]:
    """The images' rows of `system df`: sizes are of layers and blobs on the disk. The host image takes nothing."""
    store = images.store
    rows = []
    for row in list_images(images, False, {}, False):
        image = store.images[row["Id"]]
        if not image.is_host:
            rows.append({**row, "Size": store.disk_bytes(image), "SharedSize": store.disk_bytes(image, shared=True)})
    return rows, store.usage_bytes()


def _matches(name: str, patterns: list[str]) -> bool:
    """Go's path.Match on the familiar name, with and without the tag: a star stays within one path part."""
    bare = reference.parse(name).familiar_name()
    return any(_path_match(pattern, name) or _path_match(pattern, bare) for pattern in patterns)


def _path_match(pattern: str, name: str) -> bool:
    if re.search(r"\[(?![^\]]+\])|\\$", pattern):
        raise InvalidArgument("syntax error in pattern")
    parts, wanted = name.split("/"), pattern.split("/")
    return len(parts) == len(wanted) and all(
        fnmatch.fnmatchcase(part, want) for part, want in zip(parts, wanted, strict=True))


def _summary(images: "Images", image: Image, names: list[str], digests: list[str],
             users: dict[str, int]) -> dict[str, Any]:
    shared = -1
    if users:
        shared = sum(images.store.layers[chain].size for chain in image.record.chain_ids if users[chain] > 1)
    return {
        "Created": created_ns(image) // 1_000_000_000, "Id": image.id,
        "Labels": image.container_config.get("Labels"), "ParentId": image.record.parent, "RepoDigests": digests,
        "RepoTags": names, "SharedSize": shared, "Size": image.size,
    }


_CONFIG_ALWAYS = ("Cmd", "Entrypoint", "Env", "Labels", "OnBuild", "Volumes")
_CONFIG_TEXTS = ("User", "WorkingDir")
_CONFIG_GIVEN = ("ArgsEscaped", "ExposedPorts", "Healthcheck", "Shell", "StopSignal")


def inspect(images: "Images", image: Image, with_manifests: bool = False) -> dict[str, Any]:
    """GET /images/{name}/json."""
    own, config = image.container_config, image.config
    shown: dict[str, Any] = {name: own.get(name) for name in _CONFIG_ALWAYS}
    shown.update({name: own.get(name) or "" for name in _CONFIG_TEXTS})
    shown.update({name: own[name] for name in _CONFIG_GIVEN if own.get(name)})
    history = config.get("history") or []
    made = created_ns(image)
    rootfs: dict[str, Any] = {"Type": "layers"}
    if image.diff_ids:
        rootfs["Layers"] = image.diff_ids
    found = {
        "Id": image.id, "RepoTags": image.names, "RepoDigests": image.digests, "Parent": image.record.parent,
        "Comment": config.get("comment") or (history[-1].get("comment", "") if history else ""),
        "Created": format_time(made) if made else ZERO_TIME, "DockerVersion": config.get("docker_version") or "",
        "Author": config.get("author") or "", "Architecture": config.get("architecture") or "",
        "Variant": config.get("variant"), "Os": config.get("os") or "linux", "OsVersion": config.get("os.version"),
        "Size": image.size, "GraphDriver": {"Data": _driver_data(images, image), "Name": images.store.snapshots.driver},
        "RootFS": rootfs,
        "Metadata": {"LastTagTime": format_time(image.record.tagged_ns)}, "Config": shown,
        **_platforms(images, image, with_manifests),
    }
    return {name: value for name, value in found.items() if value is not None}


def made_by(image: Image) -> list[str] | None:
    """The words of its newest step: `|2 A=1 B=2 command` begins with the build's arguments."""
    steps = image.config.get("history") or [{}]
    text = steps[-1].get("created_by") or ""
    if not isinstance(text, str) or not text:
        return None
    count = re.match(r"\|([0-9]{1,3}) ", text, re.ASCII)
    return text.split(" ", int(count[1]) + 1) if count else [text]


def _driver_data(images: "Images", image: Image) -> dict[str, str] | None:
    """Where its files are: docker shows a merged and a work folder too, ours exist for containers only."""
    folders = images.store.snapshots.view(image.layers)
    if not folders or images.store.snapshots.copies:
        return None
    found = {"UpperDir": folders[0]}
    if folders[1:]:
        found["LowerDir"] = ":".join(folders[1:])
    return found


def history(images: "Images", image: Image) -> list[dict[str, Any]]:
    """GET /images/{name}/history: the config's own history with the sizes of the layers it made."""
    layers = images.store.layers
    sizes = iter([layers[chain].size if chain in layers else blob.size  # a platform that nobody unpacked
                  for chain, blob in zip(image.record.chain_ids, image.record.blobs, strict=True)])
    found: list[dict[str, Any]] = []
    for step in image.config.get("history") or []:
        size = 0 if step.get("empty_layer") else next(sizes, 0)
        found.append({
            "Comment": step.get("comment") or "", "Created": _seconds(step.get("created")),
            "CreatedBy": step.get("created_by") or "", "Id": "<missing>", "Size": size, "Tags": None,
        })
    found.reverse()
    at: Image | None = image
    for item in found:  # the ancestors that are images here have ids and names of their own
        if at is None:
            break
        item["Id"], item["Tags"] = at.id, at.names or None
        at = images.store.get(at.record.parent) if at.record.parent else None
    return found


def _seconds(text: object) -> int:
    if not isinstance(text, str) or not text:
        return -62135596800  # Go's zero time
    try:
        return parse_time(text) // 1_000_000_000
    except InvalidArgument:
        return -62135596800
