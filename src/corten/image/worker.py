"""Starting a confined worker: a fresh interpreter, one JSON question on stdin, one JSON answer on stdout.

The worker's module has a `main()`; descriptors it needs are inherited under the same numbers. A worker that says
nothing readable, dies or takes too long is a failed operation, never a half-done one: its folder is thrown away.
"""

import asyncio
import importlib.util
import json
import os
import sys
from collections.abc import Callable
from typing import Any

import corten
from corten.base import errors

_BOOT = (
    "import sys; sys.path += sys.argv[2:]; "
    "import importlib; importlib.import_module(sys.argv[1]).main()"
)
ANSWER_LIMIT = 256 << 20


def _module_paths() -> list[str]:
    """Where our package and the decoders live; `-IS` leaves site-packages out."""
    places = [os.path.dirname(os.path.dirname(os.path.abspath(corten.__file__)))]
    for name in ("isal", "zstandard"):
        spec = importlib.util.find_spec(name)
        if spec and spec.origin:
            place = os.path.dirname(os.path.dirname(os.path.abspath(spec.origin)))
            if place not in places:
                places.append(place)
    return places


def command(module: str) -> list[str]:
    """The argv of a worker."""
    return [sys.executable, "-IS", "-c", _BOOT, module, *_module_paths()]


def _raise(kind: str, text: str) -> None:
    found = getattr(errors, kind, None)
    if isinstance(found, type) and issubclass(found, errors.Error):
        raise found(text)
    raise errors.Internal(text)


def parse_answer(output: bytes, complaints: bytes, status: int | None) -> dict[str, Any]:
    """A worker's answer. Raises the error kind it names; Internal when it died without one."""
    try:
        answer = json.loads(output)
    except ValueError:
        tail = complaints.decode(errors="replace").strip().rsplit("\n", 1)[-1][:500]
        raise errors.Internal(f"a worker ended without an answer (status {status}): {tail}") from None
    if not isinstance(answer, dict):
        raise errors.Internal("a worker gave no object as its answer")
    if "error" in answer:
        _raise(str(answer["error"]), str(answer.get("text", "")))
    return answer


async def ask(
    module: str, question: dict[str, Any], descriptors: list[int], timeout_s: float | None
) -> dict[str, Any]:
    """Run a worker to its end. Raises the error it reports, Internal when it dies, InvalidArgument on timeout."""
    data = json.dumps({**question, "parent": os.getpid()}).encode()
    process = await asyncio.create_subprocess_exec(
        *command(module), stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE, pass_fds=descriptors, limit=ANSWER_LIMIT, env={}, cwd="/",
    )
    try:
        output, complaints = await asyncio.wait_for(process.communicate(data), timeout_s)
    except TimeoutError:
        assert timeout_s
        raise errors.InvalidArgument(f"the archive took longer than {timeout_s:.0f} seconds to read") from None
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    return parse_answer(output, complaints, process.returncode)


async def in_thread(function: Callable[..., Any], *arguments: Any) -> Any:
    """Blocking work off the loop. A cancelled wait goes on until the thread has seen the cancellation and stopped."""
    task = asyncio.ensure_future(asyncio.to_thread(function, *arguments))
    try:
        return await asyncio.shield(task)
    except asyncio.CancelledError:
        try:
            await task
        except BaseException:
            pass
        raise
