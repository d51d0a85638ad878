"""Image references: `[domain/]path[:tag][@digest]`, docker.io's defaults and familiar forms. Pure.

Grammar: distribution/reference (the package behind docker's texts), OCI distribution-spec 1.1 "Pulling manifests".
"""

import re

from corten.base.errors import InvalidArgument

DEFAULT_DOMAIN = "docker.io"
DEFAULT_TAG = "latest"
_LEGACY_DOMAIN = "index.docker.io"
_OFFICIAL = "library/"
_PATH_LIMIT = 255

_DOMAIN = (
    r"(?:(?:[a-zA-Z0-9]|[a-zA-Z0-9][a-zA-Z0-9-]*[a-zA-Z0-9])"
    r"(?:\.(?:[a-zA-Z0-9]|[a-zA-Z0-9][a-zA-Z0-9-]*[a-zA-Z0-9]))*|\[[a-fA-F0-9:]+\])(?::[0-9]+)?"
)
_COMPONENT = r"[a-z0-9]+(?:(?:[._]|__|-+)[a-z0-9]+)*"
_TAG = r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}"
_DIGEST = r"[A-Za-z][A-Za-z0-9]*(?:[-_+.][A-Za-z][A-Za-z0-9]*)*:[0-9a-fA-F]{32,}"
_REFERENCE = re.compile(
    rf"({_DOMAIN})/({_COMPONENT}(?:/{_COMPONENT})*)(?::({_TAG}))?(?:@({_DIGEST}))?", re.ASCII
)
_IDENTIFIER = re.compile(r"[a-f0-9]{64}", re.ASCII)
_TAG_ALONE = re.compile(_TAG, re.ASCII)
_DIGEST_LENGTH = {"sha256": 64, "sha384": 96, "sha512": 128}


class Reference:
    """A parsed reference; `tag` and `digest` are "" when absent. Treat as immutable; equal when all four parts are."""

    __slots__ = ("digest", "domain", "path", "tag")

    def __init__(self, domain: str, path: str, tag: str = "", digest: str = "") -> None:
        self.domain = domain
        self.path = path
        self.tag = tag
        self.digest = digest

    @property
    def name(self) -> str:
        """`docker.io/library/alpine`: domain and path."""
        return f"{self.domain}/{self.path}"

    def familiar_name(self) -> str:
        """`alpine`: the name as people write it."""
        if self.domain != DEFAULT_DOMAIN:
            return self.name
        short = self.path.removeprefix(_OFFICIAL)
        if "/" in short:  # `library/a/b` keeps its prefix; `a.b/c` would read back as the domain a.b
            return self.name if _is_domain(self.path.partition("/")[0]) else self.path
        return short

    def _suffix(self) -> str:
        return (f":{self.tag}" if self.tag else "") + (f"@{self.digest}" if self.digest else "")

    def familiar(self) -> str:
        """`alpine:3.20`: name, tag and digest as people write them."""
        return self.familiar_name() + self._suffix()

    def full(self) -> str:
        """`docker.io/library/alpine:3.20`: nothing left out; two references are the same when this is."""
        return self.name + self._suffix()

    def with_default_tag(self) -> "Reference":
        """This reference, tagged `latest` when it has neither tag nor digest."""
        if self.tag or self.digest:
            return self
        return Reference(self.domain, self.path, DEFAULT_TAG)

    def with_tag(self, tag: str) -> "Reference":
        """The same name under another tag, without digest. Raises InvalidArgument."""
        return Reference(self.domain, self.path, check_tag(tag))

    def with_digest(self, digest: str) -> "Reference":
        """The same name pinned to a digest; the tag goes. Raises InvalidArgument."""
        return Reference(self.domain, self.path, "", check_digest(digest))

    def without_tag(self) -> "Reference":
        """The bare name."""
        return Reference(self.domain, self.path)

    def __str__(self) -> str:
        return self.full()

    def __repr__(self) -> str:
        return f"Reference({self.full()!r})"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Reference) and self.full() == other.full()

    def __hash__(self) -> int:
        return hash(self.full())


def parse(text: str) -> Reference:
    """`ubuntu:22.04` -> docker.io/library/ubuntu:22.04. No tag is added: see `with_default_tag`.

    Raises InvalidArgument with docker's texts. Source: distribution/reference ParseNormalizedNamed.
    """
    if _IDENTIFIER.fullmatch(text):
        raise InvalidArgument(
            f"invalid repository name ({text}), cannot specify 64-byte hexadecimal strings"
        )
    domain, remainder = _split_domain(text)
    remote = remainder.partition(":")[0]
    if remote != remote.lower():
        raise InvalidArgument(f"invalid reference format: repository name ({remote}) must be lowercase")
    found = _REFERENCE.fullmatch(f"{domain}/{remainder}")
    if not found:
        raise InvalidArgument("invalid reference format")
    domain, path, tag, digest = found.groups(default="")
    if len(path) > _PATH_LIMIT:
        raise InvalidArgument(f"repository name must not be more than {_PATH_LIMIT} characters")
    if digest:
        check_digest(digest)
    return Reference(domain, path, tag, digest)


def parse_with_tag(name: str, tag_or_digest: str) -> Reference:
    """The API's pair `fromImage`/`repo` and `tag`, where the tag may be a digest. Raises InvalidArgument."""
    reference = parse(name)
    if not tag_or_digest:
        return reference
    if ":" in tag_or_digest:
        return reference.with_digest(tag_or_digest)
    return reference.with_tag(tag_or_digest)


def check_tag(tag: str) -> str:
    """`tag` itself. Raises InvalidArgument."""
    if not _TAG_ALONE.fullmatch(tag):
        raise InvalidArgument("invalid tag format")
    return tag


def check_digest(digest: str) -> str:
    """`digest` itself when its algorithm is known and its length right: safe in a path. Raises InvalidArgument.

    Lower-case hexadecimal only: two spellings of one digest would be two blobs. Source: OCI image-spec "Digests".
    """
    algorithm, separator, encoded = digest.partition(":")
    if not separator or not re.fullmatch(_DIGEST, digest, re.ASCII):
        raise InvalidArgument("invalid checksum digest format")
    length = _DIGEST_LENGTH.get(algorithm)
    if length is None:
        raise InvalidArgument("unsupported digest algorithm")
    if len(encoded) != length:
        raise InvalidArgument("invalid checksum digest length")
    if encoded != encoded.lower():
        raise InvalidArgument("invalid checksum digest format")
    return digest


def _is_domain(first: str) -> bool:
    return first == "localhost" or "." in first or ":" in first or first != first.lower()


def _split_domain(text: str) -> tuple[str, str]:
    """The first part is a domain only when it cannot be a name: `localhost`, a dot, a colon, or a capital letter."""
    first, separator, rest = text.partition("/")
    if not separator:
        return DEFAULT_DOMAIN, _OFFICIAL + text
    if _is_domain(first):
        domain, remainder = first, rest
    else:
        domain, remainder = DEFAULT_DOMAIN, text
    if domain == _LEGACY_DOMAIN:
        domain = DEFAULT_DOMAIN
    if domain == DEFAULT_DOMAIN and "/" not in remainder:
        remainder = _OFFICIAL + remainder
    return domain, remainder
