"""HTTP to registries: connections, TLS, redirects and the words for what fails. Knows no repository and no login.

Redirects are followed here and not by aiohttp: Authorization stays with the origin it was meant for, and HTTPS never
turns into HTTP unless the target may be insecure. aiohttp (250 ms) is imported by the first request.
"""

import asyncio
import os
import ssl
import urllib.parse
import urllib.request
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from corten.base.errors import InvalidArgument
from corten.registry.errors import Unreachable, explain
from corten.registry.settings import Settings, host_name

if TYPE_CHECKING:
    import aiohttp

_REDIRECTS = (301, 302, 303, 307, 308)
_REDIRECT_LIMIT = 5
_BUFFER_BYTES = 256 << 10
_USER_AGENT = "corten/0.1"

Body = bytes | Callable[[], Any] | None  # called for each try: an aiohttp payload


def origin_of(url: str) -> str:
    """`https://host[:port]` of a URL, the scheme's own port left out. Raises InvalidArgument."""
    try:
        parts = urllib.parse.urlsplit(url)
        port = parts.port
    except ValueError:
        raise InvalidArgument(f"invalid URL {url[:200]!r}") from None
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise InvalidArgument(f"invalid URL {url[:200]!r}")
    host = f"[{parts.hostname}]" if ":" in parts.hostname else parts.hostname
    default = 443 if parts.scheme == "https" else 80
    return f"{parts.scheme}://{host}" + (f":{port}" if port and port != default else "")


def fault(method: str, url: str, text: str) -> str:
    """`Get "https://…": …`: how Go words a request that failed, without what the URL's query may hold."""
    return f'{method.capitalize()} "{url.partition("?")[0]}": {text}'


class Transport:
    """The connections of one daemon to all registries; made on first use, `close` at the end."""

    __slots__ = ("_contexts", "_session", "settings")

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self._session: aiohttp.ClientSession | None = None
        self._contexts: dict[str, ssl.SSLContext] = {}

    async def close(self) -> None:
        """Close every connection."""
        if self._session:
            session, self._session = self._session, None
            await session.close()

    async def send(
        self, method: str, url: str, headers: dict[str, str] | None = None, body: Body = None
    ) -> "aiohttp.ClientResponse":
        """One request, redirects followed for GET and HEAD. The caller releases or closes the answer.

        Raises Unreachable; any status is an answer, not an error. A callable body is called again for another try.
        """
        wanted = {"User-Agent": _USER_AGENT, "Accept-Encoding": "identity", **(headers or {})}
        first = url
        for _ in range(_REDIRECT_LIMIT + 1):
            answer = await self._once(method, url, wanted, body, first)
            if answer.status not in _REDIRECTS or method not in ("GET", "HEAD"):
                return answer
            target = answer.headers.get("Location", "")
            answer.release()
            url = self._follow(method, url, target, wanted)
        raise Unreachable(fault(method, first, f"stopped after {_REDIRECT_LIMIT} redirects"))

    def _follow(self, method: str, url: str, target: str, headers: dict[str, str]) -> str:
        """The redirect's URL; `headers` lose Authorization when it leads to another origin."""
        joined = urllib.parse.urljoin(url, target)
        try:
            origin = origin_of(joined)
        except InvalidArgument as error:
            raise Unreachable(fault(method, url, f"bad redirect: {error}")) from None
        if url.startswith("https:") and not origin.startswith("https:"):
            raise Unreachable(fault(method, url, f"redirect from HTTPS to {origin} refused"))
        if origin != origin_of(url):
            headers.pop("Authorization", None)
        return joined

    async def _once(
        self, method: str, url: str, headers: dict[str, str], body: Body, shown: str
    ) -> "aiohttp.ClientResponse":
        import aiohttp
        import yarl

        parts = urllib.parse.urlsplit(url)
        host = parts.netloc.lower()
        data = body() if callable(body) else body
        context = self._context(host) if parts.scheme == "https" else False
        try:
            return await self._open().request(
                method, yarl.URL(url, encoded=True), headers=headers, data=data, allow_redirects=False,
                proxy=_proxy(url), ssl=context,
            )
        except (aiohttp.ClientError, OSError, TimeoutError, ValueError) as error:
            default = 443 if parts.scheme == "https" else 80
            text = explain(error, parts.hostname or "", parts.port or default)
            raise Unreachable(fault(method, shown, text)) from error

    async def small(
        self, method: str, url: str, headers: dict[str, str], body: bytes | None, limit_bytes: int
    ) -> tuple[int, dict[str, str], bytes]:
        """(status, headers by lower-case name, body) of an answer that fits in memory.

        Raises Unreachable, InvalidArgument when the body is longer than the limit.
        """
        answer = await self.send(method, url, headers, body)
        try:
            data = await self.read(answer, limit_bytes)
        finally:
            answer.release()
        return answer.status, {name.lower(): value for name, value in answer.headers.items()}, data

    async def read(self, answer: "aiohttp.ClientResponse", limit_bytes: int) -> bytes:
        """The answer's whole body. Raises InvalidArgument when longer than the limit, Unreachable when it is cut."""
        import aiohttp

        parts: list[bytes] = []
        left = limit_bytes
        try:
            async with asyncio.timeout(self.settings.read_timeout_s):
                async for chunk in answer.content.iter_any():
                    left -= len(chunk)
                    if left < 0:
                        answer.close()
                        raise InvalidArgument(f"answer of {answer.url.host} is longer than {limit_bytes} bytes")
                    parts.append(chunk)
        except (aiohttp.ClientError, OSError, TimeoutError) as error:
            answer.close()
            text = "unexpected EOF" if isinstance(error, aiohttp.ClientPayloadError) else str(error) or "timeout"
            raise Unreachable(fault(answer.method, str(answer.url), text)) from error
        return b"".join(parts)

    def _open(self) -> "aiohttp.ClientSession":
        if self._session is None:
            import aiohttp

            settings = self.settings
            self._session = aiohttp.ClientSession(
                connector=aiohttp.TCPConnector(limit=0, keepalive_timeout=15),
                cookie_jar=aiohttp.DummyCookieJar(), auto_decompress=False, read_bufsize=_BUFFER_BYTES,
                timeout=aiohttp.ClientTimeout(
                    total=None, sock_connect=settings.connect_timeout_s, sock_read=settings.read_timeout_s
                ),
            )
        return self._session

    def _context(self, host: str) -> ssl.SSLContext:
        """TLS for `host[:port]`: the system's authorities and the host's own folder; unproven where that is allowed.

        Raises InvalidArgument for a folder that cannot be used.
        """
        context = self._contexts.get(host)
        if context is None:
            context = ssl.create_default_context()
            found = [_load_folder(context, f"{folder}/{host}") for folder in self.settings.certificate_folders]
            if self.settings.is_insecure(host) and not any(found):
                context.check_hostname = False
                context.verify_mode = ssl.CERT_NONE
            self._contexts[host] = context
        return context


def _load_folder(context: ssl.SSLContext, folder: str) -> bool:
    """Authorities `*.crt` and client pairs `*.cert`+`*.key` as docker lays them out; whether it holds a `*.crt`.

    Raises InvalidArgument for half a pair and for what cannot be read, so that nobody goes on without it.
    """
    try:
        names = set(os.listdir(folder))
    except OSError:
        return False
    for name in sorted(names):
        stem, _, kind = name.rpartition(".")
        if kind == "cert" and f"{stem}.key" not in names:
            raise InvalidArgument(
                f"missing key {stem}.key for client certificate {name}. CA certificates must use the extension .crt")
        if kind == "key" and f"{stem}.cert" not in names:
            raise InvalidArgument(f"missing client certificate {stem}.cert for key {name}")
        try:
            if kind == "crt":
                context.load_verify_locations(cafile=f"{folder}/{name}")
            elif kind == "cert":
                context.load_cert_chain(f"{folder}/{name}", f"{folder}/{stem}.key")
        except OSError as error:  # ssl.SSLError is one
            raise InvalidArgument(f"{folder}/{name}: {error.strerror or error}") from None
    return any(name.endswith(".crt") for name in names)


def _proxy(url: str) -> str | None:
    """The environment's proxy for a URL (HTTPS_PROXY, NO_PROXY …); never for loopback."""
    parts = urllib.parse.urlsplit(url)
    name = host_name(parts.netloc)
    if name == "localhost" or name == "::1" or name.startswith("127."):
        return None
    proxies = urllib.request.getproxies_environment()
    proxy = proxies.get(parts.scheme) or proxies.get("all")
    if not proxy or urllib.request.proxy_bypass(parts.netloc):
        return None
    return proxy
