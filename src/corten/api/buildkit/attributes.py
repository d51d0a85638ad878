"""Attributes of the front end `dockerfile.v0`, read into a BuildRequest; what is known and not done is refused by name.

Source: moby/buildkit frontend/dockerui/config.go and attr.go.
"""

from collections.abc import Mapping

from corten.api.buildkit.progress import VertexTeller
from corten.base.errors import InvalidArgument, Unsupported
from corten.base.units import parse_number
from corten.build.classic import build_platform
from corten.build.provenance import Asked
from corten.engine.builds import BuildRequest
from corten.engine.records import Ulimit

NETWORK_HOST = "network.host"
_PLATFORMS_LIMIT = 32
_DISABLED = "disabled=true"
# read below or elsewhere, or of no effect on what is built
_KNOWN = frozenset((
    "cmdline", "contextkey", "dockerfilekey", "contextsubdir", "frontend.caps", "force-network-mode", "local-sessionid",
    "local-sharedkeyhint", "local-uniqueid", "multi-platform", "shm-size", "source", "vcs", "image-resolve-mode",
    "no-cache", "filename", "target", "platform", "add-hosts", "cgroup-parent", "context", "cache-imports", "ulimit",
    "requestid", "input-metadata", "sharedkey", "build-arg", "label",
))


def read_attributes(attributes: Mapping[str, str], entitlements: frozenset[str]) -> BuildRequest:
    """Raises Unsupported for what is known and not done, InvalidArgument.

    The contexts, which need the client, are contexts.py's.
    """
    request = BuildRequest()
    request.teller = VertexTeller
    options = request.options
    options.buildkit = True
    for name, value in attributes.items():
        kind, _, rest = name.partition(":")
        if kind == "build-arg":
            options.arguments[rest] = value
        elif kind == "label":
            options.labels[rest] = value
        elif kind == "attest":
            _check_attestation(rest, value)
        elif kind not in _KNOWN:
            raise Unsupported(f"the build attribute {name} is not done yet")
    uncached = attributes.get("no-cache")
    options.uncached_stages = frozenset(name.strip().lower() for name in (uncached or "").split(",") if name.strip())
    options.use_cache = uncached is None or bool(options.uncached_stages)
    options.pull = attributes.get("image-resolve-mode") == "pull"
    options.target = attributes.get("target", "")
    _read_platforms(attributes, request)
    _read_limits(attributes, request)
    if request.limits.network_mode == "host" and NETWORK_HOST not in entitlements:
        raise InvalidArgument(f"{NETWORK_HOST} is not allowed")
    return request


def _read_platforms(attributes: Mapping[str, str], request: BuildRequest) -> None:
    """`platform`: one, or several with commas. Raises InvalidArgument, Unsupported."""
    found = [str(build_platform(text.strip())) for text in attributes.get("platform", "").split(",") if text.strip()]
    found = list(dict.fromkeys(found))
    if len(found) > _PLATFORMS_LIMIT:
        raise InvalidArgument(f"more than {_PLATFORMS_LIMIT} platforms at once")
    several = len(found) > 1 or attributes.get("multi-platform", "").lower() in ("true", "1")
    request.options.platform = found[0] if found else ""
    request.options.platforms = found if several else []


def provenance_of(attributes: Mapping[str, str]) -> Asked | None:
    """What provenance the client wants. Raises InvalidArgument, Unsupported."""
    value = attributes.get("attest:provenance")
    return None if value is None or _DISABLED in value.split(",") else Asked(value)


def _check_attestation(kind: str, value: str) -> None:
    if _DISABLED in value.split(","):
        return
    if kind == "sbom":
        raise Unsupported("attestations of kind sbom are not made: the generator would be another image's program "
                          "(--sbom=false)")
    if kind != "provenance":
        raise Unsupported(f"attestations of kind {kind} are not made: --attest type={kind}")
    Asked(value)


def _read_limits(attributes: Mapping[str, str], request: BuildRequest) -> None:
    limits = request.limits
    mode = attributes.get("force-network-mode", "")
    limits.network_mode = {"": "default", "sandbox": "default"}.get(mode, mode)
    limits.cgroup_parent = attributes.get("cgroup-parent", "")
    limits.extra_hosts = [entry.replace("=", ":", 1) for entry in attributes.get("add-hosts", "").split(",") if entry]
    limits.shm_size = parse_number(attributes.get("shm-size") or "0", "shm-size")
    limits.ulimits = [_ulimit(text) for text in attributes.get("ulimit", "").split(",") if text]


def _ulimit(text: str) -> Ulimit:
    """`name=soft[:hard]`. Raises InvalidArgument."""
    name, _, values = text.partition("=")
    soft, _, hard = values.partition(":")
    numbers = [-1 if number == "-1" else parse_number(number, "ulimit") for number in (soft, hard or soft)]
    return Ulimit(name=name, soft=numbers[0], hard=numbers[1])
