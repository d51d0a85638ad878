"""From a Policy to what Envoy does with a route: configurations per filter, and members of the route action. Pure.

The filters themselves are in the listener for good, switched off (xds_listener.py); a route switches on what it needs.
So a changed policy is a changed route table: it holds for open connections too, and no connection is closed.
"""

from collections.abc import Callable
from hashlib import sha256

from corten.base import jsonio
from corten.base.errors import InvalidArgument
from corten.base.units import parse_bytes
from corten.gateway import xds_auth
from corten.gateway.fields import Circuit, Cors, ErrorPage, HeaderChange, Outlier, PolicyBody, Rate, Retry, Rewrite
from corten.gateway.model import Redirect, Route
from corten.gateway.xds_shapes import CLIENT_HEADER, Json, header_option, http_filter, seconds, typed

DEFAULT_TIMEOUT = "60s"
_ALL = {"default_value": {"numerator": 100, "denominator": "HUNDRED"}}
_ENDLESS = {"max_tokens": 4_000_000_000, "tokens_per_fill": 4_000_000_000, "fill_interval": "1s"}
_UNITS = {"s": 1, "m": 60, "h": 3600}
COMPRESSORS = ("gzip", "br", "zstd")
_RETRY_ON = frozenset((
    "5xx", "gateway-error", "reset", "reset-before-request", "connect-failure", "retriable-4xx", "refused-stream",
    "retriable-status-codes", "retriable-headers", "http3-post-connect-failure", "envoy-ratelimited", "cancelled",
    "deadline-exceeded", "internal", "resource-exhausted", "unavailable",
))


def filters(policy: PolicyBody, owner: str, folder: str, keeps_reasons: Callable[[], bool]) -> Json:
    """The `typed_per_filter_config` of a route; `folder`: where secrets are read from. Raises InvalidArgument."""
    found: Json = xds_auth.filters(policy, owner, folder)
    limits = _limits(policy, owner)
    if "route" in limits or "client" in limits:
        found["corten.rate"] = _rate(limits.get("route"), limits.get("client"), {"remote_address": {}}, "client")
    if "key" in limits:
        action = {"request_headers": {"header_name": CLIENT_HEADER, "descriptor_key": "client"}}
        found["corten.rate_key"] = _rate(None, limits["key"], action, "key")
    if policy.cors:
        found["corten.cors"] = _cors(policy.cors, owner)
    if policy.max_body is not None:
        size = parse_bytes(policy.max_body)
        if not 0 < size < 1 << 32:
            raise InvalidArgument(f"{owner}: maxBody {policy.max_body}: must be above 0 and below 4 GiB")
        found["corten.buffer"] = http_filter("buffer.v3.BufferPerRoute", buffer={"max_request_bytes": size})
    for name in policy.compress or []:
        if name not in COMPRESSORS:
            raise InvalidArgument(f"{owner}: compress {name!r}: must be one of {', '.join(COMPRESSORS)}")
        found[f"corten.{name}"] = http_filter(
            "compressor.v3.CompressorPerRoute", overrides={"response_direction_config": {}})
    if policy.errors:
        found["corten.errors"] = _errors(policy.errors, keeps_reasons())
    return found


# --- members of the route and its action


def action(policy: PolicyBody, owner: str) -> Json:
    """Timeouts and retries of a route action. Raises InvalidArgument."""
    found: Json = {
        "timeout": seconds(policy.timeout if policy.timeout is not None else DEFAULT_TIMEOUT, f"{owner}: timeout"),
        "retry_policy": _retry(policy.retry or Retry(), owner),
    }
    if policy.idle is not None:
        found["idle_timeout"] = seconds(policy.idle, f"{owner}: idle")
    return found


def _retry(retry: Retry, owner: str) -> Json:
    unknown = set(retry.on) - _RETRY_ON
    if unknown:
        known = ", ".join(sorted(_RETRY_ON))
        raise InvalidArgument(f"{owner}: retry.on {min(unknown)!r} is not known; known are {known}")
    found: Json = {
        "retry_on": ",".join(retry.on), "num_retries": retry.attempts,
        "retry_host_predicate": [{"name": "envoy.retry_host_predicates.previous_hosts", "typed_config": typed(
            "envoy.extensions.retry.host.previous_hosts.v3.PreviousHostsPredicate")}],
        "host_selection_retry_max_attempts": "3",
    }
    if retry.per_try:
        found["per_try_timeout"] = seconds(retry.per_try, f"{owner}: retry.perTry")
    return found


def headers(policy: PolicyBody) -> Json:
    """Changes to headers, as members of a route. What only the gateway may say is taken away from requests before."""
    found: Json = {}
    if not policy.headers:
        return found
    for change, name in ((policy.headers.request, "request"), (policy.headers.response, "response")):
        options = _options(change)
        if options:
            found[f"{name}_headers_to_add"] = options
        if change.remove:
            found[f"{name}_headers_to_remove"] = list(change.remove)
    return found


def _options(change: HeaderChange) -> list[Json]:
    return [*(header_option(k, v) for k, v in change.set.items()),
            *(header_option(k, v, replace=False) for k, v in change.add.items())]


def check_redirect(redirect: Redirect, codes: dict[int, str], owner: str) -> None:
    """Raises InvalidArgument."""
    if redirect.code not in codes:
        raise InvalidArgument(f"{owner}: redirect.code {redirect.code}: must be one of {', '.join(map(str, codes))}")
    if redirect.path and redirect.prefix:
        raise InvalidArgument(f"{owner}: redirect has one of path and prefix")
    if not (redirect.host or redirect.path or redirect.prefix or redirect.https):
        raise InvalidArgument(f"{owner}: redirect leads nowhere: host, path, prefix or https")


def check_rewrite(rewrite: Rewrite, route: Route, owner: str) -> None:
    """Raises InvalidArgument."""
    if rewrite.path and rewrite.regex:
        raise InvalidArgument(f"{owner}: rewrite has one of path and regex")
    if rewrite.path and not rewrite.path.startswith("/"):
        raise InvalidArgument(f"{owner}: rewrite.path {rewrite.path!r} is no absolute path")
    if rewrite.path and route.regex:
        raise InvalidArgument(f"{owner}: rewrite.path needs a route with path or exact; use rewrite.regex")


# --- members of a cluster


def circuit(circuit: Circuit | None) -> Json:
    """`circuit_breakers` of a cluster; nothing when none is asked for."""
    if circuit is None:
        return {}
    given = {"max_connections": circuit.connections, "max_pending_requests": circuit.pending,
             "max_requests": circuit.requests, "max_retries": circuit.retries}
    return {"circuit_breakers": {"thresholds": [{name: value for name, value in given.items() if value}]}}


def outlier(outlier: Outlier | None, owner: str) -> Json:
    """`outlier_detection` of a cluster."""
    if outlier is None:
        return {}
    return {"outlier_detection": {
        "consecutive_5xx": outlier.errors, "interval": seconds(outlier.interval, f"{owner}: outlier.interval"),
        "base_ejection_time": seconds(outlier.eject, f"{owner}: outlier.eject"),
        "max_ejection_percent": outlier.max_percent, "enforcing_consecutive_5xx": 100, "enforcing_success_rate": 0,
    }}


# --- pieces


def _limits(policy: PolicyBody, owner: str) -> dict[str, Rate]:
    found: dict[str, Rate] = {}
    for rate in policy.rates or []:
        if rate.per in found:
            raise InvalidArgument(f"{owner}: two rates per {rate.per}")
        found[rate.per] = rate
    if "key" in found and policy.api_keys is None:
        raise InvalidArgument(f"{owner}: a rate per key needs apiKeys")
    return found


def bucket(rate: Rate) -> Json:
    """A token bucket: `5/s` is five at once and five more each second."""
    limit, _, unit = rate.limit.partition("/")
    interval = _UNITS[unit] if unit in _UNITS else int(unit[:-1])
    return {"max_tokens": max(int(limit), rate.burst), "tokens_per_fill": int(limit), "fill_interval": f"{interval}s"}


def _rate(whole: Rate | None, each: Rate | None, action: Json, kind: str) -> Json:
    found: Json = {
        "stat_prefix": "corten", "token_bucket": bucket(whole) if whole else _ENDLESS, "filter_enabled": _ALL,
        "filter_enforced": _ALL, "enable_x_ratelimit_headers": "DRAFT_VERSION_03",
        "always_consume_default_token_bucket": whole is not None,
    }
    if each:
        entry = {"key": "client"} if kind == "key" else {"key": "remote_address"}
        found["rate_limits"] = [{"actions": [action]}]
        found["descriptors"] = [{"entries": [entry], "token_bucket": bucket(each)}]
    return http_filter("local_ratelimit.v3.LocalRateLimit", **found)


def _cors(cors: Cors, owner: str) -> Json:
    if cors.credentials and "*" in cors.origins:
        raise InvalidArgument(f"{owner}: cors: credentials for every origin would let any page act for the user; "
                              "name the origins")
    return http_filter(
        "cors.v3.CorsPolicy", allow_origin_string_match=[_origin(origin) for origin in cors.origins],
        allow_methods=",".join(cors.methods), allow_headers=",".join(cors.headers),
        expose_headers=",".join(cors.expose), allow_credentials=cors.credentials,
        max_age=seconds(cors.max_age, f"{owner}: cors.maxAge").rstrip("s").partition(".")[0],
    )


def _origin(text: str) -> Json:
    if text == "*":
        return {"safe_regex": {"regex": ".*"}}
    scheme, found, host = text.partition("://*.")
    if found:
        name = host.replace(".", "\\.")
        return {"safe_regex": {"regex": rf"{scheme}://[A-Za-z0-9-]+(\.[A-Za-z0-9-]+)*\.{name}"}}
    return {"exact": text}


def _errors(pages: dict[str, ErrorPage], keeps_reasons: bool) -> Json:
    """Pages instead of answers; the audit log says why there was one, if this Envoy can."""
    kept: Json = {"preserve_response_code_details": True} if keeps_reasons else {}
    matchers = []
    for status, page in pages.items():
        answer = typed(
            "envoy.extensions.http.custom_response.local_response_policy.v3.LocalResponsePolicy",
            status_code=int(status), body={"inline_string": page.body},
            response_headers_to_add=[header_option("content-type", page.type)], **kept,
        )
        matchers.append({
            "predicate": {"single_predicate": {
                "input": {"name": "status",
                          "typed_config": typed("envoy.type.matcher.v3.HttpResponseStatusCodeMatchInput")},
                "value_match": {"exact": status},
            }},
            "on_match": {"action": {"name": f"page {status}", "typed_config": answer}},
        })
    return http_filter(
        "custom_response.v3.CustomResponse", custom_response_matcher={"matcher_list": {"matchers": matchers}})


def digest(value: object) -> str:
    """A short name for a value: the same as long as the value is."""
    return sha256(jsonio.dumps(value, sort_keys=True).encode()).hexdigest()[:16]
