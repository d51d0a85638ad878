"""Envoy's own interface, on a unix socket that root alone reaches: counters, Prometheus, reopening logs."""

import asyncio

import h11

from corten.base.errors import Internal, Unavailable
from corten.gateway.exchange import exchange

LIMIT_BYTES = 64 << 20
TIMEOUT_S = 5.0


class Admin:
    """Requests one at a time, each on a connection of its own."""

    def __init__(self, socket_path: str) -> None:
        self.path = socket_path

    async def ask(self, method: str, target: str) -> bytes:
        """The body of the answer. Raises Unavailable when nobody answers, Internal when it is not 200."""
        try:
            status, body = await asyncio.wait_for(self._exchange(method, target), TIMEOUT_S)
        except (OSError, TimeoutError, h11.ProtocolError) as error:
            raise Unavailable(f"Envoy does not answer: {error}") from None
        if status != 200:
            raise Internal(f"Envoy: {target}: {status} {body[:200].decode(errors='replace')}")
        return body

    async def _exchange(self, method: str, target: str) -> tuple[int, bytes]:
        reader, writer = await asyncio.open_unix_connection(self.path)
        try:
            asked = h11.Request(method=method, target=target, headers=[
                ("Host", "envoy"), ("Connection", "close"), ("Content-Length", "0")])
            answer = await exchange(reader, writer, asked, b"", LIMIT_BYTES)
        finally:
            writer.close()
        if not answer.whole:
            raise Internal("Envoy's answer is too long")
        return answer.status, answer.body

    async def counters(self, pattern: str, kind: str = "All") -> dict[str, int]:
        """Counters and gauges whose name fits an RE2 pattern; `kind`: All, Counters or Gauges. Raises Unavailable."""
        text = (await self.ask("GET", f"/stats?type={kind}&filter={pattern}")).decode()
        found = {}
        for line in text.splitlines():
            name, _, value = line.rpartition(": ")
            if value.isascii() and value.isdigit():
                found[name] = int(value)
        return found
