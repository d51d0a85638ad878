"""From method and path to a handler: a trie of path segments, built once.

Knows nothing of HTTP bytes and of what handlers do. The version prefix of a path is taken off before (versions.py).
"""

import re
from collections.abc import Awaitable, Callable, Iterable
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote

if TYPE_CHECKING:
    from corten.api.request import Request
    from corten.api.response import Response

# GET, but more than looking: they take a container's input, or all of its content
_TAKES = frozenset((
    "GET /containers/{}/attach/ws", "GET /containers/{}/export", "GET /containers/{}/archive", "GET /images/get",
    "GET /images/{}/get",
))

Handler = Callable[["Request", Any], Awaitable["Response"]]  # (request, engine) -> response


class Route:
    """One operation of the API.

    `pattern`: `/containers/{id}/json`; `{name:path}` matches one or more segments (image names).
    `ends_with_client`: whether the handler is cancelled when the client goes away; None: for GET and HEAD only.
    Everything else runs to its end, whoever listens.
    """

    __slots__ = ("ends_with_client", "handler", "key", "method", "pattern")

    def __init__(self, method: str, pattern: str, handler: Handler, ends_with_client: bool | None = None) -> None:
        self.method = method
        self.pattern = pattern
        self.handler = handler
        self.key = route_key(method, pattern)
        self.ends_with_client = method in ("GET", "HEAD") if ends_with_client is None else ends_with_client

    @property
    def only_looks(self) -> bool:
        """Whether it tells how things are, and no more."""
        return self.method in ("GET", "HEAD") and self.key not in _TAKES

    @property
    def name(self) -> str:
        """`GET /containers/{id}/json`."""
        return f"{self.method} {self.pattern}"


def route_key(method: str, pattern: str) -> str:
    """`GET /containers/{}/json`: the operation, whatever its parameters are called."""
    return f"{method} {re.sub(r'{[^}]*}', '{}', pattern)}"


class _Node:
    __slots__ = ("children", "long", "parameter", "routes")

    def __init__(self) -> None:
        self.children: dict[str, _Node] = {}
        self.parameter: _Node | None = None
        self.routes: dict[str, tuple[Route, tuple[str, ...]]] = {}
        # routes that go on with `{name:path}`: what must follow it, longest first
        self.long: list[tuple[tuple[str, ...], Route, tuple[str, ...]]] = []


class Router:
    """All routes, ready to be asked."""

    __slots__ = ("_root",)

    def __init__(self, routes: Iterable[Route] = ()) -> None:
        self._root = _Node()
        for route in routes:
            self.add(route)

    def add(self, route: Route) -> None:
        """Add one; the first route of a method and pattern stays."""
        node = self._root
        names: list[str] = []
        segments = route.pattern[1:].split("/")
        for index, segment in enumerate(segments):
            if segment.endswith(":path}"):
                names.append(segment[1:-6])
                node.long.append((tuple(segments[index + 1:]), route, tuple(names)))
                node.long.sort(key=lambda entry: -len(entry[0]))
                return
            if segment.startswith("{"):
                names.append(segment[1:-1])
                node.parameter = node.parameter or _Node()
                node = node.parameter
            else:
                node = node.children.setdefault(segment, _Node())
        node.routes.setdefault(route.method, (route, tuple(names)))

    def match(self, method: str, path: str) -> tuple[Route, dict[str, str]] | None:
        """The route and the decoded values of its `{}`; None: no such page. A fixed word wins over a parameter."""
        if path[:1] != "/":
            return None
        segments = path[1:].split("/")
        if "%" in path:
            segments = [unquote(segment) for segment in segments]
        found = _walk(self._root, method, segments, 0, [])
        if found is None:
            return None
        route, names, values = found
        return route, dict(zip(names, values, strict=True))


_Found = tuple[Route, tuple[str, ...], list[str]]


def _walk(node: _Node, method: str, segments: list[str], at: int, values: list[str]) -> _Found | None:
    if at == len(segments):
        entry = node.routes.get(method)
        return (entry[0], entry[1], values) if entry else None
    segment = segments[at]
    child = node.children.get(segment)
    if child is not None:
        found = _walk(child, method, segments, at + 1, values)
        if found:
            return found
    if node.parameter is not None and segment:
        found = _walk(node.parameter, method, segments, at + 1, [*values, segment])
        if found:
            return found
    for suffix, route, names in node.long:
        end = len(segments) - len(suffix)
        fits = route.method == method and end > at and tuple(segments[end:]) == suffix
        if fits and all(segments[at:end]):
            return route, names, [*values, "/".join(segments[at:end])]
    return None
