"""Old APIs that stay served: a Version document becomes routes of its Api that translate. Pure.

Told by path: `path: /v1` is in front of every route of the Api; with `toPath`, one old path for one new. Told by query
or headers: every route of the Api, asked for in that way. Then names are put right (version.lua) on both ways.
"""

import calendar
import time

import msgspec

from corten.base.errors import InvalidArgument, NotFound
from corten.gateway.fields import HeaderChange, Headers, PolicyBody, Rewrite
from corten.gateway.model import Respond, Route, Version, key_of
from corten.gateway.resolve import Entry
from corten.gateway.xds_shapes import Json, http_filter

GONE = 410
_WHO = ("subject", "key", "certificate", "client")  # the first that an audit line has


def entries(version: Version, found: list[Entry], number: int = 0) -> list[Entry]:
    """What an old version adds to its Api's entries. Raises InvalidArgument, NotFound."""
    owner = f"document {key_of(version)}"
    own = [entry for entry in found if version.api in (entry.api, entry.api.rpartition(".")[2]) and not entry.version]
    if not own:
        raise NotFound(f"{owner}: there is no Api {version.api}")
    if bool(version.path or version.exact) and bool(version.path) == bool(version.exact):
        raise InvalidArgument(f"{owner}: one of path and exact")
    if not (version.path or version.exact or version.query or version.headers):
        raise InvalidArgument(f"{owner}: nothing tells it from the Api: path, exact, query or headers")
    if version.exact and not version.to_path:
        raise InvalidArgument(f"{owner}: exact needs toPath")
    if version.to_path:
        own = [_taker(version, own, owner)]
    return [_entry(version, entry, owner, at) for at, entry in enumerate(own)]


def _taker(version: Version, own: list[Entry], owner: str) -> Entry:
    """The route that takes the new path."""
    path = version.to_path
    if not path.startswith("/"):
        raise InvalidArgument(f"{owner}: toPath {path!r} is no absolute path")
    fits = [entry for entry in own if not entry.route.regex and not entry.route.exact and (
        path == _prefix(entry) or path.startswith(_prefix(entry) + "/"))]
    fits += [entry for entry in own if entry.route.exact == path]
    if not fits:
        raise InvalidArgument(f"{owner}: no route of {version.api} takes {path}")
    return max(fits, key=lambda entry: len(entry.route.exact or _prefix(entry)))


def _prefix(entry: Entry) -> str:
    return entry.route.path.rstrip("/")


def _entry(version: Version, entry: Entry, owner: str, at: int) -> Entry:
    old = entry.route
    match = msgspec.structs.replace(
        old, headers={**old.headers, **version.headers}, query={**old.query, **version.query})
    new = msgspec.structs.replace(entry.policy)
    if version.path or version.exact:
        match, to = _moved(version, entry, match, owner)
        given = entry.policy.rewrite or Rewrite()
        if given.regex:
            raise InvalidArgument(f"{owner}: the route's own rewrite.regex cannot be joined with another path")
        if given.path:
            to = (given.path.rstrip("/") + to.removeprefix(old.exact or _prefix(entry))) or "/"
        new.rewrite = Rewrite(path=to, host=given.host)
    new.headers = _told(version, entry.policy)
    made = Entry.__new__(Entry)
    made.api, made.owner, made.name = entry.api, owner, f"{entry.api}@{version.name}#{at}"
    made.hosts, made.policies, made.targets, made.tls = entry.hosts, entry.policies, entry.targets, entry.tls
    made.route, made.policy, made.version = match, new, version
    if version.off:
        text = f"version {version.name} of {version.api} is switched off"
        made.route = msgspec.structs.replace(
            match, backends=[], redirect=None,
            respond=Respond(status=GONE, body=text + (f"; see {version.link}" if version.link else "") + "\n"))
        made.policy = PolicyBody(headers=new.headers, cors=new.cors)
    return made


def _moved(version: Version, entry: Entry, match: Route, owner: str) -> tuple[Route, str]:
    """(the old match, the new path)."""
    old = entry.route
    if version.exact:
        return msgspec.structs.replace(match, path="", regex="", exact=version.exact), version.to_path
    if version.to_path:
        return msgspec.structs.replace(match, path=version.path, regex="", exact=""), version.to_path
    if old.regex:
        raise InvalidArgument(f"{owner}: a route with regex needs a Version with toPath")
    before = version.path.rstrip("/")
    if old.exact:
        return msgspec.structs.replace(match, exact=before + old.exact), old.exact
    return msgspec.structs.replace(match, path=before + _prefix(entry) or "/"), _prefix(entry) or "/"


def _told(version: Version, policy: PolicyBody) -> Headers:
    """Deprecation (RFC 9745), Sunset (RFC 8594) and a link in every answer."""
    given = policy.headers or Headers()
    told = dict(given.response.set)
    if version.deprecated:
        told["Deprecation"] = f"@{_day(version.deprecated, version)}"
    if version.sunset:
        told["Sunset"] = time.strftime("%a, %d %b %Y %H:%M:%S GMT", time.gmtime(_day(version.sunset, version)))
    if version.link:
        told["Link"] = f'<{version.link}>; rel="deprecation"'
    response = HeaderChange(set=told, add=given.response.add, remove=given.response.remove)
    return Headers(request=given.request, response=response)


def _day(text: str, version: Version) -> int:
    try:
        return calendar.timegm(time.strptime(text, "%Y-%m-%d"))
    except ValueError:
        raise InvalidArgument(f"document {key_of(version)}: {text} is no day") from None


def filters(version: Version | None) -> Json:
    """The translation as Envoy's filter configuration; nothing when no name has changed."""
    if version is None or version.off:
        return {}
    headers = {old.lower(): new for old, new in version.rename_headers.items()}
    context = {"query": version.rename_query, "headers": headers, "request": version.fields.request,
               "response": version.fields.response}
    if not any(context.values()):
        return {}
    return {"corten.version": http_filter("lua.v3.LuaPerRoute", name="version", filter_context=context)}


def usage(versions: list[Version], lines: list[dict[str, object]]) -> list[dict[str, object]]:
    """Who still asks for which version, by the lines of the audit log."""
    found = []
    for version in versions:
        mark = f"@{version.name}#"
        callers: dict[str, int] = {}
        last = ""
        for line in lines:
            route = str(line.get("route"))
            if mark in route and version.api in (route.partition("@")[0], route.partition("@")[0].rpartition(".")[2]):
                who = next((str(line[name]) for name in _WHO if line.get(name)), "-")
                callers[who] = callers.get(who, 0) + 1
                last = str(line.get("time"))
        state = "off" if version.off else "deprecated" if version.deprecated or version.sunset else "served"
        found.append({"Name": version.name, "Api": version.api, "State": state, "Sunset": version.sunset,
                      "Requests": sum(callers.values()), "Last": last,
                      "Callers": dict(sorted(callers.items(), key=lambda item: -item[1])[:20])})
    return found
