"""From what is served to Envoy's route tables and clusters. Pure: the same model gives the same bytes.

One table for plain HTTP, one for HTTPS, one for each group of hosts whose clients need certificates: a host of such a
group is in no other table, so no trick with names reaches it without a certificate.
"""

import re
from collections.abc import Callable

from corten.gateway import trust, versions, xds_auth, xds_policy
from corten.gateway.fields import Jwt
from corten.gateway.model import Route
from corten.gateway.resolve import Cluster, Entry, Served
from corten.gateway.xds_mesh import EDGE, Site, upstream
from corten.gateway.xds_shapes import CLIENT_HEADER, Json, Target, exact_or_present, typed

CONNECT_TIMEOUT = "2s"
_NO_ROUTE = '{"message":"corten gateway: no Api is registered for this host, path and method"}\n'
_REDIRECT_CODES = {301: "MOVED_PERMANENTLY", 302: "FOUND", 303: "SEE_OTHER", 307: "TEMPORARY_REDIRECT",
                   308: "PERMANENT_REDIRECT"}
_RAW: Json = {"name": "raw", "typed_config": typed("envoy.extensions.transport_sockets.raw_buffer.v3.RawBuffer")}
_HTTP_OPTIONS = "envoy.extensions.upstreams.http.v3.HttpProtocolOptions"


# --- tables


class Side:
    """Of which listener a table is: with TLS or not, for clients with a certificate or for all; where secrets are.

    `keeps_reasons`: whether Envoy can log why a request failed that gets an error page.
    """

    __slots__ = ("certified", "folder", "https_port", "keeps_reasons", "secure")

    def __init__(
        self, secure: bool, certified: bool, https_port: int, folder: str, keeps_reasons: Callable[[], bool],
    ) -> None:
        self.secure, self.certified, self.https_port, self.folder = secure, certified, https_port, folder
        self.keeps_reasons = keeps_reasons


def table(served: Served, name: str, hosts: list[str], side: Side) -> Json:
    """A route table with these hosts. Raises InvalidArgument."""
    virtual = []
    for host in hosts:
        entries = [one for one in served.of_host(host) if side.certified or not side.secure or not _certified(one)]
        routes = [route for entry in entries for route in _routes(entry, side)]
        routes.append({"name": "none", "match": {"prefix": "/"},
                       "direct_response": {"status": 404, "body": {"inline_string": _NO_ROUTE}},
                       "response_headers_to_add": [{"header": {"key": "content-type", "value": "application/json"}}]})
        virtual.append({"name": host, "domains": [host], "routes": routes})
    return typed("envoy.config.route.v3.RouteConfiguration", name=name, virtual_hosts=virtual,
                 ignore_port_in_host_matching=True, max_direct_response_body_size_bytes=65536)


def _certified(entry: Entry) -> bool:
    return entry.tls is not None and bool(entry.tls.clients)


def _routes(entry: Entry, side: Side) -> list[Json]:
    tls = entry.tls
    match = _match(entry.route, bool(entry.policy.cors))
    if not side.secure and tls is not None and (tls.mode == "only" or tls.clients):
        return [{"name": entry.name, "match": match, "redirect": {
            "https_redirect": True, "port_redirect": side.https_port, "response_code": "PERMANENT_REDIRECT"}}]
    found: list[Json] = []
    if entry.policy.login:
        for path in (entry.policy.login.callback, entry.policy.login.sign_out):
            found.append(_route(entry, {"path": path}, side))
    return [*found, _route(entry, match, side)]


def _route(entry: Entry, match: Json, side: Side) -> Json:
    route: Json = {
        "name": entry.name, "stat_prefix": stat_name(entry.name), "match": match,
        "typed_per_filter_config": {**xds_policy.filters(entry.policy, entry.owner, side.folder,
                                                       side.keeps_reasons),
                                    **versions.filters(entry.version)},
        **xds_policy.headers(entry.policy), **_answer(entry),
    }
    removed = route.setdefault("request_headers_to_remove", [])
    if not entry.policy.api_keys:
        removed.append(CLIENT_HEADER)
    return route


def stat_name(text: str) -> str:
    """A name without what Prometheus would take for the end of it."""
    return re.sub(r"[^A-Za-z0-9_-]", "_", text)


def _match(route: Route, preflight: bool) -> Json:
    path = route.path.rstrip("/")
    match: Json
    if route.exact:
        match = {"path": route.exact}
    elif route.regex:
        match = {"safe_regex": {"regex": route.regex}}
    else:
        match = {"path_separated_prefix": path} if path else {"prefix": "/"}
    headers = [{"name": name, **exact_or_present(value)} for name, value in sorted(route.headers.items())]
    if route.methods:
        methods = sorted({*route.methods, *(["OPTIONS"] if preflight else [])})
        headers.append({"name": ":method", "string_match": {"safe_regex": {"regex": "|".join(methods)}}})
    if headers:
        match["headers"] = headers
    if route.query:
        match["query_parameters"] = [{"name": n, **exact_or_present(v)} for n, v in sorted(route.query.items())]
    return match


def _answer(entry: Entry) -> Json:
    route = entry.route
    if route.respond:
        return {"direct_response": {"status": route.respond.status, "body": {"inline_string": route.respond.body}}}
    if route.redirect:
        return {"redirect": _redirect(entry)}
    clusters = [(cluster.name, weight) for cluster, weight in entry.targets]
    action: Json = xds_policy.action(entry.policy, entry.owner)
    if len(clusters) == 1:
        action["cluster"] = clusters[0][0]
    else:
        action["weighted_clusters"] = {"clusters": [{"name": n, "weight": w} for n, w in clusters]}
    action.update(_rewrite(entry))
    return {"route": action}


def _redirect(entry: Entry) -> Json:
    redirect = entry.route.redirect
    assert redirect is not None
    xds_policy.check_redirect(redirect, _REDIRECT_CODES, entry.owner)
    found: Json = {"response_code": _REDIRECT_CODES[redirect.code]}
    given = {"host_redirect": redirect.host, "path_redirect": redirect.path, "prefix_rewrite": redirect.prefix}
    found.update({name: value for name, value in given.items() if value})
    if redirect.https:
        found["https_redirect"] = True
    return found


def _rewrite(entry: Entry) -> Json:
    rewrite, route = entry.policy.rewrite, entry.route
    if rewrite is None:
        return {}
    xds_policy.check_rewrite(rewrite, route, entry.owner)
    found: Json = {}
    if rewrite.host:
        found["host_rewrite_literal"] = rewrite.host
    if rewrite.regex:
        found["regex_rewrite"] = {"pattern": {"regex": rewrite.regex}, "substitution": rewrite.to}
    elif rewrite.path and route.exact:
        found["prefix_rewrite"] = rewrite.path
    elif rewrite.path:
        found["regex_rewrite"] = _prefix(route.path.rstrip("/"), rewrite.path.rstrip("/"))
    return found


def _prefix(old: str, new: str) -> Json:
    """`/orders` to `/`: /orders/5 becomes /5 and /orders becomes /; no double slash, no missing one."""
    escaped = re.escape(old).replace("\\-", "-")
    if new:
        return {"pattern": {"regex": f"^{escaped}(/.*)?$"}, "substitution": new.replace("\\", "\\\\") + "\\1"}
    return {"pattern": {"regex": f"^{escaped}/?(.*)$"}, "substitution": "/\\1"}


# --- clusters


def clusters(served: Served, site: Site, collector: Target | None = None) -> list[Json]:
    """Every cluster: those of Apis, and those of services that Envoy itself asks. Raises InvalidArgument."""
    found = {cluster.name: _cluster(cluster, site) for cluster in served.clusters.values()}
    if collector is not None:
        found[collector.name] = _outside(collector, collector.name, False)
    for entry in served.entries:
        for target, http2 in xds_auth.outside(entry.policy, entry.owner):
            name = f"{target.name}|h2" if http2 else target.name
            found[name] = _outside(target, name, http2)
    return [found[name] for name in sorted(found)]


def _cluster(cluster: Cluster, site: Site) -> Json:
    meshed: Json = {}
    if cluster.meshed:
        plain = {"name": "plain", "match": {}, "transport_socket": _tls(
            cluster.endpoints[0][0] if cluster.tls else "").get("transport_socket", _RAW)}
        meshed = {"transport_socket_matches": [
            *({"name": f"mesh {service}", "match": {"mesh": service},
               "transport_socket": upstream(EDGE, [{"exact": trust.uri(site.domain, service)}], site)}
              for service in sorted(set(cluster.meshed.values()))), plain]}
    return {
        **typed("envoy.config.cluster.v3.Cluster"), "name": cluster.name, "alt_stat_name": stat_name(cluster.name),
        "type": "STRICT_DNS" if cluster.dns else "STATIC", "connect_timeout": CONNECT_TIMEOUT,
        "load_assignment": {"cluster_name": cluster.name, "endpoints": [{"lb_endpoints": [
            {**_endpoint(*endpoint), **_meshed(cluster, endpoint)}
            for endpoint in sorted(set(cluster.endpoints))]}]},
        **_http(cluster.protocol == "http2"), **_tls(cluster.endpoints[0][0] if cluster.tls else ""),
        **meshed, **xds_policy.circuit(cluster.circuit), **xds_policy.outlier(cluster.outlier, cluster.name),
        "common_lb_config": {"healthy_panic_threshold": {"value": 0}},
    }


def _meshed(cluster: Cluster, endpoint: tuple[str, int]) -> Json:
    """Which certificate who answers there has to show."""
    if endpoint not in cluster.meshed:
        return {}
    match = {"mesh": cluster.meshed[endpoint]}
    return {"metadata": {"filter_metadata": {"envoy.transport_socket_match": match}}}


def _outside(target: Target, name: str, http2: bool) -> Json:
    return {
        **typed("envoy.config.cluster.v3.Cluster"), "name": name, "alt_stat_name": stat_name(name),
        "type": "STRICT_DNS", "connect_timeout": CONNECT_TIMEOUT, **_http(http2),
        "load_assignment": {"cluster_name": name, "endpoints": [
            {"lb_endpoints": [_endpoint(target.host, target.port)]}]},
        **_tls(target.host if target.tls else ""),
    }


def _endpoint(address: str, port: int) -> Json:
    return {"endpoint": {"address": {"socket_address": {"address": address, "port_value": port}}}}


def _http(http2: bool) -> Json:
    version: Json = {"http2_protocol_options": {}} if http2 else {"http_protocol_options": {}}
    return {"typed_extension_protocol_options": {_HTTP_OPTIONS: typed(
        _HTTP_OPTIONS, explicit_http_config=version, common_http_protocol_options={"idle_timeout": "55s"})}}


def _tls(host: str) -> Json:
    """TLS to a service outside, checked against the machine's authorities; 1.3 at most, Envoy stops at 1.2."""
    if not host:
        return {}
    name = {"exact": host}
    return {"transport_socket": {"name": "tls", "typed_config": typed(
        "envoy.extensions.transport_sockets.tls.v3.UpstreamTlsContext", sni=host, common_tls_context={
            "tls_params": {"tls_minimum_protocol_version": "TLSv1_2", "tls_maximum_protocol_version": "TLSv1_3"},
            "validation_context": {
                "trusted_ca": {"filename": "/etc/ssl/certs/ca-certificates.crt"},
                "match_typed_subject_alt_names": [{"san_type": "DNS", "matcher": name}]},
        })}}


# --- what is shared by all routes


def tokens(served: Served) -> list[Jwt]:
    """Every kind of token asked for, each once."""
    found = {xds_auth.jwt_name(jwt): jwt for jwt in (entry.policy.jwt for entry in served.entries) if jwt}
    return [found[name] for name in sorted(found)]
