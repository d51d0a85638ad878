"""Who is calling, and may they: tokens, keys, logins, authorizers and role rules as Envoy's filters. Pure."""

from hashlib import sha256

import msgspec

from corten.base import jsonio
from corten.base.errors import InvalidArgument
from corten.base.files import parse_json
from corten.gateway.fields import ApiKeys, Authorizer, Caller, Jwt, Login, PolicyBody
from corten.gateway.xds_shapes import CLIENT_HEADER, Json, Target, http_filter, seconds, secret_source

PAYLOAD = "payload"


def filters(policy: PolicyBody, owner: str, folder: str) -> Json:
    """Per-filter configurations of a route. Raises InvalidArgument."""
    found: Json = {"corten.clean": _clean(policy)}
    if policy.jwt:
        _check_jwt(policy.jwt, owner)
        found["corten.jwt"] = http_filter("jwt_authn.v3.PerRouteConfig", requirement_name=jwt_name(policy.jwt))
    if policy.api_keys:
        found["corten.key"] = _api_keys(policy.api_keys, owner)
    if policy.login:
        found["corten.login"] = http_filter("oauth2.v3.OAuth2PerRoute", config=_login(policy.login, owner, folder))
    if policy.authorizer:
        found["corten.authz"] = _authorizer(policy.authorizer, owner)
    if policy.allow is not None:
        found["corten.rbac"] = _rbac(policy, owner)
    return found


def _clean(policy: PolicyBody) -> Json:
    """What only the gateway may say of a request is taken away from it first."""
    names = [CLIENT_HEADER, *(policy.jwt.claims.values() if policy.jwt else ())]
    names += policy.authorizer.pass_ if policy.authorizer else []
    return http_filter("header_mutation.v3.HeaderMutationPerRoute", mutations={
        "request_mutations": [{"remove": name} for name in names]})


# --- tokens


def jwt_name(jwt: Jwt) -> str:
    """The name of a requirement: policies that ask the same share it, and its cache of keys."""
    return "jwt-" + sha256(msgspec.json.encode(jwt)).hexdigest()[:16]


def _check_jwt(jwt: Jwt, owner: str) -> None:
    if sum(map(bool, (jwt.keys, jwt.keys_file, jwt.keys_url))) != 1:
        raise InvalidArgument(f"{owner}: jwt needs one of keys, keysFile and keysUrl")
    if jwt.keys:
        check_keys(jwt.keys, f"{owner}: jwt.keys")


def check_keys(text: str, what: str) -> None:
    """Whether a text is a JWKS. Raises InvalidArgument."""
    value = parse_json(text)
    keys = value.get("keys") if isinstance(value, dict) else None
    if not isinstance(keys, list) or not keys or not all(isinstance(one, dict) and "kty" in one for one in keys):
        raise InvalidArgument(f"{what}: not a JSON Web Key Set: {{\"keys\": [{{\"kty\": …}}]}}")


def providers(tokens: list[Jwt], read_keys: dict[str, str]) -> Json:
    """The one token filter's configuration: every issuer in use. `read_keys`: path -> content of key files."""
    found: Json = {}
    requirements: Json = {}
    for jwt in tokens:
        name = jwt_name(jwt)
        provider: Json = {
            "payload_in_metadata": PAYLOAD, "forward": jwt.forward,
            "claim_to_headers": [{"header_name": h, "claim_name": c} for c, h in jwt.claims.items()],
        }
        if jwt.issuer:
            provider["issuer"] = jwt.issuer
        if jwt.audiences:
            provider["audiences"] = list(jwt.audiences)
        if jwt.query:
            provider["from_params"] = [jwt.query]
        if jwt.cookie:
            provider["from_cookies"] = [jwt.cookie]
        provider["from_headers"] = [{"name": jwt.header, "value_prefix": jwt.prefix}]
        if jwt.keys_url:
            target = Target(jwt.keys_url, "jwt.keysUrl")
            provider["remote_jwks"] = {
                "http_uri": {"uri": jwt.keys_url, "cluster": target.name, "timeout": "5s"},
                "cache_duration": "300s", "async_fetch": {"fast_listener": True},
            }
        else:
            provider["local_jwks"] = {"inline_string": jwt.keys or read_keys.get(jwt.keys_file, '{"keys":[]}')}
        found[name] = provider
        requirement: Json = {"provider_name": name}
        if jwt.optional:
            requirement = {"requires_any": {"requirements": [requirement, {"allow_missing": {}}]}}
        requirements[name] = requirement
    return http_filter("jwt_authn.v3.JwtAuthentication", providers=found, requirement_map=requirements)


# --- keys


def _api_keys(keys: ApiKeys, owner: str) -> Json:
    if len(set(keys.keys.values())) != len(keys.keys):
        raise InvalidArgument(f"{owner}: apiKeys: two names have the same key")
    if not keys.keys:
        raise InvalidArgument(f"{owner}: apiKeys: keys is empty, nobody could call")
    source = {"query": keys.query} if keys.query else {"header": keys.header}
    return http_filter(
        "api_key_auth.v3.ApiKeyAuthPerRoute", key_sources=[source],
        credentials=[{"key": key, "client": name} for name, key in sorted(keys.keys.items())],
        forwarding={"header": CLIENT_HEADER, "hide_credentials": True},
    )


# --- outside services


def outside(policy: PolicyBody, owner: str) -> list[tuple[Target, bool]]:
    """What Envoy itself must reach for a policy, and whether by HTTP/2."""
    found = []
    if policy.jwt and policy.jwt.keys_url:
        found.append((Target(policy.jwt.keys_url, f"{owner}: jwt.keysUrl"), False))
    if policy.authorizer:
        found.append((_authorizer_target(policy.authorizer, owner), bool(policy.authorizer.grpc)))
    if policy.login:
        found.append((Target(policy.login.token, f"{owner}: login.token"), False))
    return found


def _authorizer_target(authorizer: Authorizer, owner: str) -> Target:
    if bool(authorizer.url) == bool(authorizer.grpc):
        raise InvalidArgument(f"{owner}: authorizer has one of url and grpc")
    return Target(authorizer.url or f"http://{authorizer.grpc}", f"{owner}: authorizer")


def _authorizer(authorizer: Authorizer, owner: str) -> Json:
    target = _authorizer_target(authorizer, owner)
    timeout = seconds(authorizer.timeout, f"{owner}: authorizer.timeout")
    if authorizer.grpc:
        service: Json = {"grpc_service": {"envoy_grpc": {"cluster_name": f"{target.name}|h2"}, "timeout": timeout}}
    else:
        handed = [{"exact": name.lower(), "ignore_case": True} for name in authorizer.pass_]
        service = {"http_service": {
            "server_uri": {"uri": target.url, "cluster": target.name, "timeout": timeout},
            "path_prefix": target.path.rstrip("/"),
            **({"authorization_response": {"allowed_upstream_headers": {"patterns": handed}}} if handed else {}),
        }}
    return http_filter("ext_authz.v3.ExtAuthzPerRoute", check_settings=service)


def _login(login: Login, owner: str, folder: str) -> Json:
    target = Target(login.token, f"{owner}: login.token")
    Target(login.authorization, f"{owner}: login.authorization")
    for name, path in (("callback", login.callback), ("signOut", login.sign_out)):
        if not path.startswith("/"):
            raise InvalidArgument(f"{owner}: login.{name}: {path!r} is no absolute path")
    secret = login_name(login)
    return {
        "token_endpoint": {"uri": login.token, "cluster": target.name, "timeout": "5s"},
        "authorization_endpoint": login.authorization,
        "redirect_uri": f"%REQ(x-forwarded-proto)%://%REQ(:authority)%{login.callback}",
        "redirect_path_matcher": {"path": {"exact": login.callback}},
        "signout_path": {"path": {"exact": login.sign_out}},
        "forward_bearer_token": login.forward, "auth_scopes": list(login.scopes), "use_refresh_token": True,
        "credentials": {
            "client_id": login.client_id,
            "token_secret": secret_source(folder, f"{secret}-token"),
            "hmac_secret": secret_source(folder, f"{secret}-cookie"),
        },
    }


def login_name(login: Login) -> str:
    """The name of a login's secrets."""
    return "login-" + sha256(jsonio.dumps([login.client_id, login.client_secret, login.cookie_secret]).encode()
                             ).hexdigest()[:16]


# --- rules


def _rbac(policy: PolicyBody, owner: str) -> Json:
    rules = {}
    for number, caller in enumerate(policy.allow or []):
        if caller.claims and not policy.jwt:
            raise InvalidArgument(f"{owner}: allow: claims are those of a token: jwt is needed beside")
        if caller.keys and not policy.api_keys:
            raise InvalidArgument(f"{owner}: allow: keys are names of API keys: apiKeys is needed beside")
        unknown = set(caller.keys) - set(policy.api_keys.keys if policy.api_keys else ())
        if unknown:
            raise InvalidArgument(f"{owner}: allow: there is no API key named {min(unknown)!r}")
        rules[f"allow {number}"] = {"permissions": [_what(caller)], "principals": [_who(caller)]}
    return http_filter("rbac.v3.RBACPerRoute", rbac={"rules": {"action": "ALLOW", "policies": rules}})


def _any(kind: str, rules: list[Json]) -> Json:
    return rules[0] if len(rules) == 1 else {kind: {"rules" if kind == "or_rules" else "ids": rules}}


def _what(caller: Caller) -> Json:
    both = []
    if caller.methods:
        both.append(_any("or_rules", [{"header": {"name": ":method", "string_match": {"exact": one}}}
                                      for one in caller.methods]))
    if caller.paths:
        both.append(_any("or_rules", [{"url_path": {"path": path_match(one)}} for one in caller.paths]))
    return {"and_rules": {"rules": both}} if both else {"any": True}


def path_match(text: str) -> Json:
    """`/orders/*` is a prefix, anything else the whole path."""
    return {"prefix": text[:-1]} if text.endswith("*") else {"exact": text}


def _who(caller: Caller) -> Json:
    both = []
    for claim, values in caller.claims.items():
        path = [{"key": PAYLOAD}, *({"key": step} for step in claim.split("."))]
        found: list[Json] = []
        for value in values:
            text = {"string_match": {"exact": value}}
            for match in (text, {"list_match": {"one_of": text}}):
                found.append({"sourced_metadata": {"metadata_matcher": {
                    "filter": "envoy.filters.http.jwt_authn", "path": path, "value": match}}})
        both.append(_any("or_ids", found))
    if caller.keys:
        both.append(_any("or_ids", [{"header": {"name": CLIENT_HEADER, "string_match": {"exact": one}}}
                                    for one in caller.keys]))
    if caller.certificates:
        both.append(_any("or_ids", [{"authenticated": {"principal_name": {"exact": one}}}
                                    for one in caller.certificates]))
    return {"and_ids": {"ids": both}} if both else {"any": True}
