"""Credentials and tokens: who may see what, and answering a registry's challenge.

Credentials go to the origin they were given for, and to a token server elsewhere only when the settings list it for
that registry; never over plain HTTP unless the registry itself may be insecure. A foreign one is asked without them.
Source: docker's token protocol (distribution, docs/spec/auth), OCI distribution-spec 1.1.
"""

import asyncio
import base64
import time
import urllib.parse
from typing import TYPE_CHECKING

from corten.base.errors import InvalidArgument
from corten.base.files import parse_json
from corten.oci.distribution_spec import Challenge
from corten.registry.errors import NoCredentials, RegistryUnauthorized, Unreachable, from_answer
from corten.registry.settings import Settings

if TYPE_CHECKING:
    from corten.registry.transport import Transport

_HEADER_LIMIT_BYTES = 64 << 10
_TOKEN_LIMIT_BYTES = 256 << 10
_TOKEN_LIFE_S = 60.0  # when the server does not say
_CACHE_LIMIT = 512
_CLIENT = "corten"


class Credentials:
    """What a user gave for one registry. Falsy when empty; its repr shows nothing."""

    __slots__ = ("identity_token", "password", "registry_token", "username")

    def __init__(
        self, username: str = "", password: str = "", identity_token: str = "", registry_token: str = ""
    ) -> None:
        self.username = username
        self.password = password
        self.identity_token = identity_token
        self.registry_token = registry_token

    def __bool__(self) -> bool:
        return bool(self.username or self.password or self.identity_token or self.registry_token)

    def __repr__(self) -> str:
        return "Credentials(…)"

    def basic(self) -> str:
        """The Authorization value."""
        pair = f"{self.username}:{self.password}".encode()
        return "Basic " + base64.b64encode(pair).decode()

    def key(self) -> tuple[str, str, str, str]:
        """What tells two logins apart."""
        return (self.username, self.password, self.identity_token, self.registry_token)


def credentials_from(fields: object) -> Credentials:
    """Docker's AuthConfig object. Raises InvalidArgument."""
    if not isinstance(fields, dict):
        raise InvalidArgument("invalid X-Registry-Auth header: not an object")

    def text(name: str) -> str:
        value = fields.get(name) or ""
        if not isinstance(value, str):
            raise InvalidArgument(f"invalid X-Registry-Auth header: {name} is not a text")
        return value

    username, password = text("username"), text("password")
    if not username and (packed := text("auth")):
        try:
            username, _, password = base64.b64decode(packed).decode().partition(":")
        except ValueError:
            raise InvalidArgument("invalid X-Registry-Auth header: auth is not base64") from None
    return Credentials(username, password, text("identitytoken"), text("registrytoken"))


def parse_header(header: str) -> Credentials:
    """X-Registry-Auth: base64url of an AuthConfig. What cannot be read counts as no credentials, as docker has it."""
    if not header or len(header) > _HEADER_LIMIT_BYTES:
        return Credentials()
    try:
        data = base64.b64decode(header.translate(str.maketrans("-_", "+/")) + "===")
        return credentials_from(parse_json(data, limit_bytes=_HEADER_LIMIT_BYTES, limit_depth=4))
    except (ValueError, InvalidArgument):
        return Credentials()


def scope(repository: str, actions: str) -> str:
    """`repository:library/alpine:pull`."""
    return f"repository:{repository}:{actions}"


class Tokens:
    """Bearer tokens got so far, of all users of one daemon; a token is found again by the same login and scope only."""

    __slots__ = ("_found", "_locks")

    def __init__(self) -> None:
        self._found: dict[tuple[object, ...], tuple[str, float]] = {}
        self._locks: dict[tuple[object, ...], asyncio.Lock] = {}

    def get(self, key: tuple[object, ...]) -> str:
        """The token, "" when there is none that lasts."""
        token, until = self._found.get(key, ("", 0.0))
        return token if until > time.monotonic() else ""

    def put(self, key: tuple[object, ...], token: str, life_s: float) -> None:
        """Keep for most of its life."""
        if len(self._found) >= _CACHE_LIMIT:
            self._found.clear()
            self._locks = {held: lock for held, lock in self._locks.items() if lock.locked()}
        self._found[key] = (token, time.monotonic() + life_s * 0.8)

    def forget(self, key: tuple[object, ...]) -> None:
        """A server refused it."""
        self._found.pop(key, None)

    def lock(self, key: tuple[object, ...]) -> asyncio.Lock:
        """One request a token, however many wait for it."""
        return self._locks.setdefault(key, asyncio.Lock())


class Authenticator:
    """Answers the challenges of one registry origin with one user's credentials."""

    __slots__ = ("_credentials", "_settings", "_tokens", "_transport", "origin")

    def __init__(
        self, transport: "Transport", tokens: Tokens, settings: Settings, origin: str, credentials: Credentials
    ) -> None:
        self._transport, self._tokens, self._settings = transport, tokens, settings
        self.origin = origin
        self._credentials = credentials

    def may_see_credentials(self, url: str) -> bool:
        """Whether the token server at `url` may be shown what was given for this registry."""
        own, other = urllib.parse.urlsplit(self.origin), urllib.parse.urlsplit(url)
        if other.username is not None or other.password is not None:
            return False
        if (own.scheme, own.netloc.lower()) == (other.scheme, other.netloc.lower()):
            return True
        return other.scheme == "https" and self._settings.token_host_allowed(own.netloc.lower(), other.netloc.lower())

    async def answer(self, challenges: list[Challenge], scopes: tuple[str, ...], refused: bool = False) -> str:
        """The Authorization value for requests to this origin, "" when none is called for.

        `refused`: what we sent before did not do, ask for a new token. Raises NoCredentials, RegistryUnauthorized,
        Unreachable.
        """
        if self._credentials.registry_token:
            return f"Bearer {self._credentials.registry_token}"
        for challenge in challenges:
            if challenge.scheme == "bearer" and challenge.get("realm"):
                return "Bearer " + await self._token(challenge, scopes, refused)
        for challenge in challenges:
            if challenge.scheme == "basic":
                if not self._credentials.username:
                    raise NoCredentials("no basic auth credentials")
                return self._credentials.basic()
        return ""

    async def _token(self, challenge: Challenge, scopes: tuple[str, ...], refused: bool) -> str:
        realm, service = challenge.get("realm"), challenge.get("service")
        credentials = self._credentials if self.may_see_credentials(realm) else Credentials()
        key = (self.origin, realm, service, scopes, credentials.key())
        async with self._tokens.lock(key):
            if refused:
                self._tokens.forget(key)
            if token := self._tokens.get(key):
                return token
            token, life_s = await self._ask(realm, service, scopes, credentials)
            self._tokens.put(key, token, life_s)
            return token

    async def _ask(
        self, realm: str, service: str, scopes: tuple[str, ...], credentials: Credentials
    ) -> tuple[str, float]:
        """(token, its life in seconds) from a token server."""
        if urllib.parse.urlsplit(self.origin).scheme == "https" and not realm.startswith("https://"):
            raise Unreachable(f"token server {realm!r} of an HTTPS registry is not reached by HTTPS: refused")
        fields = [("service", service)] if service else []
        if credentials.identity_token:
            fields += [("client_id", _CLIENT), ("grant_type", "refresh_token"),
                       ("refresh_token", credentials.identity_token), ("scope", " ".join(scopes))]
            status, _, body = await self._transport.small(
                "POST", realm, {"Content-Type": "application/x-www-form-urlencoded"},
                urllib.parse.urlencode(fields).encode(), _TOKEN_LIMIT_BYTES,
            )
        else:
            fields += [("scope", wanted) for wanted in scopes]
            headers = {}
            if credentials.username:
                fields.append(("account", credentials.username))
                headers["Authorization"] = credentials.basic()
            glue = "&" if "?" in realm else "?"
            url = realm + (glue + urllib.parse.urlencode(fields) if fields else "")
            status, _, body = await self._transport.small("GET", url, headers, None, _TOKEN_LIMIT_BYTES)
        if status != 200:
            raise self._refusal(status, body, realm, bool(credentials))
        return _token_of(body)

    def _refusal(self, status: int, body: bytes, realm: str, shown: bool) -> Exception:
        error = from_answer(status, "", body)
        if self._credentials and not shown and status in (401, 403):
            return RegistryUnauthorized(
                f"unauthorized: the registry sends its logins to {realm}, which is not known to belong to it: "
                "the credentials were not sent there", status, "UNAUTHORIZED",
            )
        return error


def _token_of(body: bytes) -> tuple[str, float]:
    try:
        answer = parse_json(body, limit_bytes=_TOKEN_LIMIT_BYTES, limit_depth=8)
    except InvalidArgument as error:
        raise Unreachable(f"authorization server gave no readable token: {error}") from None
    token = (answer.get("token") or answer.get("access_token")) if isinstance(answer, dict) else None
    if not isinstance(answer, dict) or not isinstance(token, str) or not token.isascii() or not token.isprintable():
        raise Unreachable("authorization server did not include a token in the response")
    life = answer.get("expires_in")
    life_s = float(life) if isinstance(life, (int, float)) and life >= 60 else _TOKEN_LIFE_S
    return token, min(life_s, 86400.0)
