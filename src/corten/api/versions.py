"""API versions: negotiation, the headers every answer carries, and what older versions show differently, as data.

Sources: moby api/docs/CHANGELOG.md and the answers of dockerd 28.
"""

import re
from typing import Any

import msgspec

from corten.base.errors import InvalidArgument

NEWEST = (1, 51)
OLDEST = (1, 24)
SERVER = "corten/0.1.0 (linux)"

Version = tuple[int, int]

_PREFIX = re.compile(r"/v([0-9.]+)(/.*)", re.ASCII | re.DOTALL)


def version_text(version: Version) -> str:
    """(1, 51) -> `1.51`."""
    return f"{version[0]}.{version[1]}"


def split_version(path: str) -> tuple[Version | None, str]:
    """`/v1.43/info` -> ((1, 43), "/info"); a bare path has no version. An odd number reads as (0, 0): too old."""
    if path[:2] != "/v":
        return None, path
    found = _PREFIX.fullmatch(path)
    if not found:
        return None, path
    major, _, minor = found[1].partition(".")
    if not (major.isdigit() and minor.isdigit() and len(found[1]) < 10):
        return (0, 0), found[2]
    return (int(major), int(minor)), found[2]


def check_version(version: Version) -> None:
    """Raises InvalidArgument with docker's text when the client is too new or too old."""
    if version > NEWEST:
        raise InvalidArgument(
            f"client version {version_text(version)} is too new. "
            f"Maximum supported API version is {version_text(NEWEST)}"
        )
    if version < OLDEST:
        raise InvalidArgument(
            f"client version {version_text(version)} is too old. Minimum supported API version is "
            f"{version_text(OLDEST)}, please upgrade your client to a newer version"
        )


COMMON_HEADERS: list[tuple[str, str]] = [
    ("Api-Version", version_text(NEWEST)),
    ("Docker-Experimental", "false"),
    ("Ostype", "linux"),
    ("Server", SERVER),
]
PING_HEADERS: list[tuple[str, str]] = [
    ("Builder-Version", "1"),
    ("Cache-Control", "no-cache, no-store, must-revalidate"),
    ("Pragma", "no-cache"),
    ("Swarm", "inactive"),
]


class Change:
    """What clients before `since` see: fields that came with it are dropped, fields that left with it are put back.

    A field is a path: `Config.MacAddress`; `[]` steps into a list, `{}` into every value of an object.
    """

    __slots__ = ("drop", "put", "route", "since")

    def __init__(
        self, route: str, since: Version, drop: tuple[str, ...] = (), put: dict[str, Any] | None = None,
    ) -> None:
        self.route = route
        self.since = since
        self.drop = drop
        self.put = put or {}


_INSPECT = "GET /containers/{}/json"
_IMAGE = "GET /images/{}/json"
_RUNTIME_CONFIG: dict[str, Any] = {
    "Config.Hostname": "", "Config.Domainname": "", "Config.AttachStdin": False, "Config.AttachStdout": False,
    "Config.AttachStderr": False, "Config.Tty": False, "Config.OpenStdin": False, "Config.StdinOnce": False,
    "Config.Image": "",
}
_EXPECTED = {f"{name}.Expected": "" for name in ("ContainerdCommit", "RuncCommit", "InitCommit")}

CHANGES: tuple[Change, ...] = (
    Change("GET /images/json", (1, 51), put={"[].Containers": -1}),
    Change(_IMAGE, (1, 50), put=_RUNTIME_CONFIG),
    Change("GET /info", (1, 50), ("DiscoveredDevices",), {"BridgeNfIptables": False, "BridgeNfIp6tables": False}),
    Change("GET /info", (1, 49), ("FirewallBackend",), {
        **_EXPECTED, "RegistryConfig.AllowNondistributableArtifactsCIDRs": None,
        "RegistryConfig.AllowNondistributableArtifactsHostnames": None,
    }),
    Change(_INSPECT, (1, 48), ("ImageManifestDescriptor", "NetworkSettings.Networks.{}.GwPriority")),
    Change("GET /containers/json", (1, 48), (
        "[].ImageManifestDescriptor", "[].NetworkSettings.Networks.{}.GwPriority",
    )),
    Change(_IMAGE, (1, 45), put={"Container": ""}),
    Change(_IMAGE, (1, 48), ("Descriptor", "Manifests")),
    Change("GET /images/json", (1, 48), ("[].Descriptor",)),
    Change("GET /networks", (1, 48), ("[].EnableIPv4",)),
    Change("GET /networks/{}", (1, 48), ("EnableIPv4",)),
    Change("GET /images/json", (1, 47), ("[].Manifests",)),
    Change("GET /containers/json", (1, 46), ("[].HostConfig.Annotations",)),
    Change("GET /info", (1, 46), ("Containerd",)),
    Change(_INSPECT, (1, 44), ("NetworkSettings.Networks.{}.DNSNames",)),
    Change("GET /info", (1, 44), ("CDISpecDirs", "Runtimes.{}.status")),
    Change("GET /info", (1, 42), put={"KernelMemory": False, "KernelMemoryTCP": False}),
    Change("GET /system/df", (1, 42), ("BuildCache.[].Parents",), {"BuilderSize": 0}),
    Change("GET /info", (1, 41), ("CgroupVersion", "DefaultAddressPools")),
)

_BY_ROUTE: dict[str, list[Change]] = {}
for _change in CHANGES:
    _BY_ROUTE.setdefault(_change.route, []).append(_change)


def for_version(route: str, version: Version, value: Any) -> Any:
    """`value` as clients of `version` know it. The newest version and unlisted routes get it as it is."""
    if version >= NEWEST:
        return value
    changes = [change for change in _BY_ROUTE.get(route, ()) if version < change.since]
    if not changes:
        return value
    value = msgspec.to_builtins(value, str_keys=True)
    for change in changes:
        for field in change.drop:
            _apply(value, field.split("."), None, drop=True)
        for field, old in change.put.items():
            _apply(value, field.split("."), old, drop=False)
    return value


def _apply(value: Any, path: list[str], old: Any, *, drop: bool) -> None:
    step, rest = path[0], path[1:]
    if step == "[]" or step == "{}":
        inner = value if isinstance(value, list) else list(value.values()) if isinstance(value, dict) else []
        for each in inner:
            _apply(each, rest, old, drop=drop)
    elif not isinstance(value, dict):
        return
    elif rest:
        if step in value:
            _apply(value[step], rest, old, drop=drop)
    elif drop:
        value.pop(step, None)
    elif step == "Containers":
        value[step] = old  # a value that changed its meaning, not a field that came back
    else:
        value.setdefault(step, old)
