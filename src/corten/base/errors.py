"""The kinds of failure, one class each; a front maps a kind to its own code (HTTP status, exit code).

A concrete error is a subclass beside its `raise`, or a kind with a text. Texts equal Docker's where a client parses
them.
"""


class Error(Exception):
    """Base of everything corten raises on purpose; `str(error)` is the text a user reads."""


class InvalidArgument(Error):
    """The request makes no sense as it stands (HTTP 400)."""


class Unauthorized(Error):
    """Credentials are missing or wrong (HTTP 401)."""


class Forbidden(Error):
    """Known caller, not allowed (HTTP 403)."""


class NotFound(Error):
    """The thing named is not there (HTTP 404)."""


class Conflict(Error):
    """The thing is in a state or use that forbids this (HTTP 409)."""


class NotModified(Error):
    """Already so (HTTP 304)."""


class Unavailable(Error):
    """Cannot be done now; later perhaps (HTTP 503)."""


class Unsupported(Error):
    """Known and not done here (HTTP 501). The text names the field, flag or route."""


class Internal(Error):
    """Our own fault, or the kernel's refusal of something that should work (HTTP 500)."""
