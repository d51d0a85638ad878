"""Envoy's resources for containers of half and zero trust. Pure.

Each has two listeners in its own network namespace. What it sends goes, wrapped in TLS with its certificate, to where
it was sent; what comes must be TLS with a certificate of the mesh, and the rules of the one who is called decide: with
HTTP by request, else by the name in the certificate. So a policy is where its callee is, and the listeners stay.
"""

from collections.abc import Sequence

from corten.gateway import trust
from corten.gateway.members import Member
from corten.gateway.xds_auth import path_match
from corten.gateway.xds_listener import AUDIT, audit_log
from corten.gateway.xds_policy import digest
from corten.gateway.xds_shapes import Json, file_source, http_filter, secret_file, secret_source, typed
from corten.network.fence import IN_PORT, MARK, PUBLISHED_PORT

_TLS = "envoy.extensions.transport_sockets.tls.v3."
_HTTP_OPTIONS = "envoy.extensions.upstreams.http.v3.HttpProtocolOptions"
_SOL_SOCKET, _SO_MARK = 1, 36
CALLER_HEADER = "x-corten-caller"
TO_HEADER = "x-corten-to"  # where a connection of one hop was going; set by the gateway alone
MESH = "mesh"
EDGE = "identity gateway"  # the secret of the edge
STATS = "mesh"  # one set of counters for all: a set each would be most of what a member costs
# a program that closes a kept connection just as it is used again is nobody's failure
RETRIES: Json = {"retry_on": "connect-failure,refused-stream,reset-before-request", "num_retries": 2}
# what an audit line of the mesh says besides
PEER = "%DOWNSTREAM_PEER_URI_SAN%"
STREAM_AUDIT: dict[str, str] = {
    "time": "%START_TIME%", "client": "%DOWNSTREAM_DIRECT_REMOTE_ADDRESS_WITHOUT_PORT%",
    "to": "%DOWNSTREAM_LOCAL_ADDRESS%", "flags": "%RESPONSE_FLAGS%", "ms": "%DURATION%",
    "received": "%BYTES_RECEIVED%", "sent": "%BYTES_SENT%",
}


class Site:
    """Where the mesh is: Envoy's folder, the audit log, the trust domain, where a namespace is found."""

    __slots__ = ("audit", "domain", "folder", "namespaces")

    def __init__(self, folder: str, audit: str, domain: str, namespaces: str) -> None:
        self.folder, self.audit, self.domain, self.namespaces = folder, audit, domain, namespaces

    def namespace(self, member: Member) -> str:
        """The file of its network namespace."""
        return f"{self.namespaces}/{member.short}"


# --- what each member has


class Own:
    """What is a member's own whatever the others are, as long as its `key` is the same.

    `clusters`: to where it was sent, in TLS, and to its own program; `tables`: by the name of their file, one for each
    HTTP port; `listeners`: what it is called by.
    """

    __slots__ = ("clusters", "key", "listeners", "tables")

    def __init__(self, member: Member, site: Site) -> None:
        self.key = member.key
        self.clusters = [_outward(member, site), _inward(member, site)]
        self.tables = {f"rds.{table_name(member, port)}": [_table(member, port, site)] for port in member.http}
        self.listeners = [inward(member, site), *published(member, site)]


def table_name(member: Member, port: int) -> str:
    """Of a member's HTTP port."""
    return f"{MESH}-{member.short}-{port}"


def secret(name: str, chain: str, key: str) -> tuple[str, list[Json]]:
    """(file, resources) of a certificate."""
    return secret_file(name), [typed(f"{_TLS}Secret") | {"name": name, "tls_certificate": {
        "certificate_chain": {"inline_string": chain}, "private_key": {"inline_string": key}}}]


def authorities(pem: str) -> tuple[str, list[Json]]:
    """(file, resources): whom to believe."""
    return secret_file(MESH), [typed(f"{_TLS}Secret") | {"name": MESH, "validation_context": {
        "trusted_ca": {"inline_string": pem}}}]


# --- TLS


def _common(name: str, peers: list[Json], site: Site) -> Json:
    """TLS 1.3 with a certificate on both sides; the other's name must be one of `peers`."""
    return {
        "tls_params": {"tls_minimum_protocol_version": "TLSv1_3", "tls_maximum_protocol_version": "TLSv1_3"},
        "tls_certificate_sds_secret_configs": [secret_source(site.folder, name)],
        "combined_validation_context": {
            "default_validation_context": {"match_typed_subject_alt_names": [
                {"san_type": "URI", "matcher": peer} for peer in peers]},
            "validation_context_sds_secret_config": secret_source(site.folder, MESH)},
    }


def _anyone(site: Site) -> list[Json]:
    return [{"prefix": f"spiffe://{site.domain}/"}]


def upstream(name: str, peers: list[Json], site: Site) -> Json:
    """How who has the secret `name` calls a member whose name is one of `peers`."""
    return {"name": "tls", "typed_config": typed(
        f"{_TLS}UpstreamTlsContext", common_tls_context=_common(name, peers, site))}


def _downstream(member: Member, peers: list[Json], site: Site) -> Json:
    return {"name": "tls", "typed_config": typed(
        f"{_TLS}DownstreamTlsContext", require_client_certificate=True,
        common_tls_context=_common(identity(member), peers, site))}


def identity(member: Member) -> str:
    """The name of its secret."""
    return f"identity {member.id}"


# --- outward


def near(member: Member) -> list[Json]:
    """The subnets in which it finds the mesh, as ranges."""
    return [{"address_prefix": str(place.subnet.network_address), "prefix_len": place.subnet.prefixlen}
            for place in member.places]


def outward_stream(member: Member, site: Site) -> list[Json]:
    """What takes a connection to where it was going, in TLS; a line in the audit log when it fails.

    Who answers must be the one who was called: his certificate has to name the address that the connection went to.
    """
    called = {"object_key": "envoy.network.upstream_subject_alt_names", "format_string": {
        "text_format_source": {"inline_string": "%DOWNSTREAM_LOCAL_ADDRESS_WITHOUT_PORT%"}}}
    check = {"name": "called", "typed_config": typed(
        "envoy.extensions.filters.network.set_filter_state.v3.Config", on_new_connection=[called])}
    says = {**STREAM_AUDIT, "caller": trust.uri(site.domain, member.service),
            "why": "%UPSTREAM_TRANSPORT_FAILURE_REASON%", "level": member.level}
    return [check, stream(f"out-{member.short}", [audit_log(site.audit, says, failed=True)])]


def stream(cluster: str, logs: list[Json]) -> Json:
    """A TCP proxy."""
    return {"name": "tcp", "typed_config": typed(
        "envoy.extensions.filters.network.tcp_proxy.v3.TcpProxy", stat_prefix=STATS, idle_timeout="0s",
        cluster=cluster, access_log=logs)}


def _outward(member: Member, site: Site) -> Json:
    tls = upstream(identity(member), _anyone(site), site)
    return _cluster(f"out-{member.short}", site, member, transport_socket=tls)


def _cluster(name: str, site: Site, member: Member, **more: object) -> Json:
    """To wherever the connection was going, from a socket in the member's namespace."""
    return {
        **typed("envoy.config.cluster.v3.Cluster"), "name": name, "alt_stat_name": STATS, "type": "ORIGINAL_DST",
        "lb_policy": "CLUSTER_PROVIDED", "connect_timeout": "2s", "upstream_bind_config": {
            "source_address": {"address": "0.0.0.0", "port_value": 0,  # noqa: S104  any of its own
                               "network_namespace_filepath": site.namespace(member)},
            "socket_options": [{"level": _SOL_SOCKET, "name": _SO_MARK, "int_value": MARK, "state": "STATE_PREBIND"}]},
        **more,
    }


# --- inward


def inward(member: Member, site: Site) -> Json:
    """The listener that every call from elsewhere arrives at."""
    chains = []
    for port in member.http:
        chains.append(_chain(member, port, f"http-{port}", _anyone(site), _manager(member, port, site), site))
    for port in member.tcp:
        peers = _peers(member, port, site)
        if peers:  # whom it lets in is in the chain's name: another chain closes what came by this one
            chains.append(_chain(member, port, f"tcp-{port}-{digest(peers)}", peers, _stream(member, site), site))
    if not chains:  # whoever comes is refused, and that is told
        chains.append(_chain(member, 1, "nobody", [{"exact": "nobody"}], _stream(member, site), site))
    return member_listener(f"in-{member.short}", "0.0.0.0", IN_PORT, chains, member, site)  # noqa: S104  of its namespace


def published(member: Member, site: Site) -> list[Json]:
    """The listener for what was published: who comes from outside needs no identity, and is in the audit log."""
    if not member.published:
        return []
    says = {**STREAM_AUDIT, "caller": "published", "callee": trust.uri(site.domain, member.service),
            "level": member.level}
    chains = [{"name": f"published-{port}", "filter_chain_match": {"destination_port": port},
               "filters": [stream(f"in-{member.short}", [audit_log(site.audit, says)])]} for port in member.published]
    name = f"published-{member.short}"
    return [member_listener(name, "0.0.0.0", PUBLISHED_PORT, chains, member, site)]  # noqa: S104  of its namespace


def _chain(member: Member, port: int, name: str, peers: list[Json], last: Json, site: Site) -> Json:
    return {"name": name, "filter_chain_match": {"destination_port": port, "transport_protocol": "tls"},
            "transport_socket": _downstream(member, peers, site), "filters": [last],
            "transport_socket_connect_timeout": "5s"}


def member_listener(
    name: str, address: str, port: int, chains: list[Json], member: Member, site: Site,
) -> Json:
    """A listener in a member's namespace. Who is refused before a filter sees him is in the audit log."""
    inspectors = [{"name": "dst", "typed_config": typed(
        "envoy.extensions.filters.listener.original_dst.v3.OriginalDst")}]
    if name.startswith("in-"):
        inspectors.append({"name": "tls", "typed_config": typed(
            "envoy.extensions.filters.listener.tls_inspector.v3.TlsInspector")})
    says = {**STREAM_AUDIT, "why": "%RESPONSE_CODE_DETAILS%", "tls": "%DOWNSTREAM_TRANSPORT_FAILURE_REASON%",
            "level": member.level}
    says["callee" if name.startswith("in-") else "caller"] = trust.uri(site.domain, member.service)
    return {
        **typed("envoy.config.listener.v3.Listener"), "name": name, "filter_chains": chains,
        "address": {"socket_address": {"address": address, "port_value": port,
                                       "network_namespace_filepath": site.namespace(member)}},
        "listener_filters": inspectors, "listener_filters_timeout": "5s", "stat_prefix": STATS,
        "per_connection_buffer_limit_bytes": 1 << 18, "access_log": [audit_log(site.audit, says, refused=True)],
    }


def _peers(member: Member, port: int, site: Site) -> list[Json]:
    """The names that rules and registrations let in on a port, as matchers."""
    found: dict[str, Json] = {}
    for rule in member.callers(port):
        for caller in rule.callers:
            found[caller] = _matcher(caller, site)
    if port in member.edge:
        found[trust.GATEWAY] = {"exact": trust.uri(site.domain, trust.GATEWAY)}
    return [found[name] for name in sorted(found)]


def _matcher(caller: str, site: Site) -> Json:
    if caller.endswith(f"/{trust.ANYONE}"):
        return {"prefix": trust.uri(site.domain, caller).removesuffix(trust.ANYONE)}
    return {"exact": trust.uri(site.domain, caller)}


def _stream(member: Member, site: Site) -> Json:
    says = {**STREAM_AUDIT, "caller": PEER, "callee": trust.uri(site.domain, member.service), "level": member.level}
    return stream(f"in-{member.short}", [audit_log(site.audit, says)])


def _inward(member: Member, site: Site) -> Json:
    options = typed(_HTTP_OPTIONS, use_downstream_protocol_config={"http_protocol_options": {},
                                                                   "http2_protocol_options": {}})
    return _cluster(f"in-{member.short}", site, member, typed_extension_protocol_options={_HTTP_OPTIONS: options})


def _manager(member: Member, port: int, site: Site) -> Json:
    own = trust.uri(site.domain, member.service)
    says = {**AUDIT, "caller": PEER, "callee": own, "level": member.level}
    told = f"corten trust: {PEER} may not %REQ(:METHOD)% %PATH(NQ)% of {own}: no rule allows it\n"
    denied = {"filter": {"status_code_filter": {"comparison": {"op": "EQ", "value": {
        "default_value": 403, "runtime_key": "none"}}}}, "body_format_override": {
            "text_format_source": {"inline_string": told}}}
    rules = {"name": "corten.rbac", "typed_config": http_filter("rbac.v3.RBAC")}
    return manager(table_name(member, port), site, says, [rules], forward_client_cert_details="SANITIZE_SET",
                   set_current_client_cert_details={"uri": True}, local_reply_config={"mappers": [denied]})


def manager(table: str, site: Site, says: dict[str, str], filters: Sequence[Json] = (), **more: object) -> Json:
    """As strict as the edge's where parsers differ. Nothing is cut for taking long: that is the services' business."""
    return {"name": "http", "typed_config": typed(
        "envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager", stat_prefix=STATS,
        rds={"route_config_name": table, "config_source": file_source(f"{site.folder}/rds.{table}.json")},
        http_filters=[*filters, {"name": "envoy.filters.http.router", "typed_config": http_filter("router.v3.Router")}],
        use_remote_address=False, server_header_transformation="PASS_THROUGH",
        normalize_path=True, merge_slashes=True, path_with_escaped_slashes_action="REJECT_REQUEST",
        common_http_protocol_options={"headers_with_underscores_action": "REJECT_REQUEST", "idle_timeout": "600s"},
        request_headers_timeout="10s", stream_idle_timeout="0s", upgrade_configs=[{"upgrade_type": "websocket"}],
        access_log=[audit_log(site.audit, says)], **more)}


def _table(member: Member, port: int, site: Site) -> Json:
    """One route: the rules decide, request by request."""
    policies = {}
    for number, rule in enumerate(member.callers(port)):
        policies[f"{number} {rule.owner}"] = {"permissions": [what(rule)], "principals": [
            {"authenticated": {"principal_name": _matcher(caller, site)}} for caller in rule.callers]}
    if port in member.edge:
        policies["gateway"] = {"permissions": [{"any": True}], "principals": [
            {"authenticated": {"principal_name": {"exact": trust.uri(site.domain, trust.GATEWAY)}}}]}
    rbac = http_filter("rbac.v3.RBACPerRoute", rbac={"rules": {"action": "ALLOW", "policies": policies}})
    caller = {"header": {"key": CALLER_HEADER, "value": PEER}, "append_action": "OVERWRITE_IF_EXISTS_OR_ADD"}
    return typed("envoy.config.route.v3.RouteConfiguration", name=table_name(member, port), virtual_hosts=[{
        "name": MESH, "domains": ["*"], "typed_per_filter_config": {"corten.rbac": rbac},
        "request_headers_to_add": [caller], "request_headers_to_remove": [TO_HEADER],
        "routes": [{"name": MESH, "match": {"prefix": "/"},
                    "route": {"cluster": f"in-{member.short}", "timeout": "0s", "retry_policy": RETRIES}}]}])


def what(rule: trust.Rule) -> Json:
    """Methods and paths as Envoy's permission."""
    both: list[Json] = []
    if rule.methods:
        both.append({"or_rules": {"rules": [{"header": {"name": ":method", "string_match": {"exact": one}}}
                                            for one in rule.methods]}})
    if rule.paths:
        both.append({"or_rules": {"rules": [{"url_path": {"path": path_match(one)}} for one in rule.paths]}})
    return {"and_rules": {"rules": both}} if both else {"any": True}
