"""Envoy's resources for calls between two containers of half trust: one hop, nothing on the bridge. Pure.

The caller is known by its network namespace, since the listener is in it; the socket to the callee is made in the
callee's. Only what a rule lets through goes this way. Everything else takes the way of zero trust and is judged there.
"""

from ipaddress import IPv4Address

from corten.gateway import trust
from corten.gateway.members import Member
from corten.gateway.xds_auth import path_match
from corten.gateway.xds_listener import AUDIT, audit_log
from corten.gateway.xds_mesh import (
    CALLER_HEADER,
    MESH,
    RETRIES,
    STREAM_AUDIT,
    TO_HEADER,
    Site,
    manager,
    member_listener,
    near,
    outward_stream,
    stream,
)
from corten.gateway.xds_shapes import Json, typed
from corten.network.fence import HOP_PORT, OUT_PORT


class Hop:
    """A port of `callee`, at the address by which `caller` reaches it, and the rules that let it."""

    __slots__ = ("address", "callee", "http", "port", "rules")

    def __init__(self, callee: Member, address: IPv4Address, port: int, rules: list[trust.Rule]) -> None:
        self.callee, self.address, self.port, self.rules = callee, address, port, rules
        self.http = port in callee.http


def hops(caller: Member, members: list[Member]) -> list[Hop]:
    """All that a container of half trust may reach by one hop."""
    if caller.level != "half" or caller.revoked:
        return []
    homes = {place.name for place in caller.places if place.open}
    found = []
    for callee in members:
        if callee is caller or callee.level != "half" or callee.revoked:
            continue
        for port in (*callee.http, *callee.tcp):
            rules = [rule for rule in callee.callers(port) if rule.lets(caller.service)]
            if rules:
                found += [Hop(callee, place.address, port, rules) for place in callee.places if place.name in homes]
    return found


def table_name(caller: Member) -> str:
    """Of what a caller may ask of others."""
    return f"{MESH}-{caller.short}-hops"


def listener(caller: Member, site: Site) -> Json:
    """Where its requests arrive that go by one hop."""
    own = trust.uri(site.domain, caller.service)
    says = {**AUDIT, "caller": own, "callee": "%ROUTE_NAME%", "level": "half"}
    to = {"append": {"header": {"key": TO_HEADER, "value": "%DOWNSTREAM_LOCAL_ADDRESS%"},
                     "append_action": "OVERWRITE_IF_EXISTS_OR_ADD"}}
    early = {"name": "to", "typed_config": typed(
        "envoy.extensions.http.early_header_mutation.header_mutation.v3.HeaderMutation", mutations=[to])}
    chain = {"name": "hops", "filter_chain_match": {"prefix_ranges": near(caller)}, "filters": [manager(
        table_name(caller), site, says, early_header_mutation_extensions=[early],
        forward_client_cert_details="SANITIZE")]}
    return member_listener(f"hop-{caller.short}", "127.0.0.1", HOP_PORT, [chain], caller, site)


def table(caller: Member, found: list[Hop], site: Site) -> Json:
    """For each callee its rules as routes, the last answers 403."""
    own = trust.uri(site.domain, caller.service)
    routes = []
    for hop in found:
        if not hop.http:
            continue
        name = trust.uri(site.domain, hop.callee.service)
        to = {"name": TO_HEADER, "string_match": {"exact": f"{hop.address}:{hop.port}"}}
        for rule in hop.rules:
            methods = [{"name": ":method", "string_match": {"safe_regex": {"regex": "|".join(rule.methods)}}}]
            for path in rule.paths or ["/*"]:
                routes.append({"name": name, "match": {
                    **_path(path), "headers": [to, *(methods if rule.methods else [])]},
                    "route": {"cluster": f"in-{hop.callee.short}", "timeout": "0s", "retry_policy": RETRIES}})
        told = f"corten trust: {own} may not do this of {name}: no rule allows it\n"
        routes.append({"name": name, "match": {"prefix": "/", "headers": [to]},
                       "direct_response": {"status": 403, "body": {"inline_string": told}}})
    header = {"header": {"key": CALLER_HEADER, "value": own}, "append_action": "OVERWRITE_IF_EXISTS_OR_ADD"}
    return typed("envoy.config.route.v3.RouteConfiguration", name=table_name(caller), virtual_hosts=[{
        "name": MESH, "domains": ["*"], "request_headers_to_add": [header],
        "request_headers_to_remove": [TO_HEADER], "routes": routes}])


def _path(text: str) -> Json:
    match = path_match(text)
    return {"path": match["exact"]} if "exact" in match else match


def chains(caller: Member, found: list[Hop], site: Site) -> list[Json]:
    """Of its outward listener: streams to who lets it in go by one hop, whatever else uses their ports does not.

    Envoy looks at the port first and never comes back: each such port has to have its own way out.
    """
    streams = [hop for hop in found if not hop.http]
    made: list[Json] = []
    for port in sorted({hop.port for hop in streams}):
        made.append({"name": f"out-{port}", "filters": outward_stream(caller, site),
                     "filter_chain_match": {"prefix_ranges": near(caller), "destination_port": port}})
    for hop in streams:
        says = {**STREAM_AUDIT, "caller": trust.uri(site.domain, caller.service),
                "callee": trust.uri(site.domain, hop.callee.service), "level": "half"}
        made.append({
            "name": f"hop-{hop.callee.short}-{hop.address}-{hop.port}",
            "filter_chain_match": {"destination_port": hop.port, "prefix_ranges": [
                {"address_prefix": str(hop.address), "prefix_len": 32}]},
            "filters": [stream(f"in-{hop.callee.short}", [audit_log(site.audit, says)])]})
    return made


def outward(caller: Member, found: list[Hop], site: Site) -> Json:
    """The outward listener of a member: hops, and the way of zero trust."""
    chain = {"name": "out", "filter_chain_match": {"prefix_ranges": near(caller)},
             "filters": outward_stream(caller, site)}
    return member_listener(f"out-{caller.short}", "127.0.0.1", OUT_PORT, [chain, *chains(caller, found, site)],
                           caller, site)
