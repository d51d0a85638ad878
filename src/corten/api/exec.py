"""The exec family of the API: create, start (a hijacked stream, or detached), resize, inspect."""

import asyncio

from corten.api.attach import stream_type, terminal_size
from corten.api.request import Request
from corten.api.response import Response, empty, hijacked, json_response
from corten.api.router import Route
from corten.base.errors import Error
from corten.engine.engine import Engine
from corten.engine.exec import close_all, close_late
from corten.engine.records import ExecRequest, ExecStartRequest
from corten.engine.streams import STDOUT, frame_header, parse_detach_keys, run_duplex


async def create(request: Request, engine: Engine) -> Response:
    """POST /containers/{id}/exec"""
    body = await request.json(ExecRequest)
    parse_detach_keys(body.detach_keys)
    await engine.containers.settled(request.params["id"])
    return json_response({"Id": engine.execs.create(request.params["id"], body)}, 201)


async def start(request: Request, engine: Engine) -> Response:
    """POST /exec/{id}/start: a failure after the take-over is told in the stream, as Docker does."""
    body = await request.json(ExecStartRequest)
    exec_id = request.params["id"]
    if body.detach:
        close_all(await engine.execs.start(exec_id, attach=False, console_size=body.console_size))
        return empty(200)
    asked = engine.execs.get(exec_id).request
    starting = engine.execs.start_beside(exec_id, body.console_size)
    exited = engine.execs.exited(exec_id)
    try:
        await asyncio.sleep(0)  # it is asked for before the client is told: that is on its way meanwhile
        connection = await request.hijack(stream_type(request, body.tty))  # the start says how, the exec what
    except BaseException:
        starting.add_done_callback(close_late)
        raise
    try:
        started = await starting
    except Error as error:
        text = f"{error}\r\n".encode()
        await connection.write(text if body.tty else frame_header(STDOUT, len(text)) + text)
        connection.close()
        return hijacked()
    stdin = started.stdin if asked.attach_stdin else -1
    keys = parse_detach_keys(asked.detach_keys) if asked.tty else None
    try:
        ended = await run_duplex(connection, stdin_fd=stdin, stdout_fd=started.stdout, stderr_fd=started.stderr,
                                 tty=asked.tty, framed=not body.tty, detach_keys=keys, exited=exited)
        if not ended.detached and not ended.disconnected and not exited.done():
            await engine.execs.code_is_known(exec_id)
    finally:
        connection.close()
    return hijacked()


async def resize(request: Request, engine: Engine) -> Response:
    """POST /exec/{id}/resize?h=&w="""
    rows, columns = terminal_size(request)
    await engine.execs.resize(request.params["id"], rows, columns)
    return empty(200)


async def inspect(request: Request, engine: Engine) -> Response:
    """GET /exec/{id}/json"""
    return json_response(engine.execs.inspect(request.params["id"]))


ROUTES = [
    Route("POST", "/containers/{id}/exec", create),
    Route("POST", "/exec/{id}/start", start),
    Route("POST", "/exec/{id}/resize", resize),
    Route("GET", "/exec/{id}/json", inspect),
]
