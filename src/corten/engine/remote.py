"""Reading a URL that a client names: `import` of one, `ADD` of one. Bounded in time; no login, no file:, no redirect
to anything but HTTP."""

import contextlib
from collections.abc import AsyncGenerator, AsyncIterator

from corten.base.errors import InvalidArgument

_TIMEOUT_S, _CONNECT_S, _READ_S = 3600, 30, 60
_CHUNK = 1 << 18


class Answer:
    """What a URL answers: `headers` (names lower case), then `pieces`."""

    __slots__ = ("headers", "pieces")

    def __init__(self, headers: dict[str, str], pieces: AsyncIterator[bytes]) -> None:
        self.headers, self.pieces = headers, pieces


@contextlib.asynccontextmanager
async def answer_of(url: str) -> AsyncGenerator[Answer, None]:
    """Ask an http or https URL. Raises InvalidArgument with the reason, while its pieces are read too."""
    import aiohttp  # 250 ms that only this needs

    if not url.startswith(("http://", "https://")):
        raise InvalidArgument(f"{url}: only http and https are supported")
    timeout = aiohttp.ClientTimeout(total=_TIMEOUT_S, sock_connect=_CONNECT_S, sock_read=_READ_S)
    try:
        async with aiohttp.ClientSession(timeout=timeout, trust_env=True) as session, session.get(url) as response:
            if response.status >= 400:
                raise InvalidArgument(f"failed to GET {url} with status {response.status} {response.reason}: ")
            headers = {name.lower(): value for name, value in response.headers.items()}
            yield Answer(headers, response.content.iter_chunked(_CHUNK))
    except (aiohttp.ClientError, TimeoutError) as error:
        raise InvalidArgument(f'Get "{url}": {error}') from None


async def pieces_of(url: str) -> AsyncGenerator[bytes, None]:
    """The bytes of what an http or https URL answers. Raises InvalidArgument with the reason."""
    async with answer_of(url) as answer:
        async for piece in answer.pieces:
            yield piece
