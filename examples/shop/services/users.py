"""Users and accounts, sessions: who somebody is, and a token that the gateway believes."""

import base64
import hashlib
import hmac
import json
import os
import time

from service import Problem, route

KEY = os.environ.get("TOKEN_KEY", "an-example-key-of-thirty-two-bytes")  # the gateway's policy has the same
USERS = {
    "ann": {"name": "Ann", "mail": "ann@shop.example", "role": "customer", "password": "tea"},
    "bob": {"name": "Bob", "mail": "bob@shop.example", "role": "customer", "password": "coffee"},
    "clara": {"name": "Clara", "mail": "clara@shop.example", "role": "clerk", "password": "till"},
}


def b64(data):
    """base64 as tokens have it."""
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def token(user):
    """A signed token, RFC 7519, good for an hour."""
    parts = {"alg": "HS256", "typ": "JWT", "kid": "shop"}, {
        "iss": "https://shop.example", "sub": user, "role": USERS[user]["role"], "exp": int(time.time()) + 3600}
    text = ".".join(b64(json.dumps(part).encode()) for part in parts)
    return f"{text}.{b64(hmac.new(KEY.encode(), text.encode(), hashlib.sha256).digest())}"


@route("POST", "/sessions")
def log_in(asked):
    """A token for a name and a password."""
    user = asked.body["user"]
    if user not in USERS or not hmac.compare_digest(USERS[user]["password"], asked.body["password"]):
        raise Problem(401, "unknown user or wrong password")
    return 201, {"token": token(user)}


@route("GET", "/users/([a-z]+)")
def show(asked):
    """Oneself: `me`; others are shown to clerks, and to services that ask for the user they serve."""
    user = asked.user if asked.found[0] == "me" else asked.found[0]
    if user != asked.user and asked.role != "clerk":
        raise Problem(403, "that is somebody else")
    if user not in USERS:
        raise Problem(404, f"there is no user {user}")
    return 200, {"user": user, **{key: value for key, value in USERS[user].items() if key != "password"}}
