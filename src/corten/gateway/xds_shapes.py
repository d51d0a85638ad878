"""Small pieces of Envoy's JSON that every renderer needs. Pure.

https://www.envoyproxy.io/docs/envoy/v1.36.0/api-v3/api
"""

from hashlib import sha256
from typing import Any
from urllib.parse import urlsplit

from corten.base.errors import InvalidArgument
from corten.base.units import parse_duration

Json = dict[str, Any]
TYPE = "type.googleapis.com/"
HTTP_FILTER = "envoy.extensions.filters.http."
CLIENT_HEADER = "x-corten-client"  # the name of the API key, set by the gateway alone


def typed(name: str, /, **members: Any) -> Json:
    """An Any: the message `name` with its members."""
    return {"@type": TYPE + name, **members}


def http_filter(name: str, /, **members: Any) -> Json:
    """A message of an HTTP filter: `cors.v3.Cors`."""
    return typed(HTTP_FILTER + name, **members)


def file_source(path: str) -> Json:
    """A resource that is read from a file, again whenever another is renamed to it."""
    return {"path_config_source": {"path": path}, "resource_api_version": "V3"}


def secret_file(name: str) -> str:
    """The file of a secret, without .json: Envoy reads one from each."""
    return f"sds.{sha256(name.encode()).hexdigest()[:16]}"


def secret_source(folder: str, name: str) -> Json:
    """A secret by its name."""
    return {"name": name, "sds_config": file_source(f"{folder}/{secret_file(name)}.json")}


def seconds(text: str, what: str) -> str:
    """A protobuf duration from one like `1m30s`. Raises InvalidArgument."""
    try:
        value = parse_duration(text)
    except InvalidArgument as error:
        raise InvalidArgument(f"{what}: {error}") from None
    if not 0 <= value <= 31_536_000:
        raise InvalidArgument(f"{what}: {text}: not between 0 and a year")
    return f"{value:.9f}".rstrip("0").rstrip(".") + "s"


def header_option(name: str, value: str, replace: bool = True) -> Json:
    """A header to set or to add; Envoy's percent commands in a value are plain text to us."""
    return {"header": {"key": name, "value": value.replace("%", "%%")},
            "append_action": "OVERWRITE_IF_EXISTS_OR_ADD" if replace else "APPEND_IF_EXISTS_OR_ADD"}


def exact_or_present(value: str) -> Json:
    """How a header's or a query parameter's value is asked for: `*` means present."""
    return {"present_match": True} if value == "*" else {"string_match": {"exact": value}}


class Target:
    """An outside service that Envoy itself speaks to: a cluster for it and the URL."""

    __slots__ = ("host", "name", "path", "port", "tls", "url")

    def __init__(self, url: str, what: str) -> None:
        """Raises InvalidArgument."""
        try:
            parts = urlsplit(url)
            port = parts.port
        except ValueError as error:
            raise InvalidArgument(f"{what}: {url}: {error}") from None
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise InvalidArgument(f"{what}: {url!r} is no http:// or https:// URL")
        self.url, self.host, self.path = url, parts.hostname, parts.path
        self.tls = parts.scheme == "https"
        self.port = port or (443 if self.tls else 80)
        self.name = f"outside|{parts.scheme}://{self.host}:{self.port}"
