"""The audit log: one JSON line a request, written by Envoy; turned over when it is long, read back for users."""

import asyncio
import os
from collections.abc import AsyncIterator, Iterator

from corten.gateway.admin import Admin

LIMIT_BYTES = 64 << 20
KEPT = 5
BLOCK = 1 << 16
FOLLOW_S = 0.1


async def rotate(path: str, admin: Admin, limit_bytes: int = LIMIT_BYTES) -> bool:
    """Turn the log over when it is long: audit.log.1 is the one before. Whether it was. Raises OSError, Unavailable.

    Renamed first, then Envoy opens a new one: no line is lost between.
    """
    try:
        if os.stat(path).st_size < limit_bytes:
            return False
    except FileNotFoundError:
        return False
    for number in range(KEPT - 1, 0, -1):
        try:
            os.rename(f"{path}.{number}", f"{path}.{number + 1}")
        except FileNotFoundError:
            continue
    os.rename(path, f"{path}.1")
    await admin.ask("POST", "/reopen_logs")
    return True


def tail(path: str, count: int) -> list[bytes]:
    """The last whole lines, oldest first, from the log and the one before."""
    found: list[bytes] = []
    for name in (path, f"{path}.1"):
        for line in _backwards(name):
            if len(found) >= count:
                break
            found.append(line)
    return found[::-1]


async def follow(path: str, count: int, on: bool) -> AsyncIterator[bytes]:
    """The last lines, each with its newline; then, if `on`, those that come, over turns of the log."""
    descriptor, at = -1, 0
    try:
        if on:
            descriptor, at = _open(path)
        for line in tail(path, count):
            yield line + b"\n"
        rest, ended = b"", False
        while on:
            data = os.pread(descriptor, BLOCK, at) if descriptor >= 0 else b""
            if data:
                at += len(data)
                whole, newline, rest = (rest + data).rpartition(b"\n")
                if newline:
                    yield whole + newline
                continue
            if descriptor < 0 or not _same(descriptor, path):
                if descriptor >= 0 and not ended:
                    ended = True  # Envoy has gone on to the next: look once more at what it wrote here last
                    continue
                ended = False
                if descriptor >= 0:
                    os.close(descriptor)
                descriptor, _ = _open(path)
                at, rest = 0, b""
            await asyncio.sleep(FOLLOW_S)
    finally:
        if descriptor >= 0:
            os.close(descriptor)


def _open(path: str) -> tuple[int, int]:
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        return -1, 0
    return descriptor, os.fstat(descriptor).st_size


def _same(descriptor: int, path: str) -> bool:
    try:
        return os.path.samestat(os.fstat(descriptor), os.stat(path))
    except FileNotFoundError:
        return True  # being turned over: what is open may still grow


def _backwards(path: str) -> Iterator[bytes]:
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        return
    try:
        at = os.fstat(descriptor).st_size
        rest = b""
        whole = False  # the last line counts only once its newline is there
        while at > 0:
            size = min(BLOCK, at)
            at -= size
            lines = (os.pread(descriptor, size, at) + rest).split(b"\n")
            rest = lines[0]
            for line in reversed(lines[1:]):
                if whole and line:
                    yield line
                whole = True
        if rest and whole:
            yield rest
    finally:
        os.close(descriptor)
