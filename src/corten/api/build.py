"""POST /build (the classic builder: a tar in, a stream of messages out; version=2: buildkit/post_build.py), and prune.

Decodes the query; what is known and not done is refused by name. Source: moby api/swagger.yaml, ImageBuild, BuildPrune.
"""

import base64
import binascii
from typing import TYPE_CHECKING, Any

import msgspec

from corten.api.request import Query, Request
from corten.api.response import JSON, Response, empty, json_response, streaming
from corten.api.router import Route
from corten.base.errors import InvalidArgument, Unsupported
from corten.base.files import parse_json
from corten.base.units import parse_time
from corten.build.classic import arguments_from, build_platform
from corten.engine.build_cache import Prune
from corten.engine.builds import Build, BuildRequest
from corten.engine.records import Ulimit

if TYPE_CHECKING:
    from corten.engine.engine import Engine

_WHAT = {"buildargs": "build args", "cachefrom": "cache-from"}  # parameters as errors name them


async def build(request: Request, engine: "Engine") -> Response:
    """Refusals before the first step are HTTP errors; later ones are the stream's last message."""
    asked = read_query(request.query, request.headers.get("x-registry-config", ""))
    if request.query.get("version") == "2":  # what is behind it is imported by those who ask for it
        from corten.api.buildkit.post_build import post_build

        return await post_build(request, engine, asked)
    _refuse_of_classic(request.query)
    return streaming(_Lines(await engine.builds.prepare(asked, request.stream())), JSON)


class _Lines:
    """A build's messages as JSON lines."""

    def __init__(self, build: Build) -> None:
        self._build = build
        self.aclose = build.aclose

    def __aiter__(self) -> "_Lines":
        return self

    async def __anext__(self) -> bytes:
        return b"".join(msgspec.json.encode(message) + b"\r\n" for message in await self._build.__anext__())


def read_query(query: Query, registry_config: str) -> BuildRequest:
    """Raises InvalidArgument and Unsupported."""
    _refuse(query)
    asked = BuildRequest()
    asked.tags = list(dict.fromkeys(name for name in query.all("t") if name))
    asked.dockerfile = query.get("dockerfile")
    asked.remote = query.get("remote")
    asked.build_id = query.get("buildid")
    options = asked.options
    options.arguments = arguments_from(_mapping(query, "buildargs"))
    options.labels = _mapping(query, "labels")
    if not all(isinstance(value, str) for value in options.labels.values()):
        raise InvalidArgument("error reading labels: values must be strings")
    options.target = query.get("target")
    options.platform = query.get("platform")
    build_platform(options.platform)
    options.use_cache = not query.flag("nocache")
    options.pull = query.flag("pull")
    options.quiet = query.flag("q")
    options.force_remove = query.flag("forcerm")
    options.remove = options.force_remove or not query.get("rm") or query.flag("rm")
    _read_limits(query, asked)
    asked.auths = _auths(registry_config)
    return asked


def _refuse(query: Query) -> None:
    if query.get("version") not in ("", "1", "2"):
        raise InvalidArgument(f'invalid version "{query.get("version")}"')
    if query.get("cgroupns"):
        raise Unsupported(f"the build option cgroupns={query.get('cgroupns')} is not done yet")
    if query.get("isolation") not in ("", "default"):
        raise InvalidArgument(f'unsupported isolation: "{query.get("isolation")}"')
    if query.flag("squash"):
        raise InvalidArgument("squash is only supported with experimental mode")


def _refuse_of_classic(query: Query) -> None:
    if query.get("remote") == "client-session":
        raise InvalidArgument("experimental session with v1 builder is no longer supported, use builder version v2 "
                              "(BuildKit) instead")
    if query.get("outputs"):
        raise Unsupported(f"the build option outputs={query.get('outputs')} needs BuildKit: version=2")


def _read_limits(query: Query, asked: BuildRequest) -> None:
    limits = asked.limits
    limits.memory, limits.memory_swap = query.number("memory"), query.number("memswap")
    limits.cpu_shares, limits.cpu_period = query.number("cpushares"), query.number("cpuperiod")
    limits.cpu_quota, limits.shm_size = query.number("cpuquota"), query.number("shmsize")
    limits.cpuset_cpus, limits.cpuset_mems = query.get("cpusetcpus"), query.get("cpusetmems")
    limits.cgroup_parent = query.get("cgroupparent")
    limits.network_mode = query.get("networkmode") or "default"
    limits.extra_hosts = _strings(query, "extrahosts")
    limits.security_opt = _strings(query, "securityopt")
    asked.cache_from = _strings(query, "cachefrom")
    if text := query.get("ulimits"):
        try:
            limits.ulimits = msgspec.convert(parse_json(text, limit_bytes=1 << 20), list[Ulimit] | None) or []
        except (InvalidArgument, msgspec.ValidationError) as error:
            raise InvalidArgument(f"error reading ulimit settings: {error}") from None


def _mapping(query: Query, name: str) -> dict[str, Any]:
    text = query.get(name)
    value = _parsed(name, text) if text else {}
    if value is None:
        return {}
    if not isinstance(value, dict):
        raise InvalidArgument(f"error reading {_WHAT.get(name, name)}: not a JSON object")
    return value


def _parsed(name: str, text: str) -> Any:
    try:
        return parse_json(text, limit_bytes=1 << 20, limit_depth=2)
    except InvalidArgument as error:
        raise InvalidArgument(f"error reading {_WHAT.get(name, name)}: {error}") from None


def _strings(query: Query, name: str) -> list[str]:
    """A JSON list, or the parameter given more than once, or words with commas between (extrahosts)."""
    found: list[str] = []
    for text in query.all(name):
        if not text.startswith(("[", "null")):
            found += text.split(",") if text else []
            continue
        value = _parsed(name, text)
        if value is not None and not (isinstance(value, list) and all(isinstance(item, str) for item in value)):
            raise InvalidArgument(f"error reading {_WHAT.get(name, name)}: not a list of strings")
        found += value or []
    return found


def _auths(header: str) -> dict[str, dict[str, str]]:
    """X-Registry-Config: base64 of {host: {username, password, …}}. A broken one counts as none, as for docker."""
    if not header:
        return {}
    try:
        padded = header + "=" * (-len(header) % 4)
        value = parse_json(base64.urlsafe_b64decode(padded), limit_bytes=1 << 20, limit_depth=4)
    except (binascii.Error, InvalidArgument, ValueError):
        return {}
    if not isinstance(value, dict):
        return {}
    return {host: {key: text for key, text in entry.items() if isinstance(text, str)}
            for host, entry in value.items() if isinstance(entry, dict)}


async def cancel(request: Request, engine: "Engine") -> Response:
    """End the build that was given this `buildid`; one that is not there has ended."""
    build_id = request.query.get("id")
    if not build_id:
        raise InvalidArgument("build ID not provided")
    engine.builds.cancel(build_id)
    return empty(200)


async def prune(request: Request, engine: "Engine") -> Response:
    """What was freed. Filters: `until` or `unused-for`, and those of build_cache.py."""
    query, filters = request.query, request.query.filters()
    if "label" in filters or "label!" in filters:  # of `system prune`: a cache has none
        return json_response({"CachesDeleted": None, "SpaceReclaimed": 0})
    ages = [text for name in ("until", "unused-for") for text in filters.pop(name, [])]
    asked = Prune(
        query.flag("all"), min(map(parse_time, ages), default=0), filters,
        query.number("reserved-space") or query.number("keep-storage"), query.number("max-used-space"),
        query.number("min-free-space"))
    return json_response(await engine.builds.prune(asked))


ROUTES = [
    Route("POST", "/build", build, ends_with_client=True),
    Route("POST", "/build/cancel", cancel),
    Route("POST", "/build/prune", prune),
]
