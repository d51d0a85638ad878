"""The words of Policy documents: one small struct for each common function of the gateway. Data and shape, no Envoy.

Durations are texts like `1m30s`, sizes like `1MiB`. A member that is not known here is an error, never ignored.
"""

from typing import Annotated

import msgspec

_SAID: dict[str, str] = {}


def pattern(text: str, description: str, max_length: int = 65536) -> msgspec.Meta:
    """The whole of a text fits (a newline at its end is no end); errors say the description."""
    regex = rf"^(?:{text})$(?!\n)"
    _SAID[f"Expected `str` matching regex {regex!r}"] = f"Expected {description}"
    return msgspec.Meta(pattern=regex, max_length=max_length, description=description)


def said(text: str) -> str:
    """What msgspec says of a wrong value, patterns told by their description."""
    for regex, description in _SAID.items():
        text = text.replace(regex, description)
    return text


Duration = Annotated[str, pattern(r"[0-9][0-9a-zµ.]*", "a duration, like 500ms or 1m30s")]
Size = Annotated[str, pattern(r"[0-9]+(\.[0-9]+)? ?[kKmMgG]?([iI]?[bB])?", "a size")]
Name = Annotated[str, pattern(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,62}", "a name")]
HeaderName = Annotated[str, pattern(r"[A-Za-z0-9!#$%&'*+.^_`|~-]{1,128}", "a header's name")]
HeaderValue = Annotated[str, pattern(r"[^\x00\r\n]*", "a header's value", 4096)]
Text = Annotated[str, msgspec.Meta(max_length=65536)]
Count = Annotated[int, msgspec.Meta(ge=0, le=1_000_000_000)]
Percent = Annotated[int, msgspec.Meta(ge=0, le=100)]


class Document(msgspec.Struct, forbid_unknown_fields=True, kw_only=True, rename="camel", omit_defaults=True):
    """Base of all that users write: camel case in JSON and YAML, unknown members refused."""


class Retry(Document):
    """Ask again when a backend fails. `on`: Envoy's conditions; by default only what no backend has seen."""

    attempts: Annotated[int, msgspec.Meta(ge=1, le=20)] = 2
    on: list[str] = msgspec.field(default_factory=lambda: ["connect-failure", "refused-stream", "reset-before-request"])
    per_try: Duration = ""


class Circuit(Document):
    """How much may be under way to the backends at once; what is above is answered 503. 0: Envoy's 1024."""

    connections: Count = 0
    pending: Count = 0
    requests: Count = 0
    retries: Count = 0


class Outlier(Document):
    """A backend that fails `errors` times in a row gets nothing for `eject`, longer each time."""

    errors: Annotated[int, msgspec.Meta(ge=1, le=1000)] = 5
    interval: Duration = "1s"
    eject: Duration = "30s"
    max_percent: Percent = 50


class Rate(Document):
    """`limit` like `5/s`, `100/m`, `1000/h`; above it requests are answered 429. `per` route, client or key."""

    limit: Annotated[str, pattern(r"[1-9][0-9]{0,8}/(s|m|h|[1-9][0-9]{0,4}s)", "a rate, like 5/s, 100/m or 1000/h")]
    burst: Count = 0
    per: Annotated[str, pattern(r"(route|client|key)", "route, client or key")] = "route"


class Cors(Document):
    """Which other sites' pages may call. An origin is `https://shop.example`, `*`, or `https://*.shop.example`."""

    origins: list[str] = msgspec.field(default_factory=lambda: ["*"])
    methods: list[str] = msgspec.field(default_factory=lambda: ["GET", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"])
    headers: list[str] = msgspec.field(default_factory=lambda: ["*"])
    expose: list[str] = []
    credentials: bool = False
    max_age: Duration = "10m"


class HeaderChange(Document):
    """`set` replaces, `add` adds, `remove` takes away."""

    set: dict[HeaderName, HeaderValue] = {}
    add: dict[HeaderName, HeaderValue] = {}
    remove: list[HeaderName] = []


class Headers(Document):
    """Changes to the request's headers (for the backend) and to the answer's (for the client)."""

    request: HeaderChange = msgspec.field(default_factory=HeaderChange)
    response: HeaderChange = msgspec.field(default_factory=HeaderChange)


class Jwt(Document):
    """A signed token of `issuer` is needed. Keys: `keys` (a JWKS as text), `keysFile` or `keysUrl`.

    `claims`: claim -> header for the backend, always overwritten; `forward`: whether the backend gets the token.
    """

    issuer: str = ""
    audiences: list[str] = []
    keys: Text = ""
    keys_file: str = ""
    keys_url: str = ""
    header: HeaderName = "Authorization"
    prefix: str = "Bearer "
    cookie: str = ""
    query: str = ""
    claims: dict[str, HeaderName] = {}
    forward: bool = False
    optional: bool = False


class ApiKeys(Document):
    """A key in a header (or the query parameter `query`) is needed; the backend never sees it. `keys`: who -> key."""

    keys: dict[Name, Annotated[str, msgspec.Meta(min_length=8, max_length=512)]]
    header: HeaderName = "X-Api-Key"
    query: str = ""


class Caller(Document):
    """One rule of who may call: all that is given must hold. `claims`: of the token; `keys`: names of API keys;

    `certificates`: subject names (SAN) of client certificates; a claim's values are alternatives.
    """

    claims: dict[str, list[str]] = {}
    keys: list[str] = []
    certificates: list[str] = []
    methods: list[str] = []
    paths: list[str] = []


class Authorizer(Document):
    """Each request (its head) is shown to a service of yours first: 2xx is yes, anything else goes to the client.

    `url`: http://host:port/prefix of an HTTP service, or `grpc`: host:port of an Envoy authorization service.
    `pass`: headers of its yes, handed to the backend. When it does not answer in `timeout`, nobody passes (403).
    """

    url: str = ""
    grpc: Annotated[str, pattern(r"(|[A-Za-z0-9.-]+:[0-9]{1,5})", "host:port")] = ""
    pass_: list[HeaderName] = msgspec.field(default_factory=list, name="pass")
    timeout: Duration = "1s"


class Login(Document):
    """Browsers are sent to an OpenID Connect provider and come back with a session cookie.

    Secrets are texts, or `file:/path`. `authorization`, `token` and `end` are the provider's URLs.
    """

    client_id: str
    client_secret: str
    cookie_secret: str
    authorization: str
    token: str
    scopes: list[str] = msgspec.field(default_factory=lambda: ["openid"])
    callback: str = "/oauth2/callback"
    sign_out: str = "/oauth2/sign_out"
    forward: bool = True


class Rewrite(Document):
    """What the backend sees: `path` instead of the matched prefix, `regex` and `to` for the whole path, `host`."""

    path: str = ""
    regex: str = ""
    to: str = ""
    host: str = ""


class ErrorPage(Document):
    """The body sent with a status, instead of the one that came."""

    body: Text
    type: HeaderValue = "text/plain; charset=utf-8"


class PolicyBody(Document):
    """All common functions; each is off unless given. Later policies win over earlier ones, member by member."""

    timeout: Duration | None = None
    idle: Duration | None = None
    retry: Retry | None = None
    circuit: Circuit | None = None
    outlier: Outlier | None = None
    rates: list[Rate] | None = None
    max_body: Size | None = None
    cors: Cors | None = None
    compress: list[str] | None = None
    headers: Headers | None = None
    rewrite: Rewrite | None = None
    jwt: Jwt | None = None
    api_keys: ApiKeys | None = None
    allow: list[Caller] | None = None
    authorizer: Authorizer | None = None
    login: Login | None = None
    errors: dict[Annotated[str, pattern(r"[45][0-9]{2}", "a status from 400 to 599")], ErrorPage] | None = None
