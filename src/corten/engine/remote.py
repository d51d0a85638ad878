"""Reading a URL that a client names: `import` of one, `ADD` of one. Bounded in time; no login, no file:, no redirect
to anything but HTTP."""

from collections.abc import AsyncGenerator

from corten.base.errors import InvalidArgument

_TIMEOUT_S, _CONNECT_S, _READ_S = 3600, 30, 60
_CHUNK = 1 << 18


async def pieces_of(url: str) -> AsyncGenerator[bytes, None]:
    """The bytes of what an http or https URL answers. Raises InvalidArgument with the reason."""
    import aiohttp  # 250 ms that only this needs

    if not url.startswith(("http://", "https://")):
        raise InvalidArgument(f"{url}: only http and https are supported")
    timeout = aiohttp.ClientTimeout(total=_TIMEOUT_S, sock_connect=_CONNECT_S, sock_read=_READ_S)
    try:
        async with aiohttp.ClientSession(timeout=timeout, trust_env=True) as session, session.get(url) as response:
            if response.status >= 400:
                raise InvalidArgument(f"failed to GET {url} with status {response.status} {response.reason}: ")
            async for piece in response.content.iter_chunked(_CHUNK):
                yield piece
    except (aiohttp.ClientError, TimeoutError) as error:
        raise InvalidArgument(f'Get "{url}": {error}') from None
