"""The registry protocol as data: what it accepts, authentication challenges, error bodies, ranges. Pure.

Source: OCI distribution-spec 1.1; RFC 9110 11.6.1 (challenges) and 14.4 (Content-Range); docker's token protocol.
"""

import re

from corten.base.errors import InvalidArgument
from corten.base.files import parse_json
from corten.oci.image_spec import DOCKER_INDEX, DOCKER_MANIFEST, OCI_INDEX, OCI_MANIFEST

# what a manifest request says it takes; schema 1 is not among it
ACCEPT = ", ".join((DOCKER_MANIFEST, DOCKER_INDEX, OCI_MANIFEST, OCI_INDEX))
SCHEMA1_TYPES = (
    "application/vnd.docker.distribution.manifest.v1+json", "application/vnd.docker.distribution.manifest.v1+prettyjws",
)

_WORD = r"[!#$%&'*+.^_`|~0-9A-Za-z-]+"
_SCHEME = re.compile(rf"[ \t,]*({_WORD})(?:[ \t]+|[ \t]*(?=,|$))", re.ASCII)
_PARAMETER = re.compile(rf'[ \t]*({_WORD})[ \t]*=[ \t]*(?:"((?:[^"\\]|\\.)*)"|({_WORD}))[ \t]*(,|$)', re.ASCII | re.S)
_TOKEN68 = re.compile(r"[ \t]*[0-9A-Za-z._~+/-]+=*[ \t]*(,|$)", re.ASCII)
_CHALLENGE_LIMIT_BYTES = 16 << 10
_TEXT_LIMIT = 2000  # characters of an error's text
_CONTENT_RANGE = re.compile(r"bytes ([0-9]{1,18})-([0-9]{1,18})/(?:([0-9]{1,18})|\*)", re.ASCII)
_UPLOAD_RANGE = re.compile(r"(?:bytes=)?([0-9]{1,18})-([0-9]{1,18})", re.ASCII)


class Challenge:
    """One way to authenticate that a server offers: `scheme` in lower case, `parameters` by lower-case name."""

    __slots__ = ("parameters", "scheme")

    def __init__(self, scheme: str, parameters: dict[str, str]) -> None:
        self.scheme = scheme
        self.parameters = parameters

    def get(self, name: str) -> str:
        """The parameter, "" when absent."""
        return self.parameters.get(name, "")


def parse_challenges(header: str) -> list[Challenge]:
    """The challenges of a WWW-Authenticate header, in its order; what cannot be read ends the list. Never raises."""
    found: list[Challenge] = []
    if len(header) > _CHALLENGE_LIMIT_BYTES:
        return found
    at = 0
    while at < len(header) and (scheme := _SCHEME.match(header, at)):
        at = scheme.end()
        parameters: dict[str, str] = {}
        while parameter := _PARAMETER.match(header, at):
            name, quoted, plain, _ = parameter.groups()
            value = plain if quoted is None else re.sub(r"\\(.)", r"\1", quoted, flags=re.S)
            parameters.setdefault(name.lower(), value)  # a second one of the same name does not override
            at = parameter.end()
        if not parameters and (bare := _TOKEN68.match(header, at)):
            at = bare.end()
        found.append(Challenge(scheme[1].lower(), parameters))
    return found


def parse_errors(body: bytes) -> list[tuple[str, str]]:
    """(code, message) of a registry's error body; [] when it is none. Codes as `MANIFEST_UNKNOWN`. Never raises."""
    try:
        decoded = parse_json(body, limit_bytes=64 << 10, limit_depth=16)
    except InvalidArgument:
        return []
    if not isinstance(decoded, dict):
        return []
    found = []
    entries = decoded.get("errors")
    for entry in entries if isinstance(entries, list) else ():
        if isinstance(entry, dict) and isinstance(code := entry.get("code"), str):
            message = entry.get("message")
            found.append((_shown(code), _shown(message) if isinstance(message, str) else ""))
    if not found and isinstance(details := decoded.get("details"), str):  # token servers: {"details": …}
        found.append(("UNAUTHORIZED", _shown(details)))
    return found


def _shown(text: str) -> str:
    """A stranger's text as it may reach a terminal: no escape sequences, no marks that turn lines about, no novel."""
    return "".join(sign if sign.isprintable() else "\ufffd" for sign in text[:_TEXT_LIMIT])


def error_text(code: str, message: str) -> str:
    """`manifest unknown: manifest unknown`: code and message as docker writes them."""
    return f"{code.replace('_', ' ').lower()}: {message}"


def parse_content_range(header: str) -> tuple[int, int, int] | None:
    """(first byte, last byte, total or -1) of a 206 answer; None when it cannot be read."""
    found = _CONTENT_RANGE.fullmatch(header.strip())
    if not found:
        return None
    return int(found[1]), int(found[2]), int(found[3]) if found[3] else -1


def parse_upload_range(header: str) -> int:
    """How many bytes of an upload the registry holds: Range `0-N`; docker-registry says `0-0` for none."""
    found = _UPLOAD_RANGE.fullmatch(header.strip())
    if not found or found[1] != "0" or found[2] == "0":
        return 0
    return int(found[2]) + 1
