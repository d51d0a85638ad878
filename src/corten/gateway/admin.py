"""Envoy's own interface, on a unix socket that root alone reaches: counters, Prometheus, reopening logs."""

import asyncio

import h11

from corten.base.errors import Internal, Unavailable

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
            http = h11.Connection(h11.CLIENT)
            asked = h11.Request(method=method, target=target, headers=[
                ("Host", "envoy"), ("Connection", "close"), ("Content-Length", "0")])
            writer.write((http.send(asked) or b"") + (http.send(h11.EndOfMessage()) or b""))
            status, parts, size = 0, [], 0
            while True:
                event = http.next_event()
                if event is h11.NEED_DATA:
                    http.receive_data(await reader.read(1 << 16))
                elif isinstance(event, h11.Response):
                    status = event.status_code
                elif isinstance(event, h11.Data):
                    parts.append(bytes(event.data))
                    size += len(event.data)
                    if size > LIMIT_BYTES:
                        raise Internal("Envoy's answer is too long")
                elif isinstance(event, h11.EndOfMessage):
                    return status, b"".join(parts)
                elif isinstance(event, h11.ConnectionClosed):
                    raise OSError("connection closed")
        finally:
            writer.close()

    async def counters(self, pattern: str = "") -> dict[str, int]:
        """Counters and gauges whose name fits an RE2 pattern. Raises Unavailable."""
        text = (await self.ask("GET", f"/stats?filter={pattern}" if pattern else "/stats")).decode()
        found = {}
        for line in text.splitlines():
            name, _, value = line.rpartition(": ")
            if value.isascii() and value.isdigit():
                found[name] = int(value)
        return found
