"""GET /containers/{id}/logs."""

import re
from typing import Any

from corten.api.attach import stream_type
from corten.api.request import Request
from corten.api.response import Response, streaming
from corten.api.router import Route
from corten.base.errors import InvalidArgument
from corten.engine.logs import LogRequest

_TIMESTAMP = re.compile(r"(-?[0-9]{1,12})(?:\.([0-9]{1,9}))?", re.ASCII)


def timestamp_ns(text: str, name: str) -> int:
    """`1700000000.5` -> nanoseconds; empty is 0. Raises InvalidArgument."""
    if not text:
        return 0
    found = _TIMESTAMP.fullmatch(text)
    if not found:
        raise InvalidArgument(f'invalid value for "{name}": failed to parse value as time or duration: "{text}"')
    return max(0, int(found[1]) * 1_000_000_000 + int((found[2] or "").ljust(9, "0")))


async def logs(request: Request, engine: Any) -> Response:
    """Chunked: what there is, then (follow) what comes until the container ends."""
    query = request.query
    stdout, stderr = query.flag("stdout"), query.flag("stderr")
    engine.containers.get(request.params["id"])
    if not (stdout or stderr):
        raise InvalidArgument("Bad parameters: you must choose at least one stream")
    tail = query.get("tail")
    asked = LogRequest(
        stdout=stdout, stderr=stderr, tail=int(tail) if re.fullmatch("[0-9]{1,9}", tail, re.ASCII) else -1,
        since_ns=timestamp_ns(query.get("since"), "since"), until_ns=timestamp_ns(query.get("until"), "until"),
        timestamps=query.flag("timestamps"), details=query.flag("details"),
    )
    record, pieces = engine.streams.logs(request.params["id"], asked, query.flag("follow"))
    return streaming(pieces, stream_type(request, record.config.tty))


ROUTES = [Route("GET", "/containers/{id}/logs", logs)]
