"""Why a request gets what it gets: the same rules as Envoy's route table, walked aloud. Pure.

`corten gateway test` asks Envoy itself; tests hold both to the same answers.
"""

import re
from collections.abc import Iterable
from typing import Any
from urllib.parse import urlsplit

from corten.base.errors import InvalidArgument
from corten.gateway.render import Place
from corten.gateway.resolve import Entry, Served, describe
from corten.gateway.views import functions, route

# what Envoy's parser takes; RFC 9110, section 9, and those that WebDAV and others have registered
Found = dict[str, list[str]]
METHODS = frozenset((
    "ACL", "BIND", "CHECKOUT", "CONNECT", "COPY", "DELETE", "GET", "HEAD", "LINK", "LOCK", "M-SEARCH", "MERGE",
    "MKACTIVITY", "MKCALENDAR", "MKCOL", "MOVE", "NOTIFY", "OPTIONS", "PATCH", "POST", "PROPFIND", "PROPPATCH", "PURGE",
    "PUT", "REBIND", "REPORT", "SEARCH", "SOURCE", "SUBSCRIBE", "TRACE", "UNBIND", "UNLINK", "UNLOCK", "UNSUBSCRIBE"))
MOST_HEADERS, MOST_BYTES, OWN_HEADERS = 100, 60 << 10, 1  # of a request; Host is one


def explain(served: Served, asked: dict[str, Any], place: Place) -> dict[str, Any]:
    """`asked`: Method, Url, Headers. Raises InvalidArgument."""
    parts = urlsplit(asked["Url"])
    if parts.scheme not in ("http", "https") or not parts.hostname or not (parts.path or "/").startswith("/"):
        raise InvalidArgument(f"{asked['Url']!r} is no http:// or https:// URL")
    lines = [*(asked.get("Headers") or ())]
    refused = _refused(asked.get("Method") or "GET", asked["Url"], parts.path, lines)
    if refused:
        return {"Route": None, "Steps": [refused], "Functions": []}
    headers = _headers(lines)
    host = re.sub(":[^:]*$", "", headers.get("host", [parts.netloc.rpartition("@")[2]])[0])
    table = _host(served, host.lower())
    request = (asked.get("Method") or "GET", normal(parts.path or "/"), headers, _query(parts.query))
    steps = [f"host {host} is served by the routes of {'any host' if table == '*' else table}"]
    for entry in served.of_host(table):
        why = _against(entry, *request)
        what = f"{entry.name} ({describe(entry.route, ','.join(entry.hosts))})"
        if why:
            steps.append(f"not {what}: {why}")
            continue
        steps.append(f"{what} takes it: {entry.owner}")
        steps += _after(entry, parts.scheme == "https", place)
        return {"Route": route(entry), "Steps": steps, "Functions": functions(entry.policy)}
    steps.append("no route takes it: 404")
    return {"Route": None, "Steps": steps, "Functions": []}


def _refused(method: str, url: str, path: str, lines: list[tuple[str, str]]) -> str:
    """Why nobody looks for a route; empty: it is well formed."""
    if method not in METHODS:
        return f"the method {method} is none that HTTP knows: 400"
    if len(lines) + OWN_HEADERS > MOST_HEADERS or sum(len(name) + len(value) for name, value in lines) > MOST_BYTES:
        return "the headers are too many or too long: 431"
    for name, _ in lines:
        if "_" in name:
            return f"the header {name} has an underscore in its name: 400"
    if "#" in url:
        return "the target has a fragment: 400"
    port = re.search("(?:^|])[^]:]*:([^]]*)$", urlsplit(url).netloc.rpartition("@")[2])
    if port and re.search("[^0-9]", port[1]):
        return "the target's port is no number: 400"
    if any("%00" in step for step in _steps(path) if step.partition(";")[0] not in (".", "..")):
        return "the path has an escaped NUL: 400"
    if re.search("%2f|%5c", path, re.IGNORECASE):
        return "the path has an escaped slash: 400"
    return ""


def _headers(lines: Iterable[tuple[str, str]]) -> dict[str, list[str]]:
    """By name in small letters, as often as they are there."""
    found: dict[str, list[str]] = {}
    for name, value in lines:
        found.setdefault(name.lower(), []).append(value.strip())
    return found


def _query(text: str) -> dict[str, list[str]]:
    """As Envoy takes it apart: nothing is unescaped, the first of a name counts."""
    found: dict[str, list[str]] = {}
    for part in text.split("&"):
        name, _, value = part.partition("=")
        found.setdefault(name, [value])
    return found


def normal(path: str) -> str:
    """A path as Envoy compares it: unreserved letters decoded, dots walked, slashes merged. RFC 3986, section 6.2.2."""
    walked: list[str] = []
    steps = _steps(path)
    for at, step in enumerate(steps):
        dots = step.partition(";")[0]  # what follows a semicolon is a parameter of the step
        if dots == "..":
            walked = walked[:-1]
        if dots in (".", ".."):
            walked += [""] if at == len(steps) - 1 else []
        else:
            walked.append(step)
    return re.sub("/+", "/", "/" + "/".join(walked))  # slashes last: an empty step is one that .. takes away


def _steps(path: str) -> list[str]:
    return re.sub("%([0-9A-Fa-f]{2})", _unreserved, path).replace("\\", "/").split("/")[1:]


def _unreserved(found: re.Match[str]) -> str:
    letter = chr(int(found[1], 16))
    return letter if re.fullmatch(r"[A-Za-z0-9._~-]", letter) else found[0].upper()


def _host(served: Served, host: str) -> str:
    hosts = served.hosts()
    if host in hosts:
        return host
    wild = [one for one in hosts if one.startswith("*.") and host.endswith(one[1:])]
    return max(wild, key=len) if wild else "*"


def _against(entry: Entry, method: str, path: str, headers: Found, query: Found) -> str:
    """Why a route does not take it; empty: it does."""
    given = entry.route
    prefix = given.path.rstrip("/")
    if given.exact and path != given.exact:
        return f"the path is not {given.exact}"
    if given.regex and not re.fullmatch(given.regex, path):
        return f"the path does not fit {given.regex}"
    if not given.exact and not given.regex and prefix and path != prefix and not path.startswith(prefix + "/"):
        return f"the path is not below {prefix}"
    methods = [*given.methods, *(["OPTIONS"] if entry.policy.cors and given.methods else [])]
    if methods and method not in methods:
        return f"the method is none of {', '.join(methods)}"
    for kind, wanted, found in (("header", given.headers, headers), ("query", given.query, query)):
        for name, value in wanted.items():
            has = found.get(name.lower() if kind == "header" else name)
            if has is None or (value != "*" and value not in has):
                return f"the {kind} {name} is {'missing' if has is None else ', '.join(map(repr, has))}"
    return ""


def _after(entry: Entry, secure: bool, place: Place) -> list[str]:
    """What happens to it then."""
    if not secure and entry.tls and (entry.tls.mode == "only" or entry.tls.clients):
        return [f"it came without TLS: redirected to https on port {place.https[1]}"]
    steps = []
    if entry.policies:
        steps.append(f"policies, later ones win: {', '.join(entry.policies)}")
    if entry.tls and entry.tls.clients:
        steps.append(f"the client needs a certificate of {entry.tls.clients}")
    words = {
        "rates": "requests above the rate are answered 429", "login": "a browser without a session is sent to log in",
        "jwt": "a token is needed: else 401", "api_keys": "an API key is needed: else 401",
        "authorizer": "the authorizer is asked", "allow": "one rule of allow must fit: else 403",
        "max_body": "a body that is too long is answered 413",
    }
    steps += [text for field, text in words.items() if getattr(entry.policy, field) is not None]
    if entry.route.redirect or entry.route.respond:
        return [*steps, "the gateway answers by itself"]
    if entry.policy.rewrite:
        steps.append("the path or host is rewritten for the backend")
    whole = sum(weight for _, weight in entry.targets)
    for cluster, weight in entry.targets:
        ends = [f"{host}:{port}" for host, port in sorted(set(cluster.endpoints))]
        share = f"{100 * weight // whole} % of requests go to " if len(entry.targets) > 1 else "it goes to "
        steps.append(share + (", ".join(ends) if ends else f"{cluster.name}, where nothing runs: 503"))
    return steps
