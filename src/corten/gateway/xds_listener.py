"""Envoy's listeners at the edge, its filters and its first file. Pure.

The listeners stay as they are while routes and policies come and go: every filter is there, switched off, and a route
switches on what it needs. Tokens' filter is found by ECDS, since its issuers cannot be told per route.
"""

from functools import cache
from importlib.resources import files

from corten.gateway.xds_policy import COMPRESSORS
from corten.gateway.xds_shapes import HTTP_FILTER, TYPE, Json, Target, file_source, http_filter, typed

_COMPRESSOR_TYPES = {"gzip": "gzip.compressor.v3.Gzip", "br": "brotli.compressor.v3.Brotli",
                     "zstd": "zstd.compressor.v3.Zstd"}
JWT_TYPE = f"{HTTP_FILTER}jwt_authn.v3.JwtAuthentication"
MAX_CONNECTIONS = 50_000
# Envoy walks through all counters to show one, and has two dozen for the files of each member of the mesh
UNCOUNTED: list[Json] = [
    {"prefix": "sds."}, {"prefix": "listener.mesh.ssl.certificate."}, {"prefix": "cluster.mesh.ssl.certificate."},
    {"safe_regex": {"regex": r"http\.mesh\.rds\.[^.]*\.(config_.*|init_.*|version.*|update_(a|d|e|f|t).*)"}},
]

# what an audit line says; docs/gateway.md has the table
AUDIT: dict[str, str] = {
    "time": "%START_TIME%", "client": "%DOWNSTREAM_DIRECT_REMOTE_ADDRESS_WITHOUT_PORT%", "method": "%REQ(:METHOD)%",
    "host": "%REQ(:AUTHORITY)%", "path": "%PATH(NQ)%", "protocol": "%PROTOCOL%", "status": "%RESPONSE_CODE%",
    "why": "%RESPONSE_CODE_DETAILS%", "flags": "%RESPONSE_FLAGS%", "route": "%ROUTE_NAME%",
    "backend": "%UPSTREAM_HOST%", "subject": "%DYNAMIC_METADATA(envoy.filters.http.jwt_authn:payload:sub)%",
    "key": "%REQ(X-CORTEN-CLIENT)%", "certificate": "%DOWNSTREAM_PEER_SUBJECT%", "ms": "%DURATION%",
    "received": "%BYTES_RECEIVED%", "sent": "%BYTES_SENT%", "id": "%REQ(X-REQUEST-ID)%",
    "trace": "%REQ(TRACEPARENT)%",
}


def bootstrap(folder: str) -> Json:
    """What Envoy is started with; everything else comes from files in `folder`."""
    return {
        "node": {"id": "corten", "cluster": "corten"},
        "admin": {"address": {"pipe": {"path": f"{folder}/admin.sock", "mode": 0o600}}},
        "dynamic_resources": {"lds_config": file_source(f"{folder}/lds.json"),
                              "cds_config": file_source(f"{folder}/cds.json")},
        "stats_config": {"stats_matcher": {"exclusion_list": {"patterns": UNCOUNTED}}},
        "overload_manager": {"resource_monitors": [{
            "name": "envoy.resource_monitors.global_downstream_max_connections", "typed_config": typed(
                "envoy.extensions.resource_monitors.downstream_connections.v3.DownstreamConnectionsConfig",
                max_active_downstream_connections=MAX_CONNECTIONS)}]},
    }


@cache
def translation() -> str:
    """The script that puts an old API's names right."""
    return (files("corten.gateway") / "version.lua").read_text(encoding="utf-8")


def _off(name: str, config: Json) -> Json:
    return {"name": f"corten.{name}", "disabled": True, "typed_config": config}


def http_filters(folder: str) -> list[Json]:
    """All filters, in the order a request meets them."""
    compressors = [
        _off(name, http_filter("compressor.v3.Compressor", compressor_library={
            "name": name, "typed_config": typed(f"envoy.extensions.compression.{_COMPRESSOR_TYPES[name]}")}))
        for name in COMPRESSORS
    ]
    unlimited = {"max_tokens": 1_000_000, "tokens_per_fill": 1_000_000, "fill_interval": "1s"}
    rate = http_filter("local_ratelimit.v3.LocalRateLimit", stat_prefix="corten", token_bucket=unlimited)
    nobody = {"uri": "http://none.invalid", "cluster": "none", "timeout": "1s"}
    return [
        _off("clean", http_filter("header_mutation.v3.HeaderMutation")),
        _off("cors", http_filter("cors.v3.Cors")),
        *compressors,
        _off("errors", http_filter("custom_response.v3.CustomResponse")),
        _off("rate", rate),
        _off("login", http_filter("oauth2.v3.OAuth2")),
        {"name": "corten.jwt", "config_discovery": {
            "config_source": file_source(f"{folder}/ecds.json"), "type_urls": [TYPE + JWT_TYPE]}},
        _off("key", http_filter("api_key_auth.v3.ApiKeyAuth")),
        _off("rate_key", rate),
        _off("authz", http_filter("ext_authz.v3.ExtAuthz", http_service={"server_uri": nobody}, allowed_headers={
            "patterns": [{"safe_regex": {"regex": ".*"}}]}, transport_api_version="V3")),
        _off("rbac", http_filter("rbac.v3.RBAC")),
        _off("version", http_filter("lua.v3.Lua", clear_route_cache=False, source_codes={
            "version": {"inline_string": translation()}})),
        _off("buffer", http_filter("buffer.v3.Buffer", max_request_bytes=1)),
        {"name": "envoy.filters.http.router", "typed_config": http_filter("router.v3.Router")},
    ]


def tracing(collector: Target | None) -> Json:
    """Spans of all requests to an OTLP collector, and the trace context to backends; nothing when there is none."""
    if collector is None:
        return {}
    service = {"http_uri": {"uri": collector.url, "cluster": collector.name, "timeout": "5s"}}
    return {"tracing": {"random_sampling": {"value": 100}, "spawn_upstream_span": True, "provider": {
        "name": "otlp", "typed_config": typed("envoy.config.trace.v3.OpenTelemetryConfig", http_service=service,
                                              service_name="corten-gateway")}}}


def manager(
    folder: str, table: str, audit: str, forward: Json | None = None, collector: Target | None = None,
) -> Json:
    """An HTTP connection manager: strict where parsers differ, so that a backend judges a request as Envoy did."""
    config = typed(
        "envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager", stat_prefix=table,
        rds={"route_config_name": table, "config_source": file_source(f"{folder}/rds.{table}.json")},
        http_filters=http_filters(folder), use_remote_address=True, server_name="corten",
        normalize_path=True, merge_slashes=True, path_with_escaped_slashes_action="REJECT_REQUEST",
        common_http_protocol_options={"headers_with_underscores_action": "REJECT_REQUEST", "idle_timeout": "600s"},
        request_headers_timeout="10s", upgrade_configs=[{"upgrade_type": "websocket"}],
        access_log=[audit_log(audit, AUDIT)],
        **(forward or {"forward_client_cert_details": "SANITIZE"}), **tracing(collector),
    )
    return {"name": "http", "typed_config": config}


def audit_log(path: str, says: dict[str, str], *, failed: bool = False, refused: bool = False) -> Json:
    """Lines in the audit log: of all, of what `failed`, or of connections that were `refused` unserved."""
    found: Json = {"name": "audit", "typed_config": typed(
        "envoy.extensions.access_loggers.file.v3.FileAccessLog", path=path, log_format={"json_format": says})}
    if failed:
        found["filter"] = {"response_flag_filter": {}}
    if refused:
        tls = typed("envoy.extensions.access_loggers.filters.cel.v3.ExpressionFilter",
                    expression="has(connection.transport_failure_reason)")
        found["filter"] = {"or_filter": {"filters": [
            {"response_flag_filter": {"flags": ["NR"]}},
            {"extension_filter": {"name": "envoy.access_loggers.extension_filters.cel", "typed_config": tls}}]}}
    return found


def listener(name: str, address: tuple[str, int], chains: list[Json], inspect: bool) -> Json:
    """A listener on an address of the host."""
    found = typed(
        "envoy.config.listener.v3.Listener", name=name, filter_chains=chains,
        address={"socket_address": {"address": address[0], "port_value": address[1], "ipv4_compat": ":" in address[0]}},
        per_connection_buffer_limit_bytes=1 << 20, ignore_global_conn_limit=False,
    )
    if inspect:
        found["listener_filters"] = [{"name": "tls_inspector", "typed_config": typed(
            "envoy.extensions.filters.listener.tls_inspector.v3.TlsInspector")}]
    return found
