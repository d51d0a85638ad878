"""POST /containers/{id}/attach and /resize, GET /containers/{id}/attach/ws."""

import re
from typing import Any

from corten.api.request import Request
from corten.api.response import MULTIPLEXED_STREAM, RAW_STREAM, Response, empty, hijacked
from corten.api.router import Route
from corten.base.errors import InvalidArgument
from corten.engine.attach import AttachRequest
from corten.engine.streams import parse_detach_keys


def stream_type(request: Request, tty: bool) -> str:
    """Before 1.42 every stream was called raw."""
    return RAW_STREAM if tty or request.version < (1, 42) else MULTIPLEXED_STREAM


def _asked(request: Request, framed: bool | None = None) -> AttachRequest:
    query = request.query
    return AttachRequest(
        stdin=query.flag("stdin"), stdout=query.flag("stdout"), stderr=query.flag("stderr"), logs=query.flag("logs"),
        stream=query.flag("stream"), detach_keys=parse_detach_keys(query.get("detachKeys")), framed=framed,
    )


async def attach(request: Request, engine: Any) -> Response:
    """In place before the client reads 101: what is written after that is seen."""
    attachment = engine.streams.attach(request.params["id"], _asked(request))
    tty = engine.containers.get(request.params["id"]).config.tty
    try:
        connection = await request.hijack(stream_type(request, tty))
    except BaseException:
        attachment.close()
        raise
    await attachment.run(connection)
    return hijacked()


async def attach_websocket(request: Request, engine: Any) -> Response:
    """The same over a websocket, without frames: a browser cannot take a connection over."""
    from corten.api.websocket import WebSocket, accept_token

    token = accept_token(request)
    asked = _asked(request, framed=False)
    attachment = engine.streams.attach(request.params["id"], asked)
    try:
        raw = await request.hijack(upgrade="websocket", headers=[("Sec-WebSocket-Accept", token)])
    except BaseException:
        attachment.close()
        raise
    connection = WebSocket(raw, wants_input=asked.stdin)
    try:
        await attachment.run(connection)
        await connection.goodbye()
    finally:
        connection.close()
    return hijacked()


def terminal_size(request: Request) -> tuple[int, int]:
    """(rows, columns) of a resize request. Raises InvalidArgument."""
    found = []
    for name, word in (("h", "height"), ("w", "width")):
        text = request.query.get(name)
        if not re.fullmatch("[0-9]{1,5}", text, re.ASCII) or int(text) > 65535:
            reason = "value out of range" if re.fullmatch("-?[0-9]+", text, re.ASCII) else "invalid syntax"
            raise InvalidArgument(f'invalid resize {word} "{text}": {reason}')
        found.append(int(text))
    return found[0], found[1]


async def resize(request: Request, engine: Any) -> Response:
    """`h` and `w` in characters."""
    rows, columns = terminal_size(request)
    await engine.containers.resize(request.params["id"], rows, columns)
    return empty(200)


ROUTES = [
    Route("POST", "/containers/{id}/attach", attach),
    Route("GET", "/containers/{id}/attach/ws", attach_websocket),
    Route("POST", "/containers/{id}/resize", resize),
]
