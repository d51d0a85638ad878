"""The registry protocol's words: challenges, errors, ranges, platforms, and who may see credentials."""

import base64
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from corten.base.errors import InvalidArgument, NotFound
from corten.image.progress import bar, drawn
from corten.oci.distribution_spec import parse_challenges, parse_content_range, parse_errors, parse_upload_range
from corten.oci.image_spec import DOCKER_MANIFEST, Descriptor
from corten.oci.platform import Platform, parse_platform, select
from corten.registry.auth import Authenticator, Credentials, Tokens, parse_header
from corten.registry.errors import Unreachable, from_answer
from corten.registry.settings import Settings
from corten.registry.transport import Transport, origin_of


def read(header):
    return [(found.scheme, found.parameters) for found in parse_challenges(header)]


def test_challenges_as_registries_send_them():
    assert read('Bearer realm="https://auth.docker.io/token",service="registry.docker.io",scope="repository:a:pull"') == [
        ("bearer", {"realm": "https://auth.docker.io/token", "service": "registry.docker.io", "scope": "repository:a:pull"})
    ]
    assert read('Basic realm="basic-realm"') == [("basic", {"realm": "basic-realm"})]
    assert read('BEARER Realm = "a\\"b" , service=x, Basic realm=y') == [
        ("bearer", {"realm": 'a"b', "service": "x"}), ("basic", {"realm": "y"})
    ]
    assert read("Negotiate, Basic realm=y") == [("negotiate", {}), ("basic", {"realm": "y"})]
    assert read("Negotiate abc==, Basic realm=y") == [("negotiate", {}), ("basic", {"realm": "y"})]
    assert read("") == read('"') == read("=") == []


def test_a_second_parameter_of_a_name_does_not_override_the_first():
    assert read('Bearer realm="https://a/",realm="https://evil/"') == [("bearer", {"realm": "https://a/"})]


@given(st.text(max_size=200))
def test_challenges_never_fail(text):
    for challenge in parse_challenges(text):
        assert challenge.scheme == challenge.scheme.lower()


token = st.from_regex(r"[A-Za-z0-9!#$%&'*+.^_`|~-]{1,10}", fullmatch=True)


@given(token, st.dictionaries(token.map(str.lower), st.text(st.characters(codec="latin-1", exclude_categories=["Cc"])), min_size=1))
def test_challenges_read_back(scheme, parameters):
    quoted = ", ".join(
        '{}="{}"'.format(name, value.replace("\\", "\\\\").replace('"', '\\"')) for name, value in parameters.items()
    )
    assert read(f"{scheme} {quoted}") == [(scheme.lower(), parameters)]


@given(st.binary(max_size=200))
def test_error_bodies_never_fail(body):
    assert isinstance(parse_errors(body), list)


def test_error_texts():
    body = json.dumps({"errors": [{"code": "MANIFEST_UNKNOWN", "message": "manifest unknown", "detail": {}}]}).encode()
    error = from_answer(404, "", body)
    assert isinstance(error, NotFound)
    assert str(error) == "manifest unknown: manifest unknown"
    denied = from_answer(401, 'Bearer realm="x",error="insufficient_scope"', b"")
    assert (denied.code, str(denied)) == ("DENIED", "denied: requested access to the resource is denied")
    assert str(from_answer(502, "", b"<html>")) == "received unexpected HTTP status: 502 Bad Gateway"


def test_ranges():
    assert parse_content_range("bytes 5-9/10") == (5, 9, 10)
    assert parse_content_range("bytes 5-9/*") == (5, 9, -1)
    assert parse_content_range("bytes ٥-9/10") is None
    assert (parse_upload_range("0-99"), parse_upload_range("0-0"), parse_upload_range("5-9")) == (100, 0, 0)


@pytest.mark.parametrize(("text", "normal"), [
    ("linux/amd64", "linux/amd64"), ("x86_64", "linux/amd64"), ("linux/arm64/v8", "linux/arm64"),
    ("linux/armhf", "linux/arm/v7"), ("linux/arm/6", "linux/arm/v6"), ("windows/amd64", "windows/amd64"),
])
def test_platforms(text, normal):
    assert str(parse_platform(text)) == normal


def test_a_bad_platform_is_told_in_dockers_words():
    with pytest.raises(InvalidArgument, match='"a/b/c/d": cannot parse platform specifier: invalid argument'):
        parse_platform("a/b/c/d")


def entry(digit, **platform):
    notes = platform.pop("notes", {})
    return Descriptor(DOCKER_MANIFEST, "sha256:" + digit * 64, 1, notes, platform or None)


def test_selection_takes_the_best_variant_and_never_an_attestation():
    entries = [
        entry("0", os="unknown", architecture="unknown", notes={"vnd.docker.reference.type": "attestation-manifest"}),
        entry("1", os="linux", architecture="arm", variant="v5"), entry("2", os="linux", architecture="arm", variant="v7"),
        entry("3", os="linux", architecture="arm64", variant="v8"), entry("4", os="windows", architecture="amd64"),
    ]
    assert select(entries, Platform("linux", "arm", "v7")).digest[7] == "2"
    assert select(entries, Platform("linux", "arm", "v6")).digest[7] == "1"
    assert select(entries, Platform("linux", "aarch64")).digest[7] == "3"
    with pytest.raises(NotFound, match="no matching manifest for linux/amd64 in the manifest list entries"):
        select(entries, Platform("linux", "amd64"))


# --- credentials


def authenticator(origin):
    settings = Settings()
    return Authenticator(Transport(settings), Tokens(), settings, origin, Credentials("u", "p"))


@pytest.mark.parametrize(("origin", "realm", "allowed"), [
    ("https://r.example", "https://r.example/token", True),
    ("https://r.example", "https://R.example/token", True),
    ("https://r.example", "https://r.example:444/token", False),
    ("https://r.example", "http://r.example/token", False),
    ("https://r.example", "https://auth.example/token", False),
    ("https://r.example", "https://r.example@evil.example/token", False),
    ("https://registry-1.docker.io", "https://auth.docker.io/token", True),
    ("https://registry-1.docker.io", "http://auth.docker.io/token", False),
    ("https://registry-1.docker.io", "https://auth.docker.io.evil.example/token", False),
    ("https://evil.example", "https://auth.docker.io/token", False),
    ("http://127.0.0.1:5000", "http://127.0.0.1:5001/token", False),
])
def test_who_may_see_credentials(origin, realm, allowed):
    assert authenticator(origin).may_see_credentials(realm) is allowed


def test_a_redirect_to_another_origin_loses_the_login_and_never_leaves_https():
    transport = Transport(Settings())
    headers = {"Authorization": "Basic x"}
    assert transport._follow("GET", "https://a/v2/x", "/y", headers) == "https://a/y"
    assert headers == {"Authorization": "Basic x"}
    assert transport._follow("GET", "https://a/v2/x", "https://b/y?sig=1%2F2", headers) == "https://b/y?sig=1%2F2"
    assert headers == {}
    with pytest.raises(Unreachable, match="redirect from HTTPS to http://b refused"):
        transport._follow("GET", "https://a/v2/x", "http://b/y", {})
    with pytest.raises(Unreachable, match="bad redirect"):
        transport._follow("GET", "https://a/v2/x", "file:///etc/passwd", {})


@pytest.mark.parametrize(("host", "insecure"), [
    ("localhost:5000", True), ("127.0.0.1", True), ("127.9.9.9:1", True), ("[::1]:5000", True), ("10.0.0.7:80", True),
    ("11.0.0.7:80", False), ("reg.example:5000", True), ("reg.example:5001", False), ("localhost.example", False),
    ("127.0.0.1.example:80", False), ("docker.io", False),
])
def test_only_loopback_and_listed_registries_may_go_without_tls(host, insecure):
    assert Settings(insecure=["10.0.0.0/8", "reg.example:5000"]).is_insecure(host) is insecure


def header(fields):
    return base64.urlsafe_b64encode(json.dumps(fields).encode()).decode()


def test_the_registry_auth_header():
    found = parse_header(header({"username": "u", "password": "pÿ?>", "serveraddress": "x"}))
    assert (found.username, found.password) == ("u", "pÿ?>")
    assert parse_header(header({"identitytoken": "t"}).rstrip("=")).identity_token == "t"
    assert parse_header(header({"auth": base64.b64encode(b"u:p:q").decode()})).password == "p:q"
    assert not parse_header("!!!") and not parse_header("") and not parse_header("bnVsbA==")
    assert "pÿ" not in repr(found)


@given(st.text(max_size=100))
def test_the_header_never_fails(text):
    parse_header(text)


def test_origins():
    assert origin_of("HTTPS://Host:443/x") == "https://host"
    assert origin_of("http://[::1]:5000/x") == "http://[::1]:5000"
    for bad in ("ftp://a/", "https://", "https://a:99999/", "//a"):
        with pytest.raises(InvalidArgument):
            origin_of(bad)


# --- progress


def test_bars_are_drawn_as_docker_draws_them():
    assert drawn(36445, 3001180) == "[>                                                  ]  36.45kB/3.001MB"
    assert drawn(146, 146) == "[" + "=" * 50 + ">]     146B/146B"
    assert drawn(512, 5) == "[" + "=" * 50 + ">]     512B"
    assert bar("Pushing", "ab", 1, 2)["progressDetail"] == {"current": 1, "total": 2}
