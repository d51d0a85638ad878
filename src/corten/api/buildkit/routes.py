"""`POST /grpc` and `POST /session`: two connections of a client that has something built by BuildKit's protocol.

The libraries behind it are imported on first use: a daemon that builds nothing does without them.
"""

from typing import TYPE_CHECKING
from weakref import WeakKeyDictionary

from corten.api.response import Response, hijacked
from corten.api.router import Route
from corten.base.errors import InvalidArgument

if TYPE_CHECKING:
    from corten.api.request import Request
    from corten.engine.engine import Engine


class Parts:
    """Sessions and services of one engine, made on first use."""

    def __init__(self, engine: "Engine") -> None:
        from corten.api.buildkit.control import Service
        from corten.api.buildkit.sessions import Sessions

        self.sessions = Sessions()
        self.service = Service(engine, self.sessions)


_parts: "WeakKeyDictionary[Engine, Parts]" = WeakKeyDictionary()


def parts_of(engine: "Engine") -> Parts:
    """Made on first use."""
    if engine not in _parts:
        _parts[engine] = Parts(engine)
    return _parts[engine]


def _check_upgrade(request: "Request") -> None:
    wanted = request.headers.get("upgrade", "")
    if not wanted:
        raise InvalidArgument("no upgrade proto in request")
    if wanted.lower() != "h2c":
        raise InvalidArgument(f"protocol {wanted} not supported")


async def session(request: "Request", engine: "Engine") -> Response:
    """Held until the client leaves. Raises InvalidArgument."""
    _check_upgrade(request)
    await parts_of(engine).sessions.accept(request)
    return hijacked()


async def grpc(request: "Request", engine: "Engine") -> Response:
    """Answered until the client leaves. Raises InvalidArgument."""
    _check_upgrade(request)
    from corten.build.buildkit.connection import serve

    parts = parts_of(engine)
    await serve(await request.hijack(upgrade="h2c"), parts.service.methods)
    return hijacked()


ROUTES = [
    Route("POST", "/session", session, ends_with_client=True),
    Route("POST", "/grpc", grpc, ends_with_client=True),
]
