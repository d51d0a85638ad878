"""What users register: Api, Policy and Version documents. Shape only; what is wrong between them: checks.py."""

from typing import Annotated, ClassVar

import msgspec

from corten.base.errors import InvalidArgument
from corten.gateway.fields import Document, HeaderName, HeaderValue, Name, PolicyBody, pattern, said

Path = Annotated[str, pattern(r"/[^\s?#\x00]*", "an absolute path", 2048)]
Host = Annotated[str, pattern(r"(\*\.)?[A-Za-z0-9-]+(\.[A-Za-z0-9-]+)*", "a host name")]
Method = Annotated[str, pattern(r"[A-Z]{1,20}", "a method in capitals")]
Date = Annotated[str, pattern(r"[0-9]{4}-[0-9]{2}-[0-9]{2}", "a day, like 2027-01-31")]
Weight = Annotated[int, msgspec.Meta(ge=0, le=1000)]
Port = Annotated[int, msgspec.Meta(ge=0, le=65535)]


class Redirect(Document):
    """The answer is `code` with a Location: another `host`, `path` (whole) or `prefix` (of it), `https`."""

    host: str = ""
    path: str = ""
    prefix: str = ""
    https: bool = False
    code: Annotated[int, msgspec.Meta(ge=301, le=308)] = 308


class Respond(Document):
    """The gateway answers by itself."""

    status: Annotated[int, msgspec.Meta(ge=200, le=599)] = 200
    body: Annotated[str, msgspec.Meta(max_length=65536)] = ""


class Backend(Document):
    """Where requests go: containers of a `service` or one `container`, or `address` host:port outside the engine.

    Backends of one `version` share its weight; `protocol` is http1 or http2 (what gRPC needs).
    """

    service: str = ""
    container: str = ""
    address: Annotated[str, pattern(r"(|[A-Za-z0-9.-]+:[0-9]{1,5}|\[[0-9a-fA-F:]+\]:[0-9]{1,5})", "host:port")] = ""
    port: Port = 0
    weight: Weight = 1
    version: str = ""
    protocol: Annotated[str, pattern(r"http[12]", "http1 or http2")] = "http1"
    tls: bool = False


class Route(Document):
    """Which requests: `path` is a prefix that ends at a slash, `exact` a whole path, `regex` one for whole paths (RE2).

    A header or query value `*` means: present. Without `backends` the Api's are taken.
    """

    path: Path = ""
    exact: Path = ""
    regex: str = ""
    methods: list[Method] = []
    headers: dict[HeaderName, HeaderValue] = {}
    query: dict[str, str] = {}
    redirect: Redirect | None = None
    respond: Respond | None = None
    backends: list[Backend] = []
    policies: list[Name] = []
    policy: PolicyBody = msgspec.field(default_factory=PolicyBody)


class Tls(Document):
    """`mode`: both (default), only (plain HTTP gets 308 to HTTPS). Certificates: PEM files, or made by the gateway.

    `clients`: a PEM file of authorities; only clients with a certificate of theirs are served.
    """

    mode: Annotated[str, pattern(r"(both|only)", "both or only")] = "both"
    certificate: str = ""
    key: str = ""
    clients: str = ""


class Api(Document):
    """A service that the gateway serves: hosts (none: any), routes, backends, policies."""

    kind: ClassVar[str] = "Api"
    name: Name
    project: str = ""
    hosts: list[Host] = []
    routes: list[Route] = []
    backends: list[Backend] = []
    policies: list[Name] = []
    policy: PolicyBody = msgspec.field(default_factory=PolicyBody)
    tls: Tls | None = None


class Policy(PolicyBody, kw_only=True):
    """A named set of common functions that Apis and routes refer to."""

    kind: ClassVar[str] = "Policy"
    name: Name


class Renames(Document):
    """JSON members of bodies that have another name: old -> new; `a.b` is the member b of a, `[]` steps into lists."""

    request: dict[str, str] = {}
    response: dict[str, str] = {}


class Version(Document):
    """An old API of `api` that stays served: told by path, query or header, mapped to what the backends speak now."""

    kind: ClassVar[str] = "Version"
    name: Name
    api: Name
    path: Path = ""
    exact: Path = ""
    query: dict[str, str] = {}
    headers: dict[HeaderName, HeaderValue] = {}
    to_path: str = ""
    rename_query: dict[str, str] = {}
    rename_headers: dict[HeaderName, HeaderName] = {}
    fields: Renames = msgspec.field(default_factory=Renames)
    deprecated: Date = ""
    sunset: Date = ""
    link: str = ""
    off: bool = False


class Trust(Document):
    """Who trusts whom: `level` for the containers of a `project`, on a `network`, of `services` (all that are said).

    `allow`: rules in the language of trust.py; names without a project are of `project`. `out`: what they may reach
    outside, `10.0.0.5:5432`, `10.1.0.0/16`, `any:443`.
    """

    kind: ClassVar[str] = "Trust"
    name: Name
    project: str = ""
    network: str = ""
    services: list[Name] = []
    level: Annotated[str, pattern(r"(full|half|zero)", "full, half or zero")] = "full"
    allow: list[Annotated[str, msgspec.Meta(max_length=4096)]] = []
    out: list[Annotated[str, msgspec.Meta(max_length=64)]] = []


class Revocation(Document):
    """An identity that is not believed any more, until this is taken away: a service, of a project."""

    kind: ClassVar[str] = "Revocation"
    name: Name
    project: str = ""


KINDS: dict[str, type[Document]] = {"Api": Api, "Policy": Policy, "Version": Version, "Trust": Trust,
                                    "Revocation": Revocation}


def key_of(document: Document) -> str:
    """`Api/shop.orders`: what a document is known by."""
    project = document.project if isinstance(document, Api | Revocation) else ""
    name: str = document.name  # type: ignore[attr-defined]
    return f"{type(document).kind}/{project + '.' if project else ''}{name}"  # type: ignore[attr-defined]


def to_document(value: object, where: str = "") -> Document:
    """A document from plain values; `kind` says which. Raises InvalidArgument naming the member that is wrong."""
    place = f"{where}: " if where else ""
    if not isinstance(value, dict):
        raise InvalidArgument(f"{place}a document is an object with a kind, not {type(value).__name__}")
    rest = dict(value)
    kind = rest.pop("kind", None)
    if not isinstance(kind, str) or kind not in KINDS:
        raise InvalidArgument(f"{place}kind is {kind!r}: must be one of {', '.join(KINDS)}")
    name = rest.get("name")
    try:
        return msgspec.convert(rest, KINDS[kind])
    except msgspec.ValidationError as error:
        text = said(str(error))
        raise InvalidArgument(f"{place}{kind} {name}: {text}" if name else f"{place}{kind}: {text}") from None


def to_plain(document: Document) -> dict[str, object]:
    """The values of a document as it would be written, `kind` first, defaults left out."""
    plain: dict[str, object] = msgspec.to_builtins(document)
    return {"kind": type(document).kind, **plain}  # type: ignore[attr-defined]


def schema() -> dict[str, object]:
    """The JSON schema of one document."""
    kinds = list(KINDS.values())
    found, components = msgspec.json.schema_components(kinds, ref_template="#/$defs/{name}")
    for kind in KINDS:
        own = components[kind]
        own["properties"] = {"kind": {"const": kind}, **own["properties"]}
        own["required"] = ["kind", *own.get("required", [])]
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", "title": "corten gateway document",
            "oneOf": list(found), "$defs": components}
