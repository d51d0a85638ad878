"""What users are shown of the gateway, as plain values. Pure."""

from typing import Any

import msgspec

from corten.base.errors import InvalidArgument, NotFound
from corten.gateway.fields import PolicyBody
from corten.gateway.model import to_plain
from corten.gateway.resolve import Entry, Served, describe
from corten.gateway.xds import stat_name


def route(entry: Entry) -> dict[str, Any]:
    """One route."""
    action = "redirect" if entry.route.redirect else "respond" if entry.route.respond else "forward"
    return {
        "Api": entry.api, "Name": entry.name, "Owner": entry.owner, "Hosts": entry.hosts, "Action": action,
        "Match": describe(entry.route, ",".join(entry.hosts)), "Policies": entry.policies,
        "Functions": functions(entry.policy), "Backends": [
            {"Cluster": cluster.name, "Weight": weight, "Version": cluster.name.rpartition("|")[2],
             "Containers": sorted(set(cluster.instances)),
             "Endpoints": [f"{host}:{port}" for host, port in sorted(set(cluster.endpoints))]}
            for cluster, weight in entry.targets],
    }


def functions(policy: PolicyBody) -> list[str]:
    """The common functions that are on, by the names of documents."""
    pairs = zip(policy.__struct_fields__, policy.__struct_encode_fields__, strict=True)
    return [name for field, name in pairs if getattr(policy, field) is not None]


def routes(served: Served) -> list[dict[str, Any]]:
    """All routes, by Api."""
    return [route(entry) for entry in sorted(served.entries, key=lambda one: (one.api, one.name))]


def api(served: Served, name: str) -> dict[str, Any]:
    """One Api, by its name or `project.name`. Keys and secrets are left out."""
    key = find(served, name)
    document, owner = served.apis[key]
    entries = [entry for entry in served.entries if entry.api == key]
    return {
        "Name": key, "Owner": owner, "Document": hidden(to_plain(document)),
        "Routes": [{**route(entry), "Policy": hidden(msgspec.to_builtins(entry.policy))} for entry in entries],
    }


def find(served: Served, name: str) -> str:
    """The key of an Api. Raises NotFound, InvalidArgument when more than one fits."""
    if name in served.apis:
        return name
    fits = [key for key in served.apis if key.rpartition(".")[2] == name]
    if len(fits) > 1:
        raise InvalidArgument(f"more than one Api is called {name}: {', '.join(sorted(fits))}")
    if not fits:
        raise NotFound(f"no such Api: {name}")
    return fits[0]


def hidden(value: object) -> Any:
    """Without what must not be seen on a screen: keys of API keys, secrets of logins."""
    if not isinstance(value, dict):
        return [hidden(one) for one in value] if isinstance(value, list) else value
    found: dict[str, Any] = {}
    for key, inner in value.items():
        if key == "apiKeys" and isinstance(inner, dict):
            found[key] = {**inner, "keys": dict.fromkeys(inner.get("keys", {}), "…")}
        elif key in ("clientSecret", "cookieSecret"):
            found[key] = "…"
        else:
            found[key] = hidden(inner)
    return found


def rates(served: Served, counters: dict[str, int]) -> list[dict[str, Any]]:
    """Requests by route and class of status, over all hosts, since Envoy started."""
    found = []
    for entry in sorted(served.entries, key=lambda one: (one.api, one.name)):
        name = stat_name(entry.name)
        sums = dict.fromkeys(("total", "2xx", "3xx", "4xx", "5xx", "retry", "timeout"), 0)
        for kind in sums:
            ending = f".route.{name}.upstream_rq_{kind}"
            sums[kind] = sum(value for key, value in counters.items() if key.endswith(ending))
        found.append({"Route": entry.name, "Api": entry.api, **{kind.capitalize(): n for kind, n in sums.items()}})
    return found


_GAUGES = {"Active": "upstream_rq_active", "Healthy": "membership_healthy", "Members": "membership_total",
           "Ejected": "outlier_detection.ejections_active", "Overflows": "upstream_rq_pending_overflow",
           "Retries": "upstream_rq_retry", "Timeouts": "upstream_rq_timeout", "Requests": "upstream_rq_completed",
           "Errors": "upstream_rq_5xx"}
_BREAKERS = ("cx_open", "rq_open", "rq_pending_open", "rq_retry_open")


def backends(served: Served, counters: dict[str, int]) -> list[dict[str, Any]]:
    """What is behind the Apis, one for each version: members, circuit (Open: at its bounds now), ejections, since
    Envoy started.
    """
    found = []
    for name, cluster in sorted(served.clusters.items()):
        prefix = f"cluster.{stat_name(name)}."
        numbers = {label: counters.get(prefix + counter, 0) for label, counter in _GAUGES.items()}
        open_ = any(counters.get(f"{prefix}circuit_breakers.default.{one}") for one in _BREAKERS)
        api, _, rest = name.partition("|")
        found.append({"Name": name, "Api": api, "Version": rest.partition("|")[2], "Open": open_,
                      "Circuit": msgspec.to_builtins(cluster.circuit), "Outlier": msgspec.to_builtins(cluster.outlier),
                      "Containers": sorted(set(cluster.instances)),
                      "Endpoints": [f"{host}:{port}" for host, port in sorted(set(cluster.endpoints))], **numbers})
    return found
