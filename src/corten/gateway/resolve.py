"""From documents and running containers to what is served: entries in order and clusters. Pure; says what is wrong.

Every name is looked up here, every policy merged, every conflict found. What Envoy is told follows (xds*.py).
"""

import ipaddress
from collections.abc import Iterable

from corten.base.errors import Conflict, InvalidArgument, NotFound
from corten.gateway.fields import Circuit, Document, Outlier, PolicyBody
from corten.gateway.labels import api_of, gateway_labels, shared
from corten.gateway.model import Api, Backend, Policy, Route, Tls, Version, key_of

Endpoint = tuple[str, int]  # address or name, port


class Instance:
    """A container that runs, as the gateway sees it; `why` says what is wrong when it has no address."""

    __slots__ = ("address", "id", "labels", "name", "ports", "project", "service", "why")

    def __init__(
        self, id: str, name: str, labels: dict[str, str], address: str, ports: list[int], why: str = "",
    ) -> None:
        self.id, self.name, self.labels, self.address, self.ports, self.why = id, name, labels, address, ports, why
        self.project = labels.get("com.docker.compose.project", "")
        self.service = labels.get("com.docker.compose.service", "") or name

    @property
    def names(self) -> set[str]:
        """What a Backend's `service` may call it."""
        own = gateway_labels(self.labels)
        return {self.service, own.get("name", self.service)}


class Cluster:
    """Where some requests go: the endpoints of one version of one Api."""

    __slots__ = ("circuit", "dns", "endpoints", "instances", "meshed", "name", "outlier", "protocol", "tls")

    def __init__(self, name: str, circuit: Circuit | None, outlier: Outlier | None) -> None:
        self.name, self.circuit, self.outlier = name, circuit, outlier
        self.endpoints: list[Endpoint] = []
        self.instances: list[str] = []
        self.meshed: dict[Endpoint, str] = {}  # those that want the gateway's certificate, with the service they are
        self.protocol, self.tls, self.dns = "http1", False, False


class Entry:
    """One route as served. `targets`: clusters with their weights; `owner`: who registered it, in words."""

    __slots__ = ("api", "hosts", "name", "owner", "policies", "policy", "route", "targets", "tls", "version")

    def __init__(self, api: Api, route: Route, number: int, owner: str) -> None:
        self.api, self.route, self.owner = key_of(api).removeprefix("Api/"), route, owner
        self.name = f"{self.api}#{number}"
        self.hosts = sorted({host.lower() for host in api.hosts}) or ["*"]
        self.policy = PolicyBody()
        self.policies: list[str] = []
        self.targets: list[tuple[Cluster, int]] = []
        self.tls: Tls | None = api.tls
        self.version: Version | None = None


class Served:
    """All of it: entries by host, in the order Envoy tries them; clusters by name."""

    def __init__(self) -> None:
        self.apis: dict[str, tuple[Api, str]] = {}  # key -> (document, owner)
        self.policies: dict[str, Policy] = {}
        self.entries: list[Entry] = []
        self.clusters: dict[str, Cluster] = {}
        self.idle: list[str] = []  # what is registered and cannot be reached, in words

    def hosts(self) -> list[str]:
        """Every host named, `*` last."""
        found = {host for entry in self.entries for host in entry.hosts}
        return [*sorted(found - {"*"}), "*"]

    def of_host(self, host: str) -> list[Entry]:
        """What is tried for a host: its own entries, those of `*.` above it, then those of any host."""
        own = [entry for entry in self.entries if host in entry.hosts]
        wider = [entry for entry in self.entries if host not in entry.hosts and any(
            one.startswith("*.") and host.endswith(one[1:]) for one in entry.hosts)]
        rest = [entry for entry in self.entries if "*" in entry.hosts] if host != "*" else []
        return [*sorted(own, key=order), *sorted(wider, key=order), *sorted(rest, key=order)]


def order(entry: Entry) -> tuple[object, ...]:
    """Exact paths first, then regular expressions, then the longest prefix; among equals who asks for more."""
    route = entry.route
    kind = 0 if route.exact else 1 if route.regex else 2
    path = route.exact or route.regex or route.path.rstrip("/")
    conditions = len(route.headers) + len(route.query)
    return kind, -len(path), -conditions, not route.methods, entry.name


def resolve(documents: Iterable[Document], instances: Iterable[Instance]) -> Served:
    """Raises Conflict, NotFound, InvalidArgument in words for the one who registers."""
    served = Served()
    running = list(instances)
    for document in documents:
        if isinstance(document, Policy):
            served.policies[document.name] = document
    for document in documents:
        if isinstance(document, Api):
            served.apis[key_of(document).removeprefix("Api/")] = (document, f"document {key_of(document)}")
    _by_labels(served, running)
    for key, (api, owner) in served.apis.items():
        for number, route in enumerate(api.routes or [Route()]):
            served.entries.append(_entry(served, running, api, route, number, owner))
        if not any(cluster.endpoints for cluster in served.clusters.values() if cluster.name.startswith(f"{key}|")):
            served.idle.append(key)
    check_conflicts(served.entries)
    return served


def _by_labels(served: Served, running: list[Instance]) -> None:
    """Containers with labels: each Api of theirs is made of all containers that name it."""
    first: dict[str, tuple[Instance, dict[str, str]]] = {}
    for instance in running:
        own = gateway_labels(instance.labels)
        if not own:
            continue
        api = api_of(own, instance.service, instance.project)
        key = key_of(api).removeprefix("Api/")
        backend = api.backends[0]
        backend.container = instance.name
        if key not in first:
            if key in served.apis:
                raise Conflict(f"container {instance.name}: the Api {key} is registered by {served.apis[key][1]}")
            first[key] = instance, shared(own)
            served.apis[key] = api, f"labels of container {instance.name}"
            continue
        other, said = first[key]
        differ = {label for label, _ in said.items() ^ shared(own).items()}
        if differ:
            raise Conflict(f"container {instance.name}: its label corten.gateway.{min(differ)} is not that of "
                           f"container {other.name}, which is of the same Api {key}")
        served.apis[key][0].backends.append(backend)


def _entry(served: Served, running: list[Instance], api: Api, route: Route, number: int, owner: str) -> Entry:
    entry = Entry(api, route, number, owner)
    if sum(map(bool, (route.path, route.exact, route.regex))) > 1:
        raise InvalidArgument(f"{owner}: a route has one of path, exact and regex")
    if sum(map(bool, (route.redirect, route.respond, route.backends))) > 1:
        raise InvalidArgument(f"{owner}: a route has one of backends, redirect and respond")
    entry.policies = [*api.policies, *route.policies]
    bodies: list[PolicyBody] = [_policy(served, name, owner) for name in api.policies]
    bodies.append(api.policy)
    common = merge(bodies)
    entry.policy = merge([common, *(_policy(served, name, owner) for name in route.policies), route.policy])
    if route.redirect or route.respond:
        return entry
    own = bool(route.backends) or (entry.policy.circuit, entry.policy.outlier) != (common.circuit, common.outlier)
    backends = route.backends or api.backends
    if not backends:
        raise InvalidArgument(f"{owner}: route {number} has neither backends nor redirect nor respond")
    _targets(served, running, entry, backends, f"{entry.api}|{number if own else ''}")
    return entry


def _targets(served: Served, running: list[Instance], entry: Entry, backends: list[Backend], prefix: str) -> None:
    weights: dict[str, int] = {}
    for backend in backends:
        name = f"{prefix}|{backend.version}"
        if name not in weights:
            served.clusters.pop(name, None)
            served.clusters[name] = Cluster(name, entry.policy.circuit, entry.policy.outlier)
        weights[name] = max(weights.get(name, 0), backend.weight)
        _fill(served.clusters[name], backend, running, entry)
    if not any(weights.values()):
        raise InvalidArgument(f"{entry.owner}: all weights are 0")
    entry.targets = [(served.clusters[name], weight) for name, weight in weights.items()]


def _fill(cluster: Cluster, backend: Backend, running: list[Instance], entry: Entry) -> None:
    if sum(map(bool, (backend.service, backend.container, backend.address))) != 1:
        raise InvalidArgument(f"{entry.owner}: a backend has one of service, container and address")
    if cluster.endpoints and (cluster.protocol, cluster.tls) != (backend.protocol, backend.tls):
        raise InvalidArgument(f"{entry.owner}: backends of one version speak one protocol")
    cluster.protocol, cluster.tls = backend.protocol, backend.tls
    if backend.address:
        host, _, port = backend.address.rpartition(":")
        cluster.endpoints.append((host.strip("[]"), int(port)))
        cluster.dns = cluster.dns or not _is_address(host.strip("[]"))
        return
    project = entry.api.rpartition(".")[0]
    for instance in running:
        fits = instance.name == backend.container or instance.id == backend.container if backend.container else (
            backend.service in instance.names and (not project or instance.project == project))
        if fits:
            if instance.why:
                raise InvalidArgument(f"container {instance.name}: {instance.why}")
            cluster.endpoints.append((instance.address, backend.port or port_of(instance)))
            cluster.instances.append(instance.name)


def port_of(instance: Instance) -> int:
    """The one port a container exposes. Raises InvalidArgument when it is not one."""
    if len(instance.ports) == 1:
        return instance.ports[0]
    found = f"exposes {', '.join(map(str, sorted(instance.ports)))}" if instance.ports else "exposes no port"
    raise InvalidArgument(f"container {instance.name} {found}: say which by the label corten.gateway.port, or port")


def _is_address(text: str) -> bool:
    try:
        ipaddress.ip_address(text)
    except ValueError:
        return False
    return True


def _policy(served: Served, name: str, owner: str) -> Policy:
    if name not in served.policies:
        raise NotFound(f"{owner}: there is no Policy {name}")
    return served.policies[name]


def merge(bodies: Iterable[PolicyBody]) -> PolicyBody:
    """Later bodies win, member by member."""
    merged = PolicyBody()
    for body in bodies:
        for field in PolicyBody.__struct_fields__:
            value = getattr(body, field)
            if value is not None:
                setattr(merged, field, value)
    return merged


def check_conflicts(entries: list[Entry]) -> None:
    """No two routes take the same requests. Raises Conflict naming both owners."""
    seen: dict[tuple[object, ...], list[Entry]] = {}
    for entry in entries:
        route = entry.route
        path = (route.exact, route.regex, route.path.rstrip("/"))
        for host in entry.hosts:
            key = (host, path, frozenset((k.lower(), v) for k, v in route.headers.items()),
                   frozenset(route.query.items()))
            for other in seen.setdefault(key, []):
                theirs, ours = set(other.route.methods), set(route.methods)
                if (not theirs and not ours) or theirs & ours:
                    raise Conflict(f"{entry.owner}: {describe(route, host)} is taken by {other.owner}")
            seen[key].append(entry)


def describe(route: Route, host: str) -> str:
    """`GET,POST shop.example/orders header X=1`."""
    path = route.exact or route.regex or route.path or "/"
    kind = "=" if route.exact else "~" if route.regex else ""
    methods = ",".join(route.methods) + " " if route.methods else ""
    more = "".join(f" header {k}={v}" for k, v in route.headers.items())
    more += "".join(f" query {k}={v}" for k, v in route.query.items())
    return f"{methods}{host}{kind}{path}{more}"
