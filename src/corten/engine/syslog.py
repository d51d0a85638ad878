"""Lines of a container as syslog messages: addresses, facilities, the four formats. Pure.

Texts and layouts are Docker's (daemon/logger/syslog, its srslog package); RFC 3164, RFC 5424, RFC 5425.
"""

import os
import re
import time
from collections.abc import Mapping
from typing import NamedTuple
from urllib.parse import urlsplit

from corten.base.errors import InvalidArgument

OPTIONS = frozenset(("syslog-address", "syslog-facility", "syslog-format", "syslog-tls-ca-cert", "syslog-tls-cert",
                     "syslog-tls-key", "syslog-tls-skip-verify"))
FORMATS = ("", "rfc3164", "rfc5424", "rfc5424micro")
TLS = "tcp+tls"
ERROR, INFO = 3, 6
_PORT = "514"
_FACILITIES = ("kern", "user", "mail", "daemon", "auth", "syslog", "lpr", "news", "uucp", "cron", "authpriv", "ftp",
               "", "", "", "", "local0", "local1", "local2", "local3", "local4", "local5", "local6", "local7")
_MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")


class Address(NamedTuple):
    """`scheme` is one of udp, tcp, tcp+tls, unix, unixgram; empty: the machine's own syslog socket."""

    scheme: str
    host: str  # or the path of a socket
    port: int


def check(options: Mapping[str, str]) -> None:
    """Whether the options can be had. Raises InvalidArgument with docker's texts."""
    address(options)
    facility(options)
    if options.get("syslog-format", "") not in FORMATS:
        raise InvalidArgument("Invalid syslog format")


def address(options: Mapping[str, str]) -> Address:
    """Where the messages go. Raises InvalidArgument."""
    text = options.get("syslog-address", "")
    if not text:
        return Address("", "", 0)
    parts = urlsplit(text)
    if parts.scheme in ("unix", "unixgram"):
        if not os.path.exists(parts.path):
            raise InvalidArgument(f"stat {parts.path}: no such file or directory")
        return Address(parts.scheme, parts.path, 0)
    if parts.scheme not in ("udp", "tcp", TLS):
        raise InvalidArgument(f"unsupported scheme: '{parts.scheme}'")
    found = re.fullmatch(r"(?:\[([0-9a-fA-F:.%]+)\]|([^:\[\]]*))(?::([0-9]{1,5}))?", parts.netloc, re.ASCII)
    if not found or int(found[3] or 0) > 65535:
        raise InvalidArgument(f"address {parts.netloc}: not host:port")
    return Address(parts.scheme, found[1] or found[2] or "localhost", int(found[3] or _PORT))


def facility(options: Mapping[str, str]) -> int:
    """The facility's number, 3 (daemon) unless given. Raises InvalidArgument."""
    text = options.get("syslog-facility", "")
    if not text:
        return _FACILITIES.index("daemon")
    if text in _FACILITIES:
        return _FACILITIES.index(text)
    if re.fullmatch("[0-9]{1,3}", text, re.ASCII) and int(text) < len(_FACILITIES):
        return int(text)
    raise InvalidArgument("invalid syslog facility")


class Formatter:
    """Makes messages for one container."""

    def __init__(self, options: Mapping[str, str], tag: str, hostname: str) -> None:
        self._format = options.get("syslog-format", "")
        self._facility = facility(options) << 3
        self._tag, self._host = tag, hostname
        self._octets = self._format.startswith("rfc5424") and address(options).scheme == TLS

    def message(self, time_ns: int, error: bool, line: bytes) -> bytes:
        """One message as it is written to the socket; `line` is without its newline."""
        head = f"<{self._facility | (ERROR if error else INFO)}>"
        pid = os.getpid()
        if self._format.startswith("rfc5424"):
            stamp = _rfc3339(time_ns, micro=self._format == "rfc5424micro")
            head += f"1 {stamp} {self._host} {self._tag} {pid} {self._tag} - "
        else:
            host = f"{self._host} " if self._format == "rfc3164" else ""
            head += f"{_stamp(time_ns)} {host}{self._tag}[{pid}]: "
        data = head.encode() + line + b"\n"
        return b"%d %b" % (len(data), data) if self._octets else data  # RFC 5425, octet counting


def _stamp(time_ns: int) -> str:
    at = time.localtime(time_ns // 10**9)
    return f"{_MONTHS[at.tm_mon - 1]} {at.tm_mday:2d} {at.tm_hour:02d}:{at.tm_min:02d}:{at.tm_sec:02d}"


def _rfc3339(time_ns: int, micro: bool) -> str:
    at = time.localtime(time_ns // 10**9)
    minutes = at.tm_gmtoff // 60
    zone = f"{'-' if minutes < 0 else '+'}{abs(minutes) // 60:02d}:{abs(minutes) % 60:02d}" if minutes else "Z"
    part = f".{time_ns // 1000 % 10**6:06d}" if micro else ""
    return time.strftime("%Y-%m-%dT%H:%M:%S", at) + part + zone
