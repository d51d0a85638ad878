"""Provenance of an image: what it was made of and how, as an in-toto predicate (SLSA 0.2 or 1). Pure.

Never in it: what secrets and agents hold, credentials of URLs. `min` leaves build arguments and labels out too.
Source: slsa.dev/provenance, docs.docker.com/build/metadata/attestations/slsa-provenance, BuildKit's slsa-definitions.
"""

from __future__ import annotations

import base64
import urllib.parse
from collections.abc import Iterable, Mapping
from typing import Any

from corten.base.errors import InvalidArgument, Unsupported
from corten.base.units import format_time
from corten.build.link import OnTop
from corten.build.ops import Copy, MakeFolder, Operation, Run
from corten.oci import reference
from corten.oci.platform import Platform, host_platform

VERSIONS = {"v0.2": "https://slsa.dev/provenance/v0.2", "v1": "https://slsa.dev/provenance/v1"}
_TYPES = {"v0.2": "https://mobyproject.org/buildkit@v1",
          "v1": "https://github.com/moby/buildkit/blob/master/docs/attestations/slsa-definitions.md"}
_METADATA = "https://mobyproject.org/buildkit@v1#metadata"
_HOST_ONLY = frozenset(("cgroup-parent", "image-resolve-mode", "platform", "cache-imports", "frontend.caps",
                        "multi-platform", "local-sessionid", "local-sharedkeyhint", "local-uniqueid", "cmdline",
                        "source"))
_ATTRIBUTES = ("type", "mode", "version", "builder-id", "inline-only", "reproducible")
_BOOLEANS = {"true": True, "1": True, "false": False, "0": False}
_SECRET, _SSH = 1, 2  # mount types of BuildKit's operations


class Asked:
    """`attest:provenance`: its attributes, checked."""

    __slots__ = ("builder_id", "inline_only", "mode", "reproducible", "version")

    def __init__(self, text: str) -> None:
        """`mode=max,version=v1,…`. Raises InvalidArgument, Unsupported."""
        given = dict(part.partition("=")[::2] for part in text.split(",") if part)
        self.mode = {"full": "max"}.get(given.get("mode", "max"), given.get("mode", "max"))
        self.version = given.get("version", "v0.2") or "v0.2"
        if self.mode not in ("min", "max"):
            raise InvalidArgument(f'invalid mode "{self.mode}"')
        if self.version not in VERSIONS:
            raise InvalidArgument(f'invalid slsa version "{self.version}"')
        self.builder_id = given.get("builder-id", "")
        self.inline_only = _boolean(given.get("inline-only", "false"), "inline-only")
        self.reproducible = _boolean(given.get("reproducible", "false"), "reproducible")
        if unknown := [name for name in given if name not in _ATTRIBUTES]:
            raise Unsupported(f"the attribute {unknown[0]} of provenance is not done yet")


class Step:
    """An operation that was done (or remembered): on which image, which image it yielded, its lines."""

    __slots__ = ("image", "lines", "operation", "parent")

    def __init__(self, operation: Operation, parent: str, image: str, lines: tuple[int, int]) -> None:
        self.operation, self.parent, self.image, self.lines = operation, parent, image, lines


class Facts:
    """Of one image: all that provenance is made of. Times in nanoseconds since 1970; `materials`: (URI, digest).

    `sources`: an image that was built on -> its `docker-image://` name.
    """

    def __init__(self, attributes: Mapping[str, str], platform: Platform, invocation: str) -> None:
        self.attributes, self.platform, self.invocation = attributes, platform, invocation
        self.materials: list[tuple[str, str]] = []
        self.sources: dict[str, str] = {}
        self.steps: list[Step] = []
        self.dockerfile: tuple[str, bytes] = ("Dockerfile", b"")
        self.locals: list[str] = []
        self.started_ns = self.finished_ns = 0


def predicate(asked: Asked, facts: Facts) -> dict[str, Any]:
    """The predicate of the version and mode that were asked for."""
    args, complete = _arguments(asked, facts)
    request: dict[str, Any] = {"frontend": "dockerfile.v0"}
    if args:
        request["args"] = args
    if asked.mode == "max":
        request |= _lent(facts)
    if facts.locals:
        request["locals"] = [{"name": name} for name in facts.locals]
    materials = [{"uri": uri, "digest": dict([digest.split(":", 1)])} for uri, digest in facts.materials]
    config = {"path": facts.attributes.get("filename") or "Dockerfile", **_remote(facts)}
    extra = {"source": _source(facts)} if asked.mode == "max" else {}
    build = _steps(facts) if asked.mode == "max" else None
    make = _slsa1 if asked.version == "v1" else _slsa02
    return make(asked, facts, request, materials, config, extra, build, complete)


def _slsa02(asked: Asked, facts: Facts, request: Any, materials: Any, config: dict[str, Any], extra: Any, build: Any,
            complete: bool) -> dict[str, Any]:
    config = {("entryPoint" if name == "path" else name): value for name, value in config.items()}
    return {
        "builder": {"id": asked.builder_id}, "buildType": _TYPES["v0.2"],
        **({"materials": materials} if materials else {}),
        "invocation": {"configSource": config, "parameters": request,
                       "environment": {"platform": str(host_platform())}},
        **({"buildConfig": build} if build else {}),
        "metadata": {
            "buildInvocationID": facts.invocation, "buildStartedOn": format_time(facts.started_ns),
            "buildFinishedOn": format_time(facts.finished_ns),
            "completeness": {"parameters": complete, "environment": True, "materials": not facts.locals},
            "reproducible": asked.reproducible, _METADATA: extra,
        },
    }


def _slsa1(asked: Asked, facts: Facts, request: Any, materials: Any, config: dict[str, Any], extra: Any, build: Any,
           complete: bool) -> dict[str, Any]:
    return {
        "buildDefinition": {
            "buildType": _TYPES["v1"], **({"resolvedDependencies": materials} if materials else {}),
            "externalParameters": {"configSource": config, "request": request},
            "internalParameters": {**({"buildConfig": build} if build else {}),
                                   "builderPlatform": str(host_platform())},
        },
        "runDetails": {
            "builder": {"id": asked.builder_id},
            "metadata": {
                "invocationId": facts.invocation, "startedOn": format_time(facts.started_ns),
                "finishedOn": format_time(facts.finished_ns), "buildkit_metadata": extra,
                **({"buildkit_reproducible": True} if asked.reproducible else {}),
                "buildkit_completeness": {"request": complete, "resolvedDependencies": not facts.locals},
            },
        },
    }


def _arguments(asked: Asked, facts: Facts) -> tuple[dict[str, str], bool]:
    """(the front end's attributes that are told, whether that is all of them)."""
    found, complete = {}, True
    for name, value in facts.attributes.items():
        kind = name.partition(":")[0]
        if name in _HOST_ONLY or kind == "attest" or name in ("context", "filename", "contextkey", "dockerfilekey"):
            continue
        if asked.mode == "min" and kind in ("build-arg", "label"):
            complete = False
            continue
        found[name] = redacted(value) if kind in ("context", "vcs") else value
    return found, complete


def _remote(facts: Facts) -> dict[str, Any]:
    """Where the Dockerfile came from, when that was no folder of the client's."""
    place = redacted(facts.attributes.get("context", ""))
    if not place:
        return {}
    known = dict(facts.materials)
    digest = known.get(place, known.get(place.partition("#")[0], ""))
    return {"uri": place, **({"digest": dict([digest.split(":", 1)])} if digest else {})}


def _lent(facts: Facts) -> dict[str, Any]:
    """The names of secrets and agents that steps were lent."""
    found: dict[str, dict[str, bool]] = {"secrets": {}, "ssh": {}}
    for mount in _mounts(facts):
        kind = {"secret": "secrets", "ssh": "ssh"}.get(mount.kind)
        if kind:
            found[kind][_mount_id(mount)] = mount.values.get("required") != "true"
    return {kind: [{"id": name, **({"optional": True} if optional else {})} for name, optional in sorted(names.items())]
            for kind, names in found.items() if names}


def _mounts(facts: Facts) -> Iterable[Any]:
    return (mount for step in facts.steps if isinstance(step.operation, Run) for mount in step.operation.step.mounts)


def _mount_id(mount: Any) -> str:
    return str(mount.values.get("id") or ("default" if mount.kind == "ssh" else
                                          mount.values.get("target", "").rpartition("/")[2]))


def _steps(facts: Facts) -> dict[str, Any]:
    """The graph of operations, as BuildKit lists its own; steps that only change the configuration are none."""
    numbers: dict[str, int] = {}
    nodes: list[dict[str, Any]] = []
    for image, name in facts.sources.items():
        numbers[image] = len(nodes)
        nodes.append({"id": f"step{len(nodes)}", "op": {"Op": {"source": {"identifier": name}}, "constraints": {}}})
    for step in facts.steps:
        operation = _operation(step.operation)
        if operation is None:
            if step.parent in numbers:
                numbers[step.image] = numbers[step.parent]
            continue
        inputs = [f"step{numbers[step.parent]}:0"] if step.parent in numbers else []
        numbers[step.image] = len(nodes)
        nodes.append({"id": f"step{len(nodes)}", "op": {"Op": operation, "constraints": {}},
                      **({"inputs": inputs} if inputs else {})})
    return {"llbDefinition": nodes}


def _operation(operation: Operation) -> dict[str, Any] | None:
    operation = operation.copied if isinstance(operation, OnTop) else operation
    if isinstance(operation, Run):
        step = operation.step
        meta = {"args": step.program, "env": step.environment, "cwd": step.working_dir}
        mounts: list[dict[str, Any]] = [{"dest": "/"}]
        for mount in step.mounts:
            told: dict[str, Any] = {"dest": mount.target}
            if mount.kind == "secret":
                told |= {"mountType": _SECRET, "secretOpt": {"ID": _mount_id(mount)}}
            elif mount.kind == "ssh":
                told |= {"mountType": _SSH, "SSHOpt": {"ID": _mount_id(mount)}}
            mounts.append(told)
        return {"exec": {"meta": meta | ({"user": step.user} if step.user else {}), "mounts": mounts}}
    if isinstance(operation, Copy):
        names = [piece.path if piece.tree is not None else piece.name for piece in operation.pieces]
        copies = [{"copy": {"src": f"/{name.lstrip('/')}", "dest": operation.destination}} for name in names]
        return {"file": {"actions": [{"Action": copy} for copy in copies]}}
    if isinstance(operation, MakeFolder):
        folder = {"path": operation.path, "mode": 0o755, "makeParents": True}
        return {"file": {"actions": [{"Action": {"mkdir": folder}}]}}
    return None


def _source(facts: Facts) -> dict[str, Any]:
    name, text = facts.dockerfile
    places = {}
    number = len(facts.sources)
    for step in facts.steps:
        if _operation(step.operation) is not None:
            ranges = [{"start": {"line": step.lines[0]}, "end": {"line": step.lines[1]}}]
            places[f"step{number}"] = {"locations": [{"ranges": ranges}]}
            number += 1
    info = {"filename": name, "language": "Dockerfile", "data": base64.b64encode(text).decode()}
    return {"locations": places, "infos": [info]}


def package_url(name: str, platform: Platform | None) -> str:
    """An image's name as a package URL: `pkg:docker/busybox@latest?platform=linux%2Famd64`."""
    parsed = reference.parse(name)
    parsed = parsed if parsed.digest else parsed.with_default_tag()
    qualifiers = {"digest": parsed.digest, "platform": str(platform or "")}
    query = "&".join(f"{key}={urllib.parse.quote(value, safe=':')}" for key, value in qualifiers.items() if value)
    path = urllib.parse.quote(parsed.familiar_name(), safe="/")
    return f"pkg:docker/{path}" + (f"@{parsed.tag}" if parsed.tag else "") + (f"?{query}" if query else "")


def redacted(url: str) -> str:
    """A URL without the password (and the token that stands in the user's place)."""
    scheme, separator, rest = url.partition("://")
    host, slash, path = rest.partition("/")
    if not separator or "@" not in host:
        return url
    return f"{scheme}://xxxxx@{host.rpartition('@')[2]}{slash}{path}"


def _boolean(text: str, name: str) -> bool:
    if text.lower() not in _BOOLEANS:
        raise InvalidArgument(f"failed to parse {name} flag {text!r}")
    return _BOOLEANS[text.lower()]
