"""All files that Envoy reads, from what is served. Pure but for files that documents name, which `Reader` reads."""

from collections.abc import Callable

from corten.base.errors import InvalidArgument
from corten.gateway import xds, xds_auth
from corten.gateway.fields import Login
from corten.gateway.model import Tls
from corten.gateway.resolve import Entry, Served
from corten.gateway.xds_listener import listener, manager
from corten.gateway.xds_mesh import Site
from corten.gateway.xds_shapes import Json, Target, secret_file, secret_source, typed

Address = tuple[str, int]
_TLS = "envoy.extensions.transport_sockets.tls.v3."


class Place:
    """Where things are: Envoy's folder, the audit log, the edge's addresses; how files and certificates are had."""

    def __init__(
        self, site: Site, http: Address, https: Address, read: Callable[[str], str],
        made: Callable[[list[str]], tuple[str, str]], collector: Target | None = None,
        keeps_reasons: Callable[[], bool] = lambda: True,
    ) -> None:
        self.site, self.folder, self.audit = site, site.folder, site.audit
        self.http, self.https, self.read, self.made = http, https, read, made
        self.collector, self.keeps_reasons = collector, keeps_reasons

    def manager(self, table: str, forward: Json | None = None) -> Json:
        """What serves a route table."""
        return manager(self.folder, table, self.audit, forward, self.collector)

    def side(self, secure: bool, certified: bool = False) -> xds.Side:
        """What a route table must know of its listener."""
        return xds.Side(secure, certified, self.https[1], self.folder, self.keeps_reasons)


def files(served: Served, place: Place, mesh: dict[str, list[Json]]) -> dict[str, list[Json]]:
    """File name without .json -> resources, those of `mesh` among them, what others name first.

    Raises InvalidArgument for what a user wrote, Unavailable.
    """
    edge = _edge(served, place) if served.entries or not mesh else {}
    joined = {**mesh, **edge}
    for name in {"cds", "lds"} & set(joined):
        joined[name] = [*edge.get(name, []), *mesh.get(name, [])]
    return joined


def _edge(served: Served, place: Place) -> dict[str, list[Json]]:
    keyed = _client_groups(served)
    protected = {host for group in keyed.values() for host in group}
    open_hosts = [host for host in served.hosts() if host not in protected]
    chains = [{"filters": [place.manager("http")]}]
    found: dict[str, list[Json]] = {
        "cds": xds.clusters(served, place.site, place.collector),
        "ecds": [_tokens(served, place)],
        "rds.http": [xds.table(served, "http", served.hosts(), place.side(False))],
        "lds": [listener("http", place.http, chains, False)],
    }
    secrets = _secrets(served, place)
    found.update({secret_file(secret["name"]): [secret] for secret in secrets})
    names = [secret["name"] for secret in secrets if "tls_certificate" in secret]
    secure = _secure_chains(served, place, keyed, open_hosts, names, found) if names else []
    if secure:
        found["lds"].append(listener("https", place.https, secure, True))
    return found


def _tokens(served: Served, place: Place) -> Json:
    tokens = xds.tokens(served)
    keys = {}
    for jwt in tokens:
        if jwt.keys_file:
            keys[jwt.keys_file] = place.read(jwt.keys_file)
            xds_auth.check_keys(keys[jwt.keys_file], f"jwt.keysFile {jwt.keys_file}")
    config = xds_auth.providers(tokens, keys)
    return typed("envoy.config.core.v3.TypedExtensionConfig") | {"name": "corten.jwt", "typed_config": config}


# --- HTTPS


def _client_groups(served: Served) -> dict[str, list[str]]:
    """File of client authorities -> the hosts that need them. Raises InvalidArgument."""
    groups: dict[str, set[str]] = {}
    for entry in served.entries:
        if entry.tls and entry.tls.clients:
            if entry.hosts == ["*"]:
                raise InvalidArgument(f"{entry.owner}: tls.clients needs hosts")
            groups.setdefault(entry.tls.clients, set()).update(entry.hosts)
    for entry in served.entries:
        for path, hosts in groups.items():
            if set(entry.hosts) & hosts and (entry.tls is None or entry.tls.clients != path):
                raise InvalidArgument(f"{entry.owner}: host {min(set(entry.hosts) & hosts)} serves only clients with a "
                                      "certificate: say the same tls.clients")
    return {path: sorted(hosts) for path, hosts in sorted(groups.items())}


def _secure_chains(
    served: Served, place: Place, keyed: dict[str, list[str]], open_hosts: list[str], names: list[str],
    found: dict[str, list[Json]],
) -> list[Json]:
    chains = []
    for number, (path, hosts) in enumerate(keyed.items(), 1):
        table = f"clients{number}"
        found[f"rds.{table}"] = [xds.table(served, table, hosts, place.side(True, certified=True))]
        forward: Json = {"forward_client_cert_details": "SANITIZE_SET",
                         "set_current_client_cert_details": {"subject": True, "uri": True, "dns": True}}
        chains.append({
            "filter_chain_match": {"server_names": hosts}, "transport_socket": _socket(place, names, path),
            "filters": [place.manager(table, forward)]})
    found["rds.https"] = [xds.table(served, "https", open_hosts, place.side(True))]
    chains.append({"transport_socket": _socket(place, names, ""),
                   "filters": [place.manager("https")]})
    return chains


def _socket(place: Place, names: list[str], clients: str) -> Json:
    context: Json = {
        "tls_params": {"tls_minimum_protocol_version": "TLSv1_2", "tls_maximum_protocol_version": "TLSv1_3"},
        "alpn_protocols": ["h2", "http/1.1"],
        "tls_certificate_sds_secret_configs": [secret_source(place.folder, name) for name in names],
    }
    more: Json = {}
    if clients:
        context["validation_context_sds_secret_config"] = secret_source(place.folder, f"clients {clients}")
        more["require_client_certificate"] = True
    config = typed(f"{_TLS}DownstreamTlsContext", common_tls_context=context, **more)
    return {"name": "tls", "typed_config": config}


def _secrets(served: Served, place: Place) -> list[Json]:
    """Certificates of hosts, authorities of clients, secrets of logins."""
    found: dict[str, Json] = {}
    for entry in served.entries:
        if entry.tls:
            name, chain, key = _certificate(entry, entry.tls, place)
            found[name] = {"tls_certificate": {"certificate_chain": {"inline_string": chain},
                                               "private_key": {"inline_string": key}}}
            if entry.tls.clients:
                authorities = {"trusted_ca": {"inline_string": place.read(entry.tls.clients)}}
                found[f"clients {entry.tls.clients}"] = {"validation_context": authorities}
        if entry.policy.login:
            found.update(_login(entry.policy.login, place))
    return [typed(f"{_TLS}Secret") | {"name": name, **found[name]} for name in sorted(found)]


def _certificate(entry: Entry, tls: Tls, place: Place) -> tuple[str, str, str]:
    if bool(tls.certificate) != bool(tls.key):
        raise InvalidArgument(f"{entry.owner}: tls needs both certificate and key, or neither")
    if tls.certificate:
        return f"certificate {tls.certificate}", place.read(tls.certificate), place.read(tls.key)
    hosts = [host for host in entry.hosts if host != "*"] or ["localhost"]
    chain, key = place.made(hosts)
    return f"made {' '.join(hosts)}", chain, key


def _login(login: Login, place: Place) -> dict[str, Json]:
    name = xds_auth.login_name(login)
    return {f"{name}-{part}": {"generic_secret": {"secret": {"inline_string": _secret(text, place)}}}
            for part, text in (("token", login.client_secret), ("cookie", login.cookie_secret))}


def _secret(text: str, place: Place) -> str:
    return place.read(text.removeprefix("file:")).strip() if text.startswith("file:") else text


def collector(url: str) -> Target | None:
    """Where spans go: an OTLP/HTTP collector. Raises InvalidArgument."""
    if not url:
        return None
    target = Target(url, "--gateway-otlp")
    return target if target.path.strip("/") else Target(url.rstrip("/") + "/v1/traces", "--gateway-otlp")


def address(text: str) -> tuple[str, int]:
    """`0.0.0.0:8000` or `[::]:8000`. Raises InvalidArgument."""
    host, _, port = text.rpartition(":")
    if not (port.isascii() and port.isdigit() and 0 < int(port) < 65536 and host):
        raise InvalidArgument(f"invalid gateway address: {text}: not host:port")
    return host.strip("[]"), int(port)
