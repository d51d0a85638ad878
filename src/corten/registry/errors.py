"""What goes wrong between us and a registry, in docker's words: answers that are errors, and connections that fail."""

import errno
import os
import ssl
from http import HTTPStatus

from corten.base.errors import Error, Internal, NotFound, Unauthorized
from corten.base.tls_errors import NOT_TLS, handshake_failure, unverified
from corten.oci.distribution_spec import error_text, parse_challenges, parse_errors

_NOT_FOUND = ("MANIFEST_UNKNOWN", "NAME_UNKNOWN", "BLOB_UNKNOWN")


class RegistryError(Error):
    """A registry's answer that is an error. `code` as in the protocol (`MANIFEST_UNKNOWN`), "" when it gave none."""

    def __init__(self, text: str, status: int, code: str) -> None:
        super().__init__(text)
        self.status = status
        self.code = code


class RegistryNotFound(RegistryError, NotFound):
    """Name, manifest or blob unknown."""


class RegistryUnauthorized(RegistryError, Unauthorized):
    """Credentials missing or refused."""


class RegistryFailed(RegistryError, Internal):
    """Anything else."""


class LoginFailed(RegistryFailed):
    """A registry that authenticates by itself refused a login. Docker tells this as status 500."""


class Unreachable(Internal):
    """No answer: the connection failed. Docker tells this as status 500."""


class TooSlow(Internal):
    """A transfer stayed under the minimum rate and was given up."""


class NoCredentials(Internal):
    """The registry asks for a login and there is none to give. Docker tells this as status 500."""


def status_line(status: int) -> str:
    """`401 Unauthorized`."""
    try:
        return f"{status} {HTTPStatus(status).phrase}"
    except ValueError:
        return str(status)


def from_answer(status: int, challenge: str, body: bytes) -> RegistryError:
    """The error that an answer is; `challenge` is its WWW-Authenticate header."""
    if status == 401 and any(found.get("error") == "insufficient_scope" for found in parse_challenges(challenge)):
        return RegistryNotFound("denied: requested access to the resource is denied", status, "DENIED")
    errors = parse_errors(body)
    if errors:
        code, message = errors[0]
    elif status == 401:
        code, message = "UNAUTHORIZED", "authentication required"
    elif status == 429:
        code, message = "TOOMANYREQUESTS", "too many requests"
    else:
        return RegistryFailed(f"received unexpected HTTP status: {status_line(status)}", status, "")
    text = error_text(code, message)
    if code in _NOT_FOUND:
        return RegistryNotFound(text, status, code)
    if code == "UNAUTHORIZED":
        return RegistryUnauthorized(text, status, code)
    return RegistryFailed(text, status, code)


def explain(error: BaseException, host: str, port: int | None) -> str:
    """A failed connection as Go's net package words it."""
    import aiohttp

    cause = error.os_error if isinstance(error, aiohttp.ClientConnectorError) else error
    if isinstance(error.__cause__, ssl.SSLError):  # after the handshake: what the other side says of it
        cause = error.__cause__
    address = f"{host}:{port}"
    if isinstance(error, aiohttp.ClientConnectorDNSError):
        return f"dial tcp: lookup {host}{_nameserver()}: no such host"
    if isinstance(error, (aiohttp.ClientConnectorCertificateError, ssl.SSLCertVerificationError)):
        reason = getattr(getattr(error, "certificate_error", error), "verify_message", "") or str(error)
        return unverified(reason)
    if isinstance(cause, ssl.SSLError):
        said = handshake_failure(cause)
        return "http: server gave HTTP response to HTTPS client" if said == NOT_TLS else said
    if isinstance(error, TimeoutError):
        return f"dial tcp {address}: i/o timeout"
    if isinstance(error, aiohttp.ServerDisconnectedError):
        return "EOF"
    if isinstance(cause, OSError) and cause.errno:
        name = _address(address, host)
        if cause.errno == errno.ECONNRESET:
            return f"read tcp {name}: read: connection reset by peer"
        return f"dial tcp {name}: connect: {os.strerror(cause.errno).lower()}"
    return str(error) or type(error).__name__


def _address(text: str, host: str) -> str:
    return text.replace("localhost", "127.0.0.1", 1) if host == "localhost" else text


def _nameserver() -> str:
    try:
        with open("/etc/resolv.conf", encoding="utf-8", errors="replace") as source:
            for line in source:
                words = line.split()
                if len(words) > 1 and words[0] == "nameserver":
                    return f" on {words[1]}:53"
    except OSError:
        pass
    return ""
