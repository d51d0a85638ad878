"""The worker's half of worker.py: read the question, answer in one line, whatever happens. Standard library only."""

import gc
import json
import os
import sys

from corten.base.errors import Error
from corten.image.confine import PR_SET_PDEATHSIG
from corten.linux.heap import keep_freed
from corten.linux.libc import libc

HEAP_BYTES = 32 << 20  # of freed buffers that a worker keeps

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any


def serve(work: "Callable[[dict[str, Any]], dict[str, Any]]") -> None:
    """Answer the one question on stdin by `work`, and leave at once (no interpreter shutdown)."""
    gc.disable()  # short-lived, and nothing here makes cycles
    keep_freed(HEAP_BYTES)
    libc.prctl(PR_SET_PDEATHSIG, 9, 0, 0, 0)
    question = json.loads(sys.stdin.buffer.read())
    if os.getppid() != question["parent"]:
        os._exit(1)  # the daemon was killed before we could ask to go with it
    try:
        answer = work(question)
    except (Error, OSError, MemoryError) as error:
        answer = error_answer(error)
    data = json.dumps(answer).encode()
    view = memoryview(data)
    while view:
        view = view[os.write(1, view):]
    os._exit(0)


def error_answer(error: BaseException) -> "dict[str, Any]":
    """A failure as the daemon's side raises it again."""
    if isinstance(error, Error):
        return {"error": _kind(error), "text": str(error)}
    if isinstance(error, MemoryError):
        return {"error": "InvalidArgument", "text": "the archive takes more memory to read than the limit"}
    return {"error": "Internal", "text": f"{getattr(error, 'strerror', None) or error}"}


def _kind(error: Error) -> str:
    """The name of the nearest kind of base.errors above a concrete error."""
    for ancestor in type(error).__mro__:
        if ancestor.__module__ == "corten.base.errors":
            return ancestor.__name__
    return "Internal"
