"""A request through the gateway by the daemon itself, and the audit line that says what became of it."""

import asyncio
import os
import secrets
import ssl
from typing import Any
from urllib.parse import urlsplit

import h11

from corten.base.errors import InvalidArgument, Unavailable
from corten.base.files import parse_json
from corten.gateway.audit import tail
from corten.gateway.exchange import exchange
from corten.gateway.render import Place

TIMEOUT_S = 15.0
LINE_S = 10.0  # lines are flushed every 100 ms
BODY_BYTES = 1 << 16
MARK = "traceparent"


async def probe(asked: dict[str, Any], body: bytes, place: Place, authority: str) -> dict[str, Any]:
    """`asked`: Method, Url, Headers. The status, headers, body and audit line. Raises InvalidArgument, Unavailable."""
    parts = urlsplit(asked["Url"])
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise InvalidArgument(f"{asked['Url']!r} is no http:// or https:// URL")
    trace = f"00-{secrets.token_hex(16)}-{secrets.token_hex(8)}-01"
    context = _context(authority) if parts.scheme == "https" else None
    host, port = place.https if context else place.http
    host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)  # noqa: S104  any address of the host
    target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    own = {name.lower() for name, _ in asked["Headers"]}
    headers = [(name, value) for name, value in (
        ("Host", parts.netloc), (MARK, trace), ("Connection", "close"), ("Content-Length", str(len(body))))
        if name.lower() not in own] + [tuple(pair) for pair in asked["Headers"]]
    try:
        reader, writer = await asyncio.wait_for(asyncio.open_connection(
            host, port, ssl=context, server_hostname=parts.hostname if context else None), TIMEOUT_S)
        try:
            request = h11.Request(method=asked["Method"], target=target, headers=headers)
            answer = await asyncio.wait_for(exchange(reader, writer, request, body, BODY_BYTES), TIMEOUT_S)
        finally:
            writer.close()
    except (OSError, TimeoutError) as error:
        raise Unavailable(f"the gateway does not answer at {host}:{port}: {error or 'timeout'}") from None
    except h11.LocalProtocolError as error:
        raise InvalidArgument(f"invalid request: {error}") from None
    except h11.RemoteProtocolError as error:
        raise Unavailable(f"the gateway's answer makes no sense: {error}") from None
    return {"Status": answer.status, "Headers": answer.headers, "Body": answer.body.decode(errors="replace"),
            "Audit": await _line(place.audit, trace)}


def _context(authority: str) -> ssl.SSLContext:
    context = ssl.create_default_context()
    if os.path.exists(authority):
        context.load_verify_locations(authority)
    return context


async def _line(path: str, trace: str) -> object:
    """The audit line with our trace id; None when it does not come."""
    deadline = asyncio.get_running_loop().time() + LINE_S
    while asyncio.get_running_loop().time() < deadline:
        for line in reversed(tail(path, 200)):
            if trace.encode() in line:
                return parse_json(line)
        await asyncio.sleep(0.02)
    return None
