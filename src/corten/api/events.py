"""GET /events: a JSON object an event, until `until` or the client ends."""

import re
from typing import Any

from corten.api.logs import timestamp_ns
from corten.api.request import Request
from corten.api.response import JSON, Response, streaming
from corten.api.router import Route
from corten.api.stats import lines
from corten.base.errors import InvalidArgument
from corten.base.units import parse_time


def moment_ns(text: str, name: str) -> int:
    """Seconds with a fraction, RFC 3339, or a duration ago; empty is 0. Raises InvalidArgument."""
    if re.fullmatch(r"[-0-9.]*", text, re.ASCII):
        return timestamp_ns(text, name)
    return parse_time(text)


async def events(request: Request, engine: Any) -> Response:
    query = request.query
    since, until = moment_ns(query.get("since"), "since"), moment_ns(query.get("until"), "until")
    if since and until and since > until:
        raise InvalidArgument("`since` time (" + query.get("since") + ") cannot be after `until` time ("
                              + query.get("until") + ")")
    if query.get("since") and not since:
        since = 1  # `since=0` is the beginning of time, not the absence of a wish
    return streaming(lines(engine.events.subscribe(since, until, query.filters())), JSON)


ROUTES = [Route("GET", "/events", events)]
