"""One repository at one registry: the v2 protocol's requests, logged in, retried. What they mean is the caller's part.

Source: OCI distribution-spec 1.1 (end-1 to end-11); docker-registry's HTTP API V2 for what the spec leaves open.
"""

import asyncio
import hashlib
import random
import re
import urllib.parse
from collections.abc import AsyncIterator
from typing import TYPE_CHECKING, Any

from corten.base.errors import InvalidArgument
from corten.base.files import parse_json
from corten.oci.digest import is_digest
from corten.oci.distribution_spec import ACCEPT, Challenge, parse_challenges
from corten.oci.image_spec import MANIFEST_LIMIT, OCI_INDEX, Descriptor, raw_entries
from corten.oci.reference import check_tag
from corten.registry.auth import Authenticator, Credentials, Tokens, scope
from corten.registry.errors import LoginFailed, NoCredentials, RegistryError, Unreachable, from_answer, status_line
from corten.registry.settings import Settings
from corten.registry.transport import Body, Transport, fault, origin_of

if TYPE_CHECKING:
    import aiohttp

RETRIED = (429, 500, 502, 503, 504)
_ERROR_LIMIT_BYTES = 64 << 10
_RETRY_AFTER_LIMIT_S = 30.0
_PAGES_LIMIT = 1000
_NEXT = re.compile(r'<([^>]*)>\s*;\s*rel="?next"?', re.ASCII)


class Registries:
    """What all clients of one daemon share: connections, tokens, and which insecure host speaks TLS."""

    __slots__ = ("schemes", "settings", "tokens", "transport")

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.transport = Transport(settings)
        self.tokens = Tokens()
        self.schemes: dict[str, str] = {}

    async def close(self) -> None:
        """Close every connection."""
        await self.transport.close()

    async def client(
        self, base: str, repository: str, credentials: Credentials, actions: str = "pull"
    ) -> "Client":
        """A client that has pinged; `base` is `host[:port]` or a mirror's URL (which never sees credentials).

        Raises Unreachable.
        """
        if "://" in base:
            url, credentials = base, Credentials()
            challenges = await self._ping(url)
        else:
            url, challenges = await self._find(base)
        return Client(self, url, repository, credentials, actions, challenges)

    async def _find(self, host: str) -> tuple[str, list[Challenge]]:
        """(base URL, challenges). An insecure registry is tried by TLS first, then without; any other by TLS alone."""
        known = self.schemes.get(host)
        schemes: tuple[str, ...] = ("https", "http") if self.settings.is_insecure(host) else ("https",)
        if known:
            schemes = (known, *(scheme for scheme in schemes if scheme != known))
        failures: dict[str, Unreachable] = {}
        for scheme in schemes:
            try:
                challenges = await self._ping(f"{scheme}://{host}")
            except Unreachable as error:
                self.schemes.pop(host, None)
                failures[scheme] = error
            else:
                self.schemes[host] = scheme
                return f"{scheme}://{host}", challenges
        raise failures.get("http") or failures["https"]

    async def _ping(self, url: str) -> list[Challenge]:
        """What the registry asks for at /v2/."""
        async with asyncio.timeout(self.settings.connect_timeout_s * 2):
            answer = await self.transport.send("GET", f"{url}/v2/")
        answer.release()
        if answer.status != 401:
            return []
        return [
            challenge for header in answer.headers.getall("WWW-Authenticate", [])
            for challenge in parse_challenges(header)
        ]


class Client:
    """A repository, reached. Made by `Registries.client`."""

    __slots__ = ("_authenticator", "_challenges", "_registries", "_scopes", "base", "repository", "settings")

    def __init__(
        self, registries: Registries, base: str, repository: str, credentials: Credentials, actions: str,
        challenges: list[Challenge],
    ) -> None:
        self._registries = registries
        self.settings = registries.settings
        self.base = base
        self.repository = repository
        self._challenges = challenges
        self._scopes = (scope(repository, actions),) if repository else ()
        self._authenticator = Authenticator(
            registries.transport, registries.tokens, registries.settings, origin_of(base), credentials
        )

    def url(self, path: str) -> str:
        """`https://host/v2/<repository>/<path>`."""
        return f"{self.base}/v2/{self.repository}/{path}"

    async def once(
        self, method: str, url: str, headers: dict[str, str] | None = None, body: Body = None,
        scopes: tuple[str, ...] = (),
    ) -> "aiohttp.ClientResponse":
        """One request, logged in when it goes to the registry's own origin; a refused token is renewed once.

        Any status is an answer. The caller releases it. Raises Unreachable, NoCredentials, RegistryUnauthorized.
        """
        own = origin_of(url) == self._authenticator.origin
        for refused in (False, True):
            wanted = dict(headers or {})
            if own and self._challenges:
                wanted.update(await self._authorization(method, url, self._scopes + scopes, refused))
            answer = await self._registries.transport.send(method, url, wanted, body)
            if answer.status != 401 or refused or not own or origin_of(str(answer.url)) != self._authenticator.origin:
                return answer
            offered = [
                challenge for header in answer.headers.getall("WWW-Authenticate", [])
                for challenge in parse_challenges(header)
            ]
            if not offered or (self._challenges and not any(found.scheme == "bearer" for found in offered)):
                return answer
            self._challenges = offered
            answer.release()
        raise AssertionError("unreachable")

    async def _authorization(
        self, method: str, url: str, scopes: tuple[str, ...], refused: bool
    ) -> dict[str, str]:
        try:
            value = await self._authenticator.answer(self._challenges, scopes, refused)
        except NoCredentials as error:
            if "/manifests/" in url and method in ("GET", "HEAD"):
                raise NoCredentials(fault(method, url, str(error))) from None
            raise
        return {"Authorization": value} if value else {}

    async def send(
        self, method: str, url: str, headers: dict[str, str] | None = None, body: Body = None,
        scopes: tuple[str, ...] = (),
    ) -> "aiohttp.ClientResponse":
        """As `once`, tried again with back-off while the registry is away or overloaded."""
        attempt = 0
        while True:
            attempt += 1
            try:
                answer = await self.once(method, url, headers, body, scopes)
            except Unreachable:
                if attempt >= self.settings.attempts:
                    raise
                await self.pause(attempt)
                continue
            if answer.status not in RETRIED or attempt >= self.settings.attempts:
                return answer
            answer.release()
            await self.pause(attempt, answer.headers.get("Retry-After", ""))

    async def pause(self, attempt: int, retry_after: str = "") -> None:
        """Wait before the next try: what the server asks for, else twice as long each time, with some chance in it."""
        delay_s = self.settings.backoff_s * 2 ** (attempt - 1) * random.uniform(0.75, 1.25)  # noqa: S311
        if retry_after.isascii() and retry_after.isdigit():
            delay_s = max(delay_s, min(float(retry_after[:4]), _RETRY_AFTER_LIMIT_S))
        await asyncio.sleep(delay_s)

    async def failure(self, answer: "aiohttp.ClientResponse") -> RegistryError:
        """The error an answer is; it is read and released."""
        body = b""
        try:
            body = await self._registries.transport.read(answer, _ERROR_LIMIT_BYTES)
        except (InvalidArgument, Unreachable):
            pass
        finally:
            answer.release()
        return from_answer(answer.status, ", ".join(answer.headers.getall("WWW-Authenticate", [])), body)

    # --- manifests

    async def head_manifest(self, reference: str) -> Descriptor | None:
        """What a tag or digest points at, None when the registry does not tell by HEAD. Raises as `once`."""
        answer = await self.send("HEAD", self.url(f"manifests/{reference}"), {"Accept": ACCEPT})
        answer.release()
        digest = answer.headers.get("Docker-Content-Digest", "")
        size = answer.headers.get("Content-Length", "")
        if answer.status != 200 or not is_digest(digest) or not (size.isascii() and size.isdigit()):
            return None
        return Descriptor(_media_type(answer.headers.get("Content-Type", "")), digest, int(size[:18]))

    async def manifest(self, reference: str) -> tuple[bytes, Descriptor]:
        """A manifest's exact bytes and what they are; the digest is computed over them and must be the one asked for.

        Raises RegistryError kinds, Unreachable, InvalidArgument (too long, wrong digest).
        """
        answer = await self.send("GET", self.url(f"manifests/{reference}"), {"Accept": ACCEPT})
        data = await self._whole(answer, MANIFEST_LIMIT)
        digest = "sha256:" + hashlib.sha256(data).hexdigest()
        if ":" in reference and reference != digest:
            raise InvalidArgument(f"manifest verification failed for digest {reference}")
        return data, Descriptor(_media_type(answer.headers.get("Content-Type", "")), digest, len(data))

    async def put_manifest(self, reference: str, media_type: str, data: bytes) -> None:
        """Store a manifest under a tag or digest. Raises RegistryError kinds, Unreachable."""
        url = self.url(f"manifests/{reference}")
        answer = await self.send("PUT", url, {"Content-Type": media_type}, data)
        if answer.status not in (200, 201, 202):
            raise await self.failure(answer)
        answer.release()

    async def blob_size(self, digest: str) -> int | None:
        """The size of a blob the repository has, None when it has not. Raises RegistryError kinds, Unreachable."""
        answer = await self.send("HEAD", self.url(f"blobs/{digest}"))
        answer.release()
        if answer.status == 200:
            size = answer.headers.get("Content-Length", "")
            return int(size[:18]) if size.isascii() and size.isdigit() else 0
        if answer.status == 404:
            return None
        raise from_answer(answer.status, ", ".join(answer.headers.getall("WWW-Authenticate", [])), b"")

    async def small_blob(self, descriptor: Descriptor, limit_bytes: int) -> bytes:
        """A blob that fits in memory, its digest checked. Raises RegistryError kinds, Unreachable, InvalidArgument."""
        data = await self._whole(await self.send("GET", self.url(f"blobs/{descriptor.digest}")), limit_bytes)
        if "sha256:" + hashlib.sha256(data).hexdigest() != descriptor.digest:
            raise InvalidArgument(f"content digest mismatch: {descriptor.digest}")
        return data

    async def tags(self) -> list[str]:
        """Every tag of the repository. Raises RegistryError kinds, Unreachable, InvalidArgument."""
        found: list[str] = []
        async for data in self._pages(self.url("tags/list")):
            page = parse_json(data)
            tags = page.get("tags") if isinstance(page, dict) else None
            found += [check_tag(tag) for tag in tags or () if isinstance(tag, str)]
        return found

    async def referrers(self, digest: str) -> list[dict[str, Any]]:
        """Descriptors of the manifests whose subject is `digest` (signatures, attestations), as the registry has them.

        From the referrers API, or from the tag `sha256-<hex>` where the registry does not know it (distribution-spec
        1.1, "Listing Referrers", "Referrers Tag Schema"). Raises RegistryError kinds, Unreachable, InvalidArgument.
        """
        found: list[dict[str, Any]] = []
        try:
            async for data in self._pages(self.url(f"referrers/{digest}"), OCI_INDEX):
                found += raw_entries(data)
        except RegistryError as error:
            if error.status != 404:
                raise
            answer = await self.send("GET", self.url(f"manifests/{digest.replace(':', '-', 1)}"), {"Accept": OCI_INDEX})
            if answer.status == 404:
                answer.release()
                return []
            found = raw_entries(await self._whole(answer, MANIFEST_LIMIT))
        return found

    async def _whole(self, answer: "aiohttp.ClientResponse", limit_bytes: int) -> bytes:
        """The body of an answer that should be 200."""
        if answer.status != 200:
            raise await self.failure(answer)
        try:
            return await self._registries.transport.read(answer, limit_bytes)
        finally:
            answer.release()

    async def _pages(self, url: str, accept: str = "*/*") -> AsyncIterator[bytes]:
        """The bodies of a listing, following its Link headers; never to another origin."""
        for _ in range(_PAGES_LIMIT):
            answer = await self.send("GET", url, {"Accept": accept})
            yield await self._whole(answer, MANIFEST_LIMIT)
            link = _NEXT.search(answer.headers.get("Link", ""))
            if not link:
                return
            url = urllib.parse.urljoin(url, link[1])
            if origin_of(url) != self._authenticator.origin:
                raise InvalidArgument(f"the list goes on at another origin: {origin_of(url)}")

    async def login(self) -> None:
        """Show the credentials at /v2/. Raises RegistryUnauthorized, LoginFailed, NoCredentials, Unreachable."""
        answer = await self.once("GET", f"{self.base}/v2/")
        answer.release()
        if answer.status != 200:
            raise LoginFailed(
                f"login attempt to {self.base}/v2/ failed with status: {status_line(answer.status)}",
                answer.status, "UNAUTHORIZED" if answer.status == 401 else "",
            )


def _media_type(header: str) -> str:
    """A Content-Type without parameters; "" for those that say nothing about a manifest."""
    kind = header.partition(";")[0].strip().lower()
    return "" if kind in ("application/json", "text/plain", "application/octet-stream") else kind
