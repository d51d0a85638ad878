"""Platforms: os/architecture[/variant], and which entry of an image index suits one. Pure.

Source: OCI image-spec 1.1 image-index "platform"; the order among variants is the one docker and containerd use.
"""

import os
import re

from corten.base.errors import InvalidArgument, NotFound
from corten.oci.image_spec import INDEXES, MANIFESTS, Descriptor

_SYSTEM = r"^([A-Za-z0-9_-]+)(?:\(([A-Za-z0-9_.-]*)\))?$"
_WORD = re.compile(r"[A-Za-z0-9_.-]{1,64}", re.ASCII)
_OS = {"macos": "darwin"}
_ARCHITECTURES = {
    "x86_64": ("amd64", ""), "x86-64": ("amd64", ""), "aarch64": ("arm64", ""), "armhf": ("arm", "v7"),
    "armel": ("arm", "v6"), "armv7l": ("arm", "v7"), "armv6l": ("arm", "v6"), "i386": ("386", ""), "i686": ("386", ""),
}
# what Go knows, as containerd's platforms package lists it
_SYSTEMS = frozenset((
    "aix", "android", "darwin", "dragonfly", "freebsd", "hurd", "illumos", "ios", "js", "linux", "macos", "nacl",
    "netbsd", "openbsd", "plan9", "solaris", "windows", "zos",
))
_KNOWN = frozenset((
    "386", "amd64", "amd64p32", "arm", "armbe", "arm64", "arm64be", "loong64", "mips", "mipsle", "mips64", "mips64le",
    "ppc", "ppc64", "ppc64le", "riscv", "riscv64", "s390", "s390x", "sparc", "sparc64", "wasm",
))
_ARM = re.compile(r"v[5-8]", re.ASCII)
_AMD64 = re.compile(r"v[2-9]", re.ASCII)


class Platform:
    """os/architecture[/variant], normalised (`x86_64` is amd64, arm64/v8 is arm64); equal when all three are."""

    __slots__ = ("architecture", "os", "variant")

    def __init__(self, os_name: str, architecture: str, variant: str = "") -> None:
        self.os = _OS.get(os_name.lower(), os_name.lower())
        name = architecture.lower()
        self.architecture, implied = _ARCHITECTURES.get(name, (name, ""))
        self.variant = variant.lower() or implied
        if self.variant in ("5", "6", "7", "8"):
            self.variant = "v" + self.variant
        if (self.architecture, self.variant) in (("arm64", "v8"), ("amd64", "v1")):
            self.variant = ""

    def __str__(self) -> str:
        return "/".join(part for part in (self.os, self.architecture, self.variant) if part)

    def __repr__(self) -> str:
        return f"Platform({self!s})"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Platform) and str(self) == str(other)

    def __hash__(self) -> int:
        return hash(str(self))

    def json(self) -> dict[str, str]:
        """As a descriptor carries it."""
        found = {"architecture": self.architecture, "os": self.os}
        return {**found, "variant": self.variant} if self.variant else found


def host_platform() -> Platform:
    """This machine's."""
    return Platform("linux", os.uname().machine)


def parse_platform(text: str) -> Platform:
    """`linux/arm/v7`, `arm64` or `linux`. Raises InvalidArgument with docker's text."""
    parts = text.split("/")
    if not re.fullmatch(_SYSTEM, parts[0], re.ASCII):
        raise InvalidArgument(f'"{parts[0]}" is an invalid OS component of "{text}": OSAndVersion specifier component '
                              f'must match "{_SYSTEM}": invalid argument')
    if len(parts) > 3 or not all(_WORD.fullmatch(part) for part in parts):
        raise InvalidArgument(f'"{text}": cannot parse platform specifier: invalid argument')
    if len(parts) > 1:
        return Platform(*parts)
    word = parts[0].lower()
    if word in _SYSTEMS:
        return Platform(word, host_platform().architecture)
    if word not in _KNOWN and word not in _ARCHITECTURES:
        raise InvalidArgument(f'"{text}": unknown operating system or architecture: invalid argument')
    return Platform("linux", word)


def platform_of(fields: object) -> Platform | None:
    """The platform a descriptor or an image config states; None when it states none that can be read."""
    if not isinstance(fields, dict):
        return None
    parts = [fields.get(name) or "" for name in ("os", "architecture", "variant")]
    if not all(isinstance(part, str) for part in parts) or not parts[1]:
        return None
    return Platform(parts[0] or "linux", parts[1], parts[2])


def runs_on(wanted: Platform) -> list[Platform]:
    """What may run where `wanted` was asked for, best first: arm v7 runs v6 and v5 too, a newer amd64 the older."""
    variants: list[str] = [wanted.variant]
    if wanted.architecture == "arm":
        newest = int(wanted.variant[1:]) if _ARM.fullmatch(wanted.variant) else 7
        variants += [f"v{number}" for number in range(newest, 4, -1)] + [""]
    elif wanted.architecture == "arm64":
        variants.append("")
    elif wanted.architecture == "amd64" and _AMD64.fullmatch(wanted.variant):
        variants += [f"v{number}" for number in range(int(wanted.variant[1:]) - 1, 0, -1)]
    return [Platform(wanted.os, wanted.architecture, variant) for variant in dict.fromkeys(variants)]


def select(entries: list[Descriptor], wanted: Platform) -> Descriptor:
    """An index's entry for a platform; attestations (`unknown/unknown`) and kinds we do not know are passed over.

    An entry that states no platform is taken when it is the only one. Raises NotFound with docker's text.
    """
    usable = [
        entry for entry in entries
        if entry.media_type in MANIFESTS | INDEXES and "vnd.docker.reference.type" not in entry.annotations
    ]
    stated = [(platform_of(entry.platform), entry) for entry in usable]
    for candidate in runs_on(wanted):
        for platform, entry in stated:
            if platform == candidate:
                return entry
    if len(usable) == 1 and usable[0].platform is None:
        return usable[0]
    raise NotFound(f"no matching manifest for {wanted} in the manifest list entries")
