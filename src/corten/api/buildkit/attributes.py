"""Attributes of the front end `dockerfile.v0`, read into a BuildRequest; what is known and not done is refused by name.

Source: moby/buildkit frontend/dockerui/config.go and attr.go.
"""

from collections.abc import Mapping

from corten.api.buildkit.progress import VertexTeller
from corten.base.errors import InvalidArgument, Unsupported
from corten.base.units import parse_number
from corten.build.classic import check_platform
from corten.engine.builds import BuildRequest
from corten.engine.records import Ulimit

NETWORK_HOST = "network.host"
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
            _refuse_attestation(rest, value)
        elif kind not in _KNOWN:
            raise Unsupported(f"the build attribute {name} is not done yet")
    uncached = attributes.get("no-cache")
    options.uncached_stages = frozenset(name.strip().lower() for name in (uncached or "").split(",") if name.strip())
    options.use_cache = uncached is None or bool(options.uncached_stages)
    options.pull = attributes.get("image-resolve-mode") == "pull"
    options.target = attributes.get("target", "")
    options.platform = attributes.get("platform", "")
    if "," in options.platform:
        raise Unsupported(f"building for several platforms at once ({options.platform}) is not done yet")
    check_platform(options.platform)
    _read_limits(attributes, request)
    if request.limits.network_mode == "host" and NETWORK_HOST not in entitlements:
        raise InvalidArgument(f"{NETWORK_HOST} is not allowed")
    return request


def _refuse_attestation(kind: str, value: str) -> None:
    if value == "disabled=true" or "inline-only=true" in value.split(","):
        return  # not wanted, or only where it costs nothing
    raise Unsupported(f"attestations are not made yet: {kind} (--provenance=false --sbom=false)")


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
