"""Who calls whom, how often, how fast, and what was refused: counted from lines of the gateway's audit log. Pure."""

import calendar
import time
from collections import Counter, deque

Json = dict[str, object]
KEPT = 50_000  # requests remembered
LATEST = 40  # refused ones shown one by one
ROWS = 200
SLOTS = 60  # points of the curve

# how Envoy's reasons begin, what they mean; docs/gateway.md
REASONS = (
    ("jwt_authn", "no valid token"), ("missing_api_key", "no API key"), ("unknown_api_key", "unknown API key"),
    ("multiple_api_key", "more than one API key"), ("rbac_access_denied", "no rule lets it"),
    ("local_rate_limited", "above the rate"), ("request_rate_limited", "above the rate"),
    ("ext_authz_denied", "refused by the authorizer"), ("ext_authz_error", "the authorizer does not answer"),
    ("request_payload_too_large", "the body is too long"), ("no_healthy_upstream", "nothing runs behind it"),
    ("upstream_response_timeout", "the backend took too long"), ("response_timeout", "the backend took too long"),
    ("path_normalization_failed", "a path that could be read in two ways"),
    ("http1.unexpected_underscore", "a header name with an underscore"), ("oauth", "not logged in"),
    ("missing_host_header", "no Host header"), ("cluster_not_found", "nothing runs behind it"),
)
# where an error page has taken the place of Envoy's reason
STATUSES = {401: "no valid token or key", 403: "no rule lets it", 413: "the body is too long", 429: "above the rate",
            504: "the backend took too long"}


def reason(why: str, status: int, route: str) -> str:
    """In words why the gateway itself answered as it did; empty when a backend gave the answer, or all is well."""
    if status < 400 or why == "via_upstream":
        return ""
    if not why:
        return STATUSES.get(status, "refused")
    if why == "direct_response":
        return "no route takes it" if route in ("none", "", "None") else "switched off" if status == 410 else ""
    for start, words in REASONS:
        if why.startswith(start):
            return words
    if "overflow" in why:
        return "the circuit is open"
    if why.startswith("upstream_reset"):
        return "the backend is not reached"
    return why.partition("{")[0].replace("_", " ") or "refused"


class Call:
    """One request, as an audit line tells it."""

    __slots__ = ("api", "backend", "by", "caller", "ms", "reason", "route", "second", "status")

    def __init__(self, line: Json, second: int) -> None:
        self.second = second
        self.caller, self.by = caller(line)
        self.route = str(line.get("route") or "none")
        self.api = "" if self.route == "none" else self.route.partition("@")[0].partition("#")[0]
        if line.get("callee"):
            self.api = service(str(line["callee"]))
        self.backend = str(line.get("backend") or "")
        self.status = _number(line.get("status")) if "method" in line else 200 * (not line.get("tls"))
        self.ms = _number(line.get("ms"))
        self.reason = "no trusted certificate" if line.get("tls") else reason(
            str(line.get("why") or ("via_upstream" if self.backend else "")), self.status, self.route)


def caller(line: Json) -> tuple[str, str]:
    """(who, by what it is known): a service's identity, a token's subject, a key's name, a certificate, an address."""
    if line.get("caller"):
        return service(str(line["caller"])), "identity"
    for member, by in (("subject", "token"), ("key", "key"), ("certificate", "certificate")):
        if line.get(member):
            return str(line[member]), by
    return str(line.get("client") or "?"), "address"


def service(identity: str) -> str:
    """`spiffe://domain/project/shop/service/orders` is `shop.orders`, as the gateway calls an Api of labels."""
    parts = identity.removeprefix("spiffe://").split("/")
    if len(parts) == 5:
        return parts[4] if parts[2] == "-" else f"{parts[2]}.{parts[4]}"
    return parts[-1]


def _number(value: object) -> int:
    return value if isinstance(value, int) else 0


class Numbers:
    """Requests counted together."""

    __slots__ = ("errors", "latencies", "refused", "requests")

    def __init__(self) -> None:
        self.requests = self.errors = self.refused = 0
        self.latencies: list[int] = []

    def add(self, call: Call) -> None:
        """One more."""
        self.requests += 1
        self.errors += call.status >= 500 or (call.status == 0 and not call.reason)
        self.refused += bool(call.reason) and call.status < 500
        self.latencies.append(call.ms)

    def told(self, seconds: int) -> Json:
        """Rates a second over a window, latencies in ms: half are at most p50, 95 of 100 at most p95."""
        ordered = sorted(self.latencies)
        last = len(ordered) - 1
        return {"requests": self.requests, "rate": round(self.requests / seconds, 2), "errors": self.errors,
                "refused": self.refused, "p50": ordered[last // 2] if ordered else None,
                "p95": ordered[last * 95 // 100] if ordered else None}


class Calls:
    """The newest requests. `add` takes audit lines in the order they come; `containers`: name by address."""

    def __init__(self, containers: dict[str, str] | None = None) -> None:
        self._calls: deque[Call] = deque(maxlen=KEPT)
        self._latest: deque[Json] = deque(maxlen=LATEST)
        self._stamp = ("", 0)
        self.containers = containers or {}

    def add(self, line: Json) -> None:
        """One audit line; what the edge has asked in a container it has told itself already."""
        if str(line.get("caller")).endswith("/gateway") and line.get("why") == "via_upstream":
            return
        call = Call(line, self._second(str(line.get("time") or "")))
        self._calls.append(call)
        if call.reason:
            self._latest.appendleft({
                **{name: line.get(name) for name in ("time", "method", "host", "path", "status", "why", "route")},
                "caller": call.caller, "by": call.by, "reason": call.reason})

    def _second(self, text: str) -> int:
        text = text[:19]
        if text != self._stamp[0]:
            try:
                self._stamp = text, calendar.timegm(time.strptime(text, "%Y-%m-%dT%H:%M:%S"))
            except ValueError:
                self._stamp = text, 0
        return self._stamp[1]

    def _who(self, name: str, by: str) -> tuple[str, str]:
        """An address of a container is shown by the container's name."""
        return (self.containers[name], "container") if by == "address" and name in self.containers else (name, by)

    def _where(self, address: str) -> str:
        return self.containers.get(address.rpartition(":")[0].strip("[]"), address)

    def told(self, seconds: int, now: float) -> Json:
        """The last `seconds`: all together, as a curve, by caller and Api, Api and backend, route; and the refused."""
        since = int(now) - seconds
        whole, edges, ends, routes = Numbers(), _Table(), _Table(), _Table()
        slots = [[0, 0] for _ in range(SLOTS)]
        refused: Counter[tuple[str, str, str, str, int]] = Counter()
        for call in reversed(list(self._calls)):
            if call.second < since:
                break
            whole.add(call)
            who = self._who(call.caller, call.by)
            edges.add((*who, call.api), call)
            if call.backend:
                ends.add((call.api, self._where(call.backend)), call)
            routes.add((call.route,), call)
            slot = slots[min(SLOTS - 1, max(0, (call.second - since) * SLOTS // (seconds + 1)))]
            slot[0] += 1
            slot[1] += call.status >= 400 or call.status == 0
            if call.reason:
                refused[call.reason, *who, call.route, call.status] += 1
        return {
            "seconds": seconds, "whole": whole.told(seconds), "curve": slots,
            "calls": edges.told(("caller", "by", "api"), seconds), "ends": ends.told(("api", "backend"), seconds),
            "routes": routes.told(("route",), seconds),
            "refused": [{"reason": key[0], "caller": key[1], "by": key[2], "route": key[3], "status": key[4],
                         "requests": count} for key, count in refused.most_common(ROWS)],
            "latest": [{**line, **dict(zip(("caller", "by"), self._who(str(line["caller"]), str(line["by"])),
                                           strict=True))} for line in self._latest],
        }


class _Table:
    """Numbers by key."""

    def __init__(self) -> None:
        self._rows: dict[tuple[str, ...], Numbers] = {}

    def add(self, key: tuple[str, ...], call: Call) -> None:
        if key not in self._rows:
            self._rows[key] = Numbers()
        self._rows[key].add(call)

    def told(self, names: tuple[str, ...], seconds: int) -> list[Json]:
        ordered = sorted(self._rows.items(), key=lambda item: (-item[1].requests, item[0]))[:ROWS]
        return [{**dict(zip(names, key, strict=True)), **numbers.told(seconds)} for key, numbers in ordered]
