"""From a kind of failure to an HTTP status: the one table of this front."""

import logging

from corten.api.response import Response, json_response, text
from corten.base.errors import (
    Conflict,
    Error,
    Forbidden,
    Internal,
    InvalidArgument,
    NotFound,
    NotModified,
    Unauthorized,
    Unavailable,
    Unsupported,
)

STATUS: dict[type[BaseException], int] = {
    NotModified: 304,
    InvalidArgument: 400,
    Unauthorized: 401,
    Forbidden: 403,
    NotFound: 404,
    Conflict: 409,
    Internal: 500,
    Unsupported: 501,
    Unavailable: 503,
}

_log = logging.getLogger(__name__)


def status_of(error: BaseException) -> int:
    """The status of an error by its kind; 500 for everything without one."""
    for kind in type(error).__mro__:
        if kind in STATUS:
            return STATUS[kind]
    return 500


def error_text(error: BaseException) -> str:
    """What a user reads. A failure that is not ours is told by its type as well; the trace goes to the log."""
    if isinstance(error, Error):
        return str(error) or type(error).__name__
    if isinstance(error, OSError) and error.strerror:
        return f"{error.strerror}: {error.filename}" if error.filename else error.strerror
    return f"internal error: {type(error).__name__}: {error}"


def error_response(error: BaseException, version: tuple[int, int] = (1, 51)) -> Response:
    """`{"message": …}`; plain text for versions before 1.24, which did not know JSON errors."""
    status = status_of(error)
    if not isinstance(error, Error):
        _log.error("a request failed", exc_info=error)
    if status == 304:
        return Response(304)
    if version < (1, 24):
        return text(error_text(error) + "\n", status)
    return json_response({"message": error_text(error)}, status)
