"""The default seccomp profile for one set of capabilities: the field's profile (data) as a runtime spec section. Pure.

The file's rules carry conditions (`includes`, `excludes` by capability, architecture, kernel); the runtime spec's have
none, so they are resolved here, once a set of capabilities. Compiling to BPF is the runtime's.
"""

import os
import platform
from functools import lru_cache
from importlib import resources
from typing import Any

import msgspec

from corten.base.errors import InvalidArgument

_ARCHITECTURES = {"x86_64": ("amd64", "SCMP_ARCH_X86_64"), "aarch64": ("arm64", "SCMP_ARCH_AARCH64")}


@lru_cache(maxsize=1)
def _profile() -> dict[str, Any]:
    found: dict[str, Any] = msgspec.json.decode(
        resources.files("corten.oci").joinpath("seccomp_default.json").read_bytes()
    )
    return found


def _kernel() -> tuple[int, int]:
    major, _, rest = platform.release().partition(".")
    minor = "".join(c if c.isdigit() else " " for c in rest).split()
    return int(major), int(minor[0]) if minor else 0


def _holds(condition: dict[str, Any], capabilities: frozenset[str], arch: str, every: bool) -> bool:
    """Whether a rule's condition holds; `every`: all of the capabilities named (includes) or any one (excludes)."""
    named = condition.get("caps") or []
    if named and not (all(n in capabilities for n in named) if every else any(n in capabilities for n in named)):
        return False
    arches = condition.get("arches") or []
    if arches and arch not in arches:
        return False
    wanted = condition.get("minKernel")
    if wanted:
        major, _, minor = str(wanted).partition(".")
        if _kernel() < (int(major), int(minor or 0)):
            return False
    return bool(named or arches or wanted) or every


def resolve(profile: dict[str, Any], capabilities: frozenset[str]) -> dict[str, Any]:
    """A profile in Docker's form as `linux.seccomp` of the runtime spec. Raises InvalidArgument on a bad one."""
    arch, native = _ARCHITECTURES[os.uname().machine]
    try:
        architectures = [native]
        for entry in profile.get("archMap") or []:
            if entry["architecture"] == native:
                architectures += entry.get("subArchitectures") or []
        rules = []
        for rule in profile.get("syscalls") or []:
            excludes = rule.get("excludes") or {}
            if not _holds(rule.get("includes") or {}, capabilities, arch, True):
                continue
            if excludes and _holds(excludes, capabilities, arch, False):
                continue
            names = rule.get("names") or [rule["name"]]
            kept: dict[str, Any] = {"names": names, "action": rule["action"]}
            for key in ("errnoRet", "args"):
                if rule.get(key) is not None:
                    kept[key] = rule[key]
            rules.append(kept)
        section: dict[str, Any] = {"defaultAction": profile["defaultAction"], "architectures": architectures}
        for key in ("defaultErrnoRet", "flags"):
            if profile.get(key) is not None:
                section[key] = profile[key]
    except (KeyError, TypeError, AttributeError) as error:
        raise InvalidArgument(f"invalid seccomp profile: {error!r}") from None
    section["syscalls"] = rules
    return section


@lru_cache(maxsize=64)
def default_section(capabilities: frozenset[str]) -> msgspec.Raw:
    """The default profile for these capabilities, already as JSON: it is the same bytes for nearly every container."""
    return msgspec.Raw(msgspec.json.encode(resolve(_profile(), capabilities)))


@lru_cache(maxsize=8)
def custom_section(text: str, capabilities: frozenset[str]) -> msgspec.Raw:
    """A profile given with the request. Raises InvalidArgument."""
    try:
        profile = msgspec.json.decode(text, type=dict[str, Any])
    except msgspec.MsgspecError as error:
        raise InvalidArgument(f"invalid --security-opt: decoding seccomp profile failed: {error}") from None
    return msgspec.Raw(msgspec.json.encode(resolve(profile, capabilities)))
