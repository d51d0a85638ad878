"""Trust between containers: levels, identities, and the small language of who may call whom. Pure.

    rule    = callers "->" callees [":" what]          in a Trust document
    rule    = callers [":" what]                       in the label corten.allow of the callee; rules are parted by ";"
    callers = name {"," name}                          a service, project/service, or * (every service of the project)
    what    = [METHOD{,METHOD}] {path} ["port" n{,n}]  a path ends with * to be a prefix

Identities follow SPIFFE (https://github.com/spiffe/spiffe/blob/main/standards/SPIFFE-ID.md).
"""

import ipaddress
import re

from corten.base.errors import InvalidArgument

LEVELS = ("full", "half", "zero")
NO_PROJECT = "-"
GATEWAY = "gateway"
ANYONE = "*"
LABELS = ("corten.trust", "corten.trust.service", "corten.trust.http", "corten.trust.tcp", "corten.trust.out",
          "corten.allow")
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,127}")
_METHODS = re.compile(r"[A-Z]{1,20}(,[A-Z]{1,20})*")
_PATH = re.compile(r"/[^\s?#*\x00]{0,2047}\*?")


class Rule:
    """`callers` may call `callees` (both `project/service`, or `project/*`): methods, paths and ports; empty is all."""

    __slots__ = ("callees", "callers", "methods", "owner", "paths", "ports")

    def __init__(self, callers: list[str], callees: list[str], owner: str) -> None:
        self.callers, self.callees, self.owner = callers, callees, owner
        self.methods: list[str] = []
        self.paths: list[str] = []
        self.ports: list[int] = []

    @property
    def http(self) -> bool:
        """Whether it asks for what only HTTP has."""
        return bool(self.methods or self.paths)

    def lets(self, caller: str) -> bool:
        """Whether `project/service` is one of its callers."""
        return any(one == caller or (one.endswith("/*") and caller.startswith(one[:-1]))
                   for one in self.callers)


def strictest(levels: list[str]) -> str:
    """The highest of them; none is full."""
    return max(levels, key=LEVELS.index, default="full")


def level(text: str, where: str) -> str:
    """Raises InvalidArgument."""
    if text not in LEVELS:
        raise InvalidArgument(f"{where}: {text!r} is no level of trust: full, half or zero")
    return text


def uri(domain: str, service: str) -> str:
    """The identity of `project/service`; `gateway` is the edge's own."""
    if service == GATEWAY:
        return f"spiffe://{domain}/gateway"
    project, _, name = service.partition("/")
    return f"spiffe://{domain}/project/{project}/service/{name}"


def qualified(text: str, project: str, where: str) -> str:
    """`orders` as `shop/orders`. Raises InvalidArgument."""
    first, slash, second = text.partition("/")
    home, name = (first, second) if slash else (project or NO_PROJECT, first)
    if (home != NO_PROJECT and not _NAME.fullmatch(home)) or (name != ANYONE and not _NAME.fullmatch(name)):
        raise InvalidArgument(f"{where}: {text!r} is neither service nor project/service")
    return f"{home}/{name}"


def rule(text: str, project: str, owner: str, callee: str = "") -> Rule:
    """One rule; `callee` is whose label it is. Raises InvalidArgument in words for the one who wrote it."""
    where = f"{owner}: rule {text.strip()!r}"
    who, _, what = text.partition(":")
    callers, arrow, callees = who.partition("->")
    if bool(arrow) == bool(callee):
        raise InvalidArgument(f"{where}: " + ("whose label it is is who is called: no ->" if callee else
                                              "not CALLERS -> CALLEES[: METHODS PATHS port N]"))
    made = Rule(_names(callers, project, where), [callee] if callee else _names(callees, project, where), owner)
    words = what.split()
    while words:
        word = words.pop(0)
        if word == "port":
            made.ports += ports(words.pop(0) if words else "", where)
        elif word.startswith("/") and _PATH.fullmatch(word):
            made.paths.append(word)
        elif _METHODS.fullmatch(word) and not made.methods:
            made.methods = word.split(",")
        else:
            raise InvalidArgument(f"{where}: {word!r} is neither METHOD,METHOD nor /path nor port N")
    return made


def _names(text: str, project: str, where: str) -> list[str]:
    names = [one.strip() for one in text.split(",")]
    if not all(names):
        raise InvalidArgument(f"{where}: a name is missing")
    return [qualified(one, project, where) for one in names]


def ports(text: str, where: str) -> list[int]:
    """`80,443`. Raises InvalidArgument."""
    found = []
    for one in text.split(","):
        if not (one.isascii() and one.isdigit() and 0 < int(one) < 65536):
            raise InvalidArgument(f"{where}: {one!r} is not a port")
        found.append(int(one))
    return found


class Outside:
    """A place outside the mesh that a container may call: a range of IPv4 addresses, and one TCP port or all (0)."""

    __slots__ = ("network", "port")

    def __init__(self, text: str, where: str) -> None:
        """`10.0.0.5:5432`, `10.1.0.0/16`, `any:443`. Raises InvalidArgument."""
        place, colon, port = text.strip().partition(":")
        try:
            self.network = ipaddress.IPv4Network("0.0.0.0/0" if place == "any" else place)
        except ValueError:
            raise InvalidArgument(f"{where}: {text!r} is not ADDRESS[/BITS][:PORT] (IPv4) or any[:PORT]") from None
        self.port = ports(port, where)[0] if colon else 0
