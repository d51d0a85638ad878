"""Blobs down and up: streamed with bounded buffers, resumed after a cut, given up when they drip.

Neither knows what a blob is for; digests of what came down are checked by whoever owns the sink.
Source: OCI distribution-spec 1.1 "Pulling blobs", "Pushing blobs", "Mounting a blob from another repository".
"""

import asyncio
import urllib.parse
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any, Protocol

from corten.oci.distribution_spec import parse_content_range, parse_upload_range
from corten.registry.auth import scope
from corten.registry.client import RETRIED, Client
from corten.registry.errors import RegistryError, RegistryFailed, TooSlow, Unreachable
from corten.registry.settings import Settings
from corten.registry.upload_body import file_body

if TYPE_CHECKING:
    import aiohttp

_BATCH_BYTES = 1 << 20
_PIECE_BYTES = 64 << 20  # of a chunked upload
_STALLS = 2

Progress = Callable[[int], None]  # bytes moved so far

# waits until a file that is being written has more bytes than told, or is whole: (bytes there, its digest when whole)
Growth = Callable[[int], Awaitable[tuple[int, str]]]


class Sink(Protocol):
    """Where a blob goes; `offset` bytes are there already."""

    offset: int

    def write(self, data: bytes) -> None: ...

    def restart(self) -> None: ...


async def fetch(client: Client, digest: str, size: int, sink: Sink, progress: Progress) -> None:
    """Bring `sink` from its offset to `size` bytes; a cut transfer goes on where it stopped.

    Raises RegistryError kinds, Unreachable when it stays cut, TooSlow, and what the sink raises.
    """
    attempt = stalls = 0
    while sink.offset < size:
        before = sink.offset
        try:
            await _fetch_part(client, digest, sink, progress)
            if sink.offset < size:
                raise Unreachable(f"blob {digest} ends after {sink.offset} of {size} bytes")
        except _Stalled:
            stalls = 1 if sink.offset > before else stalls + 1
            if stalls >= _STALLS:
                raise TooSlow(f"no data of {digest} for {client.settings.rate_window_s:g} s: given up") from None
        except Unreachable:
            attempt = 1 if sink.offset > before else attempt + 1
            if attempt >= client.settings.attempts:
                raise
            await client.pause(attempt)
    progress(sink.offset)


class _Stalled(Exception):
    """Nothing came for a whole window."""


async def _fetch_part(client: Client, digest: str, sink: Sink, progress: Progress) -> None:
    headers = {"Range": f"bytes={sink.offset}-"} if sink.offset else {}
    answer = await client.send("GET", client.url(f"blobs/{digest}"), headers)
    if answer.status == 416 and sink.offset:
        answer.release()
        await asyncio.to_thread(sink.restart)
        raise Unreachable(f"blob {digest}: the registry cannot continue it")
    if answer.status not in (200, 206):
        raise await client.failure(answer)
    try:
        if sink.offset:
            found = parse_content_range(answer.headers.get("Content-Range", "")) if answer.status == 206 else None
            if found is None or found[0] != sink.offset:
                if answer.status == 206:
                    raise Unreachable(f"blob {digest}: the registry answered another range than asked for")
                await asyncio.to_thread(sink.restart)  # the whole again: it does not know ranges
        await _pour(client, digest, answer, sink, progress)
    finally:
        answer.close()


async def _pour(
    client: Client, digest: str, answer: "aiohttp.ClientResponse", sink: Sink, progress: Progress
) -> None:
    """Body to sink; the next batch is read while a thread hashes and writes the last one."""
    reader = _Reader(client.settings, digest, answer)
    pending: asyncio.Task[None] | None = None
    try:
        while batch := await reader.batch():
            if pending:
                await asyncio.shield(pending)
                progress(sink.offset)
            pending = asyncio.create_task(asyncio.to_thread(_write_all, sink, batch))
    finally:
        if pending:
            await _settle(pending)
            progress(sink.offset)
    if reader.fault:
        raise reader.fault


async def _settle(pending: "asyncio.Task[None]") -> None:
    """Wait for a thread even when cancelled: the sink is closed by the caller next."""
    cancelled: asyncio.CancelledError | None = None
    while not pending.done():
        try:
            await asyncio.shield(pending)
        except asyncio.CancelledError as error:
            cancelled = error
        except Exception:
            break
    if cancelled:
        raise cancelled
    pending.result()


def _write_all(sink: Sink, batch: list[bytes]) -> None:
    for chunk in batch:
        sink.write(chunk)


class _Reader:
    """A body in lists of about 1 MiB, with an eye on its rate; `fault` says why it ended when not at its end."""

    __slots__ = ("_answer", "_digest", "_left_s", "_settings", "_window", "fault")

    def __init__(self, settings: Settings, digest: str, answer: "aiohttp.ClientResponse") -> None:
        self._settings, self._digest, self._answer = settings, digest, answer
        self._window = 0                        # bytes that came within the window under way
        self._left_s = settings.rate_window_s   # how much of it is left; time spent writing does not count
        self.fault: Exception | None = None

    async def batch(self) -> list[bytes]:
        """The next chunks, [] at the end or after a fault."""
        import aiohttp

        batch: list[bytes] = []
        held = 0
        needed = self._settings.minimum_rate * self._settings.rate_window_s
        loop = asyncio.get_running_loop()
        deadline = loop.time() + self._left_s
        if self.fault:
            return batch
        try:
            async with asyncio.timeout_at(deadline) as limit:
                while held < _BATCH_BYTES and (chunk := await self._answer.content.readany()):
                    batch.append(chunk)
                    held += len(chunk)
                    self._window += len(chunk)
                    if self._window >= needed:
                        self._window, deadline = 0, loop.time() + self._settings.rate_window_s
                        limit.reschedule(deadline)
        except TimeoutError:
            self.fault = self._slow() if self._window else _Stalled()
        except (aiohttp.ClientError, OSError):
            self.fault = Unreachable(f"transfer of {self._digest} was cut: unexpected EOF")
        self._left_s = max(deadline - loop.time(), 0.001)
        return batch

    def _slow(self) -> TooSlow:
        rate = self._window / self._settings.rate_window_s
        least = self._settings.minimum_rate
        return TooSlow(f"transfer of {self._digest} at {rate:.0f} B/s, under the minimum of {least} B/s: given up")


# --- up


async def mount(client: Client, digest: str, source: str) -> str | None:
    """Ask for a blob of another repository of the same registry; None when it is mounted, else where to upload it.

    Raises RegistryError kinds, Unreachable.
    """
    query = urllib.parse.urlencode({"mount": digest, "from": source})
    return await _begin(client, f"blobs/uploads/?{query}", (scope(source, "pull"),))


async def upload(
    client: Client, descriptor: int, digest: str, size: int, progress: Progress, location: str | None = None
) -> None:
    """Send a file's first `size` bytes as one PUT; should that fail on the way, in pieces, going on where it stopped.

    `location`: where to send, from `mount`. Raises RegistryError kinds, Unreachable.
    """
    if location is None:
        location = await _begin(client, "blobs/uploads/")
    if location is None:
        return
    url = _finish_url(location, digest)
    headers = {"Content-Type": "application/octet-stream", "Content-Length": str(size)}

    def whole() -> Any:
        return file_body(descriptor, 0, size, progress)

    try:
        answer = await client.once("PUT", url, headers, whole if size else b"")
        if answer.status in (200, 201, 204):
            answer.release()
            progress(size)
            return
        failure = await client.failure(answer)
        if answer.status not in (*RETRIED, 404, 413, 416):
            raise failure
    except Unreachable:
        pass
    await client.pause(1)
    if await client.blob_size(digest) is None:

        async def whole_already(_offset: int) -> tuple[int, str]:
            return size, digest

        await upload_growing(client, descriptor, whole_already, progress)


async def _begin(client: Client, path: str, scopes: tuple[str, ...] = ()) -> str | None:
    """Where to upload, None when the registry made the blob at once (a mount)."""
    answer = await client.send("POST", client.url(path), {"Content-Length": "0"}, None, scopes)
    if answer.status == 201:
        answer.release()
        return None
    if answer.status not in (200, 202):
        raise await client.failure(answer)
    answer.release()
    return _location(answer)


async def upload_growing(client: Client, descriptor: int, growth: Growth, progress: Progress) -> None:
    """Send a file while it is being written, up to 64 MiB a PATCH, then the closing PUT.

    After a failure the registry is asked how far it got. Raises RegistryError kinds, Unreachable.
    """
    attempt = offset = furthest = 0
    location: str | None = None
    while True:
        available, digest = await growth(offset)
        if offset == available and digest and location is not None:
            break
        if location is None and (location := await _begin(client, "blobs/uploads/")) is None:
            return
        end = min(offset + _PIECE_BYTES, available)
        failure, moved = await _patch(client, location, descriptor, offset, end, progress)
        if failure is None:
            location, offset = moved, end
            if offset > furthest:  # a registry that forgets an upload again and again is no progress
                furthest, attempt = offset, 0
            continue
        attempt += 1
        if attempt >= client.settings.attempts:
            raise failure
        await client.pause(attempt)
        location, offset = await _resume_point(client, location)
    answer = await client.send("PUT", _finish_url(location, digest), {"Content-Length": "0"})
    if answer.status not in (200, 201, 204):
        raise await client.failure(answer)
    answer.release()


async def _patch(
    client: Client, location: str, descriptor: int, start: int, end: int, progress: Progress
) -> tuple[RegistryError | Unreachable | None, str]:
    """(None, where to go on), or (a failure worth another try, "")."""
    headers = {
        "Content-Type": "application/octet-stream", "Content-Length": str(end - start),
        "Content-Range": f"{start}-{end - 1}",
    }
    try:
        answer = await client.once(
            "PATCH", location, headers, lambda: file_body(descriptor, start, end, progress) if end > start else b""
        )
        if answer.status in (200, 201, 202, 204):
            answer.release()
            return None, _location(answer)
        failure = await client.failure(answer)
    except Unreachable as error:
        return error, ""
    if answer.status not in (*RETRIED, 404, 416):
        raise failure
    return failure, ""


async def _resume_point(client: Client, location: str) -> tuple[str | None, int]:
    """(where, how many bytes are there); a new upload when the registry has forgotten the old one."""
    answer = await client.send("GET", location)
    answer.release()
    if answer.status in (200, 204):
        return _location(answer) if "Location" in answer.headers else location, parse_upload_range(
            answer.headers.get("Range", "")
        )
    if answer.status != 404:
        raise RegistryFailed(f"upload cannot go on: status {answer.status}", answer.status, "")
    return await _begin(client, "blobs/uploads/"), 0


def _location(answer: "aiohttp.ClientResponse") -> str:
    target = answer.headers.get("Location", "")
    joined = urllib.parse.urljoin(str(answer.url), target)
    if not target or (str(answer.url).startswith("https:") and not joined.startswith("https:")):
        raise Unreachable(f"registry gave no usable place to upload to: {target[:200]!r}")
    return joined


def _finish_url(location: str, digest: str) -> str:
    return f"{location}{'&' if '?' in location else '?'}digest={urllib.parse.quote(digest, safe='')}"
